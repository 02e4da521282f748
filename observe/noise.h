/* How much of a cpu something else takes: a tight loop that reads the clock, in which a gap of more than 1 us is a detour
 * (the "selfish detour" of netgauge, Hoefler et al.). */
#ifndef LAB_OBSERVE_NOISE_H
#define LAB_OBSERVE_NOISE_H

#include <stdint.h>

struct lab_noise_probe {
    double lost_fraction; /* of the time, in detours */
    uint64_t max_ns;      /* the longest one */
};

/* Busy for `duration_ns` on the calling thread's cpu. */
struct lab_noise_probe lab_noise_measure(uint64_t duration_ns);

/* "A": < 0.5 % lost and no detour of 100 us; "B": < 2 % and none of 1 ms; "C": worse. */
const char *lab_noise_grade(double lost_fraction, uint64_t max_ns);

#endif
