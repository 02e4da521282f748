#include "tests/check.h"

#include "base/clock.h"
#include "shm/queue.h"

#include <errno.h>
#include <string.h>

/* A queue in memory of this process, every seat of it taken, one thread. */
enum { SEATS = 4 };
struct rig {
    struct lab_queue_config config;
    struct lab_queue_shape shape;
    unsigned char *memory;
    struct lab_queue_producer producer[SEATS];
    struct lab_queue_consumer consumer[SEATS];
};

static struct lab_queue_config config_of(uint32_t message_max, uint32_t window, uint32_t producers, uint32_t consumers, uint32_t batch)
{
    return (struct lab_queue_config){
        .message_max = message_max, .window = window, .producers = producers, .consumers = consumers, .batch = batch, .wait = LAB_WAIT_SPIN,
    };
}

static void rig_init(struct rig *rig, struct lab_queue_config config)
{
    rig->config = config;
    lab_assert_ok(lab_queue_shape(&config, &rig->shape));
    rig->memory = aligned_alloc(LAB_RING_LINE, rig->shape.size);
    assert_non_null(rig->memory);
    memset(rig->memory, 0, rig->shape.size);
    lab_queue_init(rig->memory, &config, &rig->shape);
    for (uint32_t i = 0; i < config.producers && i < SEATS; i++)
        lab_assert_ok(lab_queue_produce(&rig->producer[i], rig->memory, rig->shape.size, &config, i));
    for (uint32_t i = 0; i < config.consumers && i < SEATS; i++)
        lab_assert_ok(lab_queue_consume(&rig->consumer[i], rig->memory, rig->shape.size, &config, i));
}

static void rig_fini(struct rig *rig)
{
    free(rig->memory);
}

/* A message says who sent it and which of its messages it is, in so far as it is long enough; all else follows from that. */
struct label {
    uint32_t sender, number;
};

static unsigned char byte_of(struct label label, uint32_t at)
{
    return (unsigned char)(label.number * 131 + label.sender * 17 + at * 7 + (label.number >> 8));
}

static void write_message(unsigned char *to, uint32_t length, struct label label)
{
    for (uint32_t i = 0; i < length; i++)
        to[i] = i < sizeof label ? ((unsigned char *)&label)[i] : byte_of(label, i);
}

static struct label read_message(const unsigned char *from, uint32_t length)
{
    struct label label;
    assert_true(length >= sizeof label);
    memcpy(&label, from, sizeof label);
    uint32_t wrong = 0;
    for (uint32_t i = sizeof label; i < length; i++)
        wrong += from[i] != byte_of(label, i);
    assert_int_equal(wrong, 0);
    return label;
}

static void fill(const struct lab_span *span, uint32_t sender, uint32_t from)
{
    for (uint32_t m = 0; m < span->count; m++)
        write_message(span->at + m * span->stride, span->length, (struct label){sender, from + m});
}

static void compare(const struct lab_span *span, uint32_t sender, uint32_t from)
{
    for (uint32_t m = 0; m < span->count; m++) {
        struct label label = read_message(span->at + m * span->stride, span->length);
        assert_int_equal(label.sender, sender);
        assert_int_equal(label.number, from + m);
    }
}

/* Every byte of a span lies in the places of one lane. */
static void check_span(const struct rig *rig, const struct lab_span *span)
{
    assert_true(span->count >= 1 && span->length <= rig->config.message_max);
    assert_true(span->at >= rig->memory + rig->shape.lanes_at);
    size_t from = (size_t)(span->at - rig->memory - rig->shape.lanes_at) % rig->shape.lane_size;
    assert_true(from >= rig->shape.ring.places_at);
    assert_true(from + (span->count - 1) * span->stride + span->length <= rig->shape.words_at);
}

static int try_send(struct rig *rig, uint32_t sender, uint32_t number, uint32_t length)
{
    struct lab_span span = {0};
    int err = lab_queue_reserve(&rig->producer[sender], length, 1, 0, &span);
    if (err)
        return err;
    check_span(rig, &span);
    fill(&span, sender, number);
    lab_queue_commit(&rig->producer[sender], 1);
    return 0;
}

/* The length, after every byte was compared. */
static int try_receive(struct rig *rig, uint32_t receiver, uint32_t sender, uint32_t number)
{
    struct lab_span span = {0};
    int err = lab_queue_borrow(&rig->consumer[receiver], 1, 0, &span);
    if (err)
        return err;
    check_span(rig, &span);
    assert_int_equal(span.count, 1);
    compare(&span, sender, number);
    lab_queue_release(&rig->consumer[receiver], 1);
    return (int)span.length;
}

static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*state >> 33) % below);
}

static const struct lab_queue_config configs[] = {
    {.message_max = 8, .window = 1, .producers = 1, .consumers = 1, .batch = 1},
    {.message_max = 8, .window = 2, .producers = 2, .consumers = 2, .batch = 1},
    {.message_max = 48, .window = 3, .producers = 4, .consumers = 1, .batch = 1},
    {.message_max = 56, .window = 64, .producers = 1, .consumers = 4, .batch = 1},
    {.message_max = 64, .window = 64, .producers = 3, .consumers = 4, .batch = 1},
    {.message_max = 64, .window = 65, .producers = 4, .consumers = 4, .batch = 1},
    {.message_max = 8, .window = 500, .producers = 2, .consumers = 3, .batch = 5},
    {.message_max = 64, .window = 1024, .producers = 2, .consumers = 2, .batch = 32},
    {.message_max = 1000, .window = 100, .producers = 4, .consumers = 2, .batch = 100000},
    {.message_max = 70000, .window = 4, .producers = 2, .consumers = 4, .batch = 1},
    {.message_max = 70000, .window = 4, .producers = 2, .consumers = 1, .batch = 3},
};
#define COUNT_OF(table) (sizeof(table) / sizeof *(table))

static void for_each_config(void (*check)(struct rig *rig))
{
    for (size_t i = 0; i < COUNT_OF(configs); i++) {
        static struct rig rig;
        rig_init(&rig, configs[i]);
        check(&rig);
        rig_fini(&rig);
    }
}

/* ---- layout ---- */

static void check_layout(struct rig *rig)
{
    const struct lab_queue_shape *shape = &rig->shape;
    assert_true(shape->sleepers_at >= sizeof(struct lab_queue_shared) + rig->config.consumers * sizeof(struct lab_queue_seat));
    assert_true(shape->lanes_at >= shape->sleepers_at + rig->config.consumers * sizeof(struct lab_sleeper));
    assert_int_equal(shape->lanes_at % LAB_RING_LINE, 0);
    assert_int_equal(shape->lane_size % LAB_RING_LINE, 0);
    assert_true(shape->words_at >= shape->ring.size);
    assert_true(shape->words_at + sizeof(struct lab_queue_lane) + shape->ring.slots * sizeof(uint64_t) <= shape->lane_size);
    assert_int_equal(shape->lanes_at + rig->config.producers * shape->lane_size, shape->size);
}

static void lanes_do_not_overlap(void **state)
{
    (void)state;
    for_each_config(check_layout);
}

static void what_a_queue_cannot_be_is_refused(void **state)
{
    (void)state;
    struct lab_queue_shape shape = {.size = 77};
    static const struct {
        struct lab_queue_config config;
        int code;
    } bad[] = {
        {{.message_max = 0, .window = 1, .producers = 1, .consumers = 1, .batch = 1}, EMSGSIZE},
        {{.message_max = (1u << 30) + 1, .window = 1, .producers = 1, .consumers = 1, .batch = 1}, EMSGSIZE},
        {{.message_max = 8, .window = 0, .producers = 1, .consumers = 1, .batch = 1}, EINVAL},
        {{.message_max = 8, .window = LAB_RING_WINDOW_MAX + 1, .producers = 1, .consumers = 1, .batch = 1}, EINVAL},
        {{.message_max = 8, .window = 1, .producers = 0, .consumers = 1, .batch = 1}, EINVAL},
        {{.message_max = 8, .window = 1, .producers = 1, .consumers = 0, .batch = 1}, EINVAL},
        {{.message_max = 8, .window = 1, .producers = LAB_QUEUE_SEATS + 1, .consumers = 1, .batch = 1}, EINVAL},
        {{.message_max = 8, .window = 1, .producers = 1, .consumers = LAB_QUEUE_SEATS + 1, .batch = 1}, EINVAL},
        {{.message_max = 8, .window = 1, .producers = 1, .consumers = 1, .batch = 0}, EINVAL},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        lab_assert_fails(lab_queue_shape(&bad[i].config, &shape), bad[i].code);
    assert_int_equal(shape.size, 77);
    const struct lab_queue_config largest = config_of(1u << 30, LAB_RING_WINDOW_MAX, LAB_QUEUE_SEATS, LAB_QUEUE_SEATS, 1);
    lab_assert_ok(lab_queue_shape(&largest, &shape));
    assert_true(shape.size >= UINT64_C(1) << 56);
}

static void a_thousand_seats_of_small_windows_fit_a_few_megabytes(void **state)
{
    (void)state;
    const struct lab_queue_config wide = config_of(48, 2, LAB_QUEUE_SEATS, LAB_QUEUE_SEATS, 1);
    struct lab_queue_shape shape;
    lab_assert_ok(lab_queue_shape(&wide, &shape));
    assert_true(shape.size < 2 << 20);
    const struct lab_queue_config deep = config_of(64, 1024, LAB_QUEUE_SEATS, LAB_QUEUE_SEATS, 32);
    lab_assert_ok(lab_queue_shape(&deep, &shape));
    assert_true(shape.size < 100 << 20);
}

static void a_seat_is_taken_once_and_in_a_queue_of_its_config(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 16, 2, 2, 1));
    struct lab_queue_producer producer;
    struct lab_queue_consumer consumer;
    lab_assert_fails(lab_queue_produce(&producer, rig.memory, rig.shape.size, &rig.config, 1), EBUSY);
    lab_assert_fails(lab_queue_consume(&consumer, rig.memory, rig.shape.size, &rig.config, 1), EBUSY);
    lab_assert_fails(lab_queue_produce(&producer, rig.memory, rig.shape.size, &rig.config, 2), EINVAL);
    lab_assert_fails(lab_queue_consume(&consumer, rig.memory, rig.shape.size, &rig.config, 2), EINVAL);
    lab_assert_fails(lab_queue_consume(&consumer, rig.memory, rig.shape.size - 1, &rig.config, 0), EBADMSG);
    struct lab_queue_config other = rig.config;
    other.message_max++;
    lab_assert_fails(lab_queue_consume(&consumer, rig.memory, rig.shape.size, &other, 0), EBADMSG);
    other = rig.config;
    other.wait = LAB_WAIT_FUTEX;
    lab_assert_fails(lab_queue_produce(&producer, rig.memory, rig.shape.size, &other, 0), EBADMSG);
    other = rig.config;
    other.producers = 1;
    lab_assert_fails(lab_queue_consume(&consumer, rig.memory, rig.shape.size, &other, 0), EBADMSG);
    other = rig.config;
    other.consumers = 1;
    lab_assert_fails(lab_queue_consume(&consumer, rig.memory, rig.shape.size, &other, 0), EBADMSG);
    rig_fini(&rig);
}

/* ---- sending and receiving ---- */

static uint32_t some_length(const struct rig *rig, uint32_t number)
{
    uint32_t longest = rig->config.message_max < 300 ? rig->config.message_max : 300;
    return 8 + number * 37 % (longest - 7);
}

static void check_order(struct rig *rig)
{
    uint32_t laps = rig->shape.room > 256 ? 3 : 40;
    for (uint32_t i = 0; i < laps * rig->shape.room; i++) {
        uint32_t sender = i * 7 % rig->config.producers, receiver = i * 5 % rig->config.consumers;
        lab_assert_ok(try_send(rig, sender, i, some_length(rig, i)));
        assert_int_equal(try_receive(rig, receiver, sender, i), some_length(rig, i));
        assert_int_equal(try_receive(rig, (receiver + 1) % rig->config.consumers, sender, i), -EAGAIN);
    }
}

static void messages_come_whole_to_whoever_asks_lap_after_lap(void **state)
{
    (void)state;
    for_each_config(check_order);
}

static void check_full(struct rig *rig)
{
    for (uint32_t sender = 0; sender < rig->config.producers; sender++) {
        uint32_t sent = 0;
        while (try_send(rig, sender, sent, 8) == 0)
            sent++;
        assert_int_equal(sent, rig->shape.room);
        assert_true(sent >= rig->config.window);
    }
    uint32_t next[SEATS] = {0}, received = 0;
    for (uint32_t turn = 0;; turn++, received++) {
        struct lab_span span = {0};
        struct lab_queue_consumer *consumer = &rig->consumer[turn % rig->config.consumers];
        int err = lab_queue_borrow(consumer, 1, 0, &span);
        if (err == -EAGAIN)
            break;
        lab_assert_ok(err);
        struct label label = read_message(span.at, span.length);
        assert_true(label.sender < rig->config.producers);
        assert_int_equal(label.number, next[label.sender]++);
        lab_queue_release(consumer, 1);
    }
    assert_int_equal(received, rig->config.producers * rig->shape.room);
    for (uint32_t sender = 0; sender < rig->config.producers; sender++)
        lab_assert_ok(try_send(rig, sender, 0, 8));
}

static void a_full_queue_and_an_empty_one_say_so(void **state)
{
    (void)state;
    for_each_config(check_full);
}

static void a_lane_that_is_always_full_does_not_starve_the_others(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 1024, 4, 1, 1));
    uint32_t sent = 0, before = 0;
    while (sent < rig.shape.room)
        lab_assert_ok(try_send(&rig, 0, sent++, 8));
    lab_assert_ok(try_send(&rig, 3, 77, 8));
    for (;; before++) {
        struct lab_span span = {0};
        lab_assert_ok(lab_queue_borrow(&rig.consumer[0], 1, 0, &span));
        struct label label = read_message(span.at, span.length);
        lab_queue_release(&rig.consumer[0], 1);
        if (label.sender == 3)
            break;
        (void)try_send(&rig, 0, sent++, 8);
    }
    assert_int_equal(before, LAB_QUEUE_TURN);
    rig_fini(&rig);
}

static void a_message_that_is_too_long_is_refused_and_nothing_is_lent(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 16, 1, 1, 1));
    struct lab_span span = {.count = 99};
    lab_assert_fails(lab_queue_reserve(&rig.producer[0], 65, 1, 0, &span), EMSGSIZE);
    assert_int_equal(span.count, 99);
    assert_int_equal(try_receive(&rig, 0, 0, 0), -EAGAIN);
    lab_assert_ok(try_send(&rig, 0, 0, 64));
    assert_int_equal(try_receive(&rig, 0, 0, 0), 64);
    rig_fini(&rig);
}

static void waiting_ends_at_the_deadline(void **state)
{
    (void)state;
    for (enum lab_wait wait = LAB_WAIT_SPIN; wait <= LAB_WAIT_FUTEX; wait++) {
        struct rig rig;
        struct lab_queue_config config = config_of(64, 1024, 2, 2, 1);
        config.wait = wait;
        rig_init(&rig, config);
        struct lab_span span = {0};
        uint64_t deadline_ns = lab_now_ns() + 2 * LAB_NS_PER_MS;
        assert_int_equal(lab_queue_borrow(&rig.consumer[1], 1, deadline_ns, &span), -EAGAIN);
        assert_true(lab_now_ns() >= deadline_ns);
        for (uint32_t i = 0; i < rig.shape.room; i++)
            lab_assert_ok(try_send(&rig, 1, i, 8));
        deadline_ns = lab_now_ns() + 2 * LAB_NS_PER_MS;
        assert_int_equal(lab_queue_reserve(&rig.producer[1], 8, 1, deadline_ns, &span), -EAGAIN);
        assert_true(lab_now_ns() >= deadline_ns);
        assert_int_equal(try_receive(&rig, 0, 1, 0), 8);
        rig_fini(&rig);
    }
}

/* ---- loans ---- */

static void places_that_are_not_committed_are_lent_again(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 1024, 1, 2, 32));
    struct lab_span first = {0}, second = {0};
    lab_assert_ok(lab_queue_reserve(&rig.producer[0], 40, 32, 0, &first));
    lab_queue_commit(&rig.producer[0], 0);
    assert_int_equal(lab_queue_borrow(&rig.consumer[0], 1, 0, &second), -EAGAIN);
    lab_assert_ok(lab_queue_reserve(&rig.producer[0], 64, 32, 0, &second));
    assert_ptr_equal(first.at, second.at);
    assert_int_equal(second.count, 32);
    fill(&second, 0, 0);
    lab_queue_commit(&rig.producer[0], 3);
    lab_assert_ok(lab_queue_borrow(&rig.consumer[1], 32, 0, &second));
    assert_int_equal(second.count, 3);
    compare(&second, 0, 0);
    lab_queue_release(&rig.consumer[1], 3);
    assert_int_equal(lab_queue_borrow(&rig.consumer[0], 32, 0, &second), -EAGAIN);
    rig_fini(&rig);
}

static void what_one_consumer_holds_the_others_do_not_see(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 1024, 1, 3, 32));
    struct lab_span span[3] = {{0}};
    lab_assert_ok(lab_queue_reserve(&rig.producer[0], 24, 10, 0, &span[0]));
    fill(&span[0], 0, 0);
    lab_queue_commit(&rig.producer[0], 10);
    static const uint32_t want[] = {2, 5, 32}, got[] = {2, 5, 3}, from[] = {0, 2, 7};
    for (uint32_t i = 0; i < 3; i++) {
        lab_assert_ok(lab_queue_borrow(&rig.consumer[i], want[i], 0, &span[i]));
        assert_int_equal(span[i].count, got[i]);
        compare(&span[i], 0, from[i]);
    }
    /* What is not released is borrowed again, by the same consumer and in its order. */
    lab_queue_release(&rig.consumer[1], 0);
    lab_queue_release(&rig.consumer[1], 2);
    lab_queue_release(&rig.consumer[2], 3);
    assert_int_equal(lab_queue_borrow(&rig.consumer[2], 1, 0, &span[2]), -EAGAIN);
    lab_assert_ok(lab_queue_borrow(&rig.consumer[1], 32, 0, &span[1]));
    assert_int_equal(span[1].count, 3);
    compare(&span[1], 0, 4);
    lab_queue_release(&rig.consumer[1], 1);
    lab_assert_ok(lab_queue_borrow(&rig.consumer[1], 1, 0, &span[1]));
    compare(&span[1], 0, 5);
    rig_fini(&rig);
}

/* However runs were split and in whatever order they come back, the producer finds all of its room again. */
static void room_comes_back_in_any_order(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 64, 1, 4, 1));
    uint32_t slots = rig.shape.room, sent = 0;
    for (uint32_t lap = 0; lap < 5; lap++) {
        while (try_send(&rig, 0, sent, 8) == 0)
            sent++;
        assert_int_equal(sent, (lap + 1) * slots);
        struct lab_span span = {0};
        lab_assert_ok(lab_queue_borrow(&rig.consumer[0], 1, 0, &span));
        for (uint32_t i = 1; i < slots; i++)
            assert_int_equal(try_receive(&rig, 1 + i % 3, 0, lap * slots + i), 8);
        /* The first one is still in use: its slot is the next that the producer needs. */
        assert_int_equal(try_send(&rig, 0, sent, 8), -EAGAIN);
        lab_queue_release(&rig.consumer[0], 1);
    }
    rig_fini(&rig);
}

static void one_span_holds_messages_of_one_length(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {8, 8, 8, 9, 9, 8, 64};
    struct rig rig;
    rig_init(&rig, config_of(64, 1024, 1, 2, 100));
    for (uint32_t i = 0; i < COUNT_OF(lengths); i++)
        lab_assert_ok(try_send(&rig, 0, i, lengths[i]));
    static const uint32_t counts[] = {3, 2, 1, 1};
    uint32_t at = 0;
    for (uint32_t i = 0; i < COUNT_OF(counts); i++) {
        struct lab_span span = {0};
        lab_assert_ok(lab_queue_borrow(&rig.consumer[i % 2], 100, 0, &span));
        assert_int_equal(span.count, counts[i]);
        assert_int_equal(span.length, lengths[at]);
        compare(&span, 0, at);
        lab_queue_release(&rig.consumer[i % 2], span.count);
        at += span.count;
    }
    rig_fini(&rig);
}

/* Random loans of everyone, with loans open at the same time, against a ledger of every message. */
static void check_against_ledger(struct rig *rig)
{
    enum { STEPS = 20000 };
    static bool seen[SEATS][STEPS * 50];
    memset(seen, 0, sizeof seen);
    uint64_t seed = rig->config.message_max + rig->config.window * 7 + rig->config.consumers * 31;
    uint32_t sent[SEATS] = {0}, received = 0, held[SEATS] = {0}, total = 0, last[SEATS][SEATS] = {{0}};
    struct lab_span loan[SEATS];
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t sender = draw(&seed, rig->config.producers), receiver = draw(&seed, rig->config.consumers);
        struct lab_span span = {0};
        if (draw(&seed, 2)) {
            uint32_t length = some_length(rig, sent[sender] / 16);
            int err = lab_queue_reserve(&rig->producer[sender], length, draw(&seed, 50) + 1, 0, &span);
            assert_true(err == 0 || err == -EAGAIN);
            if (err)
                continue;
            check_span(rig, &span);
            uint32_t count = draw(&seed, span.count + 1);
            fill(&span, sender, sent[sender]);
            lab_queue_commit(&rig->producer[sender], count);
            sent[sender] += count;
            total += count;
        } else if (held[receiver] == 0) {
            int err = lab_queue_borrow(&rig->consumer[receiver], draw(&seed, 50) + 1, 0, &span);
            assert_true(err == 0 || err == -EAGAIN);
            if (err)
                continue;
            check_span(rig, &span);
            loan[receiver] = span;
            held[receiver] = span.count;
        } else {
            /* Read as late as can be: whoever overwrites a loan is found out. */
            uint32_t count = draw(&seed, held[receiver]) + 1;
            for (uint32_t i = 0; i < count; i++) {
                struct label label = read_message(loan[receiver].at + i * loan[receiver].stride, loan[receiver].length);
                assert_true(label.sender < rig->config.producers && label.number < sent[label.sender]);
                assert_false(seen[label.sender][label.number]);
                seen[label.sender][label.number] = true;
                assert_true(label.number + 1 > last[receiver][label.sender]);
                last[receiver][label.sender] = label.number + 1;
            }
            received += count;
            lab_queue_release(&rig->consumer[receiver], count);
            held[receiver] = 0;
        }
        assert_true(received <= total);
    }
    assert_true(received > 1000);
}

static void random_loans_agree_with_a_ledger(void **state)
{
    (void)state;
    for_each_config(check_against_ledger);
}

/* ---- parties that are gone ---- */

static void what_dead_producers_sent_is_received_first(void **state)
{
    (void)state;
    for (enum lab_wait wait = LAB_WAIT_SPIN; wait <= LAB_WAIT_FUTEX; wait++) {
        struct rig rig;
        struct lab_queue_config config = config_of(64, 1024, 2, 2, 1);
        config.wait = wait;
        rig_init(&rig, config);
        lab_assert_ok(try_send(&rig, 0, 1, 10));
        lab_assert_ok(try_send(&rig, 1, 2, 11));
        struct lab_span span = {0};
        lab_assert_ok(lab_queue_reserve(&rig.producer[0], 10, 1, 0, &span));
        lab_queue_hangup(rig.memory, &config, LAB_QUEUE_PRODUCER, 0);
        lab_queue_hangup(rig.memory, &config, LAB_QUEUE_PRODUCER, 0);
        assert_int_equal(try_receive(&rig, 0, 0, 1), 10);
        assert_int_equal(try_receive(&rig, 1, 1, 2), 11);
        assert_int_equal(lab_queue_borrow(&rig.consumer[0], 1, 0, &span), -EAGAIN);
        lab_assert_ok(try_send(&rig, 1, 3, 12));
        lab_queue_hangup(rig.memory, &config, LAB_QUEUE_PRODUCER, 1);
        lab_queue_hangup(rig.memory, &config, LAB_QUEUE_PRODUCER, 7);
        assert_int_equal(try_receive(&rig, 0, 1, 3), 12);
        for (uint32_t i = 0; i < 2; i++) {
            lab_assert_fails(lab_queue_borrow(&rig.consumer[i], 1, 0, &span), EPIPE);
            lab_assert_fails(lab_queue_borrow(&rig.consumer[i], 1, lab_now_ns() + 3600 * LAB_NS_PER_S, &span), EPIPE);
        }
        assert_int_equal(lab_queue_dropped(rig.memory, &config), 0);
        rig_fini(&rig);
    }
}

static void nothing_is_sent_when_all_consumers_are_gone(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 16, 2, 2, 1));
    lab_queue_hangup(rig.memory, &rig.config, LAB_QUEUE_CONSUMER, 0);
    lab_assert_ok(try_send(&rig, 0, 0, 10));
    lab_queue_hangup(rig.memory, &rig.config, LAB_QUEUE_CONSUMER, 1);
    struct lab_span span = {0};
    for (uint32_t i = 0; i < 2; i++) {
        lab_assert_fails(lab_queue_reserve(&rig.producer[i], 10, 1, 0, &span), EPIPE);
        lab_assert_fails(lab_queue_reserve(&rig.producer[i], 10, 1, lab_now_ns() + 3600 * LAB_NS_PER_S, &span), EPIPE);
    }
    rig_fini(&rig);
}

/* The whole ring is in use, and in it lies a run of a consumer that dies having released a part of it. */
static void what_a_dead_consumer_held_is_dropped_and_its_slots_come_back(void **state)
{
    (void)state;
    enum { BEFORE = 8, RUN = 8, RELEASED = 3 };
    struct rig rig;
    rig_init(&rig, config_of(64, 1024, 2, 3, 8));
    uint32_t slots = rig.shape.room, sent = 0;
    for (uint32_t dying = 0; dying < 2; dying++) {
        uint32_t first = sent;
        while (try_send(&rig, 1, sent, 8) == 0)
            sent++;
        assert_int_equal(sent - first, slots);
        struct lab_span span = {0};
        lab_assert_ok(lab_queue_borrow(&rig.consumer[2], BEFORE, 0, &span));
        lab_queue_release(&rig.consumer[2], BEFORE);
        lab_assert_ok(lab_queue_borrow(&rig.consumer[dying], RUN, 0, &span));
        assert_int_equal(span.count, RUN);
        lab_queue_release(&rig.consumer[dying], RELEASED);
        for (uint32_t next = first + BEFORE + RUN; next < sent; next += span.count) {
            lab_assert_ok(lab_queue_borrow(&rig.consumer[2], 8, 0, &span));
            compare(&span, 1, next);
            lab_queue_release(&rig.consumer[2], span.count);
        }
        for (uint32_t i = 0; i < BEFORE + RELEASED; i++)
            lab_assert_ok(try_send(&rig, 1, sent + i, 8));
        assert_int_equal(try_send(&rig, 1, 0, 8), -EAGAIN);
        lab_queue_hangup(rig.memory, &rig.config, LAB_QUEUE_CONSUMER, dying);
        lab_queue_hangup(rig.memory, &rig.config, LAB_QUEUE_CONSUMER, dying);
        assert_int_equal(lab_queue_dropped(rig.memory, &rig.config), (RUN - RELEASED) * (dying + 1));
        for (uint32_t i = BEFORE + RELEASED; i < slots; i++)
            lab_assert_ok(try_send(&rig, 1, sent + i, 8));
        assert_int_equal(try_send(&rig, 1, 0, 8), -EAGAIN);
        for (uint32_t i = 0; i < slots; i++)
            assert_int_equal(try_receive(&rig, 2, 1, sent + i), 8);
        sent += slots;
    }
    rig_fini(&rig);
}

/* ---- parties that write what cannot be ---- */

static void check_garbage_in(struct rig *rig, size_t from, size_t to, uint64_t *seed)
{
    for (size_t at = from; at < to; at++)
        if (draw(seed, 3) == 0)
            rig->memory[at] = (unsigned char)draw(seed, 256);
    for (uint32_t i = 0; i < 40; i++) {
        struct lab_span span = {0};
        uint32_t sender = draw(seed, rig->config.producers), receiver = draw(seed, rig->config.consumers);
        int err = lab_queue_borrow(&rig->consumer[receiver], draw(seed, 40) + 1, 0, &span);
        assert_true(err == 0 || err == -EAGAIN || err == -EPIPE || err == -EBADMSG);
        if (err == 0) {
            check_span(rig, &span);
            lab_queue_release(&rig->consumer[receiver], draw(seed, span.count + 1));
        }
        err = lab_queue_reserve(&rig->producer[sender], 8, draw(seed, 40) + 1, 0, &span);
        assert_true(err == 0 || err == -EAGAIN || err == -EPIPE || err == -EBADMSG);
        if (err == 0) {
            check_span(rig, &span);
            lab_queue_commit(&rig->producer[sender], span.count);
        }
    }
}

static void whatever_is_written_no_memory_outside_is_lent(void **state)
{
    (void)state;
    static struct rig rig;
    uint64_t seed = 1;
    for (uint32_t times = 0; times < 300; times++) {
        uint32_t batch = times % 3 ? 32 : 1;
        rig_init(&rig, config_of(64, times % 2 ? 100 : 60, 2, 2, batch));
        size_t lane = rig.shape.lanes_at + draw(&seed, 2) * rig.shape.lane_size, words = lane + rig.shape.words_at;
        size_t ring = sizeof(struct lab_ring_shared);
        for (uint32_t i = 0; i < 50; i++)
            (void)try_send(&rig, i % 2, i, 8);
        switch (times % 5) {
        case 0: check_garbage_in(&rig, 0, rig.shape.lanes_at, &seed); break;
        case 1: check_garbage_in(&rig, lane, lane + ring, &seed); break;
        case 2: check_garbage_in(&rig, lane + ring, words < lane + ring + 4096 ? words : lane + ring + 4096, &seed); break;
        case 3: check_garbage_in(&rig, words, lane + rig.shape.lane_size, &seed); break;
        default: check_garbage_in(&rig, lane, lane + rig.shape.lane_size, &seed); break;
        }
        for (uint32_t seat = 0; seat < 2; seat++) {
            lab_queue_hangup(rig.memory, &rig.config, LAB_QUEUE_CONSUMER, seat);
            lab_queue_hangup(rig.memory, &rig.config, LAB_QUEUE_PRODUCER, seat);
        }
        rig_fini(&rig);
    }
}

static void a_count_that_cannot_be_is_refused(void **state)
{
    (void)state;
    static const uint64_t counts[] = {UINT64_MAX, UINT64_C(1) << 63, UINT64_C(1) << 20};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        struct rig rig;
        rig_init(&rig, config_of(64, 1024, 2, 2, 1));
        lab_assert_ok(try_send(&rig, 0, 0, 8));
        assert_int_equal(try_receive(&rig, 0, 0, 0), 8);
        atomic_store(&rig.producer[0].ring.view.shared->committed, counts[i]);
        struct lab_span span = {.count = 99};
        lab_assert_fails(lab_queue_borrow(&rig.consumer[0], 1, 0, &span), EBADMSG);
        lab_assert_fails(lab_queue_borrow(&rig.consumer[1], 1, 0, &span), EBADMSG);
        assert_int_equal(span.count, 99);
        rig_fini(&rig);
    }
}

static void a_length_that_cannot_be_is_refused(void **state)
{
    (void)state;
    static const uint32_t windows[] = {2, 1024};
    for (size_t i = 0; i < COUNT_OF(windows); i++) {
        struct rig rig;
        rig_init(&rig, config_of(64, windows[i], 1, 2, 1));
        lab_assert_ok(try_send(&rig, 0, 0, 8));
        const struct lab_ring_view *ring = &rig.producer[0].ring.view;
        if (ring->lengths)
            atomic_store(&ring->lengths[0], 65);
        else
            atomic_store(lab_ring_mark(ring, 0), lab_ring_mark_of(0, 65));
        struct lab_span span = {.count = 99};
        lab_assert_fails(lab_queue_borrow(&rig.consumer[1], 1, 0, &span), EBADMSG);
        assert_int_equal(span.count, 99);
        rig_fini(&rig);
    }
}

static void a_run_that_cannot_be_is_refused(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 4, 1, 1, 1));
    const struct lab_queue_view *view = &rig.producer[0].view;
    for (uint32_t i = 0; i < 4; i++)
        lab_assert_ok(try_send(&rig, 0, i, 8));
    struct lab_span span = {.count = 99};
    /* More messages than were sent; a run of the lap after this one. */
    atomic_store(lab_queue_claim_at(view, 0), lab_queue_claim_of(view, 0, 0, 5) | LAB_QUEUE_RELEASED);
    lab_assert_fails(lab_queue_reserve(&rig.producer[0], 8, 1, 0, &span), EBADMSG);
    atomic_store(lab_queue_claim_at(view, 0), lab_queue_claim_of(view, 4, 0, 1));
    lab_assert_fails(lab_queue_reserve(&rig.producer[0], 8, 1, 0, &span), EBADMSG);
    lab_assert_fails(lab_queue_borrow(&rig.consumer[0], 1, 0, &span), EBADMSG);
    assert_int_equal(span.count, 99);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_do_not_overlap),
        cmocka_unit_test(what_a_queue_cannot_be_is_refused),
        cmocka_unit_test(a_thousand_seats_of_small_windows_fit_a_few_megabytes),
        cmocka_unit_test(a_seat_is_taken_once_and_in_a_queue_of_its_config),
        cmocka_unit_test(messages_come_whole_to_whoever_asks_lap_after_lap),
        cmocka_unit_test(a_full_queue_and_an_empty_one_say_so),
        cmocka_unit_test(a_lane_that_is_always_full_does_not_starve_the_others),
        cmocka_unit_test(a_message_that_is_too_long_is_refused_and_nothing_is_lent),
        cmocka_unit_test(waiting_ends_at_the_deadline),
        cmocka_unit_test(places_that_are_not_committed_are_lent_again),
        cmocka_unit_test(what_one_consumer_holds_the_others_do_not_see),
        cmocka_unit_test(room_comes_back_in_any_order),
        cmocka_unit_test(one_span_holds_messages_of_one_length),
        cmocka_unit_test(random_loans_agree_with_a_ledger),
        cmocka_unit_test(what_dead_producers_sent_is_received_first),
        cmocka_unit_test(nothing_is_sent_when_all_consumers_are_gone),
        cmocka_unit_test(what_a_dead_consumer_held_is_dropped_and_its_slots_come_back),
        cmocka_unit_test(whatever_is_written_no_memory_outside_is_lent),
        cmocka_unit_test(a_count_that_cannot_be_is_refused),
        cmocka_unit_test(a_length_that_cannot_be_is_refused),
        cmocka_unit_test(a_run_that_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
