/* What is on the wire between two ends over ZeroMQ, taken off it by somebody in the middle: a forwarder of TCP that knows ZMTP 3 frames and
 * nothing of what is in them. For tests/unit/decode.sh, which shows them to other implementations of protobuf:
 *
 *     unit.capture best-effort|reliable|batch workers|nodes FOLDER     writes FOLDER/tx.0, tx.1, ... and rx.0, ...; MESSAGES were sent
 *
 * Without arguments it captures each kind, and reads what it captured by hand. */
#include "base/clock.h"
#include "node/transport.h"
#include "proto/batch.h"
#include "proto/envelope.h"
#include "proto/reliable_frame.h"

#include "tests/check.h"
#include "tests/ledger.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MESSAGES = 5, MESSAGE = 40, WIRE_MAX = 1 << 16, GREETING = 64, FRAMES_MAX = 64, PATIENCE_S = 60 };
enum { ZMTP_LONG = 2, ZMTP_COMMAND = 4 };

struct frame {
    const unsigned char *at;
    size_t size;
};

struct way {
    unsigned char bytes[WIRE_MAX];
    size_t size;
    struct frame frames[FRAMES_MAX];
    uint32_t count;
};

static const struct lab_envelope head = {.run = 5, .epoch = 1, .sender = 3, .receiver = 4, .stamp_ns = 99, .channel = 7};

static uint64_t patience(void)
{
    return lab_now_ns() + PATIENCE_S * LAB_NS_PER_S;
}

static struct lab_channel channel_of(const char *kind, bool nodes)
{
    return (struct lab_channel){
        .transport = lab_transport_named("zmq-tcp"), .wait = LAB_WAIT_BLOCK, .id = 7, .epoch = 1, .crosses_nodes = nodes, .window = 8,
        .message_max = MESSAGE + (nodes ? LAB_ENVELOPE_HEAD : 0), .batch = strcmp(kind, "batch") == 0 ? MESSAGES : 1,
        .reliable = strcmp(kind, "reliable") == 0};
}

/* ---- the two ends ---- */

static bool send_all(struct lab_end *end)
{
    const struct lab_channel *channel = &end->channel;
    unsigned char messages[MESSAGES][LAB_ENVELOPE_HEAD + MESSAGE];
    for (uint64_t i = 0; i < MESSAGES; i++) {
        struct lab_envelope envelope = head;
        envelope.sequence = i;
        if (channel->crosses_nodes)
            lab_envelope_write(&envelope, MESSAGE, messages[i]);
        lab_ledger_write(messages[i] + channel->message_max - MESSAGE, MESSAGE, i);
    }
    struct lab_span span = {.at = messages[0], .stride = sizeof messages[0], .length = channel->message_max, .count = MESSAGES};
    if (channel->batch > 1)
        return end->ops->send_many(end, &span, patience()) == MESSAGES;
    for (uint64_t i = 0; i < MESSAGES; i++)
        if (end->ops->send(end, messages[i], channel->message_max, patience()))
            return false;
    return true;
}

static bool receive_all(struct lab_end *end)
{
    unsigned char message[LAB_ENVELOPE_HEAD + MESSAGE];
    uint64_t count = 0;
    ssize_t got;
    while ((got = end->ops->recv(end, message, sizeof message, patience())) > 0)
        count += lab_ledger_holds(message + got - MESSAGE, MESSAGE, count);
    return got == -EPIPE && count == MESSAGES;
}

static pid_t play(const struct lab_channel *channel, enum lab_role role, const struct lab_wire *wire)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct lab_end *end;
    if (lab_end_open(channel, role, wire, NULL, patience(), &end))
        _exit(2);
    bool well = role == LAB_TX ? send_all(end) : receive_all(end);
    lab_end_close(end);
    _exit(well ? 0 : 1);
}

/* ---- the one in the middle ---- */

static int listen_somewhere(char address[LAB_ADDRESS_MAX])
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&name, size) == 0 && listen(fd, 1) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &size), 0);
    snprintf(address, LAB_ADDRESS_MAX, "tcp://127.0.0.1:%u", ntohs(name.sin_port));
    return fd;
}

static int connect_to(const char *address)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    name.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof name) == 0);
    return fd;
}

/* Passes on and keeps what there is; false: nothing more will come. */
static bool forward(int from, int to, struct way *way)
{
    ssize_t got = recv(from, way->bytes + way->size, WIRE_MAX - way->size, 0);
    if (got <= 0)
        return false;
    bool passed = send(to, way->bytes + way->size, (size_t)got, MSG_NOSIGNAL) == got;
    way->size += (size_t)got;
    return passed;
}

static void stand_between(int listening, const char *address, struct way ways[2])
{
    struct pollfd there = {.fd = listening, .events = POLLIN};
    assert_int_equal(poll(&there, 1, PATIENCE_S * 1000), 1);
    int fds[2] = {accept4(listening, NULL, NULL, SOCK_CLOEXEC), connect_to(address)};
    struct pollfd polled[2] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = POLLIN}};
    bool open = true;
    while (open) {
        assert_true(poll(polled, 2, PATIENCE_S * 1000) > 0);
        for (int i = 0; i < 2 && open; i++)
            if (polled[i].revents)
                open = forward(fds[i], fds[!i], &ways[i]);
    }
    close(fds[0]);
    close(fds[1]);
}

/* RFC 23/ZMTP: a greeting, then frames: flags, a length of one byte or eight, the body. */
static void find_frames(struct way *way)
{
    size_t at = GREETING;
    while (at < way->size && way->count < FRAMES_MAX) {
        unsigned char flags = way->bytes[at++];
        size_t size = 0;
        for (int bytes = flags & ZMTP_LONG ? 8 : 1; bytes; bytes--)
            size = size << 8 | way->bytes[at++];
        assert_true(size <= way->size - at);
        if (!(flags & ZMTP_COMMAND) && size)
            way->frames[way->count++] = (struct frame){way->bytes + at, size};
        at += size;
    }
}

static void capture(const char *kind, bool nodes, struct way ways[2])
{
    struct lab_channel channel = channel_of(kind, nodes);
    const struct lab_transport_ops *ops = lab_transport_ops(channel.transport);
    struct lab_wire wire, other = {.fd = {-1, -1}};
    assert_non_null(ops);
    memset(ways, 0, 2 * sizeof *ways);
    lab_assert_ok(ops->provision(&channel, &wire));
    int listening = listen_somewhere(other.address);
    pid_t receiver = play(&channel, LAB_RX, &wire), sender = play(&channel, LAB_TX, &other);
    stand_between(listening, wire.address, ways);
    int status[2];
    waitpid(sender, &status[0], 0);
    waitpid(receiver, &status[1], 0);
    close(listening);
    ops->retire(&channel, &wire);
    assert_int_equal(status[0], 0);
    assert_int_equal(status[1], 0);
    find_frames(&ways[LAB_TX]);
    find_frames(&ways[LAB_RX]);
}

/* ---- read by hand ---- */

static struct way ways[2];

static void reliable_frames_are_on_the_wire_as_they_are_drawn(void **state)
{
    (void)state;
    for (int nodes = 0; nodes < 2; nodes++) {
        capture("reliable", nodes, ways);
        uint32_t seen[LAB_RELIABLE_ACK + 1] = {0};
        for (int role = 0; role < 2; role++)
            for (uint32_t i = 0; i < ways[role].count; i++) {
                struct lab_reliable_frame frame;
                const unsigned char *message;
                size_t size;
                lab_assert_ok(lab_reliable_read(ways[role].frames[i].at, ways[role].frames[i].size, UINT64_C(1) << 32 | 7, nodes, &frame, &message, &size));
                seen[frame.kind]++;
                assert_int_equal(frame.kind >= LAB_RELIABLE_HERE, role);
            }
        assert_true(seen[LAB_RELIABLE_ASK] && seen[LAB_RELIABLE_HERE] && seen[LAB_RELIABLE_ACK]);
        assert_true(seen[LAB_RELIABLE_DATA] >= MESSAGES + 1); /* and the end */
    }
}

static void best_effort_sends_the_message_and_nothing_else(void **state)
{
    (void)state;
    for (int nodes = 0; nodes < 2; nodes++) {
        capture("best-effort", nodes, ways);
        assert_int_equal(ways[LAB_TX].count, MESSAGES);
        assert_int_equal(ways[LAB_RX].count, 0);
        for (uint32_t i = 0; i < MESSAGES; i++)
            assert_int_equal(ways[LAB_TX].frames[i].size, MESSAGE + (nodes ? LAB_ENVELOPE_HEAD : 0));
    }
}

static int write_frames(const char *folder)
{
    static const char *const names[] = {"tx", "rx"};
    char path[512];
    for (int role = 0; role < 2; role++)
        for (uint32_t i = 0; i < ways[role].count; i++) {
            snprintf(path, sizeof path, "%s/%s.%u", folder, names[role], i);
            FILE *to = fopen(path, "w");
            bool well = to && fwrite(ways[role].frames[i].at, 1, ways[role].frames[i].size, to) == ways[role].frames[i].size;
            if (!to || fclose(to) || !well)
                return 1;
        }
    return 0;
}

int main(int argc, char **argv)
{
    if (!lab_transport_ops(lab_transport_named("zmq-tcp")))
        lab_test_skip_all(lab_error_last()->text);
    if (argc == 4) {
        capture(argv[1], strcmp(argv[2], "nodes") == 0, ways);
        return write_frames(argv[3]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reliable_frames_are_on_the_wire_as_they_are_drawn),
        cmocka_unit_test(best_effort_sends_the_message_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
