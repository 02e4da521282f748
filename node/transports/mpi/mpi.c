/* mpi: two-sided messages between ranks of MPI_COMM_WORLD; the channel's number is the tag.
 *
 * All operations are non-blocking ones, polled (node/transports/mpi/world.h says why). A sender that closes says so with a message of no
 * bytes; a receiver that closes cannot tell. A send that has begun cannot be taken back: a deadline in it is the end of MPI in this process
 * (-EIO).
 *
 * A receive is posted when somebody asks for a message, and no sooner: MPICH over UCX goes through all that are posted, whatever their tags, for each message
 * that arrives. Sixteen posted ahead, into places of our own, gained a stream of short messages nothing. */
#include "node/transports/mpi/world.h"

#include "base/clock.h"
#include "base/error.h"
#include "node/transports/mpi/carrier.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define DRAIN_WITHIN_NS (20 * LAB_NS_PER_MS)

struct mpi_end {
    struct lab_end end;
    int peer, tag;
    bool finished;              /* RX: the sender has closed */
    MPI_Request received;       /* RX: complete, to be given back */
    MPI_Status status;          /* RX: of the message received last, and ... */
    int length;                 /* ... its length */
};

static struct mpi_end *mpi_of(struct lab_end *end)
{
    return (struct mpi_end *)end;
}

/* ---- sending ---- */

static int mpi_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    struct mpi_end *m = mpi_of(end);
    MPI_Request request;
    if (length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %zu bytes on a channel of at most %u", length, end->channel.message_max);
    if (lab_mpi_broken())
        return lab_mpi_refuse_broken();
    int code = MPI_Isend(message, (int)length, MPI_BYTE, m->peer, m->tag, MPI_COMM_WORLD, &request);
    if (code != MPI_SUCCESS)
        return lab_mpi_failed(code, "MPI_Isend");
    if (lab_mpi_complete(request, MPI_STATUS_IGNORE, deadline_ns ? deadline_ns : lab_now_ns() + LAB_MPI_CLOSE_WITHIN_NS, &code)) {
        lab_mpi_break();
        return lab_refuse(EIO, "rank %d did not take a message of %zu bytes before the deadline", m->peer, length);
    }
    lab_mpi_give_back(&request);
    return code == MPI_SUCCESS ? 0 : lab_mpi_failed(code, "MPI_Isend");
}

/* ---- receiving ---- */

/* Word by word, as it was written: what is loaded in larger pieces than it was stored in has to wait for the cache. */
static bool same(const MPI_Status *a, const MPI_Status *b)
{
    const unsigned char *of_a = (const unsigned char *)a, *of_b = (const unsigned char *)b;
    for (size_t at = 0; at < sizeof *a; at += sizeof(int)) {
        int word_a, word_b;
        memcpy(&word_a, of_a + at, sizeof word_a);
        memcpy(&word_b, of_b + at, sizeof word_b);
        if (word_a != word_b)
            return false;
    }
    return true;
}
_Static_assert(sizeof(MPI_Status) % sizeof(int) == 0, "statuses can be compared by words");

/* The length that a status tells. One like the one before tells the same: to ask takes as long as a quarter of an MPI_Isend, with
 * somebody waiting for the answer. A status must have been zeroed before MPI filled it in, which it does in part. */
static int length_of(struct mpi_end *m, const MPI_Status *status)
{
    if (!same(status, &m->status)) {
        MPI_Get_count(status, MPI_BYTE, &m->length);
        m->status = *status;
    }
    return m->length;
}

static ssize_t received(struct mpi_end *m, int code, const MPI_Status *status)
{
    int kind = 0;
    if (code != MPI_SUCCESS) {
        MPI_Error_class(code, &kind);
        if (kind == MPI_ERR_TRUNCATE)
            return lab_refuse(EMSGSIZE, "a message of rank %d was longer than the buffer", m->peer);
        return lab_mpi_failed(code, "MPI_Irecv");
    }
    int length = length_of(m, status);
    if (length)
        return length;
    m->finished = true;
    return lab_refuse(EPIPE, "rank %d has closed channel %u", m->peer, m->end.channel.id);
}

static ssize_t take_if_there(struct mpi_end *m, void *to, size_t room)
{
    int there = 0;
    MPI_Message message;
    MPI_Status status = {0};
    int code = MPI_Improbe(m->peer, m->tag, MPI_COMM_WORLD, &there, &message, &status);
    if (code != MPI_SUCCESS)
        return lab_mpi_failed(code, "MPI_Improbe");
    if (!there)
        return -EAGAIN;
    code = MPI_Mrecv(to, (int)room, MPI_BYTE, &message, &status);
    return received(m, code, &status);
}

static ssize_t mpi_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    struct mpi_end *m = mpi_of(end);
    MPI_Request request;
    MPI_Status status = {0};
    lab_mpi_give_back(&m->received);
    if (m->finished)
        return lab_refuse(EPIPE, "rank %d has closed channel %u", m->peer, end->channel.id);
    if (!deadline_ns)
        return take_if_there(m, to, room);
    int code = MPI_Irecv(to, (int)room, MPI_BYTE, m->peer, m->tag, MPI_COMM_WORLD, &request);
    if (code != MPI_SUCCESS)
        return lab_mpi_failed(code, "MPI_Irecv");
    if (lab_mpi_complete(request, &status, deadline_ns, &code)) {
        int cancelled = 0;
        MPI_Cancel(&request);
        code = MPI_Wait(&request, &status);
        MPI_Test_cancelled(&status, &cancelled);
        if (cancelled)
            return -EAGAIN;
    }
    m->received = request;
    return received(m, code, &status);
}

/* ---- the life of an end ---- */

static int mpi_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct mpi_end *m = mpi_of(end);
    (void)deadline_ns;
    int err = lab_mpi_join(end, &m->peer);
    if (err)
        return err;
    m->tag = lab_mpi_tag(&end->channel);
    m->received = MPI_REQUEST_NULL;
    return 0;
}

/* Takes the sender's last message, if it comes soon. One that is left behind does no harm, for the next launch has other tags;
 * it is only memory of a process that may live on. */
static void drain(struct mpi_end *m)
{
    uint64_t deadline_ns = lab_now_ns() + DRAIN_WITHIN_NS;
    size_t room = m->end.channel.message_max;
    unsigned char *ignored = malloc(room ? room : 1);
    while (ignored && !m->finished && !lab_mpi_broken() && lab_ns_until(deadline_ns))
        if (mpi_recv(&m->end, ignored, room, 0) == -EAGAIN)
            sched_yield();
    free(ignored);
}

static void mpi_close(struct lab_end *end)
{
    struct mpi_end *m = mpi_of(end);
    MPI_Request request;
    int code;
    if (end->role == LAB_RX) {
        lab_mpi_give_back(&m->received);
        drain(m);
        return;
    }
    if (lab_mpi_broken())
        return;
    if (MPI_Isend(NULL, 0, MPI_BYTE, m->peer, m->tag, MPI_COMM_WORLD, &request) != MPI_SUCCESS ||
        lab_mpi_complete(request, MPI_STATUS_IGNORE, lab_now_ns() + LAB_MPI_CLOSE_WITHIN_NS, &code))
        lab_mpi_break();
    else
        lab_mpi_give_back(&request);
}

const struct lab_transport_ops lab_ops_mpi = {
    .name = "mpi",
    .end_bytes = sizeof(struct mpi_end),
    .provision = lab_mpi_provision,
    .retire = lab_mpi_retire,
    .open = mpi_open,
    .close = mpi_close,
    .send = mpi_send,
    .recv = mpi_recv,
    .enter = lab_mpi_enter,
    .library = lab_mpi_library,
    .carrier = lab_mpi_carrier,
};
