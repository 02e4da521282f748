/* shm-queue: a queue of many producers and many consumers (shm/queue.h). The kernel does not tell about a dead peer: hangup marks it in
 * the queue, takes back what it held, and wakes whoever sleeps there. */
#include "node/transports/memory.h"

#include "base/error.h"
#include "shm/queue.h"

struct queue_end {
    struct lab_end end;
    struct lab_segment segment;
    _Alignas(64) union {
        struct lab_queue_producer producer;
        struct lab_queue_consumer consumer;
    };
};

_Static_assert((int)LAB_TX == (int)LAB_QUEUE_PRODUCER && (int)LAB_RX == (int)LAB_QUEUE_CONSUMER, "one numbering of roles");

static struct lab_queue_config config_of(const struct lab_channel *channel)
{
    return (struct lab_queue_config){
        .message_max = channel->message_max, .window = channel->window, .producers = lab_seats(channel, LAB_TX),
        .consumers = lab_seats(channel, LAB_RX), .batch = channel->batch, .wait = channel->wait,
        .spin_ns = channel->spin_ns,
    };
}

/* ---- the node's side ---- */

static int queue_memory(const struct lab_channel *channel, size_t *ret_bytes)
{
    struct lab_queue_config config = config_of(channel);
    struct lab_queue_shape shape;
    int err = lab_queue_shape(&config, &shape);
    if (!err)
        *ret_bytes = shape.size;
    return err;
}

static int queue_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct lab_queue_config config = config_of(channel);
    struct lab_queue_shape shape;
    struct lab_segment segment;
    int err = lab_queue_shape(&config, &shape);
    if (!err)
        err = lab_memory_make(channel, "queue", shape.size, &segment);
    if (err)
        return lab_while(err, "making a queue of %u messages of %u bytes", channel->window, channel->message_max);
    lab_queue_init(segment.memory, &config, &shape);
    return lab_memory_hand_over(&segment, ret_wire);
}

static void queue_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead)
{
    struct lab_queue_config config = config_of(channel);
    struct lab_segment segment;
    /* Made by queue_provision: it can be mapped, or the machine has no memory left to tell anyone anything. */
    if (lab_memory_map(channel, wire, dead, 0, &segment))
        return;
    lab_queue_hangup(segment.memory, &config, (enum lab_queue_side)dead, wire->seat);
    lab_segment_fini(&segment);
}

/* ---- the worker's ---- */

static struct queue_end *queue_of(struct lab_end *end)
{
    return (struct queue_end *)end;
}

static int queue_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct queue_end *queue = queue_of(end);
    struct lab_queue_config config = config_of(&end->channel);
    int err = lab_memory_map(&end->channel, &end->wire, end->role, deadline_ns, &queue->segment);
    if (err)
        return err;
    err = end->role == LAB_TX ? lab_queue_produce(&queue->producer, queue->segment.memory, queue->segment.size, &config, end->wire.seat)
                              : lab_queue_consume(&queue->consumer, queue->segment.memory, queue->segment.size, &config, end->wire.seat);
    if (err)
        lab_segment_fini(&queue->segment);
    else
        lab_memory_mapped(end);
    return err;
}

static void queue_close(struct lab_end *end)
{
    struct queue_end *queue = queue_of(end);
    struct lab_queue_config config = config_of(&end->channel);
    lab_queue_hangup(queue->segment.memory, &config, (enum lab_queue_side)end->role, end->wire.seat);
    lab_segment_fini(&queue->segment);
}

static int queue_reserve(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    return lab_queue_reserve(&queue_of(end)->producer, length, want, deadline_ns, ret_span);
}

static void queue_commit(struct lab_end *end, uint32_t count)
{
    lab_queue_commit(&queue_of(end)->producer, count);
}

static int queue_borrow(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    return lab_queue_borrow(&queue_of(end)->consumer, want, deadline_ns, ret_span);
}

static void queue_release(struct lab_end *end, uint32_t count)
{
    lab_queue_release(&queue_of(end)->consumer, count);
}

const struct lab_transport_ops lab_ops_shm_queue = {
    .name = "shm-queue",
    .end_bytes = sizeof(struct queue_end),
    .provision = queue_provision,
    .retire = lab_memory_retire,
    .hangup = queue_hangup,
    .memory = queue_memory,
    .open = queue_open,
    .close = queue_close,
    .reserve = queue_reserve,
    .commit = queue_commit,
    .borrow = queue_borrow,
    .release = queue_release,
};
