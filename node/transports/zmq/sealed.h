/* Channels that are encrypted: those with keys (lab_channel.keys), which are the same for all of a run. */
#ifndef LAB_NODE_TRANSPORTS_ZMQ_SEALED_H
#define LAB_NODE_TRANSPORTS_ZMQ_SEALED_H

#include "node/transport.h"

enum { LAB_ZMQ_SEAL_BYTES = 64 /* more than CurveZMQ adds to a frame: 8 of command, 8 of nonce, 16 of authentication, 1 of flags */ };

/* Before a socket of that context is bound (`binds`) or connected: what it says is encrypted from then on, and one that is bound hears nobody
 * without the keys; the first of a context proves that with a canary (proto/curve/curve.h). Nothing happens to a channel without keys. -errno,
 * recorded. */
int lab_zmq_seal(const struct lab_channel *channel, bool binds, void *context, void *socket);

/* Before the context is ended, when its last socket was closed. */
void lab_zmq_unseal(void);

#endif
