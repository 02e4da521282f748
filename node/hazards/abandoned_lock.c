/* A process is killed while it has a lock, and another one waits for it. Of an ordinary mutex nobody learns that: the waiter waits for ever.
 * The guard is a robust mutex: the kernel finds it in the list of the dead thread and lets the next one have it, with EOWNERDEAD, so that it
 * can mend what the dead one left (set_robust_list(2)). */
#include "node/hazards/box.h"
#include "node/hazards/hazards.h"

#include "base/error.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { HOLDER, WAITER, DEATHS_MAX = 50, STAGE_S = 10 /* until both are where they have to be, on a busy machine */ };

struct room {
    _Alignas(128) pthread_mutex_t mutex;
    _Alignas(128) _Atomic uint32_t held, waiting;
    uint64_t patience_ns;        /* of the waiter */
    _Atomic uint64_t went_on_ns; /* 0: it did not */
};

static void holder(void *memory, uint32_t number, uint64_t deadline_ns)
{
    (void)number;
    struct room *room = memory;
    pthread_mutex_lock(&room->mutex);
    atomic_store(&room->held, 1);
    while (lab_now_ns() < deadline_ns)
        lab_box_rest();
}

static void waiter(void *memory, uint32_t number, uint64_t deadline_ns)
{
    (void)number;
    struct room *room = memory;
    while (!atomic_load(&room->held))
        lab_box_rest();
    uint64_t until_ns = lab_now_ns() + room->patience_ns;
    const struct timespec until = lab_timespec(until_ns < deadline_ns ? until_ns : deadline_ns);
    atomic_store(&room->waiting, 1);
    int code = pthread_mutex_clocklock(&room->mutex, CLOCK_MONOTONIC, &until);
    if (code == EOWNERDEAD)
        code = pthread_mutex_consistent(&room->mutex);
    if (code)
        return;
    atomic_store(&room->went_on_ns, lab_now_ns());
    pthread_mutex_unlock(&room->mutex);
}

/* One death. `*ret_recovery_ns` 0: nobody went on. */
static int one_death(bool robust, uint64_t patience_ns, uint64_t *ret_recovery_ns)
{
    struct lab_box box;
    int err = lab_box_open(&box, sizeof(struct room), STAGE_S * LAB_NS_PER_S + patience_ns);
    if (err)
        return err;
    struct room *room = box.segment.memory;
    room->patience_ns = patience_ns;
    err = lab_box_mutex(&room->mutex, robust);
    if (!err)
        err = lab_box_start(&box, holder);
    if (!err)
        err = lab_box_start(&box, waiter);
    while (!err && !atomic_load(&room->waiting) && lab_now_ns() < box.deadline_ns)
        lab_box_rest();
    if (!err && !atomic_load(&room->waiting))
        err = lab_refuse(ETIME, "within %d s nobody waited for the lock", STAGE_S);
    lab_box_rest(); /* it is about to sleep */
    uint64_t killed_ns = lab_now_ns();
    lab_box_kill(&box, HOLDER);
    if (!err)
        err = lab_box_join(&box);
    uint64_t went_on_ns = atomic_load(&room->went_on_ns);
    *ret_recovery_ns = went_on_ns ? went_on_ns - killed_ns : 0;
    lab_box_close(&box);
    return err;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Deaths until the budget is used up; a waiter that is left waiting uses up all of it. */
static int show(bool guarded, uint64_t budget_ns, struct lab_hazard_seen *ret_seen)
{
    uint64_t recovery_ns[DEATHS_MAX], recovery = 0, began_ns = lab_now_ns(), end_ns = began_ns + budget_ns;
    struct lab_hazard_seen seen = {.recovery_ns = (double)NAN, .recovery_worst_ns = (double)NAN};
    size_t recoveries = 0;
    while (seen.tried < DEATHS_MAX && lab_now_ns() < end_ns) {
        int err = one_death(guarded, budget_ns, &recovery);
        if (err)
            return err;
        seen.tried++;
        seen.wrong += !recovery;
        if (recovery)
            recovery_ns[recoveries++] = recovery;
    }
    seen.took_ns = lab_now_ns() - began_ns;
    if (recoveries) {
        qsort(recovery_ns, recoveries, sizeof *recovery_ns, ascending);
        uint64_t lower = recovery_ns[(recoveries - 1) / 2], upper = recovery_ns[recoveries / 2];
        seen.recovery_ns = (double)(lower + upper) / 2;
        seen.recovery_worst_ns = (double)recovery_ns[recoveries - 1];
    }
    *ret_seen = seen;
    return 0;
}

const struct lab_hazard lab_hazard_abandoned_lock = {
    .name = "abandoned-lock", .question = "What becomes of the one who waits for a lock whose holder is killed?",
    .tried = "deaths", .wrong = "left waiting",
    .guard = {"none", "robust mutex"},
    .expected = {"it waits for ever; here, until the box is closed", "the kernel lets it have the lock and tells it so"},
    .show = show,
};
