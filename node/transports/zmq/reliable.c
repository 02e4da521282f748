/* zmq-ipc and zmq-tcp with `delivery: reliable`: the machines of proto/reliable.h over a pair of DEALER sockets, which connect again, and
 * of which one that listens also takes a peer that has come back while its old connection is not yet known to be lost.
 *
 * A message is copied once, as without: into a message of the library, in which it lies behind its head and which both the library, until
 * it has been sent, and this end, until it is acknowledged, have a share in. Sending it again shares it again.
 *
 * Everything happens within calls, none of which waits for longer than it has to: an end does what is due for itself in each of its own,
 * and one that waits does it for all ends of its thread. A sending end looks for acknowledgements now and then, or when its window is
 * full. What is pushed while there is no connection waits in the window for one. */
#include "node/transports/zmq/zmq.h"

#include "base/clock.h"
#include "base/error.h"
#include "node/transports/zmq/sealed.h"
#include "proto/reliable_frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum {
    SLICE_MS = 20, HASTE_MS = 1,                     /* waits between two looks at the other ends: as a rule, until both know each other */
    SPARE_MIN = 8, SPARE_MAX = 256, SPARE_BYTES = 1 << 20, /* messages beyond channel.window that may be unacknowledged */
    RECONNECT_MS = 20, RECONNECT_MOST_MS = 500, CONNECT_MS = 1000, HEARTBEAT_MS = 500, LOST_AFTER_MS = 2000, HANDSHAKE_BYTES = 4096,
    HWM_DEFAULT = 1000,
    CLOSE_MS = 900, FAREWELL_MS = 50, LINGER_MS = 200,
};
#define RESEND_NS (100 * LAB_NS_PER_MS)
#define RESEND_MOST_NS (1000 * LAB_NS_PER_MS)
#define ACK_DELAY_NS (20 * LAB_NS_PER_MS)

/* A message until it is acknowledged, and for which life of the receiver its head was written. */
struct kept {
    zmq_msg_t message;
    uint64_t rx_epoch;
};

struct reliable_end {
    struct lab_end end;
    void *socket;
    struct reliable_end *next; /* of the same thread */
    uint64_t key;              /* both ends of a channel have the same */
    bool enveloped;            /* messages are envelopes themselves */
    bool finished;             /* RX: the end of the stream was delivered */
    int slice_ms;              /* as the socket has it */
    struct lab_reliable_tx tx;
    struct kept *kept;         /* TX: `window` of them */
    uint32_t unheard;          /* TX: messages since it last listened, ... */
    uint32_t listen_every;     /* ... which it does so often */
    struct lab_reliable_rx rx;
    zmq_msg_t pending;         /* RX: a message that was delivered while its user was elsewhere */
    bool has_pending;
};
_Static_assert(sizeof(struct reliable_end) <= LAB_ZMQ_END_BYTES, "node/transports/zmq/zmq.h says how large an end may be");

static _Thread_local struct reliable_end *mine;

static const struct lab_transport_ops reliable_ipc, reliable_tcp;

/* What was taken and is not acknowledged, or is and was not looked at, must not hold the sender back: there is room for that beyond
 * the window. The more, the less an acknowledgement costs, which wakes an I/O thread on either side; the less, the fewer messages are
 * kept, and fall out of the caches. Half of it is acknowledged at once, and looked for twice in that time. */
static uint32_t spare(const struct lab_channel *channel)
{
    uint32_t fit = SPARE_BYTES / channel->message_max;
    return fit < SPARE_MIN ? SPARE_MIN : fit > SPARE_MAX ? SPARE_MAX : fit;
}

static struct reliable_end *of(struct lab_end *end)
{
    return (struct reliable_end *)end;
}

/* A few milliseconds late, which no time here minds, and several times cheaper to read than the exact clock. */
static uint64_t coarse_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * LAB_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- what a later life may go on with ---- */

static void remember(struct reliable_end *r)
{
    if (!r->end.channel.memory)
        return;
    struct lab_reliable_past past =
        r->end.role == LAB_TX
            ? (struct lab_reliable_past){.life = r->tx.config.epoch, .stream = r->tx.stream, .from = r->tx.acked, .until = r->tx.next}
            : (struct lab_reliable_past){.life = r->rx.config.epoch, .stream = r->rx.stream, .tx_epoch = r->rx.tx_epoch, .from = r->rx.taken};
    lab_reliable_remember(r->end.channel.memory, &past);
}

/* Later than all lives before it: the wall clock goes on while nobody lives, and memory corrects one that was set back. */
static uint64_t new_life(const struct lab_reliable_past *past)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ns = (uint64_t)now.tv_sec * LAB_NS_PER_S + (uint64_t)now.tv_nsec;
    return ns > past->life ? ns : past->life + 1;
}

static int begin_life(struct reliable_end *r)
{
    const struct lab_channel *channel = &r->end.channel;
    struct lab_reliable_past past = {0};
    if (channel->memory)
        past = lab_reliable_recall(channel->memory);
    if (r->end.role == LAB_RX) {
        lab_reliable_rx_init(&r->rx, &(struct lab_reliable_rx_config){
            .epoch = new_life(&past), .ack_every = spare(channel) / 2, .ack_delay_ns = ACK_DELAY_NS,
            .resumes = past.stream, .stream = past.stream, .tx_epoch = past.tx_epoch, .from = past.from});
        return 0;
    }
    uint32_t window = channel->window + spare(channel);
    r->kept = calloc(window, sizeof *r->kept);
    if (!r->kept)
        return lab_fail(ENOMEM, "no memory for %u unacknowledged messages", window);
    for (uint32_t i = 0; i < window; i++)
        zmq_msg_init(&r->kept[i].message);
    lab_reliable_tx_init(&r->tx, &(struct lab_reliable_tx_config){
        .epoch = new_life(&past), .window = window, .resend_ns = RESEND_NS, .resend_most_ns = RESEND_MOST_NS,
        .resumes = past.stream, .stream = past.stream, .from = past.from, .until = past.until});
    return 0;
}

/* ---- frames ---- */

static bool send_head(struct reliable_end *r, const struct lab_reliable_frame *frame)
{
    unsigned char head[LAB_RELIABLE_HEAD_MAX];
    lab_reliable_write(frame, r->key, r->enveloped, 0, head);
    return zmq_send(r->socket, head, LAB_RELIABLE_HEAD, ZMQ_DONTWAIT) >= 0;
}

static struct kept *kept_at(struct reliable_end *r, uint64_t position)
{
    return &r->kept[position % r->tx.config.window];
}

/* Its head, for the receiver that lives now. The library may still be sending the message as it was: then it is made anew. */
static int address(struct reliable_end *r, struct kept *kept, const struct lab_reliable_frame *frame)
{
    if (kept->rx_epoch == frame->rx_epoch)
        return 0;
    size_t bytes = zmq_msg_size(&kept->message), head = bytes == LAB_RELIABLE_HEAD ? bytes : lab_reliable_head(r->enveloped);
    if (kept->rx_epoch) {
        zmq_msg_t again;
        if (zmq_msg_init_size(&again, bytes))
            return -ENOMEM;
        memcpy(zmq_msg_data(&again), zmq_msg_data(&kept->message), bytes);
        zmq_msg_move(&kept->message, &again);
        zmq_msg_close(&again);
    }
    lab_reliable_write(frame, r->key, r->enveloped, bytes - head, zmq_msg_data(&kept->message));
    kept->rx_epoch = frame->rx_epoch;
    return 0;
}

static bool send_kept(struct reliable_end *r, const struct lab_reliable_frame *frame)
{
    struct kept *kept = kept_at(r, frame->position);
    zmq_msg_t shared;
    if (address(r, kept, frame))
        return false; /* no memory now: as if there were no connection */
    zmq_msg_init(&shared);
    zmq_msg_copy(&shared, &kept->message);
    if (zmq_msg_send(&shared, r->socket, ZMQ_DONTWAIT) >= 0)
        return true;
    zmq_msg_close(&shared);
    return false;
}

/* Everything that is due and that the library takes now. */
static void flush_tx(struct reliable_end *r, uint64_t now_ns)
{
    struct lab_reliable_frame frame;
    while (lab_reliable_tx_due(&r->tx, now_ns, &frame)) {
        if (frame.kind == LAB_RELIABLE_DATA ? !send_kept(r, &frame) : !send_head(r, &frame))
            return;
        lab_reliable_tx_sent(&r->tx, now_ns, &frame);
    }
}

static void flush_rx(struct reliable_end *r, uint64_t now_ns)
{
    struct lab_reliable_frame frame;
    while (lab_reliable_rx_due(&r->rx, now_ns, &frame) && send_head(r, &frame))
        lab_reliable_rx_sent(&r->rx, &frame);
}

/* What is no frame of this channel is dropped: if it was one, it is sent again. */
static bool understood(const struct reliable_end *r, zmq_msg_t *message, struct lab_reliable_frame *ret_frame, const unsigned char **ret_at,
                       size_t *ret_size)
{
    return lab_reliable_read(zmq_msg_data(message), zmq_msg_size(message), r->key, r->enveloped, ret_frame, ret_at, ret_size) == 0;
}

static void hear_tx(struct reliable_end *r, zmq_msg_t *message, uint64_t now_ns)
{
    struct lab_reliable_frame frame;
    const unsigned char *at;
    size_t size;
    uint64_t before = r->tx.acked;
    if (!understood(r, message, &frame, &at, &size))
        return;
    lab_reliable_tx_heard(&r->tx, now_ns, &frame);
    for (uint64_t position = before; position < r->tx.acked && position < r->tx.next; position++) {
        zmq_msg_close(&kept_at(r, position)->message);
        zmq_msg_init(&kept_at(r, position)->message);
    }
    if (r->tx.acked != before)
        remember(r);
}

/* All that has come. */
static void listen_tx(struct reliable_end *r, uint64_t now_ns)
{
    zmq_msg_t message;
    zmq_msg_init(&message);
    while (zmq_msg_recv(&message, r->socket, ZMQ_DONTWAIT) >= 0)
        hear_tx(r, &message, now_ns);
    zmq_msg_close(&message);
    r->unheard = 0;
}

/* Whether `message` is the user's now. */
static bool hear_rx(struct reliable_end *r, zmq_msg_t *message, const unsigned char **ret_at, size_t *ret_size)
{
    struct lab_reliable_frame frame;
    uint64_t stream = r->rx.stream, life = r->rx.tx_epoch;
    if (!understood(r, message, &frame, ret_at, ret_size))
        return false;
    bool delivered = lab_reliable_rx_heard(&r->rx, &frame) == LAB_RELIABLE_DELIVER;
    if (stream != r->rx.stream || life != r->rx.tx_epoch)
        remember(r);
    return delivered;
}

static void taken(struct reliable_end *r, uint64_t now_ns)
{
    if (r->has_pending || r->rx.taken == r->rx.next)
        return;
    lab_reliable_rx_taken(&r->rx, now_ns);
    remember(r);
}

/* What comes for a user who is elsewhere: the questions of the other end, up to a message. */
static void listen_rx(struct reliable_end *r)
{
    const unsigned char *at;
    size_t size;
    while (!r->has_pending && !r->finished && zmq_msg_recv(&r->pending, r->socket, ZMQ_DONTWAIT) >= 0)
        r->has_pending = hear_rx(r, &r->pending, &at, &size);
}

/* ---- all ends of a thread ---- */

static void tend(struct lab_end *end)
{
    struct reliable_end *r = of(end);
    uint64_t now = coarse_now_ns();
    if (end->role == LAB_TX) {
        listen_tx(r, now);
        flush_tx(r, now);
    } else {
        listen_rx(r);
        flush_rx(r, now);
    }
}

static void tend_all(void)
{
    for (struct reliable_end *r = mine; r; r = r->next)
        tend(&r->end);
}

/* While a sender does not know its receiver, or could not send all that it has, what one end waits for may hang on another one. */
static int slice(void)
{
    for (const struct reliable_end *r = mine; r; r = r->next)
        if (r->end.role == LAB_TX && (!r->tx.open || r->tx.cursor < r->tx.next))
            return HASTE_MS;
    return SLICE_MS;
}

/* After a look in vain: whether to look again (0). */
static int look_around(const struct reliable_end *r, uint64_t deadline_ns)
{
    if (lab_ends_abandoned)
        return lab_refuse(ECANCELED, "the launch was given up");
    if (zmq_errno() != EAGAIN && zmq_errno() != EINTR)
        return lab_zmq_failed("cannot use", r->end.wire.address);
    tend_all();
    return lab_ns_until(deadline_ns) == 0 ? -EAGAIN : 0;
}

/* ---- sending ---- */

/* Waits until something comes for this end. */
static int wait_for_room(struct reliable_end *r, uint64_t deadline_ns)
{
    zmq_pollitem_t item = {.socket = r->socket, .events = ZMQ_POLLIN};
    int err = 0;
    while (!err && !lab_reliable_tx_room(&r->tx)) {
        uint64_t now = coarse_now_ns();
        listen_tx(r, now);
        flush_tx(r, now);
        if (lab_reliable_tx_room(&r->tx))
            break;
        if (deadline_ns && zmq_poll(&item, 1, slice()) > 0)
            continue;
        errno = EAGAIN;
        err = look_around(r, deadline_ns);
    }
    return err;
}

/* NULL, of 0 bytes: the end of the stream. */
static int push(struct reliable_end *r, const void *message, size_t length)
{
    uint64_t position = r->tx.next;
    if (position >= r->tx.acked) {
        struct kept *kept = kept_at(r, position);
        if (zmq_msg_init_size(&kept->message, lab_reliable_bytes(r->enveloped, length))) {
            zmq_msg_init(&kept->message);
            return lab_fail(ENOMEM, "no memory for a message of %zu bytes", length);
        }
        kept->rx_epoch = 0;
        if (length)
            memcpy((unsigned char *)zmq_msg_data(&kept->message) + lab_reliable_head(r->enveloped), message, length);
    }
    lab_reliable_tx_push(&r->tx);
    remember(r);
    return 0;
}

static int reliable_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    struct reliable_end *r = of(end);
    if (length == 0 || length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %zu bytes on a channel for 1 to %u", length, end->channel.message_max);
    int err = lab_reliable_tx_room(&r->tx) ? 0 : wait_for_room(r, deadline_ns);
    if (!err)
        err = push(r, message, length);
    if (err)
        return err;
    struct lab_reliable_frame frame;
    if (++r->unheard < r->listen_every && lab_reliable_tx_fresh(&r->tx, &frame)) {
        if (send_kept(r, &frame))
            lab_reliable_tx_sent(&r->tx, 0, &frame);
        return 0;
    }
    uint64_t now = coarse_now_ns();
    if (r->unheard >= r->listen_every)
        listen_tx(r, now);
    flush_tx(r, now);
    return 0;
}

/* ---- receiving ---- */

static void set_slice(struct reliable_end *r, int ms)
{
    if (r->slice_ms != ms)
        zmq_setsockopt(r->socket, ZMQ_RCVTIMEO, &ms, sizeof ms);
    r->slice_ms = ms;
}

/* The next message that is the user's, in `pending`. */
static int await(struct reliable_end *r, uint64_t deadline_ns, const unsigned char **ret_at, size_t *ret_size)
{
    struct lab_reliable_frame frame;
    if (r->has_pending) {
        r->has_pending = false;
        return understood(r, &r->pending, &frame, ret_at, ret_size) ? 0 : lab_refuse(EBADMSG, "a message changed after it had come");
    }
    for (;;) {
        if (zmq_msg_recv(&r->pending, r->socket, deadline_ns ? 0 : ZMQ_DONTWAIT) >= 0) {
            if (hear_rx(r, &r->pending, ret_at, ret_size))
                return 0;
            flush_rx(r, coarse_now_ns());
            continue;
        }
        int err = look_around(r, deadline_ns);
        if (r->has_pending)
            return await(r, deadline_ns, ret_at, ret_size);
        if (err)
            return err;
        set_slice(r, slice());
    }
}

static ssize_t reliable_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    struct reliable_end *r = of(end);
    const unsigned char *at;
    size_t size;
    if (r->finished)
        return lab_refuse(EPIPE, "the sending end of channel %u was closed", end->channel.id);
    /* Who asks for the next one has done with the one before. */
    if (r->has_pending || r->end.channel.memory || !lab_reliable_rx_took(&r->rx)) {
        uint64_t now = coarse_now_ns();
        taken(r, now);
        flush_rx(r, now);
    }
    int err = await(r, deadline_ns, &at, &size);
    if (err)
        return err;
    if (size == 0) {
        r->finished = true;
        r->rx.ack = true;
        taken(r, coarse_now_ns());
        flush_rx(r, coarse_now_ns());
        return lab_refuse(EPIPE, "the sending end of channel %u was closed", end->channel.id);
    }
    if (size > room)
        return lab_refuse(EMSGSIZE, "a message of %zu bytes for a buffer of %zu", size, room);
    memcpy(to, at, size);
    return (ssize_t)size;
}

/* ---- an end's life ---- */

static bool set(const struct reliable_end *r, int option, int value)
{
    return zmq_setsockopt(r->socket, option, &value, sizeof value) == 0;
}

static bool configure(const struct reliable_end *r)
{
    const struct lab_channel *channel = &r->end.channel;
    /* As without: both queues hold what may be unacknowledged, and the library's own default stays where it suffices. */
    uint32_t window = channel->window + spare(channel);
    int hwm = (int)(2 * window);
    int64_t largest = (int64_t)lab_reliable_bytes(r->enveloped, channel->message_max);
    largest = (largest > HANDSHAKE_BYTES ? largest : HANDSHAKE_BYTES) + (channel->keys.open[0] ? LAB_ZMQ_SEAL_BYTES : 0);
    return set(r, ZMQ_LINGER, LINGER_MS) && set(r, ZMQ_SNDHWM, hwm) && set(r, ZMQ_RCVHWM, hwm) && set(r, ZMQ_RCVTIMEO, HASTE_MS) &&
           set(r, ZMQ_IMMEDIATE, 1) && set(r, ZMQ_RECONNECT_IVL, RECONNECT_MS) && set(r, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MOST_MS) &&
           set(r, ZMQ_CONNECT_TIMEOUT, CONNECT_MS) &&
           /* Within a host the kernel tells of a connection that has ended; and a timer costs each wait of the I/O thread. */
           (!channel->crosses_hosts || (set(r, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS) && set(r, ZMQ_HEARTBEAT_TIMEOUT, LOST_AFTER_MS))) &&
           zmq_setsockopt(r->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest) == 0;
}

static int attach(const struct reliable_end *r)
{
    const struct lab_wire *wire = &r->end.wire;
    if (r->end.role == LAB_TX)
        return zmq_connect(r->socket, wire->address) ? lab_zmq_failed("cannot connect to", wire->address) : 0;
    if (wire->fd[LAB_RX] >= 0 && !set(r, ZMQ_USE_FD, wire->fd[LAB_RX]))
        return lab_zmq_failed("cannot listen on the socket behind", wire->address);
    return zmq_bind(r->socket, wire->address) ? lab_zmq_failed("cannot listen on", wire->address) : 0;
}

static void drop(struct reliable_end *r)
{
    for (uint32_t i = 0; r->kept && i < r->tx.config.window; i++)
        zmq_msg_close(&r->kept[i].message);
    free(r->kept);
    zmq_msg_close(&r->pending);
    if (r->socket && lab_ends_abandoned)
        set(r, ZMQ_LINGER, 0);
    if (r->socket)
        zmq_close(r->socket);
    lab_zmq_release();
}

int lab_zmq_open_reliable(struct lab_end *end)
{
    struct reliable_end *r = of(end);
    const struct lab_channel *channel = &end->channel;
    if (lab_seats(channel, LAB_TX) > 1 || lab_seats(channel, LAB_RX) > 1 || channel->batch > 1)
        return lab_refuse(ENOTSUP, "reliable delivery is from one sender to one receiver, and message by message");
    void *context = lab_zmq_hold();
    if (!context)
        return -lab_error_last()->code;
    r->key = (uint64_t)channel->epoch << 32 | channel->id;
    r->enveloped = channel->crosses_nodes;
    r->slice_ms = HASTE_MS;
    r->listen_every = spare(channel) / 4;
    zmq_msg_init(&r->pending);
    int err = begin_life(r);
    r->socket = err ? NULL : zmq_socket(context, ZMQ_DEALER);
    if (!err)
        err = r->socket && configure(r) ? lab_zmq_seal(channel, end->role == LAB_RX, context, r->socket) : lab_zmq_failed("cannot make", "a DEALER socket");
    if (!err)
        err = attach(r);
    if (err) {
        drop(r);
        return err;
    }
    end->ops = strcmp(end->ops->name, reliable_ipc.name) == 0 ? &reliable_ipc : &reliable_tcp;
    r->next = mine;
    mine = r;
    return 0;
}

/* Who closes has done with everything, at all of its thread's ends that have nothing more for it. */
static void let_go(void)
{
    uint64_t now = coarse_now_ns();
    for (struct reliable_end *r = mine; r; r = r->next) {
        if (r->end.role != LAB_RX)
            continue;
        bool over = r->has_pending && zmq_msg_size(&r->pending) == LAB_RELIABLE_HEAD;
        if (over) {
            r->has_pending = false;
            r->finished = true;
        }
        taken(r, now);
        r->rx.ack = r->rx.ack || r->rx.taken != r->rx.told;
    }
    tend_all();
}

/* Until everything was taken; the end of the stream is not waited for that long, for whoever has closed the other end does not hear it. */
static void see_off(struct reliable_end *r)
{
    uint64_t now = lab_now_ns(), deadline_ns = now + CLOSE_MS * LAB_NS_PER_MS, last = r->tx.next;
    if (lab_reliable_tx_room(&r->tx))
        push(r, NULL, 0);
    zmq_pollitem_t item = {.socket = r->socket, .events = ZMQ_POLLIN};
    while (!lab_reliable_tx_idle(&r->tx) && !lab_ends_abandoned && now < deadline_ns) {
        let_go();
        zmq_poll(&item, 1, HASTE_MS);
        listen_tx(r, coarse_now_ns());
        now = lab_now_ns();
        if (r->tx.acked >= last && deadline_ns > now + FAREWELL_MS * LAB_NS_PER_MS)
            deadline_ns = now + FAREWELL_MS * LAB_NS_PER_MS;
    }
}

static void reliable_close(struct lab_end *end)
{
    struct reliable_end *r = of(end), **link = &mine;
    if (end->role == LAB_TX)
        see_off(r);
    else
        let_go();
    while (*link && *link != r)
        link = &(*link)->next;
    *link = r->next; /* it was there: an end is closed by the thread that opened it */
    drop(r);
}

#define ALIKE .close = reliable_close, .send = reliable_send, .recv = reliable_recv, .tend = tend, .end_bytes = sizeof(struct reliable_end)
static const struct lab_transport_ops reliable_ipc = {.name = "zmq-ipc", ALIKE};
static const struct lab_transport_ops reliable_tcp = {.name = "zmq-tcp", ALIKE};
