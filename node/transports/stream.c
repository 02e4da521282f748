#include "node/transports/stream.h"

#include "base/error.h"
#include "node/transports/blocking.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PREFIX = sizeof(uint32_t), TOGETHER = 64 << 10 };

/* The length before a message, the same on every machine. */
static void put_length(unsigned char *to, uint32_t length)
{
    uint32_t little = htole32(length);
    memcpy(to, &little, PREFIX);
}

static uint32_t length_at(const unsigned char *at)
{
    uint32_t little;
    memcpy(&little, at, PREFIX);
    return le32toh(little);
}

static struct lab_stream *stream_of(struct lab_end *end)
{
    return (struct lab_stream *)end;
}

/* A reader that is gone is an outcome (-EPIPE), not a reason to die. */
static void outlive_broken_pipes(void)
{
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

/* Whether messages are short enough to be worth gathering. */
static bool goes_together(const struct lab_stream *s, size_t length)
{
    return s->together && length <= TOGETHER / 8;
}

static int make_stash(struct lab_stream *s)
{
    const struct lab_channel *channel = &s->end.channel;
    size_t room = s->end.role == LAB_RX ? (size_t)channel->message_max + 2 * PREFIX : 0;
    s->together = channel->batch > 1 ? TOGETHER : 0;
    room = room > s->together ? room : s->together;
    s->stash = room ? malloc(room) : NULL;
    return s->stash || !room ? 0 : lab_fail(ENOMEM, "no memory for a message of %u bytes", channel->message_max);
}

int lab_stream_open(struct lab_end *end, uint64_t deadline_ns)
{
    (void)deadline_ns;
    struct lab_stream *s = stream_of(end);
    struct stat facts;
    s->fd = end->wire.fd[end->role];
    if (fstat(s->fd, &facts) < 0 || (end->channel.wait == LAB_WAIT_POLL && fcntl(s->fd, F_SETFL, O_NONBLOCK) < 0))
        return lab_fail(errno, "cannot use the descriptor of channel %u", end->channel.id);
    s->atomic = end->role == LAB_TX && S_ISFIFO(facts.st_mode) ? PIPE_BUF : 0;
    s->ahead = end->role == LAB_RX && S_ISFIFO(facts.st_mode) ? PREFIX : 0;
    s->expect = end->channel.message_max;
    if (end->role == LAB_TX)
        outlive_broken_pipes();
    return make_stash(s);
}

void lab_stream_close(struct lab_end *end)
{
    close(stream_of(end)->fd);
    free(stream_of(end)->stash);
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

/* What is being written: messages of one length, each `framed` bytes with what precedes it, one behind the other in `pieces`. */
struct batch {
    struct iovec *at;
    int count;
    size_t framed, left, whole;
};

static int cut(struct lab_stream *s, const struct batch *batch, int err)
{
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the receiving end of channel %u is gone", s->end.channel.id);
    s->broken = true;
    if (err == -EAGAIN)
        return lab_refuse(EIO, "the receiver took %zu bytes of a message of %zu and no more by the deadline",
                          (batch->whole - batch->left) % batch->framed, batch->framed);
    return lab_fail(-err, "cannot write to channel %u", s->end.channel.id);
}

/* Once a message is begun it is finished, and those behind it that are not begun are left. How many were sent, or -errno. */
static int write_batch(struct lab_stream *s, struct batch *batch, uint64_t deadline_ns)
{
    uint64_t limit = deadline_ns;
    enum lab_wait wait = s->end.channel.wait;
    int err = lab_blocking_begin(s->fd, POLLOUT, wait, deadline_ns);
    /* It may have to wait for the reader midway, though it began at once. */
    if (!err && !deadline_ns && batch->whole > s->atomic) {
        limit = lab_blocking_grace(deadline_ns);
        err = lab_alarm_at(limit);
    }
    while (!err) {
        ssize_t n = batch->count == 1 ? write(s->fd, batch->at->iov_base, batch->at->iov_len) : writev(s->fd, batch->at, batch->count);
        if (n == (ssize_t)batch->framed && n == (ssize_t)batch->left)
            return 1; /* most often: one message, at once, without a division */
        if (n > 0) {
            batch->left -= (size_t)n;
            size_t written = batch->whole - batch->left, begun = written % batch->framed;
            if (!begun)
                return (int)(written / batch->framed);
            err = lab_alarm_at(limit = lab_blocking_grace(deadline_ns));
            advance(&batch->at, &batch->count, (size_t)n);
            if (batch->left > batch->framed - begun) { /* of several: what is gathered lies in one piece */
                batch->at->iov_len = batch->framed - begun;
                batch->whole -= batch->left - batch->at->iov_len;
                batch->left = batch->at->iov_len;
            }
        } else {
            err = lab_blocking_again(s->fd, POLLOUT, wait, limit);
        }
    }
    return err == -EAGAIN && batch->left == batch->whole ? err : cut(s, batch, err);
}

static int check_send(const struct lab_stream *s, size_t length)
{
    if (length > s->end.channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %zu bytes on a channel for %u", length, s->end.channel.message_max);
    return s->broken ? lab_refuse(EIO, "channel %u broke off inside an earlier message", s->end.channel.id) : 0;
}

int lab_stream_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    struct lab_stream *s = stream_of(end);
    int err = check_send(s, length);
    if (err)
        return err;
    unsigned char prefix[PREFIX], frame[PIPE_BUF];
    struct iovec pieces[2] = {{prefix, PREFIX}, {(void *)(uintptr_t)message, length}};
    struct batch batch = {.at = pieces, .count = 2, .framed = PREFIX + length, .left = PREFIX + length, .whole = PREFIX + length};
    put_length(prefix, (uint32_t)length);
    if (batch.whole <= PIPE_BUF) {
        memcpy(frame, prefix, PREFIX);
        memcpy(frame + PREFIX, message, length);
        pieces[0] = (struct iovec){frame, batch.whole};
        batch.count = 1;
    }
    int sent = write_batch(s, &batch, deadline_ns);
    return sent < 0 ? sent : 0;
}

int lab_stream_send_many(struct lab_end *end, const struct lab_span *span, uint64_t deadline_ns)
{
    struct lab_stream *s = stream_of(end);
    /* Who only tries must not have to finish many. */
    if (!deadline_ns || span->count == 1 || !goes_together(s, span->length)) {
        int alone = lab_stream_send(end, span->at, span->length, deadline_ns);
        return alone ? alone : 1;
    }
    int err = check_send(s, span->length);
    if (err)
        return err;
    size_t framed = PREFIX + span->length, whole = 0;
    for (uint32_t i = 0; i < span->count && whole + framed <= s->together; i++, whole += framed) {
        put_length(s->stash + whole, span->length);
        memcpy(s->stash + whole + PREFIX, span->at + i * span->stride, span->length);
    }
    struct iovec piece = {s->stash, whole};
    struct batch batch = {.at = &piece, .count = 1, .framed = framed, .left = whole, .whole = whole};
    return write_batch(s, &batch, deadline_ns);
}

/* Reads once, in order, into all the pieces: the number of bytes, more than 0, or -errno. */
static ssize_t read_some(struct lab_stream *s, const struct iovec *pieces, int count, uint64_t deadline_ns)
{
    int err = lab_blocking_begin(s->fd, POLLIN, s->end.channel.wait, deadline_ns);
    while (!err) {
        ssize_t n = count == 1 ? read(s->fd, pieces->iov_base, pieces->iov_len) : readv(s->fd, pieces, count);
        if (n > 0)
            return n;
        err = n == 0 ? -EPIPE : lab_blocking_again(s->fd, POLLIN, s->end.channel.wait, deadline_ns);
    }
    if (err == -EAGAIN)
        return err;
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the sending end of channel %u is gone", s->end.channel.id);
    return lab_fail(-err, "cannot read from channel %u", s->end.channel.id);
}

static void stash_add(struct lab_stream *s, const void *bytes, size_t count)
{
    memcpy(s->stash + s->begin + s->stashed, bytes, count);
    s->stashed += count;
}

static void stash_drop(struct lab_stream *s, size_t count)
{
    s->stashed -= count;
    s->begin = s->stashed ? s->begin + count : 0;
}

/* Leaves at least the length of the next message in the stash, and in `to` (room for `room` bytes) what came of the
 * message itself: 0, with the number of its bytes there. */
static int begin_next(struct lab_stream *s, unsigned char *to, size_t room, uint64_t deadline_ns, size_t *ret_got)
{
    memmove(s->stash, s->stash + s->begin, s->stashed); /* less than PREFIX bytes */
    s->begin = 0;
    unsigned char after[PREFIX];
    size_t guess = room < s->expect ? room : s->expect;
    while (s->stashed < PREFIX) {
        size_t missing = PREFIX - s->stashed;
        if (guess <= PIPE_BUF) {
            ssize_t n = read_some(s, &(struct iovec){s->stash + s->stashed, missing + guess + s->ahead}, 1, deadline_ns);
            if (n < 0)
                return (int)n;
            s->stashed += (size_t)n;
            continue;
        }
        const struct iovec pieces[3] = {{s->stash + s->stashed, missing}, {to, guess}, {after, s->ahead}};
        ssize_t n = read_some(s, pieces, 3, deadline_ns);
        if (n < 0)
            return (int)n;
        size_t body = (size_t)n > missing ? (size_t)n - missing : 0, beyond = body > guess ? body - guess : 0;
        s->stashed += (size_t)n - body;
        body -= beyond;

        if (s->stashed == PREFIX && length_at(s->stash) == guess) {
            stash_add(s, after, beyond);
            *ret_got = body;
            return 0;
        }
        /* Not the length that was guessed: `to` may hold parts of other messages too. */
        stash_add(s, to, body);
        stash_add(s, after, beyond);
    }
    *ret_got = 0;
    return 0;
}

/* More of a message of which `count` bytes are missing: how many came, or -errno. The stash is empty; what comes beyond, of
 * the next message's length, goes there. */
static ssize_t read_more(struct lab_stream *s, unsigned char *to, size_t count, uint64_t deadline_ns)
{
    bool gather = count <= PIPE_BUF;
    const struct iovec pieces[2] = {{gather ? s->stash : to, gather ? count + s->ahead : count}, {s->stash, s->ahead}};
    ssize_t n = read_some(s, pieces, gather ? 1 : 2, deadline_ns);
    if (n < 0)
        return n;
    size_t got = (size_t)n < count ? (size_t)n : count;
    if (gather)
        memcpy(to, s->stash, got);
    s->stashed = (size_t)n - got;
    s->begin = gather && s->stashed ? got : 0;
    return (ssize_t)got;
}

static int skip_rest(struct lab_stream *s, uint64_t deadline_ns)
{
    while (s->skip) {
        size_t room = (size_t)s->end.channel.message_max;
        const struct iovec piece = {s->stash, s->skip < room ? (size_t)s->skip : room};
        ssize_t n = read_some(s, &piece, 1, deadline_ns);
        if (n < 0)
            return (int)n;
        s->skip -= (uint64_t)n;
    }
    return 0;
}

ssize_t lab_stream_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    struct lab_stream *s = stream_of(end);
    size_t got = 0;
    int err = skip_rest(s, deadline_ns);
    if (!err && s->stashed < PREFIX)
        err = begin_next(s, to, room, deadline_ns, &got);
    if (err)
        return err;

    uint32_t length = length_at(s->stash + s->begin);
    if (length > end->channel.message_max)
        return lab_refuse(EBADMSG, "a message of %u bytes on channel %u, which is for %u", length, end->channel.id,
                          end->channel.message_max);
    stash_drop(s, PREFIX);
    if (got == 0) {
        size_t kept = s->stashed < length ? s->stashed : length;
        if (length <= room)
            memcpy(to, s->stash + s->begin, kept);
        stash_drop(s, kept);
        got = kept;
    }
    if (length > room) {
        s->skip = length - got;
        return lab_refuse(EMSGSIZE, "a message of %u bytes for a buffer of %zu", length, room);
    }
    s->expect = length;
    while (got < length) {
        ssize_t n = read_more(s, (unsigned char *)to + got, length - got, deadline_ns);
        if (n == -EAGAIN) {
            unsigned char prefix[PREFIX];
            put_length(prefix, length);
            stash_add(s, prefix, PREFIX);
            stash_add(s, to, got);
        }
        if (n < 0)
            return n;
        got += (size_t)n;
    }
    return (ssize_t)length;
}

/* Hands over the messages that are whole in the stash: how many. */
static int take_stashed(struct lab_stream *s, unsigned char *to, size_t stride, uint32_t want, uint32_t *ret_lengths)
{
    uint32_t count = 0;
    for (; count < want && s->stashed >= PREFIX; count++) {
        uint32_t length = length_at(s->stash + s->begin);
        if (length > s->end.channel.message_max || s->stashed - PREFIX < length)
            break;
        memcpy(to + count * stride, s->stash + s->begin + PREFIX, length);
        ret_lengths[count] = s->expect = length;
        stash_drop(s, PREFIX + length);
    }
    return (int)count;
}

static int read_together(struct lab_stream *s, uint64_t deadline_ns)
{
    memmove(s->stash, s->stash + s->begin, s->stashed); /* a part of a message */
    s->begin = 0;
    ssize_t n = read_some(s, &(struct iovec){s->stash + s->stashed, s->together - s->stashed}, 1, deadline_ns);
    s->stashed += n > 0 ? (size_t)n : 0;
    return n < 0 ? (int)n : 0;
}

/* In places that are too short for some messages they come one by one, and so does one that is not whole after a read. */
int lab_stream_recv_many(struct lab_end *end, void *to, size_t stride, uint32_t want, uint64_t deadline_ns, uint32_t *ret_lengths)
{
    struct lab_stream *s = stream_of(end);
    int got = 0, err = 0;
    if (stride >= end->channel.message_max && !s->skip) {
        got = take_stashed(s, to, stride, want, ret_lengths);
        if (!got && goes_together(s, s->expect) && s->stashed < TOGETHER / 4)
            err = read_together(s, deadline_ns);
        if (!got && !err)
            got = take_stashed(s, to, stride, want, ret_lengths);
    }
    if (got || err)
        return got ? got : err;
    ssize_t alone = lab_stream_recv(end, to, stride, deadline_ns);
    if (alone < 0)
        return (int)alone;
    ret_lengths[0] = (uint32_t)alone;
    return 1;
}
