/* What the parties of a launch reported, made one row of the result. */
#ifndef LAB_LAUNCHER_COLLECT_H
#define LAB_LAUNCHER_COLLECT_H

#include "proto/control.pb-c.h"
#include "report/result.h"

#include <stdbool.h>
#include <stddef.h>

struct lab_collect {
    const Lab__Assign *assign;    /* what they were told to do */
    const Lab__Done *const *done; /* of each node */
    size_t nodes;
    bool same_clock;              /* the parties' clocks are this process's */
    uint64_t began_ns, ended_ns;  /* ASSIGN sent, last DONE received */
    uint64_t ready_ns;            /* from the one until every node was READY; 0: unknown */
};

/* Fills in everything but `round`. Rates are sums over edges, latencies of all edges together; a launch whose messages do not add
 * up, that did not stay where it was placed or whose messages went another way (launcher/path.h), is LAB_INVALID with its reason; one that
 * was not steady LAB_TRANSIENT. The reason is owned by `run`. -ENOMEM, -EBADMSG. */
int lab_collect_launch(const struct lab_collect *collect, struct lab_run *run, struct lab_launch *launch);

#endif
