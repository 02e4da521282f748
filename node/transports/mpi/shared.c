/* mpi-shared: the ring of shm/ring.h, laid out in a window of MPI that both ranks can load from and store to
 * (MPI_Win_allocate_shared). MPI makes the memory and finds it; what is done in it is ours, and is the same as for shm-ring.
 *
 * The memory belongs to the receiver, who has laid the ring out before the sender looks at it: the two meet in a barrier. Nobody else can reach
 * the window, so nobody tells of a rank that was killed: who started the ranks ends what waits for it. */
#include "node/transports/mpi/window.h"

#include "base/error.h"
#include "node/transports/ring_end.h"

#include <errno.h>

struct shared_end {
    struct lab_ring_end ring; /* first */
    struct lab_mpi_window window;
};

static struct shared_end *shared_of(struct lab_end *end)
{
    return (struct shared_end *)end;
}

static int meet(struct shared_end *shared, const struct lab_ring_config *config, const struct lab_ring_shape *shape)
{
    const struct lab_mpi_window *window = &shared->window;
    if (!window->part[LAB_RX])
        return lab_refuse(ENOTSUP, "ranks %d and %d have no memory in common", shared->ring.end.channel.rank[LAB_TX], shared->ring.end.channel.rank[LAB_RX]);
    if (shared->ring.end.role == LAB_RX)
        lab_ring_init(window->part[LAB_RX], config, shape);
    int code = MPI_Barrier(window->comm);
    if (code != MPI_SUCCESS)
        return lab_mpi_failed(code, "MPI_Barrier");
    return lab_ring_end_take(&shared->ring, window->part[LAB_RX], window->bytes[LAB_RX], config);
}

static int shared_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct shared_end *shared = shared_of(end);
    struct lab_ring_config config = lab_ring_end_config(&end->channel);
    struct lab_ring_shape shape;
    (void)deadline_ns;
    int err = lab_ring_shape(&config, &shape);
    if (!err)
        err = lab_mpi_window_open(end, end->role == LAB_RX ? shape.size : 0, LAB_MPI_SHARED, &shared->window);
    if (err)
        return err;
    err = meet(shared, &config, &shape);
    if (err)
        lab_mpi_window_leave(&shared->window);
    return err;
}

static void shared_close(struct lab_end *end)
{
    struct shared_end *shared = shared_of(end);
    lab_ring_hangup(shared->window.part[LAB_RX], (enum lab_ring_side)end->role);
    lab_mpi_window_leave(&shared->window);
}

const struct lab_transport_ops lab_ops_mpi_shared = {
    .name = "mpi-shared",
    .end_bytes = sizeof(struct shared_end),
    .provision = lab_mpi_provision,
    .retire = lab_mpi_retire,
    .open = shared_open,
    .close = shared_close,
    LAB_RING_END_OPS,
    .enter = lab_mpi_enter,
    .library = lab_mpi_library,
};
