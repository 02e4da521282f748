#include "shm/condition.h"

#include "shm/wait.h"

#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Shared between processes: no FUTEX_PRIVATE_FLAG. */
static void futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *until)
{
    syscall(SYS_futex, word, operation, value, until, NULL, FUTEX_BITSET_MATCH_ANY);
}

/* Killed between the two it is counted and has no note: counted for ever, which costs system calls and no wake-up. */
void lab_condition_join(struct lab_condition *condition, _Atomic uint32_t *note)
{
    atomic_fetch_add(&condition->waiting, 1);
    atomic_store(note, 1);
}

/* Of the waiter and the one who cleans up after it, one counts it out. */
void lab_condition_redeem(struct lab_condition *condition, _Atomic uint32_t *note)
{
    if (atomic_exchange(note, 0))
        atomic_fetch_sub(&condition->waiting, 1);
}

void lab_condition_sleep(struct lab_condition *condition, _Atomic uint32_t *note, uint32_t ticket, uint64_t deadline_ns)
{
    uint64_t until_ns = lab_now_ns() + LAB_WAIT_SLICE_NS;
    struct timespec until = lab_timespec(until_ns < deadline_ns ? until_ns : deadline_ns);
    futex(&condition->sequence, FUTEX_WAIT_BITSET, ticket, &until);
    lab_condition_redeem(condition, note);
}

void lab_condition_signal(struct lab_condition *condition, uint32_t count)
{
    if (!count || !atomic_load_explicit(&condition->waiting, memory_order_relaxed))
        return;
    atomic_fetch_add(&condition->sequence, 1);
    futex(&condition->sequence, FUTEX_WAKE, count < INT_MAX ? count : INT_MAX, NULL);
}

void lab_condition_broadcast(struct lab_condition *condition)
{
    atomic_fetch_add(&condition->sequence, 1);
    futex(&condition->sequence, FUTEX_WAKE, INT_MAX, NULL);
}
