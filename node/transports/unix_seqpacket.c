/* unix-seqpacket: a connected pair of Unix-domain sockets of type SOCK_SEQPACKET. The kernel keeps the boundaries, so a
 * message is one packet, as it stands: one send, one recv, no header of ours.
 *
 * What the kernel takes in one packet is limited by SO_SNDBUF, and beyond 17 pages must lie in one piece of kernel memory.
 * So on a channel for messages longer than PACKET bytes, each message travels as packets of up to PACKET bytes, and every
 * packet begins with 4 bytes: how many bytes of the message there are from here on, its own included. The first packet of a
 * message thereby tells its length, and a continuation that is not the expected one is seen. (Splitting is also faster: the
 * receiver copies one packet out while the sender copies the next one in.)
 *
 * A receiver loses nothing by a deadline inside a split message: what came is kept in `stash`. A sender must finish what it
 * began; it tries for LAB_BLOCKING_GRACE_NS after its deadline, then the end is broken. */
#include "node/transport.h"

#include "base/error.h"
#include "node/transports/blocking.h"
#include "node/transports/packets.h"
#include "node/transports/socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    HEAD = sizeof(uint32_t),
    PACKET = 64 << 10,
    SEND_SLACK = 32,      /* of SO_SNDBUF, that a packet cannot use: unix_dgram_sendmsg() in net/unix/af_unix.c */
};

struct seqpacket_end {
    struct lab_end end;
    int fd;
    bool split;            /* messages of this channel travel in parts */
    bool broken;           /* TX: a message was cut */
    uint32_t skip;         /* RX: bytes still to come of a message that was too long */
    uint32_t length, got;  /* RX: a message cut by its deadline: its length, and how many bytes of it are in the stash */
    unsigned char *stash;  /* RX of a split channel: room for message_max bytes */
};

static struct seqpacket_end *seqpacket_of(struct lab_end *end)
{
    return (struct seqpacket_end *)end;
}

/* ---- the node's side ---- */

/* Room for a window of messages; where limits (net.core.wmem_max) leave less, the sender waits in send. */
static int widen(int fd, const struct lab_channel *channel, struct lab_kernel_buffer *ret_buffer)
{
    uint64_t message = channel->message_max, parts = message > PACKET ? message / (PACKET - HEAD) + 1 : 1;
    int err = lab_socket_widen(fd, SO_SNDBUF, channel->window * (message + parts * (HEAD + LAB_SOCKET_OVERHEAD)), ret_buffer);
    if (err)
        return err;
    uint64_t packet = message < PACKET ? message : PACKET;
    if (ret_buffer->actual < packet + SEND_SLACK)
        return lab_refuse(ENOBUFS, "a Unix socket may buffer %llu bytes, a packet needs %llu: raise net.core.wmem_max",
                          (unsigned long long)ret_buffer->actual,
                          (unsigned long long)packet + SEND_SLACK);
    return 0;
}

static int seqpacket_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    int fd[2];
    struct lab_kernel_buffer buffer;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) < 0)
        return lab_fail(errno, "cannot make a socket pair for channel %u", channel->id);
    int err = widen(fd[LAB_TX], channel, &buffer);
    if (err) {
        close(fd[0]);
        close(fd[1]);
        return err;
    }
    *ret_wire = (struct lab_wire){.fd = {fd[0], fd[1]}, .buffer = buffer};
    return 0;
}

/* ---- the worker's side ---- */

static int seqpacket_open(struct lab_end *end, uint64_t deadline_ns)
{
    (void)deadline_ns;
    struct seqpacket_end *s = seqpacket_of(end);
    s->fd = end->wire.fd[end->role];
    s->split = end->channel.message_max > PACKET;
    if (!s->split || end->role == LAB_TX)
        return 0;
    s->stash = malloc(end->channel.message_max);
    return s->stash ? 0 : lab_fail(ENOMEM, "no memory for a message of %u bytes", end->channel.message_max);
}

static void seqpacket_close(struct lab_end *end)
{
    close(seqpacket_of(end)->fd);
    free(seqpacket_of(end)->stash);
}

static int may_block(uint64_t deadline_ns)
{
    return deadline_ns ? lab_alarm_at(deadline_ns) : 0;
}

/* One packet: `rest` goes before it on a split channel. A packet is taken as a whole or not at all. */
static int packet_send(struct seqpacket_end *s, uint32_t rest, const unsigned char *bytes, size_t count, uint64_t deadline_ns)
{
    int flags = MSG_NOSIGNAL | (deadline_ns ? 0 : MSG_DONTWAIT), err = may_block(deadline_ns);
    while (!err) {
        ssize_t n;
        if (s->split) {
            struct iovec pieces[2] = {{&rest, HEAD}, {(void *)(uintptr_t)bytes, count}};
            n = sendmsg(s->fd, &(struct msghdr){.msg_iov = pieces, .msg_iovlen = 2}, flags);
        } else {
            n = send(s->fd, bytes, count, flags);
        }
        if (n >= 0)
            return 0;
        err = lab_blocking_interrupted(deadline_ns);
    }
    return err;
}

static int seqpacket_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    struct seqpacket_end *s = seqpacket_of(end);
    /* An empty packet would look like the end of the stream. */
    if (length == 0 || length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %zu bytes on a channel for 1 to %u", length, end->channel.message_max);
    if (s->broken)
        return lab_refuse(EIO, "channel %u broke off inside an earlier message", end->channel.id);

    size_t part_max = s->split ? PACKET - HEAD : PACKET, sent = 0;
    int err = 0;
    while (!err && sent < length) {
        size_t rest = length - sent, part = rest < part_max ? rest : part_max;
        err = packet_send(s, (uint32_t)rest, (const unsigned char *)message + sent, part, deadline_ns);
        if (!err && sent == 0 && part < length)
            deadline_ns = lab_blocking_grace(deadline_ns);
        if (!err)
            sent += part;
    }
    if (!err || (err == -EAGAIN && sent == 0))
        return err;
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the receiving end of channel %u is gone", end->channel.id);
    s->broken = true;
    if (err == -EAGAIN)
        return lab_refuse(EIO, "the receiver took %zu bytes of a message of %zu and no more by the deadline", sent, length);
    return lab_fail(-err, "cannot send on the socket of channel %u", end->channel.id);
}

/* Messages that travel in parts go one by one: they are long. */
static int seqpacket_send_many(struct lab_end *end, const struct lab_span *span, uint64_t deadline_ns)
{
    struct seqpacket_end *s = seqpacket_of(end);
    if (s->split || span->count == 1 || span->length == 0 || span->length > end->channel.message_max) {
        int alone = seqpacket_send(end, span->at, span->length, deadline_ns);
        return alone ? alone : 1;
    }
    int flags = MSG_NOSIGNAL | (deadline_ns ? 0 : MSG_DONTWAIT), err = may_block(deadline_ns);
    while (!err) {
        int sent = lab_packets_send(s->fd, span, flags);
        if (sent > 0)
            return sent;
        err = lab_blocking_interrupted(deadline_ns);
    }
    if (err == -EAGAIN)
        return err;
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the receiving end of channel %u is gone", end->channel.id);
    return lab_fail(-err, "cannot send on the socket of channel %u", end->channel.id);
}

static int cannot_receive(const struct seqpacket_end *s, int err)
{
    if (err == -EAGAIN)
        return err;
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the sending end of channel %u is gone", s->end.channel.id);
    return lab_fail(-err, "cannot receive from the socket of channel %u", s->end.channel.id);
}

/* One packet: its whole size, even where `room` is smaller, or -errno. `ret_rest` is set on a split channel. */
static ssize_t packet_recv(struct seqpacket_end *s, uint32_t *ret_rest, void *to, size_t room, uint64_t deadline_ns)
{
    int flags = MSG_TRUNC | (deadline_ns ? 0 : MSG_DONTWAIT), err = may_block(deadline_ns);
    while (!err) {
        ssize_t n;
        if (s->split) {
            struct iovec pieces[2] = {{ret_rest, HEAD}, {to, room}};
            n = recvmsg(s->fd, &(struct msghdr){.msg_iov = pieces, .msg_iovlen = 2}, flags);
        } else {
            n = recv(s->fd, to, room, flags);
        }
        if (n > 0)
            return n;
        err = n == 0 ? -EPIPE : lab_blocking_interrupted(deadline_ns);
    }
    return cannot_receive(s, err);
}

static int too_long(size_t length, size_t room)
{
    return lab_refuse(EMSGSIZE, "a message of %zu bytes for a buffer of %zu", length, room);
}

/* One part of a split message, of which `due` bytes are still to come (0: a new message): its bytes, or -errno. */
static ssize_t part_recv(struct seqpacket_end *s, uint32_t due, uint32_t *ret_rest, void *to, size_t room, uint64_t deadline_ns)
{
    ssize_t n = packet_recv(s, ret_rest, to, room, deadline_ns);
    if (n < 0)
        return n;
    if (n <= HEAD || (size_t)n - HEAD > *ret_rest || *ret_rest > s->end.channel.message_max || (due && *ret_rest != due))
        return lab_refuse(EBADMSG, "channel %u: a packet of %zd bytes is not the part that was due", s->end.channel.id, n);
    return n - HEAD;
}

static ssize_t recv_split(struct seqpacket_end *s, unsigned char *to, size_t room, uint64_t deadline_ns)
{
    uint32_t rest = 0, got = s->got, length = s->length;
    while (s->skip) {
        ssize_t n = part_recv(s, s->skip, &rest, NULL, 0, deadline_ns);
        if (n < 0)
            return n;
        s->skip -= (uint32_t)n;
    }
    if (got && length <= room)
        memcpy(to, s->stash, got);
    s->got = 0;
    while (got == 0 || (got < length && length <= room)) {
        ssize_t n = part_recv(s, got ? length - got : 0, &rest, to + got, room - got, deadline_ns);
        if (n == -EAGAIN && got) {
            memcpy(s->stash, to, got);
            s->got = got;
            s->length = length;
        }
        if (n < 0)
            return n;
        if (got == 0)
            length = rest;
        got += (uint32_t)n;
    }
    if (length <= room)
        return (ssize_t)length;
    s->skip = length - got;
    return too_long(length, room);
}

static ssize_t seqpacket_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    struct seqpacket_end *s = seqpacket_of(end);
    if (s->split)
        return recv_split(s, to, room, deadline_ns);
    ssize_t n = packet_recv(s, NULL, to, room, deadline_ns);
    return n > (ssize_t)room ? too_long((size_t)n, room) : n;
}

/* In places that are too short for some messages they come one by one: one that is cut must take none along. */
static int seqpacket_recv_many(struct lab_end *end, void *to, size_t stride, uint32_t want, uint64_t deadline_ns, uint32_t *ret_lengths)
{
    struct seqpacket_end *s = seqpacket_of(end);
    if (s->split || want == 1 || stride < end->channel.message_max) {
        ssize_t alone = seqpacket_recv(end, to, stride, deadline_ns);
        if (alone < 0)
            return (int)alone;
        ret_lengths[0] = (uint32_t)alone;
        return 1;
    }
    int err = may_block(deadline_ns);
    while (!err) {
        int got = lab_packets_receive(s->fd, to, stride, want, deadline_ns ? 0 : MSG_DONTWAIT, ret_lengths);
        if (got > 0)
            return got;
        err = got == 0 ? -EPIPE : lab_blocking_interrupted(deadline_ns);
    }
    return cannot_receive(s, err);
}

const struct lab_transport_ops lab_ops_unix_seqpacket = {
    .name = "unix-seqpacket",
    .end_bytes = sizeof(struct seqpacket_end),
    .provision = seqpacket_provision,
    .retire = lab_wire_retire,
    .open = seqpacket_open,
    .close = seqpacket_close,
    .send = seqpacket_send,
    .recv = seqpacket_recv,
    .send_many = seqpacket_send_many,
    .recv_many = seqpacket_recv_many,
};
