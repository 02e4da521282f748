/* tcp: a connection over the loopback interface (node/transports/stream.h has the rest). It is made by the node, and both its ends are inherited, so
 * that nobody waits for anyone when they open.
 *
 * A full buffer may take a part of a message, of any length; a pipe and a Unix socket take short ones as a whole or not at all. So a deadline
 * that passes with the buffer full may end the channel (LAB_BLOCKING_GRACE_NS).
 *
 * TCP_NODELAY, for a message must not wait for the acknowledgement of the one before. The sizes of the buffers are left alone: the
 * kernel adapts them to the traffic (net.ipv4.tcp_wmem, tcp_rmem), and would not any more if they were set. */
#include "node/transports/stream.h"

#include "base/error.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static int new_socket(void)
{
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static bool name_of(int fd, struct sockaddr_in *ret_name)
{
    socklen_t size = sizeof *ret_name;
    return getsockname(fd, (struct sockaddr *)ret_name, &size) == 0;
}

static bool listen_here(int fd, struct sockaddr_in *ret_name)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return bind(fd, (struct sockaddr *)&any, sizeof any) == 0 && listen(fd, 1) == 0 && name_of(fd, ret_name);
}

/* Whoever else may have connected to that port is turned away. */
static int accept_from(int listening, const struct sockaddr_in *name)
{
    for (;;) {
        struct sockaddr_in caller = {0};
        socklen_t size = sizeof caller;
        int fd = accept4(listening, (struct sockaddr *)&caller, &size, SOCK_CLOEXEC);
        if (fd < 0 || (caller.sin_port == name->sin_port && caller.sin_addr.s_addr == name->sin_addr.s_addr))
            return fd;
        close(fd);
    }
}

static bool connect_pair(int listening, struct lab_wire *wire)
{
    static const int yes = 1;
    struct sockaddr_in server = {0}, client = {0};
    int *fd = wire->fd;
    return listening >= 0 && fd[LAB_TX] >= 0 && listen_here(listening, &server) &&
           connect(fd[LAB_TX], (struct sockaddr *)&server, sizeof server) == 0 && name_of(fd[LAB_TX], &client) &&
           (fd[LAB_RX] = accept_from(listening, &client)) >= 0 &&
           setsockopt(fd[LAB_TX], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0;
}

static int tcp_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct lab_wire wire = {.fd = {[LAB_TX] = new_socket(), [LAB_RX] = -1}};
    int listening = new_socket(), code = 0;
    if (!connect_pair(listening, &wire))
        code = errno;
    if (listening >= 0)
        close(listening);
    if (!code) {
        *ret_wire = wire;
        return 0;
    }
    lab_wire_retire(channel, &wire);
    return lab_fail(code, "cannot connect channel %u over the loopback interface; is it up?", channel->id);
}

const struct lab_transport_ops lab_ops_tcp = {
    .name = "tcp", .end_bytes = sizeof(struct lab_stream), .provision = tcp_provision, .retire = lab_wire_retire,
    .open = lab_stream_open, .close = lab_stream_close, .send = lab_stream_send, .recv = lab_stream_recv,
    .send_many = lab_stream_send_many, .recv_many = lab_stream_recv_many,
};
