#include "tests/check.h"

#include "base/clock.h"
#include "shm/broadcast.h"

#include <errno.h>
#include <string.h>

enum { READERS = 3, LINE = LAB_BROADCAST_LINE };

/* A broadcast in memory of this process, all sides of it, one thread. */
struct rig {
    struct lab_broadcast_config config;
    struct lab_broadcast_shape shape;
    unsigned char *memory;
    struct lab_broadcast_writer writer;
    struct lab_broadcast_reader reader[READERS];
};

static struct lab_broadcast_config config_of(uint32_t message_max, uint32_t window, uint32_t batch)
{
    return (struct lab_broadcast_config){
        .message_max = message_max, .window = window, .batch = batch, .readers = READERS, .wait = LAB_WAIT_SPIN,
    };
}

static struct lab_broadcast_config overwriting(uint32_t message_max, uint32_t window)
{
    struct lab_broadcast_config config = config_of(message_max, window, 1);
    config.overwrite = true;
    return config;
}

static void rig_init(struct rig *rig, struct lab_broadcast_config config)
{
    rig->config = config;
    lab_assert_ok(lab_broadcast_shape(&config, &rig->shape));
    rig->memory = aligned_alloc(LINE, rig->shape.size);
    assert_non_null(rig->memory);
    memset(rig->memory, 0, rig->shape.size);
    lab_broadcast_init(rig->memory, &config, &rig->shape);
    lab_assert_ok(lab_broadcast_write(&rig->writer, rig->memory, rig->shape.size, &config));
    for (uint32_t seat = 0; seat < config.readers; seat++)
        lab_assert_ok(lab_broadcast_read(&rig->reader[seat], rig->memory, rig->shape.size, &config, seat));
}

static void rig_fini(struct rig *rig)
{
    free(rig->memory);
}

static unsigned char byte_of(uint64_t number, uint32_t at)
{
    return (unsigned char)(number * 131 + at * 7 + (number >> 8));
}

static void fill(unsigned char *at, uint32_t length, uint64_t number)
{
    for (uint32_t i = 0; i < length; i++)
        at[i] = byte_of(number, i);
}

static bool is(const unsigned char *at, uint32_t length, uint64_t number)
{
    bool whole = true;
    for (uint32_t i = 0; i < length; i++)
        whole = whole && at[i] == byte_of(number, i);
    return whole;
}

static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*state >> 33) % below);
}

/* Every byte of a span lies in the places. */
static void check_span(const struct rig *rig, const struct lab_span *span)
{
    const unsigned char *first = rig->memory + rig->shape.places_at;
    assert_true(span->count >= 1 && span->length <= rig->shape.message_max);
    assert_true(span->at >= first);
    assert_true(span->at + (span->count - 1) * span->stride + span->length <= rig->memory + rig->shape.size);
}

static int try_write(struct rig *rig, uint64_t number, uint32_t length)
{
    struct lab_span span = {0};
    int err = lab_broadcast_reserve(&rig->writer, length, 1, 0, &span);
    if (err)
        return err;
    check_span(rig, &span);
    fill(span.at, length, number);
    lab_broadcast_commit(&rig->writer, 1);
    return 0;
}

/* The length, after every byte was compared. */
static int try_read(struct rig *rig, uint32_t seat, uint64_t number)
{
    struct lab_span span = {0};
    int err = lab_broadcast_borrow(&rig->reader[seat], 1, 0, &span);
    if (err)
        return err;
    check_span(rig, &span);
    assert_int_equal(span.count, 1);
    assert_true(is(span.at, span.length, number));
    lab_broadcast_release(&rig->reader[seat], 1);
    return (int)span.length;
}

static const uint32_t sizes[] = {1, 16, 17, 48, 49, 64, 1000, 70000};
static const uint32_t windows[] = {1, 2, 3, 64, 65, 1024};
static const uint32_t batches[] = {1, 5, 100000};
#define COUNT_OF(table) (sizeof(table) / sizeof *(table))

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { LARGEST = 1 << 14, BATCHES = 1, HOSTILE = 5000 };
#else
enum { LARGEST = 8 << 20, BATCHES = COUNT_OF(batches), HOSTILE = 60000 };
#endif

static void for_each_config(void (*check)(struct rig *rig))
{
    for (size_t s = 0; s < COUNT_OF(sizes); s++)
        for (size_t w = 0; w < COUNT_OF(windows); w++)
            for (size_t b = 0; b < BATCHES; b++) {
                if ((uint64_t)sizes[s] * windows[w] > LARGEST || (sizes[s] > 64 && batches[b] > 32))
                    continue;
                struct rig rig;
                rig_init(&rig, config_of(sizes[s], windows[w], batches[b]));
                check(&rig);
                rig_fini(&rig);
            }
}

/* ---- layout ---- */

static void check_layout(struct rig *rig)
{
    const struct lab_broadcast_shape *shape = &rig->shape;
    size_t head = sizeof(struct lab_broadcast_head), words = sizeof(struct lab_broadcast_shared) + READERS * sizeof(struct lab_broadcast_seat);
    assert_true(shape->slots >= rig->config.window);
    assert_int_equal(shape->slots & (shape->slots - 1), 0);
    assert_int_equal(shape->places_at % 8, 0);
    assert_true(shape->heads_at >= words && shape->head_stride >= head);
    assert_true(shape->places_at + (size_t)(shape->slots - 1) * shape->stride + shape->message_max <= shape->size);
    bool together = shape->head_stride == shape->stride && shape->heads_at + head == shape->places_at;
    assert_true(together ? head + shape->message_max <= shape->stride : shape->heads_at + (size_t)shape->slots * head <= shape->places_at);
    assert_true(shape->stride >= shape->message_max);
    assert_int_equal(together, rig->config.window <= LAB_BROADCAST_LATENCY_WINDOW && rig->config.batch == 1);
    /* For latency a short message shares one line with its head; a longer one begins at a line. */
    for (uint32_t slot = 0; slot < shape->slots && together; slot++) {
        size_t at = shape->places_at + (size_t)slot * shape->stride;
        if (shape->message_max <= 48)
            assert_int_equal((at - head) / 64, (at + shape->message_max - 1) / 64);
        else
            assert_int_equal(at % 64, 0);
    }
}

static void heads_and_messages_do_not_overlap(void **state)
{
    (void)state;
    for_each_config(check_layout);
}

static void what_a_broadcast_cannot_be_is_refused(void **state)
{
    (void)state;
    struct lab_broadcast_shape shape = {.slots = 77};
    struct lab_broadcast_config lonely = config_of(8, 2, 1), crowded = config_of(8, 2, 1);
    lonely.readers = 0;
    crowded.readers = LAB_BROADCAST_READERS_MAX + 1;
    const struct lab_broadcast_config long_ = config_of((1u << 30) + 1, 2, 1), empty = config_of(0, 2, 1), closed = config_of(8, 0, 1),
                                      deep = config_of(8, LAB_BROADCAST_WINDOW_MAX + 1, 1), still = config_of(8, 2, 0);
    lab_assert_fails(lab_broadcast_shape(&long_, &shape), EMSGSIZE);
    lab_assert_fails(lab_broadcast_shape(&empty, &shape), EMSGSIZE);
    lab_assert_fails(lab_broadcast_shape(&closed, &shape), EINVAL);
    lab_assert_fails(lab_broadcast_shape(&deep, &shape), EINVAL);
    lab_assert_fails(lab_broadcast_shape(&still, &shape), EINVAL);
    lab_assert_fails(lab_broadcast_shape(&lonely, &shape), EINVAL);
    lab_assert_fails(lab_broadcast_shape(&crowded, &shape), EINVAL);
    assert_int_equal(shape.slots, 77);
    const struct lab_broadcast_config largest = overwriting(1u << 30, LAB_BROADCAST_WINDOW_MAX);
    lab_assert_ok(lab_broadcast_shape(&largest, &shape));
    assert_true(shape.size >= (UINT64_C(1) << 47));
}

static void a_side_is_attached_once_and_to_a_broadcast_of_its_config(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 16, 1));
    struct lab_broadcast_config other = rig.config;
    struct lab_broadcast_writer writer;
    struct lab_broadcast_reader reader;
    lab_assert_fails(lab_broadcast_write(&writer, rig.memory, rig.shape.size, &other), EBUSY);
    lab_assert_fails(lab_broadcast_read(&reader, rig.memory, rig.shape.size, &other, 1), EBUSY);
    lab_assert_fails(lab_broadcast_read(&reader, rig.memory, rig.shape.size, &other, READERS), EINVAL);
    lab_assert_fails(lab_broadcast_read(&reader, rig.memory, rig.shape.size - 1, &other, 1), EBADMSG);
    other.message_max++;
    lab_assert_fails(lab_broadcast_read(&reader, rig.memory, rig.shape.size, &other, 1), EBADMSG);
    other = rig.config;
    other.wait = LAB_WAIT_FUTEX;
    lab_assert_fails(lab_broadcast_read(&reader, rig.memory, rig.shape.size, &other, 1), EBADMSG);
    other = rig.config;
    other.readers--;
    lab_assert_fails(lab_broadcast_read(&reader, rig.memory, rig.shape.size, &other, 1), EBADMSG);
    other = rig.config;
    other.window = 15;
    other.overwrite = true;
    lab_assert_fails(lab_broadcast_write(&writer, rig.memory, rig.shape.size, &other), EBADMSG);
    rig_fini(&rig);
}

/* ---- lossless ---- */

static void check_order(struct rig *rig)
{
    uint64_t slots = rig->shape.slots, messages = slots > 256 ? slots + 100 : 40 * slots;
    for (uint64_t i = 0; i < messages; i++) {
        uint32_t length = lab_broadcast_least((uint32_t)(i * 37 % rig->shape.message_max) % 300 + (i % 7 == 0 ? 0 : 1), rig->shape.message_max);
        lab_assert_ok(try_write(rig, i, length));
        for (uint32_t seat = 0; seat < READERS; seat++) {
            assert_int_equal(try_read(rig, seat, i), length);
            assert_int_equal(try_read(rig, seat, i), -EAGAIN);
        }
    }
}

static void every_reader_gets_every_message_whole_and_in_order(void **state)
{
    (void)state;
    for_each_config(check_order);
}

/* However late readers tell that they have released: a window's worth can always be sent; and the slowest one holds the writer back. */
static void check_window(struct rig *rig)
{
    uint32_t window = rig->config.window, length = lab_broadcast_least(rig->shape.message_max, 32);
    uint64_t sent = 0, received[READERS] = {0}, seed = window;
    for (uint32_t round = 0, rounds = rig->shape.slots > 256 ? READERS : 12; round < rounds; round++) {
        uint32_t slow = round % READERS;
        while (sent - received[slow] < window)
            lab_assert_ok(try_write(rig, sent++, length));
        while (try_write(rig, sent, length) == 0)
            sent++;
        assert_true(sent - received[slow] <= rig->shape.slots);
        for (uint32_t seat = 0; seat < READERS; seat++) {
            uint64_t unread = sent - received[seat], to = sent;
            if (seat == (round + 1) % READERS && unread)
                to = received[seat] + draw(&seed, (uint32_t)unread) + 1;
            for (; received[seat] < to; received[seat]++)
                assert_int_equal(try_read(rig, seat, received[seat]), length);
        }
    }
}

static void a_window_of_messages_always_fits_and_the_slowest_reader_holds_the_writer_back(void **state)
{
    (void)state;
    for_each_config(check_window);
}

static void a_message_that_is_too_long_is_refused_and_nothing_is_lent(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 16, 1));
    struct lab_span span = {.count = 99};
    lab_assert_fails(lab_broadcast_reserve(&rig.writer, 65, 1, 0, &span), EMSGSIZE);
    assert_int_equal(span.count, 99);
    assert_int_equal(try_read(&rig, 0, 0), -EAGAIN);
    lab_assert_ok(try_write(&rig, 0, 64));
    assert_int_equal(try_read(&rig, 2, 0), 64);
    rig_fini(&rig);
}

static void waiting_ends_at_the_deadline(void **state)
{
    (void)state;
    for (enum lab_wait wait = LAB_WAIT_SPIN; wait <= LAB_WAIT_FUTEX; wait++) {
        struct rig rig;
        struct lab_broadcast_config config = config_of(64, 16, 1);
        config.wait = wait;
        rig_init(&rig, config);
        struct lab_span span = {0};
        uint64_t deadline_ns = lab_now_ns() + 2 * LAB_NS_PER_MS;
        assert_int_equal(lab_broadcast_borrow(&rig.reader[1], 1, deadline_ns, &span), -EAGAIN);
        assert_true(lab_now_ns() >= deadline_ns);
        for (uint32_t i = 0; i < rig.shape.slots; i++) {
            lab_assert_ok(try_write(&rig, i, 8));
            assert_int_equal(try_read(&rig, 1, i), 8);
        }
        deadline_ns = lab_now_ns() + 2 * LAB_NS_PER_MS;
        assert_int_equal(lab_broadcast_reserve(&rig.writer, 8, 1, deadline_ns, &span), -EAGAIN);
        assert_true(lab_now_ns() >= deadline_ns);
        assert_int_equal(try_read(&rig, 0, 0), 8);
        rig_fini(&rig);
    }
}

static void places_that_are_not_committed_are_lent_again_and_messages_not_released_borrowed_again(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 1024, 32));
    struct lab_span first = {0}, second = {0};
    lab_assert_ok(lab_broadcast_reserve(&rig.writer, 40, 32, 0, &first));
    lab_broadcast_commit(&rig.writer, 0);
    lab_assert_ok(lab_broadcast_reserve(&rig.writer, 64, 32, 0, &second));
    assert_ptr_equal(first.at, second.at);
    assert_int_equal(second.count, 32);
    for (uint32_t i = 0; i < 3; i++)
        fill(second.at + i * second.stride, 64, i);
    lab_broadcast_commit(&rig.writer, 3);
    lab_assert_ok(lab_broadcast_reserve(&rig.writer, 64, 1, 0, &first));
    assert_ptr_equal(first.at, second.at + 3 * second.stride);
    lab_assert_ok(lab_broadcast_borrow(&rig.reader[0], 32, 0, &second));
    assert_int_equal(second.count, 3);
    lab_broadcast_release(&rig.reader[0], 0);
    lab_assert_ok(lab_broadcast_borrow(&rig.reader[0], 2, 0, &second));
    assert_int_equal(second.count, 2);
    lab_broadcast_release(&rig.reader[0], 1);
    assert_int_equal(try_read(&rig, 0, 1), 64);
    assert_int_equal(try_read(&rig, 0, 2), 64);
    assert_int_equal(try_read(&rig, 0, 3), -EAGAIN);
    assert_int_equal(try_read(&rig, 1, 0), 64);
    rig_fini(&rig);
}

static void one_span_holds_messages_of_one_length(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {8, 8, 8, 9, 9, 8, 64}, counts[] = {3, 2, 1, 1};
    struct rig rig;
    rig_init(&rig, config_of(64, 1024, 1));
    for (uint32_t i = 0; i < COUNT_OF(lengths); i++)
        lab_assert_ok(try_write(&rig, i, lengths[i]));
    uint32_t at = 0;
    for (uint32_t i = 0; i < COUNT_OF(counts); i++) {
        struct lab_span span = {0};
        lab_assert_ok(lab_broadcast_borrow(&rig.reader[1], 100, 0, &span));
        assert_int_equal(span.count, counts[i]);
        assert_int_equal(span.length, lengths[at]);
        for (uint32_t m = 0; m < span.count; m++)
            assert_true(is(span.at + m * span.stride, span.length, at + m));
        lab_broadcast_release(&rig.reader[1], span.count);
        at += span.count;
    }
    rig_fini(&rig);
}

/* ---- overwriting ---- */

static int try_send(struct rig *rig, uint64_t number, uint32_t length)
{
    unsigned char bytes[1024];
    fill(bytes, length, number);
    return lab_broadcast_send(&rig->writer, bytes, length);
}

/* The length of whichever message came; it has to be the one that the reader's position says. */
static int try_receive(struct rig *rig, uint32_t seat)
{
    unsigned char bytes[1024 + 8];
    uint32_t length = 77;
    memset(bytes, 0xee, sizeof bytes);
    int err = lab_broadcast_receive(&rig->reader[seat], bytes, 1024, 0, &length);
    if (err) {
        assert_int_equal(length, 77);
        return err;
    }
    assert_true(is(bytes, length, rig->reader[seat].tail - 1));
    for (uint32_t i = length; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], 0xee);
    return (int)length;
}

static void a_reader_that_keeps_within_the_window_loses_nothing(void **state)
{
    (void)state;
    static const uint32_t depths[] = {1, 2, 3, 16, 63, 64, 100, 1000};
    for (size_t d = 0; d < COUNT_OF(depths); d++) {
        struct rig rig;
        rig_init(&rig, overwriting(200, depths[d]));
        uint64_t sent = 0;
        for (uint32_t round = 0; round < 30; round++) {
            for (uint32_t i = 0; i < depths[d]; i++, sent++)
                lab_assert_ok(try_send(&rig, sent, (uint32_t)(sent * 7 % 201)));
            for (uint64_t i = sent - depths[d]; i < sent; i++)
                assert_int_equal(try_receive(&rig, 1), i * 7 % 201);
            assert_int_equal(try_receive(&rig, 1), -EAGAIN);
        }
        assert_int_equal(rig.reader[1].lost, 0);
        rig_fini(&rig);
    }
}

static void what_was_received_and_what_was_lost_is_what_was_sent(void **state)
{
    (void)state;
    static const uint32_t depths[] = {1, 2, 3, 16, 63, 64, 100};
    for (size_t d = 0; d < COUNT_OF(depths); d++) {
        struct rig rig;
        rig_init(&rig, overwriting(100, depths[d]));
        uint64_t sent = 0, received[READERS] = {0}, seed = d;
        for (uint32_t round = 0; round < 1000; round++) {
            for (uint32_t some = draw(&seed, 4 * depths[d]) + 1; some; some--, sent++)
                lab_assert_ok(try_send(&rig, sent, (uint32_t)(sent % 101)));
            for (uint32_t seat = 0; seat < READERS; seat++)
                for (uint32_t some = draw(&seed, (seat + 2) * depths[d] / 2 + 2); some && try_receive(&rig, seat) >= 0; some--)
                    received[seat]++;
        }
        lab_broadcast_hangup(rig.memory, &rig.config, LAB_BROADCAST_WRITER, 0);
        for (uint32_t seat = 0; seat < READERS; seat++) {
            int err;
            while ((err = try_receive(&rig, seat)) >= 0)
                received[seat]++;
            assert_int_equal(err, -EPIPE);
            assert_int_equal(received[seat] + rig.reader[seat].lost, sent);
            assert_true(received[seat] > 0 && rig.reader[seat].lost > 0);
        }
        rig_fini(&rig);
    }
}

/* What a writer does that overtakes a reader in the middle of a copy: the marks change between its two looks. */
static void a_message_that_is_being_written_is_not_received(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, overwriting(64, 3));
    assert_int_equal(rig.shape.slots, 4);
    struct lab_broadcast_head *head = lab_broadcast_head(&rig.writer.view, 0);
    atomic_store(&head->stamp, 1);
    assert_int_equal(try_receive(&rig, 0), -EAGAIN);
    for (uint64_t i = 0; i < 4; i++)
        lab_assert_ok(try_send(&rig, i, 64));
    /* Message 4 is being written over message 0, which is lost with that; one more place is left alone. */
    atomic_store(&head->stamp, 2 * 4 + 1);
    assert_int_equal(try_receive(&rig, 0), 64);
    assert_int_equal(rig.reader[0].lost, 2);
    assert_int_equal(try_receive(&rig, 0), 64);
    assert_int_equal(try_receive(&rig, 0), -EAGAIN);
    /* ... and its writer is killed. */
    lab_broadcast_hangup(rig.memory, &rig.config, LAB_BROADCAST_WRITER, 0);
    assert_int_equal(try_receive(&rig, 0), -EPIPE);
    assert_int_equal(rig.reader[0].tail, 4);
    rig_fini(&rig);
}

static void a_message_too_long_for_the_buffer_is_told_and_counted(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, overwriting(1000, 4));
    unsigned char bytes[16];
    uint32_t length;
    lab_assert_fails(lab_broadcast_send(&rig.writer, bytes, 1001), EMSGSIZE);
    lab_assert_ok(try_send(&rig, 0, 17));
    lab_assert_ok(try_send(&rig, 1, 16));
    memset(bytes, 0xee, sizeof bytes);
    lab_assert_fails(lab_broadcast_receive(&rig.reader[0], bytes, sizeof bytes, 0, &length), EMSGSIZE);
    assert_int_equal(rig.reader[0].lost, 1);
    lab_assert_ok(lab_broadcast_receive(&rig.reader[0], bytes, sizeof bytes, 0, &length));
    assert_int_equal(length, 16);
    assert_true(is(bytes, 16, 1));
    rig_fini(&rig);
}

/* ---- parties that are gone ---- */

static void what_a_dead_writer_sent_is_received_first(void **state)
{
    (void)state;
    for (enum lab_wait wait = LAB_WAIT_SPIN; wait <= LAB_WAIT_FUTEX; wait++) {
        struct rig rig;
        struct lab_broadcast_config config = config_of(64, 1024, 1);
        config.wait = wait;
        rig_init(&rig, config);
        for (uint32_t i = 0; i < 5; i++)
            lab_assert_ok(try_write(&rig, i, 10));
        struct lab_span span = {0};
        lab_assert_ok(lab_broadcast_reserve(&rig.writer, 10, 1, 0, &span));
        lab_broadcast_hangup(rig.memory, &config, LAB_BROADCAST_WRITER, 0);
        lab_broadcast_hangup(rig.memory, &config, LAB_BROADCAST_WRITER, 0);
        for (uint32_t seat = 0; seat < READERS; seat++) {
            for (uint32_t i = 0; i < 5; i++)
                assert_int_equal(try_read(&rig, seat, i), 10);
            lab_assert_fails(lab_broadcast_borrow(&rig.reader[seat], 1, 0, &span), EPIPE);
            lab_assert_fails(lab_broadcast_borrow(&rig.reader[seat], 1, lab_now_ns() + 3600 * LAB_NS_PER_S, &span), EPIPE);
        }
        rig_fini(&rig);
    }
}

static void a_reader_that_is_gone_holds_nobody_back_and_without_any_the_writer_is_told(void **state)
{
    (void)state;
    for (enum lab_wait wait = LAB_WAIT_SPIN; wait <= LAB_WAIT_FUTEX; wait++) {
        struct rig rig;
        struct lab_broadcast_config config = config_of(64, 16, 1);
        config.wait = wait;
        rig_init(&rig, config);
        uint64_t sent = 0, received = 0;
        while (try_write(&rig, sent, 10) == 0)
            sent++;
        while (received < sent)
            assert_int_equal(try_read(&rig, 1, received++), 10);
        assert_int_equal(try_write(&rig, sent, 10), -EAGAIN);
        lab_broadcast_hangup(rig.memory, &config, LAB_BROADCAST_READER, 0);
        assert_int_equal(try_write(&rig, sent, 10), -EAGAIN);
        lab_broadcast_hangup(rig.memory, &config, LAB_BROADCAST_READER, 2);
        lab_broadcast_hangup(rig.memory, &config, LAB_BROADCAST_READER, 2);
        lab_assert_ok(try_write(&rig, sent++, 10));
        assert_int_equal(try_read(&rig, 1, received++), 10);
        struct lab_span span = {0};
        lab_broadcast_hangup(rig.memory, &config, LAB_BROADCAST_READER, 1);
        lab_assert_fails(lab_broadcast_reserve(&rig.writer, 10, 1, 0, &span), EPIPE);
        lab_assert_fails(lab_broadcast_reserve(&rig.writer, 10, 1, lab_now_ns() + 3600 * LAB_NS_PER_S, &span), EPIPE);
        rig_fini(&rig);
    }
    struct rig rig;
    rig_init(&rig, overwriting(64, 16));
    for (uint32_t seat = 0; seat < READERS; seat++) {
        lab_assert_ok(try_send(&rig, seat, 10));
        lab_broadcast_hangup(rig.memory, &rig.config, LAB_BROADCAST_READER, seat);
    }
    lab_assert_fails(try_send(&rig, READERS, 10), EPIPE);
    rig_fini(&rig);
}

/* ---- a peer that writes what cannot be ---- */

static void what_cannot_have_been_sent_is_refused(void **state)
{
    (void)state;
    static const uint64_t stamps[] = {3, 2 * 16 + 2, 1000, UINT64_MAX, UINT64_C(1) << 63};
    static const uint64_t lengths[] = {65, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX};
    for (size_t s = 0; s < COUNT_OF(stamps); s++) {
        struct rig rig;
        rig_init(&rig, config_of(64, 16, 1));
        struct lab_span span = {.count = 99};
        atomic_store(&lab_broadcast_head(&rig.writer.view, 0)->stamp, stamps[s]);
        lab_assert_fails(lab_broadcast_borrow(&rig.reader[0], 1, 0, &span), EBADMSG);
        assert_int_equal(span.count, 99);
        rig_fini(&rig);
    }
    for (size_t l = 0; l < COUNT_OF(lengths); l++) {
        struct rig rig;
        rig_init(&rig, config_of(64, 16, 1));
        struct lab_span span = {.count = 99};
        lab_assert_ok(try_write(&rig, 0, 8));
        atomic_store(&lab_broadcast_head(&rig.writer.view, 0)->length, lengths[l]);
        lab_assert_fails(lab_broadcast_borrow(&rig.reader[0], 1, 0, &span), EBADMSG);
        assert_int_equal(span.count, 99);
        rig_fini(&rig);
        rig_init(&rig, overwriting(64, 15));
        lab_assert_ok(try_send(&rig, 0, 8));
        atomic_store(&lab_broadcast_head(&rig.writer.view, 0)->length, lengths[l]);
        lab_assert_fails(try_receive(&rig, 0), EBADMSG);
        lab_assert_ok(try_send(&rig, 1, 8));
        atomic_store(&lab_broadcast_head(&rig.writer.view, 0)->stamp, 2 * 17 + 2);
        lab_assert_fails(try_receive(&rig, 0), EBADMSG);
        assert_int_equal(rig.reader[0].lost, 0);
        rig_fini(&rig);
    }
}

static void whatever_a_writer_says_no_memory_outside_is_lent_or_read(void **state)
{
    (void)state;
    enum { ANEW = 500 };
    static struct rig rig;
    uint64_t seed = 1;
    for (int i = 0; i < HOSTILE; i++) {
        bool overwrites = i / ANEW % 2;
        if (i % ANEW == 0) {
            if (i)
                rig_fini(&rig);
            rig_init(&rig, overwrites ? overwriting(64, 15) : config_of(64, 16, i % (2 * ANEW) ? 1 : 8));
        }
        struct lab_broadcast_reader *reader = &rig.reader[draw(&seed, READERS)];
        for (uint32_t m = 0; m < 3; m++) {
            struct lab_broadcast_head *head = lab_broadcast_head(&reader->view, reader->tail + m);
            uint64_t near = lab_broadcast_stamp_of(reader->tail + m) + (draw(&seed, 4) ? 0 : draw(&seed, 70));
            atomic_store(&head->stamp, draw(&seed, 50) ? near : (uint64_t)draw(&seed, UINT32_MAX) << draw(&seed, 33));
            atomic_store(&head->length, draw(&seed, 10) ? draw(&seed, 65) : (uint64_t)draw(&seed, UINT32_MAX) << draw(&seed, 33));
        }
        int err;
        if (overwrites) {
            unsigned char *bytes = malloc(40); /* of exactly that size, for AddressSanitizer */
            uint32_t length;
            err = lab_broadcast_receive(reader, bytes, 40, 0, &length);
            assert_true(err || length <= 40);
            free(bytes);
        } else {
            struct lab_span span = {0};
            err = lab_broadcast_borrow(reader, draw(&seed, 20) + 1, 0, &span);
            if (err == 0) {
                check_span(&rig, &span);
                lab_broadcast_release(reader, span.count);
            }
        }
        assert_true(err == 0 || err == -EBADMSG || err == -EAGAIN || err == -EMSGSIZE);
    }
    rig_fini(&rig);
}

static void an_impossible_position_of_a_reader_is_refused_and_without_it_the_others_go_on(void **state)
{
    (void)state;
    static const uint64_t positions[] = {5, 1000000, UINT64_MAX, UINT64_C(1) << 63};
    for (size_t p = 0; p < COUNT_OF(positions); p++) {
        struct rig rig;
        rig_init(&rig, config_of(64, 4, 1));
        assert_int_equal(rig.shape.slots, 4);
        atomic_store(&rig.writer.view.shared->seats[1].released, positions[p]);
        int err = 0;
        uint32_t sent = 0;
        while (!err && sent <= 2 * rig.shape.slots && !(err = try_write(&rig, sent, 8)))
            sent++;
        /* Nothing is overwritten that was not released. */
        assert_int_equal(sent, 4);
        assert_int_equal(err, -EBADMSG);
        lab_broadcast_hangup(rig.memory, &rig.config, LAB_BROADCAST_READER, 1);
        assert_int_equal(try_write(&rig, sent, 8), -EAGAIN);
        assert_int_equal(try_read(&rig, 0, 0), 8);
        assert_int_equal(try_read(&rig, 2, 0), 8);
        lab_assert_ok(try_write(&rig, sent, 8));
        rig_fini(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_and_messages_do_not_overlap),
        cmocka_unit_test(what_a_broadcast_cannot_be_is_refused),
        cmocka_unit_test(a_side_is_attached_once_and_to_a_broadcast_of_its_config),
        cmocka_unit_test(every_reader_gets_every_message_whole_and_in_order),
        cmocka_unit_test(a_window_of_messages_always_fits_and_the_slowest_reader_holds_the_writer_back),
        cmocka_unit_test(a_message_that_is_too_long_is_refused_and_nothing_is_lent),
        cmocka_unit_test(waiting_ends_at_the_deadline),
        cmocka_unit_test(places_that_are_not_committed_are_lent_again_and_messages_not_released_borrowed_again),
        cmocka_unit_test(one_span_holds_messages_of_one_length),
        cmocka_unit_test(a_reader_that_keeps_within_the_window_loses_nothing),
        cmocka_unit_test(what_was_received_and_what_was_lost_is_what_was_sent),
        cmocka_unit_test(a_message_that_is_being_written_is_not_received),
        cmocka_unit_test(a_message_too_long_for_the_buffer_is_told_and_counted),
        cmocka_unit_test(what_a_dead_writer_sent_is_received_first),
        cmocka_unit_test(a_reader_that_is_gone_holds_nobody_back_and_without_any_the_writer_is_told),
        cmocka_unit_test(what_cannot_have_been_sent_is_refused),
        cmocka_unit_test(whatever_a_writer_says_no_memory_outside_is_lent_or_read),
        cmocka_unit_test(an_impossible_position_of_a_reader_is_refused_and_without_it_the_others_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
