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

static void describe(void *mapping, size_t mapped, int fd, struct lab_segment *ret_segment)
{
    *ret_segment = (struct lab_segment){
        .memory = (unsigned char *)mapping + LAB_SEGMENT_HEAD, .size = mapped - LAB_SEGMENT_HEAD, .mapping = mapping, .fd = fd,
    };
}

static int allocate_and_map(int fd, const char *name, size_t whole, struct lab_segment *ret_segment)
{
    int err = posix_fallocate(fd, 0, (off_t)whole);
    if (err)
        return lab_fail(err, "cannot allocate %zu bytes of shared memory for '%s'", whole, name);
    if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        return lab_fail(errno, "cannot seal the shared memory of '%s'", name);
    void *mapping = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (mapping == MAP_FAILED)
        return lab_fail(errno, "cannot map %zu bytes of shared memory for '%s'", whole, name);

    struct head *head = mapping;
    head->version = LAB_SEGMENT_VERSION;
    head->size = whole;
    head->magic = magic;
    describe(mapping, whole, fd, ret_segment);
    return 0;
}

int lab_segment_create(const char *name, size_t size, struct lab_segment *ret_segment)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (size > PTRDIFF_MAX - LAB_SEGMENT_HEAD - page)
        return lab_refuse(ENOMEM, "shared memory for '%s' takes %zu bytes, more than can be addressed", name, size);
    size_t whole = (size + LAB_SEGMENT_HEAD + page - 1) & ~(page - 1);
    int err = enough_memory(name, whole);
    if (err)
        return err;
    char label[64];
    snprintf(label, sizeof label, "ipclab-%s", name);
    int fd = memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return lab_fail(errno, "cannot make a memfd for '%s'", name);
    err = allocate_and_map(fd, name, whole, ret_segment);
    if (err)
        close(fd);
    return err;
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

int lab_segment_attach(int fd, uint64_t deadline_ns, struct lab_segment *ret_segment)
{
    struct stat stat;
    if (fstat(fd, &stat) < 0)
        return lab_fail(errno, "cannot look at shared memory (descriptor %d)", fd);
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS)
        return lab_refuse(EBADMSG, "descriptor %d is not sealed shared memory", fd);
    if (stat.st_size <= LAB_SEGMENT_HEAD)
        return lab_refuse(EBADMSG, "shared memory of %lld bytes is too small to be a segment", (long long)stat.st_size);
    size_t whole = (size_t)stat.st_size;
    void *mapping = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (mapping == MAP_FAILED)
        return lab_fail(errno, "cannot map %zu bytes of shared memory", whole);

    struct lab_segment segment;
    describe(mapping, whole, -1, &segment);
    int err = check_head(&segment, whole);
    if (!err)
        err = await_ready(&segment, deadline_ns);
    if (err) {
        lab_segment_fini(&segment);
        return err;
    }
    *ret_segment = segment;
    return 0;
}

void lab_segment_fini(struct lab_segment *segment)
{
    if (segment->mapping)
        munmap(segment->mapping, segment->size + LAB_SEGMENT_HEAD);
    if (segment->fd >= 0)
        close(segment->fd);
    *segment = (struct lab_segment){.fd = -1};
}
