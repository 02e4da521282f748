/* What a process or thread has used so far, as the kernel counts it: getrusage(2) and /proc/.../schedstat.
 *
 *     struct lab_usage before, after;
 *     lab_usage_read(LAB_USAGE_PROCESS, &before);
 *     ...
 *     lab_usage_read(LAB_USAGE_PROCESS, &after);
 *     struct lab_usage used = lab_usage_delta(&before, &after);
 *
 * A few system calls each: between measuring phases, never inside one. The run delay of a thread that is running may be one
 * tick (4 ms) old. Thread-safe. */
#ifndef LAB_OBSERVE_USAGE_H
#define LAB_OBSERVE_USAGE_H

#include <stdint.h>

enum lab_usage_scope {
    LAB_USAGE_THREAD,  /* the calling thread */
    LAB_USAGE_PROCESS, /* all threads of this process: those of libraries too */
};

struct lab_usage {
    uint64_t wall_ns;               /* CLOCK_MONOTONIC */
    uint64_t cpu_ns;
    uint64_t run_delay_ns;          /* ready to run, and waiting for a cpu */
    uint64_t voluntary_switches, involuntary_switches;
    uint64_t minor_faults, major_faults;
};

/* Cannot fail on Linux; where /proc is not mounted the run delay stays 0. */
void lab_usage_read(enum lab_usage_scope scope, struct lab_usage *ret_usage);

struct lab_usage lab_usage_delta(const struct lab_usage *before, const struct lab_usage *after);

#endif
