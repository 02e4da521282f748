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

#define ALIKE                                                                                                     \
    .latency = LAB_NO_LATENCY, .default_window = lab_window_of_bytes, .reply_bytes = lab_none_at_all,             \
    .reply_window = lab_none_at_all, .first_operations = lab_half_window, .client_turn = produce, .server_turn = consume

const struct lab_pattern lab_pattern_producer_consumer = {
    .name = "producer-consumer",
    .summary = "producers fill one bounded buffer, consumers empty it; each message goes to one of them",
    .sharing = LAB_TO_ONE,
    ALIKE,
};

const struct lab_pattern lab_pattern_fan_in = {
    .name = "fan-in",
    .summary = "many send to one: a mailbox",
    .sharing = LAB_TO_ONE,
    .single_receiver = true,
    ALIKE,
};

const struct lab_pattern lab_pattern_fan_out = {
    .name = "fan-out",
    .summary = "one hands out to many, each message to one of them",
    .sharing = LAB_TO_ONE,
    .single_sender = true,
    .servers_send = true,
    ALIKE,
};

const struct lab_pattern lab_pattern_broadcast = {
    .name = "broadcast",
    .summary = "one tells all: each message goes to every receiver",
    .sharing = LAB_TO_ALL,
    .single_sender = true,
    .servers_send = true,
    ALIKE,
};
