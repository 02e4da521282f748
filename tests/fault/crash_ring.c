/* Either side of a ring is killed at every single instruction of everything that it does; the other side goes on. */
#include "tests/crash.h"

#include "base/clock.h"
#include "shm/ring.h"

#include <pthread.h>

enum { WITHIN_S = 20 };

struct row {
    struct lab_crash crash;
    struct lab_ring_config config;
    uint32_t sent, received; /* messages, before the operation */
    uint32_t count;          /* messages of the operation */
};

struct scene {
    const struct row *row;
    struct lab_ring_shape shape;
    void *memory;
    struct lab_ring_producer producer;
    struct lab_ring_consumer consumer;
    pthread_t survivor;
    bool survives;     /* the thread runs */
    uint64_t received; /* messages, whole and in order, by whoever consumes */
    int outcome;       /* of the survivor's last call */
};

static uint64_t soon(void)
{
    return lab_now_ns() + WITHIN_S * LAB_NS_PER_S;
}

/* ---- messages: the number, at both ends ---- */

static void write_messages(const struct lab_span *span, uint64_t from)
{
    for (uint32_t i = 0; i < span->count; i++) {
        uint64_t number = from + i;
        unsigned char *at = span->at + i * span->stride;
        memcpy(at + span->length - sizeof number, &number, sizeof number);
        memcpy(at, &number, sizeof number);
    }
}

static bool are_messages(const struct lab_span *span, uint64_t from)
{
    bool whole = true;
    for (uint32_t i = 0; i < span->count; i++) {
        uint64_t number = from + i;
        const unsigned char *at = span->at + i * span->stride;
        whole = whole && memcmp(at, &number, sizeof number) == 0 && memcmp(at + span->length - sizeof number, &number, sizeof number) == 0;
    }
    return whole;
}

static int send_some(struct lab_ring_producer *producer, uint32_t length, uint32_t want, uint64_t deadline_ns)
{
    struct lab_span span = {0};
    int err = lab_ring_reserve(producer, length, want, deadline_ns, &span);
    if (err)
        return err;
    write_messages(&span, producer->head);
    lab_ring_commit(producer, span.count);
    return (int)span.count;
}

/* -EILSEQ: not the messages that come next. */
static int receive_some(struct lab_ring_consumer *consumer, uint32_t want, uint64_t deadline_ns)
{
    struct lab_span span = {0};
    int err = lab_ring_borrow(consumer, want, deadline_ns, &span);
    if (err)
        return err;
    if (!are_messages(&span, consumer->tail))
        return -EILSEQ;
    lab_ring_release(consumer, span.count);
    return (int)span.count;
}

/* ---- the scene ---- */

static void set_up(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    const struct row *row = (const void *)crash;
    *scene = (struct scene){.row = row};
    lab_assert_ok(lab_ring_shape(&row->config, &scene->shape));
    scene->memory = lab_shared_bytes(scene->shape.size);
    lab_ring_init(scene->memory, &row->config, &scene->shape);
    lab_assert_ok(lab_ring_produce(&scene->producer, scene->memory, scene->shape.size, &row->config));
    lab_assert_ok(lab_ring_consume(&scene->consumer, scene->memory, scene->shape.size, &row->config));
    while (scene->producer.head < row->sent || scene->consumer.tail < row->received) {
        while (scene->producer.head < row->sent && send_some(&scene->producer, row->config.message_max, 1, 0) == 1)
            continue;
        while (scene->consumer.tail < row->received && receive_some(&scene->consumer, 1, 0) == 1)
            continue;
    }
}

static void set_up_unattached(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    set_up(scene, crash);
    lab_ring_init(scene->memory, &scene->row->config, &scene->shape);
    lab_assert_ok(lab_ring_consume(&scene->consumer, scene->memory, scene->shape.size, &scene->row->config));
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
    send_some(&scene->producer, scene->row->config.message_max, scene->row->count, 0);
}

static void receive(void *subject)
{
    struct scene *scene = subject;
    receive_some(&scene->consumer, scene->row->count, 0);
}

static void wait_for_room(void *subject)
{
    struct scene *scene = subject;
    send_some(&scene->producer, 8, 1, soon());
}

static void wait_for_messages(void *subject)
{
    struct scene *scene = subject;
    receive_some(&scene->consumer, 1, soon());
}

static void close_producer(void *subject)
{
    struct scene *scene = subject;
    lab_ring_hangup(scene->memory, LAB_RING_PRODUCER);
}

static void close_consumer(void *subject)
{
    struct scene *scene = subject;
    lab_ring_hangup(scene->memory, LAB_RING_CONSUMER);
}

static void attach_producer(void *subject)
{
    struct scene *scene = subject;
    lab_ring_produce(&scene->producer, scene->memory, scene->shape.size, &scene->row->config);
}

/* ---- what the survivor does ---- */

/* Nobody takes the place of the dead. */
static const char *no_one_attaches_again(struct scene *scene)
{
    struct lab_ring_producer producer;
    struct lab_ring_consumer consumer;
    LAB_EXPECT(lab_ring_produce(&producer, scene->memory, scene->shape.size, &scene->row->config) == -EBUSY);
    LAB_EXPECT(lab_ring_consume(&consumer, scene->memory, scene->shape.size, &scene->row->config) == -EBUSY);
    return NULL;
}

static void *receive_until_the_end(void *subject)
{
    struct scene *scene = subject;
    uint64_t deadline_ns = soon();
    do
        scene->outcome = receive_some(&scene->consumer, 64, deadline_ns);
    while (scene->outcome > 0);
    scene->received = scene->consumer.tail;
    return NULL;
}

static void *send_until_the_end(void *subject)
{
    struct scene *scene = subject;
    uint64_t deadline_ns = soon();
    do
        scene->outcome = send_some(&scene->producer, 8, 1, deadline_ns);
    while (scene->outcome > 0);
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
    begin(scene, receive_until_the_end, &scene->consumer.view.shared->consumer_sleeps);
}

static void a_producer_sleeps(void *subject)
{
    struct scene *scene = subject;
    begin(scene, send_until_the_end, &scene->producer.view.shared->producer_sleeps);
}

static void receive_one(void *subject)
{
    struct scene *scene = subject;
    receive_some(&scene->consumer, 1, 0);
}

static void send_one(void *subject)
{
    struct scene *scene = subject;
    send_some(&scene->producer, 8, 1, 0);
}

static const char *go_on(struct scene *scene, enum lab_ring_side dead, void *(*survive)(void *))
{
    lab_ring_hangup(scene->memory, dead);
    if (scene->survives)
        pthread_join(scene->survivor, NULL);
    else
        survive(scene);
    LAB_EXPECT(scene->outcome == -EPIPE);
    return no_one_attaches_again(scene);
}

/* Everything that was committed, whole and in order, and then -EPIPE, again and again. */
static const char *consumer_survives(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    LAB_EXPECT_FINE(go_on(scene, LAB_RING_PRODUCER, receive_until_the_end));
    LAB_EXPECT(scene->received >= scene->row->sent);
    LAB_EXPECT(receive_some(&scene->consumer, 1, soon()) == -EPIPE);
    *ret_seen = (uint32_t)scene->received - scene->row->sent;
    return NULL;
}

/* -EPIPE, and what was released can be seen: the position of the dead is one that can be. */
static const char *producer_survives(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    uint64_t released = atomic_load(&scene->producer.view.shared->released);
    uint64_t before = scene->row->received / scene->consumer.lazy * scene->consumer.lazy;
    LAB_EXPECT_FINE(go_on(scene, LAB_RING_CONSUMER, send_until_the_end));
    LAB_EXPECT(send_some(&scene->producer, 8, 1, soon()) == -EPIPE);
    LAB_EXPECT(released <= scene->producer.head && released >= before);
    *ret_seen = (uint32_t)(released - before);
    return NULL;
}

/* The place of one that was killed while it attached is free or taken; the other side gets on with either. */
static const char *a_fresh_producer_is_refused_or_works(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    struct lab_ring_producer fresh;
    int err = lab_ring_produce(&fresh, scene->memory, scene->shape.size, &scene->row->config);
    LAB_EXPECT(err == 0 ? send_some(&fresh, 8, 1, 0) == 1 : err == -EBUSY);
    LAB_EXPECT_FINE(go_on(scene, LAB_RING_PRODUCER, receive_until_the_end));
    LAB_EXPECT(scene->received == (err == 0));
    *ret_seen = err != 0;
    return NULL;
}

/* ---- what is wrong on purpose ---- */

static void send_before_writing(void *subject)
{
    struct scene *scene = subject;
    struct lab_span span = {0};
    uint64_t head = scene->producer.head;
    if (lab_ring_reserve(&scene->producer, scene->row->config.message_max, scene->row->count, 0, &span))
        return;
    lab_ring_commit(&scene->producer, span.count);
    write_messages(&span, head);
}

static void release_what_was_not_sent(void *subject)
{
    struct scene *scene = subject;
    atomic_fetch_add(&scene->consumer.view.shared->released, scene->row->config.window);
    receive(scene);
}

/* ---- operations ---- */

#define NEAR {.message_max = 48, .window = 2, .batch = 1, .wait = LAB_WAIT_SPIN}
#define FAR {.message_max = 1000, .window = 1, .batch = 1, .wait = LAB_WAIT_SPIN}
#define COUNTED {.message_max = 64, .window = 1024, .batch = 1, .wait = LAB_WAIT_SPIN}
#define BATCHED {.message_max = 64, .window = 1024, .batch = 32, .wait = LAB_WAIT_SPIN}
#define SLEEPY {.message_max = 48, .window = 2, .batch = 1, .wait = LAB_WAIT_FUTEX}
#define SLEEPY_COUNTED {.message_max = 64, .window = 1024, .batch = 32, .wait = LAB_WAIT_FUTEX}
enum { LAZY = 16384 }; /* of the counted rings here: the position is published once in so many messages */

static const struct row rows[] = {
    {{LAB_CRASH("reserve, commit: marked, 48 bytes", set_up, send, consumer_survives, 1)}, NEAR, 1, 0, 1},
    {{LAB_CRASH("reserve, commit: marked, 1000 bytes", set_up, send, consumer_survives, 1)}, FAR, 1, 1, 1},
    {{LAB_CRASH("reserve, commit: counted", set_up, send, consumer_survives, 1)}, COUNTED, 3, 1, 1},
    {{LAB_CRASH("reserve, commit: counted, 7 at a time", set_up, send, consumer_survives, 7)}, BATCHED, 3, 1, 7},
    {{LAB_CRASH("reserve, commit: nobody sleeps", set_up, send, consumer_survives, 1)}, SLEEPY, 1, 0, 1},
    {{LAB_CRASH("reserve, commit, wake: marked", set_up, send, consumer_survives, 1), .meanwhile = a_consumer_sleeps}, SLEEPY, 1, 1, 1},
    {{LAB_CRASH("reserve, commit, wake: counted", set_up, send, consumer_survives, 7),
      .meanwhile = a_consumer_sleeps}, SLEEPY_COUNTED, 3, 3, 7},
    {{LAB_CRASH("reserve: asleep in a full ring", set_up, wait_for_room, consumer_survives, 0), .sleeps = true}, SLEEPY, 2, 0, 0},
    {{LAB_CRASH("reserve: woken in a full ring", set_up, wait_for_room, consumer_survives, 1), .nudge = receive_one}, SLEEPY, 2, 0, 0},
    {{LAB_CRASH("borrow, release: marked, 48 bytes", set_up, receive, producer_survives, 1)}, NEAR, 2, 0, 1},
    {{LAB_CRASH("borrow, release: marked, 1000 bytes", set_up, receive, producer_survives, 1)}, FAR, 2, 1, 1},
    {{LAB_CRASH("borrow, release: counted, not published", set_up, receive, producer_survives, 0)}, COUNTED, 3, 1, 1},
    {{LAB_CRASH("borrow, release: counted, published", set_up, receive, producer_survives, LAZY)}, COUNTED, LAZY + 1, LAZY - 1, 1},
    {{LAB_CRASH("borrow, release: counted, 7 at a time, published", set_up, receive, producer_survives, LAZY + 4)},
     BATCHED, LAZY + 8, LAZY - 3, 7},
    {{LAB_CRASH("borrow, release, wake", set_up, receive, producer_survives, 1), .meanwhile = a_producer_sleeps}, SLEEPY, 2, 0, 1},
    {{LAB_CRASH("borrow: asleep at an empty ring", set_up, wait_for_messages, producer_survives, 0), .sleeps = true}, SLEEPY, 2, 2, 0},
    {{LAB_CRASH("borrow: woken at an empty ring", set_up, wait_for_messages, producer_survives, 1), .nudge = send_one}, SLEEPY, 2, 2, 0},
    {{LAB_CRASH("hangup of the producer", set_up, close_producer, consumer_survives, 0)}, NEAR, 2, 1, 0},
    {{LAB_CRASH("hangup of the producer, wake", set_up, close_producer, consumer_survives, 0),
      .meanwhile = a_consumer_sleeps}, SLEEPY, 2, 2, 0},
    {{LAB_CRASH("hangup of the consumer, wake", set_up, close_consumer, producer_survives, 0),
      .meanwhile = a_producer_sleeps}, SLEEPY, 2, 0, 0},
    {{LAB_CRASH("attach", set_up_unattached, attach_producer, a_fresh_producer_is_refused_or_works, 1)}, NEAR, 0, 0, 0},
};

static const struct row faults[] = {
    {{LAB_CRASH("marks a message before it is written", set_up, send_before_writing, consumer_survives, 1)}, NEAR, 1, 0, 1},
    {{LAB_CRASH("counts a message before it is written", set_up, send_before_writing, consumer_survives, 7)}, BATCHED, 3, 1, 7},
    {{LAB_CRASH("releases what was not sent", set_up, release_what_was_not_sent, producer_survives, 1)}, NEAR, 2, 2, 0},
};

int main(void)
{
    static struct scene scene;
    return lab_crash_main("ring", LAB_CRASH_TABLE(rows), LAB_CRASH_TABLE(faults), &scene);
}
