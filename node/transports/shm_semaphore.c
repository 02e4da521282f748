/* shm-semaphore: the bounded buffer with three semaphores (shm/semaphore.h). What a dead peer held, the lock included, comes back by
 * hangup. */
#include "node/transports/memory.h"

#include "base/error.h"
#include "shm/semaphore.h"

struct semaphore_end {
    struct lab_end end;
    struct lab_segment segment;
    struct lab_semaphore_shape shape;
    struct lab_semaphore party;
};

_Static_assert((int)LAB_TX == (int)LAB_BUFFER_PRODUCER && (int)LAB_RX == (int)LAB_BUFFER_CONSUMER, "one numbering of roles");

static int shape_of(const struct lab_channel *channel, struct lab_semaphore_shape *ret_shape)
{
    /* All share one buffer: a window of each producer fits. */
    uint32_t producers = lab_seats(channel, LAB_TX);
    const struct lab_buffer_config config = {
        .message_max = channel->message_max, .window = channel->window * producers, .producers = producers,
        .consumers = lab_seats(channel, LAB_RX), .batch = channel->batch};
    return lab_semaphore_shape(&config, ret_shape);
}

/* ---- the node's side ---- */

static int semaphore_memory(const struct lab_channel *channel, size_t *ret_bytes)
{
    struct lab_semaphore_shape shape;
    int err = shape_of(channel, &shape);
    if (!err)
        *ret_bytes = shape.size;
    return err;
}

static int semaphore_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct lab_semaphore_shape shape;
    struct lab_segment segment;
    int err = shape_of(channel, &shape);
    if (!err)
        err = lab_memory_make(channel, "semaphore", shape.size, &segment);
    if (err)
        return lab_while(err, "making a buffer with semaphores of %u messages of %u bytes", channel->window, channel->message_max);
    err = lab_semaphore_init(segment.memory, &shape);
    if (err) {
        lab_segment_fini(&segment);
        return err;
    }
    return lab_memory_hand_over(&segment, ret_wire);
}

static void semaphore_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead)
{
    struct lab_semaphore_shape shape;
    struct lab_segment segment;
    /* Made by semaphore_provision: it can be mapped, or the machine has no memory left to tell anyone anything. */
    if (shape_of(channel, &shape) || lab_memory_map(channel, wire, dead, 0, &segment))
        return;
    lab_semaphore_hangup(segment.memory, &shape, (enum lab_buffer_side)dead, wire->seat);
    lab_segment_fini(&segment);
}

/* ---- the worker's ---- */

static struct semaphore_end *semaphore_of(struct lab_end *end)
{
    return (struct semaphore_end *)end;
}

static int semaphore_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct semaphore_end *semaphore = semaphore_of(end);
    struct lab_segment *segment = &semaphore->segment;
    int err = shape_of(&end->channel, &semaphore->shape);
    if (!err)
        err = lab_memory_map(&end->channel, &end->wire, end->role, deadline_ns, segment);
    if (err)
        return err;
    err = end->role == LAB_TX ? lab_semaphore_produce(&semaphore->party, segment->memory, segment->size, &semaphore->shape, end->wire.seat)
                              : lab_semaphore_consume(&semaphore->party, segment->memory, segment->size, &semaphore->shape, end->wire.seat);
    if (err)
        lab_segment_fini(segment);
    else
        lab_memory_mapped(end);
    return err;
}

static void semaphore_close(struct lab_end *end)
{
    struct semaphore_end *semaphore = semaphore_of(end);
    lab_semaphore_hangup(semaphore->segment.memory, &semaphore->shape, (enum lab_buffer_side)end->role, end->wire.seat);
    lab_segment_fini(&semaphore->segment);
}

static int semaphore_reserve(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    return lab_semaphore_reserve(&semaphore_of(end)->party, length, want, deadline_ns, ret_span);
}

static void semaphore_commit(struct lab_end *end, uint32_t count)
{
    lab_semaphore_commit(&semaphore_of(end)->party, count);
}

static int semaphore_borrow(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    return lab_semaphore_borrow(&semaphore_of(end)->party, want, deadline_ns, ret_span);
}

static void semaphore_release(struct lab_end *end, uint32_t count)
{
    lab_semaphore_release(&semaphore_of(end)->party, count);
}

const struct lab_transport_ops lab_ops_shm_semaphore = {
    .name = "shm-semaphore",
    .end_bytes = sizeof(struct semaphore_end),
    .provision = semaphore_provision,
    .retire = lab_memory_retire,
    .hangup = semaphore_hangup,
    .memory = semaphore_memory,
    .open = semaphore_open,
    .close = semaphore_close,
    .reserve = semaphore_reserve,
    .commit = semaphore_commit,
    .borrow = semaphore_borrow,
    .release = semaphore_release,
};
