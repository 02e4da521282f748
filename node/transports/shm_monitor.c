/* shm-monitor: the bounded buffer of the textbooks, a lock and two condition variables (shm/monitor.h).
 * A dead peer's lock is let go by the kernel; the rest of what it held by hangup. */
#include "node/transports/memory.h"

#include "base/error.h"
#include "shm/monitor.h"

struct monitor_end {
    struct lab_end end;
    struct lab_segment segment;
    struct lab_monitor_shape shape;
    struct lab_monitor party;
};

_Static_assert((int)LAB_TX == (int)LAB_BUFFER_PRODUCER && (int)LAB_RX == (int)LAB_BUFFER_CONSUMER, "one numbering of roles");

static int shape_of(const struct lab_channel *channel, struct lab_monitor_shape *ret_shape)
{
    /* All share one buffer: a window of each producer fits. */
    uint32_t producers = lab_seats(channel, LAB_TX);
    const struct lab_buffer_config config = {
        .message_max = channel->message_max, .window = channel->window * producers, .producers = producers,
        .consumers = lab_seats(channel, LAB_RX), .batch = channel->batch};
    return lab_monitor_shape(&config, ret_shape);
}

/* ---- the node's side ---- */

static int monitor_memory(const struct lab_channel *channel, size_t *ret_bytes)
{
    struct lab_monitor_shape shape;
    int err = shape_of(channel, &shape);
    if (!err)
        *ret_bytes = shape.size;
    return err;
}

static int monitor_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct lab_monitor_shape shape;
    struct lab_segment segment;
    int err = shape_of(channel, &shape);
    if (!err)
        err = lab_memory_make(channel, "monitor", shape.size, &segment);
    if (err)
        return lab_while(err, "making a monitor of %u messages of %u bytes", channel->window, channel->message_max);
    err = lab_monitor_init(segment.memory, &shape);
    if (err) {
        lab_segment_fini(&segment);
        return err;
    }
    return lab_memory_hand_over(&segment, ret_wire);
}

static void monitor_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead)
{
    struct lab_monitor_shape shape;
    struct lab_segment segment;
    /* Made by monitor_provision: it can be mapped, or the machine has no memory left to tell anyone anything. */
    if (shape_of(channel, &shape) || lab_memory_map(channel, wire, dead, 0, &segment))
        return;
    lab_monitor_hangup(segment.memory, &shape, (enum lab_buffer_side)dead, wire->seat);
    lab_segment_fini(&segment);
}

/* ---- the worker's ---- */

static struct monitor_end *monitor_of(struct lab_end *end)
{
    return (struct monitor_end *)end;
}

static int monitor_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct monitor_end *monitor = monitor_of(end);
    struct lab_segment *segment = &monitor->segment;
    int err = shape_of(&end->channel, &monitor->shape);
    if (!err)
        err = lab_memory_map(&end->channel, &end->wire, end->role, deadline_ns, segment);
    if (err)
        return err;
    err = end->role == LAB_TX ? lab_monitor_produce(&monitor->party, segment->memory, segment->size, &monitor->shape, end->wire.seat)
                              : lab_monitor_consume(&monitor->party, segment->memory, segment->size, &monitor->shape, end->wire.seat);
    if (err)
        lab_segment_fini(segment);
    else
        lab_memory_mapped(end);
    return err;
}

static void monitor_close(struct lab_end *end)
{
    struct monitor_end *monitor = monitor_of(end);
    lab_monitor_hangup(monitor->segment.memory, &monitor->shape, (enum lab_buffer_side)end->role, end->wire.seat);
    lab_segment_fini(&monitor->segment);
}

static int monitor_reserve(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    return lab_monitor_reserve(&monitor_of(end)->party, length, want, deadline_ns, ret_span);
}

static void monitor_commit(struct lab_end *end, uint32_t count)
{
    lab_monitor_commit(&monitor_of(end)->party, count);
}

static int monitor_borrow(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    return lab_monitor_borrow(&monitor_of(end)->party, want, deadline_ns, ret_span);
}

static void monitor_release(struct lab_end *end, uint32_t count)
{
    lab_monitor_release(&monitor_of(end)->party, count);
}

const struct lab_transport_ops lab_ops_shm_monitor = {
    .name = "shm-monitor",
    .end_bytes = sizeof(struct monitor_end),
    .provision = monitor_provision,
    .retire = lab_memory_retire,
    .hangup = monitor_hangup,
    .memory = monitor_memory,
    .open = monitor_open,
    .close = monitor_close,
    .reserve = monitor_reserve,
    .commit = monitor_commit,
    .borrow = monitor_borrow,
    .release = monitor_release,
};
