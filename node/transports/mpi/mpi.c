/* mpi: two-sided messages between ranks of MPI_COMM_WORLD; the channel's number is the tag.
 *
 * MPI is initialised by the first end that opens, once per process, from what the environment says of the world (PMI_*), and
 * finalised when the process exits by itself. All operations are non-blocking ones, polled: a call of MPI's own that waits has no
 * deadline, and does not return when the peer has died. MPI reports no dead peer at all: who started the ranks watches them, and ends
 * what waits for one that is gone. A sender that closes says so with a message of no bytes; a receiver that closes cannot tell. A send that
 * has begun cannot be taken back: a deadline in it is the end of MPI in this process (-EIO).
 *
 * One thread at a time uses MPI, except in a node that relays, whose two threads need MPI_THREAD_MULTIPLE: a process whose
 * first channel crosses nodes asks for that. */
#include "node/transport.h"

#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <limits.h>
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

enum { PATIENCE = 1024, YIELD_EVERY = 64, CHANNELS = 4096 /* the tags of a launch are its own, up to so many channels */ };
#define CLOSE_WITHIN_NS LAB_NS_PER_S
#define DRAIN_WITHIN_NS (20 * LAB_NS_PER_MS)

struct mpi_end {
    struct lab_end end;
    int peer, tag;
    bool finished;              /* RX: the sender has closed */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool initialised;
static bool broken;             /* a peer is gone, or a message was left half way: nothing more goes through MPI here */

static struct mpi_end *mpi_of(struct lab_end *end)
{
    return (struct mpi_end *)end;
}

static int failed(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int length;
    MPI_Error_string(code, text, &length);
    broken = true;
    return lab_refuse(EIO, "%s: %s", what, text);
}

/* Ending takes part of every rank: without a peer that is gone it would wait for ever. */
static void finalise(void)
{
    if (!broken)
        MPI_Finalize();
}

static int initialise(bool relays)
{
    int err = 0;
    pthread_mutex_lock(&lock);
    if (!initialised) {
        int wanted = relays ? MPI_THREAD_MULTIPLE : MPI_THREAD_SERIALIZED, granted = 0;
        int code = getenv("PMI_RANK") ? MPI_Init_thread(NULL, NULL, wanted, &granted) : MPI_SUCCESS;
        if (!getenv("PMI_RANK"))
            err = lab_refuse(ENOENT, "no MPI world: this process was not started as one of its ranks");
        else if (code != MPI_SUCCESS)
            err = lab_refuse(EIO, "MPI_Init_thread failed with code %d", code);
        else if (granted < wanted)
            err = lab_refuse(ENOTSUP, "this MPI library grants thread level %d, and %d is needed", granted, wanted);
        if (!err) {
            MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
            atexit(finalise);
            initialised = true;
        }
    }
    pthread_mutex_unlock(&lock);
    return err;
}

static int mpi_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct mpi_end *m = mpi_of(end);
    (void)deadline_ns; /* MPI_Init has none; whoever started the ranks has */
    int err = broken ? lab_refuse(EIO, "MPI broke off earlier in this process") : initialise(end->channel.crosses_nodes);
    if (err)
        return err;
    int rank, size, *limit, found;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &limit, &found);
    m->peer = end->channel.rank[end->role == LAB_TX ? LAB_RX : LAB_TX];
    m->tag = (int)((end->channel.epoch * CHANNELS + end->channel.id) % (uint32_t)(found ? *limit : SHRT_MAX));
    if (rank != end->channel.rank[end->role] || m->peer < 0 || m->peer >= size)
        return lab_refuse(EINVAL, "channel %u joins ranks %d and %d; this is rank %d of %d", end->channel.id, end->channel.rank[LAB_TX],
                          end->channel.rank[LAB_RX], rank, size);
    return 0;
}

/* Ranks know each other: there is nothing to make. */
static int mpi_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    (void)channel;
    *ret_wire = (struct lab_wire){.fd = {-1, -1}};
    return 0;
}

static void mpi_retire(const struct lab_channel *channel, struct lab_wire *wire)
{
    (void)channel;
    (void)wire;
}

/* Until the request is complete: 0; or -EAGAIN at the deadline, the request then still pending.
 *
 * MPI only moves while somebody polls, and a rank that polls keeps its core. After longer than the answer of a peer that runs can
 * take, the peer is probably waiting for that very core: with more ranks than cores each would poll its whole time slice away. */
static int complete(MPI_Request *request, MPI_Status *status, uint64_t deadline_ns, int *ret_code)
{
    int done = 0;
    for (uint32_t polls = 1;; polls++) {
        *ret_code = MPI_Test(request, &done, status);
        if (*ret_code != MPI_SUCCESS || done)
            return 0;
        if (polls < PATIENCE || polls % YIELD_EVERY)
            continue;
        if (lab_ends_abandoned || lab_ns_until(deadline_ns) == 0)
            return -EAGAIN;
        sched_yield();
    }
}

static int mpi_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    struct mpi_end *m = mpi_of(end);
    MPI_Request request;
    if (length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %zu bytes on a channel of at most %u", length, end->channel.message_max);
    if (broken)
        return lab_refuse(EIO, "MPI broke off earlier in this process");
    int code = MPI_Isend(message, (int)length, MPI_BYTE, m->peer, m->tag, MPI_COMM_WORLD, &request);
    if (code == MPI_SUCCESS && request != MPI_REQUEST_NULL && complete(&request, MPI_STATUS_IGNORE, deadline_ns ? deadline_ns : lab_now_ns() + CLOSE_WITHIN_NS, &code)) {
        /* A send that has begun cannot be taken back. */
        broken = true;
        return lab_refuse(EIO, "rank %d did not take a message of %zu bytes before the deadline", m->peer, length);
    }
    return code == MPI_SUCCESS ? 0 : failed(code, "MPI_Isend");
}

/* What was received, from its status. */
static ssize_t received(struct mpi_end *m, int code, const MPI_Status *status)
{
    int length = 0, kind = 0;
    if (code != MPI_SUCCESS) {
        MPI_Error_class(code, &kind);
        if (kind == MPI_ERR_TRUNCATE)
            return lab_refuse(EMSGSIZE, "a message of rank %d was longer than the buffer", m->peer);
        return failed(code, "MPI_Irecv");
    }
    MPI_Get_count(status, MPI_BYTE, &length);
    if (length)
        return length;
    m->finished = true;
    return lab_refuse(EPIPE, "rank %d has closed channel %u", m->peer, m->end.channel.id);
}

static ssize_t take_if_there(struct mpi_end *m, void *to, size_t room)
{
    int there = 0;
    MPI_Message message;
    MPI_Status status;
    int code = MPI_Improbe(m->peer, m->tag, MPI_COMM_WORLD, &there, &message, &status);
    if (code != MPI_SUCCESS)
        return failed(code, "MPI_Improbe");
    if (!there)
        return -EAGAIN;
    code = MPI_Mrecv(to, (int)room, MPI_BYTE, &message, &status);
    return received(m, code, &status);
}

static ssize_t mpi_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    struct mpi_end *m = mpi_of(end);
    MPI_Request request;
    MPI_Status status;
    if (m->finished)
        return lab_refuse(EPIPE, "rank %d has closed channel %u", m->peer, end->channel.id);
    if (!deadline_ns)
        return take_if_there(m, to, room);
    int code = MPI_Irecv(to, (int)room, MPI_BYTE, m->peer, m->tag, MPI_COMM_WORLD, &request);
    if (code != MPI_SUCCESS)
        return failed(code, "MPI_Irecv");
    if (complete(&request, &status, deadline_ns, &code)) {
        int cancelled = 0;
        MPI_Cancel(&request);
        code = MPI_Wait(&request, &status);
        MPI_Test_cancelled(&status, &cancelled);
        if (cancelled)
            return -EAGAIN;
    }
    return received(m, code, &status);
}

/* Takes the sender's last message, if it comes soon. One that is left behind does no harm, for the next launch has other tags;
 * it is only memory of a process that may live on. */
static void drain(struct mpi_end *m)
{
    uint64_t deadline_ns = lab_now_ns() + DRAIN_WITHIN_NS;
    size_t room = m->end.channel.message_max;
    unsigned char *ignored = malloc(room ? room : 1);
    while (ignored && !m->finished && !broken && lab_ns_until(deadline_ns))
        if (take_if_there(m, ignored, room) == -EAGAIN)
            sched_yield();
    free(ignored);
}

static void mpi_close(struct lab_end *end)
{
    struct mpi_end *m = mpi_of(end);
    MPI_Request request;
    int code;
    if (end->role == LAB_RX) {
        drain(m);
        return;
    }
    if (broken)
        return;
    if (MPI_Isend(NULL, 0, MPI_BYTE, m->peer, m->tag, MPI_COMM_WORLD, &request) != MPI_SUCCESS ||
        complete(&request, MPI_STATUS_IGNORE, lab_now_ns() + CLOSE_WITHIN_NS, &code))
        broken = true;
}

static int mpi_enter(void)
{
    return initialise(true);
}

static void mpi_library(char to[LAB_LIBRARY_TEXT])
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING], version[32] = "";
    int length;
    if (MPI_Get_library_version(text, &length) == MPI_SUCCESS)
        sscanf(text, "MPICH Version: %31s", version);
    snprintf(to, LAB_LIBRARY_TEXT, "MPICH %s", version[0] ? version : "unknown");
}

const struct lab_transport_ops lab_ops_mpi = {
    .name = "mpi", .end_bytes = sizeof(struct mpi_end), .provision = mpi_provision, .retire = mpi_retire, .open = mpi_open, .close = mpi_close, .send = mpi_send, .recv = mpi_recv,
    .enter = mpi_enter, .library = mpi_library,
};
