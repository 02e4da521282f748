/* ck-ring and ck-ring-mpmc: the rings of Concurrency Kit (ck_ring.h), as its users pass messages by them. A ck_ring carries values of the
 * size of a pointer, so messages lie in blocks beside it, are written and read in place, every byte of them, and what goes through the
 * ring says which block and how long. Block and ring are memory of ours that both sides share:
 *
 *     | board: who is gone, the rings' words | slots of the full ring | slots of the free ring (mpmc) | blocks |
 *
 * ck-ring (one producer, one consumer) needs no list of free blocks: they are used in turn, and there are so many that the ring is full
 * before a block comes round again that is still being read. Message n is written when the ring, which holds capacity - 1, has room for one
 * more: at most n - 1 to n - capacity + 2 are in it, and the one before those may be lent to the consumer. So n - capacity has been given back,
 * and as many blocks as the ring has places are enough.
 *
 * ck-ring-mpmc (many of each) takes a free block from a second ring and the consumer puts it back there. No ring can be full: each has
 * more places than there are blocks.
 *
 * A ring does not tell who waits that something came, so ends poll. Nor does it tell that the other side is gone: the board does, by
 * `close` and by the node's hangup. What ck_ring does not promise, neither does this: a producer of ck-ring-mpmc that is killed *within*
 * an enqueue keeps the others in theirs, where no deadline reaches them, until the node ends the launch; the block of a killed party is
 * lost; and the library believes the words of its rings, whoever wrote them. What was read through it, a block's number and a
 * length, is checked here. */
#include "node/transports/memory.h"

#include "base/error.h"

#include <ck_ring.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { LINE = 128, SEATS_MAX = 4096, SEAT_BITS = 64 };

struct board {
    _Alignas(LINE) _Atomic uint32_t gone[2];      /* all ends of that role are */
    _Atomic uint32_t living[2];
    _Atomic uint64_t left[2][SEATS_MAX / SEAT_BITS]; /* a bit for each seat */
    _Alignas(LINE) ck_ring_t full;                /* what was sent */
    _Alignas(LINE) ck_ring_t free;                /* mpmc: blocks that nobody has */
};

/* What goes through a ring. Zero is none. */
struct parcel {
    uint32_t block; /* its number, plus one */
    uint32_t length;
};
_Static_assert(sizeof(struct parcel) == sizeof(void *), "a parcel is what a ck_ring carries");

struct layout {
    uint32_t capacity; /* of each ring; one place of it is never used */
    uint32_t blocks;
    size_t stride, full_at, free_at, blocks_at, size;
};

struct ck_end {
    struct lab_end end;
    struct lab_segment segment;
    struct layout layout;
    struct lab_wait_plan plan;
    struct board *board;
    ck_ring_buffer_t *full, *free; /* NULL: there is no ring of free blocks, they are used in turn */
    unsigned char *blocks;
    struct parcel held;            /* the block that is lent, or was and not committed or released */
    uint32_t next;                 /* TX, in turn: the block to be written next */
    bool broken;
};

static struct ck_end *ck_of(struct lab_end *end)
{
    return (struct ck_end *)end;
}

static bool is_shared(const struct lab_channel *channel)
{
    return channel->transport->caps & LAB_CAP_PRODUCERS;
}

static size_t round_up(size_t size, size_t to)
{
    return (size + to - 1) / to * to;
}

static int layout_of(const struct lab_channel *channel, struct layout *ret_layout)
{
    uint32_t parties = lab_seats(channel, LAB_TX) + lab_seats(channel, LAB_RX);
    /* A window in the ring, and, where blocks have no turn, one in the hands of each party. */
    uint64_t places = (uint64_t)channel->window + (is_shared(channel) ? parties : 0), capacity = 2;
    if (lab_seats(channel, LAB_TX) > SEATS_MAX || lab_seats(channel, LAB_RX) > SEATS_MAX)
        return lab_refuse(ENOTSUP, "a channel of %u parties: of one side it takes %d", parties, SEATS_MAX);
    while (capacity < places + 1)
        capacity *= 2;
    if (capacity > UINT_MAX / 2)
        return lab_refuse(ENOTSUP, "a ring of %llu places", (unsigned long long)capacity);
    struct layout layout = {.capacity = (uint32_t)capacity, .stride = round_up(channel->message_max, 64), .full_at = sizeof(struct board)};
    layout.blocks = is_shared(channel) ? (uint32_t)places : layout.capacity;
    layout.free_at = layout.full_at + round_up(layout.capacity * sizeof(ck_ring_buffer_t), LINE);
    layout.blocks_at = layout.free_at + (is_shared(channel) ? layout.free_at - layout.full_at : 0);
    layout.size = layout.blocks_at + layout.blocks * layout.stride;
    *ret_layout = layout;
    return 0;
}

static void *value_of(struct parcel parcel)
{
    void *value;
    memcpy(&value, &parcel, sizeof value);
    return value;
}

static struct parcel parcel_of(void *value)
{
    struct parcel parcel;
    memcpy(&parcel, &value, sizeof parcel);
    return parcel;
}

/* ---- the node's side ---- */

static int ck_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct layout layout;
    struct lab_segment segment;
    int err = layout_of(channel, &layout);
    if (!err)
        err = lab_memory_make(channel, channel->transport->name, layout.size, &segment);
    if (err)
        return lab_while(err, "making a ck_ring for %u messages of %u bytes", channel->window, channel->message_max);
    struct board *board = segment.memory;
    ck_ring_init(&board->full, layout.capacity);
    for (int role = 0; role < 2; role++)
        board->living[role] = lab_seats(channel, (enum lab_role)role);
    if (is_shared(channel)) {
        ck_ring_init(&board->free, layout.capacity);
        ck_ring_buffer_t *slots = (ck_ring_buffer_t *)((unsigned char *)segment.memory + layout.free_at);
        for (uint32_t b = 0; b < layout.blocks; b++)
            ck_ring_enqueue_mpmc(&board->free, slots, value_of((struct parcel){.block = b + 1}));
    }
    return lab_memory_hand_over(&segment, ret_wire);
}

/* Once for each seat, whoever says it. */
static void leave(struct board *board, enum lab_role role, uint32_t seat)
{
    uint64_t bit = UINT64_C(1) << seat % SEAT_BITS;
    if (atomic_fetch_or(&board->left[role][seat / SEAT_BITS % (SEATS_MAX / SEAT_BITS)], bit) & bit)
        return;
    if (atomic_fetch_sub(&board->living[role], 1) == 1)
        atomic_store(&board->gone[role], 1);
}

static void ck_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead)
{
    struct lab_segment segment;
    /* Made by ck_provision: it can be mapped, or the machine has no memory left to tell anyone anything. */
    if (lab_memory_map(channel, wire, dead, 0, &segment))
        return;
    leave(segment.memory, dead, wire->seat);
    lab_segment_fini(&segment);
}

/* ---- the worker's ---- */

static int ck_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct ck_end *ck = ck_of(end);
    int err = layout_of(&end->channel, &ck->layout);
    if (!err)
        err = lab_memory_map(&end->channel, &end->wire, end->role, deadline_ns, &ck->segment);
    if (err)
        return err;
    unsigned char *memory = ck->segment.memory;
    if (ck->segment.size < ck->layout.size) {
        lab_segment_fini(&ck->segment);
        return lab_refuse(EBADMSG, "a ck_ring of %zu bytes in a segment of %zu", ck->layout.size, ck->segment.size);
    }
    ck->plan = lab_wait_plan(end->channel.wait);
    ck->board = ck->segment.memory;
    ck->full = (ck_ring_buffer_t *)(memory + ck->layout.full_at);
    ck->free = is_shared(&end->channel) ? (ck_ring_buffer_t *)(memory + ck->layout.free_at) : NULL;
    ck->blocks = memory + ck->layout.blocks_at;
    lab_memory_mapped(end);
    return 0;
}

static void ck_close(struct lab_end *end)
{
    struct ck_end *ck = ck_of(end);
    leave(ck->board, end->role, end->wire.seat);
    lab_segment_fini(&ck->segment);
}

/* ---- messages ---- */

static int impossible(struct ck_end *ck)
{
    ck->broken = true;
    return lab_refuse(EBADMSG, "what came through the ck_ring of channel %u is no block of at most %u bytes", ck->end.channel.id,
                      ck->end.channel.message_max);
}

static unsigned char *block_of(const struct ck_end *ck)
{
    return ck->blocks + (ck->held.block - 1) * ck->layout.stride;
}

/* Is there a block to write to? Only this producer fills the ring, so the room stays. */
static bool has_room(void *subject)
{
    struct ck_end *ck = subject;
    if (ck->held.block)
        return true;
    if (!ck->free) {
        if (ck_ring_size(&ck->board->full) + 1 >= ck->layout.capacity)
            return false;
        ck->held.block = ck->next + 1;
        return true;
    }
    void *value;
    if (ck_ring_dequeue_mpmc(&ck->board->free, ck->free, &value))
        ck->held.block = parcel_of(value).block;
    return ck->held.block;
}

static int ck_reserve(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct ck_end *ck = ck_of(end);
    (void)want; /* a ring hands over one at a time */
    if (length == 0 || length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %u bytes on a channel for 1 to %u", length, end->channel.message_max);
    int err = lab_wait_until(&ck->plan, has_room, ck, NULL, &ck->board->gone[LAB_RX], deadline_ns);
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "nobody receives from channel %u any more", end->channel.id);
    if (err)
        return err;
    if (ck->broken || ck->held.block > ck->layout.blocks)
        return impossible(ck);
    ck->held.length = length;
    *ret_span = (struct lab_span){.at = block_of(ck), .stride = ck->layout.stride, .length = length, .count = 1};
    return 0;
}

static void ck_commit(struct lab_end *end, uint32_t count)
{
    struct ck_end *ck = ck_of(end);
    if (!count)
        return;
    void *value = value_of(ck->held);
    bool taken = ck->free ? ck_ring_enqueue_mpmc(&ck->board->full, ck->full, value) : ck_ring_enqueue_spsc(&ck->board->full, ck->full, value);
    ck->held = (struct parcel){0};
    ck->next = ck->next + 1 == ck->layout.blocks ? 0 : ck->next + 1;
    ck->broken |= !taken; /* it had room: somebody wrote to its words */
}

static bool has_message(void *subject)
{
    struct ck_end *ck = subject;
    void *value;
    if (ck->held.block)
        return true;
    bool got = ck->free ? ck_ring_dequeue_mpmc(&ck->board->full, ck->full, &value) : ck_ring_dequeue_spsc(&ck->board->full, ck->full, &value);
    if (got)
        ck->held = parcel_of(value);
    return got;
}

static int ck_borrow(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct ck_end *ck = ck_of(end);
    (void)want;
    int err = lab_wait_until(&ck->plan, has_message, ck, NULL, &ck->board->gone[LAB_TX], deadline_ns);
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "nobody sends to channel %u any more", end->channel.id);
    if (err)
        return err;
    const struct parcel held = ck->held;
    if (ck->broken || held.block - 1 >= ck->layout.blocks || held.length - 1 >= end->channel.message_max)
        return impossible(ck);
    *ret_span = (struct lab_span){.at = block_of(ck), .stride = ck->layout.stride, .length = held.length, .count = 1};
    return 0;
}

static void ck_release(struct lab_end *end, uint32_t count)
{
    struct ck_end *ck = ck_of(end);
    if (!count)
        return;
    if (ck->free)
        ck->broken |= !ck_ring_enqueue_mpmc(&ck->board->free, ck->free, value_of((struct parcel){.block = ck->held.block}));
    ck->held = (struct parcel){0};
}

/* The rings are inline functions: what was compiled in is what runs. */
static void ck_library(char to[LAB_LIBRARY_TEXT])
{
    snprintf(to, LAB_LIBRARY_TEXT, "concurrencykit %s", LAB_CK_VERSION);
}

const struct lab_transport_ops lab_ops_ck_ring = {
    .name = "ck-ring", .end_bytes = sizeof(struct ck_end), .provision = ck_provision, .retire = lab_memory_retire, .hangup = ck_hangup,
    .open = ck_open, .close = ck_close, .reserve = ck_reserve, .commit = ck_commit, .borrow = ck_borrow, .release = ck_release,
    .library = ck_library,
};

const struct lab_transport_ops lab_ops_ck_ring_mpmc = {
    .name = "ck-ring-mpmc", .end_bytes = sizeof(struct ck_end), .provision = ck_provision, .retire = lab_memory_retire, .hangup = ck_hangup,
    .open = ck_open, .close = ck_close, .reserve = ck_reserve, .commit = ck_commit, .borrow = ck_borrow, .release = ck_release,
    .library = ck_library,
};
