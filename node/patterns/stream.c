/* stream: the client sends without waiting, at most `window` messages ahead of what the server has confirmed. A turn is half a
 * window; the server confirms each with one 8-byte message, so that the confirmations of one half travel while the other half
 * is being sent. The window is the same for every transport: how deep its buffers are decides nothing. */
#include "node/patterns/patterns.h"

static uint32_t confirmation(uint32_t size_bytes)
{
    (void)size_bytes;
    return LAB_MESSAGE_MIN;
}

/* One for each turn that is in flight. */
static uint32_t confirmations(uint32_t window)
{
    return window / lab_half_window(window);
}

/* One confirmation, or, for who talks to itself, the turn itself. */
static int confirmed(struct lab_edge_side *side, uint64_t deadline_ns)
{
    uint32_t count, flags;
    do {
        int err = lab_lane_take(&side->rx, side->window, deadline_ns, &count, &flags);
        if (err)
            return err;
    } while (!(flags & LAB_TURN));
    lab_lane_settle(&side->rx);
    side->outstanding--;
    side->messages += side->operations;
    return 0;
}

static int client_turn(struct lab_edge_side *side, uint32_t flags, uint64_t deadline_ns)
{
    if ((side->outstanding + 1) * side->operations > side->window) {
        int err = confirmed(side, deadline_ns);
        if (err)
            return err;
    }
    int err = lab_lane_put(&side->tx, side->operations, flags | LAB_TURN, deadline_ns);
    if (err)
        return err;
    side->outstanding++;
    if (side->outstanding * side->operations > side->depth_max)
        side->depth_max = side->outstanding * side->operations;
    return 0;
}

static int client_drain(struct lab_edge_side *side, uint64_t deadline_ns)
{
    int err = 0;
    while (!err && side->outstanding)
        err = confirmed(side, deadline_ns);
    return err;
}

static int server_turn(struct lab_edge_side *side, uint64_t deadline_ns, uint32_t *ret_flags)
{
    uint32_t count, flags;
    do {
        int err = lab_lane_take(&side->rx, side->window, deadline_ns, &count, &flags);
        if (err)
            return err;
    } while (!(flags & LAB_TURN));
    lab_lane_settle(&side->rx);
    *ret_flags = flags;
    return lab_lane_put(&side->tx, 1, LAB_TURN, deadline_ns);
}

const struct lab_pattern lab_pattern_stream = {
    .name = "stream",
    .summary = "one after the other, a window of them in flight: throughput",
    .latency = LAB_NO_LATENCY,
    .default_window = lab_window_of_bytes,
    .reply_bytes = confirmation,
    .reply_window = confirmations,
    .first_operations = lab_half_window,
    .client_turn = client_turn,
    .client_drain = client_drain,
    .server_turn = server_turn,
};
