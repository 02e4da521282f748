/* How byte streams (pipe, fifo, unix-stream, tcp) and unix-seqpacket put messages into what the kernel gives them: seen from the other side of the descriptor, byte by
 * byte and packet by packet. What both promise is in contract.transports. */
#include "base/alarm.h"
#include "base/clock.h"
#include "node/lane/lane.h"
#include "node/transport.h"

#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { HEAD = sizeof(uint32_t) };

/* One end of a channel, and the bare descriptor at its other side. */
struct half {
    struct lab_channel channel;
    struct lab_end *end;
    int bare;
};

static struct half half_open_batch(const char *transport, enum lab_role role, uint32_t message_max, uint32_t batch)
{
    struct half half = {.channel = {
        .transport = lab_transport_named(transport), .wait = LAB_WAIT_BLOCK, .message_max = message_max, .window = batch, .batch = batch,
    }};
    struct lab_wire wire;
    assert_non_null(half.channel.transport);
    lab_assert_ok(lab_transport_ops(half.channel.transport)->provision(&half.channel, &wire));
    lab_assert_ok(lab_end_open(&half.channel, role, &wire, NULL, lab_now_ns() + LAB_NS_PER_S, &half.end));
    half.bare = wire.fd[!role];
    return half;
}

static struct half half_open(const char *transport, enum lab_role role, uint32_t message_max)
{
    return half_open_batch(transport, role, message_max, 1);
}

static void half_close(struct half *half)
{
    lab_end_close(half->end);
    if (half->bare >= 0)
        close(half->bare);
}

static size_t frame(unsigned char *to, uint32_t length, unsigned char first)
{
    memcpy(to, &length, HEAD);
    for (uint32_t i = 0; i < length; i++)
        to[HEAD + i] = (unsigned char)(first + i);
    return HEAD + length;
}

static bool counts_from(const unsigned char *bytes, size_t length, unsigned char first)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != (unsigned char)(first + i))
            return false;
    return true;
}

/* ---- streams of bytes ---- */

static const char *const streams[] = {"pipe", "fifo", "unix-stream", "tcp"};
enum { STREAMS = sizeof streams / sizeof *streams };

static void a_stream_read_in_pieces_of_any_size_gives_whole_messages(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {8, 1, 100, 99, 8, 3000, 5000, 4096, 4092, 9000, 64, 64, 64, 0, 12};
    enum { COUNT = sizeof lengths / sizeof *lengths };
    static unsigned char stream[COUNT * 9004];
    size_t size = 0;
    for (size_t i = 0; i < COUNT; i++)
        size += frame(stream + size, lengths[i], (unsigned char)i);

    static const size_t steps[] = {1, 2, 3, 5, 7, 67, 68, 4095, 4096, 4100, 60000};
    enum { STEPS = sizeof steps / sizeof *steps };
    for (size_t i = 0; i < STEPS * STREAMS; i++) {
        struct half half = half_open(streams[i / STEPS], LAB_RX, 9000);
        unsigned char *to = calloc(1, 9000);
        size_t received = 0, step = steps[i % STEPS];
        for (size_t at = 0; at < size; at += step) {
            size_t count = size - at < step ? size - at : step;
            assert_int_equal(write(half.bare, stream + at, count), count);
            ssize_t got;
            while ((got = lab_end_recv(half.end, to, 9000, 0)) != -EAGAIN) {
                assert_true(received < COUNT);
                assert_int_equal(got, lengths[received]);
                assert_true(counts_from(to, lengths[received], (unsigned char)received));
                received++;
            }
        }
        assert_int_equal(received, COUNT);
        free(to);
        half_close(&half);
    }
}

static void what_a_pipe_message_has_too_much_is_skipped_in_pieces_of_any_size(void **state)
{
    (void)state;
    for (size_t step = 1; step < 400; step += 13) {
        struct half half = half_open("pipe", LAB_RX, 300);
        unsigned char stream[3 * 304], to[64] = {0};
        size_t size = frame(stream, 300, 1);
        size += frame(stream + size, 65, 2);
        size += frame(stream + size, 64, 3);
        int outcomes[3] = {0}, seen = 0;
        for (size_t at = 0; at < size; at += step) {
            size_t count = size - at < step ? size - at : step;
            assert_int_equal(write(half.bare, stream + at, count), count);
            ssize_t got;
            while ((got = lab_end_recv(half.end, to, sizeof to, 0)) != -EAGAIN) {
                assert_true(seen < 3);
                outcomes[seen++] = (int)got;
            }
        }
        assert_int_equal(seen, 3);
        assert_int_equal(outcomes[0], -EMSGSIZE);
        assert_int_equal(outcomes[1], -EMSGSIZE);
        assert_int_equal(outcomes[2], 64);
        assert_true(counts_from(to, 64, 3));
        half_close(&half);
    }
}

static void a_length_that_cannot_be_is_refused(void **state)
{
    (void)state;
    struct half half = half_open("pipe", LAB_RX, 100);
    unsigned char to[100];
    static const uint32_t hostile = 0xfffffff0;
    assert_int_equal(write(half.bare, &hostile, HEAD), HEAD);
    lab_assert_fails(lab_end_recv(half.end, to, sizeof to, 0), EBADMSG);
    half_close(&half);
}

static void a_pipe_that_ends_inside_a_message_is_a_peer_that_is_gone(void **state)
{
    (void)state;
    struct half half = half_open("pipe", LAB_RX, 100);
    unsigned char stream[2 * 104], to[100] = {0};
    size_t size = frame(stream, 100, 1);
    size += frame(stream + size, 100, 2);
    assert_int_equal(write(half.bare, stream, size - 1), size - 1);
    close(half.bare);
    half.bare = -1;
    assert_int_equal(lab_end_recv(half.end, to, sizeof to, 0), 100);
    lab_assert_fails(lab_end_recv(half.end, to, sizeof to, lab_now_ns() + LAB_NS_PER_S), EPIPE);
    half_close(&half);
}

/* Reads everything that is written, but not before the sender's deadline has passed with the pipe full. */
struct late_reader {
    int fd;
    uint64_t from_ns;
    size_t size;
    unsigned char *bytes;
    size_t got;
};

static void *read_late(void *argument)
{
    struct late_reader *reader = argument;
    int waiting = 0;
    while (waiting < 4096 || lab_now_ns() < reader->from_ns)
        if (ioctl(reader->fd, FIONREAD, &waiting) < 0)
            return NULL;
    ssize_t n;
    while (reader->got < reader->size && (n = read(reader->fd, reader->bytes + reader->got, reader->size - reader->got)) > 0)
        reader->got += (size_t)n;
    return NULL;
}

static void a_message_cut_by_the_senders_deadline_is_finished_when_the_receiver_reads_on(void **state)
{
    (void)state;
    enum { LENGTH = 100000 };
    struct half half = half_open("pipe", LAB_TX, LENGTH);
    assert_int_equal(fcntl(half.bare, F_SETPIPE_SZ, 4096), 4096);
    unsigned char *framed = malloc(HEAD + LENGTH), *read_back = malloc(HEAD + LENGTH);
    frame(framed, LENGTH, 9);
    uint64_t deadline_ns = lab_now_ns() + 2 * LAB_NS_PER_MS;
    struct late_reader reader = {half.bare, deadline_ns + 30 * LAB_NS_PER_MS, HEAD + LENGTH, read_back, 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_late, &reader), 0);
    lab_assert_ok(lab_end_send(half.end, framed + HEAD, LENGTH, deadline_ns));
    pthread_join(thread, NULL);
    assert_int_equal(reader.got, HEAD + LENGTH);
    assert_memory_equal(read_back, framed, HEAD + LENGTH);
    free(framed);
    free(read_back);
    half_close(&half);
}

static void a_message_cut_and_never_read_on_breaks_the_sending_end(void **state)
{
    (void)state;
    static const char *const transports[] = {"pipe", "unix-seqpacket"};
    static unsigned char message[4 << 20];
    for (size_t i = 0; i < 2; i++) {
        struct half half = half_open(transports[i], LAB_TX, sizeof message);
        /* Room for a packet or two, not for the message. */
        const int little = 64 << 10;
        if (setsockopt(half.end->wire.fd[LAB_TX], SOL_SOCKET, SO_SNDBUF, &little, sizeof little) < 0)
            assert_int_equal(errno, ENOTSOCK);
        lab_assert_fails(lab_end_send(half.end, message, sizeof message, lab_now_ns() + LAB_NS_PER_MS), EIO);
        lab_assert_fails(lab_end_send(half.end, message, 8, lab_now_ns() + LAB_NS_PER_MS), EIO);
        half_close(&half);
    }
}

/* ---- several messages together ---- */

static void messages_read_together_are_whole_whatever_pieces_they_come_in(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {8, 1, 100, 99, 8, 3000, 5000, 4096, 4092, 9000, 64, 64, 64, 0, 12};
    enum { COUNT = sizeof lengths / sizeof *lengths, BATCH = 4, PLACE = 9000 };
    static unsigned char stream[COUNT * (PLACE + HEAD)], places[BATCH * PLACE];
    size_t size = 0;
    for (size_t i = 0; i < COUNT; i++)
        size += frame(stream + size, lengths[i], (unsigned char)i);
    static const size_t steps[] = {1, 3, 67, 68, 4095, 4100, 60000};
    enum { STEPS = sizeof steps / sizeof *steps };
    for (size_t i = 0; i < STEPS * STREAMS; i++) {
        struct half half = half_open_batch(streams[i / STEPS], LAB_RX, PLACE, BATCH);
        size_t received = 0, step = steps[i % STEPS];
        for (size_t at = 0; at < size; at += step) {
            uint32_t length[BATCH];
            size_t count = size - at < step ? size - at : step;
            int got;
            assert_int_equal(write(half.bare, stream + at, count), count);
            while ((got = half.end->ops->recv_many(half.end, places, PLACE, BATCH, 0, length)) != -EAGAIN) {
                assert_in_range(got, 1, BATCH);
                for (int m = 0; m < got; m++, received++) {
                    assert_true(received < COUNT);
                    assert_int_equal(length[m], lengths[received]);
                    assert_true(counts_from(places + m * PLACE, length[m], (unsigned char)received));
                }
            }
        }
        assert_int_equal(received, COUNT);
        half_close(&half);
    }
}

/* What is gathered is more than the pipe has room for, and the deadline passes inside a message: that one is finished, and those behind it
 * were not sent. */
static void of_messages_written_together_only_the_one_that_was_begun_is_finished(void **state)
{
    (void)state;
    enum { LENGTH = 100, BATCH = 64, ROOM = 4096, FITS = ROOM / (HEAD + LENGTH), FINISHED = (FITS + 1) * (HEAD + LENGTH) };
    struct half half = half_open_batch("pipe", LAB_TX, LENGTH, BATCH);
    assert_int_equal(fcntl(half.bare, F_SETPIPE_SZ, ROOM), ROOM);
    static unsigned char messages[BATCH * LENGTH], expected[BATCH * (HEAD + LENGTH)], read_back[FINISHED];
    for (size_t i = 0; i < BATCH; i++) {
        unsigned char *framed = expected + i * (HEAD + LENGTH);
        frame(framed, LENGTH, (unsigned char)i);
        memcpy(messages + i * LENGTH, framed + HEAD, LENGTH);
    }
    const struct lab_span span = {.at = messages, .stride = LENGTH, .length = LENGTH, .count = BATCH};
    uint64_t deadline_ns = lab_now_ns() + 2 * LAB_NS_PER_MS;
    struct late_reader reader = {half.bare, deadline_ns + 30 * LAB_NS_PER_MS, FINISHED, read_back, 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_late, &reader), 0);
    assert_int_equal(half.end->ops->send_many(half.end, &span, deadline_ns), FITS + 1);
    pthread_join(thread, NULL);
    assert_int_equal(reader.got, FINISHED);
    assert_memory_equal(read_back, expected, FINISHED);
    int more = 0;
    assert_int_equal(ioctl(half.bare, FIONREAD, &more), 0);
    assert_int_equal(more, 0);
    half_close(&half);
}

/* ---- unix-seqpacket ---- */

static void send_part(int fd, uint32_t rest, const unsigned char *bytes, size_t count)
{
    struct iovec pieces[2] = {{&rest, HEAD}, {(void *)(uintptr_t)bytes, count}};
    assert_int_equal(sendmsg(fd, &(struct msghdr){.msg_iov = pieces, .msg_iovlen = 2}, 0), HEAD + count);
}

static void a_short_message_is_one_bare_packet(void **state)
{
    (void)state;
    struct half rx = half_open("unix-seqpacket", LAB_RX, 64), tx = half_open("unix-seqpacket", LAB_TX, 64);
    unsigned char bytes[64] = "as it stands", to[65];
    assert_int_equal(send(rx.bare, bytes, 13, 0), 13);
    assert_int_equal(lab_end_recv(rx.end, to, sizeof bytes, 0), 13);
    assert_memory_equal(to, bytes, 13);
    lab_assert_ok(lab_end_send(tx.end, bytes, 64, 0));
    assert_int_equal(recv(tx.bare, to, sizeof to, 0), 64);
    assert_memory_equal(to, bytes, 64);
    lab_assert_fails(lab_end_send(tx.end, bytes, 0, 0), EMSGSIZE);
    half_close(&rx);
    half_close(&tx);
}

static void a_long_message_arrives_part_by_part_and_nothing_is_lost_between(void **state)
{
    (void)state;
    enum { LENGTH = 200000 };
    struct half half = half_open("unix-seqpacket", LAB_RX, LENGTH);
    unsigned char *framed = malloc(HEAD + LENGTH), *to = calloc(1, LENGTH);
    frame(framed, LENGTH, 5);
    static const size_t parts[] = {1, 65000, 30000, 7, 60000, 44992};
    for (int round = 0; round < 3; round++) {
        size_t sent = 0;
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            assert_int_equal(lab_end_recv(half.end, to, LENGTH, 0), -EAGAIN);
            memset(to, 0, LENGTH); /* the next attempt may use another buffer */
            send_part(half.bare, (uint32_t)(LENGTH - sent), framed + HEAD + sent, parts[i]);
            sent += parts[i];
        }
        assert_int_equal(sent, LENGTH);
        assert_int_equal(lab_end_recv(half.end, to, LENGTH, 0), LENGTH);
        assert_memory_equal(to, framed + HEAD, LENGTH);
    }
    free(framed);
    free(to);
    half_close(&half);
}

static void parts_of_a_message_that_is_too_long_are_skipped(void **state)
{
    (void)state;
    struct half half = half_open("unix-seqpacket", LAB_RX, 100000);
    static unsigned char framed[HEAD + 100000], to[1000];
    frame(framed, 100000, 5);
    send_part(half.bare, 3000, framed, 1000);
    lab_assert_fails(lab_end_recv(half.end, to, sizeof to, 0), EMSGSIZE);
    assert_int_equal(lab_end_recv(half.end, to, sizeof to, 0), -EAGAIN);
    send_part(half.bare, 2000, framed, 500);
    send_part(half.bare, 1500, framed, 1500);
    send_part(half.bare, 64, framed + HEAD, 64);
    assert_int_equal(lab_end_recv(half.end, to, sizeof to, 0), 64);
    assert_memory_equal(to, framed + HEAD, 64);
    /* The buffer shrinks between two attempts at one message. */
    send_part(half.bare, 900, framed, 400);
    assert_int_equal(lab_end_recv(half.end, to, 1000, 0), -EAGAIN);
    lab_assert_fails(lab_end_recv(half.end, to, 500, 0), EMSGSIZE);
    send_part(half.bare, 500, framed, 500);
    send_part(half.bare, 64, framed + HEAD, 64);
    assert_int_equal(lab_end_recv(half.end, to, 500, 0), 64);
    half_close(&half);
}

static void a_part_that_is_not_due_is_refused(void **state)
{
    (void)state;
    static unsigned char bytes[100], to[100000];
    static const struct {
        uint32_t rest[2];
        size_t count[2];
    } wrong[] = {
        {{200, 150}, {100, 100}}, /* says that fewer bytes came before */
        {{200, 50}, {100, 50}},   /* ... more */
        {{50, 0}, {100, 0}},      /* longer than it says */
        {{100001, 0}, {100, 0}},  /* longer than the channel allows */
        {{100, 0}, {0, 0}},       /* empty: it would never end */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct half half = half_open("unix-seqpacket", LAB_RX, 100000);
        send_part(half.bare, wrong[i].rest[0], bytes, wrong[i].count[0]);
        if (wrong[i].count[1])
            send_part(half.bare, wrong[i].rest[1], bytes, wrong[i].count[1]);
        lab_assert_fails(lab_end_recv(half.end, to, sizeof to, 0), EBADMSG);
        half_close(&half);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_read_in_pieces_of_any_size_gives_whole_messages),
        cmocka_unit_test(what_a_pipe_message_has_too_much_is_skipped_in_pieces_of_any_size),
        cmocka_unit_test(a_length_that_cannot_be_is_refused),
        cmocka_unit_test(a_pipe_that_ends_inside_a_message_is_a_peer_that_is_gone),
        cmocka_unit_test(a_message_cut_by_the_senders_deadline_is_finished_when_the_receiver_reads_on),
        cmocka_unit_test(a_message_cut_and_never_read_on_breaks_the_sending_end),
        cmocka_unit_test(messages_read_together_are_whole_whatever_pieces_they_come_in),
        cmocka_unit_test(of_messages_written_together_only_the_one_that_was_begun_is_finished),
        cmocka_unit_test(a_short_message_is_one_bare_packet),
        cmocka_unit_test(a_long_message_arrives_part_by_part_and_nothing_is_lost_between),
        cmocka_unit_test(parts_of_a_message_that_is_too_long_are_skipped),
        cmocka_unit_test(a_part_that_is_not_due_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
