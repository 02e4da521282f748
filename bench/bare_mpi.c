/* Two ranks: MPI_Send and MPI_Recv, blocking.
 *
 *     mpiexec -n 2 bench-bare-mpi --size 64 */
#include "bench/bare.h"

#include <errno.h>
#include <mpi.h>
#include <stdlib.h>

static void send_one(void *channel, const void *bytes, size_t size)
{
    MPI_Send(bytes, (int)size, MPI_BYTE, *(const int *)channel, 0, MPI_COMM_WORLD);
}

static void recv_one(void *channel, void *bytes, size_t size)
{
    MPI_Recv(bytes, (int)size, MPI_BYTE, *(const int *)channel, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

int main(int argc, char **argv)
{
    struct bare bare = {.name = "bare-mpi"};
    const char *number = getenv("PMI_RANK");
    bare.client = !number || atoi(number) == 0;
    bare_begin(&bare, argc, argv);
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    errno = 0;
    if (ranks != 2 || (rank == 0) != bare.client)
        bare_fail(&bare, "start two ranks: mpiexec -n 2 bench-bare-mpi ...");
    int other = !rank;
    bare_run(&bare, send_one, recv_one, &other);
    MPI_Finalize();
    return bare_end(&bare);
}
