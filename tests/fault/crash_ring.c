/* Either side of a ring is killed at every single instruction of everything that it does; the other side goes on. */
#include "tests/stepper.h"

#include "base/clock.h"
#include "shm/ring.h"

#include <pthread.h>
#include <sys/mman.h>

enum { WITHIN_S = 20, SLEEP_US = 200 };

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

static void set_up(void *subject)
{
    struct scene *scene = subject;
    const struct row *row = scene->row;
    *scene = (struct scene){.row = row};
    lab_assert_ok(lab_ring_shape(&row->config, &scene->shape));
    scene->memory = mmap(NULL, scene->shape.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(scene->memory, MAP_FAILED);
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

static void set_up_unattached(void *subject)
{
    struct scene *scene = subject;
    set_up(scene);
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
    send_some(&scene->producer, 8, 1, lab_now_ns() + SLEEP_US * LAB_NS_PER_US);
}

static void wait_for_messages(void *subject)
{
    struct scene *scene = subject;
    receive_some(&scene->consumer, 1, lab_now_ns() + SLEEP_US * LAB_NS_PER_US);
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
static void no_one_attaches_again(struct scene *scene)
{
    struct lab_ring_producer producer;
    struct lab_ring_consumer consumer;
    lab_assert_fails(lab_ring_produce(&producer, scene->memory, scene->shape.size, &scene->row->config), EBUSY);
    lab_assert_fails(lab_ring_consume(&consumer, scene->memory, scene->shape.size, &scene->row->config), EBUSY);
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

static void go_on(struct scene *scene, enum lab_ring_side dead, void *(*survive)(void *))
{
    lab_ring_hangup(scene->memory, dead);
    if (scene->survives)
        pthread_join(scene->survivor, NULL);
    else
        survive(scene);
    assert_int_equal(scene->outcome, -EPIPE);
}

/* Everything that was committed, whole and in order, and then -EPIPE, again and again. */
static uint32_t consumer_survives(void *subject)
{
    struct scene *scene = subject;
    go_on(scene, LAB_RING_PRODUCER, receive_until_the_end);
    assert_true(scene->received >= scene->row->sent);
    assert_int_equal(receive_some(&scene->consumer, 1, soon()), -EPIPE);
    no_one_attaches_again(scene);
    return (uint32_t)scene->received - scene->row->sent;
}

/* -EPIPE, and what was released can be seen: the position of the dead is one that can be. */
static uint32_t producer_survives(void *subject)
{
    struct scene *scene = subject;
    uint64_t released = atomic_load(&scene->producer.view.shared->released);
    go_on(scene, LAB_RING_CONSUMER, send_until_the_end);
    assert_int_equal(send_some(&scene->producer, 8, 1, soon()), -EPIPE);
    no_one_attaches_again(scene);
    assert_true(released <= scene->row->sent && released >= scene->row->received / scene->consumer.lazy * scene->consumer.lazy);
    return (uint32_t)(released - scene->row->received / scene->consumer.lazy * scene->consumer.lazy);
}

/* The place of one that was killed while it attached is free or taken; the other side gets on with either. */
static uint32_t a_fresh_producer_is_refused_or_works(void *subject)
{
    struct scene *scene = subject;
    struct lab_ring_producer fresh;
    int err = lab_ring_produce(&fresh, scene->memory, scene->shape.size, &scene->row->config);
    if (err == 0)
        assert_int_equal(send_some(&fresh, 8, 1, 0), 1);
    else
        assert_int_equal(err, -EBUSY);
    go_on(scene, LAB_RING_PRODUCER, receive_until_the_end);
    assert_int_equal(scene->received, err == 0);
    no_one_attaches_again(scene);
    return err != 0;
}

/* ---- operations ---- */

#define CRASH(name, operate, meanwhile, survive, all) {name, set_up, operate, meanwhile, survive, tear_down, all}
#define NEAR {.message_max = 48, .window = 2, .batch = 1, .wait = LAB_WAIT_SPIN}
#define FAR {.message_max = 1000, .window = 1, .batch = 1, .wait = LAB_WAIT_SPIN}
#define COUNTED {.message_max = 64, .window = 1024, .batch = 1, .wait = LAB_WAIT_SPIN}
#define BATCHED {.message_max = 64, .window = 1024, .batch = 32, .wait = LAB_WAIT_SPIN}
#define SLEEPY {.message_max = 48, .window = 2, .batch = 1, .wait = LAB_WAIT_FUTEX}
#define SLEEPY_COUNTED {.message_max = 64, .window = 1024, .batch = 32, .wait = LAB_WAIT_FUTEX}
enum { LAZY = 16384 }; /* of the counted rings here: the position is published once in so many messages */

static const struct row rows[] = {
    {CRASH("reserve, commit: marked, 48 bytes", send, NULL, consumer_survives, 1), NEAR, 1, 0, 1},
    {CRASH("reserve, commit: marked, 1000 bytes", send, NULL, consumer_survives, 1), FAR, 1, 1, 1},
    {CRASH("reserve, commit: counted", send, NULL, consumer_survives, 1), COUNTED, 3, 1, 1},
    {CRASH("reserve, commit: counted, 7 at a time", send, NULL, consumer_survives, 7), BATCHED, 3, 1, 7},
    {CRASH("reserve, commit: nobody sleeps", send, NULL, consumer_survives, 1), SLEEPY, 1, 0, 1},
    {CRASH("reserve, commit, wake: marked, to a sleeper", send, a_consumer_sleeps, consumer_survives, 1), SLEEPY, 1, 1, 1},
    {CRASH("reserve, commit, wake: counted, to a sleeper", send, a_consumer_sleeps, consumer_survives, 7), SLEEPY_COUNTED, 3, 3, 7},
    {CRASH("reserve: asleep in a full ring", wait_for_room, NULL, consumer_survives, 0), SLEEPY, 2, 0, 0},
    {CRASH("borrow, release: marked, 48 bytes", receive, NULL, producer_survives, 1), NEAR, 2, 0, 1},
    {CRASH("borrow, release: marked, 1000 bytes", receive, NULL, producer_survives, 1), FAR, 2, 1, 1},
    {CRASH("borrow, release: counted, not published", receive, NULL, producer_survives, 0), COUNTED, 3, 1, 1},
    {CRASH("borrow, release: counted, published", receive, NULL, producer_survives, LAZY), COUNTED, LAZY + 1, LAZY - 1, 1},
    {CRASH("borrow, release: counted, 7 at a time, published", receive, NULL, producer_survives, LAZY + 4), BATCHED, LAZY + 8, LAZY - 3, 7},
    {CRASH("borrow, release, wake: to a sleeper", receive, a_producer_sleeps, producer_survives, 1), SLEEPY, 2, 0, 1},
    {CRASH("borrow: asleep at an empty ring", wait_for_messages, NULL, producer_survives, 0), SLEEPY, 2, 2, 0},
    {CRASH("hangup of the producer", close_producer, NULL, consumer_survives, 0), NEAR, 2, 1, 0},
    {CRASH("hangup of the producer, wake", close_producer, a_consumer_sleeps, consumer_survives, 0), SLEEPY, 2, 2, 0},
    {CRASH("hangup of the consumer, wake", close_consumer, a_producer_sleeps, producer_survives, 0), SLEEPY, 2, 0, 0},
    {{"attach", set_up_unattached, attach_producer, NULL, a_fresh_producer_is_refused_or_works, tear_down, 1}, NEAR, 0, 0, 0},
};
enum { ROWS = sizeof rows / sizeof *rows };

static void survivors_go_on_wherever_the_other_is_killed(void **state)
{
    (void)state;
    uint32_t instructions = 0;
    lab_stay_on_this_cpu();
    for (int i = 0; i < ROWS; i++) {
        struct scene scene = {.row = &rows[i]};
        instructions += lab_crash_at_every_instruction(&rows[i].crash, &scene);
    }
    print_message("%d operations, %u instructions, each of them somebody's last\n", ROWS, instructions);
}

int main(void)
{
    const char *why_not = lab_why_not_step();
    if (why_not)
        lab_test_skip_all(why_not);
    const struct CMUnitTest tests[] = {cmocka_unit_test(survivors_go_on_wherever_the_other_is_killed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
