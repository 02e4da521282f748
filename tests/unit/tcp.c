/* tcp between nodes, beside the seam: whom a receiver lets in, what comes of one that nobody connects to, and that a node can take its threads out
 * of a launch that was given up. What a user sees of it is in contract.tcp, and within a node in unit.framing. */
#include "base/alarm.h"
#include "base/clock.h"
#include "node/lane/lane.h"
#include "node/transport.h"
#include "tests/check.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LONGEST = 1 << 20 };

/* The listening side, as two nodes of one host have it. */
struct crossing {
    struct lab_channel channel;
    struct lab_wire wire;
    struct lab_end *end[2];
};

static uint64_t soon(void)
{
    return lab_now_ns() + 10 * LAB_NS_PER_S;
}

static void set_up(struct crossing *c, enum lab_wait wait)
{
    *c = (struct crossing){.channel = {
        .transport = lab_transport_named("tcp"), .wait = wait, .message_max = LONGEST, .window = 1, .batch = 1, .crosses_nodes = true}};
    lab_assert_ok(lab_transport_ops(c->channel.transport)->provision(&c->channel, &c->wire));
}

static int open_end(struct crossing *c, enum lab_role role)
{
    struct lab_wire half;
    lab_assert_ok(lab_wire_half(&c->wire, role, &half));
    int err = lab_end_open(&c->channel, role, &half, NULL, soon(), &c->end[role]);
    if (err)
        lab_wire_drop(&half, role);
    return err;
}

static void tear_down(struct crossing *c)
{
    lab_end_close(c->end[LAB_TX]);
    lab_end_close(c->end[LAB_RX]);
    lab_transport_ops(c->channel.transport)->retire(&c->channel, &c->wire);
}

static int stranger_at(const struct crossing *c)
{
    struct sockaddr_in name = {0};
    socklen_t size = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(getsockname(c->wire.fd[LAB_RX], (struct sockaddr *)&name, &size), 0);
    assert_int_equal(name.sin_addr.s_addr, htonl(INADDR_LOOPBACK)); /* of two nodes of one host: nobody else reaches it */
    assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof name), 0);
    return fd;
}

static void who_does_not_know_the_token_is_turned_away(void **state)
{
    (void)state;
    static const enum lab_wait waits[] = {LAB_WAIT_BLOCK, LAB_WAIT_POLL};
    for (size_t i = 0; i < 2; i++) {
        struct crossing c;
        set_up(&c, waits[i]);
        int liar = stranger_at(&c), hasty = stranger_at(&c), silent = stranger_at(&c);
        assert_int_equal(send(liar, "12345678\5\0\0\0wrong", 17, MSG_NOSIGNAL), 17);
        close(hasty);
        lab_assert_ok(open_end(&c, LAB_RX));
        lab_assert_ok(open_end(&c, LAB_TX));
        lab_assert_ok(lab_end_send(c.end[LAB_TX], "right", 5, soon()));
        char to[8];
        assert_int_equal(lab_end_recv(c.end[LAB_RX], to, sizeof to, soon()), 5);
        assert_memory_equal(to, "right", 5);
        close(liar);
        close(silent);
        tear_down(&c);
    }
}

static void a_receiver_that_nobody_connects_to_waits_until_its_deadline(void **state)
{
    (void)state;
    struct crossing c;
    char to[8];
    set_up(&c, LAB_WAIT_BLOCK);
    lab_assert_ok(open_end(&c, LAB_RX));
    assert_int_equal(lab_end_recv(c.end[LAB_RX], to, sizeof to, 0), -EAGAIN);
    assert_int_equal(lab_end_recv(c.end[LAB_RX], to, sizeof to, lab_now_ns() + LAB_NS_PER_MS), -EAGAIN);
    tear_down(&c);
}

static void an_address_that_is_none_and_a_port_where_nobody_listens_are_refused(void **state)
{
    (void)state;
    struct crossing c;
    set_up(&c, LAB_WAIT_BLOCK);
    struct lab_wire whole = c.wire;
    strcpy(c.wire.address, "10.0.0.1");
    lab_assert_fails(open_end(&c, LAB_TX), EBADMSG);
    c.wire = whole;
    lab_transport_ops(c.channel.transport)->retire(&c.channel, &c.wire);
    lab_assert_fails(open_end(&c, LAB_TX), ECONNREFUSED);
}

/* ---- a launch that is given up ---- */

struct waiting {
    struct crossing *crossing;
    enum lab_role role;
    int err;
};

static void *wait_for_ever(void *argument)
{
    struct waiting *w = argument;
    static unsigned char message[2][LONGEST];
    struct lab_end *end = w->crossing->end[w->role];
    do
        w->err = w->role == LAB_TX ? lab_end_send(end, message[LAB_TX], LONGEST, lab_now_ns() + 3600 * LAB_NS_PER_S)
                                   : (int)lab_end_recv(end, message[LAB_RX], LONGEST, lab_now_ns() + 3600 * LAB_NS_PER_S);
    while (w->err >= 0);
    lab_alarm_fini();
    return NULL;
}

static void whoever_waits_is_taken_out_of_a_launch_that_was_given_up(void **state)
{
    (void)state;
    static const enum lab_wait waits[] = {LAB_WAIT_BLOCK, LAB_WAIT_POLL};
    for (int i = 0; i < 6; i++) {
        /* a receiver of nobody, one without a message, and a sender to one that does not read */
        struct crossing c;
        struct waiting w = {.crossing = &c, .role = i / 2 == 2 ? LAB_TX : LAB_RX};
        pthread_t thread;
        set_up(&c, waits[i % 2]);
        lab_assert_ok(open_end(&c, LAB_RX));
        if (i / 2)
            lab_assert_ok(open_end(&c, LAB_TX));
        assert_int_equal(pthread_create(&thread, NULL, wait_for_ever, &w), 0);
        lab_ends_abandoned = true;
        pthread_join(thread, NULL);
        lab_ends_abandoned = false;
        assert_int_equal(w.err, -ECANCELED);
        tear_down(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_does_not_know_the_token_is_turned_away),
        cmocka_unit_test(a_receiver_that_nobody_connects_to_waits_until_its_deadline),
        cmocka_unit_test(an_address_that_is_none_and_a_port_where_nobody_listens_are_refused),
        cmocka_unit_test(whoever_waits_is_taken_out_of_a_launch_that_was_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
