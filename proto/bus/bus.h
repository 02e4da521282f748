/* The control connection: protobuf frames between one launcher and its nodes, over ZeroMQ.
 *
 * The launcher's side (a ROUTER socket) knows a node by the index it was given; the node's side (DEALER) knows the launcher.
 * Frames are checked on the way in (proto/codec.h, and the protocol version); an identity that is none of the run's nodes is
 * not heard, nor is a second connection under the number of a node that has one. Between hosts heartbeats of ZMTP
 * notice a stopped peer within two seconds; within a host the kernel tells of one that ended, and one that is stopped is waited for.
 * Queues are bounded (4096 frames each way and peer). What leaves the host is encrypted, and only who has the keys of a node is heard
 * (proto/curve/curve.h); an address that others can reach is not served without keys. Used by one thread, and made after the last fork of its
 * process: the library runs a thread of its own.
 *
 *     struct lab_bus *bus;
 *     lab_bus_serve("ipc://@name", 2, NULL, &bus); or "tcp://10.77.0.1:*" with keys: the address then names the port
 *     int fd = lab_bus_fd(bus);                    ... poll ...
 *     while ((err = lab_bus_receive(bus, &node, &frame)) == 0) { ...; lab_codec_free(frame); }
 */
#ifndef LAB_PROTO_BUS_H
#define LAB_PROTO_BUS_H

#include "proto/bus/keys.h"
#include "proto/control.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lab_bus;

/* Launcher: binds, for nodes 0 to `nodes` - 1 (-EINVAL beyond 2^24). What they connect to is lab_bus_address(), valid as long as
 * the bus. Addresses within this host are abstract (ipc://@...): nothing on disk. -EADDRINUSE, and what else bind(2) says. `keys`, not kept:
 * nodes must have them; NULL: none are asked for. -EPERM: an address beyond this host without keys, or a canary with an unknown key was not
 * turned away, which is tried before anything is bound. */
int lab_bus_serve(const char *endpoint, uint32_t nodes, const struct lab_keys *keys, struct lab_bus **ret_bus);
const char *lab_bus_address(const struct lab_bus *bus);

/* Node: connects as number `node`; returns at once, the connection is made in the background and what is sent before waits
 * for it. `keys`, not kept: as the launcher has them, without its secret. -EINVAL: not an address; -EPERM: one beyond this host, and no keys. */
int lab_bus_join(const char *address, uint32_t node, const struct lab_keys *keys, struct lab_bus **ret_bus);

/* Who minds that node, to say what became of it: the launcher hears him as the node, and says nothing to him. As lab_bus_join(). */
int lab_bus_testify(const char *address, uint32_t node, const struct lab_keys *keys, struct lab_bus **ret_bus);

void lab_bus_close(struct lab_bus *bus); /* NULL is harmless; waits at most 200 ms for what was sent to leave */

/* Edge-triggered (ZMQ_FD): after it becomes readable, and after every send, receive until -EAGAIN. */
int lab_bus_fd(const struct lab_bus *bus);

/* Never blocks. The launcher names the node; a node passes 0. -EAGAIN: its queue is full; -EHOSTUNREACH: no such node is
 * connected. The frame's protocol number is filled in. */
int lab_bus_send(struct lab_bus *bus, uint32_t node, Lab__Frame *frame);

/* The node's side: whether the launcher is still there: false once the connection was lost (a launcher that ended, or between hosts did
 * not answer heartbeats for two seconds), or was not made within ten seconds. The launcher's side: always true. */
bool lab_bus_alive(struct lab_bus *bus);

/* The node's side: the two sides do not have the same keys, and will not hear each other. Known once lab_bus_alive() has said no. */
bool lab_bus_turned_away(const struct lab_bus *bus);

/* The launcher's side: when a frame of that node arrived last (base/clock.h), 0: never. */
uint64_t lab_bus_last_heard_ns(const struct lab_bus *bus, uint32_t node);

/* The launcher's side: the address that a node has connected from ("10.77.0.2"), where others reach its host too. "" before it was
 * heard, or when the connection is one within this host. Valid as long as the bus. */
const char *lab_bus_peer(const struct lab_bus *bus, uint32_t node);

/* "4.3.4": the library at run time. Static storage. */
const char *lab_bus_library(void);

/* Never blocks. -EAGAIN: nothing there. -EPROTONOSUPPORT: the other side speaks another protocol version (both are named in
 * the record, `ret_node` is set). -EBADMSG: what arrived was not a frame. `ret_frame` is freed by lab_codec_free(). */
int lab_bus_receive(struct lab_bus *bus, uint32_t *ret_node, Lab__Frame **ret_frame);

#endif
