#include "observe/usage.h"

#include "base/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* schedstat: nanoseconds on a cpu, nanoseconds waiting for one, time slices. */
static uint64_t run_delay_of(const char *path)
{
    char text[96];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    char *end;
    strtoull(text, &end, 10);
    return strtoull(end, NULL, 10);
}

static uint64_t run_delay_of_all_threads(void)
{
    uint64_t sum = 0;
    DIR *threads = opendir("/proc/self/task");
    if (!threads)
        return 0;
    const struct dirent *entry;
    while ((entry = readdir(threads))) {
        char path[64];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%.16s/schedstat", entry->d_name);
        sum += run_delay_of(path);
    }
    closedir(threads);
    return sum;
}

void lab_usage_read(enum lab_usage_scope scope, struct lab_usage *ret_usage)
{
    struct rusage usage;
    struct timespec cpu;
    getrusage(scope == LAB_USAGE_THREAD ? RUSAGE_THREAD : RUSAGE_SELF, &usage);
    clock_gettime(scope == LAB_USAGE_THREAD ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID, &cpu);
    *ret_usage = (struct lab_usage){
        .wall_ns = lab_now_ns(),
        .cpu_ns = (uint64_t)cpu.tv_sec * LAB_NS_PER_S + (uint64_t)cpu.tv_nsec,
        .run_delay_ns = scope == LAB_USAGE_THREAD ? run_delay_of("/proc/thread-self/schedstat") : run_delay_of_all_threads(),
        .voluntary_switches = (uint64_t)usage.ru_nvcsw,
        .involuntary_switches = (uint64_t)usage.ru_nivcsw,
        .minor_faults = (uint64_t)usage.ru_minflt,
        .major_faults = (uint64_t)usage.ru_majflt,
    };
}

/* A thread that ended in between takes its run delay with it: never below zero. */
static uint64_t grown(uint64_t before, uint64_t after)
{
    return after > before ? after - before : 0;
}

struct lab_usage lab_usage_delta(const struct lab_usage *before, const struct lab_usage *after)
{
    return (struct lab_usage){
        .wall_ns = grown(before->wall_ns, after->wall_ns),
        .cpu_ns = grown(before->cpu_ns, after->cpu_ns),
        .run_delay_ns = grown(before->run_delay_ns, after->run_delay_ns),
        .voluntary_switches = grown(before->voluntary_switches, after->voluntary_switches),
        .involuntary_switches = grown(before->involuntary_switches, after->involuntary_switches),
        .minor_faults = grown(before->minor_faults, after->minor_faults),
        .major_faults = grown(before->major_faults, after->major_faults),
    };
}
