/* The bounded buffer of the textbooks, without its lock: messages in a circle of places, many producers, many consumers, each message
 * to one consumer, in the order in which places were taken. shm/monitor.h and shm/semaphore.h add who may enter when; every function
 * of this file but hangup, commit and release is for whoever has the lock.
 *
 *     lab_buffer_enter(&buffer);                          // having locked
 *     err = lab_buffer_reserve(&buffer, 64, 1, &span);    // -EAGAIN: there is no room
 *     news = lab_buffer_leave(&buffer);                   // about to unlock: what others may be waiting for
 *
 * Messages are written and read in place and without the lock, by whoever has *taken* their places: what is done under the lock takes
 * as long for a megabyte as for a byte. Places have positions, which only grow; a position lies in the place of that number modulo the
 * number of places, a power of two:
 *
 *        freed       tail        ready       head        freed + places
 *     ────┼───────────┼───────────┼───────────┼───────────┼────
 *     free│ borrowed, │ committed │ reserved, │   free
 *         │ released  │           │ committed │
 *
 * `head` moves when places are reserved and `tail` when messages are borrowed; `ready` and `freed` follow what is committed and released
 * at their front. What has become of each place says its word, which also says whose it is:
 *
 *     63         32       19       3  2     0
 *     |  length  |   -    |  seat  |  state |
 *
 * Death. A party takes places by writing its seat into their words and then, with one store, moving `head` or `tail` over them: killed
 * before that store it has taken nothing, killed after it all of them, and there is no third case. What it has taken it gives back
 * place by place, each with one store, for which it needs no lock. So whenever a party dies, the words say what it held. Its
 * hangup only says that it is gone; who has the lock next takes its places back: reserved ones become *void*, which consumers pass over;
 * borrowed ones that `tail` has not passed are given to another consumer, for it had not learned of them; the others, of which
 * nobody can know how far it had got, are freed and counted as dropped. Nothing is received twice. Who takes back may be killed as well,
 * and the next one does it again: so the count says which position it counted last.
 *
 * Nothing read from the other side is trusted: words and positions are loaded once and checked, every walk is bounded by the number of
 * places, what cannot be is -EBADMSG, and memory outside the places is never lent. */
#ifndef LAB_SHM_BUFFER_H
#define LAB_SHM_BUFFER_H

#include "shm/span.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAB_BUFFER_LINE = 128, LAB_BUFFER_WINDOW_MAX = 1 << 20, LAB_BUFFER_SEATS = 1024 };
enum lab_buffer_side { LAB_BUFFER_PRODUCER, LAB_BUFFER_CONSUMER };

struct lab_buffer_config {
    uint32_t message_max; /* bytes, 1 .. 1 GiB */
    uint32_t window;      /* messages that always fit, 1 .. LAB_BUFFER_WINDOW_MAX */
    uint32_t producers;   /* seats, 1 .. LAB_BUFFER_SEATS */
    uint32_t consumers;   /* seats, 1 .. LAB_BUFFER_SEATS */
    uint32_t batch;       /* the most messages in one commit or borrow, 1 or more */
};

/* What follows from a config. Everyone computes it; it is never read from shared memory. */
struct lab_buffer_shape {
    struct lab_buffer_config config;         /* with `batch` no larger than the buffer */
    uint32_t places, stride;                 /* bytes from one place to the next */
    size_t seats_at, words_at, places_at;    /* bytes from the beginning of the buffer */
    size_t size;                             /* bytes in all, a multiple of LAB_BUFFER_LINE */
};

/* Of each party, producers first. */
struct lab_buffer_seat {
    _Atomic uint32_t taken, gone;
    _Atomic uint32_t note; /* of its own, to whoever cleans up after it: a matter of the lock */
};

/* The words at the beginning of the buffer. */
struct lab_buffer_shared {
    uint64_t size;
    uint32_t message_max, places, producers, consumers, batch;
    _Atomic uint32_t side_gone[2];            /* by lab_buffer_side: all of them */
    _Atomic uint32_t mend;                    /* somebody is gone, and its places are to be taken back */
    _Alignas(LAB_BUFFER_LINE) _Atomic uint64_t freed;
    _Atomic uint64_t tail, ready, head;
    _Atomic uint64_t dropped;                 /* messages that consumers died with: | position of the last + 1 | how many |, by 32 bits */
};
_Static_assert(sizeof(struct lab_buffer_shared) == 2 * LAB_BUFFER_LINE, "what never changes, and what always does");

/* What has become possible: so many more messages can be borrowed, so many more places reserved. */
struct lab_buffer_news {
    uint32_t messages, places;
};

/* One party's view of it, and what it has taken. */
struct lab_buffer {
    struct lab_buffer_shared *shared;
    struct lab_buffer_seat *seats, *own;
    _Atomic uint64_t *words;
    unsigned char *places;
    uint32_t mask, stride, message_max, batch, seat_count[2];
    enum lab_buffer_side side;
    uint32_t seat;         /* of its side */
    uint64_t at;           /* the first position that it has taken ... */
    uint32_t held, length; /* ... how many, and how long their messages are */
    bool mended;           /* since it entered */
    struct lab_buffer_news news;
};

/* -EMSGSIZE, -EINVAL: the config is out of range; -ENOMEM: the buffer would not fit the address space. Recorded. */
int lab_buffer_shape(const struct lab_buffer_config *config, struct lab_buffer_shape *ret_shape);

/* Makes an empty buffer in `shape->size` bytes of zeroed memory aligned to LAB_BUFFER_LINE. */
void lab_buffer_init(void *memory, const struct lab_buffer_shape *shape);

/* Takes a seat, numbered from 0; each once in the life of a buffer. -EBADMSG: the memory does not hold a buffer of this shape; -EINVAL:
 * there is no such seat; -EBUSY: it is taken. Recorded. */
int lab_buffer_attach(struct lab_buffer *buffer, void *memory, const struct lab_buffer_shape *shape, enum lab_buffer_side side, uint32_t seat);

/* The party in that seat is gone: told by itself or by whoever has reaped it, any number of times, without the lock; then everyone is to be
 * woken. Its seat; NULL: there is none of that number. */
struct lab_buffer_seat *lab_buffer_hangup(void *memory, const struct lab_buffer_shape *shape, enum lab_buffer_side side, uint32_t seat);

/* Whether nobody is left on that side. */
static inline bool lab_buffer_gone(const struct lab_buffer *buffer, enum lab_buffer_side side)
{
    return atomic_load_explicit(&buffer->shared->side_gone[side], memory_order_acquire);
}

/* Messages that were borrowed by consumers which were gone before they released them. */
static inline uint64_t lab_buffer_dropped(const struct lab_buffer *buffer)
{
    return (uint32_t)atomic_load_explicit(&buffer->shared->dropped, memory_order_relaxed);
}

/* Having locked: takes back what parties held that are gone. Returns 0 or -EBADMSG, recorded: positions that cannot be. */
int lab_buffer_enter(struct lab_buffer *buffer);

/* About to unlock. The news are those since it entered; after somebody's death, everything that there is, for it may have taken news
 * with it. */
struct lab_buffer_news lab_buffer_leave(struct lab_buffer *buffer);

/* A producer takes 1..want places that lie side by side, a consumer 1..want messages of one length. 0; -EAGAIN: there is nothing to take,
 * now; -EPIPE: and never will be, for the other side is gone. Neither is recorded; -EBADMSG is. */
int lab_buffer_take(struct lab_buffer *buffer, uint32_t want);

/* What it has taken, up to `want` of it. */
static inline void lab_buffer_lend(const struct lab_buffer *buffer, uint32_t want, struct lab_span *ret_span)
{
    *ret_span = (struct lab_span){
        .at = buffer->places + (buffer->at & buffer->mask) * buffer->stride,
        .stride = buffer->stride,
        .length = buffer->length,
        .count = want < buffer->held ? want : buffer->held,
    };
}

/* A producer sends the first `count` of what it has taken and gives the other places back; a consumer gives back the first `count` and
 * keeps the others. With or without the lock; what else can be done with it (`locked`) is that places which were not used, and after
 * which nobody has taken any, can be taken again at once. */
void lab_buffer_commit(struct lab_buffer *buffer, uint32_t count, bool locked);
void lab_buffer_release(struct lab_buffer *buffer, uint32_t count);

#endif
