/* What the ends over ZeroMQ have in common: the process's one context with its one I/O thread, addresses, and how much memory an end takes,
 * whichever it becomes. */
#ifndef LAB_NODE_TRANSPORTS_ZMQ_ZMQ_H
#define LAB_NODE_TRANSPORTS_ZMQ_ZMQ_H

#include "node/transport.h"

enum { LAB_ZMQ_END_BYTES = 1024 };

/* Made by the first one that holds it, ended with the last one that releases it; NULL, recorded. */
void *lab_zmq_hold(void);
void lab_zmq_release(void);

/* The role whose socket listens: that of which there is one, RX if both. */
static inline enum lab_role lab_zmq_binder(const struct lab_channel *channel)
{
    return lab_seats(channel, LAB_RX) > 1 ? LAB_TX : LAB_RX;
}

/* Of lab_transport_ops. */
int lab_zmq_inproc_provision(const struct lab_channel *channel, struct lab_wire *ret_wire);
int lab_zmq_ipc_provision(const struct lab_channel *channel, struct lab_wire *ret_wire);
int lab_zmq_tcp_provision(const struct lab_channel *channel, struct lab_wire *ret_wire);

/* What the library says of its last failure: "cannot ... ADDRESS: reason". */
int lab_zmq_failed(const char *what, const char *address);

/* An end of a channel that is reliable (node/transports/zmq/reliable.c): from then on the end has functions of its own. */
int lab_zmq_open_reliable(struct lab_end *end);

#endif
