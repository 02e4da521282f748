/* The state of a launch: shared by launch.c (its stages), channels.c and party.c (its workers), and by nothing else. */
#ifndef LAB_NODE_AGENT_LAUNCH_STATE_H
#define LAB_NODE_AGENT_LAUNCH_STATE_H

#include "base/child.h"
#include "base/error.h"
#include "node/agent/launch.h"
#include "node/agent/layout.h"
#include "node/agent/relay.h"
#include "observe/interface.h"
#include "proto/pmi.h"

#include <pthread.h>

enum { LAB_NOTE_WITHIN_MS = 500 };

/* One party of this node: a worker process, a thread or fiber of one, or a thread of ours. */
struct lab_member {
    const struct lab_party *party;
    int control_fd;             /* our side of the socketpair; -1: closed */
    int far_fd;                 /* thread of ours: its side, closed after it was joined; -1 */
    pthread_t thread;
    bool threaded;              /* a thread of ours */
    bool opened;
    bool faulted;               /* it said why it ends */
    Lab__Note *result;          /* owned */
};

/* A worker process and the members that live in it: those from `first` on that are not idle. */
struct lab_process {
    struct lab_child child;
    uint32_t first, count;
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
    struct lab_process *processes; uint32_t process_count; /* none where the node itself talks */
    uint32_t started;               /* processes, in order: the others are still to be started ... */
    bool all_started;               /* ... or all are, and the relay */
    uint32_t active, opened, reported; /* members that take part; that have opened their ends; whose result is here */
    uint32_t alive;                 /* processes */
    struct lab_pmi *pmi;
    struct lab_relay *relay;
    int relay_state;            /* enum lab_relay_state */
    int probe_fd;
    int news_fd;                /* epoll: of whatever this launch watches */
    uint64_t deadline_ns, leave_ns;
    struct lab_kernel_buffer buffer;   /* of the first channel that has one */
    struct lab_interfaces before, after; /* the launch; the second is read once it is done */
    uint64_t suspected_ns;      /* `fault` is filled in, and stands unless a better reason comes until then; 0: it is not */
    enum lab_stage stage;
    Lab__Endpoint *endpoints;
    uint32_t endpoint_count;
    Lab__Outcome **outcomes;
    Lab__Fault fault;
    char fault_text[LAB_ERROR_TEXT], fault_where[160];
};

/* ---- channels.c ---- */

int lab_channels_provision(struct lab_launch_run *launch);
void lab_channels_retire(struct lab_launch_run *launch);
/* Once all have inherited what is theirs: our copies would hide their ends from the kernel. */
void lab_channels_let_go(struct lab_launch_run *launch);
/* Tells the others what the kernel cannot tell them of a party that is gone. */
void lab_channels_hang_up(struct lab_launch_run *launch, const struct lab_member *dead);

/* ---- party.c ---- */

/* Spawns a worker process and hands each member its task. What was started before a failure is ended by lab_launch_end. */
int lab_process_start(struct lab_launch_run *launch, struct lab_process *process);

/* The same for a party that is a thread of this node. */
int lab_party_start(struct lab_launch_run *launch, struct lab_member *member);

/* Ends the thread of a party, by taking its control socket away and joining it. -ETIMEDOUT: it does not end. */
int lab_party_join(struct lab_member *member, uint64_t deadline_ns);

#endif
