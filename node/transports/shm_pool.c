/* shm-pool: blocks of shared memory (shm/pool.h) that change hands by number. A ring (shm/ring.h) of numbers and lengths goes with them, in the
 * same memory: | ring | pool |. To send is to take a block, write, and pass its number; to receive is to read the block
 * where it lies, and to give it back. No byte of a message is copied, so passing takes as long for 1 GiB as for 8 bytes.
 *
 * Words of the pool change hands when there is time. The sender takes the next blocks when it has sent a message, not when it has one
 * to send. The receiver gives blocks back when it finds nothing to receive, or has several to give: in a ping-pong nothing but the number
 * moves between the two cores before the answer has left. For that there are a few blocks more than the window.
 *
 * For throughput (a window that shm/ring.h takes for such) small blocks are taken and given back as many at a time as there are words in a
 * line, for taking is a locked instruction, which waits for every line that was written before; and there are more blocks than the cores' own
 * caches hold, for the reason that shm/ring.h gives. */
#include "node/transports/memory.h"

#include "base/error.h"
#include "shm/pool.h"
#include "shm/ring.h"

#include <errno.h>
#include <string.h>

/* What goes through the ring. */
struct note {
    uint32_t block, length;
};
_Static_assert(sizeof(struct note) == 8, "one word");

enum {
    LAZY = 8,               /* blocks taken or given back at a time, for throughput ... */
    LAZY_BYTES = 4096,      /* ... as long as they are small: larger ones stay in the caches */
    SPREAD_BYTES = 4 << 20, /* and then there are at least so many bytes of them */
    LARGE_BYTES = 64 << 10, /* as there are of blocks of this size and more: shm/ring.h says why */
};

struct pool_end {
    struct lab_end end;
    struct lab_segment segment;
    /* TX: taken, and not yet passed, next to be passed first. RX: released, and not yet given back. */
    uint32_t block[LAZY], first, count, lazy;
    bool has;        /* RX: a block that is received and not released, ... */
    struct note note; /* ... this one */
    int failed;      /* RX: what giving back a block said */
    _Alignas(64) struct lab_pool_end pool;
    union {
        struct lab_ring_producer producer;
        struct lab_ring_consumer consumer;
    };
};

/* Both structures, from the channel alone. */
struct plan {
    struct lab_ring_config ring;
    struct lab_pool_config pool;
    struct lab_ring_shape ring_shape;
    struct lab_pool_shape pool_shape;
};

static bool for_throughput(const struct lab_channel *channel)
{
    return channel->window > LAB_RING_MARKED_WINDOW && channel->message_max <= LAZY_BYTES;
}

static uint32_t lazy_of(const struct lab_channel *channel)
{
    return for_throughput(channel) ? LAZY : 1;
}

static uint32_t blocks_of(const struct lab_channel *channel)
{
    /* In flight; and taken before they are needed, or not yet given back. */
    bool spreads = for_throughput(channel) || channel->message_max >= LARGE_BYTES;
    uint32_t least = channel->window + 2 * lazy_of(channel), spread = spreads ? SPREAD_BYTES / channel->message_max : 0;
    return least > spread ? least : spread < LAB_POOL_BLOCKS_MAX / 2 ? spread : LAB_POOL_BLOCKS_MAX / 2;
}

static int plan_of(const struct lab_channel *channel, struct plan *ret_plan)
{
    *ret_plan = (struct plan){
        .ring = {.message_max = sizeof(struct note), .window = channel->window, .batch = 1, .wait = channel->wait, .spin_ns = channel->spin_ns},
        .pool = {.block_bytes = channel->message_max, .blocks = blocks_of(channel), .parties = 2, .wait = channel->wait,
                 .spin_ns = channel->spin_ns},
    };
    int err = lab_ring_shape(&ret_plan->ring, &ret_plan->ring_shape);
    return err ? err : lab_pool_shape(&ret_plan->pool, &ret_plan->pool_shape);
}

static unsigned char *pool_in(const struct lab_segment *segment, const struct plan *plan)
{
    return (unsigned char *)segment->memory + plan->ring_shape.size;
}

static void hang_up(const struct lab_segment *segment, const struct plan *plan, enum lab_role gone)
{
    lab_ring_hangup(segment->memory, (enum lab_ring_side)gone);
    lab_pool_hangup(pool_in(segment, plan), &plan->pool, gone);
}

/* ---- the node's side ---- */

static int pool_memory(const struct lab_channel *channel, size_t *ret_bytes)
{
    struct plan plan;
    int err = plan_of(channel, &plan);
    if (!err)
        *ret_bytes = plan.ring_shape.size + plan.pool_shape.size;
    return err;
}

static int pool_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct plan plan;
    struct lab_segment segment;
    int err = plan_of(channel, &plan);
    if (!err)
        err = lab_memory_make(channel, "pool", plan.ring_shape.size + plan.pool_shape.size, &segment);
    if (err)
        return lab_while(err, "making a pool for %u messages of %u bytes", channel->window, channel->message_max);
    lab_ring_init(segment.memory, &plan.ring, &plan.ring_shape);
    lab_pool_init(pool_in(&segment, &plan), &plan.pool, &plan.pool_shape);
    return lab_memory_hand_over(&segment, ret_wire);
}

static void pool_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead)
{
    struct plan plan;
    struct lab_segment segment;
    /* Made by pool_provision: it can be mapped, or the machine has no memory left to tell anyone anything. */
    if (plan_of(channel, &plan) || lab_memory_map(channel, wire, dead, 0, &segment))
        return;
    hang_up(&segment, &plan, dead);
    lab_segment_fini(&segment);
}

/* ---- the worker's ---- */

static struct pool_end *pool_of(struct lab_end *end)
{
    return (struct pool_end *)end;
}

static int attach(struct pool_end *p, const struct plan *plan)
{
    size_t before = plan->ring_shape.size;
    if (p->segment.size < before)
        return lab_refuse(EBADMSG, "the shared memory (%zu bytes) has no room for a ring of %u numbers", p->segment.size, plan->ring.window);
    int err = p->end.role == LAB_TX ? lab_ring_produce(&p->producer, p->segment.memory, before, &plan->ring)
                                    : lab_ring_consume(&p->consumer, p->segment.memory, before, &plan->ring);
    return err ? err : lab_pool_attach(&p->pool, pool_in(&p->segment, plan), p->segment.size - before, &plan->pool, p->end.role);
}

static int pool_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct pool_end *p = pool_of(end);
    struct plan plan;
    int err = plan_of(&end->channel, &plan);
    if (err)
        return err;
    err = lab_memory_map(&end->channel, &end->wire, end->role, deadline_ns, &p->segment);
    if (err)
        return err;
    err = attach(p, &plan);
    if (err) {
        lab_segment_fini(&p->segment);
        return err;
    }
    lab_memory_mapped(end);
    p->lazy = lazy_of(&end->channel);
    return 0;
}

static void pool_close(struct lab_end *end)
{
    struct pool_end *p = pool_of(end);
    struct plan plan;
    int err = plan_of(&end->channel, &plan);
    if (!err) /* as when it was opened */
        hang_up(&p->segment, &plan, end->role);
    lab_segment_fini(&p->segment);
}

/* Takes blocks that are free anyway. */
static void stock_up(struct pool_end *p)
{
    p->first = p->count = 0;
    while (p->count < p->lazy && lab_pool_try(&p->pool, &p->block[p->count]))
        p->count++;
}

static int pool_reserve(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    (void)want; /* one: the next block may lie anywhere */
    struct pool_end *p = pool_of(end);
    if (length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %u bytes in blocks of %u", length, end->channel.message_max);
    struct lab_span number;
    int err = lab_ring_reserve(&p->producer, sizeof(struct note), 1, deadline_ns, &number);
    if (err)
        return err;
    if (p->first == p->count) {
        err = lab_pool_take(&p->pool, deadline_ns, &p->block[0]);
        if (err)
            return err;
        p->first = 0;
        p->count = 1;
    }
    struct note note = {p->block[p->first], length};
    memcpy(number.at, &note, sizeof note);
    *ret_span = (struct lab_span){.at = lab_pool_at(&p->pool, note.block), .stride = p->pool.block_stride, .length = length, .count = 1};
    return 0;
}

static void pool_commit(struct lab_end *end, uint32_t count)
{
    struct pool_end *p = pool_of(end);
    if (!count)
        return;
    /* A receiver that has gone meanwhile does not get it: the next call says so. */
    if (lab_pool_pass(&p->pool, p->block[p->first], LAB_RX))
        return;
    lab_ring_commit(&p->producer, 1);
    if (++p->first == p->count)
        stock_up(p);
}

static int give_back(struct pool_end *p)
{
    int err = 0;
    for (uint32_t i = 0; i < p->count && !err; i++)
        err = lab_pool_give(&p->pool, p->block[i]);
    p->count = 0;
    return err;
}

/* The next number, unchecked. While there is none, blocks are given back. */
static int look(struct pool_end *p, uint64_t deadline_ns, struct lab_span *ret_number)
{
    int err = p->count ? lab_ring_borrow(&p->consumer, 1, 0, ret_number) : -EAGAIN;
    if (err != -EAGAIN)
        return err;
    err = give_back(p);
    return err ? err : lab_ring_borrow(&p->consumer, 1, deadline_ns, ret_number);
}

static int receive(struct pool_end *p, uint64_t deadline_ns)
{
    struct lab_span number;
    int err = p->failed ? p->failed : look(p, deadline_ns, &number);
    if (err == -EPIPE && !give_back(p))
        lab_pool_settle(&p->pool, LAB_TX);
    if (err)
        return err;
    struct note note;
    if (number.length != sizeof note)
        return lab_refuse(EBADMSG, "%u bytes where the number of a block takes %zu", number.length, sizeof note);
    memcpy(&note, number.at, sizeof note);
    if (note.length > p->end.channel.message_max || !lab_pool_at(&p->pool, note.block))
        return lab_refuse(EBADMSG, "a message of %u bytes in block %u, of %u blocks of %u", note.length, note.block, p->pool.blocks,
                          p->end.channel.message_max);
    lab_ring_release(&p->consumer, 1);
    p->note = note;
    p->has = true;
    return 0;
}

static int pool_borrow(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    (void)want;
    struct pool_end *p = pool_of(end);
    int err = p->has ? 0 : receive(p, deadline_ns);
    if (err)
        return err;
    *ret_span = (struct lab_span){
        .at = lab_pool_at(&p->pool, p->note.block), .stride = p->pool.block_stride, .length = p->note.length, .count = 1,
    };
    return 0;
}

static void pool_release(struct lab_end *end, uint32_t count)
{
    struct pool_end *p = pool_of(end);
    if (!count)
        return;
    if (p->count == p->lazy)
        p->failed = give_back(p); /* told by the next borrow */
    p->block[p->count++] = p->note.block;
    p->has = false;
}

const struct lab_transport_ops lab_ops_shm_pool = {
    .name = "shm-pool",
    .end_bytes = sizeof(struct pool_end),
    .memory = pool_memory,
    .provision = pool_provision,
    .retire = lab_memory_retire,
    .hangup = pool_hangup,
    .open = pool_open,
    .close = pool_close,
    .reserve = pool_reserve,
    .commit = pool_commit,
    .borrow = pool_borrow,
    .release = pool_release,
};
