/* Blocks of memory that are lent and passed by number: nothing is copied, whatever a block holds. Over memory that the caller
 * owns: a pool never allocates, maps or logs, and it waits as it is told (shm/wait.h). Up to LAB_POOL_PARTIES_MAX parties, threads
 * of any processes that share the memory, each at a *seat* of its own and used by one thread.
 *
 *     struct lab_pool_config config = {.block_bytes = 1 << 20, .blocks = 8, .parties = 2, .wait = LAB_WAIT_SPIN};
 *     struct lab_pool_shape shape;
 *     err = lab_pool_shape(&config, &shape);                          // shape.size: bytes it needs, 128-byte aligned
 *     lab_pool_init(memory, &config, &shape);                         // once
 *     err = lab_pool_attach(&pool, memory, size, &config, seat);      // in each process, each with its seat
 *
 *     err = lab_pool_take(&pool, deadline_ns, &block);                // writes lab_pool_at(&pool, block), then
 *     err = lab_pool_pass(&pool, block, reader);                      // and sends the number, say through a ring (shm/ring.h)
 *
 *     err = lab_pool_accept(&pool, block);                            // the reader, of a number that has come: it reads, then
 *     err = lab_pool_give(&pool, block);
 *
 * A reader that will only read may leave out lab_pool_accept: it is then told when it gives the block back, and not before, if it was none of
 * its own. Passing a block then costs no more than passing its number, for the word is left alone until there is time: in one interleaved
 * run (bench/pool.c, untouched) 64 B, 1 KiB, 64 KiB and 1 MiB take 245, 239, 247 and 243 ns where a line is handed over in 172, and 61 to 65 where
 * it is in 42; with the word fetched before the answer left it was two hand-overs, 342 to 348.
 *
 * A party may have any number of blocks at once, take and give them in any order, and pass on what was passed to it.
 * lab_pool_share passes a block to several readers; it is free again when the last of them has given it back.
 *
 * Who has a block is one word, and the word is all there is:
 *
 *     | promised to: a bit per seat | held by: a bit per seat |       0: the block is free
 *     63                          32 31                       0
 *
 * Taking is one compare-and-swap from 0 to the taker's own bit: there is no moment at which a block is out of the pool and not yet
 * anyone's, no list that could be left half linked, and no ABA, for the word itself is what is compared. The number of readers is the
 * number of bits, and a bit says whose reference it is: so a party may be killed between any two instructions, and
 * lab_pool_hangup takes its bits out of all words. A list of free blocks would be a second truth beside the owners, to be mended after each
 * death, and both sides would fetch its head from each other for every block. A party looks for a free block from behind the one that it took last: blocks come back about in the
 * order in which they were taken, so the first look mostly finds one. At worst every word is looked at, 8 to a line. Interleaved with
 * Treiber's stack of an index with a tag (one core takes and passes, another gives back, spinning, Zen 4), a block took 128, 68, 36 and 30 ns
 * in pools of 8, 64, 1024 and 4096, and with the stack 585, 395, 103 and 94.
 *
 * Who alone has a block changes its word by a plain store, for nobody else may change it then; with several readers an atomic operation
 * on the word decides who is the last.
 *
 * A block is *promised* from lab_pool_pass until lab_pool_accept. Between the promise and the moment at which the number is on its way the
 * passer may be killed: then nobody would ever come for the block. Who makes a promise is therefore noted before it is made, and
 * the reader, when it has received everything that the dead one sent, and accepted or given it back, calls lab_pool_settle: what was
 * promised by that one and did not come goes back. (Two parties that hold one block must not share it with the same reader at the same time: one of them gets
 * -EEXIST, and the note may be of either.)
 *
 * How the words lie: in a small pool (LAB_POOL_APART_BLOCKS) each on a line of its own, so that one party takes a block while another
 * gives one back; in a larger one 8 to a line, so that a line that has to come over brings 8 words.
 *
 *     head     | config, who is gone | who waits |
 *     seats    | taken, sleeps | ...                   a line each
 *     words    | w | w | w | w | ...
 *     givers   | g g | g g | g g | ...                 a byte for each block and seat: who has promised that block to that seat
 *     blocks   | block 0 ... | block 1 ... |           128-byte aligned
 *
 * Nothing read from shared memory is trusted: numbers are checked against this side's own config before they are used, and a block
 * that was not promised to or is not held by this seat is refused with -EBADMSG, so that no memory outside the blocks is ever lent. What a hostile
 * party writes into a block while another reads it, this cannot prevent.
 */
#ifndef LAB_SHM_POOL_H
#define LAB_SHM_POOL_H

#include "shm/wait.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAB_POOL_LIKELY(x) __builtin_expect(!!(x), 1)

enum { LAB_POOL_LINE = 128, LAB_POOL_PARTIES_MAX = 32, LAB_POOL_BLOCKS_MAX = 1 << 17, LAB_POOL_APART_BLOCKS = 64 };

struct lab_pool_config {
    uint32_t block_bytes; /* 1 .. 1 GiB */
    uint32_t blocks;      /* 1 .. LAB_POOL_BLOCKS_MAX */
    uint32_t parties;     /* seats 0 .. parties - 1; 1 .. LAB_POOL_PARTIES_MAX */
    enum lab_wait wait;   /* of all parties, for a free block */
    uint64_t spin_ns;     /* of this party, LAB_WAIT_ADAPTIVE: polls for so long at most; 0: the default */
};

/* What follows from a config. Every party computes it; it is never read from shared memory. */
struct lab_pool_shape {
    uint32_t blocks, parties;
    uint32_t word_stride;        /* bytes from one word to the next */
    size_t block_stride;         /* bytes from one block to the next */
    size_t words_at, givers_at, blocks_at; /* bytes from the beginning of the memory */
    size_t size;                 /* bytes in all */
};

/* One party's words: where it sleeps for a free block, written by whoever wakes it as well. */
struct lab_pool_seat {
    _Alignas(LAB_POOL_LINE) struct lab_sleeper sleeps;
    _Atomic uint32_t taken; /* someone attached */
};
_Static_assert(sizeof(struct lab_pool_seat) == LAB_POOL_LINE, "a line each");

/* The words at the beginning of the memory. */
struct lab_pool_shared {
    /* Written when initialised, and when a party goes. */
    uint64_t size;
    uint32_t block_bytes, blocks, parties, wait;
    _Atomic uint32_t gone;  /* a bit per seat: closed or dead */
    _Atomic uint32_t alone; /* no more than one party is left */
    /* A bit per seat: it may sleep. Written by who waits for a block. */
    _Alignas(LAB_POOL_LINE) _Atomic uint32_t waiting;
    struct lab_pool_seat seats[]; /* `parties` of them */
};
_Static_assert(sizeof(struct lab_pool_shared) == 2 * LAB_POOL_LINE, "two lines, then the seats");

/* One party. */
struct lab_pool_end {
    struct lab_pool_shared *shared;
    unsigned char *words, *blocks_at;
    _Atomic uint8_t *givers;
    size_t block_stride;
    uint32_t word_stride;
    uint32_t blocks, parties;
    uint32_t seat;
    uint32_t cursor; /* looks for a free block from here on */
    struct lab_wait_plan plan;
};

/* -EMSGSIZE, -EINVAL: the config is out of range. Recorded. */
int lab_pool_shape(const struct lab_pool_config *config, struct lab_pool_shape *ret_shape);

/* Makes a pool of free blocks in `shape->size` bytes of zeroed memory aligned to LAB_POOL_LINE. */
void lab_pool_init(void *memory, const struct lab_pool_config *config, const struct lab_pool_shape *shape);

/* Attaches a party, once in the life of each seat. `size` is that of the memory. -EINVAL: there is no such seat; -EBADMSG: the memory does
 * not hold a pool of this config; -EBUSY: the seat is taken. Recorded. */
int lab_pool_attach(struct lab_pool_end *end, void *memory, size_t size, const struct lab_pool_config *config, uint32_t seat);

/* Tells that the party at `seat` is gone, gives back what it held and what was promised to it, and wakes who waits for blocks. May be
 * called by anyone who knows (a supervisor that has reaped it, or itself), any number of times. */
void lab_pool_hangup(void *memory, const struct lab_pool_config *config, uint32_t seat);

/* How many blocks are free at this moment. */
uint32_t lab_pool_count_free(void *memory, const struct lab_pool_config *config);

/* The ways that are not taken for every block. */
int lab_pool_take_late(struct lab_pool_end *end, uint64_t deadline_ns, uint32_t *ret_block);
int lab_pool_pass_late(struct lab_pool_end *end, uint32_t block, uint32_t readers, bool keep);
int lab_pool_accept_late(struct lab_pool_end *end, uint32_t block);
int lab_pool_give_late(struct lab_pool_end *end, uint32_t block);
void lab_pool_wake(struct lab_pool_end *end);

static inline _Atomic uint64_t *lab_pool_word(const struct lab_pool_end *end, uint32_t block)
{
    return (_Atomic uint64_t *)(void *)(end->words + (size_t)block * end->word_stride);
}

static inline uint64_t lab_pool_held(uint32_t seat)
{
    return UINT64_C(1) << seat;
}

static inline uint64_t lab_pool_promised(uint32_t seat)
{
    return UINT64_C(1) << 32 << seat;
}

/* Where a block is, aligned to LAB_POOL_LINE; NULL when there is no block of that number. Does not say whose it is. */
static inline void *lab_pool_at(const struct lab_pool_end *end, uint32_t block)
{
    return LAB_POOL_LIKELY(block < end->blocks) ? end->blocks_at + block * end->block_stride : NULL;
}

/* Takes the block at the cursor, if it is free. */
static inline bool lab_pool_try(struct lab_pool_end *end, uint32_t *ret_block)
{
    uint32_t block = end->cursor;
    uint64_t word = 0;
    if (!LAB_POOL_LIKELY(atomic_load_explicit(lab_pool_word(end, block), memory_order_relaxed) == 0 &&
                         atomic_compare_exchange_strong_explicit(lab_pool_word(end, block), &word, lab_pool_held(end->seat),
                                                                 memory_order_acquire, memory_order_relaxed)))
        return false;
    end->cursor = block + 1 == end->blocks ? 0 : block + 1;
    *ret_block = block;
    return true;
}

/* Takes a free block; what is in it is whatever was left there. 0; -EAGAIN at the deadline; -EPIPE: none is free, and no other party is
 * left to give one back (recorded). */
static inline int lab_pool_take(struct lab_pool_end *end, uint64_t deadline_ns, uint32_t *ret_block)
{
    return LAB_POOL_LIKELY(lab_pool_try(end, ret_block)) ? 0 : lab_pool_take_late(end, deadline_ns, ret_block);
}

static inline _Atomic uint8_t *lab_pool_giver(const struct lab_pool_end *end, uint32_t block, uint32_t to)
{
    return &end->givers[(size_t)block * end->parties + to];
}

/* Notes who makes a promise. Where the same parties pass to each other again and again, nothing is written. */
static inline void lab_pool_note(struct lab_pool_end *end, uint32_t block, uint32_t to)
{
    _Atomic uint8_t *giver = lab_pool_giver(end, block, to);
    if (!LAB_POOL_LIKELY(atomic_load_explicit(giver, memory_order_relaxed) == end->seat))
        atomic_store_explicit(giver, (uint8_t)end->seat, memory_order_relaxed);
}

/* Promises a block that this party holds to the one at seat `to`, and gives it away. Then the number is sent; what was written into the
 * block is visible to who accepts it. Does not block. 0; -EPIPE: that party is gone; -EEXIST: it has the block already; -EBADMSG: this
 * party does not hold it; -EINVAL: no such seat. On failure the block stays with this party. Recorded. */
static inline int lab_pool_pass(struct lab_pool_end *end, uint32_t block, uint32_t to)
{
    bool fine = block < end->blocks && to < end->parties &&
                !(atomic_load_explicit(&end->shared->gone, memory_order_relaxed) >> to & 1) &&
                atomic_load_explicit(lab_pool_word(end, block), memory_order_acquire) == lab_pool_held(end->seat);
    if (!LAB_POOL_LIKELY(fine))
        return lab_pool_pass_late(end, block, to < end->parties ? UINT32_C(1) << to % LAB_POOL_PARTIES_MAX : 0, false);
    lab_pool_note(end, block, to);
    atomic_store_explicit(lab_pool_word(end, block), lab_pool_promised(to), memory_order_release);
    return 0;
}

/* Promises a block that this party holds, and goes on holding, to the parties of `readers`, a bit per seat. As lab_pool_pass, and all
 * of them or none: -EPIPE if one is gone. */
int lab_pool_share(struct lab_pool_end *end, uint32_t block, uint32_t readers);

/* Takes over a block whose number has come. 0; -EBADMSG: it is not promised to this party (recorded). */
static inline int lab_pool_accept(struct lab_pool_end *end, uint32_t block)
{
    bool alone = block < end->blocks && atomic_load_explicit(lab_pool_word(end, block), memory_order_acquire) == lab_pool_promised(end->seat);
    if (!LAB_POOL_LIKELY(alone))
        return lab_pool_accept_late(end, block);
    atomic_store_explicit(lab_pool_word(end, block), lab_pool_held(end->seat), memory_order_relaxed);
    return 0;
}

/* Gives a block back, accepted or not; who waits for one is woken if this was the last party that had it. 0; -EBADMSG: this party neither
 * holds it nor was it promised (recorded). Does not block. */
static inline int lab_pool_give(struct lab_pool_end *end, uint32_t block)
{
    /* Acquire: what other readers did before they gave it back comes before what the next holder does. */
    uint64_t word = block < end->blocks ? atomic_load_explicit(lab_pool_word(end, block), memory_order_acquire) : 0;
    if (!LAB_POOL_LIKELY(word == lab_pool_held(end->seat) || word == lab_pool_promised(end->seat)))
        return lab_pool_give_late(end, block);
    atomic_store_explicit(lab_pool_word(end, block), 0, memory_order_release);
    if (end->plan.sleeps)
        lab_pool_wake(end);
    return 0;
}

/* The party at seat `from` is gone, and this one has received every number that it sent, and accepted the blocks or given them back: what
 * it had promised and did not send goes back. */
void lab_pool_settle(struct lab_pool_end *end, uint32_t from);

#endif
