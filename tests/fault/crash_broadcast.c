/* The writer or a reader of a broadcast is killed at every single instruction of everything that it does; the others go on. */
#include "tests/crash.h"

#include "base/clock.h"
#include "shm/broadcast.h"

#include <pthread.h>
#include <string.h>

enum { WITHIN_S = 20, READERS = 2, VICTIM = 0, OTHER = 1, MESSAGE = 40 };

struct row {
    struct lab_crash crash;
    struct lab_broadcast_config config;
    uint32_t sent, received; /* messages, and by the victim as a reader, before the operation; the other one has had all, or none */
    uint32_t count;          /* messages of the operation */
    bool lags;               /* the other one has had none */
};

struct scene {
    const struct row *row;
    struct lab_broadcast_shape shape;
    void *memory;
    struct lab_broadcast_writer writer;
    struct lab_broadcast_reader reader[READERS];
    pthread_t survivor;
    bool survives; /* the thread runs */
    int outcome;   /* of the survivors' last call */
};

static uint64_t soon(void)
{
    return lab_now_ns() + WITHIN_S * LAB_NS_PER_S;
}

/* ---- messages: the number, in every word ---- */

static void write_message(unsigned char *at, uint64_t number)
{
    for (uint32_t i = 0; i < MESSAGE; i += sizeof number)
        memcpy(at + i, &number, sizeof number);
}

static bool is_message(const unsigned char *at, uint64_t number)
{
    unsigned char whole[MESSAGE];
    write_message(whole, number);
    return memcmp(at, whole, MESSAGE) == 0;
}

static int overwrite_one(struct lab_broadcast_writer *writer)
{
    unsigned char message[MESSAGE];
    write_message(message, writer->head);
    int err = lab_broadcast_send(writer, message, MESSAGE);
    return err ? err : 1;
}

static int send_some(struct lab_broadcast_writer *writer, uint32_t want, uint64_t deadline_ns)
{
    struct lab_span span = {0};
    if (writer->view.overwrite)
        return overwrite_one(writer);
    int err = lab_broadcast_reserve(writer, MESSAGE, want, deadline_ns, &span);
    if (err)
        return err;
    for (uint32_t i = 0; i < span.count; i++)
        write_message(span.at + i * span.stride, writer->head + i);
    lab_broadcast_commit(writer, span.count);
    return (int)span.count;
}

/* What is received is what its position says, whatever was lost before it. */
static int receive_one_of_many(struct lab_broadcast_reader *reader, uint64_t deadline_ns)
{
    unsigned char message[MESSAGE];
    uint32_t length = 0;
    int err = lab_broadcast_receive(reader, message, sizeof message, deadline_ns, &length);
    if (err)
        return err;
    return length == MESSAGE && is_message(message, reader->tail - 1) ? 1 : -EILSEQ;
}

/* -EILSEQ: not the messages that come next. */
static int receive_some(struct lab_broadcast_reader *reader, uint32_t want, uint64_t deadline_ns)
{
    struct lab_span span = {0};
    if (reader->view.overwrite)
        return receive_one_of_many(reader, deadline_ns);
    int err = lab_broadcast_borrow(reader, want, deadline_ns, &span);
    if (err)
        return err;
    for (uint32_t i = 0; i < span.count; i++)
        if (span.length != MESSAGE || !is_message(span.at + i * span.stride, reader->tail + i))
            return -EILSEQ;
    lab_broadcast_release(reader, span.count);
    return (int)span.count;
}

/* ---- the scene ---- */

static int attach_writer_to(struct scene *scene, struct lab_broadcast_writer *writer)
{
    return lab_broadcast_write(writer, scene->memory, scene->shape.size, &scene->row->config);
}

static int attach_reader_to(struct scene *scene, struct lab_broadcast_reader *reader, uint32_t seat)
{
    return lab_broadcast_read(reader, scene->memory, scene->shape.size, &scene->row->config, seat);
}

static void make(struct scene *scene, const struct lab_crash *crash)
{
    const struct row *row = (const void *)crash;
    *scene = (struct scene){.row = row};
    lab_assert_ok(lab_broadcast_shape(&row->config, &scene->shape));
    scene->memory = lab_shared_bytes(scene->shape.size);
    lab_broadcast_init(scene->memory, &row->config, &scene->shape);
    lab_assert_ok(attach_reader_to(scene, &scene->reader[OTHER], OTHER));
}

static void set_up_without_a_reader(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    make(scene, crash);
    lab_assert_ok(attach_writer_to(scene, &scene->writer));
}

static void set_up_without_a_writer(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    make(scene, crash);
    lab_assert_ok(attach_reader_to(scene, &scene->reader[VICTIM], VICTIM));
}

static void set_up(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    set_up_without_a_reader(scene, crash);
    lab_assert_ok(attach_reader_to(scene, &scene->reader[VICTIM], VICTIM));
    for (uint32_t i = 0; i < scene->row->sent; i++) {
        assert_int_equal(send_some(&scene->writer, 1, 0), 1);
        if (i < scene->row->received)
            assert_int_equal(receive_some(&scene->reader[VICTIM], 1, 0), 1);
        if (!scene->row->lags)
            assert_int_equal(receive_some(&scene->reader[OTHER], 1, 0), 1);
    }
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
    send_some(&scene->writer, scene->row->count, 0);
}

static void receive(void *subject)
{
    struct scene *scene = subject;
    receive_some(&scene->reader[VICTIM], scene->row->count, 0);
}

static void wait_for_room(void *subject)
{
    struct scene *scene = subject;
    send_some(&scene->writer, 1, soon());
}

static void wait_for_messages(void *subject)
{
    struct scene *scene = subject;
    receive_some(&scene->reader[VICTIM], 1, soon());
}

static void close_writer(void *subject)
{
    struct scene *scene = subject;
    lab_broadcast_hangup(scene->memory, &scene->row->config, LAB_BROADCAST_WRITER, 0);
}

static void close_reader(void *subject)
{
    struct scene *scene = subject;
    lab_broadcast_hangup(scene->memory, &scene->row->config, LAB_BROADCAST_READER, VICTIM);
}

static void attach_writer(void *subject)
{
    struct scene *scene = subject;
    attach_writer_to(scene, &scene->writer);
}

static void attach_reader(void *subject)
{
    struct scene *scene = subject;
    attach_reader_to(scene, &scene->reader[VICTIM], VICTIM);
}

/* ---- who is at work meanwhile, and who wakes ---- */

static void *receive_in_time(void *subject)
{
    struct scene *scene = subject;
    uint64_t deadline_ns = soon();
    do
        scene->outcome = receive_some(&scene->reader[OTHER], 64, deadline_ns);
    while (scene->outcome > 0);
    return NULL;
}

static void *send_in_time(void *subject)
{
    struct scene *scene = subject;
    scene->outcome = send_some(&scene->writer, 1, soon());
    return NULL;
}

static void begin(struct scene *scene, void *(*survive)(void *), const struct lab_sleeper *sleeper)
{
    assert_int_equal(pthread_create(&scene->survivor, NULL, survive, scene), 0);
    scene->survives = true;
    while (!atomic_load(&sleeper->asleep))
        sched_yield();
}

static void a_reader_sleeps(void *subject)
{
    struct scene *scene = subject;
    begin(scene, receive_in_time, &scene->reader[OTHER].seat->sleeps);
}

static void the_writer_sleeps(void *subject)
{
    struct scene *scene = subject;
    begin(scene, send_in_time, &scene->writer.view.shared->writer_sleeps);
}

static void send_one(void *subject)
{
    struct scene *scene = subject;
    send_some(&scene->writer, 1, 0);
}

static void make_room(void *subject)
{
    struct scene *scene = subject;
    for (uint32_t seat = 0; seat < READERS; seat++)
        receive_some(&scene->reader[seat], 1, 0);
}

/* ---- what the survivors do ---- */

static const char *receive_all(struct lab_broadcast_reader *reader, int outcome)
{
    int got;
    while ((got = receive_some(reader, 64, 0)) > 0)
        continue;
    LAB_EXPECT(got == outcome);
    return NULL;
}

/* Each reader gets all that was committed, whole and in order, or knows how much it lost, and then -EPIPE; they agree. */
static const char *readers_survive(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    close_writer(scene);
    close_writer(scene);
    if (scene->survives) {
        pthread_join(scene->survivor, NULL);
        LAB_EXPECT(scene->outcome == -EPIPE);
    }
    for (uint32_t seat = 0; seat < READERS; seat++)
        LAB_EXPECT_FINE(receive_all(&scene->reader[seat], -EPIPE));
    LAB_EXPECT(scene->reader[VICTIM].tail == scene->reader[OTHER].tail);
    LAB_EXPECT(scene->reader[OTHER].tail >= scene->row->sent);
    LAB_EXPECT(scene->row->config.overwrite || scene->reader[VICTIM].lost + scene->reader[OTHER].lost == 0);
    struct lab_broadcast_writer writer;
    LAB_EXPECT(attach_writer_to(scene, &writer) == -EBUSY);
    *ret_seen = (uint32_t)scene->reader[OTHER].tail - scene->row->sent;
    return NULL;
}

static uint64_t released(const struct scene *scene)
{
    return atomic_load(&scene->reader[VICTIM].seat->released);
}

/* More than a lap comes to the one who is left. */
static const char *a_reader_is_left(struct scene *scene)
{
    for (uint64_t end = scene->writer.head + scene->shape.slots; scene->writer.head <= end;) {
        LAB_EXPECT(send_some(&scene->writer, 64, 0) > 0);
        LAB_EXPECT(receive_some(&scene->reader[OTHER], 64, 0) > 0);
    }
    LAB_EXPECT_FINE(receive_all(&scene->reader[OTHER], -EAGAIN));
    LAB_EXPECT(scene->reader[OTHER].tail == scene->writer.head);
    return NULL;
}

/* It holds nobody up once it is declared gone, and where it says that it has got to it may have got to. Seen is what it has released. */
static const char *others_survive_a_reader(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    LAB_EXPECT(released(scene) <= scene->writer.head);
    close_reader(scene);
    close_reader(scene);
    if (scene->survives) {
        LAB_EXPECT_FINE(receive_all(&scene->reader[OTHER], -EAGAIN));
        pthread_join(scene->survivor, NULL);
        LAB_EXPECT(scene->outcome == 1);
    }
    LAB_EXPECT_FINE(receive_all(&scene->reader[OTHER], -EAGAIN));
    LAB_EXPECT_FINE(a_reader_is_left(scene));
    *ret_seen = (uint32_t)(released(scene) - scene->row->received / scene->shape.lazy * scene->shape.lazy * !scene->row->config.overwrite);
    LAB_EXPECT(attach_reader_to(scene, &scene->reader[VICTIM], VICTIM) == -EBUSY);
    lab_broadcast_hangup(scene->memory, &scene->row->config, LAB_BROADCAST_READER, OTHER);
    LAB_EXPECT(send_some(&scene->writer, 1, soon()) == -EPIPE);
    return NULL;
}

/* The seat of one that was killed while it took it is free or taken; the others get on with either. */
static const char *a_fresh_writer_is_refused_or_works(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    int err = attach_writer_to(scene, &scene->writer);
    LAB_EXPECT(err == 0 ? send_some(&scene->writer, 1, 0) == 1 : err == -EBUSY);
    LAB_EXPECT_FINE(readers_survive(scene, ret_seen));
    LAB_EXPECT(*ret_seen == (err == 0));
    *ret_seen = err != 0;
    return NULL;
}

static const char *a_fresh_reader_is_refused_or_works(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    int err = attach_reader_to(scene, &scene->reader[VICTIM], VICTIM);
    LAB_EXPECT(send_some(&scene->writer, 1, 0) == 1);
    LAB_EXPECT(err == 0 ? receive_some(&scene->reader[VICTIM], 1, 0) == 1 : err == -EBUSY);
    close_reader(scene);
    LAB_EXPECT_FINE(receive_all(&scene->reader[OTHER], -EAGAIN));
    LAB_EXPECT_FINE(a_reader_is_left(scene));
    *ret_seen = err != 0;
    return NULL;
}

/* ---- what is wrong on purpose ---- */

static void send_before_writing(void *subject)
{
    struct scene *scene = subject;
    struct lab_span span = {0};
    uint64_t head = scene->writer.head;
    if (lab_broadcast_reserve(&scene->writer, MESSAGE, 1, 0, &span))
        return;
    lab_broadcast_commit(&scene->writer, 1);
    write_message(span.at, head);
}

/* Nothing says that the place is being written. */
static void overwrite_unmarked(void *subject)
{
    struct scene *scene = subject;
    struct lab_broadcast_writer *writer = &scene->writer;
    write_message(lab_broadcast_place(&writer->view, writer->head), writer->head);
    atomic_store(&lab_broadcast_head(&writer->view, writer->head)->stamp, lab_broadcast_stamp_of(writer->head));
    writer->head++;
}

/* ---- operations ---- */

#define NEAR {.message_max = MESSAGE, .window = 2, .batch = 1, .readers = READERS, .wait = LAB_WAIT_SPIN}
#define FAR {.message_max = 1000, .window = 1024, .batch = 8, .readers = READERS, .wait = LAB_WAIT_SPIN}
#define SLEEPY {.message_max = MESSAGE, .window = 2, .batch = 1, .readers = READERS, .wait = LAB_WAIT_FUTEX}
#define OVER {.message_max = MESSAGE, .window = 3, .batch = 1, .readers = READERS, .overwrite = true, .wait = LAB_WAIT_SPIN}
#define OVER_SLEEPY {.message_max = MESSAGE, .window = 3, .batch = 1, .readers = READERS, .overwrite = true, .wait = LAB_WAIT_FUTEX}
enum { SLOTS = 4, FAR_LAZY = 1024 }; /* of OVER; of FAR */

static const struct row rows[] = {
    {{LAB_CRASH("reserve, commit: for latency", set_up, send, readers_survive, 1)}, NEAR, 1, 0, 1, true},
    {{LAB_CRASH("reserve, commit: room that came back", set_up, send, readers_survive, 1)}, NEAR, 4, 4, 1, false},
    {{LAB_CRASH("reserve, commit: for throughput, 7 at a time", set_up, send, readers_survive, 7)}, FAR, 3, 1, 7, true},
    {{LAB_CRASH("reserve, commit, wake", set_up, send, readers_survive, 1), .meanwhile = a_reader_sleeps}, SLEEPY, 1, 1, 1, false},
    {{LAB_CRASH("reserve: asleep, for a reader is behind", set_up, wait_for_room, readers_survive, 0), .sleeps = true},
     SLEEPY, 2, 1, 0, true},
    {{LAB_CRASH("reserve: woken", set_up, wait_for_room, readers_survive, 1), .nudge = make_room}, SLEEPY, 2, 1, 0, true},
    {{LAB_CRASH("borrow, release: for latency", set_up, receive, others_survive_a_reader, 1)}, NEAR, 2, 0, 1, false},
    {{LAB_CRASH("borrow, release: for throughput, not published", set_up, receive, others_survive_a_reader, 0)}, FAR, 9, 1, 7, true},
    {{LAB_CRASH("borrow, release: for throughput, published", set_up, receive, others_survive_a_reader, FAR_LAZY + 4)},
     FAR, FAR_LAZY + 8, FAR_LAZY - 3, 7, false},
    {{LAB_CRASH("borrow, release, wake", set_up, receive, others_survive_a_reader, 1), .meanwhile = the_writer_sleeps},
     SLEEPY, 2, 0, 1, false},
    {{LAB_CRASH("borrow: asleep", set_up, wait_for_messages, others_survive_a_reader, 0), .sleeps = true}, SLEEPY, 2, 2, 0, true},
    {{LAB_CRASH("borrow: woken", set_up, wait_for_messages, others_survive_a_reader, 1), .nudge = send_one}, SLEEPY, 2, 2, 0, false},
    {{LAB_CRASH("send: the place was never used", set_up, send, readers_survive, 1)}, OVER, 1, 0, 1, true},
    {{LAB_CRASH("send: what two still wait for", set_up, send, readers_survive, 1)}, OVER, SLOTS, 0, 1, true},
    {{LAB_CRASH("send: what one lost long ago", set_up, send, readers_survive, 1)}, OVER, 3 * SLOTS, 2 * SLOTS, 1, true},
    {{LAB_CRASH("send, wake", set_up, send, readers_survive, 1), .meanwhile = a_reader_sleeps}, OVER_SLEEPY, 5, 2, 1, false},
    {{LAB_CRASH("receive", set_up, receive, others_survive_a_reader, 0)}, OVER, 2, 0, 1, false},
    {{LAB_CRASH("receive: overtaken", set_up, receive, others_survive_a_reader, 0)}, OVER, 3 * SLOTS, 1, 1, false},
    {{LAB_CRASH("receive: asleep", set_up, wait_for_messages, others_survive_a_reader, 0), .sleeps = true}, OVER_SLEEPY, 2, 2, 0, true},
    {{LAB_CRASH("receive: woken", set_up, wait_for_messages, others_survive_a_reader, 0), .nudge = send_one}, OVER_SLEEPY, 2, 2, 0, false},
    {{LAB_CRASH("hangup of the writer", set_up, close_writer, readers_survive, 0), .meanwhile = a_reader_sleeps}, SLEEPY, 1, 0, 0, false},
    {{LAB_CRASH("hangup of a reader", set_up, close_reader, others_survive_a_reader, 0), .meanwhile = the_writer_sleeps},
     SLEEPY, 2, 0, 0, false},
    {{LAB_CRASH("attach the writer", set_up_without_a_writer, attach_writer, a_fresh_writer_is_refused_or_works, 1)}, NEAR, 0, 0, 0, true},
    {{LAB_CRASH("attach a reader", set_up_without_a_reader, attach_reader, a_fresh_reader_is_refused_or_works, 1)}, NEAR, 0, 0, 0, true},
};

static const struct row faults[] = {
    {{LAB_CRASH("stamps a message before it is written", set_up, send_before_writing, readers_survive, 1)}, NEAR, 1, 0, 1, true},
    {{LAB_CRASH("overwrites what it has not marked", set_up, overwrite_unmarked, readers_survive, 1)}, OVER, SLOTS, 0, 1, true},
};

int main(void)
{
    static struct scene scene;
    return lab_crash_main("broadcast", LAB_CRASH_TABLE(rows), LAB_CRASH_TABLE(faults), &scene);
}
