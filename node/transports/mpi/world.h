/* What the transports over MPI share: the world, its end, and waiting with a deadline. Of node/transports/mpi/ only.
 *
 * MPI is initialised by the first end that opens, once per process, from what the environment says of the world (PMI_*), and
 * finalised when the process exits by itself, within half a second or not at all. A call of MPI's own that waits has no deadline, and does
 * not return when the peer has died; nor does MPI report one that is dead: who started the ranks watches them, and ends what waits for one
 * that is gone. So everything is begun by a call that does not wait, and polled.
 *
 * One thread at a time uses MPI, except in a node that relays, whose two threads need MPI_THREAD_MULTIPLE: a process whose
 * first channel crosses nodes asks for that. */
#ifndef LAB_NODE_TRANSPORTS_MPI_WORLD_H
#define LAB_NODE_TRANSPORTS_MPI_WORLD_H

#include "node/transport.h"

#include <mpi.h>

/* No call that takes back what it began lasts longer. */
#define LAB_MPI_CLOSE_WITHIN_NS LAB_NS_PER_S

/* Of lab_transport_ops. */
int lab_mpi_enter(void);
void lab_mpi_library(char to[LAB_LIBRARY_TEXT]);
int lab_mpi_provision(const struct lab_channel *channel, struct lab_wire *ret_wire); /* ranks know each other: there is nothing to make */
void lab_mpi_retire(const struct lab_channel *channel, struct lab_wire *wire);

/* The world is there, and this process is the rank that the end says; the rank of the other end is returned. Recorded. */
int lab_mpi_join(const struct lab_end *end, int *ret_peer);

/* A number that no other channel of this launch has, and none of launches that this process remembers: a tag, or what sets a window's place. */
int lab_mpi_tag(const struct lab_channel *channel);

/* -EIO, recorded: a call of MPI failed, and nothing more goes through MPI in this process. */
int lab_mpi_failed(int code, const char *what);

/* A message was left half way, or a peer is gone: nothing more goes through MPI in this process, and it ends without MPI_Finalize, which would
 * wait for all ranks. */
void lab_mpi_break(void);
bool lab_mpi_broken(void);
int lab_mpi_refuse_broken(void); /* -EIO, recorded */

/* Between two polls, of which this was number `polls`, from 1 on: false once the deadline has passed or the node has given up. */
bool lab_mpi_patience(uint32_t polls, uint64_t deadline_ns);

/* Until the request is complete, which is still to be given back (lab_mpi_give_back): 0; or -EAGAIN at the deadline, of which 0 is one that has
 * passed. Of what MPI says `code` is returned; the status may be MPI_STATUS_IGNORE.
 *
 * It is asked for by MPI_Request_get_status: where there is nothing to wait for, as after a short send, MPI_Test would see to all else that
 * MPI has to do before it says so, which takes longer than the send; and who has received something answers sooner if the request is given
 * back when the answer has left. */
int lab_mpi_complete(MPI_Request request, MPI_Status *status, uint64_t deadline_ns, int *ret_code);

/* A complete request, or MPI_REQUEST_NULL: MPI_Wait has nothing to wait for then. (MPI_Request_free takes longer.) */
static inline void lab_mpi_give_back(MPI_Request *request)
{
    if (*request != MPI_REQUEST_NULL)
        MPI_Wait(request, MPI_STATUS_IGNORE);
}

#endif
