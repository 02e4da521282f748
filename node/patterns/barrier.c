/* barrier: nobody goes on before all have come. In a topology that is a tree (star, line, tree, pair) each party hears those below it,
 * tells the one above, waits until that one lets it go, and lets those below go: every edge carries one message up and one down. In a
 * star that is the central barrier, in a tree the combining one (Yew, Tzeng and Lawrie, "Distributing Hot-Spot Addressing in
 * Large-Scale Multiprocessors", 1987).
 *
 * What is timed, at every party but the root, is one barrier after another: from being let go to being let go. The first one after a
 * pause is timed from the party's own arrival. Where a barrier is short beside the clock's own cost several are timed as one. */
#include "node/patterns/patterns.h"

/* `paused`: what comes next is not the next barrier. */
static void note_time(struct lab_edge_side *side, bool paused)
{
    side->turn_ns = 0;
    if (++side->turns < side->operations && !paused)
        return;
    uint64_t now_ns = lab_now_ns();
    side->turn_ns = now_ns - side->began_ns;
    if (side->latency) {
        double each = ((double)side->turn_ns - side->clock_overhead_ns) / side->turns;
        lab_hist_record_n(side->latency, each > 0 ? (uint64_t)(each + 0.5) : 0, side->turns);
    }
    side->began_ns = paused ? 0 : now_ns;
    side->turns = 0;
}

static int client_turn(struct lab_edge_side *side, uint32_t flags, uint64_t deadline_ns)
{
    uint32_t count, told;
    if (!side->began_ns)
        side->began_ns = lab_now_ns();
    int err = lab_lane_put(&side->tx, 1, flags | LAB_TURN, deadline_ns);
    if (!err)
        err = lab_lane_take(&side->rx, 1, deadline_ns, &count, &told);
    if (err)
        return err;
    lab_lane_settle(&side->rx);
    note_time(side, flags != 0);
    side->parted = side->parted || (!side->self && told & LAB_FIN);
    side->messages += side->self ? 1 : 2;
    side->depth_max = 1;
    return 0;
}

static int server_turn(struct lab_edge_side *side, uint64_t deadline_ns, uint32_t *ret_flags)
{
    uint32_t count, flags;
    int err = lab_lane_take(&side->rx, 1, deadline_ns, &count, &flags);
    if (err)
        return err;
    lab_lane_settle(&side->rx);
    *ret_flags = flags;
    return 0;
}

static int server_release(struct lab_edge_side *side, uint32_t flags, uint64_t deadline_ns)
{
    return lab_lane_put(&side->tx, 1, flags | LAB_TURN, deadline_ns);
}

const struct lab_pattern lab_pattern_barrier = {
    .name = "barrier",
    .summary = "nobody goes on before all have come: the time of one barrier",
    .latency = LAB_BARRIER,
    .default_window = lab_window_of_two,
    .reply_bytes = lab_the_same,
    .reply_window = lab_the_same,
    .first_operations = lab_just_one,
    .client_turn = client_turn,
    .server_turn = server_turn,
    .server_release = server_release,
};
