/* What a message of the laboratory looks like, and how it is written and verified at memory speed.
 *
 *     word 0   sequence (32 bits) | flags (4) | sender (12) | check of these and of the length (16)
 *     word 1   sum of all following words and a multiple of word 0            (messages of 16 bytes and more)
 *     word 2.. body: pseudo-random words of the cell's seed, salted with the sequence
 *
 * All words are 64 bits, little-endian as the machine is; a tail of fewer than 8 bytes counts as a zero-extended word. In
 * messages of up to 512 bytes every body word is salted, so that no two messages of a channel have a word in common; in
 * larger ones one word of every 4 KiB is, so that a sender whose transport copies for it need not rewrite the whole
 * buffer for each message. Whoever writes in place (loan path) writes every byte; whoever reads in place reads every byte.
 *
 * Writing computes the stamp in registers and stores each word of a short message once: storing one word and then copying over
 * it halves the rate (failed store-to-load forwarding). The words of successive messages form progressions, so that a span is
 * written by adding: 64 bytes in 4 cycles instead of 6, 8 bytes in 1.5 instead of 3.5, verified in 3.6 instead of 7 and in 2
 * instead of 4 (Zen 4). A long body repeats itself every 4 KiB: what is copied from stays in the innermost cache, and with stores
 * of 32 bytes 64 KiB are written at 95 GB/s instead of 48 (a source as long as the message) or 58 (stores of 16 bytes).
 */
#ifndef LAB_NODE_LANE_MESSAGE_H
#define LAB_NODE_LANE_MESSAGE_H

#include "node/pattern.h"
#include "node/transport.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAB_SHORT = 512 }; /* bytes of a message up to which every word of its body is salted */
enum { LAB_SENDERS = 1 << 12 }; /* parties are told apart in messages up to so many */

enum lab_flag {
    LAB_TURN = 1 << 0,  /* the last message of the client's turn */
    LAB_MARK = 1 << 1,  /* the measured phase begins with the next message */
    LAB_PROBE = 1 << 2, /* after this turn both sides run the proximity probe */
    LAB_FIN = 1 << 3,   /* the last message of its channel */
};

/* How the messages of one lane are made: fixed for a launch. */
struct lab_stencil {
    uint32_t size;        /* of a message, bytes, at least LAB_MESSAGE_MIN */
    uint32_t salted;      /* number of salted words of the body */
    uint16_t sender;
    uint64_t base_sum;    /* sum of the body words without salt */
    unsigned char *body;  /* owned: what is repeated, 4 KiB; 64-byte aligned */
};
int lab_stencil_init(struct lab_stencil *stencil, uint32_t size, uint16_t sender, uint64_t seed); /* -ENOMEM */
void lab_stencil_fini(struct lab_stencil *stencil);

/* Writes `span->count` messages in place, sequences from `first` on; `last_flags` go onto the last one. */
void lab_message_fill(const struct lab_stencil *stencil, const struct lab_span *span, uint32_t first, uint32_t last_flags);

/* As fill, for one message in a buffer that already holds one of this stencil: rewrites only what changes. */
void lab_message_refresh(const struct lab_stencil *stencil, unsigned char *message, uint32_t sequence, uint32_t flags);

/* What a message says of itself. */
struct lab_label {
    uint32_t sequence;
    uint32_t flags;
    uint16_t sender;
};

/* Whether `length` bytes are a message: the check in word 0, and with `whole` the sum over every byte. */
bool lab_message_read(const unsigned char *message, uint32_t length, bool whole, struct lab_label *ret_label);

/* Verifies a span of the stencil's size at one go: counts those that are whole and in order from sequence `first`, up to
 * and including the first one that has flags (returned), or stopping before the first that is not as expected. */
uint32_t lab_message_check(const struct lab_stencil *stencil, const struct lab_span *span, uint32_t first, uint32_t *ret_flags);

#endif
