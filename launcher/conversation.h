/* The launcher's side of the control protocol: one conversation with all nodes of a run. Every call returns within its deadline;
 * a process that dies, a signal, a node of another version, one that is silent or speaks out of turn (peers.h) ends the conversation ("over"), and the calls
 * after that fail at once. The sentence is in the error record. */
#ifndef LAB_LAUNCHER_CONVERSATION_H
#define LAB_LAUNCHER_CONVERSATION_H

#include "base/error.h"
#include "base/clock.h"
#include "launcher/crew.h"
#include "proto/control.pb-c.h"
#include "report/progress.h"
#include "report/result.h"

#include <stdbool.h>
#include <stdint.h>

/* What starting one party more may take on a machine that is busy with the others: about ten times what it takes on a free one. */
#define LAB_START_WITHIN_NS (10 * LAB_NS_PER_MS)

struct lab_conversation;

struct lab_conversation_spec {
    uint32_t nodes;
    struct lab_crew_spec crew;     /* `nodes` and `control` are filled in here */
    struct lab_run *run;           /* hosts, libraries and warnings are added */
    struct lab_progress *progress; /* for notes */
    bool verbose;
};

/* Serves the control connection, starts the crew, waits for every HELLO. A conversation is returned also on failure, unless
 * there is no memory (NULL then): it tells what happened, and is ended like any other. */
int lab_conversation_begin(const struct lab_conversation_spec *spec, struct lab_conversation **ret_talk);

/* BYE to all, and everything down. NULL is harmless. */
void lab_conversation_end(struct lab_conversation *talk);

/* One launch, from ASSIGN to every DONE. `crosses`: edges cross nodes, so that addresses are exchanged. One that fails while
 * this process was stopped is begun anew. -errno: it failed, and the nodes have given it up; see lab_conversation_over(). */
int lab_conversation_launch(struct lab_conversation *talk, Lab__Assign *assign, bool crosses, bool slow_start);
/* How long the last launch took from ASSIGN until every node was READY. */
uint64_t lab_conversation_ready_ns(const struct lab_conversation *talk);

const Lab__Done *const *lab_conversation_done(const struct lab_conversation *talk); /* of the last launch, by node; until the next one */

/* All nodes of the run enter their MPI world together: once, before the first launch that crosses nodes over MPI. */
int lab_conversation_world(struct lab_conversation *talk);

/* The limits of node 0's host; owned by the conversation, until the next launch. */
int lab_conversation_limits(struct lab_conversation *talk, const Lab__Limits **ret_limits);

bool lab_conversation_over(const struct lab_conversation *talk);
bool lab_conversation_greeted(const struct lab_conversation *talk); /* all nodes have said HELLO */
int lab_conversation_signal(const struct lab_conversation *talk);   /* the signal that ended it, 0: none */
bool lab_conversation_remote(const struct lab_conversation *talk);  /* some node is on another host */
uint64_t lab_conversation_run(const struct lab_conversation *talk); /* the number of this run on the wire */

/* The address at which other hosts reach a node; "" when all are on one host. */
const char *lab_conversation_host(const struct lab_conversation *talk, uint32_t node);

/* A cpu of the plan as that node has it: on another host the same position in its own list. -1 stays -1. */
int32_t lab_conversation_cpu(const struct lab_conversation *talk, uint32_t node, int32_t cpu);

/* With -v: a line to standard error, with the time since the launcher began. */
void lab_conversation_tell(const struct lab_conversation *talk, const char *format, ...) LAB_PRINTF(2, 3);

#endif
