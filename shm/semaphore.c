#include "shm/semaphore.h"

#include "base/error.h"
#include "shm/wait.h"

#include <errno.h>
#include <string.h>

int lab_semaphore_shape(const struct lab_buffer_config *config, struct lab_semaphore_shape *ret_shape)
{
    struct lab_semaphore_shape shape;
    int err = lab_buffer_shape(config, &shape.buffer);
    if (err)
        return err;
    shape.size = sizeof(struct lab_semaphore_shared) + shape.buffer.size;
    *ret_shape = shape;
    return 0;
}

static void *buffer_of(void *memory)
{
    return (struct lab_semaphore_shared *)memory + 1;
}

int lab_semaphore_init(void *memory, const struct lab_semaphore_shape *shape)
{
    struct lab_semaphore_shared *shared = memory;
    memset(shared, 0, sizeof *shared);
    if (sem_init(&shared->counted[LAB_BUFFER_PRODUCER], 1, shape->buffer.places) < 0 ||
        sem_init(&shared->counted[LAB_BUFFER_CONSUMER], 1, 0) < 0 || sem_init(&shared->mutex, 1, 1) < 0)
        return lab_fail(errno, "no semaphores between processes");
    lab_buffer_init(buffer_of(memory), &shape->buffer);
    return 0;
}

/* Of a seat, in the word `holder`. */
static uint32_t name_of(const struct lab_semaphore_shape *shape, enum lab_buffer_side side, uint32_t seat)
{
    return 1 + seat + (side == LAB_BUFFER_PRODUCER ? 0 : shape->buffer.config.producers);
}

static int attach(struct lab_semaphore *semaphore, void *memory, size_t size, const struct lab_semaphore_shape *shape,
                  enum lab_buffer_side side, uint32_t seat)
{
    if (size < shape->size)
        return lab_refuse(EBADMSG, "the shared memory (%zu bytes) does not hold a buffer with semaphores of %zu", size, shape->size);
    struct lab_buffer buffer;
    int err = lab_buffer_attach(&buffer, buffer_of(memory), &shape->buffer, side, seat);
    if (!err)
        *semaphore = (struct lab_semaphore){.buffer = buffer, .shared = memory, .me = name_of(shape, side, seat)};
    return err;
}

int lab_semaphore_produce(struct lab_semaphore *producer, void *memory, size_t size, const struct lab_semaphore_shape *shape, uint32_t seat)
{
    return attach(producer, memory, size, shape, LAB_BUFFER_PRODUCER, seat);
}

int lab_semaphore_consume(struct lab_semaphore *consumer, void *memory, size_t size, const struct lab_semaphore_shape *shape, uint32_t seat)
{
    return attach(consumer, memory, size, shape, LAB_BUFFER_CONSUMER, seat);
}

static void post(sem_t *semaphore, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sem_post(semaphore);
}

void lab_semaphore_hangup(void *memory, const struct lab_semaphore_shape *shape, enum lab_buffer_side side, uint32_t seat)
{
    struct lab_semaphore_shared *shared = memory;
    struct lab_buffer_seat *dead = lab_buffer_hangup(buffer_of(memory), &shape->buffer, side, seat);
    if (!dead)
        return;
    if (atomic_exchange(&dead->note, 0)) {
        uint32_t holder = name_of(shape, side, seat);
        atomic_compare_exchange_strong(&shared->holder, &holder, 0);
        sem_post(&shared->mutex);
    }
    post(&shared->counted[LAB_BUFFER_PRODUCER], shape->buffer.config.producers);
    post(&shared->counted[LAB_BUFFER_CONSUMER], shape->buffer.config.consumers);
}

/* ---- waiting ---- */

/* Takes from a semaphore, waiting for a slice at most. 0; -EAGAIN: the slice or the time until the deadline (0: none) has passed. */
static int wait_for(sem_t *semaphore, uint64_t deadline_ns)
{
    if (sem_trywait(semaphore) == 0)
        return 0;
    uint64_t until_ns = lab_now_ns() + LAB_WAIT_SLICE_NS;
    struct timespec until = lab_timespec(until_ns < deadline_ns ? until_ns : deadline_ns);
    return deadline_ns && sem_clockwait(semaphore, CLOCK_MONOTONIC, &until) == 0 ? 0 : -EAGAIN;
}

/* ---- the lock ---- */

static void unlock(struct lab_semaphore *semaphore)
{
    struct lab_semaphore_shared *shared = semaphore->shared;
    struct lab_buffer_news news = lab_buffer_leave(&semaphore->buffer);
    atomic_store_explicit(&shared->holder, 0, memory_order_release);
    sem_post(&shared->mutex);
    atomic_store(&semaphore->buffer.own->note, 0);
    post(&shared->counted[LAB_BUFFER_PRODUCER], news.places);
    post(&shared->counted[LAB_BUFFER_CONSUMER], news.messages);
}

/* 0, and then it is for the caller to unlock; -EAGAIN at the deadline; -EBADMSG, recorded. A permission of the lock that comes while
 * somebody has it is the one too many. */
static int lock(struct lab_semaphore *semaphore, uint64_t deadline_ns)
{
    struct lab_semaphore_shared *shared = semaphore->shared;
    atomic_store(&semaphore->buffer.own->note, 1);
    for (;;) {
        uint32_t nobody = 0;
        if (wait_for(&shared->mutex, deadline_ns) == 0 && atomic_compare_exchange_strong(&shared->holder, &nobody, semaphore->me))
            break;
        if (!deadline_ns || lab_now_ns() >= deadline_ns) {
            atomic_store(&semaphore->buffer.own->note, 0);
            return -EAGAIN;
        }
    }
    int err = lab_buffer_enter(&semaphore->buffer);
    if (err)
        unlock(semaphore);
    return err;
}

/* ---- taking ---- */

/* One look, with permission or without; what is taken beyond that is taken from the semaphore as well, as far as it goes. */
static int try_to_take(struct lab_semaphore *semaphore, uint32_t want, bool permitted, uint64_t deadline_ns)
{
    struct lab_buffer *buffer = &semaphore->buffer;
    sem_t *counted = &semaphore->shared->counted[buffer->side];
    int err = lock(semaphore, deadline_ns);
    if (err) {
        post(counted, permitted);
        return err;
    }
    err = lab_buffer_take(buffer, want);
    for (uint32_t i = permitted; !err && i < buffer->held && sem_trywait(counted) == 0; i++)
        ;
    unlock(semaphore);
    return err;
}

static int take(struct lab_semaphore *semaphore, uint32_t want, uint64_t deadline_ns)
{
    struct lab_buffer *buffer = &semaphore->buffer;
    for (;;) {
        bool last = deadline_ns == 0 || lab_now_ns() >= deadline_ns;
        bool over = lab_buffer_gone(buffer, (enum lab_buffer_side)(1 - buffer->side));
        bool permitted = wait_for(&semaphore->shared->counted[buffer->side], over || last ? 0 : deadline_ns) == 0;
        if (last && !permitted && !over)
            return -EAGAIN;
        int err = try_to_take(semaphore, want, permitted, deadline_ns);
        if (err != -EAGAIN || last)
            return err;
    }
}

int lab_semaphore_reserve(struct lab_semaphore *producer, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct lab_buffer *buffer = &producer->buffer;
    if (length > buffer->message_max)
        return lab_refuse(EMSGSIZE, "a message of %u bytes in a buffer for %u", length, buffer->message_max);
    int err = buffer->held ? 0 : take(producer, want, deadline_ns);
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the consumers of the buffer are gone");
    if (err)
        return err;
    buffer->length = length;
    lab_buffer_lend(buffer, want, ret_span);
    return 0;
}

int lab_semaphore_borrow(struct lab_semaphore *consumer, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct lab_buffer *buffer = &consumer->buffer;
    int err = buffer->held ? 0 : take(consumer, want, deadline_ns);
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the producers of the buffer are gone");
    if (err)
        return err;
    lab_buffer_lend(buffer, want, ret_span);
    return 0;
}

/* ---- giving back ---- */

/* Without the lock what is given back can be seen all the same; whoever waits for it may look. */
static void give_back(struct lab_semaphore *semaphore, uint32_t count)
{
    struct lab_buffer *buffer = &semaphore->buffer;
    bool locked = lock(semaphore, lab_now_ns() + LAB_WAIT_SLICE_NS) == 0;
    if (buffer->side == LAB_BUFFER_PRODUCER)
        lab_buffer_commit(buffer, count, locked);
    else
        lab_buffer_release(buffer, count);
    if (locked)
        unlock(semaphore);
    else
        post(&semaphore->shared->counted[1 - buffer->side], count);
}

void lab_semaphore_commit(struct lab_semaphore *producer, uint32_t count)
{
    give_back(producer, count);
}

void lab_semaphore_release(struct lab_semaphore *consumer, uint32_t count)
{
    if (count)
        give_back(consumer, count);
}
