/* What the kernel's datagrams and queues are made to promise, seen beside the seam: whom they let in, what is dropped, what bounds them, and
 * what is left of them and by whom it is found. What a user sees of them is in contract.transports. */
#include "base/clock.h"
#include "base/leftover.h"
#include "node/lane/lane.h"
#include "node/transport.h"
#include "shm/backing.h"
#include "sweep/clean.h"

#include "tests/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A channel and its two ends, in this process. */
struct whole {
    struct lab_channel channel;
    struct lab_wire wire; /* the node's */
    struct lab_end *end[2];
};

static const struct lab_transport_ops *ops_of(const struct lab_channel *channel)
{
    return lab_transport_ops(channel->transport);
}

static struct lab_channel channel_of(const char *transport, uint32_t message_max, uint32_t window)
{
    struct lab_channel channel = {
        .transport = lab_transport_named(transport), .wait = LAB_WAIT_BLOCK, .message_max = message_max, .window = window, .batch = 1};
    assert_non_null(channel.transport);
    return channel;
}

static struct whole whole_open(const char *transport, uint32_t message_max, uint32_t window)
{
    struct whole whole = {.channel = channel_of(transport, message_max, window)};
    lab_assert_ok(ops_of(&whole.channel)->provision(&whole.channel, &whole.wire));
    for (int role = 0; role < 2; role++) {
        struct lab_wire half;
        lab_assert_ok(lab_wire_half(&whole.wire, (enum lab_role)role, &half));
        lab_assert_ok(lab_end_open(&whole.channel, (enum lab_role)role, &half, NULL, lab_now_ns() + LAB_NS_PER_S, &whole.end[role]));
    }
    return whole;
}

static void whole_close(struct whole *whole)
{
    lab_end_close(whole->end[LAB_TX]);
    lab_end_close(whole->end[LAB_RX]);
    ops_of(&whole->channel)->retire(&whole->channel, &whole->wire);
}

/* ---- datagrams ---- */

static void a_datagram_is_the_message_and_nothing_else(void **state)
{
    (void)state;
    static const char *const transports[] = {"unix-dgram", "udp"};
    for (size_t i = 0; i < 2; i++) {
        struct whole whole = whole_open(transports[i], 64, 4);
        unsigned char message[64] = "as it stands", to[65];
        lab_assert_ok(lab_end_send(whole.end[LAB_TX], message, 13, 0));
        assert_int_equal(recv(whole.wire.fd[LAB_RX], to, sizeof to, MSG_DONTWAIT), 13);
        assert_memory_equal(to, message, 13);
        lab_assert_fails(lab_end_send(whole.end[LAB_TX], message, 0, 0), EMSGSIZE);
        whole_close(&whole);
    }
}

/* What stands beside a result is what the kernel says of the descriptor, whatever was asked of it. */
static void the_buffer_that_is_told_is_the_one_that_the_kernel_keeps(void **state)
{
    (void)state;
    static const struct { const char *transport; int option; } kinds[] = {
        {"pipe", 0}, {"fifo", 0}, {"unix-stream", SO_SNDBUF}, {"unix-seqpacket", SO_SNDBUF}, {"unix-dgram", SO_SNDBUF}, {"udp", SO_RCVBUF},
    };
    static const uint32_t windows[] = {4, 100000}; /* the second is beyond what is given, where this process has no privileges */
    for (size_t i = 0; i < 2 * sizeof kinds / sizeof *kinds; i++) {
        struct whole whole = whole_open(kinds[i / 2].transport, 1000, windows[i % 2]);
        int size = 0, fd = whole.wire.fd[LAB_TX];
        socklen_t length = sizeof size;
        if (kinds[i / 2].option)
            assert_int_equal(getsockopt(fd, SOL_SOCKET, kinds[i / 2].option, &size, &length), 0);
        else
            size = fcntl(fd, F_GETPIPE_SZ);
        assert_true(whole.wire.buffer.requested >= 1000 * windows[i % 2]);
        assert_int_equal(whole.wire.buffer.actual, size);
        whole_close(&whole);
    }
    static const char *const queues[] = {"posix-mq", "sysv-mq"};
    for (size_t i = 0; i < 2; i++) {
        struct whole whole = whole_open(queues[i], 100, 5);
        assert_int_equal(whole.wire.buffer.requested, 500);
        assert_true(whole.wire.buffer.actual >= 500);
        whole_close(&whole);
    }
    struct whole tcp = whole_open("tcp", 1000, 100000);
    assert_int_equal(tcp.wire.buffer.requested, 0); /* the kernel adapts it */
    whole_close(&tcp);
}

static void a_stranger_on_this_host_cannot_send_into_a_channel(void **state)
{
    (void)state;
    struct whole whole = whole_open("udp", 64, 4);
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    unsigned char to[64];
    int stranger = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(getsockname(whole.wire.fd[LAB_RX], (struct sockaddr *)&name, &size), 0);
    assert_int_equal(name.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(sendto(stranger, "from outside", 13, 0, (struct sockaddr *)&name, size), 13);
    lab_assert_ok(lab_end_send(whole.end[LAB_TX], "from inside", 12, 0));
    assert_int_equal(lab_end_recv(whole.end[LAB_RX], to, sizeof to, lab_now_ns() + LAB_NS_PER_S), 12);
    assert_string_equal((char *)to, "from inside");
    assert_int_equal(lab_end_recv(whole.end[LAB_RX], to, sizeof to, 0), -EAGAIN);
    close(stranger);
    whole_close(&whole);
}

/* At least a window is taken, and all that is taken arrives. */
static void a_udp_sender_stops_before_the_buffer_is_full(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {8, 64, 1000, 5000, 9000, 17000, 32768, 65507};
    static unsigned char message[65507], to[65507];
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        enum { WINDOW = 24, BOUND = 100000 };
        struct whole whole = whole_open("udp", lengths[i], WINDOW);
        uint32_t sent = 0, received = 0;
        int err;
        do {
            memcpy(message, &sent, sizeof sent);
            err = lab_end_send(whole.end[LAB_TX], message, lengths[i], 0);
            sent += !err;
        } while (!err && sent < BOUND);
        assert_int_equal(err, -EAGAIN);
        assert_true(sent >= WINDOW);
        while (lab_end_recv(whole.end[LAB_RX], to, sizeof to, 0) == (ssize_t)lengths[i]) {
            assert_memory_equal(to, &received, sizeof received);
            received++;
        }
        assert_int_equal(received, sent);
        whole_close(&whole);
    }
}

static void a_datagram_that_the_kernel_dropped_is_an_error_and_no_silence(void **state)
{
    (void)state;
    enum { BOUND = 100000 };
    struct whole whole = whole_open("udp", 64, 4);
    unsigned char message[64] = {0};
    /* Past the sender's count, until the buffer is full many times over. */
    for (uint32_t i = 0; i < BOUND; i++)
        assert_int_equal(send(whole.wire.fd[LAB_TX], message, sizeof message, MSG_DONTWAIT), sizeof message);
    lab_assert_fails(lab_end_send(whole.end[LAB_TX], message, sizeof message, 0), EIO);
    assert_non_null(strstr(lab_error_last()->text, "dropped"));
    whole_close(&whole);
}

/* ---- limits ---- */

static uint64_t figure(const char *path)
{
    unsigned long long value = 0;
    FILE *file = fopen(path, "re");
    assert_true(file && fscanf(file, "%llu", &value) == 1);
    fclose(file);
    return value;
}

/* What is said to be possible is, and what is one byte more is not, with a mend that names the figure's place and what it has to be. */
static void a_limit_is_what_the_machine_does(void **state)
{
    (void)state;
    static const struct {
        const char *transport, *mend;
    } cases[] = {{"posix-mq", "as root: "}, {"sysv-mq", "kernel.msgmax="}, {"unix-dgram", "net.core.wmem_max="}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lab_channel channel = channel_of(cases[i].transport, 1, 1);
        struct lab_bound bound;
        struct lab_wire wire;
        const struct lab_transport_ops *ops = ops_of(&channel);
        uint64_t card = channel.transport->message_max;
        channel.message_max = card > UINT32_MAX ? UINT32_MAX : (uint32_t)card;
        lab_assert_ok(ops->limit(&channel, &bound));
        assert_true(bound.longest > 0);
        if (bound.longest >= card)
            continue; /* this process may go as far as the mechanism does */
        assert_non_null(strstr(bound.mend, cases[i].mend));
        channel.message_max = (uint32_t)bound.longest;
        lab_assert_ok(ops->limit(&channel, &bound));
        assert_true(bound.longest >= channel.message_max);
        lab_assert_ok(ops->provision(&channel, &wire));
        ops->retire(&channel, &wire);
    }
}

static void a_longer_message_than_a_queue_may_have_is_refused_with_the_mend(void **state)
{
    (void)state;
    uint64_t most = figure("/proc/sys/kernel/msgmax"), room = figure("/proc/sys/kernel/msgmnb");
    most = most < room ? most : room;
    if (most >= UINT32_MAX)
        lab_test_skip("this machine has no such limit");
    struct lab_channel channel = channel_of("sysv-mq", (uint32_t)most + 1, 1);
    struct lab_wire wire;
    lab_assert_fails(ops_of(&channel)->provision(&channel, &wire), EMSGSIZE);
    assert_non_null(strstr(lab_error_last()->text, "as root: sysctl kernel.msgmax="));
}

/* ---- what is left ---- */

static bool mq_there(const char *name)
{
    mqd_t queue = mq_open(name, O_RDONLY | O_CLOEXEC);
    if (queue >= 0)
        mq_close(queue);
    return queue >= 0;
}

static void leave_queue(const char *name)
{
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 8};
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600, &attr);
    assert_true(queue >= 0);
    mq_close(queue);
}

static void the_name_that_a_killed_maker_left_is_taken_away_by_the_next_and_by_clean(void **state)
{
    (void)state;
    char text[LAB_LEFTOVER_QUEUE_NAME];
    const char *name = lab_leftover_queue(text);
    unsigned char to[64];
    leave_queue(name);
    struct whole whole = whole_open("posix-mq", 64, 4);
    assert_false(mq_there(name));
    lab_assert_ok(lab_end_send(whole.end[LAB_TX], "longer than 8 bytes", 20, 0)); /* it is not the one that was left */
    assert_int_equal(lab_end_recv(whole.end[LAB_RX], to, sizeof to, 0), 20);
    leave_queue(name); /* as another run does, in passing */
    assert_int_equal(lab_clean_mq(NULL, true), 1);
    assert_true(mq_there(name)); /* it only looked */
    assert_int_equal(lab_clean_mq(NULL, false), 1);
    assert_false(mq_there(name));
    assert_int_equal(lab_clean_mq(NULL, false), 0);
    lab_assert_ok(lab_end_send(whole.end[LAB_TX], "goes on", 8, 0));
    assert_int_equal(lab_end_recv(whole.end[LAB_RX], to, sizeof to, 0), 8);
    whole_close(&whole);
}

static bool msg_there(int id)
{
    struct msqid_ds facts;
    return msgctl(id, IPC_STAT, &facts) == 0;
}

/* A child stands where a node is that is killed with its channel; a worker of it may have been the last to use it. */
static void a_system_v_queue_whose_users_are_gone_is_swept_and_no_other(void **state)
{
    (void)state;
    int told[2], left;
    assert_int_equal(pipe(told), 0);
    struct whole living = whole_open("sysv-mq", 64, 4);
    int foreign = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct lab_channel channel = {
            .transport = lab_transport_named("sysv-mq"), .wait = LAB_WAIT_BLOCK, .message_max = 64, .window = 4, .batch = 1};
        struct lab_wire wire;
        int id = ops_of(&channel)->provision(&channel, &wire) ? -1 : atoi(wire.address);
        if (write(told[1], &id, sizeof id) != sizeof id)
            _exit(1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(told[0], &left, sizeof left), sizeof left);
    close(told[0]);
    close(told[1]);
    lab_clean_sysv(NULL, false);
    assert_true(msg_there(left)); /* its node lives */
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_true(lab_clean_sysv(NULL, true) >= 1);
    assert_true(msg_there(left)); /* it only looked */
    assert_true(lab_clean_sysv(NULL, false) >= 1);
    assert_false(msg_there(left));
    assert_true(msg_there(atoi(living.wire.address)));
    assert_true(msg_there(foreign));
    msgctl(foreign, IPC_RMID, NULL);
    int id = atoi(living.wire.address);
    whole_close(&living);
    assert_false(msg_there(id));
}

/* It is another process that has one of them open: a sweep does not look at its own. */
static void a_fifo_that_nobody_has_opened_is_swept_and_no_other(void **state)
{
    (void)state;
    char room[] = "/tmp/ipclab-kernel-XXXXXX", left[96], opened[96], token;
    int told[2];
    assert_non_null(mkdtemp(room));
    snprintf(left, sizeof left, "%s/" LAB_LEFTOVER_FIFO "left", room);
    snprintf(opened, sizeof opened, "%s/" LAB_LEFTOVER_FIFO "opened", room);
    assert_true(mkfifo(left, 0600) == 0 && mkfifo(opened, 0600) == 0 && pipe(told) == 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (open(opened, O_RDWR) < 0 || write(told[1], "o", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(told[0], &token, 1), 1);
    close(told[0]);
    close(told[1]);
    assert_int_equal(lab_clean_shm(room, 0, NULL, false), 1);
    assert_int_equal(access(left, F_OK), -1);
    assert_int_equal(access(opened, F_OK), 0);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(lab_clean_shm(room, 0, NULL, false), 1);
    assert_int_equal(rmdir(room), 0);
}

/* A channel of each kind leaves nothing under a name, from the moment it is provisioned. */
static void a_channel_that_is_there_has_no_name(void **state)
{
    (void)state;
    char text[LAB_LEFTOVER_QUEUE_NAME], path[64], target[128];
    struct whole fifo = whole_open("fifo", 64, 4), queue = whole_open("posix-mq", 64, 4);
    assert_false(mq_there(lab_leftover_queue(text)));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fifo.wire.fd[LAB_TX]);
    ssize_t length = readlink(path, target, sizeof target - 1);
    assert_true(length > 0);
    target[length] = '\0';
    assert_non_null(strstr(target, LAB_LEFTOVER_FIFO));
    assert_non_null(strstr(target, " (deleted)"));
    whole_close(&fifo);
    whole_close(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_datagram_is_the_message_and_nothing_else),
        cmocka_unit_test(the_buffer_that_is_told_is_the_one_that_the_kernel_keeps),
        cmocka_unit_test(a_stranger_on_this_host_cannot_send_into_a_channel),
        cmocka_unit_test(a_udp_sender_stops_before_the_buffer_is_full),
        cmocka_unit_test(a_datagram_that_the_kernel_dropped_is_an_error_and_no_silence),
        cmocka_unit_test(a_limit_is_what_the_machine_does),
        cmocka_unit_test(a_longer_message_than_a_queue_may_have_is_refused_with_the_mend),
        cmocka_unit_test(the_name_that_a_killed_maker_left_is_taken_away_by_the_next_and_by_clean),
        cmocka_unit_test(a_system_v_queue_whose_users_are_gone_is_swept_and_no_other),
        cmocka_unit_test(a_fifo_that_nobody_has_opened_is_swept_and_no_other),
        cmocka_unit_test(a_channel_that_is_there_has_no_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
