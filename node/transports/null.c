/* null: carries messages to itself. Both ends are in one process and one thread, joined by a private ring of places; no
 * other process, no kernel, no atomic operation takes part. What a figure of this transport shows is the rig: the pattern's
 * loop, making and verifying messages, the clock.
 *
 * Nobody else can send or make room while its thread waits, so an end that has nothing to do says -EAGAIN at once, whatever
 * the deadline. */
#include "node/transport.h"

#include "base/error.h"

#include <errno.h>
#include <stdlib.h>

struct loop {
    uint32_t stride, mask;  /* bytes of a place; places - 1, a power of two less one */
    uint32_t head, tail;    /* messages sent, messages released; both run over */
    bool gone[2];           /* by role: that end was closed */
    uint32_t *length;       /* of the message in each place */
    unsigned char *places;
};

struct null_end {
    struct lab_end end;
    struct loop *loop;  /* shared with the partner; freed by whichever end closes last */
    uint32_t lent;      /* TX: length that was reserved */
};

static struct null_end *null_of(struct lab_end *end)
{
    return (struct null_end *)end;
}

static int null_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    (void)channel;
    *ret_wire = (struct lab_wire){.fd = {-1, -1}};
    return 0;
}

static void null_retire(const struct lab_channel *channel, struct lab_wire *wire)
{
    (void)channel;
    (void)wire;
}

static void loop_free(struct loop *loop)
{
    free(loop->places);
    free(loop->length);
    free(loop);
}

static int loop_new(const struct lab_channel *channel, struct loop **ret_loop)
{
    enum { CACHE_LINES = 128 };
    size_t places = 1, stride = ((size_t)channel->message_max + 7) & ~(size_t)7;
    while (places < channel->window)
        places *= 2;

    struct loop *loop = calloc(1, sizeof *loop);
    if (loop) {
        loop->length = calloc(places, sizeof *loop->length);
        loop->places = aligned_alloc(CACHE_LINES, (places * stride + CACHE_LINES - 1) & ~(size_t)(CACHE_LINES - 1));
    }
    if (!loop || !loop->length || !loop->places) {
        if (loop)
            loop_free(loop);
        return lab_fail(ENOMEM, "no memory for %zu messages of %u bytes", places, channel->message_max);
    }
    loop->stride = (uint32_t)stride;
    loop->mask = (uint32_t)(places - 1);
    *ret_loop = loop;
    return 0;
}

/* Whichever end opens second finds the first one's ring. */
static int null_open(struct lab_end *end, uint64_t deadline_ns)
{
    (void)deadline_ns;
    if (!end->partner)
        return loop_new(&end->channel, &null_of(end)->loop);
    null_of(end)->loop = null_of(end->partner)->loop;
    return 0;
}

static void null_close(struct lab_end *end)
{
    struct loop *loop = null_of(end)->loop;
    loop->gone[end->role] = true;
    if (!end->partner)
        loop_free(loop);
}

static uint32_t at_most(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The places in one piece from `from` on, up to `count`: a span does not wrap. */
static uint32_t in_one_piece(const struct loop *loop, uint32_t from, uint32_t count)
{
    return at_most(count, loop->mask + 1 - (from & loop->mask));
}

static int null_reserve(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    (void)deadline_ns;
    struct loop *loop = null_of(end)->loop;
    if (length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %u bytes on a channel for %u", length, end->channel.message_max);
    if (loop->gone[LAB_RX])
        return lab_refuse(EPIPE, "the receiving end was closed");
    uint32_t room = loop->mask + 1 - (loop->head - loop->tail);
    if (room == 0)
        return -EAGAIN;
    null_of(end)->lent = length;
    *ret_span = (struct lab_span){
        .at = loop->places + (size_t)(loop->head & loop->mask) * loop->stride,
        .stride = loop->stride,
        .length = length,
        .count = in_one_piece(loop, loop->head, at_most(want, room)),
    };
    return 0;
}

static void null_commit(struct lab_end *end, uint32_t count)
{
    struct loop *loop = null_of(end)->loop;
    for (uint32_t i = 0; i < count; i++)
        loop->length[(loop->head + i) & loop->mask] = null_of(end)->lent;
    loop->head += count;
}

static int null_borrow(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    (void)deadline_ns;
    struct loop *loop = null_of(end)->loop;
    uint32_t there = in_one_piece(loop, loop->tail, at_most(want, loop->head - loop->tail));
    if (there == 0)
        return loop->gone[LAB_TX] ? lab_refuse(EPIPE, "the sending end was closed") : -EAGAIN;

    uint32_t first = loop->tail & loop->mask, alike = 1;
    while (alike < there && loop->length[first + alike] == loop->length[first])
        alike++;
    *ret_span = (struct lab_span){
        .at = loop->places + (size_t)first * loop->stride,
        .stride = loop->stride,
        .length = loop->length[first],
        .count = alike,
    };
    return 0;
}

static void null_release(struct lab_end *end, uint32_t count)
{
    null_of(end)->loop->tail += count;
}

const struct lab_transport_ops lab_ops_null = {
    .name = "null",
    .end_bytes = sizeof(struct null_end),
    .provision = null_provision,
    .retire = null_retire,
    .open = null_open,
    .close = null_close,
    .reserve = null_reserve,
    .commit = null_commit,
    .borrow = null_borrow,
    .release = null_release,
};
