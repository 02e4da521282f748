/* nng-ipc and nng-tcp: pair sockets of nng, the successor of nanomsg, and its messages, which pass from hand to hand without being copied
 * (nng_msg_alloc, nng_sendmsg, nng_recvmsg): a sender writes in place, a receiver reads in place, and between the two are the kernel's socket and
 * nng's threads, on the cpus of the measured process.
 *
 * The address is chosen by provisioning: an abstract name that nobody can guess, or a port that the node holds, bound and not listened on,
 * until the receiver listens there (both say SO_REUSEADDR, so it may). The sender dials in the background until somebody answers.
 *
 * A socket of nng queues what the other side has not taken, here as many messages as the window; one more that does not fit is left to nng's
 * threads (nng_send_aio), and taken back, if it has not left meanwhile, before the next. What is queued is lost when a socket is closed: a
 * sender that closes says so with a message of no bytes and waits for an answer of the same kind, for up to 0.9 s. That the other side was
 * killed the library tells by an event on its connection, which is looked at when a call has waited for a slice; deadlines are kept to
 * within a slice. */
#include "node/transport.h"

#include "base/clock.h"
#include "base/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SLICE_MS = 20, RECONNECT_MS = 1, RECONNECT_MAX_MS = 20, QUEUE_MAX = 8192 /* of nng itself */ };
#define GOODBYE_WITHIN_NS (900 * LAB_NS_PER_MS)

struct nng_end {
    struct lab_end end;
    nng_socket socket;
    nng_aio *aio;                 /* TX: sends what did not fit into the queue */
    nng_msg *message;             /* TX: written or to be written; RX: read */
    bool left, waits;             /* TX: the aio has a message that was committed; `message` is one */
    bool broken, finished;        /* RX finished: the sender has closed */
    _Atomic int32_t connection;   /* its number; 0: none yet. Set by nng's threads, as `gone` is */
    _Atomic bool gone;
};

/* The library's threads are those of the process: they end with the last end. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned users;

static struct nng_end *nng_of(struct lab_end *end)
{
    return (struct nng_end *)end;
}

static int failed(const char *what, const char *where, int code)
{
    return lab_refuse(code & NNG_ESYSERR ? code & ~NNG_ESYSERR : EIO, "%s %s: %s", what, where, nng_strerror(code));
}

/* ---- provisioning ---- */

static int ipc_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    uint64_t random;
    (void)channel;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return lab_fail(errno, "no random name for a socket");
    *ret_wire = (struct lab_wire){.fd = {-1, -1}};
    snprintf(ret_wire->address, sizeof ret_wire->address, "abstract://ipclab-%d-%016llx", (int)getpid(), (unsigned long long)random);
    return 0;
}

static int resolve(const char *host, struct sockaddr_in *ret_name)
{
    const struct addrinfo wanted = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int code = getaddrinfo(host, "0", &wanted, &found);
    if (code)
        return lab_refuse(EHOSTUNREACH, "this host's own name '%s' cannot be resolved: %s", host, gai_strerror(code));
    memcpy(ret_name, found->ai_addr, sizeof *ret_name);
    freeaddrinfo(found);
    return 0;
}

/* wire.held: the descriptor that keeps the port, plus one. */
static int tcp_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    static const int yes = 1;
    struct sockaddr_in name = {0};
    socklen_t size = sizeof name;
    char text[INET_ADDRSTRLEN];
    int err = resolve(channel->crosses_hosts && channel->host ? channel->host : "127.0.0.1", &name);
    if (err)
        return err;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 || bind(fd, (struct sockaddr *)&name, size) < 0 ||
        getsockname(fd, (struct sockaddr *)&name, &size) < 0) {
        err = lab_fail(errno, "no port for channel %u", channel->id);
        if (fd >= 0)
            close(fd);
        return err;
    }
    inet_ntop(AF_INET, &name.sin_addr, text, sizeof text);
    *ret_wire = (struct lab_wire){.fd = {-1, -1}, .held = (void *)(intptr_t)(fd + 1)};
    snprintf(ret_wire->address, sizeof ret_wire->address, "tcp://%s:%u", text, ntohs(name.sin_port));
    return 0;
}

static void nng_retire(const struct lab_channel *channel, struct lab_wire *wire)
{
    (void)channel;
    if (wire->held)
        close((int)(intptr_t)wire->held - 1);
    wire->held = NULL;
}

/* ---- an end ---- */

static void hold_library(void)
{
    pthread_mutex_lock(&lock);
    users++;
    pthread_mutex_unlock(&lock);
}

static void release_library(void)
{
    pthread_mutex_lock(&lock);
    if (--users == 0)
        nng_fini();
    pthread_mutex_unlock(&lock);
}

/* In a thread of nng's. Somebody else who may have called is turned away, and is another connection. Before it is added, and not after: of one
 * that ends at once the end may be told first. */
static void on_connection(nng_pipe pipe, nng_pipe_ev event, void *argument)
{
    struct nng_end *n = argument;
    int32_t none = 0, number = nng_pipe_id(pipe);
    if (event == NNG_PIPE_EV_ADD_PRE)
        atomic_compare_exchange_strong(&n->connection, &none, number);
    else if (atomic_load(&n->connection) == number)
        atomic_store(&n->gone, true);
}

static int configure(struct nng_end *n)
{
    const struct lab_channel *channel = &n->end.channel;
    int queue = channel->window < QUEUE_MAX ? (int)channel->window : QUEUE_MAX;
    int code = nng_socket_set_int(n->socket, NNG_OPT_SENDBUF, queue);
    if (!code)
        code = nng_socket_set_int(n->socket, NNG_OPT_RECVBUF, queue);
    if (!code)
        code = nng_socket_set_ms(n->socket, NNG_OPT_SENDTIMEO, SLICE_MS);
    if (!code)
        code = nng_socket_set_ms(n->socket, NNG_OPT_RECVTIMEO, SLICE_MS);
    if (!code)
        code = nng_socket_set_ms(n->socket, NNG_OPT_RECONNMINT, RECONNECT_MS);
    if (!code)
        code = nng_socket_set_ms(n->socket, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS);
    if (!code)
        code = nng_socket_set_size(n->socket, NNG_OPT_RECVMAXSZ, channel->message_max);
    if (!code)
        code = nng_pipe_notify(n->socket, NNG_PIPE_EV_ADD_PRE, on_connection, n);
    if (!code)
        code = nng_pipe_notify(n->socket, NNG_PIPE_EV_REM_POST, on_connection, n);
    return code;
}

static int nng_open_end(struct lab_end *end, uint64_t deadline_ns)
{
    struct nng_end *n = nng_of(end);
    (void)deadline_ns; /* connecting goes on in the background; the first message waits for it */
    hold_library();
    int code = nng_aio_alloc(&n->aio, NULL, NULL);
    if (!code)
        nng_aio_set_timeout(n->aio, NNG_DURATION_INFINITE);
    if (!code)
        code = nng_pair0_open(&n->socket);
    bool opened = !code;
    if (!code)
        code = configure(n);
    if (!code)
        code = end->role == LAB_TX ? nng_dial(n->socket, end->wire.address, NULL, NNG_FLAG_NONBLOCK)
                                   : nng_listen(n->socket, end->wire.address, NULL, 0);
    if (!code)
        return 0;
    int err = failed(end->role == LAB_TX ? "nng cannot dial" : "nng cannot listen on", end->wire.address, code);
    if (opened)
        nng_close(n->socket);
    nng_aio_free(n->aio);
    release_library();
    return err;
}

/* After a call that waited for a slice in vain, or would have waited: whether to try again (0). */
static int look_around(struct nng_end *n, int code, uint64_t deadline_ns)
{
    if (code != NNG_ETIMEDOUT && code != NNG_EAGAIN) {
        n->broken = true;
        return failed("nng broke off", n->end.wire.address, code);
    }
    if (lab_ends_abandoned)
        return lab_refuse(ECANCELED, "the launch was given up");
    return lab_ns_until(deadline_ns) == 0 ? -EAGAIN : 0;
}

static int is_gone(struct nng_end *n)
{
    return lab_refuse(EPIPE, "the other end of channel %u is gone", n->end.channel.id);
}

/* ---- sending ---- */

/* The message that did not fit into the queue goes when it does, whether this end is called or not. */
static void leave(struct nng_end *n)
{
    nng_aio_set_msg(n->aio, n->message);
    n->message = NULL;
    n->waits = false;
    n->left = true;
    nng_send_aio(n->socket, n->aio);
}

static void take_back(struct nng_end *n)
{
    nng_aio_cancel(n->aio);
    nng_aio_wait(n->aio); /* not for long: it was cancelled, if it had not ended */
    n->left = false;
    n->waits = nng_aio_result(n->aio) != 0;
    n->message = n->waits ? nng_aio_get_msg(n->aio) : NULL;
}

static int send_waiting(struct nng_end *n, uint64_t deadline_ns)
{
    if (n->left)
        take_back(n);
    while (n->waits) {
        if (n->gone)
            return is_gone(n);
        int code = nng_sendmsg(n->socket, n->message, deadline_ns ? 0 : NNG_FLAG_NONBLOCK);
        int err = code ? look_around(n, code, deadline_ns) : 0;
        if (err == -EAGAIN)
            leave(n);
        if (err)
            return err;
        if (!code)
            n->message = NULL;
        n->waits = code;
    }
    return 0;
}

static int nng_reserve(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct nng_end *n = nng_of(end);
    (void)want; /* the library sends one at a time */
    if (length == 0 || length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %u bytes on a channel for 1 to %u", length, end->channel.message_max);
    if (n->broken || n->gone)
        return n->gone ? is_gone(n) : lab_refuse(EIO, "nng broke off channel %u", end->channel.id);
    int err = send_waiting(n, deadline_ns);
    if (err)
        return err;
    if (n->message && nng_msg_len(n->message) != length) { /* abandoned */
        nng_msg_free(n->message);
        n->message = NULL;
    }
    if (!n->message && nng_msg_alloc(&n->message, length))
        return lab_fail(ENOMEM, "no memory for a message of %u bytes", length);
    *ret_span = (struct lab_span){.at = nng_msg_body(n->message), .stride = length, .length = length, .count = 1};
    return 0;
}

static void nng_commit(struct lab_end *end, uint32_t count)
{
    struct nng_end *n = nng_of(end);
    if (!count)
        return;
    int code = nng_sendmsg(n->socket, n->message, NNG_FLAG_NONBLOCK);
    if (!code)
        n->message = NULL;
    else if (code == NNG_EAGAIN)
        leave(n);
    else
        n->broken = true;
}

/* ---- receiving ---- */

static int receive(struct nng_end *n, uint64_t deadline_ns)
{
    while (!n->message) {
        bool was_gone = n->gone;
        int code = nng_recvmsg(n->socket, &n->message, deadline_ns ? 0 : NNG_FLAG_NONBLOCK);
        if (!code)
            return 0;
        n->message = NULL;
        /* What arrived before the connection ended was looked for once more after its end was seen. */
        if (was_gone && (code == NNG_ETIMEDOUT || code == NNG_EAGAIN))
            return is_gone(n);
        int err = n->gone ? 0 : look_around(n, code, deadline_ns);
        if (err)
            return err;
    }
    return 0;
}

static int nng_borrow(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct nng_end *n = nng_of(end);
    (void)want;
    if (n->broken)
        return lab_refuse(EIO, "nng broke off channel %u", end->channel.id);
    int err = n->finished ? 0 : receive(n, deadline_ns);
    if (err)
        return err;
    if (!n->finished && nng_msg_len(n->message) == 0) {
        n->finished = true;
        if (nng_sendmsg(n->socket, n->message, NNG_FLAG_NONBLOCK) == 0) /* as the answer */
            n->message = NULL;
    }
    if (n->finished)
        return lab_refuse(EPIPE, "the sending end of channel %u was closed", end->channel.id);
    uint32_t length = (uint32_t)nng_msg_len(n->message);
    *ret_span = (struct lab_span){.at = nng_msg_body(n->message), .stride = length, .length = length, .count = 1};
    return 0;
}

static void nng_release(struct lab_end *end, uint32_t count)
{
    struct nng_end *n = nng_of(end);
    if (!count)
        return;
    nng_msg_free(n->message);
    n->message = NULL;
}

/* ---- closing ---- */

/* Everything that was sent has been received when the answer comes. */
static void say_goodbye(struct nng_end *n)
{
    uint64_t deadline_ns = lab_now_ns() + GOODBYE_WITHIN_NS;
    if (n->broken || n->gone || send_waiting(n, deadline_ns))
        return;
    nng_msg_free(n->message); /* abandoned, or NULL */
    n->message = NULL;
    if (nng_msg_alloc(&n->message, 0))
        return;
    n->waits = true;
    if (send_waiting(n, deadline_ns) == 0)
        (void)receive(n, deadline_ns);
}

static void nng_close_end(struct lab_end *end)
{
    struct nng_end *n = nng_of(end);
    if (end->role == LAB_TX && !lab_ends_abandoned)
        say_goodbye(n);
    if (n->left)
        take_back(n);
    nng_msg_free(n->message);
    nng_close(n->socket);
    nng_aio_free(n->aio);
    release_library();
}

static void nng_library(char to[LAB_LIBRARY_TEXT])
{
    snprintf(to, LAB_LIBRARY_TEXT, "nng %s", nng_version());
}

const struct lab_transport_ops lab_ops_nng_ipc = {
    .name = "nng-ipc", .end_bytes = sizeof(struct nng_end), .provision = ipc_provision, .retire = nng_retire,
    .open = nng_open_end, .close = nng_close_end, .reserve = nng_reserve, .commit = nng_commit, .borrow = nng_borrow, .release = nng_release,
    .library = nng_library,
};

const struct lab_transport_ops lab_ops_nng_tcp = {
    .name = "nng-tcp", .end_bytes = sizeof(struct nng_end), .provision = tcp_provision, .retire = nng_retire,
    .open = nng_open_end, .close = nng_close_end, .reserve = nng_reserve, .commit = nng_commit, .borrow = nng_borrow, .release = nng_release,
    .library = nng_library,
};
