#include "sweep/clean.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/leftover.h"
#include "shm/backing.h"
#include "sweep/process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <mqueue.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MARK_NAME LAB_CLEAN_VARIABLE "="

enum { BOOT_ID = 40, ENVIRON_MAX = 2 << 20, FILES_MAX = 4096, LOOK_AGAIN_MS = 20 };

static void boot_id(char to[BOOT_ID])
{
    to[0] = '\0';
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, to, BOOT_ID - 1);
    to[length > 0 ? length : 0] = '\0';
    to[strcspn(to, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
}

static uint64_t pid_namespace(void)
{
    struct stat facts;
    return stat("/proc/self/ns/pid", &facts) == 0 ? (uint64_t)facts.st_ino : 0;
}

void lab_clean_mark(char to[LAB_CLEAN_MARK])
{
    static atomic_uint made;
    char boot[BOOT_ID];
    boot_id(boot);
    struct lab_process self = {.pid = getpid()};
    lab_process_read(self.pid, &self);
    snprintf(to, LAB_CLEAN_MARK, MARK_NAME "%d.%" PRIu64 ".%" PRIu64 ".%s.%u", (int)self.pid, self.started, pid_namespace(), boot,
             atomic_fetch_add(&made, 1) + 1);
}

/* Is the launcher that made this mark gone, as far as this process can know? */
static bool launcher_gone(const char *mark)
{
    int pid, read_until = 0;
    uint64_t started, space;
    if (sscanf(mark, MARK_NAME "%d.%" SCNu64 ".%" SCNu64 ".%n", &pid, &started, &space, &read_until) != 3 || !read_until)
        return false;
    char boot[BOOT_ID];
    boot_id(boot);
    size_t length = strlen(boot);
    if (!length || strncmp(mark + read_until, boot, length) != 0 || mark[read_until + length] != '.' || space != pid_namespace())
        return false;
    return !lab_process_alive(&(struct lab_process){.pid = pid, .started = started});
}

/* The whole of a file in /proc, in memory that the next call reuses; NULL when it cannot be read or is empty. */
struct text {
    char *bytes;
    size_t room;
};
static const char *read_proc(struct text *text, pid_t pid, const char *name, size_t *ret_length)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    size_t length = 0;
    for (;;) {
        if (text->room < length + 4096) {
            char *more = text->room > ENVIRON_MAX ? NULL : realloc(text->bytes, 2 * text->room + 8192);
            if (!more)
                break;
            text->bytes = more;
            text->room = 2 * text->room + 8192;
        }
        ssize_t got = read(fd, text->bytes + length, text->room - length - 1);
        if (got <= 0)
            break;
        length += (size_t)got;
    }
    close(fd);
    if (!length)
        return NULL;
    text->bytes[length] = '\0';
    *ret_length = length;
    return text->bytes;
}

/* The mark of a process of this user, NULL when it carries none. */
static const char *mark_of(pid_t pid, struct text *text)
{
    char path[32];
    struct stat facts;
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    if (stat(path, &facts) != 0 || facts.st_uid != geteuid())
        return NULL;
    size_t length;
    const char *environment = read_proc(text, pid, "environ", &length);
    for (const char *at = environment; at && at < environment + length; at += strlen(at) + 1)
        if (strncmp(at, MARK_NAME, sizeof MARK_NAME - 1) == 0)
            return at;
    return NULL;
}

/* The next process in /proc other than this one, 0 at the end. */
static pid_t next_process(DIR *proc)
{
    for (struct dirent *entry; (entry = readdir(proc));) {
        pid_t pid = isdigit((unsigned char)entry->d_name[0]) ? (pid_t)strtol(entry->d_name, NULL, 10) : 0;
        if (pid > 0 && pid != getpid())
            return pid;
    }
    return 0;
}

static void say(FILE *told, bool look_only, const char *what, const char *verb, const char *why)
{
    if (told)
        fprintf(told, "%s%s %s (%s)\n", look_only ? "would have " : "", verb, what, why);
}

/* One look at every process. The mark is that of one crew, or NULL for those whose launcher is gone. Returns how many carried
 * it, those that ended meanwhile included. */
static int sweep(const char *mark, uint64_t deadline_ns, FILE *told, bool look_only)
{
    DIR *proc = opendir("/proc");
    if (!proc)
        return lab_fail(errno, "cannot look for processes in /proc");
    struct text text = {0};
    int found = 0;
    for (pid_t pid; (pid = next_process(proc));) {
        struct lab_process process;
        if (lab_process_read(pid, &process))
            continue;
        const char *carried = mark_of(pid, &text);
        if (!carried || (mark ? strcmp(carried, mark) != 0 : !launcher_gone(carried)))
            continue;
        char name[32] = "?", what[80];
        size_t length;
        const char *comm = told ? read_proc(&text, pid, "comm", &length) : NULL;
        if (comm)
            snprintf(name, sizeof name, "%.*s", (int)strcspn(comm, "\n"), comm);
        int err = look_only ? 0 : lab_process_kill(&process, deadline_ns);
        if (err == -ESRCH)
            continue;
        found++;
        snprintf(what, sizeof what, "process %d (%s)", (int)pid, name);
        say(told, look_only, what, err ? "could not end" : "ended", "its launcher is gone");
    }
    free(text.bytes);
    closedir(proc);
    return found;
}

int lab_clean_marked(const char *mark, uint64_t deadline_ns)
{
    for (int killed = 0;;) {
        int found = sweep(mark, deadline_ns, NULL, false);
        if (found <= 0)
            return found < 0 ? found : killed;
        killed += found;
        if (lab_ns_until(deadline_ns) == 0)
            return lab_refuse(ETIMEDOUT, "%d processes of a run did not end in time; `ipclab clean` looks for them again", found);
    }
}

int lab_clean_await(const char *mark, uint64_t deadline_ns)
{
    for (;;) {
        int found = sweep(mark, deadline_ns, NULL, true);
        if (found <= 0)
            return found;
        if (lab_ns_until(deadline_ns) == 0)
            return -ETIMEDOUT;
        poll(NULL, 0, LOOK_AGAIN_MS);
    }
}

int lab_clean_orphans(FILE *told, bool look_only)
{
    return sweep(NULL, lab_now_ns() + 2 * LAB_NS_PER_S, told, look_only);
}

struct file {
    dev_t device;
    ino_t inode;
    off_t size;
    bool held;
    char name[256];
};

/* A fifo of ours has a name until it is open. */
static bool left_by_runs(const char *name)
{
    static const char *const beginnings[] = {"mpich_shar_tmp", "ucx_shm_posix_", LAB_LEFTOVER_FIFO};
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++)
        if (strncmp(name, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    return false;
}

static int list_files(const char *directory, time_t since, struct file **ret_files, size_t *ret_count)
{
    DIR *listing = opendir(directory);
    if (!listing)
        return lab_fail(errno, "cannot look for shared memory in %s", directory);
    struct file *files = NULL;
    size_t count = 0;
    int err = 0;
    for (struct dirent *entry; !err && count < FILES_MAX && (entry = readdir(listing));) {
        struct stat facts;
        if (!left_by_runs(entry->d_name) || fstatat(dirfd(listing), entry->d_name, &facts, AT_SYMLINK_NOFOLLOW) != 0 ||
            !(S_ISREG(facts.st_mode) || S_ISFIFO(facts.st_mode)) || facts.st_uid != geteuid() || facts.st_ctime < since)
            continue;
        struct file *more = realloc(files, (count + 1) * sizeof *files);
        if (!more) {
            err = lab_fail(ENOMEM, "cannot list %s", directory);
            continue;
        }
        files = more;
        files[count] = (struct file){.device = facts.st_dev, .inode = facts.st_ino, .size = facts.st_size};
        snprintf(files[count++].name, sizeof files->name, "%s", entry->d_name);
    }
    closedir(listing);
    if (err) {
        free(files);
        return err;
    }
    *ret_files = files;
    *ret_count = count;
    return 0;
}

static void hold(struct file *files, size_t count, dev_t device, ino_t inode)
{
    for (size_t i = 0; i < count; i++)
        if (files[i].device == device && files[i].inode == inode)
            files[i].held = true;
}

static void hold_opened(pid_t pid, struct file *files, size_t count)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *opened = opendir(path);
    for (struct dirent *entry; opened && (entry = readdir(opened));) {
        struct stat facts;
        if (fstatat(dirfd(opened), entry->d_name, &facts, 0) == 0)
            hold(files, count, facts.st_dev, facts.st_ino);
    }
    if (opened)
        closedir(opened);
}

static void hold_mapped(pid_t pid, struct text *text, struct file *files, size_t count)
{
    size_t length;
    const char *line = read_proc(text, pid, "maps", &length);
    while (line) {
        unsigned device_major, device_minor;
        unsigned long inode;
        if (sscanf(line, "%*s %*s %*s %x:%x %lu", &device_major, &device_minor, &inode) == 3 && inode)
            hold(files, count, makedev(device_major, device_minor), (ino_t)inode);
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
}

int lab_clean_shm(const char *directory, time_t since, FILE *told, bool look_only)
{
    struct file *files = NULL;
    size_t count = 0;
    int err = list_files(directory, since, &files, &count);
    if (err || !count)
        return err;
    DIR *proc = opendir("/proc");
    if (!proc) {
        free(files);
        return lab_fail(errno, "cannot look for processes in /proc");
    }
    /* Descriptors before mappings: a process that maps a file and then closes it is seen one way or the other. */
    struct text text = {0};
    for (pid_t pid; (pid = next_process(proc));) {
        hold_opened(pid, files, count);
        hold_mapped(pid, &text, files, count);
    }
    free(text.bytes);
    closedir(proc);

    int removed = 0;
    for (size_t i = 0; i < count; i++) {
        if (files[i].held)
            continue;
        char path[512], what[600];
        snprintf(path, sizeof path, "%s/%s", directory, files[i].name);
        if (!look_only && unlink(path) != 0) {
            if (errno != ENOENT)
                err = lab_fail(errno, "cannot remove %s", path);
            continue;
        }
        removed++;
        snprintf(what, sizeof what, "%s (%lld bytes)", path, (long long)files[i].size);
        say(told, look_only, what, "removed", "no process maps it");
    }
    free(files);
    return err ? err : removed;
}

/* Ended, reaped or not. A process in another pid namespace shows as 0, and nobody can say what became of it. */
static bool gone(pid_t pid)
{
    struct lab_process process;
    return pid > 0 && lab_process_read(pid, &process) == -ESRCH;
}

/* Removes a segment that was made by one of our nodes that did not live to attach it. */
static bool remove_segment(int id, bool look_only, char *what, size_t room)
{
    struct shmid_ds facts;
    bool left = shmctl(id, IPC_STAT, &facts) == 0 && facts.shm_perm.cuid == geteuid() && facts.shm_nattch == 0 && gone(facts.shm_cpid);
    if (!left || (!look_only && shmctl(id, IPC_RMID, NULL) < 0))
        return false;
    snprintf(what, room, "System V segment %d (%zu bytes)", id, (size_t)facts.shm_segsz);
    return true;
}

/* Removes a queue that was last used by processes that are no more: its node uses it before anybody else. One that was never used was made
 * by a node that is about to, unless it has been about to for very long. */
static bool remove_queue(int id, bool look_only, char *what, size_t room)
{
    enum { ABOUT_TO_S = 10 };
    struct msqid_ds facts;
    if (msgctl(id, IPC_STAT, &facts) < 0 || facts.msg_perm.cuid != geteuid())
        return false;
    bool left = facts.msg_stime ? gone(facts.msg_lspid) && gone(facts.msg_lrpid) : time(NULL) - facts.msg_ctime > ABOUT_TO_S;
    if (!left || (!look_only && msgctl(id, IPC_RMID, NULL) < 0))
        return false;
    snprintf(what, room, "System V message queue %d (%lu messages)", id, (unsigned long)facts.msg_qnum);
    return true;
}

/* Those of one kind, as the kernel lists them: with a key of ours. */
static int sweep_sysv(const char *path, bool (*remove_one)(int, bool, char *, size_t), FILE *told, bool look_only)
{
    FILE *list = fopen(path, "re");
    if (!list)
        return 0; /* a kernel without them */
    char line[512], what[96];
    int removed = 0, key, id;
    while (fgets(line, sizeof line, list)) {
        if (sscanf(line, "%d %d", &key, &id) != 2 || ((uint32_t)key & LAB_SYSV_KEY_MASK) != LAB_SYSV_KEY || !remove_one(id, look_only, what, sizeof what))
            continue;
        removed++;
        say(told, look_only, what, "removed", "its maker is gone");
    }
    fclose(list);
    return removed;
}

int lab_clean_sysv(FILE *told, bool look_only)
{
    return sweep_sysv("/proc/sysvipc/shm", remove_segment, told, look_only) + sweep_sysv("/proc/sysvipc/msg", remove_queue, told, look_only);
}

int lab_clean_mq(FILE *told, bool look_only)
{
    char text[LAB_LEFTOVER_QUEUE_NAME];
    const char *name = lab_leftover_queue(text);
    mqd_t queue = look_only ? mq_open(name, O_RDONLY | O_CLOEXEC) : -1;
    bool there = look_only ? queue >= 0 : mq_unlink(name) == 0;
    if (queue >= 0)
        mq_close(queue);
    if (there)
        say(told, look_only, name + 1, "removed", "a POSIX message queue that its maker was killed over");
    return there;
}

static bool any_files(const char *directory, time_t since)
{
    struct file *files = NULL;
    size_t count = 0;
    int err = list_files(directory, since, &files, &count);
    free(files);
    return !err && count;
}

int lab_clean_shm_until(const char *directory, time_t since, uint64_t deadline_ns)
{
    int removed = 0;
    for (;;) {
        int now = lab_clean_shm(directory, since, NULL, false);
        if (now < 0)
            return now;
        removed += now;
        if (!any_files(directory, since) || lab_ns_until(deadline_ns) == 0)
            return removed;
        poll(NULL, 0, LOOK_AGAIN_MS);
    }
}
