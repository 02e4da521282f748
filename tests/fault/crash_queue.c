/* A producer or a consumer of a queue is killed at every single instruction of everything that it does; the others go on. */
#include "tests/crash.h"

#include "base/clock.h"
#include "shm/queue.h"

#include <pthread.h>

enum { WITHIN_S = 20, SEATS = 2, VICTIM = 0, OTHER = 1 };

struct row {
    struct lab_crash crash;
    struct lab_queue_config config;
    uint32_t sent;     /* messages by each producer before the operation, one after the other */
    uint32_t received; /* messages by the victim as a consumer, before that */
    uint32_t count;    /* messages of the operation */
};

struct scene {
    const struct row *row;
    struct lab_queue_shape shape;
    void *memory;
    struct lab_queue_producer producer[SEATS];
    struct lab_queue_consumer consumer[SEATS];
    uint64_t next[SEATS][SEATS]; /* by consumer and producer: no message before this one may come any more */
    uint64_t received;           /* by anyone but the victim's child */
    pthread_t survivor;
    bool survives; /* the thread runs */
    int outcome;   /* of the thread's last call */
};

static uint64_t soon(void)
{
    return lab_now_ns() + WITHIN_S * LAB_NS_PER_S;
}

/* ---- messages: producer and number, at both ends ---- */

static uint64_t name_of(uint32_t seat, uint64_t number)
{
    return (uint64_t)(seat + 1) << 48 | number;
}

static void write_messages(const struct lab_span *span, uint32_t seat, uint64_t from)
{
    for (uint32_t i = 0; i < span->count; i++) {
        uint64_t name = name_of(seat, from + i);
        unsigned char *at = span->at + i * span->stride;
        memcpy(at + span->length - sizeof name, &name, sizeof name);
        memcpy(at, &name, sizeof name);
    }
}

/* Whole, and newer than all that this consumer has had of its producer. */
static bool account(struct scene *scene, uint32_t by, const unsigned char *at, uint32_t length)
{
    uint64_t name, again;
    memcpy(&name, at, sizeof name);
    memcpy(&again, at + length - sizeof again, sizeof again);
    uint64_t seat = (name >> 48) - 1, number = name & UINT64_C(0xffffffffffff);
    if (name != again || seat >= SEATS || number < scene->next[by][seat])
        return false;
    scene->next[by][seat] = number + 1;
    scene->received++;
    return true;
}

static int send_some(struct scene *scene, uint32_t seat, uint32_t length, uint32_t want, uint64_t deadline_ns)
{
    struct lab_queue_producer *producer = &scene->producer[seat];
    struct lab_span span = {0};
    int err = lab_queue_reserve(producer, length, want, deadline_ns, &span);
    if (err)
        return err;
    write_messages(&span, seat, producer->ring.head);
    lab_queue_commit(producer, span.count);
    return (int)span.count;
}

/* -EILSEQ: not messages that may come next. */
static int receive_some(struct scene *scene, uint32_t seat, uint32_t want, uint64_t deadline_ns)
{
    struct lab_span span = {0};
    int err = lab_queue_borrow(&scene->consumer[seat], want, deadline_ns, &span);
    if (err)
        return err;
    for (uint32_t i = 0; i < span.count; i++)
        if (!account(scene, seat, span.at + i * span.stride, span.length))
            return -EILSEQ;
    lab_queue_release(&scene->consumer[seat], span.count);
    return (int)span.count;
}

/* ---- the scene ---- */

static void make(struct scene *scene, const struct lab_crash *crash)
{
    const struct row *row = (const void *)crash;
    *scene = (struct scene){.row = row};
    lab_assert_ok(lab_queue_shape(&row->config, &scene->shape));
    scene->memory = lab_shared_bytes(scene->shape.size);
    lab_queue_init(scene->memory, &row->config, &scene->shape);
}

static int attach_producer_at(struct scene *scene, struct lab_queue_producer *producer, uint32_t seat)
{
    return lab_queue_produce(producer, scene->memory, scene->shape.size, &scene->row->config, seat);
}

static int attach_consumer_at(struct scene *scene, struct lab_queue_consumer *consumer, uint32_t seat)
{
    return lab_queue_consume(consumer, scene->memory, scene->shape.size, &scene->row->config, seat);
}

static void set_up(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    make(scene, crash);
    for (uint32_t seat = 0; seat < SEATS; seat++) {
        lab_assert_ok(attach_producer_at(scene, &scene->producer[seat], seat));
        lab_assert_ok(attach_consumer_at(scene, &scene->consumer[seat], seat));
    }
    for (uint32_t i = 0; i < scene->row->sent; i++)
        for (uint32_t seat = 0; seat < SEATS; seat++)
            assert_int_equal(send_some(scene, seat, scene->row->config.message_max, 1, 0), 1);
    for (uint32_t i = 0; i < scene->row->received; i++)
        assert_int_equal(receive_some(scene, VICTIM, 1, 0), 1);
}

static void set_up_attached(void *subject, const struct lab_crash *crash, bool producer, bool consumer)
{
    struct scene *scene = subject;
    make(scene, crash);
    for (uint32_t seat = 0; seat < SEATS; seat++) {
        if (producer || seat != VICTIM)
            lab_assert_ok(attach_producer_at(scene, &scene->producer[seat], seat));
        if (consumer || seat != VICTIM)
            lab_assert_ok(attach_consumer_at(scene, &scene->consumer[seat], seat));
    }
}

static void set_up_without_a_producer(void *subject, const struct lab_crash *crash)
{
    set_up_attached(subject, crash, false, true);
}

static void set_up_without_a_consumer(void *subject, const struct lab_crash *crash)
{
    set_up_attached(subject, crash, true, false);
}

/* The victim's consumer has a run, of which it has released the first message. */
static void set_up_with_a_loan(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    struct lab_span span;
    set_up(scene, crash);
    lab_assert_ok(lab_queue_borrow(&scene->consumer[VICTIM], scene->row->count, 0, &span));
    assert_int_equal(span.count, scene->row->count);
    lab_queue_release(&scene->consumer[VICTIM], 1);
}

static void tear_down(void *subject)
{
    struct scene *scene = subject;
    munmap(scene->memory, scene->shape.size);
}

/* ---- what the victim does ---- */

static void send(void *subject)
{
    struct scene *scene = subject;
    send_some(scene, VICTIM, scene->row->config.message_max, scene->row->count, 0);
}

static void receive(void *subject)
{
    struct scene *scene = subject;
    receive_some(scene, VICTIM, scene->row->count, 0);
}

/* What it has borrowed it gives back in two parts. */
static void receive_in_parts(void *subject)
{
    struct scene *scene = subject;
    struct lab_span span = {0};
    if (lab_queue_borrow(&scene->consumer[VICTIM], scene->row->count, 0, &span))
        return;
    lab_queue_release(&scene->consumer[VICTIM], 1);
    lab_queue_release(&scene->consumer[VICTIM], span.count - 1);
}

static void wait_for_room(void *subject)
{
    send_some(subject, VICTIM, 16, 1, soon());
}

static void wait_for_messages(void *subject)
{
    receive_some(subject, VICTIM, 1, soon());
}

static void close_producer(void *subject)
{
    struct scene *scene = subject;
    lab_queue_hangup(scene->memory, &scene->row->config, LAB_QUEUE_PRODUCER, VICTIM);
}

static void close_consumer(void *subject)
{
    struct scene *scene = subject;
    lab_queue_hangup(scene->memory, &scene->row->config, LAB_QUEUE_CONSUMER, VICTIM);
}

static void attach_producer(void *subject)
{
    struct scene *scene = subject;
    attach_producer_at(scene, &scene->producer[VICTIM], VICTIM);
}

static void attach_consumer(void *subject)
{
    struct scene *scene = subject;
    attach_consumer_at(scene, &scene->consumer[VICTIM], VICTIM);
}

/* ---- who is at work meanwhile, and who wakes ---- */

static void *receive_one_in_time(void *subject)
{
    struct scene *scene = subject;
    scene->outcome = receive_some(scene, OTHER, 1, soon());
    return NULL;
}

static void *send_one_in_time(void *subject)
{
    struct scene *scene = subject;
    scene->outcome = send_some(scene, VICTIM, 16, 1, soon());
    return NULL;
}

static void begin(struct scene *scene, void *(*survive)(void *), const struct lab_sleeper *sleeper)
{
    assert_int_equal(pthread_create(&scene->survivor, NULL, survive, scene), 0);
    scene->survives = true;
    while (!atomic_load(&sleeper->asleep))
        sched_yield();
}

static void a_consumer_sleeps(void *subject)
{
    struct scene *scene = subject;
    const unsigned char *sleepers = (const unsigned char *)scene->memory + scene->shape.sleepers_at;
    begin(scene, receive_one_in_time, (const struct lab_sleeper *)(const void *)sleepers + OTHER);
}

static void a_producer_sleeps(void *subject)
{
    struct scene *scene = subject;
    begin(scene, send_one_in_time, &scene->producer[VICTIM].view.ring.shared->producer_sleeps);
}

static void send_one(void *subject)
{
    send_some(subject, VICTIM, 16, 1, 0);
}

static void make_room(void *subject)
{
    while (receive_some(subject, OTHER, 1, 0) > 0)
        continue;
}

/* ---- what the survivors do ---- */

static uint32_t dropped(const struct scene *scene)
{
    return (uint32_t)lab_queue_dropped(scene->memory, &scene->row->config);
}

static void hang_up(struct scene *scene, enum lab_queue_side side, uint32_t seat)
{
    lab_queue_hangup(scene->memory, &scene->row->config, side, seat);
}

/* The consumer that is left gets everything that is there, and then what `outcome` says. */
static const char *receive_all(struct scene *scene, int outcome)
{
    int got;
    while ((got = receive_some(scene, OTHER, 64, 0)) > 0)
        continue;
    LAB_EXPECT(got == outcome);
    return NULL;
}

/* Who slept got its message, or its room. */
static const char *let_finish(struct scene *scene)
{
    if (!scene->survives)
        return NULL;
    pthread_join(scene->survivor, NULL);
    LAB_EXPECT(scene->outcome == 1);
    return NULL;
}

/* All that was committed comes, from the dead too; the other producer can be heard on; at the end it is over for everyone. */
static const char *others_survive_a_producer(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    uint64_t before = SEATS * scene->row->sent;
    hang_up(scene, LAB_QUEUE_PRODUCER, VICTIM);
    if (scene->survives) {
        LAB_EXPECT(send_some(scene, OTHER, 16, 1, 0) == 1);
        before++;
        LAB_EXPECT_FINE(let_finish(scene));
    }
    LAB_EXPECT_FINE(receive_all(scene, -EAGAIN));
    LAB_EXPECT(scene->received >= before);
    uint64_t seen = scene->received - before;
    for (uint32_t i = 0; i < scene->row->config.window; i++)
        LAB_EXPECT(send_some(scene, OTHER, 16, 1, 0) == 1);
    hang_up(scene, LAB_QUEUE_PRODUCER, OTHER);
    LAB_EXPECT_FINE(receive_all(scene, -EPIPE));
    LAB_EXPECT(scene->received == before + seen + scene->row->config.window && dropped(scene) == 0);
    LAB_EXPECT(scene->next[OTHER][VICTIM] <= scene->row->sent + seen);
    LAB_EXPECT(attach_producer_at(scene, &scene->producer[VICTIM], VICTIM) == -EBUSY);
    *ret_seen = (uint32_t)seen;
    return NULL;
}

/* Every slot comes back: each lane takes as much as it ever did, and again. */
static const char *lanes_are_whole(struct scene *scene)
{
    for (uint32_t lap = 0; lap < 2; lap++) {
        uint64_t before = scene->received, sent = 0;
        for (uint32_t seat = 0; seat < SEATS; seat++) {
            int count;
            uint32_t room = 0;
            while ((count = send_some(scene, seat, 16, 64, 0)) > 0)
                room += (uint32_t)count;
            LAB_EXPECT(count == -EAGAIN && room == scene->shape.room);
            sent += room;
        }
        LAB_EXPECT_FINE(receive_all(scene, -EAGAIN));
        LAB_EXPECT(scene->received == before + sent);
    }
    return NULL;
}

/* Nothing that it had had comes again; what it had and had not released is counted; its slots come back. Seen are the messages that it
 * took, and once more those that it released. */
static const char *others_survive_a_consumer(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    memcpy(scene->next[OTHER], scene->next[VICTIM], sizeof scene->next[VICTIM]);
    hang_up(scene, LAB_QUEUE_CONSUMER, VICTIM);
    hang_up(scene, LAB_QUEUE_CONSUMER, VICTIM);
    LAB_EXPECT_FINE(receive_all(scene, -EAGAIN));
    LAB_EXPECT_FINE(let_finish(scene));
    LAB_EXPECT_FINE(receive_all(scene, -EAGAIN));
    uint64_t sent = scene->producer[VICTIM].ring.head + scene->producer[OTHER].ring.head;
    LAB_EXPECT(scene->received <= sent);
    uint64_t taken = sent - scene->received;
    LAB_EXPECT(taken <= scene->row->count && dropped(scene) <= taken);
    *ret_seen = (uint32_t)taken + (uint32_t)taken - dropped(scene);
    LAB_EXPECT_FINE(lanes_are_whole(scene));
    LAB_EXPECT(attach_consumer_at(scene, &scene->consumer[VICTIM], VICTIM) == -EBUSY);
    hang_up(scene, LAB_QUEUE_CONSUMER, OTHER);
    LAB_EXPECT(send_some(scene, VICTIM, 16, 1, 0) == -EPIPE && send_some(scene, OTHER, 16, 1, 0) == -EPIPE);
    return NULL;
}

/* What it held is counted, once, however far it had got with its own last word. */
static const char *a_last_word_is_said_again(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    LAB_EXPECT_FINE(others_survive_a_consumer(scene, ret_seen));
    LAB_EXPECT(dropped(scene) == scene->row->count - 1);
    *ret_seen = 0;
    return NULL;
}

/* The seat of one that was killed while it took it is free or taken; the others get on with either. */
static const char *a_fresh_producer_is_refused_or_works(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    int err = attach_producer_at(scene, &scene->producer[VICTIM], VICTIM);
    LAB_EXPECT(err == 0 ? send_some(scene, VICTIM, 16, 1, 0) == 1 : err == -EBUSY);
    LAB_EXPECT_FINE(receive_all(scene, -EAGAIN));
    LAB_EXPECT(scene->received == (err == 0));
    hang_up(scene, LAB_QUEUE_PRODUCER, OTHER);
    hang_up(scene, LAB_QUEUE_PRODUCER, VICTIM);
    LAB_EXPECT_FINE(receive_all(scene, -EPIPE));
    *ret_seen = err != 0;
    return NULL;
}

static const char *a_fresh_consumer_is_refused_or_works(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    int err = attach_consumer_at(scene, &scene->consumer[VICTIM], VICTIM);
    LAB_EXPECT(send_some(scene, VICTIM, 16, 1, 0) == 1);
    LAB_EXPECT(err == 0 ? receive_some(scene, VICTIM, 1, 0) == 1 : err == -EBUSY);
    hang_up(scene, LAB_QUEUE_CONSUMER, VICTIM);
    LAB_EXPECT_FINE(receive_all(scene, -EAGAIN));
    LAB_EXPECT(scene->received == 1);
    LAB_EXPECT_FINE(lanes_are_whole(scene));
    *ret_seen = err != 0;
    return NULL;
}

/* ---- what is wrong on purpose ---- */

static void send_before_writing(void *subject)
{
    struct scene *scene = subject;
    struct lab_queue_producer *producer = &scene->producer[VICTIM];
    struct lab_span span = {0};
    uint64_t head = producer->ring.head;
    if (lab_queue_reserve(producer, scene->row->config.message_max, scene->row->count, 0, &span))
        return;
    lab_queue_commit(producer, span.count);
    write_messages(&span, VICTIM, head);
}

/* The run is claimed, and then it is written down whose it is. */
static void claim_before_owning(void *subject)
{
    struct scene *scene = subject;
    struct lab_queue_consumer *consumer = &scene->consumer[VICTIM];
    consumer->seat = LAB_QUEUE_SEATS - 1;
    struct lab_span span = {0};
    if (lab_queue_borrow(consumer, scene->row->count, 0, &span))
        return;
    consumer->seat = VICTIM;
    atomic_store(lab_queue_claim_at(&consumer->view, consumer->at), lab_queue_claim_of(&consumer->view, consumer->at, VICTIM, span.count));
    lab_queue_release(consumer, span.count);
}

/* The first part is released, and then it is written down that the rest is still held. */
static void release_before_splitting(void *subject)
{
    struct scene *scene = subject;
    struct lab_queue_consumer *c = &scene->consumer[VICTIM];
    struct lab_span span = {0};
    if (lab_queue_borrow(c, scene->row->count, 0, &span))
        return;
    atomic_store(lab_queue_claim_at(&c->view, c->at), lab_queue_claim_of(&c->view, c->at, VICTIM, 1) | LAB_QUEUE_RELEASED);
    lab_queue_release(c, 1);
    lab_queue_release(c, span.count - 1);
}

/* ---- operations ---- */

#define PEOPLE .producers = SEATS, .consumers = SEATS
#define MARKED {.message_max = 48, .window = 2, PEOPLE, .batch = 1, .wait = LAB_WAIT_SPIN}
#define COUNTED {.message_max = 1 << 15, .window = 128, PEOPLE, .batch = 8, .wait = LAB_WAIT_SPIN}
#define SLEEPY {.message_max = 48, .window = 2, PEOPLE, .batch = 1, .wait = LAB_WAIT_FUTEX}

static const struct row rows[] = {
    {{LAB_CRASH("reserve, commit: marked", set_up, send, others_survive_a_producer, 1)}, MARKED, 1, 0, 1},
    {{LAB_CRASH("reserve, commit: room that came back", set_up, send, others_survive_a_producer, 1)}, MARKED, 2, 4, 1},
    {{LAB_CRASH("reserve, commit: counted, 7 at a time", set_up, send, others_survive_a_producer, 7)}, COUNTED, 3, 1, 7},
    {{LAB_CRASH("reserve, commit: nobody sleeps", set_up, send, others_survive_a_producer, 1)}, SLEEPY, 1, 0, 1},
    {{LAB_CRASH("reserve, commit, wake", set_up, send, others_survive_a_producer, 1), .meanwhile = a_consumer_sleeps}, SLEEPY, 0, 0, 1},
    {{LAB_CRASH("reserve: asleep in a full queue", set_up, wait_for_room, others_survive_a_producer, 0), .sleeps = true}, SLEEPY, 2, 0, 0},
    {{LAB_CRASH("reserve: woken in a full queue", set_up, wait_for_room, others_survive_a_producer, 1),
      .nudge = make_room}, SLEEPY, 2, 0, 0},
    {{LAB_CRASH("borrow, release: marked", set_up, receive, others_survive_a_consumer, 2)}, MARKED, 1, 0, 1},
    {{LAB_CRASH("borrow, release: from another's lane", set_up, receive, others_survive_a_consumer, 2)}, MARKED, 1, 1, 1},
    {{LAB_CRASH("borrow, release: counted, 7 at a time", set_up, receive, others_survive_a_consumer, 14)}, COUNTED, 9, 1, 7},
    {{LAB_CRASH("borrow, release: with a hint", set_up, receive, others_survive_a_consumer, 14)}, COUNTED, 70, 60, 7},
    {{LAB_CRASH("borrow, release, release: in parts", set_up, receive_in_parts, others_survive_a_consumer, 14)}, COUNTED, 9, 1, 7},
    {{LAB_CRASH("borrow, release, wake", set_up, receive, others_survive_a_consumer, 2), .meanwhile = a_producer_sleeps}, SLEEPY, 2, 0, 1},
    {{LAB_CRASH("borrow: asleep at an empty queue", set_up, wait_for_messages, others_survive_a_consumer, 0),
      .sleeps = true}, SLEEPY, 1, 2, 0},
    {{LAB_CRASH("borrow: woken at an empty queue", set_up, wait_for_messages, others_survive_a_consumer, 2),
      .nudge = send_one}, SLEEPY, 1, 2, 1},
    {{LAB_CRASH("hangup of a producer", set_up, close_producer, others_survive_a_producer, 0)}, MARKED, 1, 0, 0},
    {{LAB_CRASH("hangup of a consumer", set_up, close_consumer, others_survive_a_consumer, 0)}, MARKED, 1, 0, 0},
    {{LAB_CRASH("hangup of a consumer with a loan", set_up_with_a_loan, close_consumer, a_last_word_is_said_again, 0)}, COUNTED, 9, 1, 7},
    {{LAB_CRASH("attach a producer", set_up_without_a_producer, attach_producer, a_fresh_producer_is_refused_or_works, 1)},
     MARKED, 0, 0, 0},
    {{LAB_CRASH("attach a consumer", set_up_without_a_consumer, attach_consumer, a_fresh_consumer_is_refused_or_works, 1)},
     MARKED, 0, 0, 0},
};

static const struct row faults[] = {
    {{LAB_CRASH("sends a message before it is written", set_up, send_before_writing, others_survive_a_producer, 1)}, MARKED, 1, 0, 1},
    {{LAB_CRASH("claims a run before it is its own", set_up, claim_before_owning, others_survive_a_consumer, 2)}, MARKED, 1, 0, 1},
    {{LAB_CRASH("releases a part before the rest is a run", set_up, release_before_splitting, others_survive_a_consumer, 14)},
     COUNTED, 9, 1, 7},
};

int main(void)
{
    static struct scene scene;
    return lab_crash_main("queue", LAB_CRASH_TABLE(rows), LAB_CRASH_TABLE(faults), &scene);
}
