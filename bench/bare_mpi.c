/* Two ranks: MPI_Send and MPI_Recv, blocking.
 *
 *     mpiexec -n 2 bench-bare-mpi --size 64 */
#include "bench/bare.h"

#include <mpi.h>
#include <stdio.h>
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
    bare_options(&bare, argc, argv);
    if (!number) {
        fprintf(stderr, "%s: start two ranks: mpiexec -n 2 %s ...\n", bare.name, argv[0]);
        return 2;
    }
    bare_join(&bare, atoi(number) == 0); /* the library's memory is then first touched on the right cpu */
    int ranks, other = bare.client;
    MPI_Init(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (ranks != 2) {
        fprintf(stderr, "%s: %d ranks were started, two are needed\n", bare.name, ranks);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    bare_run(&bare, send_one, recv_one, &other);
    MPI_Finalize();
    return bare_end(&bare);
}
