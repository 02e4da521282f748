#include "shm/queue.h"

#include "base/error.h"

#include <string.h>

enum { PATIENT = 64 };    /* bytes from one message to the next from which on it pays to let the producer get ahead */
enum { LOST_RACES = 64 }; /* so many claims that came too late are tried anew before the clock is read */

static size_t round_up(size_t value)
{
    return (value + LAB_RING_LINE - 1) / LAB_RING_LINE * LAB_RING_LINE;
}

int lab_queue_shape(const struct lab_queue_config *config, struct lab_queue_shape *ret_shape)
{
    if (config->producers == 0 || config->producers > LAB_QUEUE_SEATS || config->consumers == 0 || config->consumers > LAB_QUEUE_SEATS)
        return lab_refuse(EINVAL, "a queue has 1 to %d producers and as many consumers, not %u and %u", LAB_QUEUE_SEATS, config->producers,
                          config->consumers);
    struct lab_queue_shape shape = {.lane = {
        .message_max = config->message_max, .window = config->window, .batch = lab_ring_least(config->batch, LAB_QUEUE_RUN_MAX),
        .wait = config->wait, .spin_ns = config->spin_ns, .siblings = config->producers - 1,
    }};
    int err = lab_ring_shape(&shape.lane, &shape.ring);
    if (err)
        return lab_while(err, "making the lanes of a queue");
    shape.room = config->window > shape.ring.slots / 2 ? shape.ring.slots : shape.ring.slots / 2;
    shape.sleepers_at = round_up(sizeof(struct lab_queue_shared) + config->consumers * sizeof(struct lab_queue_seat));
    shape.lanes_at = round_up(shape.sleepers_at + config->consumers * sizeof(struct lab_sleeper));
    shape.words_at = shape.ring.size;
    shape.lane_size = round_up(shape.words_at + sizeof(struct lab_queue_lane) + shape.ring.slots * sizeof(uint64_t));
    if (shape.lane_size > (SIZE_MAX - shape.lanes_at) / config->producers)
        return lab_refuse(ENOMEM, "a queue of %u producers with %u messages of %u bytes each is larger than the address space",
                          config->producers, config->window, config->message_max);
    shape.size = shape.lanes_at + config->producers * shape.lane_size;
    *ret_shape = shape;
    return 0;
}

static unsigned char *lane_of(void *memory, const struct lab_queue_shape *shape, uint32_t lane)
{
    return (unsigned char *)memory + shape->lanes_at + lane * shape->lane_size;
}

static struct lab_queue_seat *seats_of(void *memory)
{
    return (void *)((struct lab_queue_shared *)memory + 1);
}

static struct lab_sleeper *sleepers_of(void *memory, const struct lab_queue_shape *shape)
{
    return (void *)((unsigned char *)memory + shape->sleepers_at);
}

static struct lab_queue_view view_of(void *memory, const struct lab_queue_shape *shape, uint32_t lane)
{
    unsigned char *ring = lane_of(memory, shape, lane);
    struct lab_queue_lane *words = (void *)(ring + shape->words_at);
    return (struct lab_queue_view){
        .ring = lab_ring_view(ring, &shape->lane, &shape->ring),
        .lane = words,
        .claims = (void *)(words + 1),
        .slots_log2 = (uint32_t)__builtin_ctz(shape->ring.slots),
    };
}

void lab_queue_init(void *memory, const struct lab_queue_config *config, const struct lab_queue_shape *shape)
{
    memset(memory, 0, shape->lanes_at);
    struct lab_queue_shared *shared = memory;
    shared->size = shape->size;
    shared->message_max = config->message_max;
    shared->window = config->window;
    shared->producers = config->producers;
    shared->consumers = config->consumers;
    shared->batch = config->batch;
    shared->wait = config->wait;
    for (uint32_t lane = 0; lane < config->producers; lane++)
        lab_ring_init(lane_of(memory, shape, lane), &shape->lane, &shape->ring);
}

static int attach(void *memory, size_t size, const struct lab_queue_config *config, uint32_t seat, uint32_t seats,
                  struct lab_queue_shape *ret_shape)
{
    struct lab_queue_shape shape = {0};
    int err = lab_queue_shape(config, &shape);
    if (err)
        return err;
    const struct lab_queue_shared *shared = memory;
    if (size < shape.size || shared->size != shape.size || shared->message_max != config->message_max || shared->window != config->window ||
        shared->producers != config->producers || shared->consumers != config->consumers || shared->batch != config->batch ||
        shared->wait != config->wait)
        return lab_refuse(EBADMSG, "the shared memory (%zu bytes) does not hold a queue of %u producers with %u messages of %u bytes each",
                          size, config->producers, config->window, config->message_max);
    if (seat >= seats)
        return lab_refuse(EINVAL, "there is no seat %u among %u", seat, seats);
    *ret_shape = shape;
    return 0;
}

/* ---- producers ---- */

int lab_queue_produce(struct lab_queue_producer *producer, void *memory, size_t size, const struct lab_queue_config *config, uint32_t seat)
{
    struct lab_queue_shape shape = {0};
    int err = attach(memory, size, config, seat, config->producers, &shape);
    if (err)
        return err;
    struct lab_queue_producer p = {
        .view = view_of(memory, &shape, seat), .sleepers = sleepers_of(memory, &shape), .consumers = config->consumers,
    };
    err = lab_ring_produce(&p.ring, lane_of(memory, &shape, seat), shape.ring.size, &shape.lane);
    if (err)
        return lab_while(err, "taking producer's seat %u of a queue", seat);
    p.room = shape.room;
    p.ring.room_to = shape.room;
    p.look_at = shape.room / 2;
    *producer = p;
    return 0;
}

void lab_queue_look_for_room(struct lab_queue_producer *p)
{
    const struct lab_queue_view *view = &p->view;
    uint64_t passed = p->passed, head = p->ring.head;
    while (passed != head) {
        uint64_t word = atomic_load_explicit(lab_queue_claim_at(view, passed), memory_order_acquire);
        int64_t age = lab_queue_age(view, passed, word);
        if (age < 0 || (age == 0 && !(word & LAB_QUEUE_RELEASED)))
            break;
        p->nonsense = age > 0 || lab_queue_run_of(word) > head - passed;
        if (p->nonsense)
            break;
        passed += lab_queue_run_of(word);
    }
    if (passed != p->passed) {
        p->passed = passed;
        p->ring.room_to = passed + p->room;
        atomic_store_explicit(&view->lane->passed, passed, memory_order_release);
    }
    p->look_at = head + (p->ring.room_to - head + 1) / 2;
}

static bool room(void *subject)
{
    struct lab_queue_producer *p = subject;
    lab_queue_look_for_room(p);
    return p->nonsense || p->ring.head != p->ring.room_to;
}

int lab_queue_reserve_late(struct lab_queue_producer *p, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    const struct lab_ring_view *ring = &p->view.ring;
    if (length > ring->message_max)
        return lab_refuse(EMSGSIZE, "a message of %u bytes in a queue for %u", length, ring->message_max);
    const _Atomic uint32_t *gone = &ring->shared->gone[LAB_RING_CONSUMER];
    int err = atomic_load_explicit(gone, memory_order_relaxed)
                  ? -EPIPE
                  : lab_wait_until(&ring->plan, room, p, &ring->shared->producer_sleeps, gone, deadline_ns);
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "all consumers of the queue are gone");
    if (err)
        return err;
    if (p->nonsense)
        return lab_refuse(EBADMSG, "consumers say that they have claimed more than the %llu messages that were sent",
                          (unsigned long long)p->ring.head);
    lab_ring_lend(&p->ring, length, want, ret_span);
    return 0;
}

/* One consumer for each message. One that slept no more when it was woken has not seen the message, perhaps, and may not come
 * back: then the next one is woken too. */
void lab_queue_wake_consumers(struct lab_queue_producer *p, uint32_t count)
{
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t i = 0, seat = p->wake_next; i < p->consumers && count; i++) {
        struct lab_sleeper *sleeper = &p->sleepers[seat];
        seat = seat + 1 == p->consumers ? 0 : seat + 1;
        if (atomic_load_explicit(&sleeper->asleep, memory_order_relaxed) && lab_wait_wake_now(sleeper)) {
            count--;
            p->wake_next = seat;
        }
    }
}

/* ---- consumers ---- */

int lab_queue_consume(struct lab_queue_consumer *consumer, void *memory, size_t size, const struct lab_queue_config *config, uint32_t seat)
{
    struct lab_queue_shape shape = {0};
    int err = attach(memory, size, config, seat, config->consumers, &shape);
    if (err)
        return err;
    if (atomic_exchange(&seats_of(memory)[seat].taken, 1))
        return lab_refuse(EBUSY, "consumer's seat %u of the queue is taken", seat);
    uint32_t lane = (uint32_t)((uint64_t)seat * config->producers / config->consumers);
    *consumer = (struct lab_queue_consumer){
        .view = view_of(memory, &shape, lane), .turn = LAB_QUEUE_TURN, .lane = lane, .lanes = config->producers, .seat = seat,
        .alone = config->consumers == 1, .batch = shape.ring.batch, .shared = memory, .shape = shape,
    };
    /* Where a line holds several messages they come faster than a consumer that waits for more can make up for. */
    if (shape.ring.stride >= PATIENT)
        consumer->patience = lab_ring_patience(&shape.lane, &shape.ring);
    return 0;
}

/* Where a run begins that is not behind by a lap. Whether there can be one: the producer says that it has used a slot anew before
 * anyone can have claimed it anew. */
static bool catch_up(const struct lab_queue_view *view, uint64_t *at)
{
    uint64_t claimed = atomic_load_explicit(&view->lane->claimed, memory_order_acquire);
    uint64_t passed = atomic_load_explicit(&view->lane->passed, memory_order_acquire);
    uint64_t next = (int64_t)(claimed - *at) > 0 ? claimed : passed;
    if ((int64_t)(next - *at) <= 0)
        return false;
    *at = next;
    return true;
}

/* Walks to the first message of a lane that nobody has claimed. The walk is bounded, whatever the words say. */
static enum lab_queue_sight seek(const struct lab_queue_view *view, uint64_t *at, uint64_t *there, uint64_t *ret_word, uint32_t *ret_length)
{
    uint64_t steps = 2 * (view->ring.mask + UINT64_C(1)) + LAB_RING_LINE;
    while (steps--) {
        enum lab_queue_sight sight = lab_queue_look(view, *at, there, ret_word, ret_length);
        if (sight == LAB_QUEUE_CLAIMED)
            *at += lab_queue_run_of(*ret_word);
        else if (sight == LAB_QUEUE_PASSED && !catch_up(view, at))
            return LAB_QUEUE_NONSENSE;
        else if (sight != LAB_QUEUE_PASSED && sight != LAB_QUEUE_MOVING)
            return sight;
    }
    return LAB_QUEUE_NOTHING;
}

/* Whether a lane may hold a message that this consumer has not walked past: one look, at the word that its producer publishes. */
static bool stirs(const struct lab_queue_consumer *c, uint32_t lane)
{
    uint64_t at = c->cursor[lane];
    const unsigned char *memory = lane_of(c->shared, &c->shape, lane);
    const struct lab_ring_view *ring = &c->view.ring;
    if (ring->lengths)
        return atomic_load_explicit(&((const struct lab_ring_shared *)(const void *)memory)->committed, memory_order_relaxed) != at;
    const unsigned char *place = memory + c->shape.ring.places_at + (at & ring->mask) * ring->stride;
    uint64_t mark = atomic_load_explicit((const _Atomic uint64_t *)(const void *)place - 1, memory_order_relaxed);
    return (int32_t)((uint32_t)(mark >> 32) - (uint32_t)(at + 1)) >= 0;
}

/* What a consumer that waits is after. */
struct quest {
    struct lab_queue_consumer *consumer;
    uint64_t word;
    uint32_t length;
};

/* Looks into every lane, the present one first if its turn is not over and last if it is; goes to the lane where there is a
 * message. */
static bool message(void *subject)
{
    struct quest *quest = subject;
    struct lab_queue_consumer *c = quest->consumer;
    uint32_t first = c->turn ? 0 : 1;
    for (uint32_t i = 0; i < c->lanes; i++) {
        uint32_t lane = c->lane + i + first;
        if (lane >= c->lanes)
            lane -= c->lanes;
        if (!stirs(c, lane))
            continue;
        struct lab_queue_view view = view_of(c->shared, &c->shape, lane);
        uint64_t there = 0;
        enum lab_queue_sight sight = seek(&view, &c->cursor[lane], &there, &quest->word, &quest->length);
        if (sight == LAB_QUEUE_NOTHING)
            continue;
        if (lane != c->lane || c->turn == 0) {
            c->turn = LAB_QUEUE_TURN;
            c->lane = lane;
            c->view = view;
        }
        c->there = there;
        c->nonsense = sight == LAB_QUEUE_NONSENSE;
        return true;
    }
    return false;
}

static void let_get_ahead(struct lab_queue_consumer *c)
{
    uint64_t at = c->cursor[c->lane], there = lab_ring_let_get_ahead(&c->patience, c->view.ring.shared, at, c->there);
    if (there - at <= c->view.ring.mask + UINT64_C(1))
        c->there = there;
}

int lab_queue_borrow_late(struct lab_queue_consumer *c, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct quest quest = {.consumer = c};
    const struct lab_wait_plan *plan = &c->view.ring.plan;
    struct lab_sleeper *sleeper = &sleepers_of(c->shared, &c->shape)[c->seat];
    for (uint32_t races = 0; races < LOST_RACES || lab_now_ns() < deadline_ns; races++) {
        int err = lab_wait_until(plan, message, &quest, sleeper, &c->shared->producers_gone, deadline_ns);
        if (err == -EPIPE)
            return lab_refuse(EPIPE, "all producers of the queue are gone");
        if (err)
            return err;
        if (c->nonsense)
            return lab_refuse(EBADMSG, "lane %u of the queue holds what cannot be: %llu messages, the next of %u bytes of at most %u",
                              c->lane, (unsigned long long)(c->there - c->cursor[c->lane]), quest.length, c->view.ring.message_max);
        let_get_ahead(c);
        if (lab_queue_take(c, quest.word, quest.length, want)) {
            lab_queue_show(c, want, ret_span);
            return 0;
        }
    }
    return -EAGAIN;
}

/* ---- whoever is gone ---- */

/* Releases the run of a dead consumer in one lane, having noted how many messages it was of: who hangs up may be killed between the two, and
 * whoever does it again notes the same. The run itself keeps the producer from passing it, so a walk that was left behind has only to
 * begin anew. */
static void release_run_of(const struct lab_queue_view *view, struct lab_queue_seat *dead, uint32_t seat)
{
    uint64_t at = atomic_load_explicit(&view->lane->passed, memory_order_acquire);
    for (uint64_t steps = 4 * (view->ring.mask + UINT64_C(1)); steps; steps--) {
        uint64_t word = atomic_load_explicit(lab_queue_claim_at(view, at), memory_order_acquire);
        int64_t age = lab_queue_age(view, at, word);
        if (age < 0)
            break;
        if (age > 0) {
            at = atomic_load_explicit(&view->lane->passed, memory_order_acquire);
            continue;
        }
        if (!(word & LAB_QUEUE_RELEASED) && lab_queue_seat_of(word) == seat) {
            atomic_store(&dead->dropped, lab_queue_run_of(word));
            atomic_compare_exchange_strong(lab_queue_claim_at(view, at), &word, word | LAB_QUEUE_RELEASED);
            return;
        }
        at += lab_queue_run_of(word);
    }
}

static void hang_up_consumer(struct lab_queue_shared *shared, const struct lab_queue_config *config, const struct lab_queue_shape *shape,
                             uint32_t seat)
{
    struct lab_queue_seat *seats = seats_of(shared);
    atomic_store(&seats[seat].gone, 1);
    bool last = true;
    for (uint32_t i = 0; i < config->consumers && last; i++)
        last = atomic_load(&seats[i].gone);
    for (uint32_t lane = 0; lane < config->producers; lane++) {
        struct lab_queue_view view = view_of(shared, shape, lane);
        release_run_of(&view, &seats[seat], seat);
        if (last)
            lab_ring_hangup(view.ring.shared, LAB_RING_CONSUMER);
        else
            lab_wait_wake(&view.ring.shared->producer_sleeps);
    }
}

static void hang_up_producer(struct lab_queue_shared *shared, const struct lab_queue_config *config, const struct lab_queue_shape *shape,
                             uint32_t seat)
{
    lab_ring_hangup(lane_of(shared, shape, seat), LAB_RING_PRODUCER);
    bool last = true;
    for (uint32_t lane = 0; lane < config->producers && last; lane++) {
        const struct lab_ring_shared *ring = (void *)lane_of(shared, shape, lane);
        last = atomic_load(&ring->gone[LAB_RING_PRODUCER]);
    }
    if (last)
        atomic_store(&shared->producers_gone, 1);
}

void lab_queue_hangup(void *memory, const struct lab_queue_config *config, enum lab_queue_side side, uint32_t seat)
{
    struct lab_queue_shape shape = {0};
    if (seat >= (side == LAB_QUEUE_PRODUCER ? config->producers : config->consumers) || lab_queue_shape(config, &shape))
        return;
    if (side == LAB_QUEUE_PRODUCER)
        hang_up_producer(memory, config, &shape, seat);
    else
        hang_up_consumer(memory, config, &shape, seat);
    /* Someone may have been woken for a message and have died instead of taking it, or have died before it woke anyone. */
    for (uint32_t i = 0; i < config->consumers; i++)
        lab_wait_wake(&sleepers_of(memory, &shape)[i]);
}

uint64_t lab_queue_dropped(const void *memory, const struct lab_queue_config *config)
{
    const struct lab_queue_seat *seats = (const void *)((const struct lab_queue_shared *)memory + 1);
    uint64_t dropped = 0;
    for (uint32_t seat = 0; seat < config->consumers; seat++)
        dropped += atomic_load(&seats[seat].dropped);
    return dropped;
}
