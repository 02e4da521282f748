#include "shm/backing.h"

#include "base/error.h"
#include "base/text.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

static const char *const names[LAB_BACKINGS] = {
    [LAB_BACKING_MEMFD] = "memfd", [LAB_BACKING_POSIX] = "posix", [LAB_BACKING_FILE] = "file",
    [LAB_BACKING_SYSV] = "sysv",   [LAB_BACKING_HUGEPAGE] = "hugepage",
};

const char *lab_backing_name(enum lab_backing backing)
{
    return backing < LAB_BACKINGS ? names[backing] : NULL;
}

int lab_backing_named(const char *name, enum lab_backing *ret_backing)
{
    for (enum lab_backing backing = 0; backing < LAB_BACKINGS; backing++)
        if (strcmp(names[backing], name) == 0) {
            *ret_backing = backing;
            return 0;
        }
    if (!name[0]) {
        *ret_backing = LAB_BACKING_MEMFD;
        return 0;
    }
    return lab_refuse(EINVAL, "there is no backing named '%s'", name);
}

/* ---- objects behind a descriptor ---- */

static int open_memfd(const char *label, unsigned flags, int *ret_fd)
{
    char name[64];
    snprintf(name, sizeof name, "ipclab-%s", label);
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
    if (fd < 0)
        return lab_fail(errno, "cannot make a memfd%s for '%s'", flags ? " of huge pages" : "", label);
    *ret_fd = fd;
    return 0;
}

enum { UNNAMED = O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, OWNER_ONLY = 0600 };

/* The name "." stands for the directory of all such objects, and one that is made by O_TMPFILE has no name in it. */
static int open_posix(const char *label, int *ret_fd)
{
    int fd = shm_open("/.", UNNAMED, OWNER_ONLY);
    if (fd < 0)
        return lab_fail(errno, "no shared memory of POSIX for '%s': /dev/shm must be a tmpfs that this user can write to", label);
    *ret_fd = fd;
    return 0;
}

static int open_file(const char *label, int *ret_fd)
{
    const char *wanted = getenv("TMPDIR"), *directory = wanted && wanted[0] ? wanted : "/tmp";
    int fd = open(directory, UNNAMED, OWNER_ONLY);
    if (fd < 0)
        return lab_fail(errno, "no file for '%s' in %s: set TMPDIR to a directory that can be written to, on a file system with O_TMPFILE "
                               "(ext4, xfs, btrfs, tmpfs)", label, directory);
    *ret_fd = fd;
    return 0;
}

int lab_backing_open(enum lab_backing backing, const char *label, int *ret_fd)
{
    switch (backing) {
    case LAB_BACKING_MEMFD: return open_memfd(label, 0, ret_fd);
    case LAB_BACKING_POSIX: return open_posix(label, ret_fd);
    case LAB_BACKING_FILE: return open_file(label, ret_fd);
    case LAB_BACKING_HUGEPAGE: return open_memfd(label, MFD_HUGETLB, ret_fd);
    case LAB_BACKING_SYSV:
    case LAB_BACKINGS: break;
    }
    return lab_refuse(EINVAL, "backing %d has no descriptor", (int)backing);
}

int lab_backing_usable(enum lab_backing backing)
{
    if (backing == LAB_BACKING_SYSV) {
        struct shminfo limits;
        return shmctl(0, IPC_INFO, (struct shmid_ds *)(void *)&limits) < 0
                   ? lab_fail(errno, "no shared memory of System V: this kernel was built without it")
                   : 0;
    }
    int fd, err = lab_backing_open(backing, "a look", &fd);
    if (!err)
        close(fd);
    return err;
}

/* ---- huge pages ---- */

static uint64_t read_figure(const char *path)
{
    unsigned long long figure = 0;
    FILE *file = fopen(path, "re");
    if (file) {
        if (fscanf(file, "%llu", &figure) != 1)
            figure = 0;
        fclose(file);
    }
    return figure;
}

static size_t default_size(void)
{
    char line[128];
    size_t kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && !kib && fgets(line, sizeof line, file))
        if (sscanf(line, "Hugepagesize: %zu kB", &kib) != 1)
            kib = 0;
    if (file)
        fclose(file);
    return kib * 1024;
}

void lab_huge_pages_read(struct lab_huge_pages *ret_pages)
{
    static const char *const files[] = {"nr_hugepages", "free_hugepages", "resv_hugepages"};
    uint64_t figure[3] = {0};
    size_t size = default_size();
    for (size_t i = 0; i < 3; i++) {
        char path[96];
        snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-%zukB/%s", size / 1024, files[i]);
        figure[i] = size ? read_figure(path) : 0;
    }
    *ret_pages = (struct lab_huge_pages){
        .size = size, .reserved = figure[0], .free = figure[1] > figure[2] ? figure[1] - figure[2] : 0};
}

char *lab_huge_pages_mend(const struct lab_huge_pages *pages, uint64_t wanted, char to[LAB_HUGE_PAGES_TEXT])
{
    char size[LAB_TEXT_NUMBER];
    uint64_t missing = wanted > pages->free ? wanted - pages->free : 0;
    if (pages->size)
        snprintf(to, LAB_HUGE_PAGES_TEXT, "%llu huge pages of %s are free, and %llu are needed; as root: sysctl vm.nr_hugepages=%llu",
                 (unsigned long long)pages->free, lab_format_size(pages->size, size), (unsigned long long)wanted,
                 (unsigned long long)pages->reserved + missing);
    else
        snprintf(to, LAB_HUGE_PAGES_TEXT, "this kernel was built without huge pages");
    return to;
}

/* ---- sizes ---- */

size_t lab_backing_bytes(enum lab_backing backing, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (backing == LAB_BACKING_HUGEPAGE) {
        struct lab_huge_pages pages;
        lab_huge_pages_read(&pages);
        page = pages.size ? pages.size : page;
    }
    return (size + LAB_SEGMENT_HEAD + page - 1) / page * page;
}
