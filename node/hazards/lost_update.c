/* Two processes add to one counter. Reading, adding and writing back are three steps, and what the other one has written between the first
 * and the last is overwritten. The guard is one atomic addition. */
#include "node/hazards/box.h"
#include "node/hazards/hazards.h"

#include <math.h>

enum { PARTIES = 2, ADDS_MAX = 3000000, BETWEEN_CLOCKS = 1024 };

struct tally {
    _Atomic uint32_t arrived, guarded;
    _Alignas(128) _Atomic uint64_t counter;
    _Alignas(128) uint64_t added[PARTIES];
};

static void add_unguarded(_Atomic uint64_t *counter)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + 1, memory_order_relaxed);
}

static void adder(void *memory, uint32_t number, uint64_t deadline_ns)
{
    struct tally *tally = memory;
    bool guarded = atomic_load(&tally->guarded);
    uint64_t added = 0;
    lab_box_meet(&tally->arrived, PARTIES, deadline_ns);
    for (; added < ADDS_MAX && (added % BETWEEN_CLOCKS || lab_now_ns() < deadline_ns); added++) {
        if (guarded)
            atomic_fetch_add_explicit(&tally->counter, 1, memory_order_relaxed);
        else
            add_unguarded(&tally->counter);
    }
    tally->added[number] = added;
}

static int show(bool guarded, uint64_t budget_ns, struct lab_hazard_seen *ret_seen)
{
    struct lab_box box;
    int err = lab_box_open(&box, sizeof(struct tally), budget_ns);
    if (err)
        return err;
    struct tally *tally = box.segment.memory;
    atomic_store(&tally->guarded, guarded);
    uint64_t began_ns = lab_now_ns();
    for (int i = 0; !err && i < PARTIES; i++)
        err = lab_box_start(&box, adder);
    if (!err)
        err = lab_box_join(&box);
    uint64_t added = tally->added[0] + tally->added[1];
    if (!err)
        *ret_seen = (struct lab_hazard_seen){added, added - atomic_load(&tally->counter), lab_now_ns() - began_ns, (double)NAN, (double)NAN};
    lab_box_close(&box);
    return err;
}

const struct lab_hazard lab_hazard_lost_update = {
    .name = "lost-update", .question = "What does a counter show to which two processes have added?",
    .tried = "additions", .wrong = "lost",
    .guard = {"none", "atomic addition"},
    .expected = {"less than was added: one writes back what the other one has outdated", "exactly what was added"},
    .show = show,
};
