/* What no mechanism on this host can beat: the clock, an empty system call, a copy, a wake-up, a context switch. Each function
 * takes a few milliseconds, returns the median, and needs no privilege. They are stated beside results, in the same run. */
#ifndef LAB_OBSERVE_LIMITS_H
#define LAB_OBSERVE_LIMITS_H

#include <stddef.h>
#include <stdint.h>

double lab_limit_clock_ns(void);          /* one reading of the clock */
double lab_limit_syscall_ns(void);        /* getppid(2), which does nothing */

/* memcpy between two buffers that together fill about `working_set_bytes`, one page each at least; bytes copied per second.
 * -ENOMEM */
int lab_limit_memcpy(size_t working_set_bytes, double *ret_bytes_per_s);

/* One way of a futex ping-pong between two threads pinned to these cpus: with two cpus the price of waking a sleeper on another
 * core, with one the price of a context switch. -errno when a thread cannot be had on that cpu; -ETIMEDOUT when
 * one has not run for a second. The caller's affinity is as before afterwards. */
int lab_limit_futex_ns(int cpu_a, int cpu_b, uint64_t duration_ns, double *ret_one_way_ns);

/* Sizes of this host's data caches in bytes, from hwloc: level 1, 2, 3; 0: none. About 10 ms. */
int lab_limit_caches(size_t ret_bytes[3]);

/* "2.9": hwloc's interface at run time, which is what it tells of its version. Static storage. */
const char *lab_limit_library(void);

#endif
