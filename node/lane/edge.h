/* One worker's side of an edge, as patterns see it: two lanes and the counters of the current window. */
#ifndef LAB_NODE_LANE_EDGE_H
#define LAB_NODE_LANE_EDGE_H

#include "base/clock.h"
#include "base/hist.h"
#include "node/lane/lane.h"
#include "node/pattern.h"
#include "shm/probe.h"

struct lab_edge_side {
    uint32_t edge;
    bool client;
    bool self;                  /* both lanes are ends of one channel: what is sent is what is received */
    struct lab_lane tx, rx;
    uint32_t window;            /* the most messages in flight */
    uint32_t operations;        /* of a turn */
    uint32_t outstanding;       /* turns sent whose answer has not been taken (stream) */
    uint32_t depth_max;         /* the most messages in flight that there were */
    double clock_overhead_ns;

    uint64_t messages;          /* delivered, since whoever counts set it to 0 */
    struct lab_hist *latency;   /* where client turns record; NULL: nowhere */
    uint64_t turn_ns;           /* duration of the last timed turn; 0: it was not timed */
    uint64_t began_ns;          /* of the turns that are being timed as one, when they began; 0: not yet (barrier) */
    uint32_t turns;             /* ... and how many there have been (barrier) */

    struct lab_probe *probe;    /* shared with the other side; NULL: none */
    bool owes;                  /* a server's turn whose answer is due, ... */
    uint32_t told;              /* ... and the flags that it heard */
    bool parted;                /* the other side has said that one of its own edges has ended */
    bool finished;
};

#endif
