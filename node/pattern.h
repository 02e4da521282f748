/* A pattern says what the two sides of an edge do in one *turn*; a topology says which edges there are.
 *
 * An edge joins two workers, its client A and its server B, by two channels: forward (A to B) and backward (B to A).
 * Each worker takes the turns of its edges in the global order of edges, again and again: since both sides of every edge do
 * so, no set of workers can wait for each other in a circle. A turn ends with a message flagged LAB_TURN. */
#ifndef LAB_NODE_PATTERN_H
#define LAB_NODE_PATTERN_H

#include "node/transport.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAB_MESSAGE_MIN = 8 }; /* bytes: what a sequence number and its check take (node/lane/message.h) */

struct lab_edge_side; /* node/lane/edge.h */

enum lab_latency_kind { LAB_ROUND_TRIP, LAB_HALF_ROUND_TRIP, LAB_ONE_WAY, LAB_OPEN_LOOP, LAB_BARRIER, LAB_NO_LATENCY };
const char *lab_latency_kind_name(enum lab_latency_kind kind); /* "half-round-trip"; NULL for LAB_NO_LATENCY */

struct lab_pattern {
    const char *name;
    const char *summary;
    enum lab_sharing sharing;                          /* shared: the clients of all edges send, the servers receive, nobody answers */
    bool servers_send;                                 /* ... the other way round: from the centre of a star to its leaves */
    bool single_sender, single_receiver;               /* ... and of that role there is one */
    enum lab_latency_kind latency;                     /* what its client's histogram holds */
    uint32_t (*default_window)(uint64_t size_bytes);   /* messages in flight */
    uint32_t (*reply_bytes)(uint32_t size_bytes);      /* size of the messages of the backward channel ... */
    uint32_t (*reply_window)(uint32_t window);         /* ... and how many of them are in flight */
    uint32_t (*first_operations)(uint32_t window);     /* operations of a turn; grown while warming up when latency is timed */

    /* One turn of the client: side->operations operations, `flags` and LAB_TURN on the last message. Adds the messages that
     * were delivered to side->messages, and latencies to side->latency when that is not NULL. */
    int (*client_turn)(struct lab_edge_side *side, uint32_t flags, uint64_t deadline_ns);
    /* Waits until nothing is in flight; NULL when nothing ever is between turns. */
    int (*client_drain)(struct lab_edge_side *side, uint64_t deadline_ns);
    /* One turn of the server: until a message flagged LAB_TURN has been answered; its flags are returned. */
    int (*server_turn)(struct lab_edge_side *side, uint64_t deadline_ns, uint32_t *ret_flags);
    /* Answers what server_turn has heard, once all edges of this worker have had their turn; NULL: the turn itself answers. `flags`:
     * LAB_FIN when one of this worker's edges has ended. Such a pattern takes topologies that gather. */
    int (*server_release)(struct lab_edge_side *side, uint32_t flags, uint64_t deadline_ns);
};

const struct lab_pattern *lab_pattern_at(size_t index);          /* NULL beyond the last */
const struct lab_pattern *lab_pattern_named(const char *name);   /* NULL: none */

#endif
