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
 */
#ifndef LAB_SHM_WAIT_H
#define LAB_SHM_WAIT_H

#include "base/clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum lab_wait {
    LAB_WAIT_SPIN,     /* poll */
    LAB_WAIT_YIELD,    /* poll, between polls let others run: the next fiber (base/fiber.h), or, outside of fibers, sched_yield */
    LAB_WAIT_ADAPTIVE, /* poll, then yield, then sleep */
    LAB_WAIT_FUTEX,    /* sleep on a futex */
    LAB_WAIT_BLOCK,    /* the kernel's (or a library's) own blocking call: nothing of this file */
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
};

/* A strategy with its thresholds. How long to poll before anything dearer is given in time, not in polls: it has to exceed
 * what a sleep and a wake-up cost (tens of microseconds), or messages that were about to come are slept through. */
struct lab_wait_plan {
    enum lab_wait wait;
    bool sleeps;       /* may sleep: the other side has to call lab_wait_wake */
    uint64_t spin_ns;  /* adaptive: polls for so long, ... */
    uint32_t yields;   /* ... then yields so many times, then sleeps */
};

/* The plan of a strategy with the default thresholds. LAB_WAIT_BLOCK is not a way to wait for shared memory: assert. */
struct lab_wait_plan lab_wait_plan(enum lab_wait wait);

/* The word on which one side sleeps, in shared memory; zero is a valid beginning. Written by both sides, so it deserves a
 * line of its own. At most one thread sleeps on it. */
struct lab_sleeper {
    _Atomic uint32_t asleep;
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

/* Whether it was asleep. Where many sleep and one is to be woken, the next is tried if not. */
bool lab_wait_wake_now(struct lab_sleeper *sleeper);

/* To be called after the condition of the sleeper was made true. */
static inline void lab_wait_wake(struct lab_sleeper *sleeper)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&sleeper->asleep, memory_order_relaxed))
        lab_wait_wake_now(sleeper);
}

/* What a wait does after a run of fruitless looks; kept by lab_wait_until. */
struct lab_wait_state {
    uint64_t began_ns;
    uint32_t rounds, yields;
};

/* One step of a wait that has looked `LAB_WAIT_POLLS` times in vain: reads the clock, yields or prepares to sleep as the plan
 * says. 0: look again; 1: look again and, if still in vain, lab_wait_sleep; -EAGAIN: the deadline has passed. */
int lab_wait_step(const struct lab_wait_plan *plan, struct lab_wait_state *state, struct lab_sleeper *sleeper, uint64_t deadline_ns);

/* Sleeps until woken, for a slice, or until the deadline, whichever is first. */
void lab_wait_sleep(struct lab_sleeper *sleeper, uint64_t deadline_ns);

/* Waits until `ready(subject)` holds. 0; -EAGAIN at the deadline (0: one look); -EPIPE when `*gone` became non-zero and the
 * condition still does not hold. `sleeper` may be NULL when the plan does not sleep. */
static inline __attribute__((always_inline)) int lab_wait_until(const struct lab_wait_plan *plan, bool (*ready)(void *), void *subject,
                                                                struct lab_sleeper *sleeper, const _Atomic uint32_t *gone,
                                                                uint64_t deadline_ns)
{
    struct lab_wait_state state = {0};
    uint32_t polls = plan->wait == LAB_WAIT_SPIN || plan->wait == LAB_WAIT_ADAPTIVE ? LAB_WAIT_POLLS : 1;
    if (deadline_ns == 0)
        polls = 1;
    for (;;) {
        for (uint32_t i = 0; i < polls; i++) {
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
        if (step > 0) {
            if (ready(subject) || atomic_load_explicit(gone, memory_order_acquire))
                atomic_store_explicit(&sleeper->asleep, 0, memory_order_relaxed);
            else
                lab_wait_sleep(sleeper, deadline_ns);
            polls = 1;
        }
    }
}

#endif
