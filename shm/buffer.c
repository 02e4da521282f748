#include "shm/buffer.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>

enum { MESSAGE_MAX = 1 << 30, NEAR = 64, WORD = sizeof(uint64_t) };
enum state { FREE, RESERVED, COMMITTED, VOID, BORROWED };
enum { STATE_BITS = 3, SEAT_BITS = 16, LENGTH_SHIFT = 32 };

static uint32_t power_of_two(uint32_t least)
{
    uint32_t power = 1;
    while (power < least)
        power *= 2;
    return power;
}

static size_t round_up(size_t value, size_t to)
{
    return (value + to - 1) / to * to;
}

static uint32_t at_most(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

int lab_buffer_shape(const struct lab_buffer_config *config, struct lab_buffer_shape *ret_shape)
{
    if (config->message_max == 0 || config->message_max > MESSAGE_MAX)
        return lab_refuse(EMSGSIZE, "a buffer carries messages of 1 to %d bytes, not %u", MESSAGE_MAX, config->message_max);
    if (config->window == 0 || config->window > LAB_BUFFER_WINDOW_MAX || config->batch == 0)
        return lab_refuse(EINVAL, "a buffer holds 1 to %d messages, not %u (in batches of %u)", LAB_BUFFER_WINDOW_MAX, config->window,
                          config->batch);
    if (!config->producers || config->producers > LAB_BUFFER_SEATS || !config->consumers || config->consumers > LAB_BUFFER_SEATS)
        return lab_refuse(EINVAL, "a buffer has 1 to %d seats on each side, not %u and %u", LAB_BUFFER_SEATS, config->producers,
                          config->consumers);
    struct lab_buffer_shape shape = {.config = *config};
    shape.places = power_of_two(config->window);
    shape.config.batch = at_most(config->batch, shape.places);
    shape.stride = (uint32_t)round_up(config->message_max, config->message_max < NEAR ? WORD : NEAR);
    shape.seats_at = sizeof(struct lab_buffer_shared);
    size_t seats = (size_t)config->producers + config->consumers;
    shape.words_at = round_up(shape.seats_at + seats * sizeof(struct lab_buffer_seat), LAB_BUFFER_LINE);
    shape.places_at = round_up(shape.words_at + (size_t)shape.places * WORD, LAB_BUFFER_LINE);
    shape.size = round_up(shape.places_at + (size_t)shape.places * shape.stride, LAB_BUFFER_LINE);
    *ret_shape = shape;
    return 0;
}

void lab_buffer_init(void *memory, const struct lab_buffer_shape *shape)
{
    struct lab_buffer_shared *shared = memory;
    memset(memory, 0, shape->places_at);
    shared->size = shape->size;
    shared->message_max = shape->config.message_max;
    shared->places = shape->places;
    shared->producers = shape->config.producers;
    shared->consumers = shape->config.consumers;
    shared->batch = shape->config.batch;
}

static struct lab_buffer_seat *seat_at(void *memory, const struct lab_buffer_shape *shape, enum lab_buffer_side side, uint32_t seat)
{
    const struct lab_buffer_config *config = &shape->config;
    if (seat >= (side == LAB_BUFFER_PRODUCER ? config->producers : config->consumers))
        return NULL;
    struct lab_buffer_seat *seats = (struct lab_buffer_seat *)(void *)((unsigned char *)memory + shape->seats_at);
    return seats + (side == LAB_BUFFER_PRODUCER ? 0 : config->producers) + seat;
}

int lab_buffer_attach(struct lab_buffer *buffer, void *memory, const struct lab_buffer_shape *shape, enum lab_buffer_side side, uint32_t seat)
{
    const struct lab_buffer_config *config = &shape->config;
    struct lab_buffer_shared *shared = memory;
    if (shared->size != shape->size || shared->message_max != config->message_max || shared->places != shape->places ||
        shared->producers != config->producers || shared->consumers != config->consumers || shared->batch != config->batch)
        return lab_refuse(EBADMSG, "the shared memory does not hold a buffer of %u messages of %u bytes", shape->places, config->message_max);
    struct lab_buffer_seat *own = seat_at(memory, shape, side, seat);
    const char *name = side == LAB_BUFFER_PRODUCER ? "producer" : "consumer";
    if (!own)
        return lab_refuse(EINVAL, "the buffer has no seat %u for a %s", seat, name);
    if (atomic_exchange(&own->taken, 1))
        return lab_refuse(EBUSY, "seat %u for a %s of the buffer is taken", seat, name);
    unsigned char *bytes = memory;
    *buffer = (struct lab_buffer){
        .shared = shared, .seats = seat_at(memory, shape, LAB_BUFFER_PRODUCER, 0), .own = own,
        .words = (_Atomic uint64_t *)(void *)(bytes + shape->words_at), .places = bytes + shape->places_at, .mask = shape->places - 1,
        .stride = shape->stride, .message_max = config->message_max, .batch = config->batch,
        .seat_count = {config->producers, config->consumers}, .side = side, .seat = seat,
    };
    return 0;
}

/* ---- words ---- */

static uint64_t word_of(enum state state, uint32_t seat, uint32_t length)
{
    return (uint64_t)length << LENGTH_SHIFT | (uint64_t)seat << STATE_BITS | state;
}

static enum state state_of(uint64_t word)
{
    return (enum state)(word & ((1 << STATE_BITS) - 1));
}

static uint32_t seat_of(uint64_t word)
{
    return (uint32_t)(word >> STATE_BITS) & ((1 << SEAT_BITS) - 1);
}

static uint32_t length_of(uint64_t word)
{
    return (uint32_t)(word >> LENGTH_SHIFT);
}

static uint64_t look(const struct lab_buffer *buffer, uint64_t position)
{
    return atomic_load_explicit(&buffer->words[position & buffer->mask], memory_order_acquire);
}

static void put(const struct lab_buffer *buffer, uint64_t position, uint64_t word)
{
    atomic_store_explicit(&buffer->words[position & buffer->mask], word, memory_order_release);
}

/* ---- positions ---- */

struct positions {
    uint64_t freed, tail, ready, head;
};

static uint64_t load(const _Atomic uint64_t *position)
{
    return atomic_load_explicit(position, memory_order_relaxed);
}

static void store(_Atomic uint64_t *position, uint64_t value)
{
    atomic_store_explicit(position, value, memory_order_relaxed);
}

/* False: they cannot be; the walks between them would have no end. */
static bool read_positions(const struct lab_buffer *buffer, struct positions *p)
{
    const struct lab_buffer_shared *shared = buffer->shared;
    *p = (struct positions){load(&shared->freed), load(&shared->tail), load(&shared->ready), load(&shared->head)};
    uint64_t taken = p->head - p->freed, passed = p->tail - p->freed, known = p->ready - p->freed;
    return passed <= known && known <= taken && taken <= buffer->mask + UINT64_C(1);
}

static int bad_positions(const struct positions *p)
{
    return lab_refuse(EBADMSG, "somebody says that %llu places of the buffer were freed, %llu messages borrowed, %llu committed and %llu "
                               "places reserved", (unsigned long long)p->freed, (unsigned long long)p->tail, (unsigned long long)p->ready,
                      (unsigned long long)p->head);
}

static uint32_t in_one_piece(const struct lab_buffer *buffer, uint64_t position)
{
    return buffer->mask + 1 - ((uint32_t)position & buffer->mask);
}

/* ---- those that are gone ---- */

struct lab_buffer_seat *lab_buffer_hangup(void *memory, const struct lab_buffer_shape *shape, enum lab_buffer_side side, uint32_t seat)
{
    struct lab_buffer_shared *shared = memory;
    struct lab_buffer_seat *dead = seat_at(memory, shape, side, seat), *other;
    if (!dead)
        return NULL;
    atomic_store(&dead->gone, 1);
    atomic_store(&shared->mend, 1);
    bool all = true;
    for (seat = 0; all && (other = seat_at(memory, shape, side, seat)); seat++)
        all = atomic_load(&other->gone);
    if (all)
        atomic_store(&shared->side_gone[side], 1);
    return dead;
}

static bool is_gone(const struct lab_buffer *buffer, enum lab_buffer_side side, uint32_t seat)
{
    const struct lab_buffer_seat *of_side = buffer->seats + (side == LAB_BUFFER_PRODUCER ? 0 : buffer->seat_count[LAB_BUFFER_PRODUCER]);
    return seat < buffer->seat_count[side] && atomic_load_explicit(&of_side[seat].gone, memory_order_acquire);
}

/* Once, though whoever counts may be killed before the place is freed. */
static void count_dropped(struct lab_buffer *buffer, uint64_t position)
{
    uint64_t dropped = load(&buffer->shared->dropped), last = (position + 1) << 32;
    if (dropped >> 32 != last >> 32)
        store(&buffer->shared->dropped, last | (uint32_t)(dropped + 1));
}

/* Every place that is taken by somebody who is gone. What one who is mending leaves undone when it is killed itself, the next one, called
 * upon for that death, finds as it was. */
static void mend(struct lab_buffer *buffer, const struct positions *p)
{
    for (uint64_t at = p->freed; at != p->head; at++) {
        uint64_t word = look(buffer, at);
        if (state_of(word) == RESERVED && is_gone(buffer, LAB_BUFFER_PRODUCER, seat_of(word)))
            put(buffer, at, word_of(VOID, 0, 0));
        if (state_of(word) != BORROWED || !is_gone(buffer, LAB_BUFFER_CONSUMER, seat_of(word)))
            continue;
        bool learned_of = at - p->freed < p->tail - p->freed;
        if (learned_of)
            count_dropped(buffer, at);
        put(buffer, at, learned_of ? word_of(FREE, 0, 0) : word_of(COMMITTED, 0, length_of(word)));
    }
    buffer->mended = true;
}

/* Lets `ready` and `freed` follow, and `tail` pass over what is void. */
static void settle(struct lab_buffer *buffer, struct positions *p)
{
    struct lab_buffer_shared *shared = buffer->shared;
    for (; p->ready != p->head; p->ready++) {
        enum state state = state_of(look(buffer, p->ready));
        if (state != COMMITTED && state != VOID)
            break;
        buffer->news.messages += state == COMMITTED;
    }
    store(&shared->ready, p->ready);
    while (p->tail != p->ready && state_of(look(buffer, p->tail)) == VOID)
        p->tail++;
    store(&shared->tail, p->tail);
    for (; p->freed != p->tail && (state_of(look(buffer, p->freed)) == FREE || state_of(look(buffer, p->freed)) == VOID); p->freed++)
        buffer->news.places++;
    store(&shared->freed, p->freed);
}

int lab_buffer_enter(struct lab_buffer *buffer)
{
    struct positions p;
    buffer->news = (struct lab_buffer_news){0};
    buffer->mended = false;
    if (!read_positions(buffer, &p))
        return bad_positions(&p);
    if (atomic_load_explicit(&buffer->shared->mend, memory_order_relaxed) && atomic_exchange(&buffer->shared->mend, 0))
        mend(buffer, &p);
    settle(buffer, &p);
    return 0;
}

struct lab_buffer_news lab_buffer_leave(struct lab_buffer *buffer)
{
    struct positions p;
    if (!read_positions(buffer, &p))
        return (struct lab_buffer_news){0};
    settle(buffer, &p);
    if (buffer->mended)
        return (struct lab_buffer_news){
            .messages = (uint32_t)(p.ready - p.tail), .places = (uint32_t)(p.freed + buffer->mask + 1 - p.head)};
    return buffer->news;
}

/* ---- taking ---- */

static int reserve(struct lab_buffer *buffer, const struct positions *p, uint32_t want)
{
    if (lab_buffer_gone(buffer, LAB_BUFFER_CONSUMER))
        return -EPIPE;
    uint32_t room = (uint32_t)(p->freed + buffer->mask + 1 - p->head);
    uint32_t count = at_most(at_most(want, buffer->batch), at_most(room, in_one_piece(buffer, p->head)));
    if (count == 0)
        return -EAGAIN;
    for (uint32_t i = 0; i < count; i++)
        put(buffer, p->head + i, word_of(RESERVED, buffer->seat, 0));
    atomic_store_explicit(&buffer->shared->head, p->head + count, memory_order_release);
    buffer->at = p->head;
    buffer->held = count;
    return 0;
}

/* How many messages of one length lie at `tail`, up to `most`; -EAGAIN: whoever was about to borrow them was killed, and has not been
 * declared dead yet; -EBADMSG. */
static int look_for_messages(const struct lab_buffer *buffer, const struct positions *p, uint32_t most, uint32_t *ret_length)
{
    uint64_t first = look(buffer, p->tail);
    uint32_t length = length_of(first), count = 1;
    if (state_of(first) == BORROWED)
        return -EAGAIN;
    if (state_of(first) != COMMITTED || length > buffer->message_max)
        return lab_refuse(EBADMSG, "somebody says that a place of the buffer is in state %d, with a message of %u bytes where %u are the most",
                          (int)state_of(first), length, buffer->message_max);
    while (count < most && look(buffer, p->tail + count) == first)
        count++;
    *ret_length = length;
    return (int)count;
}

static int borrow(struct lab_buffer *buffer, const struct positions *p, uint32_t want)
{
    if (p->tail == p->ready)
        return p->ready == p->head && lab_buffer_gone(buffer, LAB_BUFFER_PRODUCER) ? -EPIPE : -EAGAIN;
    uint32_t most = at_most(at_most(want, buffer->batch), at_most((uint32_t)(p->ready - p->tail), in_one_piece(buffer, p->tail)));
    uint32_t length = 0;
    int count = look_for_messages(buffer, p, most, &length);
    if (count < 0)
        return count;
    for (int i = 0; i < count; i++)
        put(buffer, p->tail + (uint32_t)i, word_of(BORROWED, buffer->seat, length));
    atomic_store_explicit(&buffer->shared->tail, p->tail + (uint32_t)count, memory_order_release);
    buffer->at = p->tail;
    buffer->held = (uint32_t)count;
    buffer->length = length;
    return 0;
}

int lab_buffer_take(struct lab_buffer *buffer, uint32_t want)
{
    struct positions p;
    if (!read_positions(buffer, &p))
        return bad_positions(&p);
    return buffer->side == LAB_BUFFER_PRODUCER ? reserve(buffer, &p, want) : borrow(buffer, &p, want);
}

/* ---- giving back ---- */

void lab_buffer_commit(struct lab_buffer *buffer, uint32_t count, bool locked)
{
    struct lab_buffer_shared *shared = buffer->shared;
    for (uint32_t i = 0; i < count; i++)
        put(buffer, buffer->at + i, word_of(COMMITTED, 0, buffer->length));
    if (locked && load(&shared->head) == buffer->at + buffer->held) {
        atomic_store_explicit(&shared->head, buffer->at + count, memory_order_release);
        buffer->news.places += buffer->held - count;
    } else {
        for (uint32_t i = count; i < buffer->held; i++)
            put(buffer, buffer->at + i, word_of(VOID, 0, 0));
    }
    buffer->held = 0;
}

void lab_buffer_release(struct lab_buffer *buffer, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        put(buffer, buffer->at + i, word_of(FREE, 0, 0));
    buffer->at += count;
    buffer->held -= count;
}
