/* A piece of memory shared by descriptor: a memfd, sealed against shrinking and growing, allocated before it is first touched.
 *
 *     struct lab_segment segment;                                     // one process
 *     err = lab_segment_create("ring", bytes, &segment);
 *     my_structure_init(segment.memory, ...);
 *     lab_segment_ready(&segment);
 *     ... segment.fd is inherited or sent ...
 *     err = lab_segment_attach(fd, deadline_ns, &segment);            // another
 *     ...
 *     lab_segment_fini(&segment);
 *
 * Nothing is named, so nothing is left behind: the kernel frees the memory with the last mapping and descriptor. A peer that
 * dies cannot take the memory away either (no SIGBUS: the size is sealed and every page allocated).
 *
 * Instead of a memfd it may be of another kind (shm/backing.h), to compare them. Each is allocated before it is used, so that what is
 * missing is an error of lab_segment_create_on() and no signal later; what else can be promised differs:
 *
 *     memfd     sealed: nobody can change its size.
 *     posix     Cannot be sealed: a hostile peer can truncate it, and whoever touches it next gets SIGBUS. Limited by the size of /dev/shm.
 *     file      As posix; and the kernel writes what changes to the disk when it sees fit, and makes each page fault again for it
 *               (unless TMPDIR is a tmpfs). Limited by the room on the disk.
 *     sysv      Its size cannot change. It has no descriptor but a number, by which any process of this user may attach it. Marked for
 *               removal by its maker as soon as that has attached it, which Linux allows: it goes with the last who holds it, and *the
 *               maker must hold it until all have attached*. Between its making and that mark, two system calls, a SIGKILL leaves it;
 *               `ipclab clean` knows it by its key. Limited by kernel.shmmax, shmall and shmmni.
 *     hugepage  Sealed as a memfd. Takes whole huge pages, which have to be reserved.
 *
 * The first line of the mapping tells what it is:
 *
 *     0        8          12      16      24       28
 *     | magic  | version  | -     | size  | state  | -
 *
 * and the caller's memory begins 128 bytes in. Functions record their failures (base/error.h). */
#ifndef LAB_SHM_SEGMENT_H
#define LAB_SHM_SEGMENT_H

#include "shm/backing.h"

#include <stddef.h>
#include <stdint.h>

enum { LAB_SEGMENT_VERSION = 1, LAB_SEGMENT_HEAD = 128 };

struct lab_segment {
    void *memory;   /* the caller's, 128-byte aligned, zeroed when created */
    size_t size;    /* of `memory`, at least what was asked for */
    void *mapping;  /* the whole, beginning with the head */
    int fd;         /* create: owned, -1 once given away (lab_segment_take_fd); attach, and sysv: -1 */
    enum lab_backing backing;
    int id;         /* sysv: the number by which others attach it */
};

/* Makes a segment with `size` bytes for the caller, in state "building". `name` shows in /proc/PID/maps and nowhere else.
 * -ENOMEM when the machine has not that much memory to give (looked at before any of it is taken), or -errno. */
int lab_segment_create(const char *name, size_t size, struct lab_segment *ret_segment);
int lab_segment_create_on(enum lab_backing backing, const char *name, size_t size, struct lab_segment *ret_segment);

/* The structure in it is complete: attach may succeed from now on. */
void lab_segment_ready(struct lab_segment *segment);

/* The caller owns the descriptor from here on. */
int lab_segment_take_fd(struct lab_segment *segment);

/* Maps the segment behind `fd`, which stays the caller's (the mapping does not need it). Waits for "ready", sleeping between
 * looks. -EAGAIN at the deadline; -EBADMSG when it is no segment, or not of this version, size or seals; or -errno. `handle` is the
 * descriptor, or the number of a System V segment. */
int lab_segment_attach(int fd, uint64_t deadline_ns, struct lab_segment *ret_segment);
int lab_segment_attach_on(enum lab_backing backing, int handle, uint64_t deadline_ns, struct lab_segment *ret_segment);

/* Unmaps, and closes the descriptor if it is still owned. Harmless on a zeroed struct whose fd is -1, and twice. */
void lab_segment_fini(struct lab_segment *segment);

#endif
