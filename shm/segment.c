#include "shm/segment.h"

#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUILDING = 0, READY = 1, SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };
static const uint64_t magic = UINT64_C(0x0a676573626c6369); /* "iclbseg\n" */

struct head {
    uint64_t magic;
    uint32_t version;
    uint32_t unused;
    uint64_t size; /* of the whole mapping */
    _Atomic uint32_t state;
};
_Static_assert(offsetof(struct head, size) == 16 && offsetof(struct head, state) == 24, "as drawn in segment.h");
_Static_assert(sizeof(struct head) <= 64 && LAB_SEGMENT_HEAD == 128, "one line, and the next one empty");

/* Taking more than there is would not fail but end processes (the kernel's OOM killer), so ask first. */
static int enough_memory(const char *name, size_t size)
{
    FILE *file = fopen("/proc/meminfo", "re");
    if (!file)
        return 0;
    char line[128];
    unsigned long long available_kib = 0;
    bool known = false;
    while (!known && fgets(line, sizeof line, file))
        known = sscanf(line, "MemAvailable: %llu kB", &available_kib) == 1;
    fclose(file);
    if (known && size / 1024 >= available_kib)
        return lab_refuse(ENOMEM, "shared memory for '%s' takes %zu MiB and this machine has %llu MiB left", name, size >> 20,
                          available_kib >> 10);
    return 0;
}

static void describe(enum lab_backing backing, void *mapping, size_t mapped, struct lab_segment *ret_segment)
{
    *ret_segment = (struct lab_segment){
        .memory = (unsigned char *)mapping + LAB_SEGMENT_HEAD, .size = mapped - LAB_SEGMENT_HEAD, .mapping = mapping, .fd = -1,
        .backing = backing,
    };
}

static bool sealed(enum lab_backing backing)
{
    return backing == LAB_BACKING_MEMFD || backing == LAB_BACKING_HUGEPAGE;
}

/* ---- making one that has a descriptor ---- */

/* What is missing is said with its mend: each kind has a limit of its own. */
static int cannot_allocate(enum lab_backing backing, int code, const char *name, size_t whole)
{
    if (backing == LAB_BACKING_HUGEPAGE) {
        struct lab_huge_pages pages;
        char mend[LAB_HUGE_PAGES_TEXT];
        lab_huge_pages_read(&pages);
        return lab_refuse(code, "no shared memory for '%s': %s", name,
                          lab_huge_pages_mend(&pages, pages.size ? whole / pages.size : 0, mend));
    }
    static const char *const where[LAB_BACKINGS] = {
        [LAB_BACKING_POSIX] = "; as root: mount -o remount,size=SIZE /dev/shm",
        [LAB_BACKING_FILE] = "; set TMPDIR to a directory with more room",
    };
    return lab_fail(code, "cannot allocate %zu bytes of shared memory (%s) for '%s'%s", whole, lab_backing_name(backing), name,
                    where[backing] ? where[backing] : "");
}

static int allocate_and_map(enum lab_backing backing, int fd, const char *name, size_t whole, void **ret_mapping)
{
    int code = posix_fallocate(fd, 0, (off_t)whole);
    if (code)
        return cannot_allocate(backing, code, name, whole);
    if (sealed(backing) && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        return lab_fail(errno, "cannot seal the shared memory of '%s'", name);
    void *mapping = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (mapping == MAP_FAILED)
        return lab_fail(errno, "cannot map %zu bytes of shared memory for '%s'", whole, name);
    *ret_mapping = mapping;
    return 0;
}

static int create_by_descriptor(enum lab_backing backing, const char *name, size_t whole, struct lab_segment *ret_segment)
{
    int fd;
    void *mapping;
    int err = lab_backing_open(backing, name, &fd);
    if (err)
        return err;
    err = allocate_and_map(backing, fd, name, whole, &mapping);
    if (err) {
        close(fd);
        return err;
    }
    describe(backing, mapping, whole, ret_segment);
    ret_segment->fd = fd;
    return 0;
}

/* ---- making one of System V ---- */

static int get_sysv(const char *name, size_t whole, int *ret_id)
{
    enum { TRIES = 64 };
    for (int i = 0; i < TRIES; i++) {
        uint32_t random;
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            return lab_fail(errno, "no key for the shared memory of '%s'", name);
        *ret_id = shmget((key_t)(LAB_SYSV_KEY | (random & ~LAB_SYSV_KEY_MASK)), whole, IPC_CREAT | IPC_EXCL | 0600);
        if (*ret_id >= 0)
            return 0;
        if (errno != EEXIST)
            break;
    }
    return lab_fail(errno, "no System V segment of %zu bytes for '%s'; the limits are sysctl kernel.shmmax, kernel.shmall (pages) and "
                           "kernel.shmmni (segments)", whole, name);
}

/* Maps each page: for the maker, that takes it. */
static int populate(void *mapping, size_t whole)
{
    return madvise(mapping, whole, MADV_POPULATE_WRITE) < 0
               ? lab_fail(errno, "cannot allocate %zu bytes of shared memory (sysv)", whole)
               : 0;
}

static int create_sysv(const char *name, size_t whole, struct lab_segment *ret_segment)
{
    int id;
    int err = get_sysv(name, whole, &id);
    if (err)
        return err;
    void *mapping = shmat(id, NULL, 0);
    if (mapping == (void *)-1) /* NOLINT(performance-no-int-to-ptr): as shmat(2) has it */
        err = lab_fail(errno, "cannot attach the shared memory of '%s'", name);
    shmctl(id, IPC_RMID, NULL);
    if (err)
        return err;
    err = populate(mapping, whole);
    if (err) {
        shmdt(mapping);
        return err;
    }
    describe(LAB_BACKING_SYSV, mapping, whole, ret_segment);
    ret_segment->id = id;
    return 0;
}

int lab_segment_create_on(enum lab_backing backing, const char *name, size_t size, struct lab_segment *ret_segment)
{
    enum { HUGEST_PAGE = 1 << 30 };
    if (size > PTRDIFF_MAX - LAB_SEGMENT_HEAD - HUGEST_PAGE)
        return lab_refuse(ENOMEM, "shared memory for '%s' takes %zu bytes, more than can be addressed", name, size);
    size_t whole = lab_backing_bytes(backing, size);
    /* Huge pages are set aside already, and a file is on the disk. */
    bool takes_memory = backing != LAB_BACKING_HUGEPAGE && backing != LAB_BACKING_FILE;
    int err = takes_memory ? enough_memory(name, whole) : 0;
    if (!err)
        err = backing == LAB_BACKING_SYSV ? create_sysv(name, whole, ret_segment) : create_by_descriptor(backing, name, whole, ret_segment);
    if (err)
        return err;
    struct head *head = ret_segment->mapping;
    head->version = LAB_SEGMENT_VERSION;
    head->size = whole;
    head->magic = magic;
    return 0;
}

int lab_segment_create(const char *name, size_t size, struct lab_segment *ret_segment)
{
    return lab_segment_create_on(LAB_BACKING_MEMFD, name, size, ret_segment);
}

static _Atomic uint32_t *state_of(const struct lab_segment *segment)
{
    return &((struct head *)segment->mapping)->state;
}

void lab_segment_ready(struct lab_segment *segment)
{
    atomic_store_explicit(state_of(segment), READY, memory_order_release);
}

int lab_segment_take_fd(struct lab_segment *segment)
{
    int fd = segment->fd;
    segment->fd = -1;
    return fd;
}

static int await_ready(const struct lab_segment *segment, uint64_t deadline_ns)
{
    const struct timespec between = lab_timespec(LAB_NS_PER_MS);
    uint32_t state;
    while ((state = atomic_load_explicit(state_of(segment), memory_order_acquire)) == BUILDING) {
        if (lab_now_ns() >= deadline_ns)
            return -EAGAIN;
        nanosleep(&between, NULL);
    }
    return state == READY ? 0 : lab_refuse(EBADMSG, "shared memory in the unknown state %u", state);
}

static int check_head(const struct lab_segment *segment, size_t whole)
{
    const struct head *head = segment->mapping;
    uint64_t found_magic = head->magic, size = head->size;
    uint32_t version = head->version;
    if (found_magic != magic)
        return lab_refuse(EBADMSG, "the shared memory is not a segment of ipclab");
    if (version != LAB_SEGMENT_VERSION)
        return lab_refuse(EBADMSG, "the shared memory is of version %u, this program of version %d", version, LAB_SEGMENT_VERSION);
    if (size != whole)
        return lab_refuse(EBADMSG, "the shared memory says it has %llu bytes and has %zu", (unsigned long long)size, whole);
    return 0;
}

/* ---- attaching ---- */

static int map_descriptor(enum lab_backing backing, int fd, void **ret_mapping, size_t *ret_whole)
{
    struct stat stat;
    if (fstat(fd, &stat) < 0)
        return lab_fail(errno, "cannot look at shared memory (descriptor %d)", fd);
    int seals = sealed(backing) ? fcntl(fd, F_GET_SEALS) : SEALS;
    if (seals < 0 || (seals & SEALS) != SEALS)
        return lab_refuse(EBADMSG, "descriptor %d is not sealed shared memory", fd);
    if (stat.st_size <= LAB_SEGMENT_HEAD)
        return lab_refuse(EBADMSG, "shared memory of %lld bytes is too small to be a segment", (long long)stat.st_size);
    size_t whole = (size_t)stat.st_size;
    void *mapping = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (mapping == MAP_FAILED)
        return lab_fail(errno, "cannot map %zu bytes of shared memory", whole);
    *ret_mapping = mapping;
    *ret_whole = whole;
    return 0;
}

static int map_sysv(int id, void **ret_mapping, size_t *ret_whole)
{
    struct shmid_ds facts;
    if (shmctl(id, IPC_STAT, &facts) < 0)
        return lab_fail(errno, "there is no System V segment %d", id);
    if (facts.shm_segsz <= LAB_SEGMENT_HEAD)
        return lab_refuse(EBADMSG, "shared memory of %zu bytes is too small to be a segment", (size_t)facts.shm_segsz);
    void *mapping = shmat(id, NULL, 0);
    if (mapping == (void *)-1) /* NOLINT(performance-no-int-to-ptr): as shmat(2) has it */
        return lab_fail(errno, "cannot attach the System V segment %d", id);
    int err = populate(mapping, facts.shm_segsz);
    if (err) {
        shmdt(mapping);
        return err;
    }
    *ret_mapping = mapping;
    *ret_whole = facts.shm_segsz;
    return 0;
}

int lab_segment_attach_on(enum lab_backing backing, int handle, uint64_t deadline_ns, struct lab_segment *ret_segment)
{
    void *mapping = NULL;
    size_t whole = 0;
    int err = backing == LAB_BACKING_SYSV ? map_sysv(handle, &mapping, &whole) : map_descriptor(backing, handle, &mapping, &whole);
    if (err)
        return err;
    struct lab_segment segment;
    describe(backing, mapping, whole, &segment);
    err = check_head(&segment, whole);
    if (!err)
        err = await_ready(&segment, deadline_ns);
    if (err) {
        lab_segment_fini(&segment);
        return err;
    }
    *ret_segment = segment;
    return 0;
}

int lab_segment_attach(int fd, uint64_t deadline_ns, struct lab_segment *ret_segment)
{
    return lab_segment_attach_on(LAB_BACKING_MEMFD, fd, deadline_ns, ret_segment);
}

void lab_segment_fini(struct lab_segment *segment)
{
    if (segment->mapping && segment->backing == LAB_BACKING_SYSV)
        shmdt(segment->mapping);
    else if (segment->mapping)
        munmap(segment->mapping, segment->size + LAB_SEGMENT_HEAD);
    if (segment->fd >= 0)
        close(segment->fd);
    *segment = (struct lab_segment){.fd = -1};
}
