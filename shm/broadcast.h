/* Messages from one writer to up to LAB_BROADCAST_READERS_MAX readers, each of which gets all of them, at its own pace. Over memory that
 * the caller owns: it never allocates, maps or logs, and it waits as it is told (shm/wait.h). Writer and readers are threads of any
 * processes that share the memory, each reader at a *seat* of its own; each end is used by one thread.
 *
 *     struct lab_broadcast_config config = {.message_max = 64, .window = 1024, .batch = 1, .readers = 3, .wait = LAB_WAIT_SPIN};
 *     struct lab_broadcast_shape shape;
 *     err = lab_broadcast_shape(&config, &shape);                        // shape.size: bytes it needs, 128-byte aligned
 *     lab_broadcast_init(memory, &config, &shape);                       // once
 *     err = lab_broadcast_write(&writer, memory, size, &config);         // in one process
 *     err = lab_broadcast_read(&reader, memory, size, &config, seat);    // in each of the others
 *
 * A broadcast is *lossless* or it *overwrites*.
 *
 * Lossless, messages are written and read in place, as in shm/ring.h, and the writer waits for the slowest living reader:
 *
 *     err = lab_broadcast_reserve(&writer, 64, 1, deadline_ns, &span);   // writes span.at[0..63], then
 *     lab_broadcast_commit(&writer, 1);
 *     err = lab_broadcast_borrow(&reader, 1, deadline_ns, &span);        // reads span.at[0..63], then
 *     lab_broadcast_release(&reader, 1);
 *
 * Every seat of the config counts from the beginning: a reader that attaches late misses nothing, and one that never comes holds the
 * writer back until lab_broadcast_hangup says that it will not.
 *
 * Overwriting (config.overwrite), the writer waits for nobody. Messages are copied in and out, for what is written over while it is
 * read cannot be lent:
 *
 *     err = lab_broadcast_send(&writer, message, 64);
 *     err = lab_broadcast_receive(&reader, message, sizeof message, deadline_ns, &length);
 *     ... reader.lost ...                                                // messages that this reader has missed, exactly
 *
 * A reader gets a message whole or counts it as lost: its position is what it has received and lost, both grow by what it moves
 * on, so that received + lost == sent when the writer has gone and -EPIPE is told, whatever was overtaken, and whoever was killed.
 *
 * Layout. Message `position` lies in place `position` modulo the number of slots, a power of two, and has a head, | stamp | length |:
 *
 *     for latency       | head | message ... | head | message ... |          window <= LAB_BROADCAST_LATENCY_WINDOW and one by one
 *     for throughput    | head | head | head | ... | message | message | ...    else
 *
 * The stamp, one 64-bit word that never wraps, says what is in the place: 2 * position + 2: that message; 2 * position + 1: that message is
 * being written (overwriting only); 0: nothing yet. It is what readers poll. For latency a message of up to 48 bytes shares one line
 * with its head, and a longer one begins at a line of its own, right behind the line that its head ends. For throughput four heads share a
 * line, and messages lie as close as lines allow; a reader that has caught up lets the writer get ahead, and a lossless broadcast has so
 * many places that they do not fit the cores' own caches, both for the reasons that shm/ring.h gives. With one reader, beside a ring in
 * interleaved runs (bench/pool.c, a line handed over in 172 ns), 64 bytes take 227 to 231 ns where the ring takes 225 to 230, and a stream of
 * them 8 to 80 ns each, in the median 11 in one run and 38 in another, where the ring takes 11; each message behind its own head, without
 * letting the writer get ahead, took 77 to 143.
 *
 * Overwriting is a sequence lock per place, in the form of Boehm, "Can seqlocks get along with programming language memory models?"
 * (MSPC 2012): the bytes are moved in words by relaxed atomic operations, so that nothing is a data race; the writer marks the place,
 * passes a release fence, writes, and stamps it with release; the reader loads the stamp with acquire, copies, passes an acquire fence, and
 * looks at the stamp again. If it has changed, the copy is worth nothing: the message is lost. A reader that was overtaken goes on a quarter of
 * the places behind the oldest message that is left, so that it is not overtaken again at once.
 *
 * Lossless, a reader's position is published once in `lazy` messages, and the writer looks at the positions only when it knows of no more
 * room; there are at least window + lazy - 1 slots, so `window` messages always fit. A reader that waits sleeps on a word of its own, and
 * says so by a bit among those of all readers, which is all that the writer looks at while nobody sleeps.
 *
 * Nothing read from another party is trusted: stamps, lengths and positions are loaded once and checked against what this side knows; what
 * cannot be is -EBADMSG, and memory outside the places is never lent or read.
 */
#ifndef LAB_SHM_BROADCAST_H
#define LAB_SHM_BROADCAST_H

#include "shm/span.h"
#include "shm/wait.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAB_BROADCAST_LIKELY(x) __builtin_expect(!!(x), 1)

enum { LAB_BROADCAST_LINE = 128, LAB_BROADCAST_WINDOW_MAX = 1 << 16, LAB_BROADCAST_LATENCY_WINDOW = 64, LAB_BROADCAST_READERS_MAX = 1024 };
enum lab_broadcast_side { LAB_BROADCAST_WRITER, LAB_BROADCAST_READER };

struct lab_broadcast_config {
    uint32_t message_max; /* bytes, 1 .. 1 GiB */
    uint32_t window;      /* messages that always fit, or that a reader may always be behind; 1 .. LAB_BROADCAST_WINDOW_MAX */
    uint32_t batch;       /* the most messages in one commit; 1 or more */
    uint32_t readers;     /* seats 0 .. readers - 1; 1 .. LAB_BROADCAST_READERS_MAX */
    bool overwrite;       /* else lossless */
    enum lab_wait wait;   /* of all sides */
    uint64_t spin_ns;     /* of this side, LAB_WAIT_ADAPTIVE: polls for so long at most; 0: the default */
};

/* What follows from a config. All sides compute it; it is never read from shared memory. */
struct lab_broadcast_shape {
    uint32_t message_max, slots, batch, lazy, readers;
    uint32_t ahead;    /* a reader that has caught up lets the writer get so far ahead; 0 where latency counts */
    uint32_t stride, head_stride; /* bytes from one place, and from one head, to the next */
    size_t places_at, heads_at;   /* bytes from the beginning of the memory */
    size_t size;                  /* bytes in all */
};

/* What is in a place. */
struct lab_broadcast_head {
    _Atomic uint64_t stamp;
    _Atomic uint64_t length;
};

/* One reader's words. */
struct lab_broadcast_seat {
    /* Its own, and written by whoever knows that it is gone. */
    _Alignas(LAB_BROADCAST_LINE) _Atomic uint64_t released; /* messages; lossless only */
    _Atomic uint32_t taken; /* someone attached */
    _Atomic uint32_t gone;  /* closed or dead */
    /* Where it sleeps; written by the writer as well. */
    _Alignas(LAB_BROADCAST_LINE) struct lab_sleeper sleeps;
};

enum { LAB_BROADCAST_WAITING_WORDS = LAB_BROADCAST_READERS_MAX / 64 };

/* The words at the beginning of the memory. */
struct lab_broadcast_shared {
    /* Written when initialised, and when a side comes or goes. */
    uint64_t size;
    uint32_t message_max, slots, batch, readers, overwrite, wait;
    _Atomic uint32_t taken;    /* the writer attached */
    _Atomic uint32_t gone;     /* the writer is closed or dead */
    _Atomic uint32_t deserted; /* all readers are */
    /* A bit per reader: it may sleep. Written by readers that wait. */
    _Alignas(LAB_BROADCAST_LINE) _Atomic uint64_t waiting[LAB_BROADCAST_WAITING_WORDS];
    /* Where the writer sleeps; written by readers as well. */
    _Alignas(LAB_BROADCAST_LINE) struct lab_sleeper writer_sleeps;
    struct lab_broadcast_seat seats[]; /* `readers` of them */
};
_Static_assert(sizeof(struct lab_broadcast_head) == 16, "stamp and length");
_Static_assert(sizeof(struct lab_broadcast_seat) == 2 * LAB_BROADCAST_LINE, "its own line, and where it sleeps");
_Static_assert(sizeof(struct lab_broadcast_shared) == 3 * LAB_BROADCAST_LINE, "three lines, then the seats");

/* What all sides know of the memory, from their own config. */
struct lab_broadcast_view {
    unsigned char *places, *heads;
    struct lab_broadcast_shared *shared;
    uint32_t mask, stride, head_stride, message_max, readers;
    bool overwrite;
    struct lab_wait_plan plan;
};

struct lab_broadcast_writer {
    struct lab_broadcast_view view;
    uint64_t head;    /* messages committed */
    uint64_t room_to; /* positions below this one are known to be free; overwriting: all are */
    uint32_t batch;
    uint32_t lent;    /* length that was reserved */
    uint32_t slowest; /* the seat that it waits for */
};

struct lab_broadcast_reader {
    struct lab_broadcast_view view;
    uint64_t tail;      /* messages released, or received and lost */
    uint64_t published; /* messages released, as the writer knows */
    uint64_t lost;      /* messages that were overwritten, or too long for the receiver */
    struct lab_broadcast_seat *seat;
    uint32_t known;     /* messages from `tail` on that have one length ... */
    uint32_t length;    /* ... this one */
    uint32_t lazy, index;
    uint32_t ahead;           /* when it has caught up, the writer may get so far ahead */
    uint32_t caught_up, skip; /* it caught up so often since that was tried, and is not to try so often */
};

/* -EMSGSIZE, -EINVAL: the config is out of range. Recorded. */
int lab_broadcast_shape(const struct lab_broadcast_config *config, struct lab_broadcast_shape *ret_shape);

/* Makes an empty broadcast in `shape->size` bytes of zeroed memory aligned to LAB_BROADCAST_LINE. */
void lab_broadcast_init(void *memory, const struct lab_broadcast_config *config, const struct lab_broadcast_shape *shape);

/* Attach one side; the writer and each seat once in the life of a broadcast. `size` is that of the memory. -EBADMSG: the memory does not hold
 * a broadcast of this config; -EBUSY: the side is taken; -EINVAL: there is no such seat. Recorded. */
int lab_broadcast_write(struct lab_broadcast_writer *writer, void *memory, size_t size, const struct lab_broadcast_config *config);
int lab_broadcast_read(struct lab_broadcast_reader *reader, void *memory, size_t size, const struct lab_broadcast_config *config, uint32_t seat);

/* Tells the others that the writer, or the reader at `seat`, is gone, and wakes who waits for it. May be called by anyone who knows (a
 * supervisor), any number of times. Readers first receive everything that was committed; a reader that is gone holds nobody back. */
void lab_broadcast_hangup(void *memory, const struct lab_broadcast_config *config, enum lab_broadcast_side dead, uint32_t seat);

/* The ways that are not taken for every message. */
int lab_broadcast_reserve_late(struct lab_broadcast_writer *writer, uint32_t length, uint32_t want, uint64_t deadline_ns,
                               struct lab_span *ret_span);
int lab_broadcast_borrow_late(struct lab_broadcast_reader *reader, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span);
int lab_broadcast_borrow_more(struct lab_broadcast_reader *reader, uint32_t want, struct lab_span *ret_span);
void lab_broadcast_publish(struct lab_broadcast_reader *reader);
void lab_broadcast_wake(const struct lab_broadcast_view *view);

static inline unsigned char *lab_broadcast_place(const struct lab_broadcast_view *view, uint64_t position)
{
    return view->places + (position & view->mask) * view->stride;
}

static inline struct lab_broadcast_head *lab_broadcast_head(const struct lab_broadcast_view *view, uint64_t position)
{
    return (struct lab_broadcast_head *)(void *)(view->heads + (position & view->mask) * view->head_stride);
}

/* The stamp of a message that is complete. */
static inline uint64_t lab_broadcast_stamp_of(uint64_t position)
{
    return 2 * position + 2;
}

static inline uint32_t lab_broadcast_least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* ---- lossless ---- */

static inline void lab_broadcast_lend(struct lab_broadcast_writer *w, uint32_t length, uint32_t want, struct lab_span *ret_span)
{
    const struct lab_broadcast_view *view = &w->view;
    uint64_t head = w->head;
    uint32_t count = 1;
    if (want > 1) {
        uint32_t in_one_piece = view->mask + 1 - ((uint32_t)head & view->mask);
        count = lab_broadcast_least(lab_broadcast_least(want, w->batch), lab_broadcast_least(in_one_piece, (uint32_t)(w->room_to - head)));
    }
    w->lent = length;
    *ret_span = (struct lab_span){.at = lab_broadcast_place(view, head), .stride = view->stride, .length = length, .count = count};
}

/* Lends 1..want places for messages of `length` bytes. 0; -EAGAIN at the deadline; -EPIPE: all readers are gone; -EMSGSIZE;
 * -EBADMSG: a reader's position is impossible (the record names its seat; when it is hung up the others go on). All but -EAGAIN are recorded;
 * nothing is lent on failure. */
static inline int lab_broadcast_reserve(struct lab_broadcast_writer *w, uint32_t length, uint32_t want, uint64_t deadline_ns,
                                        struct lab_span *ret_span)
{
    bool fine = w->head != w->room_to && length <= w->view.message_max &&
                !atomic_load_explicit(&w->view.shared->deserted, memory_order_relaxed);
    if (!LAB_BROADCAST_LIKELY(fine))
        return lab_broadcast_reserve_late(w, length, want, deadline_ns, ret_span);
    lab_broadcast_lend(w, length, want, ret_span);
    return 0;
}

/* Sends the first `count` of the messages that are lent, and takes the other places back. Does not block. */
static inline void lab_broadcast_commit(struct lab_broadcast_writer *w, uint32_t count)
{
    const struct lab_broadcast_view *view = &w->view;
    for (uint32_t i = 0; i < count; i++, w->head++) {
        struct lab_broadcast_head *head = lab_broadcast_head(view, w->head);
        atomic_store_explicit(&head->length, w->lent, memory_order_relaxed);
        atomic_store_explicit(&head->stamp, lab_broadcast_stamp_of(w->head), memory_order_release);
    }
    if (view->plan.sleeps && count)
        lab_broadcast_wake(view);
}

static inline void lab_broadcast_show(const struct lab_broadcast_reader *r, uint32_t want, struct lab_span *ret_span)
{
    *ret_span = (struct lab_span){
        .at = lab_broadcast_place(&r->view, r->tail), .stride = r->view.stride, .length = r->length, .count = lab_broadcast_least(want, r->known),
    };
}

/* Lends 1..want messages of one length. 0; -EAGAIN at the deadline; -EPIPE: the writer is gone and everything was received; -EBADMSG: what
 * the writer wrote is impossible. All but -EAGAIN are recorded. */
static inline int lab_broadcast_borrow(struct lab_broadcast_reader *r, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    if (r->known == 0) {
        const struct lab_broadcast_head *head = lab_broadcast_head(&r->view, r->tail);
        bool there = atomic_load_explicit(&head->stamp, memory_order_acquire) == lab_broadcast_stamp_of(r->tail);
        uint64_t length = atomic_load_explicit(&head->length, memory_order_relaxed);
        if (!LAB_BROADCAST_LIKELY(there && length <= r->view.message_max))
            return lab_broadcast_borrow_late(r, want, deadline_ns, ret_span);
        r->length = (uint32_t)length;
        r->known = 1;
    }
    if (r->known < want)
        return lab_broadcast_borrow_more(r, want, ret_span);
    lab_broadcast_show(r, want, ret_span);
    return 0;
}

/* Gives back the first `count` of the messages that are borrowed; the others will be borrowed again. Does not block. */
static inline void lab_broadcast_release(struct lab_broadcast_reader *r, uint32_t count)
{
    r->tail += count;
    r->known -= count;
    if (!LAB_BROADCAST_LIKELY(r->tail - r->published < r->lazy))
        lab_broadcast_publish(r);
}

/* ---- overwriting ---- */

/* Sends a copy of the message. Does not block. 0; -EMSGSIZE; -EPIPE: all readers are gone. Recorded. */
int lab_broadcast_send(struct lab_broadcast_writer *writer, const void *message, uint32_t length);

/* Copies the next message into `to`. 0; -EAGAIN at the deadline; -EPIPE: the writer is gone, and everything it sent was received or lost;
 * -EMSGSIZE: the message is longer than `room`, it is gone and counted as lost; -EBADMSG: what the writer wrote is impossible. All but
 * -EAGAIN are recorded. On failure `to` may have been written, up to `room`. */
int lab_broadcast_receive(struct lab_broadcast_reader *reader, void *to, size_t room, uint64_t deadline_ns, uint32_t *ret_length);

#endif
