/* The relay of one node in one launch: carries messages between its workers and other nodes.
 *
 * Two threads, so that a full link towards a peer cannot stop what that peer is sending here: one takes messages from the
 * workers' legs, puts each into the protobuf envelope and sends it over its link; the other receives envelopes, checks them
 * and puts the payload onto the leg.
 *
 * A channel has room for one message in the relay. While its leg or its link is full that one is held and no other is taken, so that a
 * receiver that is slow stops its sender, through what the two hops hold, and nobody else. One message of each channel that has
 * one is taken in turn: those that have always get equal shares, to within one message. Where a message that has begun to leave
 * cannot be taken back (LAB_CAP_PIECES) it holds up the others of its direction.
 *
 * A thread with one channel waits as the channel's transport does; one with several looks at them in turn, and when it finds nothing to
 * do polls, then yields, then sleeps for 50 us. */
#ifndef LAB_NODE_AGENT_RELAY_H
#define LAB_NODE_AGENT_RELAY_H

#include "node/agent/layout.h"

struct lab_relay;

/* What the relay needs of a path: its two wires, already provisioned (local) and connected (link). */
struct lab_relay_path {
    const struct lab_path *path;
    struct lab_wire wire[LAB_HOPS];
};

/* Starts the threads; the ends are opened in them. Descriptors in the wires (the relay's side) belong to the relay from now on.
 * `paths` is copied, the layout must outlive the relay. */
int lab_relay_start(const struct lab_relay_path *paths, uint32_t count, uint64_t run, uint32_t epoch, uint64_t deadline_ns,
                    struct lab_relay **ret_relay);

/* Readable when the state has changed. */
int lab_relay_fd(const struct lab_relay *relay);

enum lab_relay_state {
    LAB_RELAY_OPENING,
    LAB_RELAY_OPEN,    /* all ends are open */
    LAB_RELAY_EMPTIED, /* all senders, here and elsewhere, have closed, and all that they sent was carried */
};

/* Or -errno: it failed, the reason is put into the caller's error record. */
int lab_relay_state(struct lab_relay *relay);

/* Stops and joins the threads, and frees the relay. -ETIMEDOUT: one of them did not end within a second (nothing is freed, and the
 * process is not fit for another launch). NULL is harmless. */
int lab_relay_stop(struct lab_relay *relay);

#endif
