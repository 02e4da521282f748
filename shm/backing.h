/* What shared memory is made of: an axis of experiments, and no part of the structures that lie in it. What each kind promises stands
 * in shm/segment.h, which makes them. */
#ifndef LAB_SHM_BACKING_H
#define LAB_SHM_BACKING_H

#include <stddef.h>
#include <stdint.h>

enum lab_backing {
    LAB_BACKING_MEMFD,    /* an anonymous file, sealed; the default */
    LAB_BACKING_POSIX,    /* what shm_open makes */
    LAB_BACKING_FILE,     /* a file in $TMPDIR, or in /tmp */
    LAB_BACKING_SYSV,     /* a segment of System V, known by a number */
    LAB_BACKING_HUGEPAGE, /* an anonymous file of huge pages, sealed */
    LAB_BACKINGS
};
const char *lab_backing_name(enum lab_backing backing);                 /* "memfd", ...; NULL beyond the end */
int lab_backing_named(const char *name, enum lab_backing *ret_backing); /* "" is the default; -EINVAL, recorded, nothing written */

/* Whether this machine has that kind at all: 0, or -errno with the mend in the record. How many huge pages there are is another
 * question (below), and how much memory there is only lab_segment_create_on() can tell. */
int lab_backing_usable(enum lab_backing backing);

/* An empty object of any kind but LAB_BACKING_SYSV, which has no descriptor. It never has a name either: a memfd has none, and the
 * others are made by O_TMPFILE and can be given none (O_EXCL), so that nothing is left of them however this process ends. `label` shows
 * in /proc/PID/maps where the kind has room for it. -errno with the mend in the record. */
int lab_backing_open(enum lab_backing backing, const char *label, int *ret_fd);

/* Huge pages of the default size; zeros where the kernel has none. They are the administrator's to reserve, and anyone's to take. */
struct lab_huge_pages {
    size_t size;       /* bytes of one */
    uint64_t reserved; /* that there are */
    uint64_t free;     /* that nobody has taken or been promised */
};
void lab_huge_pages_read(struct lab_huge_pages *ret_pages);

/* The mend where `wanted` are more than are free, "0 huge pages of 2 MiB are free, and 4 are needed; as root: sysctl
 * vm.nr_hugepages=4". Returns `to`. */
enum { LAB_HUGE_PAGES_TEXT = 160 };
char *lab_huge_pages_mend(const struct lab_huge_pages *pages, uint64_t wanted, char to[LAB_HUGE_PAGES_TEXT]);

/* The keys of System V segments, 0x1ab..... with a number drawn at random. A segment has its key for as long as it takes its maker to
 * attach it and mark it for removal, two system calls; one that is found with it, of a process that is no more, was left by SIGKILL. Message queues of System V have such keys too, until they are removed. */
#define LAB_SYSV_KEY UINT32_C(0x1ab00000)
#define LAB_SYSV_KEY_MASK UINT32_C(0xfff00000)

/* Bytes of a segment for `size` bytes of a structure, its head and the page that it ends in included. */
size_t lab_backing_bytes(enum lab_backing backing, size_t size);

#endif
