/* shm-ring: a single-producer single-consumer ring (shm/ring.h). The kernel does not tell about a dead peer: hangup marks it in the
 * ring and wakes whoever sleeps there. */
#include "node/transports/memory.h"

#include "base/error.h"
#include "node/transports/ring_end.h"

struct shm_end {
    struct lab_ring_end ring; /* first */
    struct lab_segment segment;
};

/* ---- the node's side ---- */

static int ring_memory(const struct lab_channel *channel, size_t *ret_bytes)
{
    struct lab_ring_config config = lab_ring_end_config(channel);
    struct lab_ring_shape shape;
    int err = lab_ring_shape(&config, &shape);
    if (!err)
        *ret_bytes = shape.size;
    return err;
}

static int ring_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct lab_ring_config config = lab_ring_end_config(channel);
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

static struct shm_end *shm_of(struct lab_end *end)
{
    return (struct shm_end *)end;
}

static int ring_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct shm_end *shm = shm_of(end);
    struct lab_ring_config config = lab_ring_end_config(&end->channel);
    config.bells = end->wire.bells[end->role];
    int err = lab_memory_map(&end->channel, &end->wire, end->role, deadline_ns, &shm->segment);
    if (err)
        return err;
    err = lab_ring_end_take(&shm->ring, shm->segment.memory, shm->segment.size, &config);
    if (err)
        lab_segment_fini(&shm->segment);
    else
        lab_memory_mapped(end);
    return err;
}

static void ring_close(struct lab_end *end)
{
    struct shm_end *shm = shm_of(end);
    lab_ring_hangup(shm->segment.memory, (enum lab_ring_side)end->role);
    if (end->wire.has_bells) {
        lab_bell_ring(end->wire.bells[end->role].peer);
        lab_bells_close(&end->wire.bells[end->role]);
    }
    lab_segment_fini(&shm->segment);
}

const struct lab_transport_ops lab_ops_shm_ring = {
    .name = "shm-ring",
    .end_bytes = sizeof(struct shm_end),
    .provision = ring_provision,
    .retire = lab_memory_retire,
    .hangup = ring_hangup,
    .memory = ring_memory,
    .open = ring_open,
    .close = ring_close,
    LAB_RING_END_OPS,
};
