#include "shm/monitor.h"

#include "base/error.h"
#include "shm/wait.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

int lab_monitor_shape(const struct lab_buffer_config *config, struct lab_monitor_shape *ret_shape)
{
    struct lab_monitor_shape shape;
    int err = lab_buffer_shape(config, &shape.buffer);
    if (err)
        return err;
    shape.size = sizeof(struct lab_monitor_shared) + shape.buffer.size;
    *ret_shape = shape;
    return 0;
}

static void *buffer_of(void *memory)
{
    return (struct lab_monitor_shared *)memory + 1;
}

int lab_monitor_init(void *memory, const struct lab_monitor_shape *shape)
{
    struct lab_monitor_shared *shared = memory;
    memset(shared, 0, sizeof *shared);
    pthread_mutexattr_t attributes;
    int code = pthread_mutexattr_init(&attributes);
    if (!code)
        code = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (!code)
        code = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (!code)
        code = pthread_mutex_init(&shared->mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    if (code)
        return lab_fail(code, "no robust mutex between processes");
    lab_buffer_init(buffer_of(memory), &shape->buffer);
    return 0;
}

static int attach(struct lab_monitor *monitor, void *memory, size_t size, const struct lab_monitor_shape *shape, enum lab_buffer_side side,
                  uint32_t seat)
{
    if (size < shape->size)
        return lab_refuse(EBADMSG, "the shared memory (%zu bytes) does not hold a monitor of %zu", size, shape->size);
    struct lab_buffer buffer;
    int err = lab_buffer_attach(&buffer, buffer_of(memory), &shape->buffer, side, seat);
    if (!err)
        *monitor = (struct lab_monitor){.buffer = buffer, .shared = memory};
    return err;
}

int lab_monitor_produce(struct lab_monitor *producer, void *memory, size_t size, const struct lab_monitor_shape *shape, uint32_t seat)
{
    return attach(producer, memory, size, shape, LAB_BUFFER_PRODUCER, seat);
}

int lab_monitor_consume(struct lab_monitor *consumer, void *memory, size_t size, const struct lab_monitor_shape *shape, uint32_t seat)
{
    return attach(consumer, memory, size, shape, LAB_BUFFER_CONSUMER, seat);
}

void lab_monitor_hangup(void *memory, const struct lab_monitor_shape *shape, enum lab_buffer_side side, uint32_t seat)
{
    struct lab_monitor_shared *shared = memory;
    struct lab_buffer_seat *dead = lab_buffer_hangup(buffer_of(memory), &shape->buffer, side, seat);
    if (!dead)
        return;
    lab_condition_redeem(&shared->changed[side], &dead->note);
    for (int s = 0; s < 2; s++)
        lab_condition_broadcast(&shared->changed[s]);
}

/* ---- the lock ---- */

static int lock_until(pthread_mutex_t *mutex, uint64_t until_ns)
{
    struct timespec until = lab_timespec(until_ns);
#ifdef __SANITIZE_THREAD__ /* it does not know the other one, and holds the mutex for unlocked */
    struct timespec monotonic = lab_timespec(lab_ns_until(until_ns)), real;
    clock_gettime(CLOCK_REALTIME, &real);
    until = lab_timespec((uint64_t)(real.tv_sec + monotonic.tv_sec) * LAB_NS_PER_S + (uint64_t)(real.tv_nsec + monotonic.tv_nsec));
    return pthread_mutex_timedlock(mutex, &until);
#else
    return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &until);
#endif
}

/* 0, and then it is for the caller to unlock; -EAGAIN at the deadline; -EBADMSG, recorded. */
static int lock(struct lab_monitor *monitor, uint64_t deadline_ns)
{
    pthread_mutex_t *mutex = &monitor->shared->mutex;
    int code = pthread_mutex_trylock(mutex);
    while (code == EBUSY || code == ETIMEDOUT) {
        uint64_t now_ns = lab_now_ns();
        if (now_ns >= deadline_ns)
            return -EAGAIN;
        uint64_t slice_ns = now_ns + LAB_WAIT_SLICE_NS;
        code = lock_until(mutex, slice_ns < deadline_ns ? slice_ns : deadline_ns);
    }
    /* Whoever had it was killed. The buffer is whole at every instruction: there is nothing to undo before others may see it. */
    if (code == EOWNERDEAD)
        code = pthread_mutex_consistent(mutex);
    if (code)
        return lab_refuse(EBADMSG, "the mutex of the monitor was overwritten: %s", strerror(code));
    int err = lab_buffer_enter(&monitor->buffer);
    if (err)
        pthread_mutex_unlock(mutex);
    return err;
}

static void unlock(struct lab_monitor *monitor)
{
    struct lab_buffer_news news = lab_buffer_leave(&monitor->buffer);
    pthread_mutex_unlock(&monitor->shared->mutex);
    lab_condition_signal(&monitor->shared->changed[LAB_BUFFER_PRODUCER], news.places);
    lab_condition_signal(&monitor->shared->changed[LAB_BUFFER_CONSUMER], news.messages);
}

/* ---- taking ---- */

/* One look; if it was in vain, the party has joined those who wait. */
static int try_to_take(struct lab_monitor *monitor, uint32_t want, uint64_t deadline_ns, bool *ret_joined)
{
    struct lab_buffer *buffer = &monitor->buffer;
    int err = lock(monitor, deadline_ns);
    if (err)
        return err;
    err = lab_buffer_take(buffer, want);
    *ret_joined = err == -EAGAIN && deadline_ns;
    if (*ret_joined)
        lab_condition_join(&monitor->shared->changed[buffer->side], &buffer->own->note);
    unlock(monitor);
    return err;
}

static int take(struct lab_monitor *monitor, uint32_t want, uint64_t deadline_ns)
{
    struct lab_buffer *buffer = &monitor->buffer;
    struct lab_condition *changed = &monitor->shared->changed[buffer->side];
    for (;;) {
        uint32_t ticket = lab_condition_ticket(changed);
        bool joined = false, last = deadline_ns == 0 || lab_now_ns() >= deadline_ns;
        int err = try_to_take(monitor, want, last ? 0 : deadline_ns, &joined);
        if (joined)
            lab_condition_sleep(changed, &buffer->own->note, ticket, deadline_ns);
        if (err != -EAGAIN || last)
            return err;
    }
}

int lab_monitor_reserve(struct lab_monitor *producer, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct lab_buffer *buffer = &producer->buffer;
    if (length > buffer->message_max)
        return lab_refuse(EMSGSIZE, "a message of %u bytes in a monitor for %u", length, buffer->message_max);
    int err = buffer->held ? 0 : take(producer, want, deadline_ns);
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the consumers of the monitor are gone");
    if (err)
        return err;
    buffer->length = length;
    lab_buffer_lend(buffer, want, ret_span);
    return 0;
}

int lab_monitor_borrow(struct lab_monitor *consumer, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct lab_buffer *buffer = &consumer->buffer;
    int err = buffer->held ? 0 : take(consumer, want, deadline_ns);
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the producers of the monitor are gone");
    if (err)
        return err;
    lab_buffer_lend(buffer, want, ret_span);
    return 0;
}

/* ---- giving back ---- */

/* Without the lock what is given back can be seen all the same; whoever waits for it is told to look. */
static void give_back(struct lab_monitor *monitor, uint32_t count)
{
    struct lab_buffer *buffer = &monitor->buffer;
    bool locked = lock(monitor, lab_now_ns() + LAB_WAIT_SLICE_NS) == 0;
    if (buffer->side == LAB_BUFFER_PRODUCER)
        lab_buffer_commit(buffer, count, locked);
    else
        lab_buffer_release(buffer, count);
    if (locked)
        unlock(monitor);
    else
        lab_condition_broadcast(&monitor->shared->changed[1 - buffer->side]);
}

void lab_monitor_commit(struct lab_monitor *producer, uint32_t count)
{
    give_back(producer, count);
}

void lab_monitor_release(struct lab_monitor *consumer, uint32_t count)
{
    if (count)
        give_back(consumer, count);
}
