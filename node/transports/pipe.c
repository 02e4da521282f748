/* pipe(2). The kernel keeps a stream of bytes, so each message is preceded by its length: 4 bytes, as the machine writes
 * an unsigned integer (both ends are on one host).
 *
 * A message costs one system call at each side, as in a bare loop: length and message are written together, and a read takes
 * the message together with the length of the *next* one, which in a stream is there already and in a ping-pong is not.
 * Pieces of up to PIPE_BUF bytes are gathered in a buffer of ours, for copying so little is cheaper than a vectored call
 * (64 bytes through writev and readv: 1.4 times the bare loop; through the buffer: as the bare loop). Larger ones go straight
 * from and to the caller's memory by writev and readv.
 *
 * What was read and not handed over (a message cut by its deadline, or more bytes than the message turned out to have) is
 * kept in `stash` and comes first the next time: a receiver loses nothing by a deadline. A sender that has written part of a
 * message must finish it; it does so for up to LAB_BLOCKING_GRACE_NS after its deadline, then the end is broken. */
#include "node/transport.h"

#include "base/error.h"
#include "node/transports/blocking.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PREFIX = sizeof(uint32_t) };

struct pipe_end {
    struct lab_end end;
    int fd;
    bool broken;           /* TX: a message was cut */
    uint32_t expect;       /* RX: length of the message before, the most likely one of the next */
    uint64_t skip;         /* RX: bytes still to come of a message that was too long */
    size_t begin, stashed; /* RX: the stash's unread bytes are stash[begin .. begin + stashed) */
    unsigned char *stash;  /* RX: room for PREFIX + message_max + PREFIX bytes */
};

static struct pipe_end *pipe_of(struct lab_end *end)
{
    return (struct pipe_end *)end;
}

/* ---- the node's side ---- */

static uint64_t pipe_size_max(void)
{
    unsigned long long most = 0;
    FILE *file = fopen("/proc/sys/fs/pipe-max-size", "re");
    if (!file)
        return 0;
    if (fscanf(file, "%llu", &most) != 1)
        most = 0;
    fclose(file);
    return most;
}

/* What a full window occupies. The kernel keeps pages: small messages share one, but none of them is split. */
static uint64_t pipe_size_for(const struct lab_channel *channel)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), framed = (uint64_t)channel->message_max + PREFIX, window = channel->window;
    if (framed > page)
        return window * ((framed + page - 1) / page) * page;
    uint64_t per_page = page / framed;
    return (window + per_page - 1) / per_page * page;
}

/* A pipe may stay smaller than the window (the administrator's limits); the sender then waits in writev. */
static void pipe_widen(int fd, uint64_t wanted)
{
    uint64_t most = pipe_size_max();
    if (wanted > most)
        wanted = most;
    int size = fcntl(fd, F_GETPIPE_SZ);
    if (size > 0 && wanted > (uint64_t)size)
        fcntl(fd, F_SETPIPE_SZ, (int)wanted);
}

static int pipe_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    int fd[2];
    if (pipe2(fd, O_CLOEXEC) < 0)
        return lab_fail(errno, "cannot make a pipe for channel %u", channel->id);
    pipe_widen(fd[1], pipe_size_for(channel));
    *ret_wire = (struct lab_wire){.fd = {[LAB_TX] = fd[1], [LAB_RX] = fd[0]}};
    return 0;
}

static void pipe_retire(const struct lab_channel *channel, struct lab_wire *wire)
{
    (void)channel;
    for (int role = 0; role < 2; role++) {
        if (wire->fd[role] >= 0)
            close(wire->fd[role]);
        wire->fd[role] = -1;
    }
}

/* ---- the worker's side ---- */

static int pipe_open(struct lab_end *end, uint64_t deadline_ns)
{
    (void)deadline_ns;
    struct pipe_end *p = pipe_of(end);
    p->fd = end->wire.fd[end->role];
    if (end->role == LAB_TX) {
        /* A reader that is gone is an outcome (-EPIPE), not a reason to die. */
        struct sigaction action;
        if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
            signal(SIGPIPE, SIG_IGN);
        return 0;
    }
    p->expect = end->channel.message_max;
    p->stash = malloc((size_t)end->channel.message_max + 2 * PREFIX);
    return p->stash ? 0 : lab_fail(ENOMEM, "no memory for a message of %u bytes", end->channel.message_max);
}

static void pipe_close(struct lab_end *end)
{
    close(pipe_of(end)->fd);
    free(pipe_of(end)->stash);
}

/* Drops the first `n` bytes of an iovec. */
static void advance(struct iovec **at, int *count, size_t n)
{
    while (*count && n >= (*at)->iov_len) {
        n -= (*at)->iov_len;
        ++*at;
        --*count;
    }
    if (*count) {
        (*at)->iov_base = (unsigned char *)(*at)->iov_base + n;
        (*at)->iov_len -= n;
    }
}

static int pipe_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    struct pipe_end *p = pipe_of(end);
    if (length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %zu bytes on a channel for %u", length, end->channel.message_max);
    if (p->broken)
        return lab_refuse(EIO, "the pipe of channel %u broke off inside an earlier message", end->channel.id);

    uint32_t prefix = (uint32_t)length;
    struct iovec pieces[2] = {{&prefix, PREFIX}, {(void *)(uintptr_t)message, length}}, *at = pieces;
    int count = 2;
    size_t whole = PREFIX + length, left = whole;
    unsigned char frame[PIPE_BUF];
    if (whole <= PIPE_BUF) {
        memcpy(frame, &prefix, PREFIX);
        memcpy(frame + PREFIX, message, length);
        pieces[0] = (struct iovec){frame, whole};
        count = 1;
    }
    uint64_t limit = deadline_ns;
    int err = lab_blocking_begin(p->fd, POLLOUT, deadline_ns);
    /* Up to PIPE_BUF bytes are written as a whole or not at all; more than that may have to wait for the reader midway. */
    if (!err && !deadline_ns && whole > PIPE_BUF) {
        limit = lab_blocking_grace(deadline_ns);
        err = lab_alarm_at(limit);
    }
    while (!err) {
        ssize_t n = count == 1 ? write(p->fd, at->iov_base, at->iov_len) : writev(p->fd, at, count);
        if (n == (ssize_t)left)
            return 0;
        if (n > 0) {
            if (left == whole)
                err = lab_alarm_at(limit = lab_blocking_grace(deadline_ns));
            left -= (size_t)n;
            advance(&at, &count, (size_t)n);
        } else {
            err = lab_blocking_interrupted(limit);
        }
    }
    if (err == -EAGAIN && left == whole)
        return err;
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the receiving end of channel %u is gone", end->channel.id);
    p->broken = true;
    if (err == -EAGAIN)
        return lab_refuse(EIO, "the receiver took %zu bytes of a message of %zu and no more by the deadline", whole - left, whole);
    return lab_fail(-err, "cannot write to the pipe of channel %u", end->channel.id);
}

/* Reads once, in order, into all the pieces: the number of bytes, more than 0, or -errno. */
static ssize_t pipe_read(struct pipe_end *p, const struct iovec *pieces, int count, uint64_t deadline_ns)
{
    int err = lab_blocking_begin(p->fd, POLLIN, deadline_ns);
    while (!err) {
        ssize_t n = count == 1 ? read(p->fd, pieces->iov_base, pieces->iov_len) : readv(p->fd, pieces, count);
        if (n > 0)
            return n;
        err = n == 0 ? -EPIPE : lab_blocking_interrupted(deadline_ns);
    }
    if (err == -EAGAIN)
        return err;
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the sending end of channel %u is gone", p->end.channel.id);
    return lab_fail(-err, "cannot read the pipe of channel %u", p->end.channel.id);
}

static void stash_add(struct pipe_end *p, const void *bytes, size_t count)
{
    memcpy(p->stash + p->begin + p->stashed, bytes, count);
    p->stashed += count;
}

static void stash_drop(struct pipe_end *p, size_t count)
{
    p->stashed -= count;
    p->begin = p->stashed ? p->begin + count : 0;
}

/* Leaves at least the length of the next message in the stash, and in `to` (room for `room` bytes) what came of the
 * message itself: 0, with the number of its bytes there. */
static int pipe_next(struct pipe_end *p, unsigned char *to, size_t room, uint64_t deadline_ns, size_t *ret_got)
{
    memmove(p->stash, p->stash + p->begin, p->stashed); /* less than PREFIX bytes */
    p->begin = 0;
    unsigned char after[PREFIX];
    size_t guess = room < p->expect ? room : p->expect;
    while (p->stashed < PREFIX) {
        size_t missing = PREFIX - p->stashed;
        if (guess <= PIPE_BUF) {
            ssize_t n = pipe_read(p, &(struct iovec){p->stash + p->stashed, missing + guess + PREFIX}, 1, deadline_ns);
            if (n < 0)
                return (int)n;
            p->stashed += (size_t)n;
            continue;
        }
        const struct iovec pieces[3] = {{p->stash + p->stashed, missing}, {to, guess}, {after, PREFIX}};
        ssize_t n = pipe_read(p, pieces, 3, deadline_ns);
        if (n < 0)
            return (int)n;
        size_t body = (size_t)n > missing ? (size_t)n - missing : 0, beyond = body > guess ? body - guess : 0;
        p->stashed += (size_t)n - body;
        body -= beyond;

        uint32_t length;
        memcpy(&length, p->stash, PREFIX);
        if (p->stashed == PREFIX && length == guess) {
            stash_add(p, after, beyond);
            *ret_got = body;
            return 0;
        }
        /* Not the length that was guessed: `to` may hold parts of other messages too. */
        stash_add(p, to, body);
        stash_add(p, after, beyond);
    }
    *ret_got = 0;
    return 0;
}

/* More of a message of which `count` bytes are missing: how many came, or -errno. The stash is empty; what comes beyond, of
 * the next message's length, goes there. */
static ssize_t pipe_more(struct pipe_end *p, unsigned char *to, size_t count, uint64_t deadline_ns)
{
    bool gather = count <= PIPE_BUF;
    const struct iovec pieces[2] = {{gather ? p->stash : to, gather ? count + PREFIX : count}, {p->stash, PREFIX}};
    ssize_t n = pipe_read(p, pieces, gather ? 1 : 2, deadline_ns);
    if (n < 0)
        return n;
    size_t got = (size_t)n < count ? (size_t)n : count;
    if (gather)
        memcpy(to, p->stash, got);
    p->stashed = (size_t)n - got;
    p->begin = gather && p->stashed ? got : 0;
    return (ssize_t)got;
}

static int pipe_skip(struct pipe_end *p, uint64_t deadline_ns)
{
    while (p->skip) {
        size_t room = (size_t)p->end.channel.message_max;
        const struct iovec piece = {p->stash, p->skip < room ? (size_t)p->skip : room};
        ssize_t n = pipe_read(p, &piece, 1, deadline_ns);
        if (n < 0)
            return (int)n;
        p->skip -= (uint64_t)n;
    }
    return 0;
}

static ssize_t pipe_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    struct pipe_end *p = pipe_of(end);
    size_t got = 0;
    int err = pipe_skip(p, deadline_ns);
    if (!err && p->stashed < PREFIX)
        err = pipe_next(p, to, room, deadline_ns, &got);
    if (err)
        return err;

    uint32_t length;
    memcpy(&length, p->stash + p->begin, PREFIX);
    if (length > end->channel.message_max)
        return lab_refuse(EBADMSG, "a message of %u bytes on channel %u, which is for %u", length, end->channel.id,
                          end->channel.message_max);
    stash_drop(p, PREFIX);
    if (got == 0) {
        size_t kept = p->stashed < length ? p->stashed : length;
        if (length <= room)
            memcpy(to, p->stash + p->begin, kept);
        stash_drop(p, kept);
        got = kept;
    }
    if (length > room) {
        p->skip = length - got;
        return lab_refuse(EMSGSIZE, "a message of %u bytes for a buffer of %zu", length, room);
    }
    p->expect = length;
    while (got < length) {
        ssize_t n = pipe_more(p, (unsigned char *)to + got, length - got, deadline_ns);
        if (n == -EAGAIN) {
            stash_add(p, &length, PREFIX);
            stash_add(p, to, got);
        }
        if (n < 0)
            return n;
        got += (size_t)n;
    }
    return (ssize_t)length;
}

const struct lab_transport_ops lab_ops_pipe = {
    .name = "pipe",
    .end_bytes = sizeof(struct pipe_end),
    .provision = pipe_provision,
    .retire = pipe_retire,
    .open = pipe_open,
    .close = pipe_close,
    .send = pipe_send,
    .recv = pipe_recv,
};
