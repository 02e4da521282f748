/* The state of a launch: shared by launch.c (its stages) and party.c (its workers), and by nothing else. */
#ifndef LAB_NODE_AGENT_LAUNCH_STATE_H
#define LAB_NODE_AGENT_LAUNCH_STATE_H

#include "base/child.h"
#include "base/error.h"
#include "node/agent/launch.h"
#include "node/agent/layout.h"
#include "node/agent/relay.h"
#include "proto/pmi.h"

#include <pthread.h>

enum { LAB_NOTE_WITHIN_MS = 500 };

/* One party of this node: a worker process, or a thread of ours. */
struct lab_member {
    const struct lab_party *party;
    int control_fd;             /* our side of the socketpair; -1: closed */
    int far_fd;                 /* thread: its side, closed after it was joined; -1 */
    struct lab_child child;     /* process */
    pthread_t thread;
    bool threaded;
    bool opened;
    bool faulted;               /* it said why it ends */
    Lab__Note *result;          /* owned */
};

struct lab_wired {
    struct lab_wire wire[LAB_HOPS];
    bool provisioned[LAB_HOPS];
};

struct lab_launch_run {
    Lab__Frame *frame;
    const Lab__Assign *assign;
    const char *worker_path;
    struct lab_layout layout;
    struct lab_wired *wired;        /* one per path of the layout */
    struct lab_member *members;     /* one per party */
    struct lab_pmi *pmi;
    struct lab_relay *relay;
    int relay_state;            /* enum lab_relay_state */
    int probe_fd;
    uint64_t deadline_ns, leave_ns;
    uint64_t suspected_ns;      /* `fault` is filled in, and stands unless a better reason comes until then; 0: it is not */
    enum lab_stage stage;
    Lab__Endpoint *endpoints;
    uint32_t endpoint_count;
    Lab__Outcome **outcomes;
    Lab__Fault fault;
    char fault_text[LAB_ERROR_TEXT], fault_where[160];
};

/* Spawns one party and hands it its task. What was started before a failure is ended by lab_launch_end. */
int lab_party_start(struct lab_launch_run *launch, struct lab_member *member);

/* Ends the thread of a party, by taking its control socket away and joining it. -ETIMEDOUT: it does not end. */
int lab_party_join(struct lab_member *member, uint64_t deadline_ns);

#endif
