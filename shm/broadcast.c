#include "shm/broadcast.h"

#include "base/error.h"

#include <assert.h>
#include <string.h>

enum {
    MESSAGE_MAX = 1 << 30,
    HEAD = sizeof(struct lab_broadcast_head),
    NEAR = 64,              /* bytes of one line, with the head */
    SPREAD_BYTES = 4 << 20, /* lossless, for throughput, takes at least so much memory; the reason is in ring.h */
    SLOTS_MIN = 2,
    AHEAD_SHARE = 4,        /* a reader that has caught up lets the writer get up to a quarter of a window ahead ... */
    AHEAD_STEP = 4,        /* ... looking at every so many-th message ... */
    REST = 32,              /* ... after so many pauses, 0.2 to 0.7 us */
    SKIP_MAX = 255,
    TRIES = 4,              /* times that a reader is overtaken before it looks at its deadline */
};

static size_t round_up(size_t value, size_t to)
{
    return (value + to - 1) / to * to;
}

static uint32_t at_least(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t power_of_two(uint32_t least)
{
    uint32_t power = 1;
    while (power < least)
        power *= 2;
    return power;
}

static bool for_latency(const struct lab_broadcast_config *config)
{
    return config->window <= LAB_BROADCAST_LATENCY_WINDOW && config->batch == 1;
}

/* How far apart messages are; the room of each is a whole number of words. */
static uint32_t stride_of(const struct lab_broadcast_config *config)
{
    size_t length = round_up(config->message_max, sizeof(uint64_t)), before = HEAD + length <= NEAR ? HEAD : NEAR;
    return (uint32_t)(for_latency(config) ? round_up(before + length, LAB_BROADCAST_LINE) : length < NEAR ? length : round_up(length, NEAR));
}

/* Where heads and messages are. */
static void choose_layout(const struct lab_broadcast_config *config, struct lab_broadcast_shape *shape)
{
    size_t begin = sizeof(struct lab_broadcast_shared) + config->readers * sizeof(struct lab_broadcast_seat);
    if (for_latency(config)) {
        size_t length = round_up(config->message_max, sizeof(uint64_t));
        shape->head_stride = shape->stride;
        shape->places_at = begin + (HEAD + length <= NEAR ? HEAD : NEAR);
        shape->heads_at = shape->places_at - HEAD;
        shape->size = begin + (size_t)shape->slots * shape->stride;
    } else {
        shape->head_stride = HEAD;
        shape->heads_at = begin;
        shape->places_at = round_up(begin + (size_t)shape->slots * HEAD, LAB_BROADCAST_LINE);
        shape->size = round_up(shape->places_at + (size_t)shape->slots * shape->stride, LAB_BROADCAST_LINE);
    }
}

int lab_broadcast_shape(const struct lab_broadcast_config *config, struct lab_broadcast_shape *ret_shape)
{
    if (config->message_max == 0 || config->message_max > MESSAGE_MAX)
        return lab_refuse(EMSGSIZE, "a broadcast carries messages of 1 to %d bytes, not %u", MESSAGE_MAX, config->message_max);
    if (config->window == 0 || config->window > LAB_BROADCAST_WINDOW_MAX || config->batch == 0)
        return lab_refuse(EINVAL, "a broadcast holds 1 to %d messages, not %u (in batches of %u)", LAB_BROADCAST_WINDOW_MAX, config->window,
                          config->batch);
    if (config->readers == 0 || config->readers > LAB_BROADCAST_READERS_MAX)
        return lab_refuse(EINVAL, "a broadcast has 1 to %d readers, not %u", LAB_BROADCAST_READERS_MAX, config->readers);
    struct lab_broadcast_shape shape = {.message_max = config->message_max, .readers = config->readers, .stride = stride_of(config)};
    /* One place more where the next message is written while the window is read. */
    uint32_t least = at_least(config->window + config->overwrite, lab_broadcast_least(config->batch, LAB_BROADCAST_WINDOW_MAX));
    shape.slots = power_of_two(at_least(least, SLOTS_MIN));
    bool spread = !for_latency(config) && !config->overwrite;
    while (spread && shape.slots < LAB_BROADCAST_WINDOW_MAX && (size_t)shape.slots * shape.stride < SPREAD_BYTES)
        shape.slots *= 2;
    shape.batch = lab_broadcast_least(config->batch, shape.slots);
    shape.ahead = spread ? config->window / AHEAD_SHARE : 0;
    uint32_t spare = shape.slots - config->window + 1, quarter = shape.slots / 4;
    shape.lazy = quarter == 0 ? 1 : lab_broadcast_least(spare, quarter);
    choose_layout(config, &shape);
    *ret_shape = shape;
    return 0;
}

void lab_broadcast_init(void *memory, const struct lab_broadcast_config *config, const struct lab_broadcast_shape *shape)
{
    struct lab_broadcast_shared *shared = memory;
    memset(shared, 0, sizeof *shared + shape->readers * sizeof(struct lab_broadcast_seat));
    shared->size = shape->size;
    shared->message_max = shape->message_max;
    shared->slots = shape->slots;
    shared->batch = shape->batch;
    shared->readers = shape->readers;
    shared->overwrite = config->overwrite;
    shared->wait = config->wait;
}

static int attach(void *memory, size_t size, const struct lab_broadcast_config *config, struct lab_broadcast_shape *ret_shape,
                  struct lab_broadcast_view *ret_view)
{
    struct lab_broadcast_shape shape;
    int err = lab_broadcast_shape(config, &shape);
    if (err)
        return err;
    struct lab_broadcast_shared *shared = memory;
    if (size < shape.size || shared->size != shape.size || shared->message_max != shape.message_max || shared->slots != shape.slots ||
        shared->batch != shape.batch || shared->readers != shape.readers || shared->overwrite != config->overwrite ||
        shared->wait != config->wait)
        return lab_refuse(EBADMSG, "the shared memory (%zu bytes) does not hold a broadcast of %u messages of %u bytes to %u", size, shape.slots,
                          shape.message_max, shape.readers);
    struct lab_wait_plan plan = lab_wait_plan(config->wait);
    if (config->spin_ns)
        plan.spin_ns = config->spin_ns;
    *ret_view = (struct lab_broadcast_view){
        .places = (unsigned char *)memory + shape.places_at, .heads = (unsigned char *)memory + shape.heads_at, .shared = shared,
        .mask = shape.slots - 1, .stride = shape.stride, .head_stride = shape.head_stride,
        .message_max = shape.message_max, .readers = shape.readers, .overwrite = config->overwrite, .plan = plan,
    };
    *ret_shape = shape;
    return 0;
}

int lab_broadcast_write(struct lab_broadcast_writer *writer, void *memory, size_t size, const struct lab_broadcast_config *config)
{
    struct lab_broadcast_shape shape;
    struct lab_broadcast_view view;
    int err = attach(memory, size, config, &shape, &view);
    if (err)
        return err;
    if (atomic_exchange(&view.shared->taken, 1))
        return lab_refuse(EBUSY, "the broadcast has its writer");
    *writer = (struct lab_broadcast_writer){.view = view, .room_to = config->overwrite ? 0 : shape.slots, .batch = shape.batch};
    return 0;
}

int lab_broadcast_read(struct lab_broadcast_reader *reader, void *memory, size_t size, const struct lab_broadcast_config *config, uint32_t seat)
{
    struct lab_broadcast_shape shape;
    struct lab_broadcast_view view;
    int err = attach(memory, size, config, &shape, &view);
    if (err)
        return err;
    if (seat >= shape.readers)
        return lab_refuse(EINVAL, "there is no seat %u in a broadcast to %u", seat, shape.readers);
    if (atomic_exchange(&view.shared->seats[seat].taken, 1))
        return lab_refuse(EBUSY, "seat %u of the broadcast is taken", seat);
    *reader = (struct lab_broadcast_reader){.view = view, .seat = &view.shared->seats[seat], .lazy = shape.lazy, .index = seat, .ahead = shape.ahead};
    return 0;
}

/* ---- waking, and who is gone ---- */

void lab_broadcast_wake(const struct lab_broadcast_view *view)
{
    struct lab_broadcast_shared *shared = view->shared;
    atomic_thread_fence(memory_order_seq_cst); /* the message is there, then who waits is looked up: as in shm/wait.h */
    for (uint32_t first = 0; first < view->readers; first += 64) {
        uint64_t waiting = atomic_load_explicit(&shared->waiting[first / 64], memory_order_relaxed);
        for (uint32_t seat = first; waiting && seat < view->readers; seat++, waiting >>= 1)
            if (waiting & 1)
                lab_wait_wake_by(&view->plan, &shared->seats[seat].sleeps);
    }
}

static void set_waiting(struct lab_broadcast_shared *shared, uint32_t seat, bool waits)
{
    uint64_t bit = UINT64_C(1) << seat % 64;
    if (waits)
        atomic_fetch_or(&shared->waiting[seat / 64], bit);
    else
        atomic_fetch_and(&shared->waiting[seat / 64], ~bit);
}

static bool reader_is_gone(const struct lab_broadcast_shared *shared, uint32_t seat)
{
    return atomic_load_explicit(&shared->seats[seat].gone, memory_order_acquire);
}

void lab_broadcast_hangup(void *memory, const struct lab_broadcast_config *config, enum lab_broadcast_side dead, uint32_t seat)
{
    struct lab_broadcast_shared *shared = memory;
    if (dead == LAB_BROADCAST_WRITER) {
        atomic_store_explicit(&shared->gone, 1, memory_order_release);
        lab_broadcast_wake(&(struct lab_broadcast_view){.shared = shared, .readers = config->readers, .plan = lab_wait_plan(config->wait)});
        return;
    }
    assert(seat < config->readers);
    atomic_store(&shared->seats[seat].gone, 1);
    set_waiting(shared, seat, false);
    uint32_t gone = 0;
    while (gone < config->readers && atomic_load(&shared->seats[gone].gone))
        gone++;
    if (gone == config->readers)
        atomic_store_explicit(&shared->deserted, 1, memory_order_release);
    lab_wait_wake(&shared->writer_sleeps);
}

/* ---- the writer that waits ---- */

static int refuse_length(const struct lab_broadcast_view *view, uint32_t length)
{
    return lab_refuse(EMSGSIZE, "a message of %u bytes in a broadcast of up to %u", length, view->message_max);
}

static int deserted(void)
{
    return lab_refuse(EPIPE, "every reader of the broadcast is gone");
}

/* Learns how much room the slowest living reader leaves. */
static int look_for_room(struct lab_broadcast_writer *w)
{
    const struct lab_broadcast_view *view = &w->view;
    uint64_t slots = view->mask + UINT64_C(1), furthest = 0;
    for (uint32_t seat = 0; seat < view->readers; seat++) {
        if (reader_is_gone(view->shared, seat))
            continue;
        uint64_t released = atomic_load_explicit(&view->shared->seats[seat].released, memory_order_acquire);
        if (w->head - released > slots)
            return lab_refuse(EBADMSG, "reader %u says that it has released %llu messages of %llu", seat, (unsigned long long)released,
                              (unsigned long long)w->head);
        if (w->head - released >= furthest) {
            furthest = w->head - released;
            w->slowest = seat;
        }
    }
    w->room_to = w->head + (slots - furthest);
    return 0;
}

/* The reader that was the slowest has moved, or is gone. */
static bool it_has_moved(void *subject)
{
    const struct lab_broadcast_writer *w = subject;
    const struct lab_broadcast_view *view = &w->view;
    return w->head - atomic_load_explicit(&view->shared->seats[w->slowest].released, memory_order_acquire) != view->mask + UINT64_C(1) ||
           reader_is_gone(view->shared, w->slowest);
}

int lab_broadcast_reserve_late(struct lab_broadcast_writer *w, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    const struct lab_broadcast_view *view = &w->view;
    assert(!view->overwrite);
    if (length > view->message_max)
        return refuse_length(view, length);
    if (atomic_load_explicit(&view->shared->deserted, memory_order_relaxed))
        return deserted();
    while (w->room_to == w->head) {
        int err = look_for_room(w);
        if (!err && w->room_to == w->head)
            err = lab_wait_until(&view->plan, it_has_moved, w, &view->shared->writer_sleeps, &view->shared->deserted, deadline_ns);
        if (err == -EPIPE)
            return deserted();
        if (err)
            return err;
    }
    lab_broadcast_lend(w, length, want, ret_span);
    return 0;
}

/* ---- the reader that waits ---- */

static uint64_t stamp_at(const struct lab_broadcast_reader *r, uint64_t position)
{
    return atomic_load_explicit(&lab_broadcast_head(&r->view, position)->stamp, memory_order_acquire);
}

/* The message at its position, or a later one in its place. */
static bool message(void *subject)
{
    const struct lab_broadcast_reader *r = subject;
    return stamp_at(r, r->tail) >= lab_broadcast_stamp_of(r->tail);
}

static int wait_for_message(struct lab_broadcast_reader *r, uint64_t deadline_ns)
{
    struct lab_broadcast_shared *shared = r->view.shared;
    const struct lab_wait_plan *plan = &r->view.plan;
    if (plan->sleeps)
        set_waiting(shared, r->index, true);
    int err = lab_wait_until(plan, message, r, &r->seat->sleeps, &shared->gone, deadline_ns);
    if (plan->sleeps)
        set_waiting(shared, r->index, false);
    return err == -EPIPE ? lab_refuse(EPIPE, "the writer of the broadcast is gone") : err;
}

/* As in shm/ring.c: a reader right behind the writer takes every line away from it as soon as it is written, and both wait for each
 * other's lines for ever. Having caught up, it looks the other way until the writer is `ahead` or does not get on any more; after a vain
 * attempt it tries half as often. */
static void let_get_ahead(struct lab_broadcast_reader *r)
{
    if (!r->ahead || r->caught_up++ < r->skip)
        return;
    r->caught_up = 0;
    uint32_t before, there = 0;
    do {
        for (int i = 0; i < REST; i++)
            lab_wait_pause();
        before = there;
        while (there < r->ahead && stamp_at(r, r->tail + there + AHEAD_STEP) == lab_broadcast_stamp_of(r->tail + there + AHEAD_STEP))
            there += AHEAD_STEP;
    } while (there != before && there < r->ahead);
    r->skip = there ? 0 : r->skip >= SKIP_MAX ? SKIP_MAX : 2 * r->skip + 1;
}

static int refuse_message(const struct lab_broadcast_reader *r, uint64_t stamp, uint64_t length)
{
    return lab_refuse(EBADMSG, "the place of message %llu says %llu, and %llu bytes, in a broadcast of %u messages of up to %u",
                      (unsigned long long)r->tail, (unsigned long long)stamp, (unsigned long long)length, r->view.mask + 1, r->view.message_max);
}

int lab_broadcast_borrow_late(struct lab_broadcast_reader *r, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    assert(!r->view.overwrite);
    if (r->tail - r->published > r->lazy / 2)
        lab_broadcast_publish(r);
    int err = wait_for_message(r, deadline_ns);
    if (err)
        return err;
    let_get_ahead(r);
    uint64_t stamp = stamp_at(r, r->tail);
    uint64_t length = atomic_load_explicit(&lab_broadcast_head(&r->view, r->tail)->length, memory_order_relaxed);
    if (stamp != lab_broadcast_stamp_of(r->tail) || length > r->view.message_max)
        return refuse_message(r, stamp, length);
    r->length = (uint32_t)length;
    r->known = 1;
    return lab_broadcast_borrow_more(r, want, ret_span);
}

int lab_broadcast_borrow_more(struct lab_broadcast_reader *r, uint32_t want, struct lab_span *ret_span)
{
    const struct lab_broadcast_view *view = &r->view;
    uint32_t most = lab_broadcast_least(want, view->mask + 1 - ((uint32_t)r->tail & view->mask));
    for (; r->known < most; r->known++) {
        uint64_t position = r->tail + r->known;
        if (stamp_at(r, position) != lab_broadcast_stamp_of(position) ||
            atomic_load_explicit(&lab_broadcast_head(view, position)->length, memory_order_relaxed) != r->length)
            break;
    }
    lab_broadcast_show(r, want, ret_span);
    return 0;
}

void lab_broadcast_publish(struct lab_broadcast_reader *r)
{
    r->published = r->tail;
    atomic_store_explicit(&r->seat->released, r->tail, memory_order_release);
    lab_wait_wake_by(&r->view.plan, &r->view.shared->writer_sleeps);
}

/* ---- overwriting ---- */

/* Copies into a place, and out of one, word by word; the room of a place is a whole number of words. */
static void copy_in(void *place, const unsigned char *message, uint32_t length)
{
    _Atomic uint64_t *words = place;
    uint64_t word;
    uint32_t whole = length / sizeof word, rest = length % sizeof word;
    for (uint32_t i = 0; i < whole; i++) {
        memcpy(&word, message + i * sizeof word, sizeof word);
        atomic_store_explicit(&words[i], word, memory_order_relaxed);
    }
    if (rest) {
        word = 0;
        memcpy(&word, message + whole * sizeof word, rest);
        atomic_store_explicit(&words[whole], word, memory_order_relaxed);
    }
}

static void copy_out(const void *place, unsigned char *to, uint32_t length)
{
    const _Atomic uint64_t *words = place;
    uint64_t word;
    uint32_t whole = length / sizeof word, rest = length % sizeof word;
    for (uint32_t i = 0; i < whole; i++) {
        word = atomic_load_explicit(&words[i], memory_order_relaxed);
        memcpy(to + i * sizeof word, &word, sizeof word);
    }
    if (rest) {
        word = atomic_load_explicit(&words[whole], memory_order_relaxed);
        memcpy(to + whole * sizeof word, &word, rest);
    }
}

int lab_broadcast_send(struct lab_broadcast_writer *w, const void *message_, uint32_t length)
{
    const struct lab_broadcast_view *view = &w->view;
    assert(view->overwrite);
    if (length > view->message_max)
        return refuse_length(view, length);
    if (atomic_load_explicit(&view->shared->deserted, memory_order_relaxed))
        return deserted();
    struct lab_broadcast_head *head = lab_broadcast_head(view, w->head);
    atomic_store_explicit(&head->stamp, lab_broadcast_stamp_of(w->head) - 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&head->length, length, memory_order_relaxed);
    copy_in(lab_broadcast_place(view, w->head), message_, length);
    atomic_store_explicit(&head->stamp, lab_broadcast_stamp_of(w->head), memory_order_release);
    w->head++;
    if (view->plan.sleeps)
        lab_broadcast_wake(view);
    return 0;
}

/* What became of one attempt. */
enum attempt { RECEIVED, NOT_THERE, OVERTAKEN, TOO_LONG, IMPOSSIBLE };

static void lose(struct lab_broadcast_reader *r, uint64_t count)
{
    r->tail += count;
    r->lost += count;
}

/* A place that belongs to a later message: goes on a quarter of the places behind the oldest one that is left. */
static enum attempt catch_up(struct lab_broadcast_reader *r, uint64_t stamp)
{
    uint64_t slots = r->view.mask + UINT64_C(1), ahead = (stamp - 1) / 2 - r->tail;
    if (ahead % slots)
        return IMPOSSIBLE;
    lose(r, ahead - slots + 1 + slots / 4);
    return OVERTAKEN;
}

static enum attempt attempt(struct lab_broadcast_reader *r, void *to, size_t room, uint32_t *ret_length)
{
    const struct lab_broadcast_head *head = lab_broadcast_head(&r->view, r->tail);
    uint64_t stamp = atomic_load_explicit(&head->stamp, memory_order_acquire), mine = lab_broadcast_stamp_of(r->tail);
    if (stamp < mine)
        return NOT_THERE;
    if (stamp > mine)
        return catch_up(r, stamp);
    uint64_t length = atomic_load_explicit(&head->length, memory_order_relaxed);
    bool possible = length <= r->view.message_max, fits = length <= room;
    if (possible && fits)
        copy_out(lab_broadcast_place(&r->view, r->tail), to, (uint32_t)length);
    atomic_thread_fence(memory_order_acquire);
    stamp = atomic_load_explicit(&head->stamp, memory_order_relaxed);
    if (stamp != mine)
        return stamp < mine ? IMPOSSIBLE : catch_up(r, stamp);
    if (!possible)
        return IMPOSSIBLE;
    *ret_length = (uint32_t)length;
    if (!fits) {
        lose(r, 1);
        return TOO_LONG;
    }
    r->tail++;
    return RECEIVED;
}

int lab_broadcast_receive(struct lab_broadcast_reader *r, void *to, size_t room, uint64_t deadline_ns, uint32_t *ret_length)
{
    assert(r->view.overwrite);
    uint32_t length = 0;
    for (uint32_t tries = 1;; tries++) {
        switch (attempt(r, to, room, &length)) {
        case RECEIVED: *ret_length = length; return 0;
        case TOO_LONG: return lab_refuse(EMSGSIZE, "a message of %u bytes for a buffer of %zu", length, room);
        case IMPOSSIBLE: return refuse_message(r, stamp_at(r, r->tail), length);
        case OVERTAKEN:
            if (tries % TRIES == 0 && lab_now_ns() >= deadline_ns)
                return -EAGAIN;
            break;
        case NOT_THERE: {
            int err = wait_for_message(r, deadline_ns);
            if (err)
                return err;
        }
        }
    }
}
