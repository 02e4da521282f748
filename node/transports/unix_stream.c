/* unix-stream: a connected pair of Unix-domain sockets of type SOCK_STREAM (node/transports/stream.h has the rest). */
#include "node/transports/stream.h"

#include "base/error.h"
#include "node/transports/socket.h"

#include <errno.h>
#include <sys/socket.h>

enum { PREFIX = sizeof(uint32_t), PIECE = 32 << 10 }; /* of a long message the kernel makes pieces of that many bytes */

/* What a full window occupies. Where limits (net.core.wmem_max) leave less, the sender waits in writev. */
static uint64_t size_for(const struct lab_channel *channel)
{
    uint64_t framed = (uint64_t)channel->message_max + PREFIX;
    return channel->window * (framed + (framed / PIECE + 1) * LAB_SOCKET_OVERHEAD);
}

static int unix_stream_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct lab_wire wire = {0};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, wire.fd) < 0)
        return lab_fail(errno, "cannot make a socket pair for channel %u", channel->id);
    int err = lab_socket_widen(wire.fd[LAB_TX], SO_SNDBUF, size_for(channel), &wire.buffer);
    if (err)
        lab_wire_retire(channel, &wire);
    else
        *ret_wire = wire;
    return err;
}

const struct lab_transport_ops lab_ops_unix_stream = {
    .name = "unix-stream", .end_bytes = sizeof(struct lab_stream), .provision = unix_stream_provision, .retire = lab_wire_retire,
    .open = lab_stream_open, .close = lab_stream_close, .send = lab_stream_send, .recv = lab_stream_recv,
    .send_many = lab_stream_send_many, .recv_many = lab_stream_recv_many,
};
