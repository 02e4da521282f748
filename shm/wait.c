#include "shm/wait.h"

#include "base/error.h"
#include "base/fiber.h"

#include <assert.h>
#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Well above the 20 to 30 us that a futex wake-up takes between two cores. */
enum { SPIN_US = 60, YIELDS = 32 };

static const struct {
    const char *name, *summary;
} waits[LAB_WAITS] = {
    [LAB_WAIT_SPIN] = {"spin", "polls: the shortest latency, for a whole core"},
    [LAB_WAIT_YIELD] = {"yield", "polls, and gives the core away between polls (sched_yield)"},
    [LAB_WAIT_ADAPTIVE] = {"adaptive", "polls for longer than a wake-up costs, then yields, then sleeps on a futex"},
    [LAB_WAIT_FUTEX] = {"futex", "sleeps on a futex until the other side wakes it"},
    [LAB_WAIT_BLOCK] = {"block", "the kernel's or the library's own blocking call"},
};

const char *lab_wait_name(enum lab_wait wait)
{
    return wait < LAB_WAITS ? waits[wait].name : NULL;
}

const char *lab_wait_summary(enum lab_wait wait)
{
    return wait < LAB_WAITS ? waits[wait].summary : NULL;
}

int lab_wait_named(const char *name, enum lab_wait *ret_wait)
{
    for (enum lab_wait wait = 0; wait < LAB_WAITS; wait++)
        if (strcmp(waits[wait].name, name) == 0) {
            *ret_wait = wait;
            return 0;
        }
    return lab_refuse(EINVAL, "there is no wait named '%s'", name);
}

struct lab_wait_plan lab_wait_plan(enum lab_wait wait)
{
    assert(wait < LAB_WAIT_BLOCK);
    return (struct lab_wait_plan){
        .wait = wait,
        .sleeps = wait == LAB_WAIT_ADAPTIVE || wait == LAB_WAIT_FUTEX,
        .spin_ns = SPIN_US * LAB_NS_PER_US,
        .yields = YIELDS,
    };
}

/* The futex is shared between processes: no FUTEX_PRIVATE_FLAG. */
static long futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *until)
{
    return syscall(SYS_futex, word, operation, value, until, NULL, FUTEX_BITSET_MATCH_ANY);
}

bool lab_wait_wake_now(struct lab_sleeper *sleeper)
{
    return atomic_exchange_explicit(&sleeper->asleep, 0, memory_order_relaxed) && futex(&sleeper->asleep, FUTEX_WAKE, 1, NULL) > 0;
}

void lab_wait_sleep(struct lab_sleeper *sleeper, uint64_t deadline_ns)
{
    uint64_t until_ns = lab_now_ns() + LAB_WAIT_SLICE_NS;
    struct timespec until = lab_timespec(until_ns < deadline_ns ? until_ns : deadline_ns);
    futex(&sleeper->asleep, FUTEX_WAIT_BITSET, 1, &until);
    /* Woken, too late, interrupted by a signal: the caller looks for itself. */
    atomic_store_explicit(&sleeper->asleep, 0, memory_order_relaxed);
}

static int prepare_to_sleep(struct lab_sleeper *sleeper)
{
    atomic_store_explicit(&sleeper->asleep, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return 1;
}

int lab_wait_step(const struct lab_wait_plan *plan, struct lab_wait_state *state, struct lab_sleeper *sleeper, uint64_t deadline_ns)
{
    uint32_t round = state->rounds++;
    bool yields = plan->wait == LAB_WAIT_YIELD;
    if (deadline_ns == 0)
        return -EAGAIN;
    uint64_t now_ns = 0;
    if (!yields || round % LAB_WAIT_YIELDS == 0) {
        now_ns = lab_now_ns();
        if (now_ns >= deadline_ns)
            return -EAGAIN;
    }
    if (plan->wait == LAB_WAIT_SPIN)
        return 0;
    if (plan->wait == LAB_WAIT_FUTEX)
        return prepare_to_sleep(sleeper);
    if (plan->wait == LAB_WAIT_ADAPTIVE) {
        if (round == 0)
            state->began_ns = now_ns;
        if (now_ns - state->began_ns < plan->spin_ns)
            return 0;
        if (++state->yields > plan->yields)
            return prepare_to_sleep(sleeper);
    }
    if (!lab_fiber_yield())
        sched_yield();
    return 0;
}
