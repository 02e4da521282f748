/* The control connection: two or more ends of it within one process, over what a launcher uses within one host. */
#include "base/clock.h"
#include "base/version.h"
#include "proto/bus/bus.h"
#include "proto/codec.h"

#include "tests/check.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

enum { NODES = 2 };

static struct lab_bus *serve(const char *endpoint)
{
    struct lab_bus *bus = NULL;
    lab_assert_ok(lab_bus_serve(endpoint, NODES, NULL, &bus));
    return bus;
}

/* An address of this process alone. */
static struct lab_bus *serve_here(void)
{
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "ipc://@lab-unit-bus-%d", (int)getpid());
    return serve(endpoint);
}

static struct lab_bus *join(const struct lab_bus *launcher, uint32_t node)
{
    struct lab_bus *bus = NULL;
    lab_assert_ok(lab_bus_join(lab_bus_address(launcher), node, NULL, &bus));
    return bus;
}

static int say_progress(struct lab_bus *bus, uint32_t to, uint64_t messages)
{
    Lab__Frame frame = LAB__FRAME__INIT;
    Lab__Progress progress = LAB__PROGRESS__INIT;
    progress.messages = messages;
    frame.body_case = LAB__FRAME__BODY_PROGRESS;
    frame.progress = &progress;
    return lab_bus_send(bus, to, &frame);
}

/* Waits as users do: by the descriptor, after the queue was found empty. */
static int hear(struct lab_bus *bus, uint32_t *ret_node, Lab__Frame **ret_frame)
{
    uint64_t deadline_ns = lab_now_ns() + 10 * LAB_NS_PER_S;
    int err;
    while ((err = lab_bus_receive(bus, ret_node, ret_frame)) == -EAGAIN && lab_now_ns() < deadline_ns) {
        struct pollfd ready = {.fd = lab_bus_fd(bus), .events = POLLIN};
        poll(&ready, 1, lab_ms_until(deadline_ns));
    }
    return err;
}

static void assert_hears(struct lab_bus *bus, uint32_t from, uint64_t messages)
{
    uint32_t node = 99;
    Lab__Frame *frame = NULL;
    lab_assert_ok(hear(bus, &node, &frame));
    assert_int_equal(node, from);
    assert_int_equal(frame->body_case, LAB__FRAME__BODY_PROGRESS);
    assert_int_equal(frame->progress->messages, messages);
    lab_codec_free(frame);
}

static void await_lost(struct lab_bus *node)
{
    uint64_t deadline_ns = lab_now_ns() + 10 * LAB_NS_PER_S;
    while (lab_bus_alive(node) && lab_now_ns() < deadline_ns)
        poll(NULL, 0, 1);
    assert_false(lab_bus_alive(node));
}

static void talk_with(struct lab_bus *launcher, const struct lab_keys *keys)
{
    struct lab_bus *nodes[NODES];
    for (uint32_t n = 0; n < NODES; n++) {
        lab_assert_ok(lab_bus_join(lab_bus_address(launcher), n, keys, &nodes[n]));
        assert_int_equal(lab_bus_last_heard_ns(launcher, n), 0);
        assert_string_equal(lab_bus_peer(launcher, n), "");
        lab_assert_ok(say_progress(nodes[n], 0, 100 + n));
        assert_hears(launcher, n, 100 + n);
        assert_true(lab_bus_last_heard_ns(launcher, n) > 0);
        assert_string_equal(lab_bus_peer(launcher, n), strncmp(lab_bus_address(launcher), "tcp:", 4) == 0 ? "127.0.0.1" : "");
    }
    for (uint32_t n = NODES; n-- > 0;) {
        lab_assert_ok(say_progress(launcher, n, n));
        assert_hears(nodes[n], 0, n);
        assert_true(lab_bus_alive(nodes[n]));
    }
    for (uint32_t n = 0; n < NODES; n++)
        lab_bus_close(nodes[n]);
    lab_bus_close(launcher);
}

static void talk(struct lab_bus *launcher)
{
    talk_with(launcher, NULL);
}

static void every_node_is_known_by_its_number_within_a_host(void **state)
{
    (void)state;
    talk(serve_here());
}

static void a_port_that_was_left_open_is_in_the_address(void **state)
{
    (void)state;
    struct lab_bus *launcher = serve("tcp://127.0.0.1:*");
    assert_null(strchr(lab_bus_address(launcher), '*'));
    talk(launcher);
}

/* ---- with keys ---- */

static struct lab_keys make_keys(void)
{
    struct lab_keys keys;
    lab_assert_ok(lab_curve_pair_make(&keys.launcher));
    lab_assert_ok(lab_curve_pair_make(&keys.node));
    return keys;
}

static struct lab_bus *serve_with(const struct lab_keys *keys)
{
    struct lab_bus *bus = NULL;
    lab_assert_ok(lab_bus_serve("tcp://127.0.0.1:*", NODES, keys, &bus));
    return bus;
}

static void nodes_with_the_keys_are_heard(void **state)
{
    (void)state;
    struct lab_keys keys = make_keys(), handed = keys;
    handed.launcher.secret[0] = '\0';
    talk_with(serve_with(&keys), &handed);
}

/* Whoever it is, the friend that comes after him is the first that is heard. */
static void assert_not_heard(const struct lab_keys *keys, const struct lab_keys *wrong)
{
    struct lab_bus *launcher = serve_with(keys), *stranger, *friend;
    lab_assert_ok(lab_bus_join(lab_bus_address(launcher), 0, wrong, &stranger));
    lab_assert_ok(say_progress(stranger, 0, 666));
    if (wrong) {
        await_lost(stranger);
        assert_true(lab_bus_turned_away(stranger));
    }
    lab_assert_ok(lab_bus_join(lab_bus_address(launcher), 1, keys, &friend));
    lab_assert_ok(say_progress(friend, 0, 7));
    assert_hears(launcher, 1, 7);
    assert_false(lab_bus_turned_away(friend));
    lab_bus_close(stranger);
    lab_bus_close(friend);
    lab_bus_close(launcher);
}

static void a_node_with_another_key_or_with_none_is_not_heard_and_told_so(void **state)
{
    (void)state;
    struct lab_keys keys = make_keys(), wrong = keys;
    wrong.node = make_keys().node;
    assert_not_heard(&keys, &wrong);
    assert_not_heard(&keys, NULL);
}

static void an_address_beyond_this_host_is_not_served_without_keys(void **state)
{
    (void)state;
    struct lab_bus *bus = NULL;
    lab_assert_fails(lab_bus_serve("tcp://0.0.0.0:*", NODES, NULL, &bus), EPERM);
    lab_assert_fails(lab_bus_serve("tcp://10.77.0.254:*", NODES, NULL, &bus), EPERM);
    lab_assert_fails(lab_bus_join("tcp://10.77.0.254:1", 0, NULL, &bus), EPERM);
    assert_null(bus);
}

static void a_witness_is_heard_as_the_node_that_he_minds_and_beside_it(void **state)
{
    (void)state;
    struct lab_bus *launcher = serve_here(), *node = join(launcher, 1), *witness;
    lab_assert_ok(say_progress(node, 0, 7));
    assert_hears(launcher, 1, 7);
    lab_assert_ok(lab_bus_testify(lab_bus_address(launcher), 1, NULL, &witness));
    lab_assert_ok(say_progress(witness, 0, 8));
    assert_hears(launcher, 1, 8);
    /* What is said to the node reaches the node. */
    lab_assert_ok(say_progress(launcher, 1, 9));
    assert_hears(node, 0, 9);
    lab_bus_close(witness);
    lab_bus_close(node);
    lab_bus_close(launcher);
}

static void frames_of_one_node_keep_their_order(void **state)
{
    (void)state;
    struct lab_bus *launcher = serve_here(), *node = join(launcher, 1);
    for (uint64_t i = 0; i < 1000; i++)
        lab_assert_ok(say_progress(node, 0, i));
    for (uint64_t i = 0; i < 1000; i++)
        assert_hears(launcher, 1, i);
    lab_bus_close(node);
    lab_bus_close(launcher);
}

static void a_node_that_is_not_connected_cannot_be_reached(void **state)
{
    (void)state;
    struct lab_bus *launcher = serve_here();
    lab_assert_fails(say_progress(launcher, 0, 1), EHOSTUNREACH);
    lab_bus_close(launcher);
}

static void an_empty_queue_says_so_at_once(void **state)
{
    (void)state;
    uint32_t from = 99;
    Lab__Frame *frame = NULL;
    struct lab_bus *launcher = serve_here();
    assert_int_equal(lab_bus_receive(launcher, &from, &frame), -EAGAIN);
    assert_int_equal(from, 99);
    lab_bus_close(launcher);
}

static void a_full_queue_says_so_and_stays_bounded(void **state)
{
    (void)state;
    struct lab_bus *launcher = serve_here(), *node;
    char nobody[64];
    snprintf(nobody, sizeof nobody, "ipc://@lab-unit-bus-nobody-%d", (int)getpid());
    lab_assert_ok(lab_bus_join(nobody, 0, NULL, &node));
    int err = 0;
    unsigned sent = 0;
    while (sent < 100000 && (err = say_progress(node, 0, sent)) == 0)
        sent++;
    assert_int_equal(err, -EAGAIN);
    assert_true(sent > 0);
    lab_bus_close(node);
    lab_bus_close(launcher);
}

static void a_number_beyond_those_of_the_run_is_not_heard(void **state)
{
    (void)state;
    uint32_t from = 99;
    Lab__Frame *frame = NULL;
    struct lab_bus *launcher = serve_here(), *stranger = join(launcher, NODES);
    lab_assert_ok(say_progress(stranger, 0, 1));
    lab_assert_fails(hear(launcher, &from, &frame), EBADMSG);
    assert_null(frame);
    assert_int_equal(from, 99);
    lab_bus_close(stranger);
    lab_bus_close(launcher);
}

static void a_second_connection_under_one_number_is_not_heard(void **state)
{
    (void)state;
    struct lab_bus *launcher = serve_here(), *first = join(launcher, 0), *other;
    lab_assert_ok(say_progress(first, 0, 1));
    assert_hears(launcher, 0, 1);
    struct lab_bus *second = join(launcher, 0);
    lab_assert_ok(say_progress(second, 0, 666));
    /* By the time a later connection has been heard, the second one would have been. */
    other = join(launcher, 1);
    lab_assert_ok(say_progress(other, 0, 3));
    assert_hears(launcher, 1, 3);
    lab_assert_ok(say_progress(first, 0, 2));
    assert_hears(launcher, 0, 2);
    lab_assert_ok(say_progress(launcher, 0, 4));
    assert_hears(first, 0, 4);
    lab_bus_close(second);
    lab_bus_close(other);
    lab_bus_close(first);
    lab_bus_close(launcher);
}

static void a_launcher_that_is_gone_is_noticed(void **state)
{
    (void)state;
    struct lab_bus *launcher = serve_here(), *node = join(launcher, 0);
    lab_assert_ok(say_progress(node, 0, 1));
    assert_hears(launcher, 0, 1);
    assert_true(lab_bus_alive(node));
    lab_bus_close(launcher);
    await_lost(node);
    lab_bus_close(node);
}

/* ---- what did not come from us: a bare socket under a node's identity ---- */

struct stranger {
    void *context, *socket;
};

static struct stranger stranger_join(const struct lab_bus *launcher)
{
    struct stranger stranger = {.context = zmq_ctx_new()};
    stranger.socket = zmq_socket(stranger.context, ZMQ_DEALER);
    assert_non_null(stranger.socket);
    assert_int_equal(zmq_setsockopt(stranger.socket, ZMQ_ROUTING_ID, "n\0\0", 4), 0);
    assert_int_equal(zmq_setsockopt(stranger.socket, ZMQ_LINGER, &(int){0}, sizeof(int)), 0);
    assert_int_equal(zmq_connect(stranger.socket, lab_bus_address(launcher)), 0);
    return stranger;
}

static void stranger_leave(struct stranger *stranger)
{
    zmq_close(stranger->socket);
    zmq_ctx_term(stranger->context);
}

static void what_is_not_a_frame_is_refused_and_the_next_one_heard(void **state)
{
    (void)state;
    static const unsigned char wrong_version[] = {0x08, 0xff, 0x7f, 0x22, 0x00}, good[] = {0x08, LAB_PROTOCOL, 0x4a, 0x00}, empty[] = {0x08, LAB_PROTOCOL};
    struct lab_bus *launcher = serve_here();
    struct stranger stranger = stranger_join(launcher);
    uint32_t from = 99;
    Lab__Frame *frame = NULL;
    assert_int_equal(zmq_send(stranger.socket, "\xff\xff\xff", 3, 0), 3);
    lab_assert_fails(hear(launcher, &from, &frame), EBADMSG);
    assert_int_equal(zmq_send(stranger.socket, empty, sizeof empty, 0), sizeof empty);
    lab_assert_fails(hear(launcher, &from, &frame), EBADMSG);
    /* Three parts where one belongs: thrown away as a whole. */
    for (int part = 0; part < 3; part++)
        assert_int_equal(zmq_send(stranger.socket, good, sizeof good, part < 2 ? ZMQ_SNDMORE : 0), sizeof good);
    lab_assert_fails(hear(launcher, &from, &frame), EBADMSG);
    assert_int_equal(zmq_send(stranger.socket, wrong_version, sizeof wrong_version, 0), sizeof wrong_version);
    lab_assert_fails(hear(launcher, &from, &frame), EPROTONOSUPPORT);
    assert_int_equal(from, 0);
    assert_non_null(strstr(lab_error_last()->text, "16383"));
    assert_null(frame);
    assert_int_equal(zmq_send(stranger.socket, good, sizeof good, 0), sizeof good);
    lab_assert_ok(hear(launcher, &from, &frame));
    assert_int_equal(frame->body_case, LAB__FRAME__BODY_PROGRESS);
    lab_codec_free(frame);
    stranger_leave(&stranger);
    lab_bus_close(launcher);
}

static void an_address_in_use_and_one_that_is_none_are_refused(void **state)
{
    (void)state;
    struct lab_bus *launcher = serve_here(), *other = NULL;
    lab_assert_fails(lab_bus_serve(lab_bus_address(launcher), 1, NULL, &other), EADDRINUSE);
    lab_assert_fails(lab_bus_serve("nonsense", 1, NULL, &other), EINVAL);
    lab_assert_fails(lab_bus_serve("ipc://@lab-unit-too-many", (1u << 24) + 1, NULL, &other), EINVAL);
    lab_assert_fails(lab_bus_join("nonsense", 0, NULL, &other), EINVAL);
    assert_null(other);
    lab_bus_close(NULL);
    lab_bus_close(launcher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_node_is_known_by_its_number_within_a_host),
        cmocka_unit_test(a_port_that_was_left_open_is_in_the_address),
        cmocka_unit_test(nodes_with_the_keys_are_heard),
        cmocka_unit_test(a_node_with_another_key_or_with_none_is_not_heard_and_told_so),
        cmocka_unit_test(an_address_beyond_this_host_is_not_served_without_keys),
        cmocka_unit_test(a_witness_is_heard_as_the_node_that_he_minds_and_beside_it),
        cmocka_unit_test(frames_of_one_node_keep_their_order),
        cmocka_unit_test(a_node_that_is_not_connected_cannot_be_reached),
        cmocka_unit_test(an_empty_queue_says_so_at_once),
        cmocka_unit_test(a_full_queue_says_so_and_stays_bounded),
        cmocka_unit_test(a_number_beyond_those_of_the_run_is_not_heard),
        cmocka_unit_test(a_second_connection_under_one_number_is_not_heard),
        cmocka_unit_test(a_launcher_that_is_gone_is_noticed),
        cmocka_unit_test(what_is_not_a_frame_is_refused_and_the_next_one_heard),
        cmocka_unit_test(an_address_in_use_and_one_that_is_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
