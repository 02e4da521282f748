/* A ring of messages from one producer to one consumer, over memory that the caller owns: it never allocates, maps or logs, and
 * it waits as it is told (shm/wait.h). Producer and consumer are two threads of any processes that share the memory; each is
 * used by one thread.
 *
 *     struct lab_ring_config config = {.message_max = 64, .window = 1024, .batch = 1, .wait = LAB_WAIT_SPIN};
 *     struct lab_ring_shape shape;
 *     err = lab_ring_shape(&config, &shape);                        // shape.size: bytes it needs, 128-byte aligned
 *     lab_ring_init(memory, &shape);                                // once
 *     err = lab_ring_produce(&producer, memory, size, &config);     // in one process
 *     err = lab_ring_consume(&consumer, memory, size, &config);     // in another
 *
 *     err = lab_ring_reserve(&producer, 64, 1, deadline_ns, &span); // writes span.at[0..63], then
 *     lab_ring_commit(&producer, 1);
 *     err = lab_ring_borrow(&consumer, 1, deadline_ns, &span);      // reads span.at[0..63], then
 *     lab_ring_release(&consumer, 1);
 *
 * Layout. A message lies in a *place*; a *mark* says that it is there. Places and marks are numbered by position modulo the
 * number of slots, a power of two. A mark is one 64-bit word, the only thing that is published:
 *
 *      63      48 47         32 31            0
 *     | lap tag  | count - 1   | length        |     of `count` messages of one length, from this position on
 *
 * The tag is the number of the lap with bit 15 set, so a mark of an earlier lap, and a zero, are not taken for one of this
 * lap. In each lap every position's mark is either written or, inside a batch, cleared, so one lap of memory is all it needs.
 * No index of the producer is shared: what the consumer polls is the mark of the message that it waits for.
 *
 *     beside     | m | message ... | m | message ... |        the mark in the 8 bytes before its message
 *     apart      | m m m m m m m m ... | message | message | ...
 *
 * Which of the two, and why (measured, bench/ring.c):  @LAYOUT@
 *
 * The consumer's position is published late, once in `lazy` messages, and the producer looks at it only when it knows of no
 * more room; there are at least window + lazy - 1 slots, so `window` messages always fit, as promised.
 *
 * Nothing read from the other side is trusted: a mark's length and count and the consumer's position are loaded once and
 * checked against what this side computed from its own config; what cannot be is -EBADMSG, and memory outside the places is
 * never lent.
 */
#ifndef LAB_SHM_RING_H
#define LAB_SHM_RING_H

#include "shm/span.h"
#include "shm/wait.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAB_RING_LIKELY(x) __builtin_expect(!!(x), 1)

enum { LAB_RING_LINE = 128, LAB_RING_WINDOW_MAX = 1 << 16 };
enum lab_ring_side { LAB_RING_PRODUCER, LAB_RING_CONSUMER };

struct lab_ring_config {
    uint32_t message_max; /* bytes, 1 .. 1 GiB */
    uint32_t window;      /* messages that always fit, 1 .. LAB_RING_WINDOW_MAX */
    uint32_t batch;       /* the most messages in one commit; 1 or more */
    enum lab_wait wait;   /* of both sides */
};

/* What follows from a config. Both sides compute it; it is never read from shared memory. */
struct lab_ring_shape {
    uint32_t message_max, slots, batch, lazy;
    uint32_t stride, mark_stride; /* bytes from one place, one mark, to the next */
    size_t places_at, marks_at;   /* bytes from the beginning of the memory */
    size_t size;                  /* bytes in all */
    uint32_t ahead;               /* the consumer looks so many messages ahead before it looks again at the next */
};

/* The words at the beginning of the memory. */
struct lab_ring_shared {
    /* Written when initialised, and once more by each side in its life. */
    uint64_t size;
    uint32_t message_max, slots, batch, wait;
    _Atomic uint32_t taken[2]; /* by lab_ring_side: someone attached */
    _Atomic uint32_t gone[2];  /* by lab_ring_side: closed or dead */
    /* The consumer's. */
    _Alignas(LAB_RING_LINE) _Atomic uint64_t released; /* messages */
    /* Where each side sleeps; written by both. */
    _Alignas(LAB_RING_LINE) struct lab_sleeper producer_sleeps;
    _Alignas(LAB_RING_LINE) struct lab_sleeper consumer_sleeps;
};
_Static_assert(offsetof(struct lab_ring_shared, released) == LAB_RING_LINE, "the consumer's line");
_Static_assert(sizeof(struct lab_ring_shared) == 4 * LAB_RING_LINE, "four lines");

struct lab_ring_producer {
    unsigned char *places, *marks;
    struct lab_ring_shared *shared;
    uint64_t head;      /* messages committed */
    uint64_t room_to;   /* positions below this one are known to be free */
    uint32_t mask, lap_shift, stride, mark_stride, batch, message_max;
    uint32_t refresh;   /* with no more room than this known, it looks again when there is time: after a commit */
    uint32_t lent;      /* length that was reserved */
    struct lab_wait_plan plan;
};

struct lab_ring_consumer {
    unsigned char *places, *marks;
    struct lab_ring_shared *shared;
    uint64_t tail;      /* messages released */
    uint64_t published; /* ... as the producer knows */
    uint32_t known;     /* messages from `tail` on that are there, all of one length ... */
    uint32_t length;    /* ... this one */
    uint32_t mask, lap_shift, stride, mark_stride, message_max, lazy, ahead;
    uint32_t waits, skip; /* of `skip` waits, so many have passed */
    struct lab_wait_plan plan;
};

/* -EMSGSIZE, -EINVAL: the config is out of range; -ENOMEM: the ring would not fit the address space. Recorded. */
int lab_ring_shape(const struct lab_ring_config *config, struct lab_ring_shape *ret_shape);

/* Makes an empty ring in `shape->size` bytes of zeroed memory aligned to LAB_RING_LINE. */
void lab_ring_init(void *memory, const struct lab_ring_config *config, const struct lab_ring_shape *shape);

/* Attach one side; each once in the life of a ring. `size` is that of the memory. -EBADMSG: the memory does not hold a ring of
 * this config; -EBUSY: the side is taken. Recorded. */
int lab_ring_produce(struct lab_ring_producer *producer, void *memory, size_t size, const struct lab_ring_config *config);
int lab_ring_consume(struct lab_ring_consumer *consumer, void *memory, size_t size, const struct lab_ring_config *config);

/* Tells the other side that this one is gone, and wakes it. May be called by anyone who knows (a supervisor), any number of
 * times. The consumer first receives everything that was committed. */
void lab_ring_hangup(void *memory, enum lab_ring_side dead);

/* The ways that are not taken for every message. */
int lab_ring_await_room(struct lab_ring_producer *producer, uint32_t length, uint64_t deadline_ns);
int lab_ring_await_message(struct lab_ring_consumer *consumer, uint64_t deadline_ns, uint64_t *ret_mark);
int lab_ring_bad_mark(const struct lab_ring_consumer *consumer, uint64_t mark);
void lab_ring_clear_marks(struct lab_ring_producer *producer, uint32_t count);
void lab_ring_know_more(struct lab_ring_consumer *consumer, uint32_t want);

static inline uint64_t lab_ring_tag(uint64_t position, uint32_t lap_shift)
{
    return (position >> lap_shift & 0x7fff) | 0x8000;
}

static inline _Atomic uint64_t *lab_ring_mark(unsigned char *marks, uint32_t mark_stride, uint64_t slot)
{
    return (_Atomic uint64_t *)(void *)(marks + slot * mark_stride);
}

static inline uint32_t lab_ring_least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Lends 1..want places for messages of `length` bytes. 0; -EAGAIN at the deadline; -EPIPE: the consumer is gone; -EMSGSIZE;
 * -EBADMSG: the consumer's position is impossible. All but -EAGAIN are recorded; nothing is lent on failure. */
static inline int lab_ring_reserve(struct lab_ring_producer *p, uint32_t length, uint32_t want, uint64_t deadline_ns,
                                   struct lab_span *ret_span)
{
    uint64_t head = p->head;
    bool fine = head != p->room_to && length <= p->message_max &&
                !atomic_load_explicit(&p->shared->gone[LAB_RING_CONSUMER], memory_order_relaxed);
    if (!LAB_RING_LIKELY(fine)) {
        int err = lab_ring_await_room(p, length, deadline_ns);
        if (err)
            return err;
    }
    uint64_t slot = head & p->mask;
    uint32_t count = 1;
    if (want > 1) {
        count = lab_ring_least(want, lab_ring_least(p->batch, p->mask + 1 - (uint32_t)slot));
        count = lab_ring_least(count, (uint32_t)(p->room_to - head));
    }
    p->lent = length;
    ret_span->at = p->places + slot * p->stride;
    ret_span->stride = p->stride;
    ret_span->length = length;
    ret_span->count = count;
    return 0;
}

/* Learns how much room there is; a position of the consumer that cannot be, or has gone back, is ignored. */
static inline void lab_ring_look_for_room(struct lab_ring_producer *p)
{
    uint64_t slots = p->mask + UINT64_C(1), released = atomic_load_explicit(&p->shared->released, memory_order_acquire);
    if (LAB_RING_LIKELY(p->head - released <= slots && released + slots - p->room_to <= slots))
        p->room_to = released + slots;
}

/* Sends the first `count` of the messages that are lent, and takes the other places back. Does not block. */
static inline void lab_ring_commit(struct lab_ring_producer *p, uint32_t count)
{
    uint64_t head = p->head;
    if (!LAB_RING_LIKELY(count == 1)) {
        if (count == 0)
            return;
        lab_ring_clear_marks(p, count);
    }
    uint64_t mark = lab_ring_tag(head, p->lap_shift) << 48 | (uint64_t)(count - 1) << 32 | p->lent;
    atomic_store_explicit(lab_ring_mark(p->marks, p->mark_stride, head & p->mask), mark, memory_order_release);
    p->head = head + count;
    if (!LAB_RING_LIKELY(p->room_to - p->head > p->refresh))
        lab_ring_look_for_room(p);
    if (p->plan.sleeps)
        lab_wait_wake(&p->shared->consumer_sleeps);
}

/* Lends 1..want messages of one length. 0; -EAGAIN at the deadline; -EPIPE: the producer is gone and everything was received;
 * -EBADMSG: what the producer wrote is impossible. All but -EAGAIN are recorded. */
static inline int lab_ring_borrow(struct lab_ring_consumer *c, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    uint64_t tail = c->tail, slot = tail & c->mask;
    if (c->known == 0) {
        uint64_t mark = atomic_load_explicit(lab_ring_mark(c->marks, c->mark_stride, slot), memory_order_acquire);
        if (!LAB_RING_LIKELY(mark >> 48 == lab_ring_tag(tail, c->lap_shift))) {
            int err = lab_ring_await_message(c, deadline_ns, &mark);
            if (err)
                return err;
        }
        uint32_t length = (uint32_t)mark, known = (uint32_t)(mark >> 32 & 0xffff) + 1;
        if (!LAB_RING_LIKELY(length <= c->message_max && known <= c->mask + 1 - (uint32_t)slot))
            return lab_ring_bad_mark(c, mark);
        c->length = length;
        c->known = known;
    }
    if (c->known < want)
        lab_ring_know_more(c, want);
    ret_span->at = c->places + slot * c->stride;
    ret_span->stride = c->stride;
    ret_span->length = c->length;
    ret_span->count = lab_ring_least(want, c->known);
    return 0;
}

void lab_ring_publish(struct lab_ring_consumer *c);

/* Gives back the first `count` of the messages that are borrowed; the others will be borrowed again. Does not block. */
static inline void lab_ring_release(struct lab_ring_consumer *c, uint32_t count)
{
    c->tail += count;
    c->known -= count;
    if (!LAB_RING_LIKELY(c->tail - c->published < c->lazy))
        lab_ring_publish(c);
}

#endif
