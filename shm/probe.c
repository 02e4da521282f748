#include "shm/probe.h"

#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

enum {
    GROUP = 4,         /* round trips between two readings of the clock */
    GROUPS_MAX = 512,  /* groups kept for the median; later ones replace the oldest */
    POLLS = 1024,      /* looks between two readings of the clock while waiting */
};

/* Waits while the word is odd (`wanted` 0) or even (`wanted` 1). `absent`: the other side may not have come yet, and may need this cpu to
 * come: a library's thread here that is to carry a message to it. Once both are there nobody gives way, or each would miss the other. */
static inline int await_turn(struct lab_probe *probe, uint64_t wanted, bool absent, uint64_t deadline_ns, uint64_t *ret_word)
{
    for (;;) {
        for (int i = 0; i < POLLS; i++) {
            uint64_t word = atomic_load_explicit(&probe->word, memory_order_acquire);
            if ((word & 1) == wanted) {
                *ret_word = word;
                return 0;
            }
        }
        if (lab_now_ns() >= deadline_ns)
            return -EAGAIN;
        if (absent)
            sched_yield();
    }
}

static inline int round_trip(struct lab_probe *probe, uint64_t *word, bool absent, uint64_t deadline_ns)
{
    atomic_store_explicit(&probe->word, *word + 1, memory_order_release);
    return await_turn(probe, 0, absent, deadline_ns, word);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int lab_probe_lead(struct lab_probe *probe, uint32_t rounds, uint64_t deadline_ns, double *ret_handoff_ns)
{
    uint64_t took[GROUPS_MAX], word, clock_ns = UINT64_MAX;
    uint32_t groups = 0;
    int err = await_turn(probe, 0, true, deadline_ns, &word);
    /* The first round also waits for the follower to come. */
    if (!err)
        err = round_trip(probe, &word, true, deadline_ns);
    for (uint32_t done = 0; !err && done < rounds; groups++) {
        uint32_t group = rounds - done < GROUP ? rounds - done : GROUP;
        uint64_t before = lab_now_ns(), begin = lab_now_ns();
        for (uint32_t i = 0; !err && i < group; i++)
            err = round_trip(probe, &word, false, deadline_ns);
        uint64_t end = lab_now_ns();
        if (begin - before < clock_ns)
            clock_ns = begin - before;
        /* In tenths of a nanosecond per hand-over. */
        took[groups % GROUPS_MAX] = (end - begin) * 10 / (2 * group);
        done += group;
    }
    if (err)
        return err;
    uint32_t kept = groups < GROUPS_MAX ? groups : GROUPS_MAX;
    if (!kept)
        return lab_refuse(EINVAL, "a proximity probe of no rounds");
    uint32_t lower = (kept - 1) / 2, upper = kept / 2;
    qsort(took, kept, sizeof *took, ascending);
    double median = (double)(took[lower] + took[upper]) / 20 - (double)clock_ns / (2 * GROUP);
    *ret_handoff_ns = median > 0 ? median : 0;
    return 0;
}

int lab_probe_follow(struct lab_probe *probe, uint32_t rounds, uint64_t deadline_ns)
{
    for (uint32_t i = 0; i < rounds + 1; i++) {
        uint64_t word;
        int err = await_turn(probe, 1, i == 0, deadline_ns, &word);
        if (err)
            return err;
        atomic_store_explicit(&probe->word, word + 1, memory_order_release);
    }
    return 0;
}
