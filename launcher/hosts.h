/* The hosts of a run: which there are, how many nodes each may carry, and whether they can be used.
 *
 * A hosts file has one host per line, `NAME` or `NAME:SLOTS` (1 when left out), blanks around it ignored, `#` to the end of the
 * line a comment: what Hydra reads. NAME is a host name or an IPv4 address (Hydra splits at colons and so takes no IPv6 address:
 * give such a host a name). Everything wrong with it is reported as "FILE:LINE:COLUMN: ...". A host is named once.
 *
 *     struct lab_hosts *hosts;
 *     err = lab_hosts_read("hosts.txt", &hosts);
 *     if (!err)
 *         err = lab_hosts_check(hosts, nodes, lab, lab_now_ns() + 10 * LAB_NS_PER_S, NULL);
 *     printf("node 1 runs on %s\n", lab_hosts_of_node(hosts, 1)->name);
 *     lab_hosts_free(hosts);
 *
 * Any thread, no shared state. */
#ifndef LAB_LAUNCHER_HOSTS_H
#define LAB_LAUNCHER_HOSTS_H

#include "launcher/experiment.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAB_HOSTS_MAX = 256, LAB_HOST_NAME_MAX = 253, LAB_HOST_SLOTS_MAX = 1024 };

struct lab_hosts_entry {
    char *name;
    uint32_t slots;
    struct lab_mark mark;
};

struct lab_hosts {
    struct lab_hosts_entry *items;
    size_t count; /* at least one */
    char *file;   /* what the marks name; owned */
};

/* -EINVAL with the place; -ENOMEM. `ret_hosts` is the caller's until lab_hosts_free(). */
int lab_hosts_parse(const char *text, size_t size, const char *file, struct lab_hosts **ret_hosts);

/* The same of a file of at most 1 MiB; -ENOENT and its kind when it cannot be read. */
int lab_hosts_read(const char *path, struct lab_hosts **ret_hosts);

/* The same of the `hosts:` list of an experiment, each value `NAME` or `NAME:SLOTS`, marked where it stands. */
int lab_hosts_of_values(const struct lab_values *values, struct lab_hosts **ret_hosts);

void lab_hosts_free(struct lab_hosts *hosts); /* NULL is harmless */

/* Sum of the slots. More nodes than that wrap around, as Hydra places ranks. */
uint32_t lab_hosts_slots(const struct lab_hosts *hosts);
const struct lab_hosts_entry *lab_hosts_of_node(const struct lab_hosts *hosts, uint32_t node);
/* How many of so many nodes run on the host `items[index]`; 0: it is not needed. */
uint32_t lab_hosts_nodes_on(const struct lab_hosts *hosts, size_t index, uint32_t nodes);

/* What one host answered. */
struct lab_hosts_answer {
    bool usable;
    char version[32];        /* of the node program there, "" unknown */
    uint32_t protocol;
    uint64_t shm_free_bytes;
    char text[512];          /* when not usable: one sentence that names the host and the mend */
};

/* Asks every host that is needed, all at once, over ssh (the one that PATH finds; never a password or a question) or through the virtual
 * hosts' own door, whether `nodes` nodes could run there: name, route, key, program, its version and protocol, room in
 * /dev/shm. Blocks until the last answer or the deadline, whichever is first; leaves no process behind.
 * -EHOSTUNREACH when a host cannot be used: the record says which, why and what mends it. `ret_states`: one of each host, in
 * order, filled in both cases; NULL: not wanted. */
int lab_hosts_check(const struct lab_hosts *hosts, uint32_t nodes, bool lab, uint64_t deadline_ns,
                    struct lab_hosts_answer *ret_states);

#endif
