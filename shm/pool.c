#include "shm/pool.h"

#include "base/error.h"

#include <assert.h>
#include <string.h>

enum { BLOCK_MAX = 1 << 30, WORD = sizeof(uint64_t) };

static size_t round_up(size_t value, size_t to)
{
    return (value + to - 1) / to * to;
}

int lab_pool_shape(const struct lab_pool_config *config, struct lab_pool_shape *ret_shape)
{
    if (config->block_bytes == 0 || config->block_bytes > BLOCK_MAX)
        return lab_refuse(EMSGSIZE, "a pool lends blocks of 1 to %d bytes, not %u", BLOCK_MAX, config->block_bytes);
    if (config->blocks == 0 || config->blocks > LAB_POOL_BLOCKS_MAX || config->parties == 0 || config->parties > LAB_POOL_PARTIES_MAX)
        return lab_refuse(EINVAL, "a pool has 1 to %d blocks and 1 to %d parties, not %u and %u", LAB_POOL_BLOCKS_MAX, LAB_POOL_PARTIES_MAX,
                          config->blocks, config->parties);
    struct lab_pool_shape shape = {.blocks = config->blocks, .parties = config->parties};
    shape.word_stride = config->blocks <= LAB_POOL_APART_BLOCKS ? LAB_POOL_LINE : WORD;
    shape.block_stride = round_up(config->block_bytes, LAB_POOL_LINE);
    shape.words_at = sizeof(struct lab_pool_shared) + config->parties * sizeof(struct lab_pool_seat);
    shape.givers_at = round_up(shape.words_at + (size_t)shape.blocks * shape.word_stride, LAB_POOL_LINE);
    shape.blocks_at = round_up(shape.givers_at + (size_t)shape.blocks * shape.parties, LAB_POOL_LINE);
    shape.size = shape.blocks_at + shape.blocks * shape.block_stride;
    *ret_shape = shape;
    return 0;
}

void lab_pool_init(void *memory, const struct lab_pool_config *config, const struct lab_pool_shape *shape)
{
    struct lab_pool_shared *shared = memory;
    memset(shared, 0, shape->blocks_at);
    shared->size = shape->size;
    shared->block_bytes = config->block_bytes;
    shared->blocks = config->blocks;
    shared->parties = config->parties;
    shared->wait = config->wait;
    shared->alone = config->parties == 1;
}

static struct lab_pool_end view_of(void *memory, const struct lab_pool_config *config, const struct lab_pool_shape *shape, uint32_t seat)
{
    unsigned char *bytes = memory;
    struct lab_wait_plan plan = lab_wait_plan(config->wait);
    if (config->spin_ns)
        plan.spin_ns = config->spin_ns;
    return (struct lab_pool_end){
        .shared = memory, .words = bytes + shape->words_at, .givers = (_Atomic uint8_t *)(bytes + shape->givers_at),
        .blocks_at = bytes + shape->blocks_at,
        .block_stride = shape->block_stride, .word_stride = shape->word_stride, .blocks = shape->blocks, .parties = shape->parties,
        .seat = seat, .cursor = (uint32_t)((uint64_t)shape->blocks * seat / shape->parties), .plan = plan,
    };
}

int lab_pool_attach(struct lab_pool_end *end, void *memory, size_t size, const struct lab_pool_config *config, uint32_t seat)
{
    struct lab_pool_shape shape;
    int err = lab_pool_shape(config, &shape);
    if (err)
        return err;
    if (seat >= config->parties)
        return lab_refuse(EINVAL, "there is no seat %u in a pool of %u parties", seat, config->parties);
    struct lab_pool_shared *shared = memory;
    if (size < shape.size || shared->size != shape.size || shared->block_bytes != config->block_bytes || shared->blocks != config->blocks ||
        shared->parties != config->parties || shared->wait != config->wait)
        return lab_refuse(EBADMSG, "the shared memory (%zu bytes) does not hold a pool of %u blocks of %u bytes for %u", size, config->blocks,
                          config->block_bytes, config->parties);
    if (atomic_exchange(&shared->seats[seat].taken, 1))
        return lab_refuse(EBUSY, "seat %u of the pool is taken", seat);
    *end = view_of(memory, config, &shape, seat);
    return 0;
}

/* ---- the ways that are not taken for every block ---- */

void lab_pool_wake(struct lab_pool_end *end)
{
    struct lab_pool_shared *shared = end->shared;
    atomic_thread_fence(memory_order_seq_cst); /* the block is free, then who waits is looked up: as in shm/wait.h */
    uint32_t waiting = atomic_load_explicit(&shared->waiting, memory_order_relaxed);
    for (uint32_t seat = 0; waiting && seat < end->parties; seat++, waiting >>= 1)
        if (waiting & 1)
            lab_wait_wake_by(&end->plan, &shared->seats[seat].sleeps);
}

/* Takes bits out of a word; wakes if the block is free then and was not before. */
static void take_out(struct lab_pool_end *end, uint32_t block, uint64_t bits)
{
    uint64_t before = atomic_fetch_and_explicit(lab_pool_word(end, block), ~bits, memory_order_acq_rel);
    if (before && !(before & ~bits) && end->plan.sleeps)
        lab_pool_wake(end);
}

/* Gives back all that parties who are gone hold, and what was promised to them. */
static void sweep(struct lab_pool_end *end, uint32_t gone)
{
    uint64_t bits = (uint64_t)gone << 32 | gone;
    for (uint32_t block = 0; block < end->blocks; block++)
        if (atomic_load_explicit(lab_pool_word(end, block), memory_order_relaxed) & bits)
            take_out(end, block, bits);
}

static uint32_t bits_of(uint32_t parties)
{
    return UINT32_MAX >> (LAB_POOL_PARTIES_MAX - parties);
}

/* Looks at every block, from the cursor on; leaves the cursor at one that is free. */
static bool find(struct lab_pool_end *end)
{
    for (uint32_t i = 0, block = end->cursor; i < end->blocks; i++) {
        if (atomic_load_explicit(lab_pool_word(end, block), memory_order_relaxed) == 0) {
            end->cursor = block;
            return true;
        }
        block = block + 1 == end->blocks ? 0 : block + 1;
    }
    return false;
}

static bool one_is_free(void *subject)
{
    return find(subject);
}

static int wait_for_one(struct lab_pool_end *end, uint64_t deadline_ns)
{
    struct lab_pool_shared *shared = end->shared;
    struct lab_sleeper *sleeper = &shared->seats[end->seat].sleeps;
    uint32_t me = UINT32_C(1) << end->seat;
    if (!end->plan.sleeps)
        return lab_wait_until(&end->plan, one_is_free, end, sleeper, &shared->alone, deadline_ns);
    atomic_fetch_or(&shared->waiting, me);
    int err = lab_wait_until(&end->plan, one_is_free, end, sleeper, &shared->alone, deadline_ns);
    atomic_fetch_and(&shared->waiting, ~me);
    return err;
}

int lab_pool_take_late(struct lab_pool_end *end, uint64_t deadline_ns, uint32_t *ret_block)
{
    for (;;) {
        while (find(end))
            if (lab_pool_try(end, ret_block))
                return 0;
        /* What was passed to a party in the moment in which it went is found here. */
        uint32_t gone = atomic_load_explicit(&end->shared->gone, memory_order_acquire) & bits_of(end->parties) & ~(UINT32_C(1) << end->seat);
        if (gone)
            sweep(end, gone);
        int err = wait_for_one(end, deadline_ns);
        if (err == -EPIPE)
            return lab_refuse(EPIPE, "no block of the pool is free, and every other party is gone");
        if (err)
            return err;
    }
}

static int not_held(const struct lab_pool_end *end, uint32_t block, uint64_t word)
{
    return lab_refuse(EBADMSG, "block %u of %u is not held by seat %u (its word is %#llx)", block, end->blocks, end->seat,
                      (unsigned long long)word);
}

/* Others hold or are promised the block too, or something is wrong. */
int lab_pool_pass_late(struct lab_pool_end *end, uint32_t block, uint32_t readers, bool keep)
{
    uint64_t me = lab_pool_held(end->seat), promise = (uint64_t)readers << 32;
    if (block >= end->blocks)
        return not_held(end, block, 0);
    if (!readers || readers & ~bits_of(end->parties))
        return lab_refuse(EINVAL, "block %u is to go to seats %#x of %u", block, readers, end->parties);
    if (atomic_load_explicit(&end->shared->gone, memory_order_acquire) & readers)
        return lab_refuse(EPIPE, "block %u is to go to a party that is gone (seats %#x)", block, readers);
    _Atomic uint64_t *word = lab_pool_word(end, block);
    uint64_t before = atomic_load_explicit(word, memory_order_acquire), after;
    do {
        if (!(before & me))
            return not_held(end, block, before);
        after = keep ? before : before & ~me;
        if (after & (promise | readers))
            return lab_refuse(EEXIST, "block %u is to go to a party that has it already (seats %#x)", block, readers);
        for (uint32_t to = 0; to < end->parties; to++)
            if (readers >> to & 1)
                lab_pool_note(end, block, to);
    } while (!atomic_compare_exchange_weak_explicit(word, &before, after | promise, memory_order_acq_rel, memory_order_acquire));
    return 0;
}

int lab_pool_share(struct lab_pool_end *end, uint32_t block, uint32_t readers)
{
    return lab_pool_pass_late(end, block, readers, true);
}

int lab_pool_accept_late(struct lab_pool_end *end, uint32_t block)
{
    uint64_t word = block < end->blocks ? atomic_load_explicit(lab_pool_word(end, block), memory_order_acquire) : 0;
    if (!(word & lab_pool_promised(end->seat)) || word & lab_pool_held(end->seat))
        return lab_refuse(EBADMSG, "block %u of %u was not passed to seat %u (its word is %#llx)", block, end->blocks, end->seat,
                          (unsigned long long)word);
    atomic_fetch_xor_explicit(lab_pool_word(end, block), lab_pool_promised(end->seat) | lab_pool_held(end->seat), memory_order_acq_rel);
    return 0;
}

int lab_pool_give_late(struct lab_pool_end *end, uint32_t block)
{
    uint64_t word = block < end->blocks ? atomic_load_explicit(lab_pool_word(end, block), memory_order_acquire) : 0;
    uint64_t mine = lab_pool_held(end->seat) | lab_pool_promised(end->seat);
    if (!(word & mine))
        return not_held(end, block, word);
    take_out(end, block, mine);
    return 0;
}

/* ---- who is gone ---- */

void lab_pool_settle(struct lab_pool_end *end, uint32_t from)
{
    assert(from < end->parties);
    uint64_t promised = lab_pool_promised(end->seat);
    for (uint32_t block = 0; block < end->blocks; block++)
        if (atomic_load_explicit(lab_pool_word(end, block), memory_order_acquire) & promised &&
            atomic_load_explicit(lab_pool_giver(end, block, end->seat), memory_order_relaxed) == from)
            take_out(end, block, promised);
}

/* For who is no party. */
static struct lab_pool_end look_at(void *memory, const struct lab_pool_config *config)
{
    struct lab_pool_shape shape;
    int err = lab_pool_shape(config, &shape);
    assert(!err);
    (void)err;
    return view_of(memory, config, &shape, 0);
}

void lab_pool_hangup(void *memory, const struct lab_pool_config *config, uint32_t seat)
{
    assert(seat < config->parties);
    struct lab_pool_end view = look_at(memory, config);
    struct lab_pool_shared *shared = memory;
    uint32_t dead = UINT32_C(1) << seat, gone = atomic_fetch_or(&shared->gone, dead) | dead;
    uint32_t left = bits_of(config->parties) & ~gone;
    sweep(&view, dead);
    atomic_fetch_and(&shared->waiting, ~dead);
    if (!(left & (left - 1)))
        atomic_store_explicit(&shared->alone, 1, memory_order_release);
    lab_pool_wake(&view);
}

uint32_t lab_pool_count_free(void *memory, const struct lab_pool_config *config)
{
    struct lab_pool_end view = look_at(memory, config);
    uint32_t count = 0;
    for (uint32_t block = 0; block < view.blocks; block++)
        count += atomic_load_explicit(lab_pool_word(&view, block), memory_order_acquire) == 0;
    return count;
}
