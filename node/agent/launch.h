/* One launch on one node: from ASSIGN to the outcomes of its parties, without ever blocking.
 *
 * The agent (agent.h) polls the descriptors that the launch names, calls lab_launch_step, and tells the launcher what comes
 * of it. The launch provisions channels, spawns workers (or threads, where the nodes themselves talk), runs the relay,
 * watches everything die, and takes everything down again. */
#ifndef LAB_NODE_AGENT_LAUNCH_H
#define LAB_NODE_AGENT_LAUNCH_H

#include "proto/control.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

enum lab_stage {
    LAB_STAGE_LISTENING, /* its receiving links have addresses; lab_launch_connect is due */
    LAB_STAGE_OPENING,   /* parties open their ends */
    LAB_STAGE_READY,     /* all are open; lab_launch_go is due */
    LAB_STAGE_RUNNING,
    LAB_STAGE_LEAVING,   /* all results are in; workers are ending */
    LAB_STAGE_DONE,
    LAB_STAGE_FAILED,
};

struct lab_launch_run;

/* `assign` is kept, and freed with the launch (it is part of `frame`, which is owned from now on, success or not). */
int lab_launch_begin(Lab__Frame *frame, uint32_t node, const char *worker_path, struct lab_launch_run **ret_launch);

enum lab_stage lab_launch_stage(const struct lab_launch_run *launch);

/* LISTENING: the addresses of this node's receiving links; points into the launch. */
void lab_launch_endpoints(const struct lab_launch_run *launch, Lab__Listen *ret_listen, Lab__Endpoint **endpoints);
uint32_t lab_launch_endpoint_count(const struct lab_launch_run *launch);
int lab_launch_connect(struct lab_launch_run *launch, const Lab__Connect *connect);
int lab_launch_go(struct lab_launch_run *launch);

/* Readable when there is something for lab_launch_step to do ... */
int lab_launch_fd(const struct lab_launch_run *launch);
/* ... unless it has more to do at once, whatever there is to read. */
bool lab_launch_restless(const struct lab_launch_run *launch);

/* Handles whatever is readable or due; changes the stage. On FAILED the reason is lab_launch_fault's. */
void lab_launch_step(struct lab_launch_run *launch);

/* FAILED: what failed; strings are owned by the launch. */
const Lab__Fault *lab_launch_fault(const struct lab_launch_run *launch);

/* DONE: fills in the outcomes, owned by the launch, and what was `moved`. */
void lab_launch_done(const struct lab_launch_run *launch, Lab__Done *done);

uint32_t lab_launch_party_count(const struct lab_launch_run *launch);

/* Ends it at any stage: the living get hangup and 100 ms, what is left is killed; threads are joined. -ETIMEDOUT when a thread
 * did not end within a second: the process is then not fit for another launch. */
int lab_launch_end(struct lab_launch_run *launch);

#endif
