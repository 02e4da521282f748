/* How one side of a shared structure waits for the other: a strategy that is composed with a structure, so that waiting is an
 * axis of an experiment and not another copy of the structure.
 *
 *     static bool has_message(void *ring) { ... one look, no side effects ... }
 *
 *     struct lab_wait_plan plan = lab_wait_plan(LAB_WAIT_ADAPTIVE);
 *     int err = lab_wait_until(&plan, has_message, ring, &shared->sleeper, &shared->gone, deadline_ns);
 *     ...
 *     publish(message);                      // whoever makes the condition true ...
 *     if (plan.sleeps)
 *         lab_wait_wake(&shared->sleeper);   // ... wakes, if anyone may be asleep
 *
 * lab_wait_until is inlined with its condition: a spinning wait is a bare loop of loads, with one `pause` between two looks.
 * Without it dozens of loads of one line are under way when the line is taken away, and all of them are undone before the new
 * value is seen: measured in one interleaved run (bench/handoff.c), a word bounces in 66 ns between two loops without and in
 * 43 ns between two with it, and messages of a ring (48 B) take 83 and 62 ns. The clock is read once in LAB_WAIT_POLLS looks, so
 * a deadline is kept to within tens of microseconds (spin), or a few time slices of whoever else runs (yield).
 *
 * No wake-up is lost. The sleeper (1) sets its word, (2) passes a sequentially consistent fence, (3) looks at the condition,
 * (4) sleeps only while the word is still set; the waker (a) makes the condition true, (b) passes such a fence, (c) reads the
 * word, and if it is set (d) clears it and wakes. Of the two fences one comes first. If the sleeper's, then (c) sees the word
 * set, and (d) either finds the sleeper asleep or makes (4) return at once, for the kernel compares the word under its own
 * lock; if the waker's, then (3) sees the condition true. The waker makes no system call unless the word is set. (Dekker's
 * argument, as in Drepper's "Futexes Are Tricky".) A waker that dies between (a) and (d) costs the sleeper one slice: every
 * sleep is bounded by LAB_WAIT_SLICE_NS, after which condition, hangup and deadline are looked at again.
 *
 * Nor is one lost on a *bell*, an eventfd on which a side sleeps instead (LAB_WAIT_POLL), so that a channel can be one of the
 * descriptors of an event loop. (1) to (3) and (a) to (c) are the same; (4) is poll(2), and (d) clears the word by an exchange
 * and, if it was set, writes to the eventfd. What is written stays until it is read, so it does not matter whether (d) comes
 * before (4) or during it. The sleeper reads only when its word is clear, and so never takes away what belongs to a later
 * sleep: that is written only after the word was set again. What was written late for an earlier sleep makes a later one
 * return for nothing, and the sleeper looks and sleeps again. In an event loop:
 *
 *     if (lab_wait_arm(&shared->sleeper, has_message, ring, &shared->gone))   // (1) to (3): nothing is there
 *         poll(fds, count, timeout);                                          // plan.bells.own is one of them
 *     lab_wait_disarm(&plan, &shared->sleeper);                               // whatever woke it
 *     ...                                                                     // takes all that is there, then arms again
 *
 * How adaptive chooses. To poll is worth as much time as the alternative costs (Karlin et al., "Empirical Studies of Competitive
 * Spinning", SOSP 1991): on a core that would fall idle that is a wake-up, tens of microseconds, and on one that others want it
 * is two switches, a tenth of that. So it looks:
 *   - Does the other side run at all while this one does? Whoever wakes a sleeper writes down where it runs; a waiter that
 *     was woken from its own cpu does not poll, for nothing can come of it, but yields to the other side. If the yield came back
 *     at once nobody else was there, and what was written down is out of date.
 *   - Do others want this cpu? A yield that takes long has let them run. They are then believed to for the next waits, which
 *     sleep after a short poll (plan.spin_ns / LAB_WAIT_CROWD); if nobody does, polling goes on for all of plan.spin_ns.
 * The short poll is what keeps the two sides of a pair together on two crowded cores: who was woken runs soon, finds the other
 * side still polling, and both go on at the speed of two spinning ones until a time slice ends, while a yield would put each at
 * the end of its own queue ("implicit coscheduling": Arpaci-Dusseau, ACM TOCS 19, 2001). bench/waits.c compares it with fixed
 * strategies.
 */
#ifndef LAB_SHM_WAIT_H
#define LAB_SHM_WAIT_H

#include "base/clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum lab_wait {
    LAB_WAIT_SPIN,      /* poll */
    LAB_WAIT_YIELD,     /* poll, between polls let others run: the next fiber (base/fiber.h), or, outside of fibers, sched_yield */
    LAB_WAIT_ADAPTIVE,  /* poll, yield or sleep, by what it sees */
    LAB_WAIT_FUTEX,     /* sleep on a futex */
    LAB_WAIT_BLOCK,     /* the kernel's (or a library's) own blocking call: nothing of this file */
    LAB_WAIT_POLL,      /* sleep in poll(2) on an eventfd */
    LAB_WAIT_SEMAPHORE, /* sleep in a semaphore of POSIX: shm/semaphore.h */
    LAB_WAIT_CONDVAR,   /* sleep on a condition variable: shm/monitor.h */
    LAB_WAITS
};
const char *lab_wait_name(enum lab_wait wait);                 /* "spin", ...; NULL beyond the end */
const char *lab_wait_summary(enum lab_wait wait);              /* one line for people; NULL beyond the end */
int lab_wait_named(const char *name, enum lab_wait *ret_wait); /* -EINVAL, recorded; nothing written */
#define LAB_WAIT_BIT(wait) (1u << (wait))

#define LAB_WAIT_SLICE_NS (50 * LAB_NS_PER_MS)
enum {
    LAB_WAIT_POLLS = 1024, /* looks between two readings of the clock */
    LAB_WAIT_YIELDS = 16,  /* yields between two readings of the clock */
    LAB_WAIT_CROWD = 12,   /* adaptive polls for this part of its time when others want the cpu */
};

/* What one of two sides that sleep on bells has of them: eventfds, close-on-exec and non-blocking. */
struct lab_bells {
    int own;  /* it sleeps on this one, and the other side rings it */
    int peer; /* ... and the other way round */
};

/* Makes two bells, and of each a descriptor for either side: four, which the caller owns. -errno, recorded. */
int lab_bells_make(struct lab_bells ret_bells[2]);
void lab_bells_close(struct lab_bells *bells); /* leaves -1; -1 is harmless */

/* Wakes whoever sleeps on that bell, whatever its word says: for a supervisor. -1 is harmless. */
void lab_bell_ring(int bell);

/* A strategy with its thresholds: those of lab_wait_plan, or one's own. */
struct lab_wait_plan {
    enum lab_wait wait;
    bool sleeps;             /* may sleep: the other side has to wake it */
    uint32_t polls;          /* looks in a row, before anything dearer */
    uint32_t yields;         /* adaptive, futex, poll: yields so often before it sleeps */
    uint64_t spin_ns;        /* adaptive: polls for so long, at most, before it gives up the cpu */
    struct lab_bells bells;  /* poll */
};

/* The plan of a strategy with the default thresholds. LAB_WAIT_BLOCK, SEMAPHORE and CONDVAR are not of this file: assert. The bells
 * of LAB_WAIT_POLL are -1, and to be filled in. */
struct lab_wait_plan lab_wait_plan(enum lab_wait wait);

/* Where one side sleeps, in shared memory; zero is a valid beginning. Written by both sides, so it deserves a line of its own. At
 * most one thread sleeps there. */
struct lab_sleeper {
    _Atomic uint32_t asleep;     /* the word */
    _Atomic uint32_t woken_from; /* the cpu of whoever woke it last, plus one; 0: not known */
};

/* Between two looks of a loop that polls. */
static inline void lab_wait_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

/* ---- waking ---- */

/* Whether it was asleep. Where many sleep and one is to be woken, the next is tried if not. */
bool lab_wait_wake_now(struct lab_sleeper *sleeper);
void lab_wait_wake_now_by(const struct lab_wait_plan *plan, struct lab_sleeper *sleeper);

/* To be called after the condition of the sleeper was made true; it sleeps on a futex. */
static inline void lab_wait_wake(struct lab_sleeper *sleeper)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&sleeper->asleep, memory_order_relaxed))
        lab_wait_wake_now(sleeper);
}

/* The same for a sleeper that sleeps as this side's plan says, on a futex or on a bell; for one that does not sleep, nothing. */
static inline void lab_wait_wake_by(const struct lab_wait_plan *plan, struct lab_sleeper *sleeper)
{
    if (!plan->sleeps)
        return;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&sleeper->asleep, memory_order_relaxed))
        lab_wait_wake_now_by(plan, sleeper);
}

/* ---- waiting ---- */

/* Sets the word, and looks at the condition once more. True: nothing is there, and whoever makes the condition true, or hangs
 * up, will wake; false: the word is clear again. */
static inline __attribute__((always_inline)) bool lab_wait_arm(struct lab_sleeper *sleeper, bool (*ready)(void *), void *subject,
                                                               const _Atomic uint32_t *gone)
{
    atomic_store_explicit(&sleeper->asleep, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (!ready(subject) && !atomic_load_explicit(gone, memory_order_acquire))
        return true;
    atomic_store_explicit(&sleeper->asleep, 0, memory_order_relaxed);
    return false;
}

/* Clears the word, and quiets the bell. Does not block; harmless when it is not armed. */
void lab_wait_disarm(const struct lab_wait_plan *plan, struct lab_sleeper *sleeper);

/* Sleeps until woken, for a slice, or until the deadline, whichever is first; then disarms. */
void lab_wait_sleep(const struct lab_wait_plan *plan, struct lab_sleeper *sleeper, uint64_t deadline_ns);

/* Where a wait stands; kept by lab_wait_until. */
struct lab_wait_state {
    uint64_t began_ns, turn_ns; /* adaptive: when it first read the clock, and when it last got the cpu or was about to yield it */
    uint32_t rounds, yields;
    uint32_t polls;             /* looks until the next step */
    bool beside;                /* adaptive: the other side runs on this cpu */
};

/* Adaptive, before its first look. */
void lab_wait_begin(struct lab_wait_state *state, struct lab_sleeper *sleeper);

/* One step of a wait that has looked `state->polls` times in vain: reads the clock, yields or decides to sleep, as the plan says.
 * 0: look again; 1: sleep; -EAGAIN: the deadline has passed. */
int lab_wait_step(const struct lab_wait_plan *plan, struct lab_wait_state *state, struct lab_sleeper *sleeper, uint64_t deadline_ns);

/* Waits until `ready(subject)` holds. 0; -EAGAIN at the deadline (0: one look); -EPIPE when `*gone` became non-zero and the
 * condition still does not hold. `sleeper` may be NULL when the plan does not sleep. */
static inline __attribute__((always_inline)) int lab_wait_until(const struct lab_wait_plan *plan, bool (*ready)(void *), void *subject,
                                                                struct lab_sleeper *sleeper, const _Atomic uint32_t *gone,
                                                                uint64_t deadline_ns)
{
    struct lab_wait_state state = {.polls = deadline_ns ? plan->polls : 1};
    if (plan->wait == LAB_WAIT_ADAPTIVE)
        lab_wait_begin(&state, sleeper);
    for (;;) {
        for (uint32_t i = 0, polls = state.polls; i < polls; i++) {
            if (ready(subject))
                return 0;
            lab_wait_pause();
        }
        /* What the peer did before it went must be seen after its going was: hence the second look. */
        if (atomic_load_explicit(gone, memory_order_acquire))
            return ready(subject) ? 0 : -EPIPE;
        int step = lab_wait_step(plan, &state, sleeper, deadline_ns);
        if (step < 0)
            return step;
        if (step > 0 && lab_wait_arm(sleeper, ready, subject, gone))
            lab_wait_sleep(plan, sleeper, deadline_ns);
    }
}

#endif
