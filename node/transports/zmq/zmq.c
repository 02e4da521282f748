/* zmq-inproc, zmq-ipc and zmq-tcp: sockets of ZeroMQ. Messages are copied into the library; between processes its I/O thread makes every
 * system call: a thread of the measured process, on the same cpu when that is pinned. What kind of sockets the ends of a channel are:
 *
 *     one to one                           PAIR           RX binds
 *     shared, a message goes to one        PUSH, PULL     RX binds; or, when there are several, TX
 *     shared, a message goes to all        XPUB, SUB      ... TX sends once all have subscribed, and waits for the slowest (XPUB_NODROP)
 *
 * The listening socket is made by provisioning, before either side exists, and handed to ZeroMQ through ZMQ_USE_FD: its address is
 * known without asking, and an abstract or ephemeral one cannot be taken by anyone else.
 *
 * A sender that closes says so with a message of no bytes, which a receiver takes for -EPIPE at once, or once all senders have. Of a shared
 * channel, whose receivers read to the end, it then waits for them to close: over a Unix-domain socket libzmq drops what the kernel still holds
 * when a sender closes while a full queue keeps it from reading (of 100,000 messages of five senders 9,000). ZeroMQ tells nobody when a peer was
 * killed. Both sides therefore watch their socket's monitor, but only when a call has waited for
 * a whole slice: the hot path is one zmq_send or zmq_recv, as in a bare loop. A deadline is kept to within a slice. Threads have no connection that could be watched: they note in common who has closed. */
#include "node/transports/zmq/zmq.h"

#include "node/transports/socket.h"

#include "base/clock.h"
#include "base/error.h"
#include "node/transports/zmq/sealed.h"
#include "proto/batch.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

enum { SLICE_MS = 20, LINGER_MS = 900, GOODBYE_MS = 600, HWM_DEFAULT = 1000, HANDSHAKE_BYTES = 4096, HEARTBEAT_MS = 500, LOST_AFTER_MS = 2000, ZMQ_EVENT_BYTES = 6 };

struct zmq_end {
    struct lab_end end;
    void *context, *socket, *monitor;
    struct meeting *meeting; /* zmq-inproc, instead of the monitor */
    uint32_t lost, ended, joined; /* connections that ended; RX: senders that closed; TX of XPUB: readers that subscribed */
    bool gone;              /* all that were connected are not any more */
    bool finished;          /* RX: all senders have closed */
    zmq_msg_t frame;        /* RX, channel.batch > 1: the messages received together, ... */
    const unsigned char *at, *until; /* ... and those of them that have not been taken */
};

/* Where the ends of one inproc channel find what they have in common: as long as one of them is open. */
struct meeting {
    struct meeting *next;
    char address[LAB_ADDRESS_MAX];
    uint32_t users;
    _Atomic uint32_t closed[2]; /* ends, by role */
};
static struct meeting *meetings;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct zmq_end *zmq_of(struct lab_end *end)
{
    return (struct zmq_end *)end;
}

/* ---- what the ends of a channel are ---- */

static int kind_of(const struct lab_channel *channel, enum lab_role role)
{
    switch (channel->sharing) {
    case LAB_TO_ALL: return role == LAB_TX ? ZMQ_XPUB : ZMQ_SUB;
    case LAB_TO_ONE: return role == LAB_TX ? ZMQ_PUSH : ZMQ_PULL;
    default: return ZMQ_PAIR;
    }
}

/* ---- an end ---- */

static bool set(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static bool configure(struct zmq_end *z)
{
    const struct lab_channel *channel = &z->end.channel;
    /* Both queues hold what is in flight. While that fits, ZeroMQ's own default stays: how it batches depends on the marks. Of a shared
     * channel they are what holds its producers back. */
    uint32_t frames = (channel->window + channel->batch - 1) / channel->batch;
    int hwm = frames > 2 * HWM_DEFAULT || channel->sharing ? (int)(frames + 1) / 2 : HWM_DEFAULT;
    /* The limit holds for ZMTP's own handshake too. */
    int64_t frame = (int64_t)(channel->batch == 1 ? channel->message_max : lab_batch_bytes(channel->message_max, channel->batch));
    int64_t largest = (frame > HANDSHAKE_BYTES ? frame : HANDSHAKE_BYTES) + (channel->keys.open[0] ? LAB_ZMQ_SEAL_BYTES : 0);
    bool ok = set(z->socket, ZMQ_LINGER, LINGER_MS) && set(z->socket, ZMQ_SNDHWM, hwm) && set(z->socket, ZMQ_RCVHWM, hwm) &&
              set(z->socket, ZMQ_SNDTIMEO, SLICE_MS) && set(z->socket, ZMQ_RCVTIMEO, SLICE_MS) && set(z->socket, ZMQ_IMMEDIATE, 1) &&
              set(z->socket, ZMQ_RECONNECT_IVL, -1) && zmq_setsockopt(z->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest) == 0;
    if (ok && channel->sharing == LAB_TO_ALL)
        ok = z->end.role == LAB_TX ? set(z->socket, ZMQ_XPUB_NODROP, 1) && set(z->socket, ZMQ_XPUB_VERBOSE, 1)
                                   : zmq_setsockopt(z->socket, ZMQ_SUBSCRIBE, "", 0) == 0;
    if (ok && channel->crosses_hosts)
        ok = set(z->socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS) && set(z->socket, ZMQ_HEARTBEAT_TIMEOUT, LOST_AFTER_MS);
    return ok;
}

static bool meet(struct zmq_end *z)
{
    pthread_mutex_lock(&lock);
    struct meeting *found = meetings;
    while (found && strcmp(found->address, z->end.wire.address) != 0)
        found = found->next;
    if (!found && (found = calloc(1, sizeof *found))) {
        memcpy(found->address, z->end.wire.address, sizeof found->address);
        found->next = meetings;
        meetings = found;
    }
    if (found)
        found->users++;
    pthread_mutex_unlock(&lock);
    z->meeting = found;
    return found;
}

static void part(struct zmq_end *z)
{
    pthread_mutex_lock(&lock);
    struct meeting *mine = z->meeting, **link = &meetings;
    mine->closed[z->end.role]++;
    if (--mine->users == 0) {
        while (*link != mine)
            link = &(*link)->next;
        *link = mine->next;
        free(mine);
    }
    pthread_mutex_unlock(&lock);
}

static bool watch(struct zmq_end *z)
{
    char name[64];
    if (z->end.channel.transport->caps & LAB_CAP_THREADS)
        return meet(z);
    snprintf(name, sizeof name, "inproc://monitor-%p", (void *)z);
    z->monitor = zmq_socket(z->context, ZMQ_PAIR);
    return z->monitor && zmq_socket_monitor(z->socket, name, ZMQ_EVENT_DISCONNECTED) == 0 && zmq_connect(z->monitor, name) == 0;
}

static int attach(struct zmq_end *z)
{
    const struct lab_wire *wire = &z->end.wire;
    enum lab_role role = z->end.role;
    if (role != lab_zmq_binder(&z->end.channel))
        return zmq_connect(z->socket, wire->address) ? lab_zmq_failed("cannot connect to", wire->address) : 0;
    if (wire->fd[role] >= 0 && !set(z->socket, ZMQ_USE_FD, wire->fd[role]))
        return lab_zmq_failed("cannot listen on the socket behind", wire->address);
    return zmq_bind(z->socket, wire->address) ? lab_zmq_failed("cannot listen on", wire->address) : 0;
}

static void drop(struct zmq_end *z)
{
    zmq_msg_close(&z->frame);
    if (z->monitor) {
        zmq_socket_monitor(z->socket, NULL, 0);
        zmq_close(z->monitor);
    }
    if (z->socket && lab_ends_abandoned)
        set(z->socket, ZMQ_LINGER, 0); /* nobody waits for what is still on its way */
    if (z->socket)
        zmq_close(z->socket);
    if (z->meeting)
        part(z);
    lab_zmq_release();
}

static int zmq_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct zmq_end *z = zmq_of(end);
    if (end->channel.reliable)
        return lab_zmq_open_reliable(end);
    zmq_msg_init(&z->frame);
    (void)deadline_ns; /* connecting goes on in the background; the first message waits for it */
    z->context = lab_zmq_hold();
    int err = z->context ? 0 : -lab_error_last()->code;
    if (err)
        return err;
    z->socket = zmq_socket(z->context, kind_of(&end->channel, end->role));
    err = z->socket && configure(z) && watch(z) ? 0 : lab_zmq_failed("cannot make", "a socket");
    if (!err)
        err = lab_zmq_seal(&end->channel, end->role == lab_zmq_binder(&end->channel), z->context, z->socket);
    if (!err)
        err = attach(z);
    if (err)
        drop(z);
    return err;
}

/* ---- closing ---- */

static bool peer_gone(struct zmq_end *z)
{
    const struct lab_channel *channel = &z->end.channel;
    uint32_t peers = z->end.role == lab_zmq_binder(channel) ? lab_seats(channel, (enum lab_role)!z->end.role) : 1;
    if (z->meeting)
        return z->gone = z->meeting->closed[!z->end.role] >= lab_seats(channel, (enum lab_role)!z->end.role);
    unsigned char event[ZMQ_EVENT_BYTES], address[LAB_ADDRESS_MAX];
    /* Signals interrupt even these calls, and an address that stayed behind would be taken for the next event. */
    while (!z->gone && TEMP_FAILURE_RETRY(zmq_recv(z->monitor, event, sizeof event, ZMQ_DONTWAIT)) >= 0) {
        (void)TEMP_FAILURE_RETRY(zmq_recv(z->monitor, address, sizeof address, ZMQ_DONTWAIT));
        z->lost += (event[0] | event[1] << 8) == ZMQ_EVENT_DISCONNECTED;
        z->gone = z->lost >= peers;
    }
    return z->gone;
}

/* The receivers of a shared channel have taken everything, or it is too late. Of several that PUSH takes in turn each hears the end sometime: who has,
 * closes, and is passed over from then on. */
static void see_them_off(struct zmq_end *z)
{
    uint64_t deadline_ns = lab_now_ns() + GOODBYE_MS * LAB_NS_PER_MS;
    bool one_by_one = z->end.channel.sharing == LAB_TO_ONE && lab_seats(&z->end.channel, LAB_RX) > 1, told = false;
    while (!peer_gone(z) && lab_ns_until(deadline_ns) && !lab_ends_abandoned) {
        if (!told || one_by_one)
            told = zmq_send(z->socket, "", 0, ZMQ_DONTWAIT) == 0;
        zmq_pollitem_t news = {.socket = z->monitor, .events = ZMQ_POLLIN};
        zmq_poll(&news, z->monitor ? 1 : 0, 1);
    }
    set(z->socket, ZMQ_LINGER, z->gone ? 0 : LINGER_MS - GOODBYE_MS);
}

static void zmq_close_end(struct lab_end *end)
{
    struct zmq_end *z = zmq_of(end);
    if (end->role == LAB_TX && end->channel.sharing)
        see_them_off(z);
    else if (end->role == LAB_TX && !z->gone)
        zmq_send(z->socket, "", 0, ZMQ_DONTWAIT); /* a full queue: the receiver then sees the connection end */
    drop(z);
}

/* ---- messages ---- */

/* After a call that waited for a slice in vain: whether to try again (0). */
static int look_around(struct zmq_end *z, uint64_t deadline_ns, const char *what)
{
    int code = zmq_errno();
    if (code != EAGAIN && code != EINTR)
        return lab_zmq_failed(what, z->end.channel.transport->name);
    if (peer_gone(z))
        return lab_refuse(EPIPE, "the other end of channel %u is gone", z->end.channel.id);
    if (lab_ends_abandoned)
        return lab_refuse(ECANCELED, "the launch was given up");
    return lab_ns_until(deadline_ns) == 0 ? -EAGAIN : 0;
}

/* XPUB hears of each subscription; what it sent before, that reader would never see. */
static int await_readers(struct zmq_end *z, uint64_t deadline_ns)
{
    unsigned char subscription[1];
    int err = 0;
    while (!err && z->joined < lab_seats(&z->end.channel, LAB_RX)) {
        if (zmq_recv(z->socket, subscription, sizeof subscription, deadline_ns ? 0 : ZMQ_DONTWAIT) < 0)
            err = look_around(z, deadline_ns, "cannot hear of subscriptions over");
        else
            z->joined += subscription[0] == 1;
    }
    return err;
}

static bool readers_are_missing(const struct zmq_end *z)
{
    return z->joined < lab_seats(&z->end.channel, LAB_RX) && z->end.channel.sharing == LAB_TO_ALL;
}

static int check_length(const struct lab_end *end, size_t length)
{
    if (length == 0 || length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %zu bytes on a channel for 1 to %u", length, end->channel.message_max);
    return 0;
}

/* One frame, which is a message or, on a channel with batches, a batch. */
static int zmq_send_message(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    struct zmq_end *z = zmq_of(end);
    int err = check_length(end, length), flags = deadline_ns ? 0 : ZMQ_DONTWAIT;
    if (!err && readers_are_missing(z))
        err = await_readers(z, deadline_ns);
    while (!err && zmq_send(z->socket, message, length, flags) < 0)
        err = look_around(z, deadline_ns, "cannot send over");
    return err;
}

/* How long the frame is, in `to` as far as there is room, or, with `whole`, in that. */
static ssize_t receive(struct zmq_end *z, void *to, size_t room, zmq_msg_t *whole, uint64_t deadline_ns)
{
    int flags = deadline_ns ? 0 : ZMQ_DONTWAIT, length = 0;
    while (!z->finished && (length = whole ? zmq_msg_recv(whole, z->socket, flags) : zmq_recv(z->socket, to, room, flags)) <= 0) {
        if (length == 0) {
            z->finished = ++z->ended == lab_seats(&z->end.channel, LAB_TX);
            continue;
        }
        bool was_gone = z->gone;
        int err = look_around(z, deadline_ns, "cannot receive over");
        /* What arrived before the connection ended is looked for once more after its end was seen. */
        if (err == -EPIPE && !was_gone)
            continue;
        if (err)
            return err;
    }
    return z->finished ? lab_refuse(EPIPE, "the sending end of channel %u was closed", z->end.channel.id) : length;
}

static ssize_t zmq_recv_message(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    ssize_t length = receive(zmq_of(end), to, room, NULL, deadline_ns);
    if (length > (ssize_t)room)
        return lab_refuse(EMSGSIZE, "a message of %zd bytes for a buffer of %zu", length, room);
    return length;
}

/* ---- batches: several messages in one frame, which costs the library what a message does ---- */

static int send_batch(struct lab_end *end, const struct lab_span *span, uint64_t deadline_ns)
{
    struct zmq_end *z = zmq_of(end);
    int err = check_length(end, span->length);
    if (!err && readers_are_missing(z))
        err = await_readers(z, deadline_ns);
    if (err)
        return err;
    zmq_msg_t frame;
    if (zmq_msg_init_size(&frame, lab_batch_bytes(span->length, span->count)))
        return lab_zmq_failed("no memory for a batch over", end->ops->name);
    unsigned char *to = zmq_msg_data(&frame);
    for (uint32_t i = 0; i < span->count; i++)
        to = lab_batch_append(to, span->at + i * span->stride, span->length);
    while (!err && zmq_msg_send(&frame, z->socket, deadline_ns ? 0 : ZMQ_DONTWAIT) < 0)
        err = look_around(z, deadline_ns, "cannot send over");
    if (err)
        zmq_msg_close(&frame);
    return err ? err : (int)span->count;
}

static int recv_batch(struct lab_end *end, void *to, size_t stride, uint32_t want, uint64_t deadline_ns, uint32_t *ret_lengths)
{
    struct zmq_end *z = zmq_of(end);
    if (z->at == z->until) {
        ssize_t got = receive(z, NULL, 0, &z->frame, deadline_ns);
        if (got < 0)
            return (int)got;
        z->at = zmq_msg_data(&z->frame);
        z->until = z->at + got;
    }
    uint32_t count = 0;
    while (count < want && z->at < z->until) {
        const unsigned char *at = z->at, *message;
        uint32_t length;
        int err = lab_batch_next(&at, z->until, &message, &length);
        if (err)
            return count ? (int)count : err;
        if (length > stride && count)
            break;
        z->at = at;
        if (length > stride)
            return lab_refuse(EMSGSIZE, "a message of %u bytes for a buffer of %zu", length, stride);
        memcpy((unsigned char *)to + count * stride, message, length);
        ret_lengths[count++] = length;
    }
    return (int)count;
}

static int send_either(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    if (end->channel.batch == 1)
        return zmq_send_message(end, message, length, deadline_ns);
    struct lab_span one = {.at = (unsigned char *)(uintptr_t)message, .stride = length, .length = (uint32_t)length, .count = 1};
    int sent = check_length(end, length);
    if (!sent)
        sent = send_batch(end, &one, deadline_ns);
    return sent < 0 ? sent : 0;
}

static ssize_t recv_either(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    if (end->channel.batch == 1)
        return zmq_recv_message(end, to, room, deadline_ns);
    uint32_t length = 0;
    int got = recv_batch(end, to, room, 1, deadline_ns, &length);
    return got < 0 ? got : (ssize_t)length;
}

#define ALIKE                                                                                                          \
    .end_bytes = LAB_ZMQ_END_BYTES, .retire = lab_wire_retire, .open = zmq_open, .close = zmq_close_end,               \
    .send = send_either, .recv = recv_either, .send_many = send_batch, .recv_many = recv_batch

const struct lab_transport_ops lab_ops_zmq_inproc = {.name = "zmq-inproc", .provision = lab_zmq_inproc_provision, ALIKE};
const struct lab_transport_ops lab_ops_zmq_ipc = {.name = "zmq-ipc", .provision = lab_zmq_ipc_provision, ALIKE};
const struct lab_transport_ops lab_ops_zmq_tcp = {.name = "zmq-tcp", .provision = lab_zmq_tcp_provision, ALIKE};

_Static_assert(sizeof(struct zmq_end) <= LAB_ZMQ_END_BYTES, "node/transports/zmq/zmq.h says how large an end may be");
