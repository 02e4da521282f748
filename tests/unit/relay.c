/* Two relays joined by their links, as those of two nodes are: what a receiver that does not read stops, what each channel gets of a relay, and
 * how much the relay keeps meanwhile. */
#include "base/clock.h"
#include "node/agent/relay.h"
#include "node/lane/lane.h"
#include "tests/check.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum { ROUTES_MAX = 4, RUN = 77, EPOCH = 3 };

/* A way from one worker to another: ── leg ──▶ relay ── link ──▶ relay ── leg ──▶ */
struct route {
    struct lab_path path[2];      /* as the sender's node has it, and the receiver's */
    struct lab_wire leg[2], link;
    struct lab_end *tx, *rx;
};

struct journey {
    struct route route[ROUTES_MAX];
    uint32_t routes;
    uint64_t deadline_ns;
    struct lab_relay *relay[2];
};

struct kind {
    const char *leg, *link;
    enum lab_wait wait; /* of the legs */
    uint32_t size, window;
};

static struct lab_channel channel_of(const char *name, enum lab_wait wait, uint32_t number, uint32_t message_max, uint32_t window)
{
    struct lab_channel channel = {
        .transport = lab_transport_named(name), .wait = wait, .id = number, .epoch = EPOCH, .message_max = message_max, .window = window, .batch = 1};
    assert_non_null(channel.transport);
    if (!(channel.transport->waits & LAB_WAIT_BIT(wait)))
        channel.wait = LAB_WAIT_BLOCK;
    return channel;
}

static void provision(const struct lab_channel *channel, struct lab_wire *wire)
{
    lab_assert_ok(lab_transport_ops(channel->transport)->provision(channel, wire));
}

static struct lab_end *opened(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role role, uint64_t deadline_ns)
{
    struct lab_wire half;
    struct lab_end *end;
    lab_assert_ok(lab_wire_half(wire, role, &half));
    lab_assert_ok(lab_end_open(channel, role, &half, NULL, deadline_ns, &end));
    return end;
}

static void lay(struct journey *journey, const struct kind *kind, uint32_t routes)
{
    *journey = (struct journey){.routes = routes, .deadline_ns = lab_now_ns() + 60 * LAB_NS_PER_S};
    for (uint32_t i = 0; i < routes; i++) {
        struct route *route = &journey->route[i];
        for (int side = 0; side < 2; side++) {
            struct lab_path *path = &route->path[side];
            *path = (struct lab_path){.number = i, .party = {0, 1}, .here = {side == 0, side == 1}, .has = {true, true}};
            path->channel[LAB_HOP_LOCAL] = channel_of(kind->leg, kind->wait, i, kind->size, kind->window);
            path->channel[LAB_HOP_LINK] = channel_of(kind->link, LAB_WAIT_FUTEX, i, lab_lane_wire_bytes(kind->size, true), kind->window);
            provision(&path->channel[LAB_HOP_LOCAL], &route->leg[side]);
        }
        provision(&route->path[1].channel[LAB_HOP_LINK], &route->link);
        route->tx = opened(&route->path[0].channel[LAB_HOP_LOCAL], &route->leg[0], LAB_TX, journey->deadline_ns);
        route->rx = opened(&route->path[1].channel[LAB_HOP_LOCAL], &route->leg[1], LAB_RX, journey->deadline_ns);
    }
}

static void start(struct journey *journey)
{
    for (int side = 0; side < 2; side++) {
        struct lab_relay_path paths[ROUTES_MAX];
        for (uint32_t i = 0; i < journey->routes; i++) {
            struct route *route = &journey->route[i];
            paths[i].path = &route->path[side];
            lab_assert_ok(lab_wire_half(&route->leg[side], side == 0 ? LAB_RX : LAB_TX, &paths[i].wire[LAB_HOP_LOCAL]));
            lab_assert_ok(lab_wire_half(&route->link, side == 0 ? LAB_TX : LAB_RX, &paths[i].wire[LAB_HOP_LINK]));
        }
        lab_assert_ok(lab_relay_start(paths, journey->routes, RUN, EPOCH, journey->deadline_ns, &journey->relay[side]));
    }
}

static void await_state(struct journey *journey, enum lab_relay_state state)
{
    for (int side = 0; side < 2; side++) {
        int now;
        while ((now = lab_relay_state(journey->relay[side])) != (int)state) {
            lab_assert_ok(now);
            struct pollfd changed = {.fd = lab_relay_fd(journey->relay[side]), .events = POLLIN};
            assert_true(poll(&changed, 1, lab_ms_until(journey->deadline_ns)) == 1);
        }
    }
}

static void retire(const struct lab_channel *channel, struct lab_wire *wire)
{
    lab_transport_ops(channel->transport)->retire(channel, wire);
}

static void take_down(struct journey *journey)
{
    for (int side = 0; side < 2; side++)
        lab_assert_ok(lab_relay_stop(journey->relay[side]));
    for (uint32_t i = 0; i < journey->routes; i++) {
        struct route *route = &journey->route[i];
        lab_end_close(route->tx);
        lab_end_close(route->rx);
        for (int side = 0; side < 2; side++)
            retire(&route->path[side].channel[LAB_HOP_LOCAL], &route->leg[side]);
        retire(&route->path[1].channel[LAB_HOP_LINK], &route->link);
    }
}

/* The senders close, what is under way arrives, and all is taken down. */
static void finish(struct journey *journey)
{
    for (uint32_t i = 0; i < journey->routes; i++) {
        lab_end_close(journey->route[i].tx);
        journey->route[i].tx = NULL;
    }
    await_state(journey, LAB_RELAY_EMPTIED);
    take_down(journey);
}

static int send_number(struct route *route, uint32_t size, uint64_t number, uint64_t deadline_ns)
{
    static unsigned char message[1 << 16];
    memcpy(message, &number, sizeof number);
    return lab_end_send(route->tx, message, size, deadline_ns);
}

static uint64_t received_number(struct route *route, uint32_t size, uint64_t deadline_ns)
{
    static unsigned char message[1 << 16];
    uint64_t number;
    ssize_t got = lab_end_recv(route->rx, message, sizeof message, deadline_ns);
    lab_assert_ok(got);
    assert_int_equal(got, size);
    memcpy(&number, message, sizeof number);
    return number;
}

/* Sends until nothing has moved for a while: how many. */
static uint64_t pour(struct route *route, uint32_t size)
{
    enum { STILL_MS = 300 };
    uint64_t sent = 0;
    int err;
    while ((err = send_number(route, size, sent, lab_now_ns() + STILL_MS * LAB_NS_PER_MS)) == 0)
        sent++;
    assert_int_equal(err, -EAGAIN);
    return sent;
}

static const struct kind kinds[] = {
    {"shm-ring", "shm-ring", LAB_WAIT_FUTEX, 4096, 16},
    {"shm-ring", "zmq-ipc", LAB_WAIT_FUTEX, 4096, 16},
    {"unix-dgram", "zmq-tcp", LAB_WAIT_BLOCK, 64, 64},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* ---- back-pressure ---- */

static void a_receiver_that_does_not_read_stops_its_sender_and_nobody_else(void **state)
{
    (void)state;
    enum { OTHERS = 2000 };
    for (size_t k = 0; k < KINDS; k++) {
        const struct kind *kind = &kinds[k];
        struct journey journey;
        lay(&journey, kind, 2);
        start(&journey);
        uint64_t stuck = pour(&journey.route[0], kind->size);
        assert_true(stuck >= kind->window);
        for (uint64_t i = 0; i < OTHERS; i++) {
            lab_assert_ok(send_number(&journey.route[1], kind->size, i, lab_now_ns() + 10 * LAB_NS_PER_S));
            assert_int_equal(received_number(&journey.route[1], kind->size, lab_now_ns() + 10 * LAB_NS_PER_S), i);
        }
        for (uint64_t i = 0; i < stuck; i++)
            assert_int_equal(received_number(&journey.route[0], kind->size, lab_now_ns() + 10 * LAB_NS_PER_S), i);
        finish(&journey);
    }
}

/* What is under way lies in the hops, each as deep as its channel, and one message in each relay. */
static void a_receiver_that_does_not_read_costs_no_more_than_the_hops_hold(void **state)
{
    (void)state;
    enum { SIZE = 1 << 16, WINDOW = 8 };
    static const struct kind kind = {"shm-ring", "shm-ring", LAB_WAIT_FUTEX, SIZE, WINDOW};
    struct journey journey;
    lay(&journey, &kind, 1);
    size_t ring;
    const struct lab_channel *leg = &journey.route[0].path[0].channel[LAB_HOP_LOCAL], *link = &journey.route[0].path[0].channel[LAB_HOP_LINK];
    lab_assert_ok(lab_transport_ops(leg->transport)->memory(leg, &ring));
    uint64_t most = 2 * (ring / SIZE) + 2;
    lab_assert_ok(lab_transport_ops(link->transport)->memory(link, &ring));
    most += ring / SIZE;
    start(&journey);
    uint64_t stuck = pour(&journey.route[0], SIZE);
    assert_in_range(stuck, 3 * WINDOW, most);
    for (uint64_t i = 0; i < stuck; i++)
        assert_int_equal(received_number(&journey.route[0], SIZE, lab_now_ns() + 10 * LAB_NS_PER_S), i);
    finish(&journey);
}

/* ---- fairness ---- */

/* All legs are full before the relay starts. The stamp of each envelope tells when it was taken, and the links, which are read here,
 * are as deep as the legs: at each moment no channel was ahead of another by more than one message. */
static void channels_that_always_have_a_message_get_equal_shares(void **state)
{
    (void)state;
    enum { EACH = 256, SIZE = 64, CHANNELS = ROUTES_MAX };
    static const struct kind kind = {"shm-ring", "shm-ring", LAB_WAIT_FUTEX, SIZE, EACH};
    static uint64_t stamp[CHANNELS][EACH];
    struct journey journey;
    struct lab_relay_path paths[CHANNELS];
    struct lab_end *link[CHANNELS];
    lay(&journey, &kind, CHANNELS);
    for (uint32_t i = 0; i < CHANNELS; i++) {
        struct route *route = &journey.route[i];
        for (uint64_t m = 0; m < EACH; m++)
            lab_assert_ok(send_number(route, SIZE, m, journey.deadline_ns));
        link[i] = opened(&route->path[1].channel[LAB_HOP_LINK], &route->link, LAB_RX, journey.deadline_ns);
        paths[i].path = &route->path[0];
        lab_assert_ok(lab_wire_half(&route->leg[0], LAB_RX, &paths[i].wire[LAB_HOP_LOCAL]));
        lab_assert_ok(lab_wire_half(&route->link, LAB_TX, &paths[i].wire[LAB_HOP_LINK]));
    }
    lab_assert_ok(lab_relay_start(paths, CHANNELS, RUN, EPOCH, journey.deadline_ns, &journey.relay[0]));
    for (uint32_t i = 0; i < CHANNELS; i++) {
        for (uint32_t m = 0; m < EACH; m++) {
            unsigned char message[LAB_ENVELOPE_HEAD + SIZE];
            struct lab_envelope head;
            const unsigned char *payload;
            size_t size;
            ssize_t got = lab_end_recv(link[i], message, sizeof message, journey.deadline_ns);
            lab_assert_ok(got);
            lab_assert_ok(lab_envelope_read(message, (size_t)got, &head, &payload, &size));
            assert_int_equal(head.sequence, m);
            stamp[i][m] = head.stamp_ns;
        }
    }
    uint32_t apart = 0;
    for (uint32_t i = 0; i < CHANNELS; i++) {
        for (uint32_t other = 0; other < CHANNELS; other++) {
            /* When message m of i was taken, messages up to `there` of the other had been. */
            for (uint32_t m = 0, there = 0; m < EACH; m++) {
                while (there < EACH && stamp[other][there] <= stamp[i][m])
                    there++;
                uint32_t ahead = m + 1 > there ? m + 1 - there : 0;
                apart = ahead > apart ? ahead : apart;
            }
        }
    }
    assert_int_equal(apart, 1);
    for (uint32_t i = 0; i < CHANNELS; i++)
        lab_end_close(link[i]);
    take_down(&journey);
}

/* ---- deadlines ---- */

static void a_message_that_cannot_go_on_before_the_deadline_is_a_failure(void **state)
{
    (void)state;
    struct journey journey;
    lay(&journey, &kinds[0], 2);
    journey.deadline_ns = lab_now_ns() + LAB_NS_PER_S;
    start(&journey);
    pour(&journey.route[0], kinds[0].size);
    struct pollfd changed = {.fd = lab_relay_fd(journey.relay[1]), .events = POLLIN};
    int err;
    while ((err = lab_relay_state(journey.relay[1])) >= 0)
        assert_true(poll(&changed, 1, 10000) == 1);
    lab_assert_fails(err, ETIMEDOUT);
    assert_non_null(strstr(lab_error_last()->text, "could not pass a message of channel 0 on"));
    take_down(&journey);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_receiver_that_does_not_read_stops_its_sender_and_nobody_else),
        cmocka_unit_test(a_receiver_that_does_not_read_costs_no_more_than_the_hops_hold),
        cmocka_unit_test(channels_that_always_have_a_message_get_equal_shares),
        cmocka_unit_test(a_message_that_cannot_go_on_before_the_deadline_is_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
