/* A window of MPI that two ranks share: the ends of a channel, each with a part of its own that the other reaches. Of node/transports/mpi/ only.
 *
 *     struct lab_mpi_window window;
 *     err = lab_mpi_window_open(end, bytes, LAB_MPI_SHARED, &window);   both ends of the channel at the same time
 *     ...
 *     lab_mpi_window_leave(&window);                                    each when it likes
 *
 * To make a window all of its ranks must come, and so they must to free it; MPI has no way to do either with a deadline, as MPI_Init has
 * none: who started the ranks ends one that waits for a rank that is gone. A worker opens its ends in the order of their channels, as all
 * do, so that no circle of ranks waits for each other. For the same reason nobody frees a window when it closes its end, when the other may
 * be busy for long: a pair of ranks frees what it has left when it makes its next one, or before MPI is finalised, which wants that.
 *
 * The window is in a passive epoch from opening to freeing (MPI_Win_lock_all): to end one waits for what was put. */
#ifndef LAB_NODE_TRANSPORTS_MPI_WINDOW_H
#define LAB_NODE_TRANSPORTS_MPI_WINDOW_H

#include "node/transports/mpi/world.h"

enum lab_mpi_kind {
    LAB_MPI_SHARED, /* both parts can be loaded from and stored to by both: ranks of one host only */
    LAB_MPI_REMOTE, /* the other's part is reached by MPI_Put and MPI_Get */
};

struct lab_mpi_window {
    MPI_Win win;
    MPI_Comm comm;      /* of the two; an end's rank in it is its role */
    int peer;           /* the other's rank in the world */
    uint64_t order;     /* in which windows are made and freed: by launch and channel */
    void *part[2];      /* by role, 64-byte aligned, zeroed; LAB_MPI_REMOTE: the own one only */
    size_t bytes[2];    /* ... of the own one */
    size_t skip[2];     /* by role: bytes from where MPI's part begins to where this one does, which is what offsets add to */
};

/* `bytes` of this end's own part. Blocks until the other end does the same. Recorded. */
int lab_mpi_window_open(const struct lab_end *end, size_t bytes, enum lab_mpi_kind kind, struct lab_mpi_window *ret_window);

/* The end is closed: its pointers are not used any more. */
void lab_mpi_window_leave(struct lab_mpi_window *window);

/* Before MPI is finalised: waits for the other ranks. */
void lab_mpi_windows_free(void);

#endif
