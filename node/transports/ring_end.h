/* An end whose messages lie in a ring of ours (shm/ring.h), wherever the transport has its memory from: what such ends have in common. */
#ifndef LAB_NODE_TRANSPORTS_RING_END_H
#define LAB_NODE_TRANSPORTS_RING_END_H

#include "node/transport.h"

#include "shm/ring.h"

struct lab_ring_end {
    struct lab_end end;
    _Alignas(64) union {
        struct lab_ring_producer producer;
        struct lab_ring_consumer consumer;
    };
};

_Static_assert((int)LAB_TX == (int)LAB_RING_PRODUCER && (int)LAB_RX == (int)LAB_RING_CONSUMER, "one numbering of roles");

static inline struct lab_ring_end *lab_ring_end_of(struct lab_end *end)
{
    return (struct lab_ring_end *)end;
}

static inline struct lab_ring_config lab_ring_end_config(const struct lab_channel *channel)
{
    return (struct lab_ring_config){
        .message_max = channel->message_max, .window = channel->window, .batch = channel->batch, .wait = channel->wait,
        .spin_ns = channel->spin_ns,
    };
}

/* One side of the ring in that memory, which is there. */
static inline int lab_ring_end_take(struct lab_ring_end *ring, void *memory, size_t size, const struct lab_ring_config *config)
{
    return ring->end.role == LAB_TX ? lab_ring_produce(&ring->producer, memory, size, config) : lab_ring_consume(&ring->consumer, memory, size, config);
}

/* ---- of lab_transport_ops ---- */

static int lab_ring_end_reserve(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    return lab_ring_reserve(&lab_ring_end_of(end)->producer, length, want, deadline_ns, ret_span);
}

static int lab_ring_end_reserve_ahead(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span,
                                      struct lab_tally *ret_tally)
{
    return lab_ring_reserve_ahead(&lab_ring_end_of(end)->producer, length, want, deadline_ns, ret_span, ret_tally);
}

static void lab_ring_end_commit(struct lab_end *end, uint32_t count)
{
    lab_ring_commit(&lab_ring_end_of(end)->producer, count);
}

static int lab_ring_end_borrow(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    return lab_ring_borrow(&lab_ring_end_of(end)->consumer, want, deadline_ns, ret_span);
}

static void lab_ring_end_release(struct lab_end *end, uint32_t count)
{
    lab_ring_release(&lab_ring_end_of(end)->consumer, count);
}

#define LAB_RING_END_OPS                                                                                                                        \
    .reserve = lab_ring_end_reserve, .reserve_ahead = lab_ring_end_reserve_ahead, .commit = lab_ring_end_commit, .borrow = lab_ring_end_borrow, \
    .release = lab_ring_end_release

#endif
