/* The order in which nodes may speak. The launcher's side needs no node for this: frames are handed over as the bus would. */
#include "launcher/peers.h"
#include "proto/codec.h"
#include "tests/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 3 };

struct said {
    Lab__Hello hello;
    Lab__Listen listen;
    Lab__Endpoint endpoint, *endpoints[1];
    Lab__Ready ready;
    Lab__Progress progress;
    Lab__Limits limits;
    Lab__Done done;
    Lab__Fault fault;
    Lab__Go go;
};

/* A frame as it would arrive: allocated by the codec. */
static Lab__Frame *arrived(Lab__Frame__BodyCase body, uint32_t launch, uint32_t number)
{
    struct said said = {LAB__HELLO__INIT, LAB__LISTEN__INIT, LAB__ENDPOINT__INIT, {0}, LAB__READY__INIT, LAB__PROGRESS__INIT,
                        LAB__LIMITS__INIT, LAB__DONE__INIT, LAB__FAULT__INIT, LAB__GO__INIT};
    char version[] = "1", address[] = "tcp://here", text[] = "it broke";
    Lab__Frame frame = LAB__FRAME__INIT, *copy = NULL;
    frame.launch = launch;
    frame.body_case = body;
    said.hello.version = version;
    said.hello.node = number;
    said.endpoint.channel = number;
    said.endpoint.address = address;
    said.endpoints[0] = &said.endpoint;
    said.listen.n_endpoints = 1;
    said.listen.endpoints = said.endpoints;
    said.fault.text = text;
    switch ((int)body) {
    case LAB__FRAME__BODY_HELLO: frame.hello = &said.hello; break;
    case LAB__FRAME__BODY_LISTEN: frame.listen = &said.listen; break;
    case LAB__FRAME__BODY_READY: frame.ready = &said.ready; break;
    case LAB__FRAME__BODY_PROGRESS: frame.progress = &said.progress; break;
    case LAB__FRAME__BODY_LIMITS: frame.limits = &said.limits; break;
    case LAB__FRAME__BODY_DONE: frame.done = &said.done; break;
    case LAB__FRAME__BODY_FAULT: frame.fault = &said.fault; break;
    default: frame.go = &said.go; break;
    }
    void *bytes;
    size_t size;
    lab_assert_ok(lab_codec_pack(&frame, &bytes, &size));
    lab_assert_ok(lab_codec_unpack(&lab__frame__descriptor, bytes, size, &copy));
    free(bytes);
    return copy;
}

static int hear(struct lab_peers *peers, uint32_t node, Lab__Frame__BodyCase body, uint32_t launch)
{
    const Lab__Fault *fault;
    int err = lab_peers_hear(peers, node, arrived(body, launch, node), &fault);
    assert_true(!fault || body == LAB__FRAME__BODY_FAULT);
    return err;
}

#define HEARS(node, what, launch) lab_assert_ok(hear(peers, node, LAB__FRAME__BODY_##what, launch))
/* It is refused, with that in the record, and nothing changes. */
#define REFUSES(node, what, launch, words)                                                                                          \
    do {                                                                                                                            \
        int32_t before[] = {lab_peers_behind(peers, LAB_PEER_LISTENING), lab_peers_behind(peers, LAB_PEER_READY), lab_peers_behind(peers, LAB_PEER_DONE)}; \
        lab_assert_fails(hear(peers, node, LAB__FRAME__BODY_##what, launch), EPROTO);                                               \
        assert_non_null(strstr(lab_error_last()->text, words));                                                                     \
        int32_t after[] = {lab_peers_behind(peers, LAB_PEER_LISTENING), lab_peers_behind(peers, LAB_PEER_READY), lab_peers_behind(peers, LAB_PEER_DONE)}; \
        assert_memory_equal(before, after, sizeof before);                                                                          \
    } while (0)

static struct lab_peers *greeted(void)
{
    struct lab_peers *peers = NULL;
    lab_assert_ok(lab_peers_new(NODES, &peers));
    for (uint32_t n = 0; n < NODES; n++) {
        assert_int_equal(lab_peers_behind(peers, LAB_PEER_GREETED), n);
        HEARS(n, HELLO, 0);
    }
    assert_int_equal(lab_peers_behind(peers, LAB_PEER_GREETED), -1);
    return peers;
}

static void a_launch_goes_from_assign_to_done(void **state)
{
    (void)state;
    struct lab_peers *peers = greeted();
    for (uint32_t launch = 1; launch < 4; launch++) {
        lab_peers_assign(peers, launch, 2, LAB_LAUNCH_LISTENS);
        assert_null(lab_peers_listen(peers, 0)); /* that of an earlier launch is forgotten */
        assert_null(lab_peers_done(peers)[1]);
        for (uint32_t n = 0; n < 2; n++) {
            assert_int_equal(lab_peers_behind(peers, LAB_PEER_LISTENING), n);
            HEARS(n, LISTEN, launch);
            HEARS(n, PROGRESS, launch);
            assert_int_equal(lab_peers_listen(peers, n)->endpoints[0]->channel, n);
        }
        assert_int_equal(lab_peers_behind(peers, LAB_PEER_LISTENING), -1);
        lab_peers_connect(peers);
        HEARS(1, READY, launch);
        HEARS(0, READY, launch);
        assert_int_equal(lab_peers_behind(peers, LAB_PEER_READY), -1);
        lab_peers_go(peers);
        HEARS(0, DONE, launch);
        assert_int_equal(lab_peers_behind(peers, LAB_PEER_DONE), 1);
        HEARS(1, DONE, launch);
        HEARS(2, PROGRESS, 0);
        assert_int_equal(lab_peers_behind(peers, LAB_PEER_DONE), -1);
        assert_non_null(lab_peers_done(peers)[1]);
    }
    lab_peers_free(peers);
}

static void a_node_greets_once_and_by_its_own_number(void **state)
{
    (void)state;
    struct lab_peers *peers = NULL;
    const Lab__Fault *fault;
    lab_assert_ok(lab_peers_new(NODES, &peers));
    lab_assert_fails(lab_peers_hear(peers, 1, arrived(LAB__FRAME__BODY_HELLO, 0, 2), &fault), EPROTO);
    assert_string_equal(lab_error_last()->text, "node 1 said in its HELLO that it is node 2");
    assert_null(lab_peers_hello(peers, 1));
    HEARS(1, HELLO, 0);
    REFUSES(1, HELLO, 0, "node 1 said HELLO a second time");
    REFUSES(NODES, HELLO, 0, "node 3 said HELLO, and there are 3 nodes");
    lab_peers_free(peers);
}

static void what_is_out_of_turn_is_refused_by_name(void **state)
{
    (void)state;
    struct lab_peers *peers = NULL;
    lab_assert_ok(lab_peers_new(NODES, &peers));
    REFUSES(0, READY, 0, "node 0 said READY before HELLO");
    lab_peers_free(peers);

    peers = greeted();
    REFUSES(0, READY, 0, "it takes no part");
    lab_peers_assign(peers, 7, 2, LAB_LAUNCH_LISTENS);
    REFUSES(0, READY, 7, "node 0 said READY where LISTEN was due (launch 7)");
    REFUSES(0, DONE, 7, "said DONE where LISTEN was due");
    REFUSES(0, LIMITS, 7, "said LIMITS where LISTEN was due");
    REFUSES(0, GO, 7, "said GO where LISTEN was due");
    REFUSES(0, LISTEN, 8, "node 0 said LISTEN of launch 8, and this is launch 7");
    REFUSES(2, LISTEN, 7, "node 2 said LISTEN where it takes no part in the launch");
    REFUSES(2, FAULT, 7, "node 2 said FAULT where it takes no part");
    HEARS(0, LISTEN, 7);
    REFUSES(0, LISTEN, 7, "said LISTEN where it was to wait for CONNECT");
    REFUSES(0, READY, 7, "said READY where it was to wait for CONNECT");
    lab_peers_connect(peers);
    HEARS(0, READY, 7);
    REFUSES(0, DONE, 7, "said DONE where it was to wait for GO");
    lab_peers_go(peers);
    REFUSES(0, READY, 7, "said READY where DONE was due");
    REFUSES(0, LIMITS, 7, "said LIMITS where DONE was due");
    HEARS(0, DONE, 7);
    REFUSES(0, DONE, 7, "it was done with the launch");
    REFUSES(0, FAULT, 7, "it was done with the launch");
    HEARS(1, FAULT, 7);
    REFUSES(1, FAULT, 7, "it had given the launch up");
    REFUSES(1, DONE, 7, "it had given the launch up");

    lab_peers_assign(peers, 8, 1, LAB_LAUNCH_PLAIN);
    REFUSES(0, LISTEN, 8, "node 0 said LISTEN where READY was due");
    lab_peers_free(peers);
}

static void what_belongs_to_an_earlier_launch_is_ignored(void **state)
{
    (void)state;
    struct lab_peers *peers = greeted();
    lab_peers_assign(peers, 1, 2, LAB_LAUNCH_LISTENS);
    HEARS(0, LISTEN, 1);
    lab_peers_assign(peers, 2, 2, LAB_LAUNCH_LISTENS);
    HEARS(1, LISTEN, 1);
    HEARS(1, READY, 1);
    HEARS(1, DONE, 1);
    HEARS(1, FAULT, 1);
    assert_int_equal(lab_peers_behind(peers, LAB_PEER_LISTENING), 0);
    assert_null(lab_peers_listen(peers, 0));
    assert_null(lab_peers_listen(peers, 1));
    assert_null(lab_peers_done(peers)[1]);
    lab_peers_free(peers);
}

static void limits_come_once_from_a_launch_that_measures_them(void **state)
{
    (void)state;
    struct lab_peers *peers = greeted();
    lab_peers_assign(peers, 1, 1, LAB_LAUNCH_LIMITS);
    HEARS(0, READY, 1);
    REFUSES(0, LIMITS, 1, "it was to wait for GO");
    lab_peers_go(peers);
    assert_null(lab_peers_limits(peers));
    HEARS(0, LIMITS, 1);
    assert_non_null(lab_peers_limits(peers));
    REFUSES(0, LIMITS, 1, "DONE was due");
    HEARS(0, DONE, 1);
    lab_peers_assign(peers, 2, 1, LAB_LAUNCH_LIMITS);
    assert_null(lab_peers_limits(peers));
    lab_peers_free(peers);
}

static void after_abort_all_that_was_under_way_is_taken_and_done_counts(void **state)
{
    (void)state;
    struct lab_peers *peers = greeted();
    const Lab__Fault *fault;
    lab_peers_assign(peers, 1, NODES, LAB_LAUNCH_LISTENS);
    lab_assert_ok(lab_peers_hear(peers, 0, arrived(LAB__FRAME__BODY_FAULT, 1, 0), &fault));
    assert_string_equal(fault->text, "it broke");
    lab_peers_abort(peers);
    HEARS(1, LISTEN, 1);
    HEARS(1, DONE, 1);
    HEARS(1, DONE, 1); /* its own end and the answer to ABORT crossed */
    HEARS(2, FAULT, 1);
    HEARS(2, DONE, 1);
    REFUSES(1, GO, 1, "node 1 said GO");
    REFUSES(1, DONE, 2, "of launch 2");
    assert_int_equal(lab_peers_behind(peers, LAB_PEER_DONE), -1);
    lab_peers_free(peers);
    lab_peers_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_launch_goes_from_assign_to_done),
        cmocka_unit_test(a_node_greets_once_and_by_its_own_number),
        cmocka_unit_test(what_is_out_of_turn_is_refused_by_name),
        cmocka_unit_test(what_belongs_to_an_earlier_launch_is_ignored),
        cmocka_unit_test(limits_come_once_from_a_launch_that_measures_them),
        cmocka_unit_test(after_abort_all_that_was_under_way_is_taken_and_done_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
