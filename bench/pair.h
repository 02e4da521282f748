/* Two pinned parties for bare loops: the caller and a forked child that run the same list of steps, in lock-step, on CPU 0 and
 * CPU 1. Nothing of the laboratory's rig takes part; what a structure can do at best is measured here, and tests of speed
 * compare with it. */
#ifndef LAB_BENCH_PAIR_H
#define LAB_BENCH_PAIR_H

#include "base/clock.h"
#include "shm/probe.h"

#include <stdbool.h>
#include <stdint.h>

enum { LAB_PAIR_WITHIN_S = 60 }; /* for a whole bench: a peer that is gone ends it */

struct lab_pair {
    struct lab_probe *probe;  /* shared */
    uint64_t deadline_ns;
    bool leads;               /* the parent */
    int child;
};

/* Forks. 0 in both parties, each pinned; or -errno, recorded. */
int lab_pair_start(struct lab_pair *ret_pair);

/* Both parties meet, and the leader learns how far apart the two cores are at this moment (0 for the follower). Ends the
 * process with a message when the other does not come. */
double lab_pair_meet(struct lab_pair *pair);

/* The child exits here; the parent waits for it. Returns the exit code of the bench. */
int lab_pair_end(struct lab_pair *pair);

/* The middle of `count` values, which are sorted. */
double lab_pair_median(double *values, uint32_t count);

/* "near" (two threads of one core), "middle" (two cores of one L3), "far": the clusters of hand-off times. */
const char *lab_pair_mode(double handoff_ns);

#endif
