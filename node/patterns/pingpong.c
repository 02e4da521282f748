/* pingpong: the client sends one message and waits for the answer of the same size. What is timed is the round trip; half of
 * it is reported, and called half-round-trip. When a round trip is short beside the clock's own cost a turn is many of them,
 * timed as one, and its mean counts for each. */
#include "node/patterns/patterns.h"

static int client_turn(struct lab_edge_side *side, uint32_t flags, uint64_t deadline_ns)
{
    uint32_t operations = side->operations, count, ignored;
    uint64_t begin = lab_now_ns();
    for (uint32_t i = operations; i-- > 0;) {
        int err = lab_lane_put(&side->tx, 1, i ? 0 : flags | LAB_TURN, deadline_ns);
        if (!err)
            err = lab_lane_take(&side->rx, 1, deadline_ns, &count, &ignored);
        if (err)
            return err;
    }
    side->turn_ns = lab_now_ns() - begin;
    lab_lane_settle(&side->rx);

    /* Who talks to itself moves one message where two parties move two. */
    uint64_t moved = side->self ? operations : 2 * (uint64_t)operations;
    if (side->latency) {
        double whole = (double)side->turn_ns - side->clock_overhead_ns;
        lab_hist_record_n(side->latency, whole > 0 ? (uint64_t)(whole / (double)moved + 0.5) : 0, operations);
    }
    side->messages += moved;
    side->depth_max = 1;
    return 0;
}

static int server_turn(struct lab_edge_side *side, uint64_t deadline_ns, uint32_t *ret_flags)
{
    uint32_t count, flags;
    do {
        int err = lab_lane_take(&side->rx, 1, deadline_ns, &count, &flags);
        if (!err)
            err = lab_lane_put(&side->tx, 1, 0, deadline_ns);
        if (err)
            return err;
        lab_lane_settle(&side->rx);
    } while (!(flags & LAB_TURN));
    *ret_flags = flags;
    return 0;
}

const struct lab_pattern lab_pattern_pingpong = {
    .name = "pingpong",
    .summary = "one message there, one back, then the next: latency",
    .latency = LAB_HALF_ROUND_TRIP,
    .default_window = lab_window_of_two,
    .reply_bytes = lab_the_same,
    .reply_window = lab_the_same,
    .first_operations = lab_just_one,
    .client_turn = client_turn,
    .server_turn = server_turn,
};
