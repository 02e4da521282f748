#include "observe/pcb.h"

#include "base/clock.h"
#include "base/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Whole, as text: the kernel may give a file of /proc in several pieces. Returns its size or -errno. */
static ssize_t read_file(pid_t pid, const char *name, char *to, size_t room)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t size = 0;
    ssize_t n;
    while ((n = read(fd, to + size, room - 1 - size)) > 0)
        size += (size_t)n;
    int err = errno;
    close(fd);
    to[size] = '\0';
    return n < 0 ? -err : (ssize_t)size;
}

static void count_files(pid_t pid, struct lab_pcb *pcb)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *files = opendir(path);
    if (!files)
        return;
    const struct dirent *entry;
    while ((entry = readdir(files)))
        pcb->open_files += entry->d_name[0] != '.';
    closedir(files);
    pcb->files_known = true;
}

/* The fields after the name, which may itself hold spaces and parentheses: the last ')' ends it (proc_pid_stat(5)). */
static int parse_stat(char *text, struct lab_pcb *pcb)
{
    char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (!open || !close || close < open)
        return -EPROTO;
    *close = '\0';
    snprintf(pcb->name, sizeof pcb->name, "%s", open + 1);

    uint64_t user, system, started, virtual_bytes, pages;
    int got = sscanf(close + 2,
                     "%c %d %*d %*d %*d %*d %*u %" SCNu64 " %*u %" SCNu64 " %*u %" SCNu64 " %" SCNu64
                     " %*d %*d %" SCNd32 " %" SCNd32 " %" SCNu32 " %*d %" SCNu64 " %" SCNu64 " %" SCNu64
                     " %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*d %" SCNd32 " %*u %" SCNu32,
                     &pcb->state, &pcb->parent, &pcb->minor_faults, &pcb->major_faults, &user, &system, &pcb->priority, &pcb->nice,
                     &pcb->threads, &started, &virtual_bytes, &pages, &pcb->cpu, &pcb->policy);
    if (got != 14)
        return -EPROTO;
    uint64_t tick_ns = LAB_NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK);
    pcb->user_ns = user * tick_ns;
    pcb->system_ns = system * tick_ns;
    pcb->started_ns = started * tick_ns;
    pcb->virtual_bytes = virtual_bytes;
    pcb->resident_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

/* What stands after "NAME:" at the beginning of a line of /proc/PID/status; NULL: no such line. */
static const char *status_of(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
        if (strncmp(line, name, length) == 0 && line[length] == ':')
            return line + length + 1 + strspn(line + length + 1, " \t");
    return NULL;
}

static int parse_status(const char *text, struct lab_pcb *pcb)
{
    const char *cpus = status_of(text, "Cpus_allowed_list");
    const char *voluntary = status_of(text, "voluntary_ctxt_switches"), *involuntary = status_of(text, "nonvoluntary_ctxt_switches");
    if (!cpus || !voluntary || !involuntary)
        return -EPROTO;
    snprintf(pcb->cpus_allowed, sizeof pcb->cpus_allowed, "%.*s", (int)strcspn(cpus, "\n"), cpus);
    pcb->voluntary_switches = strtoull(voluntary, NULL, 10);
    pcb->involuntary_switches = strtoull(involuntary, NULL, 10);
    return 0;
}

/* "running", or the number of the system call, its six arguments, stack pointer and program counter; "-1 SP PC" outside one. */
static void parse_place(const char *text, struct lab_pcb *pcb)
{
    if (sscanf(text, "%" SCNd32, &pcb->system_call) != 1)
        return;
    int got;
    if (pcb->system_call < 0)
        got = sscanf(text, "%*d %" SCNx64 " %" SCNx64, &pcb->stack_pointer, &pcb->program_counter);
    else
        got = sscanf(text, "%*d %*x %*x %*x %*x %*x %*x %" SCNx64 " %" SCNx64, &pcb->stack_pointer, &pcb->program_counter);
    pcb->place_known = got == 2 && pcb->program_counter; /* a zombie has none any more */
}

int lab_pcb_read(pid_t pid, struct lab_pcb *ret_pcb)
{
    struct lab_pcb pcb = {.pid = pid, .system_call = -1};
    char text[16 << 10] = "";
    ssize_t stat_size = read_file(pid, "stat", text, sizeof text);
    if (pid <= 0 || stat_size == -ENOENT || stat_size == -ESRCH || stat_size == 0)
        return lab_refuse(ESRCH, "there is no process %d", (int)pid);
    if (stat_size < 0)
        return lab_fail((int)-stat_size, "process %d may not be looked at", (int)pid);
    if (parse_stat(text, &pcb))
        return lab_refuse(EPROTO, "/proc/%d/stat is not as this version knows it", (int)pid);
    if (read_file(pid, "status", text, sizeof text) <= 0)
        return lab_refuse(ESRCH, "process %d ended while it was looked at", (int)pid);
    if (parse_status(text, &pcb))
        return lab_refuse(EPROTO, "/proc/%d/status is not as this version knows it", (int)pid);
    if (read_file(pid, "schedstat", text, sizeof text) > 0)
        sscanf(text, "%" SCNu64 " %" SCNu64, &pcb.on_cpu_ns, &pcb.run_delay_ns);
    if (read_file(pid, "syscall", text, sizeof text) > 0)
        parse_place(text, &pcb);
    count_files(pid, &pcb);
    *ret_pcb = pcb;
    return 0;
}
