/* A condition variable between processes, of which some may be killed. What it means is what the textbooks say: whoever finds that what
 * it needs is not so waits, having unlocked, until somebody who has changed something signals; then it locks, and looks again.
 *
 *     for (;;) {
 *         uint32_t ticket = lab_condition_ticket(&not_empty);
 *         lock();
 *         if (there_is_a_message())
 *             break;                                          // locked
 *         lab_condition_join(&not_empty, note);
 *         unlock();
 *         lab_condition_sleep(&not_empty, note, ticket, deadline_ns);
 *     }
 *
 *     lock(); add_a_message(); unlock();
 *     lab_condition_signal(&not_empty, 1);
 *
 * It is not a pthread_cond_t, because that has a lock and counters of its own which die with their holder: with glibc 2.36 a signaller
 * stands still for ever, in a wait without any deadline, when a handful of waiters have been killed (3 in one trial, a loop that forks a
 * waiter and kills it), process-shared and under a robust mutex all the same. This one is a sequence number: a signal
 * counts it up, and a sleeper sleeps only while it is what it was when the sleeper drew its ticket. Nobody ever waits for anyone inside.
 *
 * A signal reaches whoever joined under the lock before the state was changed under the lock. A broadcast needs no lock: whoever drew
 * its ticket before it will not sleep, and whoever drew it later sees, when it looks, what was changed before the broadcast. Every
 * sleep is bounded by LAB_WAIT_SLICE_NS, since a waiter that was killed may have taken a signal with it. One that was killed while it waited
 * is counted until its note is redeemed; until then signals make a system call each, in vain. */
#ifndef LAB_SHM_CONDITION_H
#define LAB_SHM_CONDITION_H

#include <stdatomic.h>
#include <stdint.h>

/* Zero is a valid beginning. */
struct lab_condition {
    _Atomic uint32_t sequence;
    _Atomic uint32_t waiting; /* those who joined and have not left; never too few */
};

static inline uint32_t lab_condition_ticket(const struct lab_condition *condition)
{
    return atomic_load(&condition->sequence);
}

/* Under the lock. `note` is a word of the waiter's own, for whoever cleans up after it. */
void lab_condition_join(struct lab_condition *condition, _Atomic uint32_t *note);

/* Having unlocked. Returns when there was a signal, when a slice or the time until the deadline has passed, or for no reason at all; it has
 * left those who wait. */
void lab_condition_sleep(struct lab_condition *condition, _Atomic uint32_t *note, uint32_t ticket, uint64_t deadline_ns);

/* Wakes up to `count` of those who wait, who will find what was changed under the lock. A system call only if somebody waits. */
void lab_condition_signal(struct lab_condition *condition, uint32_t count);

/* Wakes all, and all who were about to sleep. With or without the lock. */
void lab_condition_broadcast(struct lab_condition *condition);

/* Somebody is gone that may have been waiting here: it is counted no longer. */
void lab_condition_redeem(struct lab_condition *condition, _Atomic uint32_t *note);

#endif
