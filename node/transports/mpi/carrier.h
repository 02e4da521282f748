/* Which way MPI really goes from rank to rank. MPICH over UCX takes what it finds best, and says nothing: between processes of one host that is
 * shared memory. UCX tells its log while MPI initialises, at a level that is usually off; it is listened to for as long, and no
 * longer. Where the library behind MPI is another one, nothing is known. Of node/transports/mpi/ only. */
#ifndef LAB_NODE_TRANSPORTS_MPI_CARRIER_H
#define LAB_NODE_TRANSPORTS_MPI_CARRIER_H

#include "node/transport.h"

/* Around MPI_Init, by one thread. */
void lab_mpi_listen(void);
void lab_mpi_listened(void);

/* Of lab_transport_ops: "shared memory (sysv), cma". The ways to all other ranks, which are one where these are all on this host; "": unknown. */
void lab_mpi_carrier(char to[LAB_CARRIER_TEXT]);

/* Of one line of the log, "ep_cfg[1]: tag(sysv/memory cma/memory) rma(...)", in words; false: it is another line, or about a rank and itself. */
bool lab_mpi_carrier_of(const char *line, char to[LAB_CARRIER_TEXT]);

#endif
