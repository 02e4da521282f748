/* The cache-line hand-off between two cores: how long one 8-byte word takes from the one to the other. No message through
 * shared memory can be faster, and virtual cores move under us, so this is the yardstick beside every latency and the probe
 * between windows that names how near the two cores are at that moment.
 *
 *     struct lab_probe *probe = ...;                               // shared, zeroed once
 *     err = lab_probe_lead(probe, 32, deadline_ns, &handoff_ns);   // one side
 *     err = lab_probe_follow(probe, 32, deadline_ns);              // the other side, the same number of rounds
 *
 * Either side may come first and waits for the other, polling and yielding; the wait before the first round is not counted. A probe
 * can be used again and again, by the same two sides. 32 rounds take 4 us when a hand-off takes 60 ns. */
#ifndef LAB_SHM_PROBE_H
#define LAB_SHM_PROBE_H

#include <stdatomic.h>
#include <stdint.h>

/* One word, bounced: odd when it is the follower's turn, even when it is the leader's. Alone in its pair of lines. */
struct lab_probe {
    _Alignas(128) _Atomic uint64_t word;
};

/* Median nanoseconds of one hand-over (half of a round trip). -EAGAIN: the follower was not there by the deadline; the probe
 * may then be half way through a round, and is best not used again. `rounds` is at least 1 (leading none is -EINVAL). */
int lab_probe_lead(struct lab_probe *probe, uint32_t rounds, uint64_t deadline_ns, double *ret_handoff_ns);
int lab_probe_follow(struct lab_probe *probe, uint32_t rounds, uint64_t deadline_ns);

#endif
