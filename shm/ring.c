#include "shm/ring.h"

#include "base/error.h"

#include <string.h>

enum {
    MESSAGE_MAX = 1 << 30,
    MARK = sizeof(uint64_t),
    NEAR = 64,               /* bytes of one line, with the mark */
    LATENCY_WINDOW = 64,     /* up to here a window is for latency, beyond it for throughput */
    ROOMY_BYTES = 256 << 10, /* up to here a ring has twice the slots it promises */
    SLOTS_MIN = 16,
    AHEAD_SHARE = 4,         /* for throughput the reader keeps up to a quarter of a window behind the writer */
    STEPS = 8,               /* ... in so many steps, each awaited for ... */
    LOOKS = 100,             /* ... so many looks, 1 to 4 us */
    SKIP_MAX = 255,
};

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

static uint32_t at_least(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* The one place where parameters choose a layout; the reasons are in ring.h. */
static void choose_layout(const struct lab_ring_config *config, struct lab_ring_shape *shape)
{
    size_t begin = sizeof(struct lab_ring_shared), length = config->message_max;
    bool latency = config->window <= LATENCY_WINDOW && config->batch == 1;
    if (latency) {
        size_t before = length + MARK <= NEAR ? MARK : NEAR;
        shape->stride = (uint32_t)round_up(before + length, LAB_RING_LINE);
        shape->mark_stride = shape->stride;
        shape->places_at = begin + before;
        shape->marks_at = shape->places_at - MARK;
    } else if (length + MARK <= NEAR && config->batch == 1) {
        shape->stride = at_least(power_of_two((uint32_t)length + MARK), 2 * MARK);
        shape->mark_stride = shape->stride;
        shape->marks_at = begin;
        shape->places_at = begin + MARK;
    } else {
        shape->stride = (uint32_t)round_up(length, length < NEAR ? MARK : NEAR);
        shape->mark_stride = MARK;
    }
    bool polls = config->wait == LAB_WAIT_SPIN || config->wait == LAB_WAIT_ADAPTIVE;
    shape->ahead = latency || !polls ? 0 : config->window / AHEAD_SHARE / config->batch * config->batch;
}

int lab_ring_shape(const struct lab_ring_config *config, struct lab_ring_shape *ret_shape)
{
    if (config->message_max == 0 || config->message_max > MESSAGE_MAX)
        return lab_refuse(EMSGSIZE, "a ring carries messages of 1 to %d bytes, not %u", MESSAGE_MAX, config->message_max);
    if (config->window == 0 || config->window > LAB_RING_WINDOW_MAX || config->batch == 0)
        return lab_refuse(EINVAL, "a ring holds 1 to %d messages, not %u (in batches of %u)", LAB_RING_WINDOW_MAX, config->window,
                          config->batch);
    struct lab_ring_shape shape = {.message_max = config->message_max};
    choose_layout(config, &shape);
    uint32_t least = power_of_two(at_least(config->window, config->batch < LAB_RING_WINDOW_MAX ? config->batch : LAB_RING_WINDOW_MAX));
    shape.slots = at_least(2 * least, SLOTS_MIN);
    if (shape.slots > LAB_RING_WINDOW_MAX || (size_t)shape.slots * shape.stride > ROOMY_BYTES)
        shape.slots = least;
    shape.batch = config->batch < shape.slots ? config->batch : shape.slots;
    uint32_t spare = shape.slots - config->window + 1, quarter = shape.slots / 4;
    shape.lazy = quarter && spare > quarter ? quarter : spare;
    if (quarter == 0)
        shape.lazy = 1;
    if (!shape.places_at) {
        shape.marks_at = sizeof(struct lab_ring_shared);
        shape.places_at = round_up(shape.marks_at + (size_t)shape.slots * MARK, LAB_RING_LINE);
    }
    shape.size = round_up(shape.places_at + (size_t)shape.slots * shape.stride, LAB_RING_LINE);
    *ret_shape = shape;
    return 0;
}

void lab_ring_init(void *memory, const struct lab_ring_config *config, const struct lab_ring_shape *shape)
{
    struct lab_ring_shared *shared = memory;
    memset(shared, 0, sizeof *shared);
    shared->size = shape->size;
    shared->message_max = shape->message_max;
    shared->slots = shape->slots;
    shared->batch = shape->batch;
    shared->wait = config->wait;
}

static int attach(void *memory, size_t size, const struct lab_ring_config *config, enum lab_ring_side side, struct lab_ring_shape *ret_shape)
{
    int err = lab_ring_shape(config, ret_shape);
    if (err)
        return err;
    struct lab_ring_shared *shared = memory;
    if (size < ret_shape->size || shared->size != ret_shape->size || shared->message_max != ret_shape->message_max ||
        shared->slots != ret_shape->slots || shared->batch != ret_shape->batch || shared->wait != config->wait)
        return lab_refuse(EBADMSG, "the shared memory (%zu bytes) does not hold a ring of %u messages of %u bytes", size,
                          ret_shape->slots, ret_shape->message_max);
    if (atomic_exchange(&shared->taken[side], 1))
        return lab_refuse(EBUSY, "the %s side of the ring is taken", side == LAB_RING_PRODUCER ? "producing" : "consuming");
    return 0;
}

int lab_ring_produce(struct lab_ring_producer *producer, void *memory, size_t size, const struct lab_ring_config *config)
{
    struct lab_ring_shape shape;
    int err = attach(memory, size, config, LAB_RING_PRODUCER, &shape);
    if (err)
        return err;
    *producer = (struct lab_ring_producer){
        .places = (unsigned char *)memory + shape.places_at, .marks = (unsigned char *)memory + shape.marks_at, .shared = memory,
        .room_to = shape.slots, .mask = shape.slots - 1, .lap_shift = (uint32_t)__builtin_ctz(shape.slots),
        .stride = shape.stride, .mark_stride = shape.mark_stride, .batch = shape.batch, .message_max = shape.message_max,
        .refresh = shape.slots / 2, .plan = lab_wait_plan(config->wait),
    };
    return 0;
}

int lab_ring_consume(struct lab_ring_consumer *consumer, void *memory, size_t size, const struct lab_ring_config *config)
{
    struct lab_ring_shape shape;
    int err = attach(memory, size, config, LAB_RING_CONSUMER, &shape);
    if (err)
        return err;
    *consumer = (struct lab_ring_consumer){
        .places = (unsigned char *)memory + shape.places_at, .marks = (unsigned char *)memory + shape.marks_at, .shared = memory,
        .mask = shape.slots - 1, .lap_shift = (uint32_t)__builtin_ctz(shape.slots),
        .stride = shape.stride, .mark_stride = shape.mark_stride, .message_max = shape.message_max,
        .lazy = shape.lazy, .ahead = shape.ahead, .plan = lab_wait_plan(config->wait),
    };
    return 0;
}

void lab_ring_hangup(void *memory, enum lab_ring_side dead)
{
    struct lab_ring_shared *shared = memory;
    atomic_store_explicit(&shared->gone[dead], 1, memory_order_release);
    lab_wait_wake(dead == LAB_RING_PRODUCER ? &shared->consumer_sleeps : &shared->producer_sleeps);
}

/* ---- the producer's slow ways ---- */

static bool look_for_room(void *subject)
{
    struct lab_ring_producer *p = subject;
    return atomic_load_explicit(&p->shared->released, memory_order_acquire) + p->mask + 1 != p->head;
}

int lab_ring_await_room(struct lab_ring_producer *p, uint32_t length, uint64_t deadline_ns)
{
    if (length > p->message_max)
        return lab_refuse(EMSGSIZE, "a message of %u bytes in a ring for %u", length, p->message_max);
    const _Atomic uint32_t *gone = &p->shared->gone[LAB_RING_CONSUMER];
    int err = atomic_load_explicit(gone, memory_order_relaxed)
                  ? -EPIPE
                  : lab_wait_until(&p->plan, look_for_room, p, &p->shared->producer_sleeps, gone, deadline_ns);
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the consumer of the ring is gone");
    if (err)
        return err;
    uint64_t released = atomic_load_explicit(&p->shared->released, memory_order_acquire);
    if (p->head - released > p->mask)
        return lab_refuse(EBADMSG, "the consumer says that it has released %llu messages of %llu", (unsigned long long)released,
                          (unsigned long long)p->head);
    p->room_to = released + p->mask + 1;
    return 0;
}

void lab_ring_clear_marks(struct lab_ring_producer *p, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        _Atomic uint64_t *mark = lab_ring_mark(p->marks, p->mark_stride, (p->head + i) & p->mask);
        if (atomic_load_explicit(mark, memory_order_relaxed))
            atomic_store_explicit(mark, 0, memory_order_relaxed);
    }
}

/* ---- the consumer's ---- */

static uint64_t mark_at(const struct lab_ring_consumer *c, uint64_t position)
{
    return atomic_load_explicit(lab_ring_mark(c->marks, c->mark_stride, position & c->mask), memory_order_acquire);
}

static bool marked(const struct lab_ring_consumer *c, uint64_t position)
{
    return mark_at(c, position) >> 48 == lab_ring_tag(position, c->lap_shift);
}

static bool look_for_message(void *subject)
{
    struct lab_ring_consumer *c = subject;
    return marked(c, c->tail);
}

/* A consumer that runs right behind the producer takes each line away while the next message is written beside it, and so
 * does its prefetcher: both sides then wait for every line. So, having caught up, it lets the producer get `ahead` before it
 * goes on, if the flow is so dense that this is a matter of a few microseconds. Where it is not, a vain attempt makes it try
 * half as often as before, down to once in SKIP_MAX waits: messages that come one by one are not delayed. */
static void keep_distance(struct lab_ring_consumer *c)
{
    if (!c->ahead || c->waits++ < c->skip)
        return;
    c->waits = 0;
    uint32_t step = c->ahead / STEPS ? c->ahead / STEPS : 1;
    for (uint32_t reach = step; reach <= c->ahead; reach += step)
        for (uint32_t looks = 0; !marked(c, c->tail + reach); looks++) {
            if (looks == LOOKS) {
                c->skip = c->skip >= SKIP_MAX ? SKIP_MAX : 2 * c->skip + 1;
                return;
            }
            lab_wait_pause();
        }
    c->skip = 0;
}

int lab_ring_await_message(struct lab_ring_consumer *c, uint64_t deadline_ns, uint64_t *ret_mark)
{
    if (c->tail - c->published > c->lazy / 2)
        lab_ring_publish(c);
    if (deadline_ns)
        keep_distance(c);
    int err = lab_wait_until(&c->plan, look_for_message, c, &c->shared->consumer_sleeps, &c->shared->gone[LAB_RING_PRODUCER], deadline_ns);
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the producer of the ring is gone");
    if (!err)
        *ret_mark = mark_at(c, c->tail);
    return err;
}

int lab_ring_bad_mark(const struct lab_ring_consumer *c, uint64_t mark)
{
    return lab_refuse(EBADMSG, "the producer says that there are %u messages of %u bytes in a ring of %u of at most %u",
                      (uint32_t)(mark >> 32 & 0xffff) + 1, (uint32_t)mark, c->mask + 1, c->message_max);
}

void lab_ring_know_more(struct lab_ring_consumer *c, uint32_t want)
{
    uint32_t contiguous = c->mask + 1 - (uint32_t)(c->tail & c->mask);
    want = lab_ring_least(want, contiguous);
    while (c->known < want) {
        uint64_t position = c->tail + c->known, mark = mark_at(c, position);
        uint32_t more = (uint32_t)(mark >> 32 & 0xffff) + 1;
        if (mark >> 48 != lab_ring_tag(position, c->lap_shift) || (uint32_t)mark != c->length || more > contiguous - c->known)
            return;
        c->known += more;
    }
}

void lab_ring_publish(struct lab_ring_consumer *c)
{
    c->published = c->tail;
    atomic_store_explicit(&c->shared->released, c->tail, memory_order_release);
    if (c->plan.sleeps)
        lab_wait_wake(&c->shared->producer_sleeps);
}
