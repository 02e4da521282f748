/* The kernel's mechanisms, as a user would write who wants nothing else: two channels, one there and one back, and the call that each
 * mechanism has; messages of one size and so without a header. Buffers have the kernel's sizes, but for UDP, which would lose what finds
 * no room. */
#include "bench/bare.h"

#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RX, TX };

struct pair {
    const struct bare *bare;
    int from, to; /* descriptors, or numbers of queues */
};

/* ---- what each mechanism's two ends are made by: way[RX], way[TX] ---- */

static void make_pipe(const struct bare *bare, size_t size, int way[2])
{
    (void)size;
    if (pipe(way) < 0)
        bare_fail(bare, "cannot make a pipe");
}

static void make_fifo(const struct bare *bare, size_t size, int way[2])
{
    char path[64];
    (void)size;
    snprintf(path, sizeof path, "/tmp/bare-kernel-%d", (int)getpid());
    int both = mkfifo(path, 0600) == 0 ? open(path, O_RDWR) : -1;
    way[RX] = open(path, O_RDONLY);
    way[TX] = open(path, O_WRONLY);
    unlink(path);
    if (both < 0 || way[RX] < 0 || way[TX] < 0)
        bare_fail(bare, "cannot make a fifo");
    close(both);
}

static void make_unix(const struct bare *bare, int type, int way[2])
{
    if (socketpair(AF_UNIX, type, 0, way) < 0)
        bare_fail(bare, "cannot make a socket pair");
}

static void make_unix_stream(const struct bare *bare, size_t size, int way[2])
{
    (void)size;
    make_unix(bare, SOCK_STREAM, way);
}

static void make_unix_seqpacket(const struct bare *bare, size_t size, int way[2])
{
    (void)size;
    make_unix(bare, SOCK_SEQPACKET, way);
}

static void make_unix_dgram(const struct bare *bare, size_t size, int way[2])
{
    (void)size;
    make_unix(bare, SOCK_DGRAM, way);
}

static const struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = __builtin_bswap32(INADDR_LOOPBACK)};

static bool name_of(int fd, struct sockaddr_in *ret_name)
{
    socklen_t length = sizeof *ret_name;
    return getsockname(fd, (struct sockaddr *)ret_name, &length) == 0;
}

static void make_tcp(const struct bare *bare, size_t size, int way[2])
{
    static const int yes = 1;
    struct sockaddr_in name;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    (void)size;
    way[TX] = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listening, (const struct sockaddr *)&loopback, sizeof loopback) < 0 || listen(listening, 1) < 0 || !name_of(listening, &name) ||
        connect(way[TX], (struct sockaddr *)&name, sizeof name) < 0 || (way[RX] = accept(listening, NULL, NULL)) < 0 ||
        setsockopt(way[TX], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0)
        bare_fail(bare, "cannot connect over TCP");
    close(listening);
}

static void make_udp(const struct bare *bare, size_t size, int way[2])
{
    struct sockaddr_in name[2];
    int room = (int)(bare->window * 2 * (size + 512));
    for (int side = RX; side <= TX; side++) {
        way[side] = socket(AF_INET, SOCK_DGRAM, 0);
        if (bind(way[side], (const struct sockaddr *)&loopback, sizeof loopback) < 0 || !name_of(way[side], &name[side]))
            bare_fail(bare, "cannot make a UDP socket");
    }
    if (setsockopt(way[RX], SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) < 0)
        setsockopt(way[RX], SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    for (int side = RX; side <= TX; side++)
        if (connect(way[side], (struct sockaddr *)&name[!side], sizeof *name) < 0)
            bare_fail(bare, "cannot connect a UDP socket");
}

static void make_posix_mq(const struct bare *bare, size_t size, int way[2])
{
    char name[64];
    struct mq_attr attr = {.mq_maxmsg = bare->window < 10 ? bare->window : 10, .mq_msgsize = (long)size};
    snprintf(name, sizeof name, "/bare-kernel-%d", (int)getpid());
    way[TX] = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
    if (way[TX] < 0)
        bare_fail(bare, "cannot make a message queue");
    mq_unlink(name);
    way[RX] = dup(way[TX]);
}

static void make_sysv_mq(const struct bare *bare, size_t size, int way[2])
{
    (void)size;
    way[RX] = way[TX] = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    if (way[TX] < 0)
        bare_fail(bare, "cannot make a message queue");
}

/* ---- messages ---- */

static void stream_send(void *channel, const void *bytes, size_t size)
{
    const struct pair *pair = channel;
    const unsigned char *at = bytes;
    while (size) {
        ssize_t n = write(pair->to, at, size);
        if (n <= 0)
            bare_fail(pair->bare, "write");
        at += n;
        size -= (size_t)n;
    }
}

static void stream_recv(void *channel, void *bytes, size_t size)
{
    const struct pair *pair = channel;
    unsigned char *at = bytes;
    while (size) {
        ssize_t n = read(pair->from, at, size);
        if (n <= 0)
            bare_fail(pair->bare, "read");
        at += n;
        size -= (size_t)n;
    }
}

static void packet_send(void *channel, const void *bytes, size_t size)
{
    const struct pair *pair = channel;
    if (send(pair->to, bytes, size, 0) < 0)
        bare_fail(pair->bare, "send");
}

static void packet_recv(void *channel, void *bytes, size_t size)
{
    const struct pair *pair = channel;
    if (recv(pair->from, bytes, size, 0) <= 0)
        bare_fail(pair->bare, "recv");
}

static void mq_send_one(void *channel, const void *bytes, size_t size)
{
    const struct pair *pair = channel;
    if (mq_send(pair->to, bytes, size, 0) < 0)
        bare_fail(pair->bare, "mq_send");
}

static void mq_recv_one(void *channel, void *bytes, size_t size)
{
    const struct pair *pair = channel;
    if (mq_receive(pair->from, bytes, size, NULL) < 0)
        bare_fail(pair->bare, "mq_receive");
}

/* The type goes in front of the bytes, where bench/bare.h has room for it. */
static void msg_send_one(void *channel, const void *bytes, size_t size)
{
    const struct pair *pair = channel;
    static const long type = 1;
    unsigned char *place = (unsigned char *)(uintptr_t)bytes - sizeof type;
    memcpy(place, &type, sizeof type);
    if (msgsnd(pair->to, place, size, 0) < 0)
        bare_fail(pair->bare, "msgsnd");
}

static void msg_recv_one(void *channel, void *bytes, size_t size)
{
    const struct pair *pair = channel;
    if (msgrcv(pair->from, (unsigned char *)bytes - sizeof(long), size, 0, 0) < 0)
        bare_fail(pair->bare, "msgrcv");
}

/* ---- */

static const char *const over[] = {"pipe", "fifo", "unix-stream", "unix-seqpacket", "unix-dgram", "tcp", "udp", "posix-mq", "sysv-mq", NULL};
static void (*const makers[])(const struct bare *, size_t, int[2]) = {
    make_pipe, make_fifo, make_unix_stream, make_unix_seqpacket, make_unix_dgram, make_tcp, make_udp, make_posix_mq, make_sysv_mq};

static void run(struct bare *bare, struct pair *pair)
{
    if (strcmp(bare->kind, "posix-mq") == 0)
        bare_run(bare, mq_send_one, mq_recv_one, pair);
    else if (strcmp(bare->kind, "sysv-mq") == 0)
        bare_run(bare, msg_send_one, msg_recv_one, pair);
    else if (strcmp(bare->kind, "udp") == 0 || strcmp(bare->kind, "unix-dgram") == 0 || strcmp(bare->kind, "unix-seqpacket") == 0)
        bare_run(bare, packet_send, packet_recv, pair);
    else
        bare_run(bare, stream_send, stream_recv, pair);
}

int main(int argc, char **argv)
{
    struct bare bare = {.name = "bare-kernel", .over = over};
    int forth[2], back[2];
    size_t kind = 0;
    bare_options(&bare, argc, argv);
    while (strcmp(over[kind], bare.kind) != 0)
        kind++;
    makers[kind](&bare, bare.size, forth);
    makers[kind](&bare, bare.stream ? BARE_CREDIT_BYTES : bare.size, back);
    bare_fork(&bare);
    const int *own = bare.client ? forth : back, *other = bare.client ? back : forth;
    struct pair pair = {&bare, other[RX], own[TX]};
    if (strcmp(bare.kind, "sysv-mq") != 0) {
        close(own[RX]);
        close(other[TX]);
    }
    run(&bare, &pair);
    if (strcmp(bare.kind, "sysv-mq") == 0)
        msgctl(pair.from, IPC_RMID, NULL);
    return bare_end(&bare);
}
