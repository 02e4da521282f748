/* The keys of a user's runs across hosts: who the launcher is, and who its nodes are. Whoever has the secrets can take part.
 *
 * `ipclab keys` makes them, in a file that only its owner may read and that is refused when others may. The launcher hands them to its nodes
 * without its own secret, in memory that has no name: through the door of a host (launcher/door.h) and from parent to child. No secret
 * is on a command line, in an environment or in a log.
 *
 *     ipclab keys 1
 *     launcher PUBLIC SECRET
 *     node PUBLIC SECRET
 *
 * Where a user starts the nodes (mpirun), each host reads a file of its own, which must be the same. */
#ifndef LAB_PROTO_BUS_KEYS_H
#define LAB_PROTO_BUS_KEYS_H

#include "proto/curve/curve.h"

#include <limits.h>
#include <stdbool.h>

struct lab_keys {
    struct lab_curve_pair launcher; /* a node knows its public half only */
    struct lab_curve_pair node;     /* of all nodes of a run */
};

enum { LAB_KEYS_TEXT = 256 /* the file's whole text, or what is handed on, is shorter */ };

/* Where they are: base/home.h. */
int lab_keys_place(char to[PATH_MAX]);

/* -ENOENT: there are none, with the mend; -EPERM: others may read or have made the file, or it is none of keys. */
int lab_keys_read(const char *path, struct lab_keys *ret_keys);

/* New ones, in a file of mode 0600, complete or not at all; its folder is made, for its owner only. -EEXIST: there are some and `renew` is not
 * set. */
int lab_keys_make(const char *path, bool renew, struct lab_keys *ret_keys);

/* Those of this user, made where there were none (`ret_made`). */
int lab_keys_load(struct lab_keys *ret_keys, bool *ret_made);

/* ---- handing on ---- */

/* A descriptor, closed on exec, of sealed memory that holds what a node must know; the caller's to close. */
int lab_keys_pass(const struct lab_keys *keys, int *ret_fd);

/* The same from a text that came another way, at most LAB_KEYS_TEXT bytes of it. -EPERM: it is none of keys. */
int lab_keys_pass_text(const char *text, size_t size, int *ret_fd);

/* What such a descriptor holds. It is read from its beginning, wherever others have read to, and stays open. Returns the length. -EPERM. */
int lab_keys_take_text(int fd, char to[LAB_KEYS_TEXT]);
int lab_keys_take(int fd, struct lab_keys *ret_keys);

void lab_keys_forget(struct lab_keys *keys);

#endif
