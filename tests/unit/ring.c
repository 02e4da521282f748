#include "tests/check.h"

#include "base/clock.h"
#include "shm/ring.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/* A ring in memory of this process, both sides of it, one thread. */
struct rig {
    struct lab_ring_config config;
    struct lab_ring_shape shape;
    unsigned char *memory;
    struct lab_ring_producer producer;
    struct lab_ring_consumer consumer;
    struct lab_bells bells[2];
};

static const enum lab_wait waits[] = {LAB_WAIT_SPIN, LAB_WAIT_YIELD, LAB_WAIT_ADAPTIVE, LAB_WAIT_FUTEX, LAB_WAIT_POLL};
enum { WAITS = sizeof waits / sizeof *waits };

static struct lab_ring_config config_of(uint32_t message_max, uint32_t window, uint32_t batch)
{
    return (struct lab_ring_config){.message_max = message_max, .window = window, .batch = batch, .wait = LAB_WAIT_SPIN};
}

static void rig_init(struct rig *rig, struct lab_ring_config config)
{
    rig->config = config;
    lab_assert_ok(lab_ring_shape(&config, &rig->shape));
    rig->memory = aligned_alloc(LAB_RING_LINE, rig->shape.size);
    assert_non_null(rig->memory);
    memset(rig->memory, 0, rig->shape.size);
    lab_ring_init(rig->memory, &config, &rig->shape);
    lab_assert_ok(lab_bells_make(rig->bells));
    config.bells = rig->bells[LAB_RING_PRODUCER];
    lab_assert_ok(lab_ring_produce(&rig->producer, rig->memory, rig->shape.size, &config));
    config.bells = rig->bells[LAB_RING_CONSUMER];
    lab_assert_ok(lab_ring_consume(&rig->consumer, rig->memory, rig->shape.size, &config));
}

static void rig_fini(struct rig *rig)
{
    lab_bells_close(&rig->bells[0]);
    lab_bells_close(&rig->bells[1]);
    free(rig->memory);
}

static unsigned char byte_of(uint64_t number, uint32_t at)
{
    return (unsigned char)(number * 131 + at * 7 + (number >> 8));
}

static void fill(struct lab_span *span, uint64_t from)
{
    for (uint32_t m = 0; m < span->count; m++)
        for (uint32_t i = 0; i < span->length; i++)
            span->at[m * span->stride + i] = byte_of(from + m, i);
}

static void compare(const struct lab_span *span, uint64_t from)
{
    uint32_t wrong = 0;
    for (uint32_t m = 0; m < span->count; m++)
        for (uint32_t i = 0; i < span->length; i++)
            wrong += span->at[m * span->stride + i] != byte_of(from + m, i);
    assert_int_equal(wrong, 0);
}

/* Every byte of a span lies in the places. */
static void check_span(const struct rig *rig, const struct lab_span *span)
{
    const unsigned char *first = rig->memory + rig->shape.places_at;
    assert_true(span->count >= 1 && span->length <= rig->shape.message_max);
    assert_true(span->at >= first);
    assert_true(span->at + (span->count - 1) * span->stride + span->length <= rig->memory + rig->shape.size);
}

static int try_send(struct rig *rig, uint64_t number, uint32_t length)
{
    struct lab_span span = {0};
    int err = lab_ring_reserve(&rig->producer, length, 1, 0, &span);
    if (err)
        return err;
    check_span(rig, &span);
    fill(&span, number);
    lab_ring_commit(&rig->producer, 1);
    return 0;
}

/* The length, after every byte was compared. */
static int try_receive(struct rig *rig, uint64_t number)
{
    struct lab_span span = {0};
    int err = lab_ring_borrow(&rig->consumer, 1, 0, &span);
    if (err)
        return err;
    check_span(rig, &span);
    assert_int_equal(span.count, 1);
    compare(&span, number);
    lab_ring_release(&rig->consumer, 1);
    return (int)span.length;
}

static const uint32_t sizes[] = {1, 8, 48, 56, 57, 64, 65, 100, 1000, 5000, 70000};
static const uint32_t windows[] = {1, 2, 3, 16, 63, 64, 65, 100, 1024, 4000};
static const uint32_t batches[] = {1, 2, 5, 32, 100000};
#define COUNT_OF(table) (sizeof(table) / sizeof *(table))

/* One thread by itself says little to ThreadSanitizer, at thirty times the cost. */
#ifdef __SANITIZE_THREAD__
enum { LARGEST = 1 << 20, BATCHES = 3, EVERY = 11 };
#else
enum { LARGEST = 16 << 20, BATCHES = COUNT_OF(batches), EVERY = 1 };
#endif

static void for_each_config(void (*check)(struct rig *rig))
{
    uint32_t number = 0;
    for (size_t s = 0; s < COUNT_OF(sizes); s++)
        for (size_t w = 0; w < COUNT_OF(windows); w++)
            for (size_t b = 0; b < BATCHES; b++) {
                if ((uint64_t)sizes[s] * windows[w] > LARGEST || (sizes[s] > 64 && batches[b] > 32) ||
                    number++ % EVERY)
                    continue;
                struct rig rig;
                rig_init(&rig, config_of(sizes[s], windows[w], batches[b]));
                check(&rig);
                rig_fini(&rig);
            }
}

/* ---- layout ---- */

/* Where the mark of a place is, of a marked ring. */
static size_t mark_at(const struct lab_ring_shape *shape, uint32_t slot)
{
    return shape->places_at + (size_t)slot * shape->stride - sizeof(uint64_t);
}

static void check_layout(struct rig *rig)
{
    const struct lab_ring_shape *shape = &rig->shape;
    assert_true(shape->slots >= rig->config.window);
    assert_int_equal(shape->slots & (shape->slots - 1), 0);
    assert_int_equal(shape->places_at % 8, 0);
    assert_true(shape->places_at + (size_t)(shape->slots - 1) * shape->stride + shape->message_max <= shape->size);
    if (shape->marked) {
        assert_true(mark_at(shape, 0) >= sizeof(struct lab_ring_shared));
        assert_true(shape->places_at + shape->message_max <= mark_at(shape, 1));
    } else {
        assert_true(shape->lengths_at >= sizeof(struct lab_ring_shared));
        assert_true(shape->lengths_at + shape->slots * sizeof(uint32_t) <= shape->places_at);
        assert_true(shape->stride >= shape->message_max);
    }
}

static void what_is_published_and_messages_do_not_overlap(void **state)
{
    (void)state;
    for_each_config(check_layout);
}

static void a_short_message_shares_one_line_with_its_mark(void **state)
{
    (void)state;
    for (uint32_t size = 1; size <= 56; size++) {
        struct lab_ring_config config = config_of(size, 2, 1);
        struct lab_ring_shape shape;
        lab_assert_ok(lab_ring_shape(&config, &shape));
        assert_true(shape.marked);
        for (uint32_t slot = 0; slot < shape.slots; slot++) {
            size_t end = shape.places_at + slot * shape.stride + size - 1;
            assert_int_equal(mark_at(&shape, slot) / 64, end / 64);
        }
    }
}

static void what_a_ring_cannot_be_is_refused(void **state)
{
    (void)state;
    struct lab_ring_shape shape = {.slots = 77};
    const struct lab_ring_config long_ = config_of((1u << 30) + 1, 2, 1), empty = config_of(0, 2, 1), closed = config_of(8, 0, 1),
                                 deep = config_of(8, LAB_RING_WINDOW_MAX + 1, 1), still = config_of(8, 2, 0);
    lab_assert_fails(lab_ring_shape(&long_, &shape), EMSGSIZE);
    lab_assert_fails(lab_ring_shape(&empty, &shape), EMSGSIZE);
    lab_assert_fails(lab_ring_shape(&closed, &shape), EINVAL);
    lab_assert_fails(lab_ring_shape(&deep, &shape), EINVAL);
    lab_assert_fails(lab_ring_shape(&still, &shape), EINVAL);
    assert_int_equal(shape.slots, 77);
    const struct lab_ring_config largest = config_of(1u << 30, LAB_RING_WINDOW_MAX, 1);
    lab_assert_ok(lab_ring_shape(&largest, &shape));
    assert_true(shape.size >= (UINT64_C(1) << 46));
}

static void a_side_is_attached_once_and_to_a_ring_of_its_config(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 16, 1));
    struct lab_ring_config other = rig.config;
    struct lab_ring_producer producer;
    struct lab_ring_consumer consumer;
    lab_assert_fails(lab_ring_produce(&producer, rig.memory, rig.shape.size, &other), EBUSY);
    lab_assert_fails(lab_ring_consume(&consumer, rig.memory, rig.shape.size, &other), EBUSY);
    lab_assert_fails(lab_ring_consume(&consumer, rig.memory, rig.shape.size - 1, &other), EBADMSG);
    other.message_max++;
    lab_assert_fails(lab_ring_consume(&consumer, rig.memory, rig.shape.size, &other), EBADMSG);
    other = rig.config;
    other.wait = LAB_WAIT_FUTEX;
    lab_assert_fails(lab_ring_consume(&consumer, rig.memory, rig.shape.size, &other), EBADMSG);
    other = rig.config;
    other.batch = 2;
    lab_assert_fails(lab_ring_consume(&consumer, rig.memory, rig.shape.size, &other), EBADMSG);
    rig_fini(&rig);
}

static void how_long_adaptive_polls_is_what_the_config_says(void **state)
{
    (void)state;
    for (uint64_t spin_ns = 0; spin_ns < 3; spin_ns++) {
        struct rig rig;
        struct lab_ring_config config = config_of(64, 16, 1);
        config.wait = LAB_WAIT_ADAPTIVE;
        config.spin_ns = spin_ns;
        rig_init(&rig, config);
        uint64_t wanted = spin_ns ? spin_ns : lab_wait_plan(LAB_WAIT_ADAPTIVE).spin_ns;
        assert_int_equal(rig.producer.view.plan.spin_ns, wanted);
        assert_int_equal(rig.consumer.view.plan.spin_ns, wanted);
        rig_fini(&rig);
    }
}

/* ---- sending and receiving ---- */

static void check_order(struct rig *rig)
{
    uint32_t laps = rig->shape.slots > 256 ? 3 : 40;
    for (uint64_t i = 0; i < (uint64_t)laps * rig->shape.slots; i++) {
        uint32_t length = (uint32_t)(i * 37 % rig->shape.message_max) % 300 + (i % 7 == 0 ? 0 : 1);
        if (length > rig->shape.message_max)
            length = rig->shape.message_max;
        lab_assert_ok(try_send(rig, i, length));
        assert_int_equal(try_receive(rig, i), length);
        assert_int_equal(try_receive(rig, i), -EAGAIN);
    }
}

static void messages_come_whole_and_in_order_lap_after_lap(void **state)
{
    (void)state;
    for_each_config(check_order);
}

/* However late the consumer tells that it has released: a window's worth can always be sent. */
static void check_window(struct rig *rig)
{
    uint32_t window = rig->config.window, length = rig->shape.message_max < 32 ? rig->shape.message_max : 32;
    uint64_t sent = 0, received = 0;
    assert_true(window > 0);
    for (uint32_t round = 0; round < 10; round++) {
        while (sent - received < window)
            lab_assert_ok(try_send(rig, sent++, length));
        uint32_t some = round * 7 % window + 1;
        for (uint32_t i = 0; i < some; i++)
            assert_int_equal(try_receive(rig, received++), length);
    }
}

static void a_window_of_messages_always_fits(void **state)
{
    (void)state;
    for_each_config(check_window);
}

static void check_full(struct rig *rig)
{
    uint32_t sent = 0;
    while (try_send(rig, sent, 1) == 0)
        sent++;
    assert_int_equal(sent, rig->shape.slots);
    assert_int_equal(try_send(rig, sent, 1), -EAGAIN);
    for (uint32_t i = 0; i < sent; i++)
        assert_int_equal(try_receive(rig, i), 1);
    assert_int_equal(try_receive(rig, sent), -EAGAIN);
    lab_assert_ok(try_send(rig, sent, 1));
    assert_int_equal(try_receive(rig, sent), 1);
}

static void a_full_ring_and_an_empty_one_say_so(void **state)
{
    (void)state;
    for_each_config(check_full);
}

static void a_message_that_is_too_long_is_refused_and_nothing_is_lent(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 16, 1));
    struct lab_span span = {.count = 99};
    lab_assert_fails(lab_ring_reserve(&rig.producer, 65, 1, 0, &span), EMSGSIZE);
    assert_int_equal(span.count, 99);
    assert_int_equal(try_receive(&rig, 0), -EAGAIN);
    lab_assert_ok(try_send(&rig, 0, 64));
    assert_int_equal(try_receive(&rig, 0), 64);
    rig_fini(&rig);
}

static void waiting_ends_at_the_deadline(void **state)
{
    (void)state;
    for (int w = 0; w < WAITS; w++) {
        struct rig rig;
        struct lab_ring_config config = config_of(64, 1024, 1);
        config.wait = waits[w];
        rig_init(&rig, config);
        struct lab_span span = {0};
        uint64_t deadline_ns = lab_now_ns() + 2 * LAB_NS_PER_MS;
        assert_int_equal(lab_ring_borrow(&rig.consumer, 1, deadline_ns, &span), -EAGAIN);
        assert_true(lab_now_ns() >= deadline_ns);
        for (uint32_t i = 0; i < rig.shape.slots; i++)
            lab_assert_ok(try_send(&rig, i, 8));
        deadline_ns = lab_now_ns() + 2 * LAB_NS_PER_MS;
        assert_int_equal(lab_ring_reserve(&rig.producer, 8, 1, deadline_ns, &span), -EAGAIN);
        assert_true(lab_now_ns() >= deadline_ns);
        assert_int_equal(try_receive(&rig, 0), 8);
        rig_fini(&rig);
    }
}

/* ---- loans ---- */

static void places_that_are_not_committed_are_lent_again(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 1024, 32));
    struct lab_span first = {0}, second = {0};
    lab_assert_ok(lab_ring_reserve(&rig.producer, 40, 32, 0, &first));
    lab_ring_commit(&rig.producer, 0);
    lab_assert_ok(lab_ring_reserve(&rig.producer, 64, 32, 0, &second));
    assert_ptr_equal(first.at, second.at);
    assert_int_equal(second.count, 32);
    fill(&second, 0);
    lab_ring_commit(&rig.producer, 3);
    lab_assert_ok(lab_ring_reserve(&rig.producer, 64, 1, 0, &first));
    assert_ptr_equal(first.at, second.at + 3 * second.stride);
    lab_assert_ok(lab_ring_borrow(&rig.consumer, 32, 0, &second));
    assert_int_equal(second.count, 3);
    compare(&second, 0);
    lab_ring_release(&rig.consumer, 3);
    assert_int_equal(lab_ring_borrow(&rig.consumer, 32, 0, &second), -EAGAIN);
    rig_fini(&rig);
}

static void messages_that_are_not_released_are_borrowed_again(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 1024, 32));
    struct lab_span span = {0};
    lab_assert_ok(lab_ring_reserve(&rig.producer, 24, 10, 0, &span));
    fill(&span, 0);
    lab_ring_commit(&rig.producer, 10);
    lab_assert_ok(lab_ring_borrow(&rig.consumer, 32, 0, &span));
    assert_int_equal(span.count, 10);
    lab_ring_release(&rig.consumer, 0);
    lab_assert_ok(lab_ring_borrow(&rig.consumer, 6, 0, &span));
    assert_int_equal(span.count, 6);
    compare(&span, 0);
    lab_ring_release(&rig.consumer, 4);
    lab_assert_ok(lab_ring_borrow(&rig.consumer, 32, 0, &span));
    assert_int_equal(span.count, 6);
    compare(&span, 4);
    rig_fini(&rig);
}

static void one_span_holds_messages_of_one_length(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {8, 8, 8, 9, 9, 8, 64};
    struct rig rig;
    rig_init(&rig, config_of(64, 1024, 1));
    for (uint32_t i = 0; i < COUNT_OF(lengths); i++)
        lab_assert_ok(try_send(&rig, i, lengths[i]));
    static const uint32_t counts[] = {3, 2, 1, 1};
    uint32_t at = 0;
    for (uint32_t i = 0; i < COUNT_OF(counts); i++) {
        struct lab_span span = {0};
        lab_assert_ok(lab_ring_borrow(&rig.consumer, 100, 0, &span));
        assert_int_equal(span.count, counts[i]);
        assert_int_equal(span.length, lengths[at]);
        compare(&span, at);
        lab_ring_release(&rig.consumer, span.count);
        at += span.count;
    }
    rig_fini(&rig);
}

/* What is said of a whole lap at once holds for those who lag as well: messages of the old length, unread, in front of one of another. */
static void a_lap_of_one_length_is_told_and_taken_back(void **state)
{
    (void)state;
    enum { LAG = 5, MORE = 3 };
    struct rig rig;
    rig_init(&rig, config_of(64, 1024, 32));
    const _Atomic uint32_t *even = &rig.producer.view.shared->even;
    uint32_t sent = 0, received = 0;
    for (int time = 0; time < 2; time++) {
        for (uint32_t i = 0; i < 2 * rig.shape.slots; i++) {
            lab_assert_ok(try_send(&rig, sent++, 8));
            if (sent - received > LAG)
                assert_int_equal(try_receive(&rig, received++), 8);
        }
        assert_int_equal(*even, 8);
        uint32_t other = sent;
        lab_assert_ok(try_send(&rig, sent++, 9));
        assert_int_equal(*even, 0);
        for (int i = 0; i < MORE; i++)
            lab_assert_ok(try_send(&rig, sent++, 8));
        for (; received < sent; received++)
            assert_int_equal(try_receive(&rig, received), received == other ? 9 : 8);
    }
    rig_fini(&rig);
}

/* Places are lent ahead once a lap had one length: each message is there as soon as it was told, and none before. */
static void messages_lent_ahead_are_sent_one_by_one(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 1024, 1));
    struct lab_span span = {0};
    struct lab_tally tally;
    uint32_t sent = 0, received = 0;
    for (; sent < rig.shape.slots + 1; sent++) {
        lab_assert_ok(lab_ring_reserve_ahead(&rig.producer, 48, 100, 0, &span, &tally));
        if (tally.sent)
            break;
        assert_int_equal(span.count, 1);
        fill(&span, sent);
        lab_ring_commit(&rig.producer, 1);
        assert_int_equal(try_receive(&rig, received++), 48);
    }
    assert_int_equal(sent, rig.shape.slots);
    for (int time = 0; time < 200; time++) {
        lab_assert_ok(lab_ring_reserve_ahead(&rig.producer, 48, 100, 0, &span, &tally));
        assert_true(tally.sent && span.count > 1);
        check_span(&rig, &span);
        uint32_t some = (uint32_t)time % span.count;
        fill(&span, sent);
        for (uint32_t i = 0; i < some; i++) {
            assert_int_equal(try_receive(&rig, received), -EAGAIN);
            lab_tally_one(&tally);
            assert_int_equal(try_receive(&rig, received++), 48);
        }
        lab_ring_commit(&rig.producer, some);
        sent += some;
    }
    /* Another length has to be written down: no place is lent ahead. */
    lab_assert_ok(lab_ring_reserve_ahead(&rig.producer, 40, 100, 0, &span, &tally));
    assert_true(!tally.sent && span.count == 1);
    fill(&span, sent);
    lab_ring_commit(&rig.producer, 1);
    assert_int_equal(try_receive(&rig, received), 40);
    lab_assert_fails(lab_ring_reserve_ahead(&rig.producer, 65, 100, 0, &span, &tally), EMSGSIZE);
    rig_fini(&rig);
}

/* Who sleeps has to be woken for each message; a marked ring has no count. */
static void no_place_is_lent_ahead_where_a_count_is_not_all_that_is_told(void **state)
{
    (void)state;
    struct lab_ring_config configs[] = {config_of(64, 2, 1), config_of(64, 1024, 1)};
    configs[1].wait = LAB_WAIT_FUTEX;
    for (size_t c = 0; c < COUNT_OF(configs); c++) {
        struct rig rig;
        rig_init(&rig, configs[c]);
        for (uint32_t i = 0; i < rig.shape.slots * 2; i++) {
            struct lab_span span = {0};
            struct lab_tally tally;
            lab_assert_ok(lab_ring_reserve_ahead(&rig.producer, 64, 100, 0, &span, &tally));
            assert_true(!tally.sent && span.count == 1);
            fill(&span, i);
            lab_ring_commit(&rig.producer, 1);
            assert_int_equal(try_receive(&rig, i), 64);
        }
        rig_fini(&rig);
    }
}

/* Random loans of both sides against a model of what is in flight. */
static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*state >> 33) % below);
}

static void check_against_model(struct rig *rig)
{
    enum { STEPS = 3000, LENGTHS = 1 << 17 };
    static uint32_t lengths[LENGTHS];
    uint64_t seed = rig->config.message_max + rig->config.window * 7 + rig->config.batch * 31, sent = 0, received = 0;
    uint32_t longest = rig->shape.message_max < 100 ? rig->shape.message_max : 100, length = 1;
    for (uint32_t step = 0; step < STEPS; step++) {
        struct lab_span span = {0};
        uint32_t want = draw(&seed, 50) + 1;
        if (draw(&seed, 8) == 0)
            length = draw(&seed, longest) + 1;
        if (draw(&seed, 2)) {
            int err = lab_ring_reserve(&rig->producer, length, want, 0, &span);
            if (err) {
                assert_int_equal(err, -EAGAIN);
                assert_true(sent - received >= rig->config.window);
                continue;
            }
            check_span(rig, &span);
            assert_true(span.count <= want && span.count <= rig->shape.batch && span.length == length);
            uint32_t count = draw(&seed, span.count + 1);
            fill(&span, sent);
            for (uint32_t i = 0; i < count; i++)
                lengths[(sent + i) % LENGTHS] = length;
            lab_ring_commit(&rig->producer, count);
            sent += count;
        } else {
            int err = lab_ring_borrow(&rig->consumer, want, 0, &span);
            if (err) {
                assert_int_equal(err, -EAGAIN);
                assert_int_equal(sent, received);
                continue;
            }
            check_span(rig, &span);
            assert_true(span.count <= want && span.count <= sent - received);
            for (uint32_t i = 0; i < span.count; i++)
                assert_int_equal(span.length, lengths[(received + i) % LENGTHS]);
            compare(&span, received);
            uint32_t count = draw(&seed, span.count + 1);
            lab_ring_release(&rig->consumer, count);
            received += count;
        }
        assert_true(sent - received <= rig->shape.slots);
    }
    assert_true(received > 100);
}

static void random_loans_agree_with_a_model(void **state)
{
    (void)state;
    for_each_config(check_against_model);
}

/* A mark holds 32 bits of a position, and a zero is the mark of none: across the place where they run over. */
static void positions_may_run_over_in_marks(void **state)
{
    (void)state;
    static const uint32_t depths[] = {1, 2, 64};
    for (size_t w = 0; w < COUNT_OF(depths); w++) {
        struct rig rig;
        rig_init(&rig, config_of(48, depths[w], 1));
        assert_true(rig.shape.marked);
        const uint64_t begin = (UINT64_C(1) << 32) - 100;
        rig.producer.head = rig.consumer.tail = rig.consumer.there = rig.consumer.published = begin;
        rig.producer.room_to = begin + rig.shape.slots;
        atomic_store(&rig.producer.view.shared->released, begin);
        for (uint64_t number = 0; number < 200; number++) {
            assert_int_equal(try_receive(&rig, number), -EAGAIN);
            lab_assert_ok(try_send(&rig, number, 48));
            assert_int_equal(try_receive(&rig, number), 48);
        }
        rig_fini(&rig);
    }
}

/* ---- a peer that is gone ---- */

static void what_a_dead_producer_sent_is_received_first(void **state)
{
    (void)state;
    for (int w = 0; w < WAITS; w++) {
        struct rig rig;
        struct lab_ring_config config = config_of(64, 1024, 1);
        config.wait = waits[w];
        rig_init(&rig, config);
        for (uint32_t i = 0; i < 5; i++)
            lab_assert_ok(try_send(&rig, i, 10));
        struct lab_span span = {0};
        lab_assert_ok(lab_ring_reserve(&rig.producer, 10, 1, 0, &span));
        lab_ring_hangup(rig.memory, LAB_RING_PRODUCER);
        lab_ring_hangup(rig.memory, LAB_RING_PRODUCER);
        for (uint32_t i = 0; i < 5; i++)
            assert_int_equal(try_receive(&rig, i), 10);
        lab_assert_fails(lab_ring_borrow(&rig.consumer, 1, 0, &span), EPIPE);
        lab_assert_fails(lab_ring_borrow(&rig.consumer, 1, lab_now_ns() + 3600 * LAB_NS_PER_S, &span), EPIPE);
        rig_fini(&rig);
    }
}

static void nothing_is_sent_to_a_consumer_that_is_gone(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 16, 1));
    lab_assert_ok(try_send(&rig, 0, 10));
    lab_ring_hangup(rig.memory, LAB_RING_CONSUMER);
    struct lab_span span = {0};
    lab_assert_fails(lab_ring_reserve(&rig.producer, 10, 1, 0, &span), EPIPE);
    lab_assert_fails(lab_ring_reserve(&rig.producer, 10, 1, lab_now_ns() + 3600 * LAB_NS_PER_S, &span), EPIPE);
    rig_fini(&rig);
}

/* ---- a peer that writes what cannot be ---- */

/* What the producer of either kind of ring would have written to say that there are `count` messages, the first of `length`. */
static void claim(struct rig *rig, uint64_t count, uint32_t length)
{
    const struct lab_ring_view *view = &rig->consumer.view;
    uint64_t tail = rig->consumer.tail;
    if (view->lengths) {
        atomic_store(&view->lengths[tail & view->mask], length);
        atomic_store(&view->shared->committed, tail + count);
    } else {
        atomic_store(lab_ring_mark(view, tail), lab_ring_mark_of(tail, length));
    }
}

static void what_cannot_have_been_sent_is_refused(void **state)
{
    (void)state;
    static const uint32_t depths[] = {2, 1024};
    for (size_t w = 0; w < COUNT_OF(depths); w++) {
        struct rig rig;
        rig_init(&rig, config_of(64, depths[w], 1));
        struct lab_span span = {.count = 99};
        claim(&rig, 1, 65);
        lab_assert_fails(lab_ring_borrow(&rig.consumer, 1, 0, &span), EBADMSG);
        claim(&rig, 1, UINT32_MAX);
        lab_assert_fails(lab_ring_borrow(&rig.consumer, 1, 0, &span), EBADMSG);
        assert_int_equal(span.count, 99);
        rig_fini(&rig);
    }
    static const uint64_t counts[] = {UINT64_MAX, UINT64_C(1) << 63, UINT32_MAX};
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        struct rig rig;
        rig_init(&rig, config_of(64, 1024, 32));
        struct lab_span span = {.count = 99};
        claim(&rig, counts[c], 8);
        lab_assert_fails(lab_ring_borrow(&rig.consumer, 1000, 0, &span), EBADMSG);
        claim(&rig, rig.shape.slots + UINT64_C(1), 8);
        rig.consumer.there = rig.consumer.tail;
        lab_assert_fails(lab_ring_borrow(&rig.consumer, 1, 0, &span), EBADMSG);
        assert_int_equal(span.count, 99);
        rig_fini(&rig);
    }
}

static void whatever_a_producer_says_no_memory_outside_is_lent(void **state)
{
    (void)state;
    enum { TIMES = 100000, ANEW = 1000 };
    uint64_t seed = 1;
    static struct rig rig;
    for (int i = 0; i < TIMES; i++) {
        if (i % ANEW == 0) {
            if (i)
                rig_fini(&rig);
            rig_init(&rig, config_of(64, i % (3 * ANEW) ? 100 : 60, i % (2 * ANEW) ? 1 : 32));
        }
        if (rig.consumer.view.lengths)
            for (uint32_t m = 1; m < 4; m++)
                atomic_store(&rig.consumer.view.lengths[(rig.consumer.tail + m) & rig.consumer.view.mask], draw(&seed, 80));
        atomic_store(&rig.consumer.view.shared->even, draw(&seed, 2) ? 0 : draw(&seed, 80));
        claim(&rig, draw(&seed, i % 2 ? 40 : UINT32_MAX), draw(&seed, 80));
        struct lab_span span = {0};
        int err = lab_ring_borrow(&rig.consumer, draw(&seed, 300) + 1, 0, &span);
        if (err == 0) {
            check_span(&rig, &span);
            lab_ring_release(&rig.consumer, span.count);
        } else {
            assert_true(err == -EBADMSG || err == -EAGAIN);
            rig.consumer.there = rig.consumer.tail;
        }
    }
    rig_fini(&rig);
}

/* A producer that shows a message of 8 bytes and takes it back, again and again. */
struct teaser {
    struct rig rig;
    _Atomic bool over;
};

static void *tease(void *subject)
{
    struct teaser *teaser = subject;
    _Atomic uint64_t *committed = &teaser->rig.producer.view.shared->committed;
    for (uint64_t there = 0; !atomic_load_explicit(&teaser->over, memory_order_relaxed); there = !there) {
        atomic_store_explicit(committed, there, memory_order_release);
        for (int i = 0; i < 10; i++)
            lab_wait_pause();
    }
    return NULL;
}

static void a_message_that_is_taken_back_is_not_lent(void **state)
{
    (void)state;
    enum { LENT = 50000 };
    struct teaser teaser = {.over = false};
    rig_init(&teaser.rig, config_of(64, 60, 32));
    struct lab_ring_consumer fresh = teaser.rig.consumer;
    atomic_store(&fresh.view.lengths[0], 8);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, tease, &teaser), 0);
    uint32_t lent = 0, others = 0;
    for (uint64_t deadline_ns = lab_now_ns() + 20 * LAB_NS_PER_S; lent < LENT && lab_now_ns() < deadline_ns;) {
        struct lab_span span = {0};
        struct lab_ring_consumer consumer = fresh;
        int err = lab_ring_borrow(&consumer, 1, 0, &span);
        lent += err == 0;
        others += (err == 0 && span.length != 8) || (err && err != -EAGAIN && err != -EBADMSG);
    }
    atomic_store(&teaser.over, true);
    pthread_join(thread, NULL);
    rig_fini(&teaser.rig);
    assert_int_equal(lent, LENT);
    assert_int_equal(others, 0);
}

static void an_impossible_position_of_the_consumer_is_refused(void **state)
{
    (void)state;
    static const uint64_t positions[] = {5, 1000000, UINT64_MAX, UINT64_C(1) << 63};
    for (size_t p = 0; p < COUNT_OF(positions); p++) {
        struct rig rig;
        rig_init(&rig, config_of(64, 4, 1));
        assert_int_equal(rig.shape.slots, 4);
        atomic_store(&rig.producer.view.shared->released, positions[p]);
        struct lab_span span = {0};
        int err = 0;
        uint32_t sent = 0;
        while (!err && sent <= 2 * rig.shape.slots && !(err = lab_ring_reserve(&rig.producer, 8, 1, 0, &span))) {
            check_span(&rig, &span);
            lab_ring_commit(&rig.producer, 1);
            sent++;
        }
        /* Nothing is overwritten that was not released. */
        assert_int_equal(sent, 4);
        assert_int_equal(err, -EBADMSG);
        rig_fini(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_published_and_messages_do_not_overlap),
        cmocka_unit_test(a_short_message_shares_one_line_with_its_mark),
        cmocka_unit_test(what_a_ring_cannot_be_is_refused),
        cmocka_unit_test(a_side_is_attached_once_and_to_a_ring_of_its_config),
        cmocka_unit_test(how_long_adaptive_polls_is_what_the_config_says),
        cmocka_unit_test(messages_come_whole_and_in_order_lap_after_lap),
        cmocka_unit_test(a_window_of_messages_always_fits),
        cmocka_unit_test(a_full_ring_and_an_empty_one_say_so),
        cmocka_unit_test(a_message_that_is_too_long_is_refused_and_nothing_is_lent),
        cmocka_unit_test(waiting_ends_at_the_deadline),
        cmocka_unit_test(places_that_are_not_committed_are_lent_again),
        cmocka_unit_test(messages_that_are_not_released_are_borrowed_again),
        cmocka_unit_test(one_span_holds_messages_of_one_length),
        cmocka_unit_test(a_lap_of_one_length_is_told_and_taken_back),
        cmocka_unit_test(messages_lent_ahead_are_sent_one_by_one),
        cmocka_unit_test(no_place_is_lent_ahead_where_a_count_is_not_all_that_is_told),
        cmocka_unit_test(random_loans_agree_with_a_model),
        cmocka_unit_test(positions_may_run_over_in_marks),
        cmocka_unit_test(what_a_dead_producer_sent_is_received_first),
        cmocka_unit_test(nothing_is_sent_to_a_consumer_that_is_gone),
        cmocka_unit_test(what_cannot_have_been_sent_is_refused),
        cmocka_unit_test(whatever_a_producer_says_no_memory_outside_is_lent),
        cmocka_unit_test(a_message_that_is_taken_back_is_not_lent),
        cmocka_unit_test(an_impossible_position_of_the_consumer_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
