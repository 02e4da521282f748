/* shm-broadcast: one writer and its readers (shm/broadcast.h), lossless. The kernel does not tell about a dead peer: hangup marks it and
 * wakes whoever sleeps there. */
#include "node/transports/memory.h"

#include "base/error.h"
#include "shm/broadcast.h"

struct broadcast_end {
    struct lab_end end;
    struct lab_segment segment;
    _Alignas(64) union {
        struct lab_broadcast_writer writer;
        struct lab_broadcast_reader reader;
    };
};

_Static_assert((int)LAB_TX == (int)LAB_BROADCAST_WRITER && (int)LAB_RX == (int)LAB_BROADCAST_READER, "one numbering of roles");

static struct lab_broadcast_config config_of(const struct lab_channel *channel)
{
    return (struct lab_broadcast_config){
        .message_max = channel->message_max, .window = channel->window, .batch = channel->batch,
        .readers = lab_seats(channel, LAB_RX), .wait = channel->wait, .spin_ns = channel->spin_ns,
    };
}

/* ---- the node's side ---- */

static int broadcast_memory(const struct lab_channel *channel, size_t *ret_bytes)
{
    struct lab_broadcast_config config = config_of(channel);
    struct lab_broadcast_shape shape;
    int err = lab_broadcast_shape(&config, &shape);
    if (!err)
        *ret_bytes = shape.size;
    return err;
}

static int broadcast_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct lab_broadcast_config config = config_of(channel);
    struct lab_broadcast_shape shape;
    struct lab_segment segment;
    int err = lab_broadcast_shape(&config, &shape);
    if (!err)
        err = lab_memory_make(channel, "broadcast", shape.size, &segment);
    if (err)
        return lab_while(err, "making a broadcast of %u messages of %u bytes", channel->window, channel->message_max);
    lab_broadcast_init(segment.memory, &config, &shape);
    return lab_memory_hand_over(&segment, ret_wire);
}

static void broadcast_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead)
{
    struct lab_broadcast_config config = config_of(channel);
    struct lab_segment segment;
    /* Made by broadcast_provision: it can be mapped, or the machine has no memory left to tell anyone anything. */
    if (lab_memory_map(channel, wire, dead, 0, &segment))
        return;
    lab_broadcast_hangup(segment.memory, &config, (enum lab_broadcast_side)dead, wire->seat);
    lab_segment_fini(&segment);
}

/* ---- the worker's ---- */

static struct broadcast_end *broadcast_of(struct lab_end *end)
{
    return (struct broadcast_end *)end;
}

static int broadcast_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct broadcast_end *b = broadcast_of(end);
    struct lab_broadcast_config config = config_of(&end->channel);
    int err = lab_memory_map(&end->channel, &end->wire, end->role, deadline_ns, &b->segment);
    if (err)
        return err;
    err = end->role == LAB_TX ? lab_broadcast_write(&b->writer, b->segment.memory, b->segment.size, &config)
                              : lab_broadcast_read(&b->reader, b->segment.memory, b->segment.size, &config, end->wire.seat);
    if (err)
        lab_segment_fini(&b->segment);
    else
        lab_memory_mapped(end);
    return err;
}

static void broadcast_close(struct lab_end *end)
{
    struct broadcast_end *b = broadcast_of(end);
    struct lab_broadcast_config config = config_of(&end->channel);
    lab_broadcast_hangup(b->segment.memory, &config, (enum lab_broadcast_side)end->role, end->wire.seat);
    lab_segment_fini(&b->segment);
}

static int broadcast_reserve(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    return lab_broadcast_reserve(&broadcast_of(end)->writer, length, want, deadline_ns, ret_span);
}

static void broadcast_commit(struct lab_end *end, uint32_t count)
{
    lab_broadcast_commit(&broadcast_of(end)->writer, count);
}

static int broadcast_borrow(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    return lab_broadcast_borrow(&broadcast_of(end)->reader, want, deadline_ns, ret_span);
}

static void broadcast_release(struct lab_end *end, uint32_t count)
{
    lab_broadcast_release(&broadcast_of(end)->reader, count);
}

const struct lab_transport_ops lab_ops_shm_broadcast = {
    .name = "shm-broadcast",
    .end_bytes = sizeof(struct broadcast_end),
    .memory = broadcast_memory,
    .provision = broadcast_provision,
    .retire = lab_memory_retire,
    .hangup = broadcast_hangup,
    .open = broadcast_open,
    .close = broadcast_close,
    .reserve = broadcast_reserve,
    .commit = broadcast_commit,
    .borrow = broadcast_borrow,
    .release = broadcast_release,
};
