/* What the ends over ZeroMQ have in common: the process's one context, and how much memory an end takes, whichever it becomes. */
#ifndef LAB_NODE_TRANSPORTS_ZMQ_ZMQ_H
#define LAB_NODE_TRANSPORTS_ZMQ_ZMQ_H

#include "node/transport.h"

enum { LAB_ZMQ_END_BYTES = 1024 };

/* Made by the first one that holds it, ended with the last one that releases it; NULL, recorded. */
void *lab_zmq_hold(void);
void lab_zmq_release(void);

/* What the library says of its last failure: "cannot ... ADDRESS: reason". */
int lab_zmq_failed(const char *what, const char *address);

/* An end of a channel that is reliable (node/transports/zmq/reliable.c): from then on the end has functions of its own. */
int lab_zmq_open_reliable(struct lab_end *end);

#endif
