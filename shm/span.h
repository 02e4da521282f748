/* Several messages in place: message i is at `at + i * stride`. Messages of one span have one length. What structures lend
 * to whoever writes or reads in place. */
#ifndef LAB_SHM_SPAN_H
#define LAB_SHM_SPAN_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct lab_span {
    unsigned char *at;
    size_t stride;
    uint32_t length; /* of each message, bytes */
    uint32_t count;
};

/* Sends messages of a span one at a time, without a call for each: when a message was written, lab_tally_one() makes it visible, and
 * those before it were. For structures that publish a count, and for messages of which nothing else is to be published. */
struct lab_tally {
    _Atomic uint64_t *sent; /* NULL: this span is sent as a whole */
    uint64_t count;         /* as `*sent` is now */
};

static inline void lab_tally_one(struct lab_tally *tally)
{
    atomic_store_explicit(tally->sent, ++tally->count, memory_order_release);
}

#endif
