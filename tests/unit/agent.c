/* A node's side of the control protocol, against a launcher that is this test: what comes of frames out of turn. */
#include "base/clock.h"
#include "base/error.h"
#include "node/agent/agent.h"
#include "proto/bus/bus.h"
#include "proto/codec.h"
#include "tests/check.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

struct node {
    struct lab_bus *launcher;
    char control[96];
    pthread_t thread;
    int err;
    char why[LAB_ERROR_TEXT];
};

static void *be_a_node(void *argument)
{
    struct node *node = argument;
    const struct lab_agent_spec spec = {.control = node->control, .node = 0, .rank = -1, .worker_path = "/nonexistent"};
    node->err = lab_agent_run(&spec);
    snprintf(node->why, sizeof node->why, "%s", node->err ? lab_error_last()->text : "");
    return NULL;
}

/* The next frame that is not PROGRESS. */
static Lab__Frame__BodyCase hear(struct node *node, uint32_t launch)
{
    uint64_t deadline_ns = lab_now_ns() + 10 * LAB_NS_PER_S;
    uint32_t from;
    Lab__Frame *frame;
    while (lab_now_ns() < deadline_ns) {
        int err = lab_bus_receive(node->launcher, &from, &frame);
        if (err == -EAGAIN) {
            struct pollfd ready = {.fd = lab_bus_fd(node->launcher), .events = POLLIN};
            poll(&ready, 1, lab_ms_until(deadline_ns));
            continue;
        }
        lab_assert_ok(err);
        Lab__Frame__BodyCase body = frame->body_case;
        if (body != LAB__FRAME__BODY_PROGRESS)
            assert_int_equal(frame->launch, launch);
        lab_codec_free(frame);
        if (body != LAB__FRAME__BODY_PROGRESS)
            return body;
    }
    return LAB__FRAME__BODY__NOT_SET;
}

static void say(struct node *node, Lab__Frame__BodyCase body, uint32_t launch)
{
    Lab__Frame frame = LAB__FRAME__INIT;
    Lab__Go go = LAB__GO__INIT;
    Lab__Abort abandon = LAB__ABORT__INIT;
    Lab__Bye bye = LAB__BYE__INIT;
    frame.launch = launch;
    frame.body_case = body;
    if (body == LAB__FRAME__BODY_GO)
        frame.go = &go;
    else if (body == LAB__FRAME__BODY_ABORT)
        frame.abort = &abandon;
    else
        frame.bye = &bye;
    lab_assert_ok(lab_bus_send(node->launcher, 0, &frame));
}

/* Of limits, or of nothing that could be run. */
static void assign(struct node *node, uint32_t launch, bool limits)
{
    Lab__Frame frame = LAB__FRAME__INIT;
    Lab__Assign assigned = LAB__ASSIGN__INIT;
    assigned.nodes = 1;
    assigned.limits = limits;
    frame.launch = launch;
    frame.body_case = LAB__FRAME__BODY_ASSIGN;
    frame.assign = &assigned;
    lab_assert_ok(lab_bus_send(node->launcher, 0, &frame));
}

static void begin(struct node *node, const char *name)
{
    char endpoint[64];
    *node = (struct node){0};
    snprintf(endpoint, sizeof endpoint, "ipc://@lab-unit-agent-%s-%d", name, (int)getpid());
    lab_assert_ok(lab_bus_serve(endpoint, 1, NULL, &node->launcher));
    snprintf(node->control, sizeof node->control, "%s", lab_bus_address(node->launcher));
    assert_int_equal(pthread_create(&node->thread, NULL, be_a_node, node), 0);
    assert_int_equal(hear(node, 0), LAB__FRAME__BODY_HELLO);
}

static void end(struct node *node)
{
    pthread_join(node->thread, NULL);
    lab_bus_close(node->launcher);
}

static void a_go_that_crosses_a_fault_begins_nothing(void **state)
{
    (void)state;
    struct node node;
    begin(&node, "crossing");
    assign(&node, 1, false);
    assert_int_equal(hear(&node, 1), LAB__FRAME__BODY_FAULT);
    say(&node, LAB__FRAME__BODY_GO, 1);
    /* Had it begun to measure limits, this would arrive amid them. */
    assign(&node, 2, true);
    assert_int_equal(hear(&node, 2), LAB__FRAME__BODY_READY);
    say(&node, LAB__FRAME__BODY_ABORT, 2);
    assert_int_equal(hear(&node, 2), LAB__FRAME__BODY_DONE);
    say(&node, LAB__FRAME__BODY_GO, 2);
    say(&node, LAB__FRAME__BODY_GO, 1);
    assign(&node, 3, false);
    assert_int_equal(hear(&node, 3), LAB__FRAME__BODY_FAULT);
    say(&node, LAB__FRAME__BODY_BYE, 3);
    end(&node);
    assert_string_equal(node.why, "");
}

static void a_launch_that_was_assigned_is_not_assigned_again(void **state)
{
    (void)state;
    struct node node;
    begin(&node, "again");
    assign(&node, 5, true);
    assert_int_equal(hear(&node, 5), LAB__FRAME__BODY_READY);
    assign(&node, 5, true);
    end(&node);
    assert_int_equal(node.err, -EPROTO);
    assert_string_equal(node.why, "an ASSIGN of launch 5 arrived after launch 5");
}

static void what_only_nodes_say_ends_the_node(void **state)
{
    (void)state;
    struct node node;
    Lab__Frame frame = LAB__FRAME__INIT;
    Lab__Ready ready = LAB__READY__INIT;
    begin(&node, "nodes");
    frame.body_case = LAB__FRAME__BODY_READY;
    frame.ready = &ready;
    lab_assert_ok(lab_bus_send(node.launcher, 0, &frame));
    end(&node);
    assert_int_equal(node.err, -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_go_that_crosses_a_fault_begins_nothing),
        cmocka_unit_test(a_launch_that_was_assigned_is_not_assigned_again),
        cmocka_unit_test(what_only_nodes_say_ends_the_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
