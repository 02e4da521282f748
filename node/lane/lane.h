/* A lane: one end of a channel together with the discipline of its messages. Patterns and the relay speak only to lanes
 * and lab_end_send/lab_end_recv, and so never know whether a transport copies or lends.
 *
 * A sending lane stamps every message; a receiving lane verifies every one and keeps the account (struct lab_account).
 * With `envelope`, each message travels inside the protobuf envelope of proto/data.proto: written into headroom before the
 * message, so that both leave as one contiguous piece.
 *
 * One thread per lane. All functions return 0, -EAGAIN at the deadline, -EPIPE, or another -errno (lane broken). */
#ifndef LAB_NODE_LANE_LANE_H
#define LAB_NODE_LANE_LANE_H

#include "node/lane/message.h"
#include "node/lane/stages.h"
#include "node/transport.h"
#include "proto/envelope.h"

/* Every message of a channel, accounted for. Where consumers share what several producers send, each sees a part, in order: what is
 * missing here may have gone elsewhere, and only all accounts together tell what was lost. `lost` shrinks again when a late message arrives (then `reordered` grows). */
struct lab_account {
    uint64_t sent, received, lost, duplicated, reordered, corrupt;
};

enum { LAB_GAPS_MAX = 32 };

struct lab_lane {
    struct lab_end *end;         /* owned */
    struct lab_stencil stencil;
    bool loan;                   /* the transport lends its buffers */
    bool verify_all;             /* sum every message; else every 64th */
    bool envelope;
    struct lab_stages *stages;   /* of messages that go one by one in an envelope; NULL: nobody looks */
    struct lab_envelope head;    /* of what is sent; what is expected, on receipt */
    uint32_t next;               /* sequence of the next message sent or expected */
    struct lab_account account;
    unsigned char *buffer;       /* copying transports: `places` of them, each with headroom for an envelope: the messages sent or received last */
    size_t stride;               /* ... from one to the next */
    uint32_t places;             /* ... channel.batch, or 1 */
    uint32_t *lengths;           /* RX, several places: of the messages received together, of which ... */
    uint32_t arrived, taken;     /* ... so many came, and so many were taken */
    const unsigned char *unsettled; /* a copied message whose verification is still due; NULL: none */
    bool unreleased;             /* a lent message, verified, is still to be given back */
    struct { uint32_t from, count; } gap[LAB_GAPS_MAX]; /* sequences that were skipped, newest last */
    uint32_t gaps;
    uint32_t *due;               /* RX of a shared channel: the least sequence that each sender may send; NULL: one sender, and all that it sends */
};

/* `end` is owned by the lane on success. `size`: of each message on this channel. */
int lab_lane_init(struct lab_lane *lane, struct lab_end *end, uint32_t size, uint16_t sender, uint64_t seed, bool verify_all,
                  const struct lab_envelope *envelope);
void lab_lane_fini(struct lab_lane *lane); /* closes the end */

/* What a message of `size` bytes needs on the wire. */
static inline uint32_t lab_lane_wire_bytes(uint32_t size, bool envelope)
{
    return size + (envelope ? LAB_ENVELOPE_HEAD : 0);
}

/* Sends `count` messages, `last_flags` on the last one. On -EAGAIN some of them may have left. */
int lab_lane_put(struct lab_lane *lane, uint32_t count, uint32_t last_flags, uint64_t deadline_ns);

/* Receives up to `want` messages, at least one, stopping after one that carries flags; fewer when that is what an operation of
 * the transport gave. A lent message is verified here and, when one was asked for, given back by lab_lane_settle; of a copied one
 * only the label is read, and lab_lane_settle verifies the rest. The caller may postpone that until after its answer has left;
 * the next take does it at the latest. */
int lab_lane_take(struct lab_lane *lane, uint32_t want, uint64_t deadline_ns, uint32_t *ret_count, uint32_t *ret_flags);

void lab_lane_settle_now(struct lab_lane *lane);
static inline void lab_lane_settle(struct lab_lane *lane)
{
    if (lane->unsettled || lane->unreleased)
        lab_lane_settle_now(lane);
}

/* The copy path over any transport: derived here, once, from the loan path where there is no other. recv returns the
 * length, or -EMSGSIZE when `room` is too small (the message is gone). */
int lab_end_send(struct lab_end *end, const void *message, uint32_t length, uint64_t deadline_ns);
ssize_t lab_end_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns);

#endif
