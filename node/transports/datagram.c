#include "node/transports/datagram.h"

#include "base/error.h"
#include "node/transports/blocking.h"
#include "node/transports/packets.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* ---- the node's side ---- */

static int join(int fd, const struct sockaddr *address, socklen_t size)
{
    struct sockaddr_storage own;
    socklen_t own_size = sizeof own;
    char stranger;
    if (bind(fd, address, size) < 0 || getsockname(fd, (struct sockaddr *)&own, &own_size) < 0 || connect(fd, (struct sockaddr *)&own, own_size) < 0)
        return -errno;
    /* From now on it takes its own datagrams only; what came before goes. */
    while (recv(fd, &stranger, 1, MSG_DONTWAIT) >= 0)
        ;
    return 0;
}

int lab_datagram_join(const struct lab_channel *channel, int fd, const struct sockaddr *address, socklen_t size,
                      const struct lab_kernel_buffer *buffer, struct lab_wire *ret_wire)
{
    int err = fd < 0 ? -errno : join(fd, address, size);
    int other = err ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (!err && other < 0)
        err = -errno;
    if (!err) {
        *ret_wire = (struct lab_wire){.fd = {[LAB_TX] = fd, [LAB_RX] = other}, .buffer = *buffer};
        return 0;
    }
    if (fd >= 0)
        close(fd);
    return lab_fail(-err, "cannot make a datagram socket for channel %u", channel->id);
}

void lab_datagram_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead)
{
    (void)channel;
    shutdown(wire->fd[dead], SHUT_RDWR);
}

/* ---- the worker's ---- */

int lab_datagram_open(struct lab_end *end, uint64_t deadline_ns)
{
    (void)deadline_ns;
    lab_datagram_of(end)->fd = end->wire.fd[end->role];
    return 0;
}

void lab_datagram_close(struct lab_end *end)
{
    shutdown(lab_datagram_of(end)->fd, SHUT_RDWR);
    close(lab_datagram_of(end)->fd);
}

/* The socket blocks: whether a call of LAB_WAIT_POLL may have to after all is the kernel's affair, and its deadline is ours. */
static int begin(struct lab_datagram *d, short events, uint64_t deadline_ns)
{
    int err = lab_blocking_begin(d->fd, events, d->end.channel.wait, deadline_ns);
    return err || !deadline_ns ? err : lab_alarm_at(deadline_ns);
}

/* An empty one would look like the end. */
static int check_length(const struct lab_end *end, size_t length)
{
    return length && length <= end->channel.message_max
               ? 0
               : lab_refuse(EMSGSIZE, "a message of %zu bytes on a channel for 1 to %u", length, end->channel.message_max);
}

static int cannot_send(const struct lab_end *end, int err)
{
    if (err == -EAGAIN)
        return err;
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the receiving end of channel %u is gone", end->channel.id);
    return lab_fail(-err, "cannot send on the socket of channel %u", end->channel.id);
}

static int cannot_receive(const struct lab_end *end, int err)
{
    if (err == -EAGAIN)
        return err;
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the sending end of channel %u is gone", end->channel.id);
    return lab_fail(-err, "cannot receive from the socket of channel %u", end->channel.id);
}

static int flags_to_send(uint64_t deadline_ns)
{
    return MSG_NOSIGNAL | (deadline_ns ? 0 : MSG_DONTWAIT);
}

int lab_datagram_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    struct lab_datagram *d = lab_datagram_of(end);
    int err = check_length(end, length), flags = flags_to_send(deadline_ns);
    if (err)
        return err;
    err = deadline_ns ? begin(d, POLLOUT, deadline_ns) : 0;
    while (!err) {
        if (send(d->fd, message, length, flags) >= 0)
            return 0;
        err = lab_blocking_interrupted(deadline_ns);
    }
    return cannot_send(end, err);
}

int lab_datagram_send_many(struct lab_end *end, const struct lab_span *span, uint64_t deadline_ns)
{
    struct lab_datagram *d = lab_datagram_of(end);
    int err = check_length(end, span->length), flags = flags_to_send(deadline_ns);
    if (err)
        return err;
    err = deadline_ns ? begin(d, POLLOUT, deadline_ns) : 0;
    while (!err) {
        int sent = lab_packets_send(d->fd, span, flags);
        if (sent > 0)
            return sent;
        err = lab_blocking_interrupted(deadline_ns);
    }
    return cannot_send(end, err);
}

ssize_t lab_datagram_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    struct lab_datagram *d = lab_datagram_of(end);
    int err = begin(d, POLLIN, deadline_ns);
    while (!err) {
        ssize_t n = recv(d->fd, to, room, MSG_TRUNC);
        if (n > (ssize_t)room)
            return lab_refuse(EMSGSIZE, "a message of %zd bytes for a buffer of %zu", n, room);
        if (n > 0)
            return n;
        err = n == 0 ? -EPIPE : lab_blocking_interrupted(deadline_ns);
    }
    return cannot_receive(end, err);
}

int lab_datagram_recv_many(struct lab_end *end, void *to, size_t stride, uint32_t want, uint64_t deadline_ns, uint32_t *ret_lengths)
{
    struct lab_datagram *d = lab_datagram_of(end);
    /* In places that are too short for some messages they come one by one: one that is cut must take none along. */
    int err = begin(d, POLLIN, deadline_ns), most = stride < end->channel.message_max ? 1 : (int)want;
    while (!err) {
        int got = lab_packets_receive(d->fd, to, stride, (uint32_t)most, 0, ret_lengths);
        if (got > 0)
            return ret_lengths[got - 1] <= stride ? got
                                                  : lab_refuse(EMSGSIZE, "a message of %u bytes for a place of %zu", ret_lengths[got - 1], stride);
        err = got == 0 ? -EPIPE : lab_blocking_interrupted(deadline_ns);
    }
    return cannot_receive(end, err);
}
