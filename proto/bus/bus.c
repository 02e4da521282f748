#include "proto/bus/bus.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/version.h"
#include "proto/codec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

enum { QUEUE = 4096, HEARTBEAT_MS = 500, LOST_AFTER_MS = 2000, LINGER_MS = 200, CONNECT_WITHIN_S = 10, CANARY_S = 5, ADDRESS = 256, ID = 4, NODES_MAX = 1 << 24 };

struct lab_bus {
    void *context, *socket;
    void *monitor;              /* node: events of the connection */
    bool serves;                /* the launcher's side */
    struct lab_curve_guard *guard; /* the launcher's, with keys */
    bool connected, lost, turned_away;
    uint64_t made_ns;
    uint32_t nodes;
    uint64_t *heard_ns;         /* by node */
    char **peers;               /* their addresses, by node; NULL: not known */
    char address[ADDRESS];
};

static int failed(const char *what, const char *address)
{
    int code = zmq_errno();
    return lab_refuse(code < ZMQ_HAUSNUMERO ? code : EIO, "%s %s: %s", what, address, zmq_strerror(code));
}

/* A node's identity on the wire: a letter (ZeroMQ reserves identities that begin with a zero byte) and its index. Its witness has another
 * letter: the connection of a node that was killed may still be there. */
enum { NODE = 'n', WITNESS = 'w' };

static void write_id(unsigned char letter, uint32_t node, unsigned char id[ID])
{
    id[0] = letter;
    id[1] = (unsigned char)node;
    id[2] = (unsigned char)(node >> 8);
    id[3] = (unsigned char)(node >> 16);
}

static bool read_id(const unsigned char *id, size_t size, uint32_t *ret_node)
{
    if (size != ID || (id[0] != NODE && id[0] != WITNESS))
        return false;
    *ret_node = (uint32_t)id[1] | (uint32_t)id[2] << 8 | (uint32_t)id[3] << 16;
    return true;
}

static bool set(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

/* Within a host the kernel itself tells of a peer that ended; one that is merely stopped, as a launcher by Ctrl-Z is, comes back and
 * must not be given up. */
static bool needs_heartbeats(const char *address)
{
    return strncmp(address, "ipc://", 6) != 0;
}

/* Loopback and abstract addresses lead nowhere else. */
static bool leaves_host(const char *address)
{
    return strncmp(address, "tcp://", 6) == 0 && strncmp(address, "tcp://127.", 10) != 0;
}

static int make(int type, const char *address, const struct lab_keys *keys, struct lab_bus **ret_bus)
{
    if (!keys && leaves_host(address))
        return lab_refuse(EPERM, "%s leads beyond this host, and there are no keys for it: nothing is said there that others may read", address);
    struct lab_bus *bus = calloc(1, sizeof *bus);
    if (!bus)
        return lab_fail(ENOMEM, "no memory for a control connection");
    bus->made_ns = lab_now_ns();
    bus->context = zmq_ctx_new();
    bus->socket = bus->context ? zmq_socket(bus->context, type) : NULL;
    int64_t largest = LAB_CODEC_BYTES_MAX;
    int every_ms = needs_heartbeats(address) ? HEARTBEAT_MS : 0;
    if (!bus->socket || !set(bus->socket, ZMQ_LINGER, LINGER_MS) || !set(bus->socket, ZMQ_SNDHWM, QUEUE) ||
        !set(bus->socket, ZMQ_RCVHWM, QUEUE) || !set(bus->socket, ZMQ_HEARTBEAT_IVL, every_ms) ||
        (every_ms && (!set(bus->socket, ZMQ_HEARTBEAT_TIMEOUT, LOST_AFTER_MS) || !set(bus->socket, ZMQ_HEARTBEAT_TTL, LOST_AFTER_MS))) ||
        zmq_setsockopt(bus->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest)) {
        int err = failed("cannot make", "a control socket");
        lab_bus_close(bus);
        return err;
    }
    *ret_bus = bus;
    return 0;
}

/* Before the socket is bound. */
static int admit_nodes(struct lab_bus *bus, const struct lab_keys *keys)
{
    const char *allowed[] = {keys->node.open};
    int err = lab_curve_guard_start(bus->context, allowed, 1, lab_now_ns() + CANARY_S * LAB_NS_PER_S, &bus->guard);
    return err ? err : lab_curve_serve(bus->socket, &keys->launcher);
}

int lab_bus_serve(const char *endpoint, uint32_t nodes, const struct lab_keys *keys, struct lab_bus **ret_bus)
{
    struct lab_bus *bus;
    if (nodes > NODES_MAX)
        return lab_refuse(EINVAL, "%u nodes; their identities have room for %d", nodes, NODES_MAX);
    int err = make(ZMQ_ROUTER, endpoint, keys, &bus);
    if (err)
        return err;
    bus->serves = true;
    bus->nodes = nodes;
    bus->heard_ns = calloc(nodes + 1, sizeof *bus->heard_ns);
    bus->peers = calloc(nodes + 1, sizeof *bus->peers);
    size_t room = sizeof bus->address;
    if (!bus->heard_ns || !bus->peers)
        err = lab_fail(ENOMEM, "no memory for %u nodes", nodes);
    else if (keys)
        err = admit_nodes(bus, keys);
    if (!err && (!set(bus->socket, ZMQ_ROUTER_MANDATORY, 1) || zmq_bind(bus->socket, endpoint) ||
                 zmq_getsockopt(bus->socket, ZMQ_LAST_ENDPOINT, bus->address, &room)))
        err = failed("cannot serve nodes at", endpoint);
    if (err) {
        lab_bus_close(bus);
        return err;
    }
    *ret_bus = bus;
    return 0;
}

const char *lab_bus_address(const struct lab_bus *bus)
{
    return bus->address;
}

static int join(const char *address, unsigned char letter, uint32_t node, const struct lab_keys *keys, struct lab_bus **ret_bus)
{
    struct lab_bus *bus;
    int err = make(ZMQ_DEALER, address, keys, &bus);
    if (err)
        return err;
    err = keys ? lab_curve_join(bus->socket, &keys->node, keys->launcher.open) : 0;
    if (err) {
        lab_bus_close(bus);
        return err;
    }
    unsigned char id[ID];
    write_id(letter, node, id);
    snprintf(bus->address, sizeof bus->address, "%s", address);
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;
    bus->monitor = zmq_socket(bus->context, ZMQ_PAIR);
    if (!bus->monitor || zmq_setsockopt(bus->socket, ZMQ_ROUTING_ID, id, sizeof id) ||
        zmq_socket_monitor(bus->socket, "inproc://monitor", events) ||
        zmq_connect(bus->monitor, "inproc://monitor") || zmq_connect(bus->socket, address)) {
        err = failed("cannot connect to the launcher at", address);
        lab_bus_close(bus);
        return err;
    }
    *ret_bus = bus;
    return 0;
}

int lab_bus_join(const char *address, uint32_t node, const struct lab_keys *keys, struct lab_bus **ret_bus)
{
    return join(address, NODE, node, keys, ret_bus);
}

int lab_bus_testify(const char *address, uint32_t node, const struct lab_keys *keys, struct lab_bus **ret_bus)
{
    return join(address, WITNESS, node, keys, ret_bus);
}

void lab_bus_close(struct lab_bus *bus)
{
    if (!bus)
        return;
    if (bus->monitor) {
        zmq_socket_monitor(bus->socket, NULL, 0);
        zmq_close(bus->monitor);
    }
    if (bus->socket)
        zmq_close(bus->socket);
    lab_curve_guard_end(bus->guard);
    if (bus->context)
        while (zmq_ctx_term(bus->context) < 0 && zmq_errno() == EINTR)
            ; /* it goes on where the signal interrupted it, within LINGER_MS */
    for (uint32_t n = 0; bus->peers && n < bus->nodes; n++)
        free(bus->peers[n]);
    free(bus->peers);
    free(bus->heard_ns);
    free(bus);
}

int lab_bus_fd(const struct lab_bus *bus)
{
    int fd = -1;
    size_t size = sizeof fd;
    zmq_getsockopt(bus->socket, ZMQ_FD, &fd, &size);
    return fd;
}

bool lab_bus_alive(struct lab_bus *bus)
{
    if (bus->serves)
        return true;
    /* An event is two frames: number and value, then the address. */
    unsigned char event[8];
    while (TEMP_FAILURE_RETRY(zmq_recv(bus->monitor, event, sizeof event, ZMQ_DONTWAIT)) >= 0) {
        unsigned number = event[0] | (unsigned)event[1] << 8;
        bus->connected = bus->connected || number == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
        bus->turned_away = bus->turned_away || number == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH || number == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;
        bus->lost = bus->lost || bus->turned_away || (number == ZMQ_EVENT_DISCONNECTED && bus->connected);
        char ignored[ADDRESS];
        (void)TEMP_FAILURE_RETRY(zmq_recv(bus->monitor, ignored, sizeof ignored, ZMQ_DONTWAIT));
    }
    return !bus->lost && (bus->connected || lab_now_ns() - bus->made_ns < CONNECT_WITHIN_S * LAB_NS_PER_S);
}

bool lab_bus_turned_away(const struct lab_bus *bus)
{
    return bus->turned_away;
}

uint64_t lab_bus_last_heard_ns(const struct lab_bus *bus, uint32_t node)
{
    return bus->serves && node < bus->nodes ? bus->heard_ns[node] : 0;
}

const char *lab_bus_peer(const struct lab_bus *bus, uint32_t node)
{
    return bus->serves && node < bus->nodes && bus->peers[node] ? bus->peers[node] : "";
}

const char *lab_bus_library(void)
{
    static char version[32];
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    snprintf(version, sizeof version, "%d.%d.%d", major, minor, patch);
    return version;
}

/* Even calls that do not wait are interrupted by signals, and half a message must not stay behind. */
static int send_part(struct lab_bus *bus, const void *bytes, size_t size, int flags)
{
    return TEMP_FAILURE_RETRY(zmq_send(bus->socket, bytes, size, ZMQ_DONTWAIT | flags)) < 0 ? zmq_errno() : 0;
}

static int send_parts(struct lab_bus *bus, uint32_t node, const void *bytes, size_t size)
{
    unsigned char id[ID];
    write_id(NODE, node, id);
    int code = bus->serves ? send_part(bus, id, sizeof id, ZMQ_SNDMORE) : 0;
    return code ? code : send_part(bus, bytes, size, 0);
}

int lab_bus_send(struct lab_bus *bus, uint32_t node, Lab__Frame *frame)
{
    void *bytes;
    size_t size;
    frame->protocol = LAB_PROTOCOL;
    int err = lab_codec_pack(frame, &bytes, &size);
    if (err)
        return err;
    int code = send_parts(bus, node, bytes, size);
    free(bytes);
    if (code == EAGAIN)
        return -EAGAIN;
    if (code == EHOSTUNREACH)
        return lab_refuse(EHOSTUNREACH, "node %u is not connected", node);
    return code ? lab_refuse(code < ZMQ_HAUSNUMERO ? code : EIO, "cannot send a control frame: %s", zmq_strerror(code)) : 0;
}

/* All parts of one message; more than two, or an identity of nobody, are thrown away as a whole. */
static int receive_parts(struct lab_bus *bus, uint32_t *ret_node, zmq_msg_t *body)
{
    int parts = 0, wanted = bus->serves ? 2 : 1, more = 1;
    bool known = !bus->serves;
    *ret_node = 0;
    while (more) {
        if (TEMP_FAILURE_RETRY(zmq_msg_recv(body, bus->socket, ZMQ_DONTWAIT)) < 0)
            return zmq_errno() == EAGAIN ? -EAGAIN : failed("cannot receive", "a control frame");
        more = zmq_msg_more(body);
        if (bus->serves && parts == 0)
            known = read_id(zmq_msg_data(body), zmq_msg_size(body), ret_node) && *ret_node < bus->nodes;
        parts++;
    }
    return known && parts == wanted ? 0 : lab_refuse(EBADMSG, "a control message of %d parts from nobody of this run", parts);
}

/* Once: a node keeps its connection. Without memory it stays unknown. */
static void note_peer(struct lab_bus *bus, uint32_t node, zmq_msg_t *body)
{
    const char *address = bus->peers[node] || strncmp(bus->address, "tcp:", 4) != 0 ? NULL : zmq_msg_gets(body, "Peer-Address");
    if (address)
        bus->peers[node] = strdup(address);
}

int lab_bus_receive(struct lab_bus *bus, uint32_t *ret_node, Lab__Frame **ret_frame)
{
    zmq_msg_t body;
    Lab__Frame *frame = NULL;
    uint32_t node;
    zmq_msg_init(&body);
    int err = receive_parts(bus, &node, &body);
    if (!err && bus->serves)
        note_peer(bus, node, &body);
    if (!err)
        err = lab_codec_unpack(&lab__frame__descriptor, zmq_msg_data(&body), zmq_msg_size(&body), &frame);
    zmq_msg_close(&body);
    if (err)
        return err;
    *ret_node = node;
    if (bus->serves)
        bus->heard_ns[node] = lab_now_ns();
    if (frame->protocol != LAB_PROTOCOL) {
        const char *version = frame->body_case == LAB__FRAME__BODY_HELLO && frame->hello ? frame->hello->version : "unknown";
        err = lab_refuse(EPROTONOSUPPORT, "%s %u speaks protocol %u (version %s), and this is protocol %u (version %s): install the same version",
                         bus->serves ? "node" : "the launcher of node", node, frame->protocol, version, LAB_PROTOCOL, LAB_VERSION);
        lab_codec_free(frame);
        return err;
    }
    if (frame->body_case == LAB__FRAME__BODY__NOT_SET) {
        lab_codec_free(frame);
        return lab_refuse(EBADMSG, "an empty control frame");
    }
    *ret_frame = frame;
    return 0;
}
