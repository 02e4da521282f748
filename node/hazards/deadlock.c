/* Two processes need the same two locks at once. When each takes the one first that the other takes second, both can end up with one
 * lock each and wait for the other for ever: what each holds and wants is written down, so that the circle is seen and not guessed. The guard is
 * an order in which everyone takes locks (Havender, Avoiding deadlock in multitasking systems, 1968). */
#include "node/hazards/box.h"
#include "node/hazards/hazards.h"

#include <math.h>

enum { PARTIES = 2, NOTHING = 0, LOOKS = 20 /* a circle that stands for so many milliseconds stands for ever */ };

struct table {
    _Atomic uint32_t arrived, guarded;
    _Alignas(128) pthread_mutex_t locks[2];
    _Alignas(128) struct {
        _Alignas(128) _Atomic uint32_t holds, wants; /* a lock plus one */
        _Atomic uint64_t rounds;
    } party[PARTIES];
};

static void lock_both(struct table *table, uint32_t number, uint32_t first, uint32_t second)
{
    atomic_store(&table->party[number].wants, first + 1);
    pthread_mutex_lock(&table->locks[first]);
    atomic_store(&table->party[number].holds, first + 1);
    atomic_store(&table->party[number].wants, second + 1);
    pthread_mutex_lock(&table->locks[second]);
    atomic_store(&table->party[number].wants, NOTHING);
}

static void philosopher(void *memory, uint32_t number, uint64_t deadline_ns)
{
    struct table *table = memory;
    uint32_t first = atomic_load(&table->guarded) ? 0 : number;
    lab_box_meet(&table->arrived, PARTIES, deadline_ns);
    while (lab_now_ns() < deadline_ns) {
        lock_both(table, number, first, 1 - first);
        atomic_fetch_add(&table->party[number].rounds, 1);
        atomic_store(&table->party[number].holds, NOTHING);
        pthread_mutex_unlock(&table->locks[1 - first]);
        pthread_mutex_unlock(&table->locks[first]);
    }
}

static uint64_t rounds_of(struct table *table)
{
    return atomic_load(&table->party[0].rounds) + atomic_load(&table->party[1].rounds);
}

/* Each holds what the other one wants. */
static bool is_circle(struct table *table)
{
    bool circle = true;
    for (int i = 0; i < PARTIES; i++) {
        uint32_t wants = atomic_load(&table->party[i].wants);
        circle = circle && wants != NOTHING && wants == atomic_load(&table->party[1 - i].holds);
    }
    return circle;
}

/* Until the deadline, or until the two stand in a circle in which nothing has moved for a while. */
static bool watch(struct table *table, uint64_t deadline_ns)
{
    uint64_t rounds = UINT64_MAX;
    for (int standing = 0; standing < LOOKS && lab_now_ns() < deadline_ns; lab_box_rest()) {
        uint64_t now = rounds_of(table);
        standing = now == rounds && is_circle(table) ? standing + 1 : 0;
        rounds = now;
        if (standing == LOOKS)
            return true;
    }
    return false;
}

static int show(bool guarded, uint64_t budget_ns, struct lab_hazard_seen *ret_seen)
{
    struct lab_box box;
    int err = lab_box_open(&box, sizeof(struct table), budget_ns);
    if (err)
        return err;
    struct table *table = box.segment.memory;
    atomic_store(&table->guarded, guarded);
    uint64_t began_ns = lab_now_ns();
    for (int i = 0; !err && i < 2; i++)
        err = lab_box_mutex(&table->locks[i], false);
    for (int i = 0; !err && i < PARTIES; i++)
        err = lab_box_start(&box, philosopher);
    bool stands = !err && watch(table, box.deadline_ns);
    for (uint32_t i = 0; stands && i < PARTIES; i++)
        lab_box_kill(&box, i);
    if (!err)
        err = lab_box_join(&box);
    if (!err) /* the round that did not end was tried too */
        *ret_seen = (struct lab_hazard_seen){rounds_of(table) + stands, stands, lab_now_ns() - began_ns, (double)NAN, (double)NAN};
    lab_box_close(&box);
    return err;
}

const struct lab_hazard lab_hazard_deadlock = {
    .name = "deadlock", .question = "What becomes of two processes that take the same two locks again and again?",
    .tried = "rounds", .wrong = "deadlocks",
    .guard = {"none", "one order of locks"},
    .expected = {"sooner or later each holds one lock and waits for the other, for ever", "both go on"},
    .show = show,
};
