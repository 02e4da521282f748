/* The measured life of one worker: warm-up until steady, then windows, between them the proximity probe.
 *
 * Phases are driven by clients and told to servers in the messages themselves (LAB_MARK, LAB_PROBE, LAB_FIN): nothing but
 * the transport under test runs between two processes while they are measured. Inside a window the harness makes no system
 * call, allocation or lock; the clock is read through the vDSO. */
#ifndef LAB_NODE_LANE_MEASURE_H
#define LAB_NODE_LANE_MEASURE_H

#include "node/lane/edge.h"
#include "observe/usage.h"

enum { LAB_STEADY_WINDOWS = 10 };

/* What one side of an edge measured; histogram and times of clients only. */
struct lab_edge_result {
    struct lab_hist *latency;   /* owned by lab_measure; NULL: the pattern times none */
    uint64_t messages, elapsed_ns; /* of the windows kept */
    uint32_t windows, set_aside;
    double handoff_ns;          /* median of the probes, 0: none */
    bool batched;
    uint64_t first_message_ns;  /* when the first message had been answered */
    uint64_t warmup_ns;         /* until measuring began */
};

struct lab_measure {
    /* in */
    const struct lab_pattern *pattern;
    struct lab_edge_side *sides;
    uint32_t side_count;        /* in global edge order */
    uint64_t warmup_ns;         /* at most */
    bool together;              /* ... and at least: other edges are measured by others at the same time */
    uint64_t measure_ns;
    uint64_t window_ns;         /* of one window */
    uint64_t deadline_ns;       /* for everything */
    enum lab_usage_scope scope; /* whose usage is read */
    /* out */
    struct lab_edge_result *results; /* one per side, owned */
    struct lab_usage usage;     /* of the measured phase */
    uint64_t fiber_switches;    /* of this thread, in the same phase */
    bool steady;
};

/* Allocates what measuring needs, before it starts. -ENOMEM. */
int lab_measure_init(struct lab_measure *measure);
int lab_measure_run(struct lab_measure *measure);
void lab_measure_fini(struct lab_measure *measure);

/* Whether a series of rates (the last LAB_STEADY_WINDOWS windows) has settled: each within 5 % of the mean and a slope of less
 * than 1 % over all of them; or, where the mechanism itself varies more than that, no trend that Mann and Kendall's test
 * would notice at the 5 % level and halves whose medians differ by less than 5 %. */
bool lab_series_steady(const double rates[LAB_STEADY_WINDOWS]);

#endif
