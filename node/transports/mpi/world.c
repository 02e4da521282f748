#include "node/transports/mpi/world.h"

#include "base/clock.h"
#include "base/error.h"
#include "node/transports/mpi/carrier.h"
#include "node/transports/mpi/window.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

enum { PATIENCE = 1024, YIELD_EVERY = 64, CHANNELS = 4096 /* the tags of a launch are its own, up to so many channels */ };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool initialised, broken;

int lab_mpi_failed(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int length;
    MPI_Error_string(code, text, &length);
    lab_mpi_break();
    return lab_refuse(EIO, "%s: %s", what, text);
}

void lab_mpi_break(void)
{
    broken = true;
}

bool lab_mpi_broken(void)
{
    return broken;
}

int lab_mpi_refuse_broken(void)
{
    return lab_refuse(EIO, "MPI broke off earlier in this process");
}

/* Over TCP, MPI_Finalize of MPICH 4.0.2 with UCX 1.13.1 may wait for ever: one rank takes leave of the other, who waits in a barrier of
 * the process manager by then and hears nothing. All that was to be said has been said, and the process ends as it was about to. */
#define FINALISE_WITHIN_NS (500 * LAB_NS_PER_MS)
static int exit_status;

static void leave(int signal_number)
{
    (void)signal_number;
    _exit(exit_status);
}

static void finalise(int status, void *argument)
{
    const struct itimerval within = {.it_value.tv_usec = FINALISE_WITHIN_NS / LAB_NS_PER_US};
    (void)argument;
    if (broken)
        return;
    exit_status = status;
    signal(SIGALRM, leave);
    setitimer(ITIMER_REAL, &within, NULL);
    lab_mpi_windows_free();
    MPI_Finalize();
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
}

static int initialise(bool relays)
{
    int err = 0;
    pthread_mutex_lock(&lock);
    if (!initialised) {
        int wanted = relays ? MPI_THREAD_MULTIPLE : MPI_THREAD_SERIALIZED, granted = 0;
        lab_mpi_listen();
        int code = getenv("PMI_RANK") ? MPI_Init_thread(NULL, NULL, wanted, &granted) : MPI_SUCCESS;
        lab_mpi_listened();
        if (!getenv("PMI_RANK"))
            err = lab_refuse(ENOENT, "no MPI world: this process was not started as one of its ranks");
        else if (code != MPI_SUCCESS)
            err = lab_refuse(EIO, "MPI_Init_thread failed with code %d", code);
        else if (granted < wanted)
            err = lab_refuse(ENOTSUP, "this MPI library grants thread level %d, and %d is needed", granted, wanted);
        if (!err) {
            MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
            on_exit(finalise, NULL);
            initialised = true;
        }
    }
    pthread_mutex_unlock(&lock);
    return err;
}

int lab_mpi_enter(void)
{
    return initialise(true);
}

int lab_mpi_join(const struct lab_end *end, int *ret_peer)
{
    /* MPI_Init has no deadline; whoever started the ranks has. */
    const struct lab_channel *channel = &end->channel;
    int err = broken ? lab_mpi_refuse_broken() : initialise(channel->crosses_nodes), rank, size;
    if (err)
        return err;
    int peer = channel->rank[end->role == LAB_TX ? LAB_RX : LAB_TX];
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (rank != channel->rank[end->role] || peer < 0 || peer >= size)
        return lab_refuse(EINVAL, "channel %u joins ranks %d and %d; this is rank %d of %d", channel->id, channel->rank[LAB_TX], channel->rank[LAB_RX],
                          rank, size);
    *ret_peer = peer;
    return 0;
}

int lab_mpi_tag(const struct lab_channel *channel)
{
    int *limit, found;
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &limit, &found);
    return (int)((channel->epoch * CHANNELS + channel->id) % (uint32_t)(found ? *limit : SHRT_MAX));
}

int lab_mpi_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    (void)channel;
    *ret_wire = (struct lab_wire){.fd = {-1, -1}};
    return 0;
}

void lab_mpi_retire(const struct lab_channel *channel, struct lab_wire *wire)
{
    (void)channel;
    (void)wire;
}

/* MPI only moves while somebody polls, and a rank that polls keeps its core. After longer than the answer of a peer that runs can
 * take, the peer is probably waiting for that very core: with more ranks than cores each would poll its whole time slice away. */
bool lab_mpi_patience(uint32_t polls, uint64_t deadline_ns)
{
    if (!deadline_ns)
        return false;
    if (polls < PATIENCE || polls % YIELD_EVERY)
        return true;
    if (lab_ends_abandoned || lab_ns_until(deadline_ns) == 0)
        return false;
    sched_yield();
    return true;
}

int lab_mpi_complete(MPI_Request request, MPI_Status *status, uint64_t deadline_ns, int *ret_code)
{
    int done = 0;
    for (uint32_t polls = 1;; polls++) {
        *ret_code = MPI_Request_get_status(request, &done, status);
        if (*ret_code != MPI_SUCCESS || done)
            return 0;
        if (!lab_mpi_patience(polls, deadline_ns))
            return -EAGAIN;
    }
}

void lab_mpi_library(char to[LAB_LIBRARY_TEXT])
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING], version[32] = "";
    int length;
    if (MPI_Get_library_version(text, &length) == MPI_SUCCESS)
        sscanf(text, "MPICH Version: %31s", version);
    snprintf(to, LAB_LIBRARY_TEXT, "MPICH %s", version[0] ? version : "unknown");
}
