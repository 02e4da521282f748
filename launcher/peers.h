/* What the nodes of a run have said, and how far each has come: the order of the control protocol as the launcher holds nodes to it.
 *
 *     HELLO                                     once, with the number under which the node is connected
 *     (LISTEN ->) READY -> (LIMITS ->) DONE     of each launch it takes part in, each once, LISTEN only in one that exchanges
 *                                               addresses, READY after they were told, DONE after GO
 *     FAULT                                     instead of any of these, as the last word on the launch
 *     PROGRESS                                  at any time
 *
 * Frames of an earlier launch are late, and ignored; anything else out of turn is a node that has lost its way, and no figure of
 * it could be trusted. Data without input and output: conversation.h sends, waits and decides.
 *
 *     lab_peers_assign(peers, 3, 2, LAB_LAUNCH_LISTENS);
 *     err = lab_peers_hear(peers, node, frame, &fault);      -EPROTO: "node 1 said READY where LISTEN was due"
 *     if (lab_peers_behind(peers, LAB_PEER_LISTENING) < 0)   ... all addresses are known: lab_peers_listen(peers, n) ...
 */
#ifndef LAB_LAUNCHER_PEERS_H
#define LAB_LAUNCHER_PEERS_H

#include "proto/control.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

enum lab_peer_stage { LAB_PEER_GREETED, LAB_PEER_ASSIGNED, LAB_PEER_LISTENING, LAB_PEER_READY, LAB_PEER_DONE, LAB_PEER_FAULTED };

enum lab_launch_kind {
    LAB_LAUNCH_PLAIN,
    LAB_LAUNCH_LISTENS, /* addresses are exchanged */
    LAB_LAUNCH_LIMITS,  /* LIMITS come before DONE */
};

struct lab_peers;

int lab_peers_new(uint32_t nodes, struct lab_peers **ret_peers); /* -ENOMEM */
void lab_peers_free(struct lab_peers *peers);                    /* NULL is harmless */

/* The launcher's side of a launch. ASSIGN: nodes 0 to `taking_part` - 1 are in it; what was said in earlier ones is forgotten. ABORT:
 * what they had under way when it reached them comes in any order from here on, and DONE is all that counts. */
void lab_peers_assign(struct lab_peers *peers, uint32_t launch, uint32_t taking_part, enum lab_launch_kind kind);
void lab_peers_connect(struct lab_peers *peers);
void lab_peers_go(struct lab_peers *peers);
void lab_peers_abort(struct lab_peers *peers);

/* Takes the frame over, whatever comes of it. `ret_fault`: not NULL when this frame was a FAULT; lives until the next ASSIGN.
 * -EPROTO with the node and what it said in the record: nothing has changed then. */
int lab_peers_hear(struct lab_peers *peers, uint32_t node, Lab__Frame *frame, const Lab__Fault **ret_fault);

/* The first node that has not come so far, -1: all have. GREETED asks all nodes of the run, the others those that take part. */
int32_t lab_peers_behind(const struct lab_peers *peers, enum lab_peer_stage stage);
bool lab_peers_at(const struct lab_peers *peers, uint32_t node, enum lab_peer_stage stage); /* or beyond */

/* What was said, NULL: not (yet). Owned by the peers; HELLO for good, the rest until the next ASSIGN. */
const Lab__Hello *lab_peers_hello(const struct lab_peers *peers, uint32_t node);
const Lab__Listen *lab_peers_listen(const struct lab_peers *peers, uint32_t node);
const Lab__Limits *lab_peers_limits(const struct lab_peers *peers);
const Lab__Done *const *lab_peers_done(struct lab_peers *peers); /* by node */

#endif
