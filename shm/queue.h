/* A bounded queue of many producers and many consumers, over memory that the caller owns: it never allocates, maps or logs, and it
 * waits as it is told (shm/wait.h). Each message goes to exactly one consumer. With one consumer it is a mailbox. Up to
 * LAB_QUEUE_SEATS producers and as many consumers take a *seat* each, by number; a seat is used by one thread of any process that
 * shares the memory.
 *
 *     struct lab_queue_config config = {.message_max = 64, .window = 1024, .producers = 2, .consumers = 2, .batch = 1};
 *     struct lab_queue_shape shape;
 *     err = lab_queue_shape(&config, &shape);                           // shape.size: bytes it needs, 128-byte aligned
 *     lab_queue_init(memory, &config, &shape);                          // once
 *     err = lab_queue_produce(&producer, memory, size, &config, 1);     // in one process: the second producer
 *     err = lab_queue_consume(&consumer, memory, size, &config, 0);     // in another: the first consumer
 *
 *     err = lab_queue_reserve(&producer, 64, 1, deadline_ns, &span);    // writes span.at[0..63], then
 *     lab_queue_commit(&producer, 1);
 *     err = lab_queue_borrow(&consumer, 1, deadline_ns, &span);         // reads span.at[0..63], then
 *     lab_queue_release(&consumer, 1);
 *
 * Layout. Producers have nothing to agree about: each has a *lane* of its own, a ring (shm/ring.h) of which it is the producer.
 * What consumers share are the lanes:
 *
 *     | shared | seats | sleepers | lane 0 | lane 1 | ...          a lane:   | ring ... | lane words | claim claim claim ... |
 *
 * A consumer *claims* a run of messages of a lane. Behind each ring lies one 64-bit word for each slot; the word of the slot where
 * a run begins says all there is to say about the run:
 *
 *     63        21     20      19    10 9          0
 *     | lap + 1  | released |  seat    | length - 1 |
 *
 * so that one compare-and-swap takes a run and records who has it, and no instruction lies between the two. Runs follow each
 * other: who knows where one begins finds the next one behind it, and so the first message that nobody has claimed, where the word
 * is of an earlier lap. That walk from the beginning of a run is all that consumers, the producer (which finds the runs that were
 * released, and so its room) and a supervisor (which finds the run of a dead consumer) ever do with the words. A consumer
 * remembers for each lane how far it has walked.
 *
 * Order. The messages of one producer reach each consumer in the order in which they were sent. Between the messages of two
 * producers there is none: a consumer stays in a lane for up to LAB_QUEUE_TURN messages as long as it finds any, and then goes on
 * to the next, so that no lane waits for longer than a turn of every other. `window` messages *of each producer* always fit, so
 * that none can fill the queue for the others.
 *
 * Speed. What was measured beside ck_ring's queue for many (bench/queue.c: 2 producers and 2 consumers on 2 cores of a Zen 4, each
 * core with one of either, every byte written and read; hand-over of a line 40 to 46 ns, real-time priority):
 *
 *     million messages/s          8 B     64 B     8 B in 32s     64 B in 32s
 *     lanes                        79       55            400             135
 *     ck_ring, 1024 deep           19       16              -               -
 *     ck_ring, 65536 deep          22       17              -               -
 *
 * and 5 to 7 times ck_ring's where a line takes 170 ns. What makes the difference is that no line is written by all: a shared queue
 * has a word that every producer and one that every consumer must take in turn, for each message. Where more parties than cores
 * run, ck_ring's parties wait within an operation for one that has lost its core, and two producers on one core send a few hundred
 * messages a second; here nobody waits for anybody within an operation.
 *
 * A lane is larger than the cores' own caches, as a ring is (shm/ring.h says why), but no more than half of it is ever in use
 * (`room`), so that the producer does not come right behind the consumer when the queue is full: 64 bytes in 32s from one producer
 * to one consumer, 82 million/s, and 42 in a ring that is used up to its last slot. A consumer that has caught up lets the producer get
 * ahead, as that of a ring does, if messages are of a line or more: 81 million/s of 64 bytes instead of 21; of 8 bytes it would be
 * 325 in 32s instead of 630. Consumers that stay in a lane while others serve the rest, instead of going round, gained 10 % with a
 * producer beside them and lost 25 % without: they go round.
 *
 * Death. A producer that dies leaves nothing to be mended: what it had reserved was never visible, what it had committed is
 * received. A consumer that dies may hold one run, which cannot be told from one that it has worked on: it is never given to
 * another. lab_queue_hangup notes at its seat how many messages that were, and releases it, so that its slots can be used again:
 * delivery is at most once, and what was sent is always what was received plus lab_queue_dropped(). Who is alive is never held up
 * by one who is stopped, until the producer has used the whole ring and comes to the slots that the stopped one has borrowed.
 *
 * Nothing read from the other side is trusted: words, positions and lengths are loaded once and checked; a walk is bounded;
 * what cannot be is -EBADMSG, and memory outside the places is never lent.
 */
#ifndef LAB_SHM_QUEUE_H
#define LAB_SHM_QUEUE_H

#include "shm/ring.h"

enum { LAB_QUEUE_SEATS = 1024, LAB_QUEUE_RUN_MAX = 1024, LAB_QUEUE_TURN = 256 };
enum lab_queue_side { LAB_QUEUE_PRODUCER, LAB_QUEUE_CONSUMER };

struct lab_queue_config {
    uint32_t message_max; /* bytes, 1 .. 1 GiB */
    uint32_t window;      /* messages of each producer that always fit, 1 .. LAB_RING_WINDOW_MAX */
    uint32_t producers;   /* seats, 1 .. LAB_QUEUE_SEATS */
    uint32_t consumers;   /* seats, 1 .. LAB_QUEUE_SEATS */
    uint32_t batch;       /* the most messages in one commit or borrow, 1 or more */
    enum lab_wait wait;   /* of everyone */
    uint64_t spin_ns;     /* of this side, LAB_WAIT_ADAPTIVE: polls for so long at most; 0: the default */
};

/* What follows from a config. Everyone computes it; it is never read from shared memory. */
struct lab_queue_shape {
    struct lab_ring_config lane; /* of the ring of each lane */
    struct lab_ring_shape ring;
    uint32_t room;                /* messages of one lane that are not released, at most */
    size_t sleepers_at, lanes_at; /* bytes from the beginning of the memory; seats are behind struct lab_queue_shared */
    size_t words_at;              /* bytes from the beginning of a lane; its claims are behind struct lab_queue_lane */
    size_t lane_size, size;       /* bytes */
};

/* The words at the beginning of the memory. */
struct lab_queue_shared {
    uint64_t size;
    uint32_t message_max, window, producers, consumers, batch, wait;
    _Alignas(LAB_RING_LINE) _Atomic uint32_t producers_gone; /* all of them */
};

/* One for each consumer. Producers take and leave the rings of their lanes. */
struct lab_queue_seat {
    _Atomic uint32_t taken, gone;
    _Atomic uint32_t dropped; /* messages that it was gone with */
};

/* Behind the ring of each lane. */
struct lab_queue_lane {
    /* The producer's: messages before this one were released, and a run begins here. */
    _Alignas(LAB_RING_LINE) _Atomic uint64_t passed;
    /* The consumers': a run begins here, and those that follow it are few. */
    _Alignas(LAB_RING_LINE) _Atomic uint64_t claimed;
};
_Static_assert(sizeof(struct lab_queue_lane) == 2 * LAB_RING_LINE, "a line for each side");

/* What is known of one lane from the config. */
struct lab_queue_view {
    struct lab_ring_view ring;
    struct lab_queue_lane *lane;
    _Atomic uint64_t *claims;
    uint32_t slots_log2;
};

struct lab_queue_producer {
    struct lab_ring_producer ring;
    struct lab_queue_view view;
    uint64_t passed;                /* messages known to be released */
    uint64_t look_at;               /* having sent so many it looks how much room there is */
    struct lab_sleeper *sleepers;   /* the consumers' */
    uint32_t consumers, wake_next;
    uint32_t room;
    bool nonsense;                  /* a consumer wrote what cannot be */
};

struct lab_queue_consumer {
    struct lab_queue_view view;     /* of the lane that it is in */
    uint64_t at;                    /* position of the first message that it holds */
    uint64_t there;                 /* messages committed in this lane, as far as known */
    uint32_t held, length;          /* messages, and their length */
    uint32_t turn;                  /* messages that it still takes from this lane before it looks at others */
    uint32_t lane, lanes, seat;
    bool alone;                     /* the only consumer */
    bool nonsense;                  /* somebody wrote what cannot be */
    uint32_t batch;
    struct lab_ring_patience patience;
    struct lab_queue_shared *shared;
    struct lab_queue_shape shape;
    uint64_t cursor[LAB_QUEUE_SEATS]; /* of each lane: messages before this one are claimed, and a run begins here */
};

/* -EMSGSIZE, -EINVAL: the config is out of range; -ENOMEM: the queue would not fit the address space. Recorded. */
int lab_queue_shape(const struct lab_queue_config *config, struct lab_queue_shape *ret_shape);

/* Makes an empty queue in `shape->size` bytes of zeroed memory aligned to LAB_RING_LINE. */
void lab_queue_init(void *memory, const struct lab_queue_config *config, const struct lab_queue_shape *shape);

/* Take a seat, numbered from 0; each once in the life of a queue. `size` is that of the memory. -EBADMSG: the memory does not hold
 * a queue of this config; -EINVAL: there is no such seat; -EBUSY: it is taken. Recorded. */
int lab_queue_produce(struct lab_queue_producer *producer, void *memory, size_t size, const struct lab_queue_config *config, uint32_t seat);
int lab_queue_consume(struct lab_queue_consumer *consumer, void *memory, size_t size, const struct lab_queue_config *config, uint32_t seat);

/* The party in that seat is gone (its own last word, or that of whoever has reaped it): gives back what it held, tells the others
 * when it was the last of its side, and wakes them. Any number of times. A seat that does not exist is ignored. Consumers get
 * -EPIPE when every producer's seat is gone and everything was received, producers when every consumer's seat is gone. */
void lab_queue_hangup(void *memory, const struct lab_queue_config *config, enum lab_queue_side side, uint32_t seat);

/* Messages that were borrowed by consumers which were gone before they released them. */
uint64_t lab_queue_dropped(const void *memory, const struct lab_queue_config *config);

/* The ways that are not taken for every message. */
int lab_queue_reserve_late(struct lab_queue_producer *producer, uint32_t length, uint32_t want, uint64_t deadline_ns,
                           struct lab_span *ret_span);
int lab_queue_borrow_late(struct lab_queue_consumer *consumer, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span);
void lab_queue_look_for_room(struct lab_queue_producer *producer);
void lab_queue_wake_consumers(struct lab_queue_producer *producer, uint32_t count);

/* ---- the words ---- */

#define LAB_QUEUE_RELEASED (UINT64_C(1) << 20)
#define LAB_QUEUE_SEAT_SHIFT 10
#define LAB_QUEUE_LAP_SHIFT 21

static inline _Atomic uint64_t *lab_queue_claim_at(const struct lab_queue_view *view, uint64_t position)
{
    return &view->claims[position & view->ring.mask];
}

static inline uint64_t lab_queue_lap_word(const struct lab_queue_view *view, uint64_t position)
{
    return ((position >> view->slots_log2) + 1) << LAB_QUEUE_LAP_SHIFT;
}

static inline uint64_t lab_queue_claim_of(const struct lab_queue_view *view, uint64_t position, uint32_t seat, uint32_t count)
{
    return lab_queue_lap_word(view, position) | (uint64_t)seat << LAB_QUEUE_SEAT_SHIFT | (count - 1);
}

static inline uint32_t lab_queue_run_of(uint64_t word)
{
    return (uint32_t)(word & (LAB_QUEUE_RUN_MAX - 1)) + 1;
}

static inline uint32_t lab_queue_seat_of(uint64_t word)
{
    return (uint32_t)(word >> LAB_QUEUE_SEAT_SHIFT) & (LAB_QUEUE_SEATS - 1);
}

/* Below 0: of an earlier lap, nobody has claimed the position; 0: claimed; above 0: the position is behind by a lap. */
static inline int64_t lab_queue_age(const struct lab_queue_view *view, uint64_t position, uint64_t word)
{
    return (int64_t)((word & -(UINT64_C(1) << LAB_QUEUE_LAP_SHIFT)) - lab_queue_lap_word(view, position));
}

/* ---- producers ---- */

/* Lends 1..want places for messages of `length` bytes. 0; -EAGAIN at the deadline; -EPIPE: all consumers are gone; -EMSGSIZE;
 * -EBADMSG: what consumers wrote is impossible. All but -EAGAIN are recorded; nothing is lent on failure. */
static inline int lab_queue_reserve(struct lab_queue_producer *p, uint32_t length, uint32_t want, uint64_t deadline_ns,
                                    struct lab_span *ret_span)
{
    if (!LAB_RING_LIKELY(lab_ring_has_place(&p->ring, length)))
        return lab_queue_reserve_late(p, length, want, deadline_ns, ret_span);
    lab_ring_lend(&p->ring, length, want, ret_span);
    return 0;
}

/* Sends the first `count` of the messages that are lent, and takes the other places back (0: all). Does not block. */
static inline void lab_queue_commit(struct lab_queue_producer *p, uint32_t count)
{
    if (!LAB_RING_LIKELY(count))
        return;
    lab_ring_show_sent(&p->ring, count);
    if (!LAB_RING_LIKELY((int64_t)(p->ring.head - p->look_at) < 0))
        lab_queue_look_for_room(p);
    if (p->ring.view.plan.sleeps)
        lab_queue_wake_consumers(p, count);
}

/* ---- consumers ---- */

enum lab_queue_sight {
    LAB_QUEUE_NOTHING,  /* the producer has not come here yet */
    LAB_QUEUE_MESSAGE,  /* a message that nobody has claimed */
    LAB_QUEUE_CLAIMED,  /* the beginning of a run */
    LAB_QUEUE_PASSED,   /* of an earlier lap */
    LAB_QUEUE_MOVING,   /* changing at this moment */
    LAB_QUEUE_NONSENSE, /* what cannot be */
};

/* One look at one position of a lane where a run begins or may begin. Of a message `ret_word` is what its word was, `ret_length` its
 * length; of a run `ret_word` is its word. */
static inline enum lab_queue_sight lab_queue_look(const struct lab_queue_view *view, uint64_t at, uint64_t *there, uint64_t *ret_word,
                                                  uint32_t *ret_length)
{
    const struct lab_ring_view *ring = &view->ring;
    uint64_t word = atomic_load_explicit(lab_queue_claim_at(view, at), memory_order_acquire);
    int64_t age = lab_queue_age(view, at, word);
    *ret_word = word;
    if (!LAB_RING_LIKELY(age < 0))
        return age == 0 ? LAB_QUEUE_CLAIMED : LAB_QUEUE_PASSED;
    uint32_t length;
    uint64_t ahead = 1;
    if (ring->lengths) {
        if ((int64_t)(*there - at) <= 0)
            *there = atomic_load_explicit(&ring->shared->committed, memory_order_acquire);
        ahead = *there - at;
        if (ahead == 0)
            return LAB_QUEUE_NOTHING;
        length = atomic_load_explicit(&ring->lengths[at & ring->mask], memory_order_relaxed);
    } else {
        uint64_t mark = atomic_load_explicit(lab_ring_mark(ring, at), memory_order_acquire);
        if (mark >> 32 != (uint32_t)(at + 1))
            return LAB_QUEUE_NOTHING;
        length = (uint32_t)mark;
    }
    *ret_length = length;
    if (LAB_RING_LIKELY(length <= ring->message_max && ahead <= ring->mask + UINT64_C(1)))
        return LAB_QUEUE_MESSAGE;
    /* Another consumer may have been faster, and the producer may have written anew what was looked at. */
    return atomic_load_explicit(lab_queue_claim_at(view, at), memory_order_acquire) == word ? LAB_QUEUE_NONSENSE : LAB_QUEUE_MOVING;
}

/* How many of the messages from `at` on have that length, up to `want`: they are one run. */
static inline uint32_t lab_queue_alike(const struct lab_queue_consumer *c, uint64_t at, uint32_t length, uint32_t want)
{
    const struct lab_ring_view *ring = &c->view.ring;
    uint32_t most = lab_ring_least(lab_ring_least(want, c->batch), lab_ring_in_one_piece(ring, at)), count = 1;
    if (c->there - at < most)
        most = (uint32_t)(c->there - at);
    while (count < most && atomic_load_explicit(&ring->lengths[(at + count) & ring->mask], memory_order_relaxed) == length)
        count++;
    return count;
}

/* Claims messages of one length from the cursor of this lane on, where `word` was seen. Whether that was in time. */
static inline bool lab_queue_take(struct lab_queue_consumer *c, uint64_t word, uint32_t length, uint32_t want)
{
    enum { HINT = 64 }; /* messages between two hints of how far the lane was claimed */
    struct lab_queue_view *view = &c->view;
    uint64_t at = c->cursor[c->lane];
    uint32_t count = want > 1 && view->ring.lengths ? lab_queue_alike(c, at, length, want) : 1;
    _Atomic uint64_t *claim = lab_queue_claim_at(view, at);
    uint64_t mine = lab_queue_claim_of(view, at, c->seat, count);
    if (c->alone)
        atomic_store_explicit(claim, mine, memory_order_release);
    else if (!atomic_compare_exchange_strong_explicit(claim, &word, mine, memory_order_acq_rel, memory_order_relaxed))
        return false;
    c->cursor[c->lane] = at + count;
    c->at = at;
    c->held = count;
    c->length = length;
    c->turn -= lab_ring_least(c->turn, count);
    if (!LAB_RING_LIKELY((at ^ (at + count)) < HINT))
        atomic_store_explicit(&view->lane->claimed, at + count, memory_order_release);
    return true;
}

static inline void lab_queue_show(const struct lab_queue_consumer *c, uint32_t want, struct lab_span *ret_span)
{
    ret_span->at = lab_ring_place(&c->view.ring, c->at);
    ret_span->stride = c->view.ring.stride;
    ret_span->length = c->length;
    ret_span->count = lab_ring_least(want, c->held);
}

/* Lends 1..want messages of one length. 0; -EAGAIN at the deadline; -EPIPE: all producers are gone and everything was received;
 * -EBADMSG: what somebody wrote is impossible. All but -EAGAIN are recorded. */
static inline int lab_queue_borrow(struct lab_queue_consumer *c, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    if (LAB_RING_LIKELY(c->held == 0)) {
        uint64_t word;
        uint32_t length;
        if (c->turn == 0 || lab_queue_look(&c->view, c->cursor[c->lane], &c->there, &word, &length) != LAB_QUEUE_MESSAGE ||
            !lab_queue_take(c, word, length, want))
            return lab_queue_borrow_late(c, want, deadline_ns, ret_span);
    }
    lab_queue_show(c, want, ret_span);
    return 0;
}

/* Gives back the first `count` of the messages that are borrowed; the others will be borrowed again, by the same consumer. Does
 * not block. */
static inline void lab_queue_release(struct lab_queue_consumer *c, uint32_t count)
{
    struct lab_queue_view *view = &c->view;
    if (count == 0)
        return;
    /* What remains is a run of its own, which nobody can see before the one in front of it ends there. */
    if (count < c->held)
        atomic_store_explicit(lab_queue_claim_at(view, c->at + count), lab_queue_claim_of(view, c->at + count, c->seat, c->held - count),
                              memory_order_relaxed);
    atomic_store_explicit(lab_queue_claim_at(view, c->at), lab_queue_claim_of(view, c->at, c->seat, count) | LAB_QUEUE_RELEASED,
                          memory_order_release);
    c->at += count;
    c->held -= count;
    if (view->ring.plan.sleeps)
        lab_wait_wake(&view->ring.shared->producer_sleeps);
}

#endif
