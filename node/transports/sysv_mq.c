/* sysv-mq: a message queue of System V, one message in it for each of ours. Its calls want the bytes behind a number, the type, so that a
 * message is copied to and from such a place: one copy more at each side than the mechanism's own.
 *
 * A queue has no ends. A sender that leaves, or the node for one that was killed, sends a message of no bytes, which is the end: it always
 * finds room, for a queue is full of bytes and not of messages (which are of several bytes each). A receiver that leaves removes the queue,
 * and a sender, asleep or not, is told by EIDRM.
 *
 * A queue lives until it is removed. One whose node was killed is known by its key (shm/backing.h) and by who used it last: the node
 * itself sends and receives once before anybody else does (sweep/clean.h).
 *
 * Limits: kernel.msgmax bytes in a message, kernel.msgmnb in a queue, which CAP_SYS_RESOURCE goes beyond. */
#include "node/transport.h"

#include "base/error.h"
#include "base/text.h"
#include "node/transports/blocking.h"
#include "node/transports/figure.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/random.h>

enum { ATTEMPTS = 64, OWNER_ONLY = 0600, TYPE = 1 };

struct place {
    long type;
    unsigned char bytes[];
};

struct msg_end {
    struct lab_end end;
    int id;
    bool finished; /* RX: the message that is the end has come */
    struct place *place;
};

static struct msg_end *msg_of(struct lab_end *end)
{
    return (struct msg_end *)end;
}

static int id_of(const struct lab_wire *wire, int *ret_id)
{
    uint64_t id;
    if (lab_parse_count(wire->address, &id) || id > INT_MAX)
        return lab_refuse(EPROTO, "'%s' is not the number of a message queue", wire->address);
    *ret_id = (int)id;
    return 0;
}

/* ---- the node's side ---- */

static int msg_usable(void)
{
    return lab_figure_read("/proc/sys/kernel/msgmax") ? 0 : lab_refuse(ENOSYS, "this kernel was built without message queues of System V");
}

static int get_queue(const struct lab_channel *channel, int *ret_id)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint32_t random;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
            return lab_fail(errno, "no key for the queue of channel %u", channel->id);
        *ret_id = msgget((key_t)(LAB_SYSV_KEY | (random & ~LAB_SYSV_KEY_MASK)), IPC_CREAT | IPC_EXCL | OWNER_ONLY);
        if (*ret_id >= 0)
            return 0;
        if (errno != EEXIST)
            break;
    }
    return lab_fail(errno, "cannot make a message queue for channel %u; the limit is sysctl kernel.msgmni", channel->id);
}

/* The node is then who used it last. */
static bool use_once(int id)
{
    struct place hello = {.type = TYPE};
    return msgsnd(id, &hello, 0, IPC_NOWAIT) == 0 && msgrcv(id, &hello, 0, 0, IPC_NOWAIT) == 0;
}

/* Room for a window, or what the limits leave of it: the sender then waits in msgsnd. */
static bool widen(int id, const struct lab_channel *channel, struct lab_kernel_buffer *ret_buffer)
{
    struct msqid_ds facts;
    uint64_t wanted = (uint64_t)channel->window * channel->message_max;
    if (msgctl(id, IPC_STAT, &facts) < 0)
        return false;
    bool roomy = wanted <= facts.msg_qbytes;
    if (!roomy) {
        facts.msg_qbytes = wanted < INT_MAX ? wanted : INT_MAX;
        roomy = msgctl(id, IPC_SET, &facts) == 0 || errno == EPERM;
    }
    if (!roomy || msgctl(id, IPC_STAT, &facts) < 0)
        return false;
    *ret_buffer = (struct lab_kernel_buffer){.requested = wanted, .actual = facts.msg_qbytes};
    return true;
}

/* What one message may have. A queue is as large as msgmnb, be it by IPC_SET or not: it is asked of one that is empty. */
static int msg_limit(const struct lab_channel *channel, struct lab_bound *ret_bound)
{
    uint64_t most = lab_figure_read("/proc/sys/kernel/msgmax"), queue = lab_figure_read("/proc/sys/kernel/msgmnb");
    ret_bound->longest = most < queue ? most : queue;
    snprintf(ret_bound->mend, sizeof ret_bound->mend, "as root: sysctl kernel.msgmax=%u kernel.msgmnb=%u",
             channel->message_max, channel->message_max > queue ? channel->message_max : (unsigned)queue);
    return 0;
}

static int msg_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    int id;
    struct lab_bound bound;
    struct lab_kernel_buffer buffer;
    int err = msg_limit(channel, &bound);
    if (!err && channel->message_max > bound.longest)
        err = lab_refuse(EMSGSIZE, "a message queue carries %llu bytes in a message, and %u are needed; %s", (unsigned long long)bound.longest,
                         channel->message_max, bound.mend);
    if (!err)
        err = get_queue(channel, &id);
    if (err)
        return err;
    if (!use_once(id) || !widen(id, channel, &buffer)) {
        err = lab_fail(errno, "cannot use the message queue of channel %u", channel->id);
        msgctl(id, IPC_RMID, NULL);
        return err;
    }
    *ret_wire = (struct lab_wire){.fd = {-1, -1}, .buffer = buffer};
    snprintf(ret_wire->address, sizeof ret_wire->address, "%d", id);
    return 0;
}

static void msg_retire(const struct lab_channel *channel, struct lab_wire *wire)
{
    int id;
    (void)channel;
    if (wire->address[0] && id_of(wire, &id) == 0)
        msgctl(id, IPC_RMID, NULL);
    wire->address[0] = '\0';
}

/* An end that leaves, or was made to. */
static void leave(int id, enum lab_role role)
{
    const struct place goodbye = {.type = TYPE};
    if (role == LAB_TX)
        msgsnd(id, &goodbye, 0, IPC_NOWAIT);
    else
        msgctl(id, IPC_RMID, NULL);
}

static void msg_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead)
{
    int id;
    (void)channel;
    if (id_of(wire, &id) == 0)
        leave(id, dead);
}

/* ---- the worker's ---- */

static int msg_open(struct lab_end *end, uint64_t deadline_ns)
{
    (void)deadline_ns;
    struct msg_end *m = msg_of(end);
    int err = id_of(&end->wire, &m->id);
    if (err)
        return err;
    m->place = malloc(sizeof *m->place + end->channel.message_max);
    if (!m->place)
        return lab_fail(ENOMEM, "no memory for a message of %u bytes", end->channel.message_max);
    m->place->type = TYPE;
    return 0;
}

static void msg_close(struct lab_end *end)
{
    leave(msg_of(end)->id, end->role);
    free(msg_of(end)->place);
}

/* After a call that failed: as lab_blocking_interrupted(). A queue that has been removed is not there (EINVAL) for the next call. */
static int failed(uint64_t deadline_ns)
{
    return errno == EIDRM || errno == EINVAL ? -EPIPE : errno == ENOMSG ? -EAGAIN : lab_blocking_interrupted(deadline_ns);
}

static int msg_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    struct msg_end *m = msg_of(end);
    if (length == 0 || length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %zu bytes on a channel for 1 to %u", length, end->channel.message_max);
    memcpy(m->place->bytes, message, length);
    int err = deadline_ns ? lab_alarm_at(deadline_ns) : 0;
    while (!err) {
        if (msgsnd(m->id, m->place, length, deadline_ns ? 0 : IPC_NOWAIT) == 0)
            return 0;
        err = failed(deadline_ns);
    }
    if (err == -EAGAIN)
        return err;
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the receiving end of channel %u is gone", end->channel.id);
    return lab_fail(-err, "cannot send to the message queue of channel %u", end->channel.id);
}

static ssize_t msg_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    struct msg_end *m = msg_of(end);
    int err = m->finished ? -EPIPE : deadline_ns ? lab_alarm_at(deadline_ns) : 0;
    ssize_t n = 0;
    while (!err && (n = msgrcv(m->id, m->place, end->channel.message_max, 0, deadline_ns ? 0 : IPC_NOWAIT)) <= 0) {
        m->finished = n == 0;
        err = n == 0 ? -EPIPE : failed(deadline_ns);
    }
    if (err == -EAGAIN)
        return err;
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the sending end of channel %u is gone", end->channel.id);
    if (err)
        return lab_fail(-err, "cannot receive from the message queue of channel %u", end->channel.id);
    if (n > (ssize_t)room)
        return lab_refuse(EMSGSIZE, "a message of %zd bytes for a buffer of %zu", n, room);
    memcpy(to, m->place->bytes, (size_t)n);
    return n;
}

const struct lab_transport_ops lab_ops_sysv_mq = {
    .name = "sysv-mq",
    .end_bytes = sizeof(struct msg_end),
    .usable = msg_usable,
    .limit = msg_limit,
    .provision = msg_provision,
    .retire = msg_retire,
    .hangup = msg_hangup,
    .open = msg_open,
    .close = msg_close,
    .send = msg_send,
    .recv = msg_recv,
};
