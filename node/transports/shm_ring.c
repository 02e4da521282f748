/* shm-ring: a single-producer single-consumer ring (shm/ring.h). The kernel does not tell about a dead peer: hangup marks it in the
 * ring and wakes whoever sleeps there. */
#include "node/transports/memory.h"

#include "base/error.h"
#include "shm/ring.h"

struct ring_end {
    struct lab_end end;
    struct lab_segment segment;
    _Alignas(64) union {
        struct lab_ring_producer producer;
        struct lab_ring_consumer consumer;
    };
};

_Static_assert((int)LAB_TX == (int)LAB_RING_PRODUCER && (int)LAB_RX == (int)LAB_RING_CONSUMER, "one numbering of roles");

static struct lab_ring_config config_of(const struct lab_channel *channel)
{
    return (struct lab_ring_config){
        .message_max = channel->message_max, .window = channel->window, .batch = channel->batch, .wait = channel->wait,
        .spin_ns = channel->spin_ns,
    };
}

/* ---- the node's side ---- */

static int ring_memory(const struct lab_channel *channel, size_t *ret_bytes)
{
    struct lab_ring_config config = config_of(channel);
    struct lab_ring_shape shape;
    int err = lab_ring_shape(&config, &shape);
    if (!err)
        *ret_bytes = shape.size;
    return err;
}

static int ring_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct lab_ring_config config = config_of(channel);
    struct lab_ring_shape shape;
    struct lab_segment segment;
    int err = lab_ring_shape(&config, &shape);
    if (!err)
        err = lab_memory_make(channel, "ring", shape.size, &segment);
    if (err)
        return lab_while(err, "making a ring of %u messages of %u bytes", channel->window, channel->message_max);
    lab_ring_init(segment.memory, &config, &shape);
    struct lab_wire wire;
    err = lab_memory_hand_over(&segment, &wire);
    if (!err && channel->wait == LAB_WAIT_POLL)
        err = lab_memory_add_bells(channel, &wire);
    if (!err)
        *ret_wire = wire;
    return err;
}

static void ring_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead)
{
    struct lab_segment segment;
    /* Made by ring_provision: it can be mapped, or the machine has no memory left to tell anyone anything. */
    if (lab_memory_map(channel, wire, dead, 0, &segment))
        return;
    lab_ring_hangup(segment.memory, (enum lab_ring_side)dead);
    if (wire->has_bells)
        lab_bell_ring(wire->bells[dead].peer);
    lab_segment_fini(&segment);
}

/* ---- the worker's ---- */

static struct ring_end *ring_of(struct lab_end *end)
{
    return (struct ring_end *)end;
}

static int ring_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct ring_end *ring = ring_of(end);
    struct lab_ring_config config = config_of(&end->channel);
    config.bells = end->wire.bells[end->role];
    int err = lab_memory_map(&end->channel, &end->wire, end->role, deadline_ns, &ring->segment);
    if (err)
        return err;
    err = end->role == LAB_TX ? lab_ring_produce(&ring->producer, ring->segment.memory, ring->segment.size, &config)
                              : lab_ring_consume(&ring->consumer, ring->segment.memory, ring->segment.size, &config);
    if (err)
        lab_segment_fini(&ring->segment);
    else
        lab_memory_mapped(end);
    return err;
}

static void ring_close(struct lab_end *end)
{
    struct ring_end *ring = ring_of(end);
    lab_ring_hangup(ring->segment.memory, (enum lab_ring_side)end->role);
    if (end->wire.has_bells) {
        lab_bell_ring(end->wire.bells[end->role].peer);
        lab_bells_close(&end->wire.bells[end->role]);
    }
    lab_segment_fini(&ring->segment);
}

static int ring_reserve(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    return lab_ring_reserve(&ring_of(end)->producer, length, want, deadline_ns, ret_span);
}

static int ring_reserve_ahead(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span,
                              struct lab_tally *ret_tally)
{
    return lab_ring_reserve_ahead(&ring_of(end)->producer, length, want, deadline_ns, ret_span, ret_tally);
}

static void ring_commit(struct lab_end *end, uint32_t count)
{
    lab_ring_commit(&ring_of(end)->producer, count);
}

static int ring_borrow(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    return lab_ring_borrow(&ring_of(end)->consumer, want, deadline_ns, ret_span);
}

static void ring_release(struct lab_end *end, uint32_t count)
{
    lab_ring_release(&ring_of(end)->consumer, count);
}

const struct lab_transport_ops lab_ops_shm_ring = {
    .name = "shm-ring",
    .end_bytes = sizeof(struct ring_end),
    .provision = ring_provision,
    .retire = lab_memory_retire,
    .hangup = ring_hangup,
    .memory = ring_memory,
    .open = ring_open,
    .close = ring_close,
    .reserve = ring_reserve,
    .reserve_ahead = ring_reserve_ahead,
    .commit = ring_commit,
    .borrow = ring_borrow,
    .release = ring_release,
};
