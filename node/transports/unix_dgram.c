/* unix-dgram: a Unix-domain socket of type SOCK_DGRAM (node/transports/datagram.h). The kernel holds a sender back when SO_SNDBUF is full of
 * what the receiver has not taken, so nothing is lost. A datagram must fit into that buffer, and most of it lies in one piece of
 * kernel memory: for long messages unix-seqpacket, which splits them, and unix-stream are better. */
#include "node/transports/datagram.h"

#include "base/error.h"
#include "node/transports/figure.h"
#include "node/transports/socket.h"

#include <errno.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

enum { SLACK = 32 }; /* of SO_SNDBUF, that a datagram cannot use: unix_dgram_sendmsg() in net/unix/af_unix.c */

static int new_socket(const struct lab_channel *channel, struct lab_kernel_buffer *ret_buffer)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return lab_fail(errno, "cannot make a datagram socket");
    int err = lab_socket_widen(fd, SO_SNDBUF, channel->window * ((uint64_t)channel->message_max + LAB_SOCKET_OVERHEAD), ret_buffer);
    if (!err)
        return fd;
    close(fd);
    return err;
}

/* What such a socket buffers here, be it by net.core.wmem_max or because this process may go beyond. */
static int unix_dgram_limit(const struct lab_channel *channel, struct lab_bound *ret_bound)
{
    struct lab_kernel_buffer buffer;
    int fd = new_socket(channel, &buffer);
    if (fd < 0)
        return fd;
    close(fd);
    ret_bound->longest = buffer.actual - SLACK;
    snprintf(ret_bound->mend, sizeof ret_bound->mend, "as root: sysctl net.core.wmem_max=%llu", ((unsigned long long)channel->message_max + SLACK + 1) / 2);
    return 0;
}

static int unix_dgram_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    static const struct sockaddr_un anywhere = {.sun_family = AF_UNIX}; /* bound so, it gets an abstract name */
    struct lab_kernel_buffer buffer;
    int fd = new_socket(channel, &buffer);
    if (fd < 0)
        return fd;
    return lab_datagram_join(channel, fd, (const struct sockaddr *)&anywhere, sizeof anywhere.sun_family, &buffer, ret_wire);
}

const struct lab_transport_ops lab_ops_unix_dgram = {
    .name = "unix-dgram", .end_bytes = sizeof(struct lab_datagram), .provision = unix_dgram_provision, .retire = lab_wire_retire,
    .hangup = lab_datagram_hangup, .limit = unix_dgram_limit, .open = lab_datagram_open, .close = lab_datagram_close,
    .send = lab_datagram_send, .recv = lab_datagram_recv, .send_many = lab_datagram_send_many, .recv_many = lab_datagram_recv_many,
};
