#include "shm/wait.h"

#include "base/error.h"
#include "base/fiber.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SPIN_US = 60,      /* well above the 20 to 30 us that a wake-up takes between two cores */
    SHORT_POLLS = 32,  /* adaptive: looks between two readings of the clock, about 1 us */
    YIELDS = 32,       /* adaptive: to another side on this cpu, which may not be the next in the queue */
    QUICK_NS = 1500,   /* a yield that is back by then, without two switches, found nobody else */
    CROWD_TRUST = 16,  /* vain polls for which others are taken to want the cpu, once they were seen to */
    BESIDE_TRUST = 256 /* waits of a thread that believe where their side was woken from; then one finds out anew */
};

static const struct {
    const char *name, *summary;
} waits[LAB_WAITS] = {
    [LAB_WAIT_SPIN] = {"spin", "polls: the shortest latency, for a whole core"},
    [LAB_WAIT_YIELD] = {"yield", "polls, and gives the core away between polls (sched_yield)"},
    [LAB_WAIT_ADAPTIVE] = {"adaptive", "polls, yields or sleeps on a futex, by who else wants the core and where the other side runs"},
    [LAB_WAIT_FUTEX] = {"futex", "sleeps on a futex until the other side wakes it"},
    [LAB_WAIT_BLOCK] = {"block", "the kernel's or the library's own blocking call"},
    [LAB_WAIT_POLL] = {"poll", "sleeps in poll(2), as in an event loop: on the descriptor, or on an eventfd beside shared memory"},
    [LAB_WAIT_SEMAPHORE] = {"semaphore", "sleeps in a semaphore until the other side posts"},
    [LAB_WAIT_CONDVAR] = {"condvar", "unlocks and sleeps on a condition variable until the other side signals"},
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
    assert(wait < LAB_WAIT_BLOCK || wait == LAB_WAIT_POLL);
    return (struct lab_wait_plan){
        .wait = wait,
        .sleeps = wait != LAB_WAIT_SPIN && wait != LAB_WAIT_YIELD,
        .polls = wait == LAB_WAIT_SPIN ? LAB_WAIT_POLLS : wait == LAB_WAIT_ADAPTIVE ? SHORT_POLLS : 1,
        .yields = wait == LAB_WAIT_ADAPTIVE ? YIELDS : 0,
        .spin_ns = SPIN_US * LAB_NS_PER_US,
        .bells = {-1, -1},
    };
}

/* ---- waking ---- */

/* The futex is shared between processes: no FUTEX_PRIVATE_FLAG. */
static long futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *until)
{
    return syscall(SYS_futex, word, operation, value, until, NULL, FUTEX_BITSET_MATCH_ANY);
}

bool lab_wait_wake_now(struct lab_sleeper *sleeper)
{
    atomic_store_explicit(&sleeper->woken_from, (uint32_t)sched_getcpu() + 1, memory_order_relaxed);
    return atomic_exchange_explicit(&sleeper->asleep, 0, memory_order_relaxed) && futex(&sleeper->asleep, FUTEX_WAKE, 1, NULL) > 0;
}

void lab_wait_wake_now_by(const struct lab_wait_plan *plan, struct lab_sleeper *sleeper)
{
    if (plan->wait != LAB_WAIT_POLL)
        lab_wait_wake_now(sleeper);
    else if (atomic_exchange_explicit(&sleeper->asleep, 0, memory_order_relaxed))
        lab_bell_ring(plan->bells.peer);
}

/* ---- bells ---- */

int lab_bells_make(struct lab_bells ret_bells[2])
{
    struct lab_bells bells[2] = {{-1, -1}, {-1, -1}};
    for (int side = 0; side < 2; side++) {
        bells[side].own = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        bells[!side].peer = bells[side].own < 0 ? -1 : fcntl(bells[side].own, F_DUPFD_CLOEXEC, 0);
        if (bells[!side].peer >= 0)
            continue;
        int err = lab_fail(errno, "cannot make an eventfd to sleep on");
        lab_bells_close(&bells[0]);
        lab_bells_close(&bells[1]);
        return err;
    }
    memcpy(ret_bells, bells, sizeof bells);
    return 0;
}

void lab_bells_close(struct lab_bells *bells)
{
    if (bells->own >= 0)
        close(bells->own);
    if (bells->peer >= 0)
        close(bells->peer);
    *bells = (struct lab_bells){-1, -1};
}

void lab_bell_ring(int bell)
{
    const uint64_t once = 1;
    /* One that was rung 2^64 - 2 times and never heard takes no more, and is readable. */
    if (bell >= 0 && write(bell, &once, sizeof once) < 0)
        return;
}

/* ---- sleeping ---- */

void lab_wait_disarm(const struct lab_wait_plan *plan, struct lab_sleeper *sleeper)
{
    uint64_t ignored;
    atomic_store_explicit(&sleeper->asleep, 0, memory_order_relaxed);
    if (plan->wait == LAB_WAIT_POLL && read(plan->bells.own, &ignored, sizeof ignored) < 0)
        return; /* it was quiet */
}

void lab_wait_sleep(const struct lab_wait_plan *plan, struct lab_sleeper *sleeper, uint64_t deadline_ns)
{
    uint64_t now_ns = lab_now_ns(), until_ns = now_ns + LAB_WAIT_SLICE_NS;
    if (deadline_ns < until_ns)
        until_ns = deadline_ns;
    if (plan->wait == LAB_WAIT_POLL) {
        struct pollfd bell = {.fd = plan->bells.own, .events = POLLIN};
        struct timespec within = lab_timespec(until_ns > now_ns ? until_ns - now_ns : 0);
        ppoll(&bell, 1, &within, NULL);
    } else {
        struct timespec until = lab_timespec(until_ns);
        futex(&sleeper->asleep, FUTEX_WAIT_BITSET, 1, &until);
    }
    /* Woken, too late, interrupted by a signal: the caller looks for itself. */
    lab_wait_disarm(plan, sleeper);
}

/* To the next fiber, or to whoever else wants the cpu. */
static void give_way(void)
{
    if (!lab_fiber_yield())
        sched_yield();
}

static int sleep_next(struct lab_wait_state *state)
{
    state->polls = 1;
    return 1;
}

/* ---- adaptive ---- */

/* What a thread has found out about the cpu that it runs on. */
static _Thread_local struct {
    uint32_t crowded; /* so many more vain polls take it that others want the cpu */
    uint32_t beside;  /* so many waits took it that the other side is on this cpu */
} seen;

void lab_wait_begin(struct lab_wait_state *state, struct lab_sleeper *sleeper)
{
    if (atomic_load_explicit(&sleeper->woken_from, memory_order_relaxed) != (uint32_t)sched_getcpu() + 1)
        return;
    if (++seen.beside % BESIDE_TRUST == 0) {
        atomic_store_explicit(&sleeper->woken_from, 0, memory_order_relaxed);
        return;
    }
    state->beside = true;
    state->polls = 1;
}

/* The other side can only run when this one does not. */
static int step_beside(const struct lab_wait_plan *plan, struct lab_wait_state *state, struct lab_sleeper *sleeper, uint64_t now_ns)
{
    if (state->yields && now_ns - state->turn_ns < QUICK_NS) {
        atomic_store_explicit(&sleeper->woken_from, 0, memory_order_relaxed);
        state->beside = false;
        state->polls = plan->polls;
        state->turn_ns = now_ns;
        return 0;
    }
    if (state->yields++ >= plan->yields)
        return sleep_next(state);
    state->turn_ns = now_ns;
    give_way();
    return 0;
}

static int step_adaptive(const struct lab_wait_plan *plan, struct lab_wait_state *state, struct lab_sleeper *sleeper, uint64_t now_ns)
{
    if (state->rounds == 1)
        state->began_ns = state->turn_ns = now_ns;
    if (state->beside)
        return step_beside(plan, state, sleeper, now_ns);
    if (now_ns - state->turn_ns < plan->spin_ns / LAB_WAIT_CROWD)
        return 0;
    if (seen.crowded) {
        seen.crowded--;
        return sleep_next(state);
    }
    if (now_ns - state->began_ns >= plan->spin_ns)
        return sleep_next(state);
    give_way();
    state->turn_ns = lab_now_ns();
    if (state->turn_ns - now_ns >= QUICK_NS)
        seen.crowded = CROWD_TRUST;
    return 0;
}

/* ---- a step of any wait ---- */

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
    if (plan->wait == LAB_WAIT_ADAPTIVE)
        return step_adaptive(plan, state, sleeper, now_ns);
    if (!yields && state->yields++ >= plan->yields)
        return sleep_next(state);
    give_way();
    return 0;
}
