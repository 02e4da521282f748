#include "observe/pcb.h"

#include "base/clock.h"
#include "base/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static ssize_t read_file(pid_t pid, const char *name, char *to, size_t room)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t size = read(fd, to, room - 1);
    close(fd);
    if (size >= 0)
        to[size] = '\0';
    return size;
}

static uint32_t count_files(pid_t pid)
{
    char path[64];
    uint32_t count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *files = opendir(path);
    if (!files)
        return 0;
    const struct dirent *entry;
    while ((entry = readdir(files)))
        count += entry->d_name[0] != '.';
    closedir(files);
    return count;
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
                     " %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*d %" SCNd32,
                     &pcb->state, &pcb->parent, &pcb->minor_faults, &pcb->major_faults, &user, &system, &pcb->priority, &pcb->nice,
                     &pcb->threads, &started, &virtual_bytes, &pages, &pcb->cpu);
    if (got != 13)
        return -EPROTO;
    uint64_t tick_ns = LAB_NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK);
    pcb->user_ns = user * tick_ns;
    pcb->system_ns = system * tick_ns;
    pcb->started_ns = started * tick_ns;
    pcb->virtual_bytes = virtual_bytes;
    pcb->resident_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

int lab_pcb_read(pid_t pid, struct lab_pcb *ret_pcb)
{
    struct lab_pcb pcb = {.pid = pid};
    char text[1024];
    if (read_file(pid, "stat", text, sizeof text) <= 0)
        return lab_refuse(ESRCH, "there is no process %d", (int)pid);
    if (parse_stat(text, &pcb))
        return lab_refuse(EPROTO, "/proc/%d/stat is not as this version knows it", (int)pid);
    if (read_file(pid, "schedstat", text, sizeof text) > 0)
        sscanf(text, "%" SCNu64 " %" SCNu64, &pcb.on_cpu_ns, &pcb.run_delay_ns);
    pcb.open_files = count_files(pid);
    *ret_pcb = pcb;
    return 0;
}
