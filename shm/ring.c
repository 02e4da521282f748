#include "shm/ring.h"

#include "base/error.h"

#include <string.h>

enum {
    MESSAGE_MAX = 1 << 30,
    MARK = sizeof(uint64_t),
    NEAR = 64,               /* bytes of one line, with the mark */
    SPREAD_BYTES = 4 << 20,  /* a counted ring takes at least so much memory; the reason is in ring.h */
    LARGE_BYTES = 64 << 10,  /* and so does a marked one of messages as large as this */
    SLOTS_MIN = 2,
    AHEAD_SHARE = 4,         /* a consumer that has caught up lets the producer get up to a quarter of a window ahead ... */
    REST = 16,               /* ... as long as it finds more after so many pauses, 0.2 to 0.7 us */
    SKIP_MAX = 255,
    FETCH_MAX = 2048,        /* bytes of the next place that a producer fetches */
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
    size_t length = config->message_max;
    shape->marked = config->window <= LAB_RING_MARKED_WINDOW && config->batch == 1;
    if (shape->marked) {
        size_t before = length + MARK <= NEAR ? MARK : NEAR;
        shape->stride = (uint32_t)round_up(before + length, LAB_RING_LINE);
        shape->places_at = sizeof(struct lab_ring_shared) + before;
    } else {
        shape->stride = (uint32_t)round_up(length, length < NEAR ? MARK : NEAR);
        shape->lengths_at = sizeof(struct lab_ring_shared);
    }
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
    uint32_t least = at_least(config->window, config->batch < LAB_RING_WINDOW_MAX ? config->batch : LAB_RING_WINDOW_MAX);
    shape.slots = power_of_two(at_least(least, SLOTS_MIN));
    bool spreads = !shape.marked || config->message_max >= LARGE_BYTES;
    size_t spread = SPREAD_BYTES / (config->siblings + (size_t)1);
    while (spreads && (size_t)shape.slots * shape.stride < spread)
        shape.slots *= 2;
    shape.batch = config->batch < shape.slots ? config->batch : shape.slots;
    uint32_t spare = shape.slots - config->window + 1, quarter = shape.slots / 4;
    shape.lazy = quarter == 0 ? 1 : spare < quarter ? spare : quarter;
    if (!shape.marked)
        shape.places_at = round_up(shape.lengths_at + (size_t)shape.slots * sizeof(uint32_t), LAB_RING_LINE);
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

/* What the config says of waiting, and the defaults for the rest. */
static struct lab_wait_plan plan_of(const struct lab_ring_config *config)
{
    struct lab_wait_plan plan = lab_wait_plan(config->wait);
    plan.bells = config->bells;
    if (config->spin_ns)
        plan.spin_ns = config->spin_ns;
    return plan;
}

struct lab_ring_view lab_ring_view(void *memory, const struct lab_ring_config *config, const struct lab_ring_shape *shape)
{
    unsigned char *bytes = memory;
    return (struct lab_ring_view){
        .places = bytes + shape->places_at, .lengths = shape->marked ? NULL : (_Atomic uint32_t *)(void *)(bytes + shape->lengths_at),
        .shared = memory, .mask = shape->slots - 1, .stride = shape->stride, .message_max = shape->message_max,
        .plan = plan_of(config),
    };
}

static int attach(void *memory, size_t size, const struct lab_ring_config *config, enum lab_ring_side side,
                  struct lab_ring_shape *ret_shape, struct lab_ring_view *ret_view)
{
    struct lab_ring_shape shape;
    int err = lab_ring_shape(config, &shape);
    if (err)
        return err;
    struct lab_ring_shared *shared = memory;
    if (size < shape.size || shared->size != shape.size || shared->message_max != shape.message_max || shared->slots != shape.slots ||
        shared->batch != shape.batch || shared->wait != config->wait)
        return lab_refuse(EBADMSG, "the shared memory (%zu bytes) does not hold a ring of %u messages of %u bytes", size, shape.slots,
                          shape.message_max);
    if (config->wait == LAB_WAIT_POLL && (config->bells.own < 0 || config->bells.peer < 0))
        return lab_refuse(EINVAL, "a ring whose sides sleep on bells, and bells %d and %d", config->bells.own, config->bells.peer);
    if (atomic_exchange(&shared->taken[side], 1))
        return lab_refuse(EBUSY, "the %s side of the ring is taken", side == LAB_RING_PRODUCER ? "producing" : "consuming");
    *ret_view = lab_ring_view(memory, config, &shape);
    *ret_shape = shape;
    return 0;
}

struct lab_ring_patience lab_ring_patience(const struct lab_ring_config *config, const struct lab_ring_shape *shape)
{
    return (struct lab_ring_patience){.ahead = shape->marked ? 0 : config->window / AHEAD_SHARE};
}

int lab_ring_produce(struct lab_ring_producer *producer, void *memory, size_t size, const struct lab_ring_config *config)
{
    struct lab_ring_shape shape;
    struct lab_ring_view view;
    int err = attach(memory, size, config, LAB_RING_PRODUCER, &shape, &view);
    if (!err)
        *producer = (struct lab_ring_producer){.view = view, .room_to = shape.slots, .batch = shape.batch, .refresh = shape.slots / 2,
                                               .fetch = shape.marked && shape.stride > LAB_RING_LINE ? lab_ring_least(shape.message_max, FETCH_MAX) : 0};
    return err;
}

int lab_ring_consume(struct lab_ring_consumer *consumer, void *memory, size_t size, const struct lab_ring_config *config)
{
    struct lab_ring_shape shape;
    struct lab_ring_view view;
    int err = attach(memory, size, config, LAB_RING_CONSUMER, &shape, &view);
    if (!err)
        *consumer = (struct lab_ring_consumer){.view = view, .lazy = shape.lazy, .patience = lab_ring_patience(config, &shape)};
    return err;
}

void lab_ring_hangup(void *memory, enum lab_ring_side dead)
{
    struct lab_ring_shared *shared = memory;
    atomic_store_explicit(&shared->gone[dead], 1, memory_order_release);
    lab_wait_wake(dead == LAB_RING_PRODUCER ? &shared->consumer_sleeps : &shared->producer_sleeps);
}

/* ---- the ways that are not taken for every message ---- */

/* Before the count that makes them readable is published, and `even` is taken back before a length that it is not. */
void lab_ring_write_lengths(struct lab_ring_producer *p, uint32_t count)
{
    const struct lab_ring_view *view = &p->view;
    uint32_t before = p->even;
    if (p->lent != p->run)
        p->even = p->alike = 0;
    p->run = p->lent;
    for (uint32_t i = 0; i < count; i++) {
        _Atomic uint32_t *length = &view->lengths[(p->head + i) & view->mask];
        if (atomic_load_explicit(length, memory_order_relaxed) != p->lent)
            atomic_store_explicit(length, p->lent, memory_order_relaxed);
    }
    p->alike = lab_ring_least(p->alike + count, view->mask + 1);
    if (p->alike > view->mask)
        p->even = p->lent;
    if (p->even != before)
        atomic_store_explicit(&view->shared->even, p->even, memory_order_relaxed);
}

static void fetch_to_write(const unsigned char *line)
{
#ifdef __x86_64__
    __asm__ volatile("prefetchw %0" : : "m"(*line)); /* the compiler takes it for this processor's only when told so */
#else
    __builtin_prefetch(line, 1);
#endif
}

/* The lines of the next place, but for that of the mark: the consumer looks there. They are with the consumer, who read them last. */
void lab_ring_fetch_place(const struct lab_ring_producer *p)
{
    const unsigned char *place = lab_ring_place(&p->view, p->head);
    for (uint32_t at = 0; at < p->fetch; at += NEAR)
        fetch_to_write(place + at);
}

static bool room(void *subject)
{
    const struct lab_ring_producer *p = subject;
    return atomic_load_explicit(&p->view.shared->released, memory_order_acquire) + p->view.mask + 1 != p->head;
}

int lab_ring_reserve_late(struct lab_ring_producer *p, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    const struct lab_ring_view *view = &p->view;
    if (length > view->message_max)
        return lab_refuse(EMSGSIZE, "a message of %u bytes in a ring for %u", length, view->message_max);
    const _Atomic uint32_t *gone = &view->shared->gone[LAB_RING_CONSUMER];
    int err = atomic_load_explicit(gone, memory_order_relaxed)
                  ? -EPIPE
                  : lab_wait_until(&view->plan, room, p, &view->shared->producer_sleeps, gone, deadline_ns);
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the consumer of the ring is gone");
    if (err)
        return err;
    uint64_t released = atomic_load_explicit(&view->shared->released, memory_order_acquire);
    if (p->head - released > view->mask)
        return lab_refuse(EBADMSG, "the consumer says that it has released %llu messages of %llu", (unsigned long long)released,
                          (unsigned long long)p->head);
    p->room_to = released + view->mask + 1;
    lab_ring_lend(p, length, want, ret_span);
    return 0;
}

static bool message(void *subject)
{
    uint32_t ignored;
    return lab_ring_look_for_message(subject, &ignored);
}

/* A consumer that is right behind the producer takes the count, and the line of the next message, away from it again and again:
 * both then wait for every line, and go on doing so, for neither can get away from the other. So, having caught up, it looks the
 * other way for a while, until the producer is `ahead` or does not get on any more. Where the flow is not that dense a vain
 * attempt makes it try half as often as before, down to once in SKIP_MAX times: messages that come one by one are not delayed. */
uint64_t lab_ring_let_get_ahead(struct lab_ring_patience *patience, const struct lab_ring_shared *shared, uint64_t tail, uint64_t there)
{
    uint64_t known = there, before;
    if (!patience->ahead || patience->caught_up++ < patience->skip)
        return there;
    patience->caught_up = 0;
    do {
        for (int i = 0; i < REST; i++)
            lab_wait_pause();
        before = there;
        there = atomic_load_explicit(&shared->committed, memory_order_acquire);
    } while (there - before - 1 < patience->ahead && there - tail < patience->ahead); /* a count that goes back does not keep it here */
    patience->skip = there - known ? 0 : patience->skip >= SKIP_MAX ? SKIP_MAX : 2 * patience->skip + 1;
    return there;
}

int lab_ring_borrow_late(struct lab_ring_consumer *c, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    const struct lab_ring_view *view = &c->view;
    if (c->tail - c->published > c->lazy / 2)
        lab_ring_publish(c);
    int err = lab_wait_until(&view->plan, message, c, &view->shared->consumer_sleeps, &view->shared->gone[LAB_RING_PRODUCER], deadline_ns);
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the producer of the ring is gone");
    if (err)
        return err;
    if (lab_ring_let_get_ahead(&c->patience, view->shared, c->tail, c->there) != c->there)
        lab_ring_look_at_count(c);
    /* It was there; a producer that has taken it back is no producer. */
    uint32_t length = 0;
    if (!lab_ring_look_for_message(c, &length) || !lab_ring_can_be(c, length))
        return lab_refuse(EBADMSG, "the producer says that there are %llu messages, the first of %u bytes, in a ring of %u of at most %u",
                          (unsigned long long)(c->there - c->tail), length, view->mask + 1, view->message_max);
    c->length = length;
    c->known = lab_ring_alike(c);
    return lab_ring_borrow_more(c, want, ret_span);
}

int lab_ring_borrow_more(struct lab_ring_consumer *c, uint32_t want, struct lab_span *ret_span)
{
    const struct lab_ring_view *view = &c->view;
    uint64_t before = c->there;
    if (view->lengths && before - c->tail < want)
        lab_ring_look_at_count(c);
    if (c->there - c->tail > view->mask + UINT64_C(1))
        c->there = before;
    c->known = at_least(c->known, lab_ring_alike(c));
    uint32_t most = lab_ring_least(want, lab_ring_in_one_piece(view, c->tail));
    if (c->there - c->tail < most)
        most = (uint32_t)(c->there - c->tail);
    while (c->known < most && atomic_load_explicit(&view->lengths[(c->tail + c->known) & view->mask], memory_order_relaxed) == c->length)
        c->known++;
    lab_ring_show(c, want, ret_span);
    return 0;
}

void lab_ring_publish(struct lab_ring_consumer *c)
{
    c->published = c->tail;
    atomic_store_explicit(&c->view.shared->released, c->tail, memory_order_release);
    lab_wait_wake_by(&c->view.plan, &c->view.shared->producer_sleeps);
}

/* ---- event loops ---- */

int lab_ring_producer_fd(const struct lab_ring_producer *p)
{
    return p->view.plan.bells.own;
}

bool lab_ring_producer_arm(struct lab_ring_producer *p)
{
    return lab_wait_arm(&p->view.shared->producer_sleeps, room, p, &p->view.shared->gone[LAB_RING_CONSUMER]);
}

void lab_ring_producer_disarm(struct lab_ring_producer *p)
{
    lab_wait_disarm(&p->view.plan, &p->view.shared->producer_sleeps);
}

int lab_ring_consumer_fd(const struct lab_ring_consumer *c)
{
    return c->view.plan.bells.own;
}

bool lab_ring_consumer_arm(struct lab_ring_consumer *c)
{
    if (c->tail != c->published)
        lab_ring_publish(c);
    return lab_wait_arm(&c->view.shared->consumer_sleeps, message, c, &c->view.shared->gone[LAB_RING_PRODUCER]);
}

void lab_ring_consumer_disarm(struct lab_ring_consumer *c)
{
    lab_wait_disarm(&c->view.plan, &c->view.shared->consumer_sleeps);
}
