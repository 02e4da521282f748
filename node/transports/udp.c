/* udp: datagrams over the loopback interface (node/transports/datagram.h). UDP never holds a sender back: what comes when the receive buffer
 * is full is dropped. So the sender sees to it that it is not.
 *
 * The socket is both ends', so who sends can ask how full its receive buffer is (SO_MEMINFO): it then sends as many messages as certainly
 * fit, its *credit*, before it looks again. The buffer holds two windows, of which the credit uses half: messages that the kernel put off and has
 * not queued yet are not in its count. So a pattern, which has at most a window in flight, looks once in many messages and never waits;
 * a sender that pours without waiting for answers sleeps for a moment between two looks.
 * What was dropped nevertheless the kernel counts, and the next look reports as an error. */
#include "node/transports/datagram.h"

#include "base/clock.h"
#include "base/error.h"
#include "node/transports/socket.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

enum {
    CREDIT_MAX = 512, /* less than net.core.netdev_max_backlog, of what the kernel puts off */
    NAP_NS = 50000,
};

/* At most what the kernel counts for a message: its memory comes in powers of two. */
static uint64_t cost_of(const struct lab_channel *channel)
{
    return 2 * ((uint64_t)channel->message_max + LAB_SOCKET_OVERHEAD);
}

static int udp_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    static const struct sockaddr_in anywhere = {.sin_family = AF_INET, .sin_addr.s_addr = __builtin_bswap32(INADDR_LOOPBACK)};
    uint64_t cost = cost_of(channel);
    struct lab_kernel_buffer buffer;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return lab_fail(errno, "cannot make a datagram socket for channel %u", channel->id);
    int err = lab_socket_widen(fd, SO_RCVBUF, (channel->window + 1) * cost, &buffer);
    if (!err && buffer.actual < 2 * cost)
        err = lab_refuse(ENOBUFS, "a UDP socket may buffer %llu bytes, and messages of %u need %llu; as root: sysctl net.core.rmem_max=%llu",
                         (unsigned long long)buffer.actual, channel->message_max, 2 * (unsigned long long)cost, (unsigned long long)cost);
    if (err) {
        close(fd);
        return err;
    }
    return lab_datagram_join(channel, fd, (const struct sockaddr *)&anywhere, sizeof anywhere, &buffer, ret_wire);
}

/* How many messages certainly fit; -EPIPE when the receiver is gone. */
static int look(struct lab_datagram *d)
{
    uint32_t info[SK_MEMINFO_VARS] = {0};
    socklen_t size = sizeof info;
    struct pollfd gone = {.fd = d->fd};
    if (getsockopt(d->fd, SOL_SOCKET, SO_MEMINFO, info, &size) < 0)
        return lab_fail(errno, "cannot see how full the buffer of channel %u is", d->end.channel.id);
    if (info[SK_MEMINFO_DROPS])
        return lab_refuse(EIO, "the kernel dropped %u datagrams of channel %u", info[SK_MEMINFO_DROPS], d->end.channel.id);
    if (poll(&gone, 1, 0) > 0)
        return lab_refuse(EPIPE, "the receiving end of channel %u is gone", d->end.channel.id);
    uint64_t half = info[SK_MEMINFO_RCVBUF] / 2, used = info[SK_MEMINFO_RMEM_ALLOC], fit = half > used ? (half - used) / cost_of(&d->end.channel) : 0;
    d->credit = fit < CREDIT_MAX ? (uint32_t)fit : CREDIT_MAX;
    return 0;
}

static int await_room(struct lab_datagram *d, uint64_t deadline_ns)
{
    int err = look(d);
    while (!err && !d->credit) {
        if (!deadline_ns || !lab_ns_until(deadline_ns))
            return -EAGAIN;
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
        err = look(d);
    }
    return err;
}

static int udp_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    struct lab_datagram *d = lab_datagram_of(end);
    int err = d->credit ? 0 : await_room(d, deadline_ns);
    if (!err)
        err = lab_datagram_send(end, message, length, deadline_ns);
    d->credit -= !err;
    return err;
}

static int udp_send_many(struct lab_end *end, const struct lab_span *span, uint64_t deadline_ns)
{
    struct lab_datagram *d = lab_datagram_of(end);
    int err = d->credit ? 0 : await_room(d, deadline_ns);
    if (err)
        return err;
    struct lab_span fitting = *span;
    fitting.count = span->count < d->credit ? span->count : d->credit;
    int sent = lab_datagram_send_many(end, &fitting, deadline_ns);
    d->credit -= sent > 0 ? (uint32_t)sent : 0;
    return sent;
}

const struct lab_transport_ops lab_ops_udp = {
    .name = "udp", .end_bytes = sizeof(struct lab_datagram), .provision = udp_provision, .retire = lab_wire_retire,
    .hangup = lab_datagram_hangup, .open = lab_datagram_open, .close = lab_datagram_close, .send = udp_send, .recv = lab_datagram_recv,
    .send_many = udp_send_many, .recv_many = lab_datagram_recv_many,
};
