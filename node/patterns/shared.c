/* One channel that all parties share: producers put messages into it as long as there is room, consumers take them. Nobody answers: the
 * channel's own bound is what holds a producer back, and so its depth is what an experiment's `window` says. A consumer has finished
 * when every producer has closed its end and nothing is left.
 *
 *     producer-consumer   clients -> servers, each message to one of them: the bounded buffer of the textbook
 *     fan-in              clients -> the one server: a mailbox
 *     fan-out             the one server -> clients, each message to one of them: work is handed out
 *     broadcast           the one server -> clients, each message to every one of them
 *
 * (So that in a star the centre receives in a fan-in, and sends in the last two.) */
#include "node/patterns/patterns.h"

#include <errno.h>

enum { IN_FLIGHT_BYTES = 4 << 20, WINDOW_MIN = 2, WINDOW_MAX = 1024 };

static uint32_t window_of(uint64_t size_bytes)
{
    uint64_t window = IN_FLIGHT_BYTES / size_bytes;
    return window < WINDOW_MIN ? WINDOW_MIN : window > WINDOW_MAX ? WINDOW_MAX : (uint32_t)window;
}

/* Nobody replies. */
static uint32_t none(uint32_t ignored)
{
    (void)ignored;
    return 0;
}

static uint32_t half(uint32_t window)
{
    return window > 1 ? window / 2 : 1;
}

static int produce(struct lab_edge_side *side, uint32_t flags, uint64_t deadline_ns)
{
    int err = lab_lane_put(&side->tx, side->operations, flags | LAB_TURN, deadline_ns);
    if (err)
        return err;
    side->messages += side->operations;
    side->depth_max = side->window;
    return 0;
}

/* What concerns one producer and one consumer does not concern those who share a channel: they neither probe nor end together. */
static int consume(struct lab_edge_side *side, uint64_t deadline_ns, uint32_t *ret_flags)
{
    uint32_t count, flags = 0;
    int err = 0;
    while (!err && !(flags & LAB_MARK))
        err = lab_lane_take(&side->rx, side->window, deadline_ns, &count, &flags);
    lab_lane_settle(&side->rx);
    *ret_flags = err ? LAB_FIN : LAB_MARK;
    return err == -EPIPE ? 0 : err;
}

const struct lab_pattern lab_pattern_producer_consumer = {
    .name = "producer-consumer",
    .summary = "producers fill one bounded buffer, consumers empty it; each message goes to one of them",
    .sharing = LAB_TO_ONE,
    .latency = LAB_NO_LATENCY,
    .default_window = window_of,
    .reply_bytes = none,
    .reply_window = none,
    .first_operations = half,
    .client_turn = produce,
    .server_turn = consume,
};

const struct lab_pattern lab_pattern_fan_in = {
    .name = "fan-in",
    .summary = "many send to one: a mailbox",
    .sharing = LAB_TO_ONE,
    .single_receiver = true,
    .latency = LAB_NO_LATENCY,
    .default_window = window_of,
    .reply_bytes = none,
    .reply_window = none,
    .first_operations = half,
    .client_turn = produce,
    .server_turn = consume,
};

const struct lab_pattern lab_pattern_fan_out = {
    .name = "fan-out",
    .summary = "one hands out to many, each message to one of them",
    .sharing = LAB_TO_ONE,
    .single_sender = true,
    .servers_send = true,
    .latency = LAB_NO_LATENCY,
    .default_window = window_of,
    .reply_bytes = none,
    .reply_window = none,
    .first_operations = half,
    .client_turn = produce,
    .server_turn = consume,
};

const struct lab_pattern lab_pattern_broadcast = {
    .name = "broadcast",
    .summary = "one tells all: each message goes to every receiver",
    .sharing = LAB_TO_ALL,
    .single_sender = true,
    .servers_send = true,
    .latency = LAB_NO_LATENCY,
    .default_window = window_of,
    .reply_bytes = none,
    .reply_window = none,
    .first_operations = half,
    .client_turn = produce,
    .server_turn = consume,
};
