/* posix-mq: a POSIX message queue, one message in it for each of ours. It is made under a name that is gone at once (base/leftover.h), and
 * inherited: on Linux a queue is a descriptor.
 *
 * A queue has no ends, and nobody is told when one is gone. But both ends hold one open file of it, and whether that one blocks is a
 * flag that both share: who leaves, or the node for one that was killed, sets O_NONBLOCK. A receiver goes on as long as there are messages, and an empty
 * queue, which it would sleep at, then tells the end; so does a full one a sender. Who sleeps already is woken: a receiver by a message of no
 * bytes, for an empty queue has room, and a sender by taking a message out. A deadline of 0 needs no flag: the timed calls do not wait for a time
 * that has passed.
 *
 * Limits: fs.mqueue.msgsize_max and msg_max, which CAP_SYS_RESOURCE goes beyond, and RLIMIT_MSGQUEUE, for all queues of a user, which the
 * node raises as far as it may. The depth is the window, or what there is of it: the sender then waits in mq_send. */
#include "node/transport.h"

#include "base/error.h"
#include "base/leftover.h"
#include "node/transports/blocking.h"
#include "node/transports/figure.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { DEPTH_MAX = 65536, ATTEMPTS = 64, OWNER_ONLY = 0600, OVERHEAD = 256 /* of a queue and a message, counted against RLIMIT_MSGQUEUE */ };

struct mq_end {
    struct lab_end end;
    mqd_t queue;
    bool finished;         /* RX: the message that is the end has come */
    unsigned char *bounce; /* RX: room for a message, where the caller's is too small for mq_receive */
};

static struct mq_end *mq_of(struct lab_end *end)
{
    return (struct mq_end *)end;
}

/* ---- the node's side ---- */

static int mq_usable(void)
{
    return lab_figure_read("/proc/sys/fs/mqueue/msg_max") ? 0 : lab_refuse(ENOSYS, "this kernel was built without POSIX message queues");
}

static void raise_limit(void)
{
    struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_MSGQUEUE, &most) == 0 || getrlimit(RLIMIT_MSGQUEUE, &most) < 0)
        return;
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_MSGQUEUE, &most);
}

/* One without a name: 0, or -errno as mq_open has it, not recorded. */
static int make_queue(uint32_t depth, uint32_t length, mqd_t *ret_queue)
{
    char text[LAB_LEFTOVER_QUEUE_NAME];
    const char *name = lab_leftover_queue(text);
    struct mq_attr attr = {.mq_maxmsg = depth, .mq_msgsize = length};
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, OWNER_ONLY, &attr);
        int code = errno;
        if (queue >= 0 || code == EEXIST)
            mq_unlink(name);
        if (queue >= 0) {
            *ret_queue = queue;
            return 0;
        }
        if (code != EEXIST)
            return -code;
    }
    return -EEXIST;
}

static int refuse(const struct lab_channel *channel, int err)
{
    unsigned length = channel->message_max;
    switch (-err) {
    case EINVAL: return lab_refuse(EMSGSIZE, "a message queue for %u bytes is beyond fs.mqueue.msgsize_max", length);
    case EMFILE: return lab_refuse(ENOBUFS, "a message queue for %u bytes is beyond RLIMIT_MSGQUEUE, which is for all queues of this user (ulimit -q)", length);
    case ENOSPC: return lab_refuse(ENOSPC, "there are as many message queues as may be; as root: sysctl fs.mqueue.queues_max=4096");
    default: return lab_fail(-err, "cannot make a message queue for channel %u", channel->id);
    }
}

/* As deep as the window, where the limits leave that, else as deep as they do. */
static int make_deep(const struct lab_channel *channel, mqd_t *ret_queue)
{
    uint32_t depth = channel->window < DEPTH_MAX ? channel->window : DEPTH_MAX, most = (uint32_t)lab_figure_read("/proc/sys/fs/mqueue/msg_max");
    for (;;) {
        int err = make_queue(depth, channel->message_max, ret_queue);
        if (err == -EINVAL && depth > most && most)
            depth = most;
        else if (err == -EMFILE && depth > 1)
            depth /= 2;
        else
            return err;
    }
}

/* Asks by making one: what is beyond msgsize_max may be allowed to this process. */
static int mq_limit(const struct lab_channel *channel, struct lab_bound *ret_bound)
{
    mqd_t queue;
    struct rlimit bytes = {0};
    raise_limit();
    int err = make_queue(1, channel->message_max, &queue);
    if (err && err != -EINVAL && err != -EMFILE)
        return refuse(channel, err);
    struct lab_bound bound = {.longest = channel->message_max};
    if (!err) {
        mq_close(queue);
    } else if (err == -EINVAL) {
        bound.longest = lab_figure_read("/proc/sys/fs/mqueue/msgsize_max");
        snprintf(bound.mend, sizeof bound.mend, "as root: sysctl fs.mqueue.msgsize_max=%u", channel->message_max);
    } else {
        getrlimit(RLIMIT_MSGQUEUE, &bytes);
        bound.longest = bytes.rlim_cur > OVERHEAD ? bytes.rlim_cur - OVERHEAD : 0;
        snprintf(bound.mend, sizeof bound.mend, "as root: prlimit --pid $$ --msgqueue=%llu", (unsigned long long)channel->message_max + OVERHEAD);
        /* Others' queues count too. */
        if (bound.longest >= channel->message_max)
            bound.longest = channel->message_max - 1;
    }
    *ret_bound = bound;
    return 0;
}

static int mq_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    mqd_t queue = -1;
    raise_limit();
    int err = make_deep(channel, &queue);
    if (err)
        return refuse(channel, err);
    int other = fcntl(queue, F_DUPFD_CLOEXEC, 0);
    if (other < 0) {
        err = lab_fail(errno, "cannot duplicate the message queue of channel %u", channel->id);
        mq_close(queue);
        return err;
    }
    struct mq_attr attr = {0};
    mq_getattr(queue, &attr);
    *ret_wire = (struct lab_wire){
        .fd = {[LAB_TX] = queue, [LAB_RX] = other},
        .buffer = {.requested = (uint64_t)channel->window * channel->message_max, .actual = (uint64_t)attr.mq_maxmsg * (uint64_t)attr.mq_msgsize},
    };
    return 0;
}

/* An end that leaves, or was made to. */
static void leave(const struct lab_channel *channel, mqd_t queue, enum lab_role role)
{
    const struct mq_attr do_not_block = {.mq_flags = O_NONBLOCK};
    mq_setattr(queue, &do_not_block, NULL);
    if (role == LAB_TX) {
        mq_send(queue, "", 0, 0);
        return;
    }
    char *taken = malloc(channel->message_max);
    if (taken)
        mq_receive(queue, taken, channel->message_max, NULL);
    free(taken);
}

static void mq_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead)
{
    leave(channel, wire->fd[dead], dead);
}

/* ---- the worker's ---- */

static int mq_open_end(struct lab_end *end, uint64_t deadline_ns)
{
    (void)deadline_ns;
    struct mq_end *m = mq_of(end);
    m->queue = end->wire.fd[end->role];
    if (end->role == LAB_TX)
        return 0;
    m->bounce = malloc(end->channel.message_max);
    return m->bounce ? 0 : lab_fail(ENOMEM, "no memory for a message of %u bytes", end->channel.message_max);
}

static void mq_close_end(struct lab_end *end)
{
    struct mq_end *m = mq_of(end);
    leave(&end->channel, m->queue, end->role);
    mq_close(m->queue);
    free(m->bounce);
}

static const struct timespec passed; /* a time for the timed calls that do not wait */

/* After a call that failed: as lab_blocking_interrupted(). Only who left makes a queue say EAGAIN. */
static int failed(uint64_t deadline_ns)
{
    return errno == EAGAIN ? -EPIPE : errno == ETIMEDOUT ? -EAGAIN : lab_blocking_interrupted(deadline_ns);
}

static int mq_send_message(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    struct mq_end *m = mq_of(end);
    if (length == 0 || length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %zu bytes on a channel for 1 to %u", length, end->channel.message_max);
    int err = deadline_ns ? lab_alarm_at(deadline_ns) : 0;
    while (!err) {
        if ((deadline_ns ? mq_send(m->queue, message, length, 0) : mq_timedsend(m->queue, message, length, 0, &passed)) == 0)
            return 0;
        err = failed(deadline_ns);
    }
    if (err == -EAGAIN)
        return err;
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the receiving end of channel %u is gone", end->channel.id);
    return lab_fail(-err, "cannot send to the message queue of channel %u", end->channel.id);
}

/* `to` has room for any message. */
static ssize_t receive(struct mq_end *m, void *to, uint64_t deadline_ns)
{
    size_t room = m->end.channel.message_max;
    int err = m->finished ? -EPIPE : deadline_ns ? lab_alarm_at(deadline_ns) : 0;
    while (!err) {
        ssize_t n = deadline_ns ? mq_receive(m->queue, to, room, NULL) : mq_timedreceive(m->queue, to, room, NULL, &passed);
        if (n > 0)
            return n;
        m->finished = n == 0;
        err = n == 0 ? -EPIPE : failed(deadline_ns);
    }
    if (err == -EAGAIN)
        return err;
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the sending end of channel %u is gone", m->end.channel.id);
    return lab_fail(-err, "cannot receive from the message queue of channel %u", m->end.channel.id);
}

static ssize_t mq_recv_message(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    struct mq_end *m = mq_of(end);
    if (room >= end->channel.message_max)
        return receive(m, to, deadline_ns);
    ssize_t n = receive(m, m->bounce, deadline_ns);
    if (n > (ssize_t)room)
        return lab_refuse(EMSGSIZE, "a message of %zd bytes for a buffer of %zu", n, room);
    if (n > 0)
        memcpy(to, m->bounce, (size_t)n);
    return n;
}

const struct lab_transport_ops lab_ops_posix_mq = {
    .name = "posix-mq",
    .end_bytes = sizeof(struct mq_end),
    .usable = mq_usable,
    .limit = mq_limit,
    .provision = mq_provision,
    .retire = lab_wire_retire,
    .hangup = mq_hangup,
    .open = mq_open_end,
    .close = mq_close_end,
    .send = mq_send_message,
    .recv = mq_recv_message,
};
