/* tcp: a connection, and messages in its stream of bytes (node/transports/stream.h).
 *
 * Within a node it goes over the loopback interface and is made by the node; both its ends are inherited, so that nobody waits for anyone
 * when they open. Between nodes and hosts the receiver's node listens, and the address of a channel ends with a random number, its
 * token, which a sender says first: whoever else connects is turned away. The sender connects when it opens; the receiver takes the connection
 * when it is first asked for a message. What travels is neither encrypted nor signed.
 *
 * A full buffer may take a part of a message, of any length; a pipe and a Unix socket take short ones as a whole or not at all. So a deadline
 * that passes with the buffer full may end the channel (LAB_BLOCKING_GRACE_NS).
 *
 * TCP_NODELAY, for a message must not wait for the acknowledgement of the one before. The sizes of the buffers are left alone: the
 * kernel adapts them to the traffic (net.ipv4.tcp_wmem, tcp_rmem), and would not any more if they were set. */
#include "node/transports/blocking.h"
#include "node/transports/socket.h"
#include "node/transports/stream.h"

#include "base/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { HELLO_MS = 1000, LOST_AFTER_MS = 2000 };

struct tcp_end {
    struct lab_stream stream;
    bool expecting; /* RX between nodes: its descriptor still listens */
};

/* ---- within a node ---- */

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

static int provision_pair(const struct lab_channel *channel, struct lab_wire *ret_wire)
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

/* ---- between nodes ---- */

static int provision_listener(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    uint64_t token;
    char place[LAB_SOCKET_PLACE];
    if (getrandom(&token, sizeof token, 0) != (ssize_t)sizeof token)
        return lab_fail(errno, "no random token for channel %u", channel->id);
    int fd = lab_socket_listen(channel, place);
    if (fd < 0)
        return fd;
    *ret_wire = (struct lab_wire){.fd = {[LAB_TX] = -1, [LAB_RX] = fd}};
    snprintf(ret_wire->address, sizeof ret_wire->address, "%s/%016llx", place, (unsigned long long)token);
    return 0;
}

static int tcp_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    return channel->crosses_nodes ? provision_listener(channel, ret_wire) : provision_pair(channel, ret_wire);
}

static int read_address(const char *address, struct sockaddr_in *ret_name, uint64_t *ret_token)
{
    char host[INET_ADDRSTRLEN];
    unsigned short port;
    unsigned long long token;
    struct sockaddr_in name = {.sin_family = AF_INET};
    if (sscanf(address, "%15[0-9.]:%hu/%llx", host, &port, &token) != 3 || inet_pton(AF_INET, host, &name.sin_addr) != 1)
        return lab_refuse(EBADMSG, "'%.60s' is no address of a tcp channel", address);
    name.sin_port = htons(port);
    *ret_name = name;
    *ret_token = token;
    return 0;
}

static bool set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

/* Blocking calls end after a slice, to look around; between hosts a silent peer is noticed. */
static bool tune(const struct lab_channel *channel, int fd, int slice_ms)
{
    const struct timeval slice = {.tv_sec = slice_ms / 1000, .tv_usec = slice_ms % 1000 * 1000};
    bool ok = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof slice) == 0 &&
              setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof slice) == 0 && set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (ok && channel->crosses_hosts)
        ok = set(fd, SOL_SOCKET, SO_KEEPALIVE, 1) && set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1) && set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1) &&
             set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, LOST_AFTER_MS);
    return ok;
}

/* Does not wait for the receiver: the kernel of a listening host completes the connection. */
static int connect_to(const struct sockaddr_in *name, int fd, uint64_t deadline_ns)
{
    int code = 0;
    socklen_t size = sizeof code;
    if (connect(fd, (const struct sockaddr *)name, sizeof *name) < 0 && errno != EINPROGRESS)
        return -errno;
    int err = lab_blocking_poll(fd, POLLOUT, deadline_ns);
    if (!err && getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0)
        code = errno;
    return err == -EAGAIN ? -ETIMEDOUT : err ? err : -code;
}

static int open_sender(struct lab_end *end, uint64_t deadline_ns)
{
    struct sockaddr_in name;
    uint64_t token = 0;
    int err = read_address(end->wire.address, &name, &token);
    if (err)
        return err;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    err = fd < 0 ? -errno : connect_to(&name, fd, deadline_ns);
    if (!err && (send(fd, &token, sizeof token, MSG_NOSIGNAL) != (ssize_t)sizeof token || !tune(&end->channel, fd, LAB_BLOCKING_SLICE_MS) ||
                 fcntl(fd, F_SETFL, 0) < 0))
        err = -errno;
    if (err) {
        if (fd >= 0)
            close(fd);
        return lab_fail(-err, "cannot connect channel %u to %s", end->channel.id, end->wire.address);
    }
    end->wire.fd[LAB_TX] = fd;
    err = lab_stream_open(end, deadline_ns);
    if (err)
        close(fd);
    return err;
}

static int tcp_open(struct lab_end *end, uint64_t deadline_ns)
{
    if (end->channel.crosses_nodes && end->role == LAB_TX)
        return open_sender(end, deadline_ns);
    ((struct tcp_end *)end)->expecting = end->channel.crosses_nodes;
    return lab_stream_open(end, deadline_ns);
}

/* A connection whose other side says the token soon; -EAGAIN: it does not, or has gone already. */
static int accept_known(const struct lab_end *end, int listening, uint64_t token)
{
    uint64_t said = 0;
    int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return errno == ECONNABORTED || errno == EINTR ? -EAGAIN : -errno;
    if (tune(&end->channel, fd, HELLO_MS) && recv(fd, &said, sizeof said, MSG_WAITALL) == (ssize_t)sizeof said && said == token &&
        tune(&end->channel, fd, LAB_BLOCKING_SLICE_MS) && (end->channel.wait != LAB_WAIT_POLL || fcntl(fd, F_SETFL, O_NONBLOCK) == 0))
        return fd;
    close(fd);
    return -EAGAIN;
}

static int meet_sender(struct lab_end *end, uint64_t deadline_ns)
{
    struct tcp_end *t = (struct tcp_end *)end;
    struct sockaddr_in name;
    uint64_t token = 0;
    int err = read_address(end->wire.address, &name, &token), fd = -EAGAIN;
    while (!err && fd == -EAGAIN) {
        err = lab_blocking_poll(t->stream.fd, POLLIN, deadline_ns);
        if (!err)
            fd = accept_known(end, t->stream.fd, token);
    }
    if (err == -EAGAIN || err == -EBADMSG)
        return err;
    if (err == -ECANCELED)
        return lab_refuse(ECANCELED, "the launch was given up");
    if (err || fd < 0)
        return lab_fail(err ? -err : -fd, "nobody connected to channel %u at %s", end->channel.id, end->wire.address);
    close(t->stream.fd);
    end->wire.fd[LAB_RX] = t->stream.fd = fd;
    t->expecting = false;
    return 0;
}

static ssize_t tcp_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    int err = ((struct tcp_end *)end)->expecting ? meet_sender(end, deadline_ns) : 0;
    return err ? err : lab_stream_recv(end, to, room, deadline_ns);
}

static int tcp_recv_many(struct lab_end *end, void *to, size_t stride, uint32_t want, uint64_t deadline_ns, uint32_t *ret_lengths)
{
    int err = ((struct tcp_end *)end)->expecting ? meet_sender(end, deadline_ns) : 0;
    return err ? err : lab_stream_recv_many(end, to, stride, want, deadline_ns, ret_lengths);
}

const struct lab_transport_ops lab_ops_tcp = {
    .name = "tcp", .end_bytes = sizeof(struct tcp_end), .provision = tcp_provision, .retire = lab_wire_retire,
    .open = tcp_open, .close = lab_stream_close, .send = lab_stream_send, .recv = tcp_recv,
    .send_many = lab_stream_send_many, .recv_many = tcp_recv_many,
};
