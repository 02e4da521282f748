/* A ring of messages from one producer to one consumer, over memory that the caller owns: it never allocates, maps or logs, and
 * it waits as it is told (shm/wait.h). Producer and consumer are two threads of any processes that share the memory; each is
 * used by one thread.
 *
 *     struct lab_ring_config config = {.message_max = 64, .window = 1024, .batch = 1, .wait = LAB_WAIT_SPIN};
 *     struct lab_ring_shape shape;
 *     err = lab_ring_shape(&config, &shape);                        // shape.size: bytes it needs, 128-byte aligned
 *     lab_ring_init(memory, &config, &shape);                       // once
 *     err = lab_ring_produce(&producer, memory, size, &config);     // in one process
 *     err = lab_ring_consume(&consumer, memory, size, &config);     // in another
 *
 *     err = lab_ring_reserve(&producer, 64, 1, deadline_ns, &span); // writes span.at[0..63], then
 *     lab_ring_commit(&producer, 1);
 *     err = lab_ring_borrow(&consumer, 1, deadline_ns, &span);      // reads span.at[0..63], then
 *     lab_ring_release(&consumer, 1);
 *
 * Layout. A message lies in a *place*; places are numbered by position modulo the number of slots, a power of two. How a message
 * is published depends on what the ring is for, which its window and batch say:
 *
 *     marked     | m | message ... | m | message ... |          window <= LAB_RING_MARKED_WINDOW and one by one: for latency
 *     counted    | l l l l l l l l ... | message | message | ...    else: for throughput
 *
 * In a *marked* ring each place has a mark, one 64-bit word in the 8 bytes before the message: its position plus one (32 bits) and
 * its length. That word is what the consumer polls. A message of up to 56 bytes shares one line with it, so handing it over costs
 * what handing over one line costs; a longer one begins at a line of its own, right behind the line that the mark ends. A mark of
 * an earlier lap, and a zero, have another position.
 *
 * In a *counted* ring the producer publishes how many messages it has committed, one word for all of them, and the consumer looks
 * at that word only when it has taken everything that it knew of: the more it lags, the less the two meet. The lengths lie in an
 * array of their own that is written only where a length differs from the one a lap ago; and when a whole lap had one length the
 * producer says so beside the count (`even`). Nobody looks at the array then: a stream of equal messages moves nothing but the
 * messages, and how many of them are there is all that is to be known.
 *
 * How many slots there are matters as much. A marked ring of small messages has just its window: the lines of a ping-pong are then always the same
 * few, and what prefetchers fetch besides does not get in the way (48 bytes: 45 ns with 2 slots, 57 with 16, 80 with 128, where a
 * line is handed over in 45). A counted ring is larger than the cores' own caches (SPREAD_BYTES): what is written next has been
 * evicted to the cache that both share since it was last read, and is fetched from there, many lines at a time; in a small ring each
 * line has to be taken from the other core, one after the other. So is a marked ring of messages of 64 KiB and more, for it is the same with the
 * many lines of one message: 64 KiB there and back, written and read, take 8.5 us a way in 2 slots and 2.55 in 64; 1 MiB, which evicts itself, 26 in 2
 * slots as in 4, and 30 in 8 (bench/large.c; where the two cores share no cache and a line takes 170 ns it gains little). 64 bytes one by one, in batches of 32, and 1 KiB: 20, 122 and 6
 * million messages/s in 128 KiB, 125, 315 and 22 in 4 MiB (bench/ring.c, Zen 4, 1 MiB of L2 each, a line handed over in 46 ns).
 *
 * What each of these gives, and what was tried in vain (ipclab's stream and ping-pong, old and new in turn, 2 cores of a Zen 4, a
 * line handed over in 43-48 ns, window 1024 where nothing else is said; million messages/s, or GB/s, or ns a way):
 *
 *     a label's check that lets a span be written by adding (node/lane/stamp.h)    64 B in 32s: 340 -> 475
 *     `even`: no lengths are read or written                                       64 B in 32s: 475 -> 490; with the above 48 B: 212 -> 580
 *     rings of short messages as large as any, not 65536 places at most            8 B in 32s, window 16384: 550 -> 1200; in 128s: 1890
 *     lent ahead, sent by a tally (lab_ring_reserve_ahead)                         one by one 8 B: 140 -> 190, 48 B: 150 -> 325, 64 B: 145 -> 205
 *     a window of 16384 instead of 1024                                            64 B in 32s: 500 -> 765 (49 GB/s)
 *     a body that repeats itself every 4 KiB, written 32 bytes a store             64 KiB: 40 -> 48 GB/s
 *     its reader fetches one page ahead                                            64 KiB: 48 -> 65 GB/s (memcpy: 42-48)
 *     the place to be written next is fetched while there is time (marked)         ping-pong 1 KiB: 168 -> 125 ns; 64 B: 53 -> 50
 *     fetching places 512 to 2048 bytes ahead in a counted ring                    nothing
 *     letting the producer get ahead by a half of a window, not a quarter          nothing; with 4 pauses or 1 between two looks, not 16:
 *                                                                                  64 B in 32s: 500 -> 170, 125
 *     the writer of a long body fetches 1 or 4 KiB ahead                           64 KiB: 3 to 10 % less
 *     stores past the caches (movnt)                                               58 GB/s at most, as all stores of 16 bytes
 *
 * The consumer's position is published late, once in `lazy` messages, and the producer looks at it only when it knows of no
 * more room; there are at least window + lazy - 1 slots, so `window` messages always fit, as promised.
 *
 * Nothing read from the other side is trusted: lengths, the producer's count and the consumer's position are loaded once and
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

enum { LAB_RING_LINE = 128, LAB_RING_WINDOW_MAX = 1 << 16, LAB_RING_MARKED_WINDOW = 64 };
enum lab_ring_side { LAB_RING_PRODUCER, LAB_RING_CONSUMER };

struct lab_ring_config {
    uint32_t message_max; /* bytes, 1 .. 1 GiB */
    uint32_t window;      /* messages that always fit, 1 .. LAB_RING_WINDOW_MAX */
    uint32_t batch;       /* the most messages in one commit; 1 or more */
    enum lab_wait wait;   /* of both sides */
    uint32_t siblings;    /* rings beside this one that the same cores use: a counted ring is then spread over its part */
    uint64_t spin_ns;     /* of this side, LAB_WAIT_ADAPTIVE: polls for so long at most; 0: the default */
    struct lab_bells bells; /* of this side, LAB_WAIT_POLL; the caller's, open for as long as it is attached */
};

/* What follows from a config. Both sides compute it; it is never read from shared memory. */
struct lab_ring_shape {
    bool marked;                  /* else counted */
    uint32_t message_max, slots, batch, lazy;
    uint32_t stride;              /* bytes from one place to the next */
    size_t places_at, lengths_at; /* bytes from the beginning of the memory; a marked ring has no lengths */
    size_t size;                  /* bytes in all */
};

/* The words at the beginning of the memory. */
struct lab_ring_shared {
    /* Written when initialised, and once more by each side in its life. */
    uint64_t size;
    uint32_t message_max, slots, batch, wait;
    _Atomic uint32_t taken[2]; /* by lab_ring_side: someone attached */
    _Atomic uint32_t gone[2];  /* by lab_ring_side: closed or dead */
    /* The producer's; counted rings only. */
    _Alignas(LAB_RING_LINE) _Atomic uint64_t committed; /* messages */
    _Atomic uint32_t even;                              /* the length that the whole array of lengths holds; 0: it holds several */
    /* The consumer's. */
    _Alignas(LAB_RING_LINE) _Atomic uint64_t released; /* messages */
    /* Where each side sleeps; written by both. */
    _Alignas(LAB_RING_LINE) struct lab_sleeper producer_sleeps;
    _Alignas(LAB_RING_LINE) struct lab_sleeper consumer_sleeps;
};
_Static_assert(offsetof(struct lab_ring_shared, committed) == LAB_RING_LINE, "the producer's line");
_Static_assert(offsetof(struct lab_ring_shared, released) == 2 * LAB_RING_LINE, "the consumer's line");
_Static_assert(sizeof(struct lab_ring_shared) == 5 * LAB_RING_LINE, "five lines");

/* What both sides know of the memory, from their own config. */
struct lab_ring_view {
    unsigned char *places;
    _Atomic uint32_t *lengths;  /* NULL: a marked ring */
    struct lab_ring_shared *shared;
    uint32_t mask, stride, message_max;
    struct lab_wait_plan plan;
};

struct lab_ring_producer {
    struct lab_ring_view view;
    uint64_t head;      /* messages committed */
    uint64_t room_to;   /* positions below this one are known to be free */
    uint32_t batch;
    uint32_t refresh;   /* with no more room than this known, it looks again when there is time: after a commit */
    uint32_t lent;      /* length that was reserved */
    uint32_t fetch;     /* bytes of the place after this one that are fetched while there is time: after a commit */
    uint32_t even;      /* as is published; a length that it is not has to be written for each message */
    uint32_t alike, run; /* so many messages in a row, up to a lap of them, had this length */
};

/* Of a consumer that has caught up. */
struct lab_ring_patience {
    uint32_t ahead;           /* the producer may get so far ahead; 0: no patience */
    uint32_t caught_up, skip; /* it caught up so often since that was tried, and is not to try so often */
};

struct lab_ring_consumer {
    struct lab_ring_view view;
    uint64_t tail;      /* messages released */
    uint64_t there;     /* messages committed, as far as this side knows */
    uint64_t published; /* messages released, as the producer knows */
    uint32_t known;     /* messages from `tail` on that have one length ... */
    uint32_t length;    /* ... this one */
    uint32_t even;      /* what the producer said when `there` was read */
    uint32_t lazy;
    struct lab_ring_patience patience;
};

/* -EMSGSIZE, -EINVAL: the config is out of range; -ENOMEM: the ring would not fit the address space. Recorded. */
int lab_ring_shape(const struct lab_ring_config *config, struct lab_ring_shape *ret_shape);

/* Makes an empty ring in `shape->size` bytes of zeroed memory aligned to LAB_RING_LINE. */
void lab_ring_init(void *memory, const struct lab_ring_config *config, const struct lab_ring_shape *shape);

/* For structures made of rings: what can be known of one from its config, whether it is there or not. */
struct lab_ring_view lab_ring_view(void *memory, const struct lab_ring_config *config, const struct lab_ring_shape *shape);
struct lab_ring_patience lab_ring_patience(const struct lab_ring_config *config, const struct lab_ring_shape *shape);

/* Attach one side; each once in the life of a ring. `size` is that of the memory. -EBADMSG: the memory does not hold a ring of
 * this config; -EBUSY: the side is taken. -EINVAL: LAB_WAIT_POLL without bells. Recorded. */
int lab_ring_produce(struct lab_ring_producer *producer, void *memory, size_t size, const struct lab_ring_config *config);
int lab_ring_consume(struct lab_ring_consumer *consumer, void *memory, size_t size, const struct lab_ring_config *config);

/* Tells the other side that this one is gone, and wakes it; on its bell (LAB_WAIT_POLL) whoever calls this rings after it. May be
 * called by anyone who knows (a supervisor), any number of times. The consumer first receives everything that was committed. */
void lab_ring_hangup(void *memory, enum lab_ring_side dead);

/* For event loops, LAB_WAIT_POLL only; shm/wait.h has the order of the three. `fd` becomes readable when there is room, or a message,
 * or nobody on the other side any more, and it was armed before; it is readable for nothing now and then. `arm` is false if there is
 * something already. */
int lab_ring_producer_fd(const struct lab_ring_producer *producer);
bool lab_ring_producer_arm(struct lab_ring_producer *producer);
void lab_ring_producer_disarm(struct lab_ring_producer *producer);
int lab_ring_consumer_fd(const struct lab_ring_consumer *consumer);
bool lab_ring_consumer_arm(struct lab_ring_consumer *consumer);
void lab_ring_consumer_disarm(struct lab_ring_consumer *consumer);

/* The ways that are not taken for every message; the functions below end in them, so that a message that has not to wait saves
 * no register and calls nothing. */
int lab_ring_reserve_late(struct lab_ring_producer *producer, uint32_t length, uint32_t want, uint64_t deadline_ns,
                          struct lab_span *ret_span);
int lab_ring_borrow_late(struct lab_ring_consumer *consumer, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span);
int lab_ring_borrow_more(struct lab_ring_consumer *consumer, uint32_t want, struct lab_span *ret_span);
void lab_ring_fetch_place(const struct lab_ring_producer *producer);
void lab_ring_write_lengths(struct lab_ring_producer *producer, uint32_t count);
void lab_ring_publish(struct lab_ring_consumer *consumer);

/* A consumer at `tail` of a counted ring, which had caught up and now knows of messages before `there`, lets the producer get ahead
 * for a while. Returns what it then knows of. */
uint64_t lab_ring_let_get_ahead(struct lab_ring_patience *patience, const struct lab_ring_shared *shared, uint64_t tail, uint64_t there);

static inline unsigned char *lab_ring_place(const struct lab_ring_view *view, uint64_t position)
{
    return view->places + (position & view->mask) * view->stride;
}

static inline _Atomic uint64_t *lab_ring_mark(const struct lab_ring_view *view, uint64_t position)
{
    return (_Atomic uint64_t *)(void *)lab_ring_place(view, position) - 1;
}

/* What the mark of a message says. */
static inline uint64_t lab_ring_mark_of(uint64_t position, uint32_t length)
{
    return (position + 1) << 32 | length;
}

static inline uint32_t lab_ring_least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* From a position on, the places in one piece: a span does not wrap. */
static inline uint32_t lab_ring_in_one_piece(const struct lab_ring_view *view, uint64_t position)
{
    return view->mask + 1 - ((uint32_t)position & view->mask);
}

static inline void lab_ring_lend_up_to(struct lab_ring_producer *p, uint32_t length, uint32_t want, struct lab_span *ret_span)
{
    const struct lab_ring_view *view = &p->view;
    uint64_t head = p->head;
    uint32_t count = 1;
    if (want > 1)
        count = lab_ring_least(want, lab_ring_least((uint32_t)(p->room_to - head), lab_ring_in_one_piece(view, head)));
    p->lent = length;
    ret_span->at = lab_ring_place(view, head);
    ret_span->stride = view->stride;
    ret_span->length = length;
    ret_span->count = count;
}

static inline void lab_ring_lend(struct lab_ring_producer *p, uint32_t length, uint32_t want, struct lab_span *ret_span)
{
    lab_ring_lend_up_to(p, length, lab_ring_least(want, p->batch), ret_span);
}

/* Whether a place can be lent without further ado. */
static inline bool lab_ring_has_place(const struct lab_ring_producer *p, uint32_t length)
{
    return p->head != p->room_to && length <= p->view.message_max &&
           !atomic_load_explicit(&p->view.shared->gone[LAB_RING_CONSUMER], memory_order_relaxed);
}

/* Lends 1..want places for messages of `length` bytes. 0; -EAGAIN at the deadline; -EPIPE: the consumer is gone; -EMSGSIZE;
 * -EBADMSG: the consumer's position is impossible. All but -EAGAIN are recorded; nothing is lent on failure. */
static inline int lab_ring_reserve(struct lab_ring_producer *p, uint32_t length, uint32_t want, uint64_t deadline_ns,
                                   struct lab_span *ret_span)
{
    if (!LAB_RING_LIKELY(lab_ring_has_place(p, length)))
        return lab_ring_reserve_late(p, length, want, deadline_ns, ret_span);
    lab_ring_lend(p, length, want, ret_span);
    return 0;
}

/* As reserve, for messages that are sent one by one: where a count is all that there is to publish, and nobody sleeps, as many places
 * as are wanted are lent ahead, and the tally sends each message by itself (lab_tally_one). A span with a tally ends with the
 * commit of just those that were sent with it; one without has one place, and is sent by commit. */
static inline int lab_ring_reserve_ahead(struct lab_ring_producer *p, uint32_t length, uint32_t want, uint64_t deadline_ns,
                                         struct lab_span *ret_span, struct lab_tally *ret_tally)
{
    bool ahead = p->even && p->even == length && !p->view.plan.sleeps && lab_ring_has_place(p, length);
    ret_tally->sent = ahead ? &p->view.shared->committed : NULL;
    ret_tally->count = p->head;
    if (!LAB_RING_LIKELY(ahead))
        return lab_ring_reserve(p, length, 1, deadline_ns, ret_span);
    lab_ring_lend_up_to(p, length, want, ret_span);
    return 0;
}

/* Learns how much room there is; a position of the consumer that cannot be, or has gone back, is ignored. */
static inline void lab_ring_look_for_room(struct lab_ring_producer *p)
{
    uint64_t slots = p->view.mask + UINT64_C(1), released = atomic_load_explicit(&p->view.shared->released, memory_order_acquire);
    if (LAB_RING_LIKELY(p->head - released <= slots && released + slots - p->room_to <= slots))
        p->room_to = released + slots;
}

static inline void lab_ring_publish_counted(struct lab_ring_producer *p, uint32_t count)
{
    if (!LAB_RING_LIKELY(p->lent && p->lent == p->even))
        lab_ring_write_lengths(p, count);
    atomic_store_explicit(&p->view.shared->committed, p->head + count, memory_order_release);
}

/* The first `count` of the messages that are lent can be seen from here on. */
static inline void lab_ring_show_sent(struct lab_ring_producer *p, uint32_t count)
{
    const struct lab_ring_view *view = &p->view;
    if (view->lengths)
        lab_ring_publish_counted(p, count);
    else
        atomic_store_explicit(lab_ring_mark(view, p->head), lab_ring_mark_of(p->head, p->lent), memory_order_release);
    p->head += count;
}

/* Sends the first `count` of the messages that are lent, and takes the other places back. Does not block. */
static inline void lab_ring_commit(struct lab_ring_producer *p, uint32_t count)
{
    const struct lab_ring_view *view = &p->view;
    if (!LAB_RING_LIKELY(count))
        return;
    lab_ring_show_sent(p, count);
    if (!LAB_RING_LIKELY(p->room_to - p->head > p->refresh))
        lab_ring_look_for_room(p);
    lab_wait_wake_by(&view->plan, &view->shared->consumer_sleeps);
    if (p->fetch && p->head != p->room_to)
        lab_ring_fetch_place(p);
}

/* `even` is read after the count. It may be younger: then too it speaks of all slots, those that are not released included. */
static inline void lab_ring_look_at_count(struct lab_ring_consumer *c)
{
    const struct lab_ring_shared *shared = c->view.shared;
    c->there = atomic_load_explicit(&shared->committed, memory_order_acquire);
    c->even = atomic_load_explicit(&shared->even, memory_order_relaxed);
}

/* Whether there is a message at `tail` that was not known; `ret_length` is its length, unchecked. */
static inline bool lab_ring_look_for_message(struct lab_ring_consumer *c, uint32_t *ret_length)
{
    const struct lab_ring_view *view = &c->view;
    uint64_t tail = c->tail;
    if (!view->lengths) {
        uint64_t mark = atomic_load_explicit(lab_ring_mark(view, tail), memory_order_acquire);
        *ret_length = (uint32_t)mark;
        c->there = tail + (mark >> 32 == (uint32_t)(tail + 1));
        return c->there != tail;
    }
    if (c->there == tail) {
        lab_ring_look_at_count(c);
        if (c->there == tail)
            return false;
    }
    *ret_length = c->even ? c->even : atomic_load_explicit(&view->lengths[tail & view->mask], memory_order_relaxed);
    return true;
}

/* Whether that message can be: its length, and that there are so many. */
static inline bool lab_ring_can_be(const struct lab_ring_consumer *c, uint32_t length)
{
    return length <= c->view.message_max && c->there - c->tail - 1 <= c->view.mask;
}

/* Of the messages that are there, in one piece, those that need not be looked at to know that they are as long as the first. */
static inline uint32_t lab_ring_alike(const struct lab_ring_consumer *c)
{
    uint64_t there = c->there - c->tail;
    uint32_t piece = lab_ring_in_one_piece(&c->view, c->tail);
    return !c->even || c->even != c->length ? 1 : there < piece ? (uint32_t)there : piece;
}

static inline void lab_ring_show(const struct lab_ring_consumer *c, uint32_t want, struct lab_span *ret_span)
{
    ret_span->at = lab_ring_place(&c->view, c->tail);
    ret_span->stride = c->view.stride;
    ret_span->length = c->length;
    ret_span->count = lab_ring_least(want, c->known);
}

/* Lends 1..want messages of one length. 0; -EAGAIN at the deadline; -EPIPE: the producer is gone and everything was received;
 * -EBADMSG: what the producer wrote is impossible. All but -EAGAIN are recorded. */
static inline int lab_ring_borrow(struct lab_ring_consumer *c, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    if (c->known == 0) {
        uint32_t length = 0;
        bool there = lab_ring_look_for_message(c, &length) && lab_ring_can_be(c, length);
        if (!LAB_RING_LIKELY(there))
            return lab_ring_borrow_late(c, want, deadline_ns, ret_span);
        c->length = length;
        c->known = lab_ring_alike(c);
    }
    if (c->known < want)
        return lab_ring_borrow_more(c, want, ret_span);
    lab_ring_show(c, want, ret_span);
    return 0;
}

/* Gives back the first `count` of the messages that are borrowed; the others will be borrowed again. Does not block. */
static inline void lab_ring_release(struct lab_ring_consumer *c, uint32_t count)
{
    c->tail += count;
    c->known -= count;
    if (!LAB_RING_LIKELY(c->tail - c->published < c->lazy))
        lab_ring_publish(c);
}

#endif
