/* Time: nanoseconds of CLOCK_MONOTONIC, read through the vDSO. A deadline is an absolute value of this clock;
 * 0 stands for "try once" and LAB_FOREVER exists only for tests of the arithmetic: every blocking call has a deadline. */
#ifndef LAB_BASE_CLOCK_H
#define LAB_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define LAB_NS_PER_US UINT64_C(1000)
#define LAB_NS_PER_MS UINT64_C(1000000)
#define LAB_NS_PER_S UINT64_C(1000000000)

static inline uint64_t lab_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * LAB_NS_PER_S + (uint64_t)now.tv_nsec;
}

static inline struct timespec lab_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / LAB_NS_PER_S), .tv_nsec = (long)(ns % LAB_NS_PER_S)};
}

/* Milliseconds until the deadline, rounded up, 0 once it has passed: what poll() and its kind take. */
int lab_ms_until(uint64_t deadline_ns);

/* Nanoseconds until the deadline, 0 once it has passed. */
uint64_t lab_ns_until(uint64_t deadline_ns);

/* What the clock itself costs and can tell apart, measured now (about 200 us of work). */
struct lab_clock_facts {
    double overhead_ns;   /* median cost of one reading */
    double resolution_ns; /* smallest non-zero difference of two readings */
};
struct lab_clock_facts lab_clock_measure(void);

/* Spins until `ns` have passed since the call; for measured pauses shorter than the scheduler can keep. */
void lab_spin_for(uint64_t ns);

#endif
