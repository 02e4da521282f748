/* Two ranks: MPI_Send and MPI_Recv, or (--over polled) MPI_Isend, MPI_Irecv and MPI_Test until they are complete, which is what has
 * to be paid for a deadline: a blocking call never returns when the other rank is gone.
 *
 *     mpiexec -n 2 bench-bare-mpi --size 64 */
#include "bench/bare.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void send_one(void *channel, const void *bytes, size_t size)
{
    MPI_Send(bytes, (int)size, MPI_BYTE, *(const int *)channel, 0, MPI_COMM_WORLD);
}

static void recv_one(void *channel, void *bytes, size_t size)
{
    MPI_Recv(bytes, (int)size, MPI_BYTE, *(const int *)channel, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static void finish(MPI_Request *request)
{
    int done = 0;
    while (!done)
        MPI_Test(request, &done, MPI_STATUS_IGNORE);
}

static void send_polled(void *channel, const void *bytes, size_t size)
{
    MPI_Request request;
    MPI_Isend(bytes, (int)size, MPI_BYTE, *(const int *)channel, 0, MPI_COMM_WORLD, &request);
    finish(&request);
}

static void recv_polled(void *channel, void *bytes, size_t size)
{
    MPI_Request request;
    MPI_Irecv(bytes, (int)size, MPI_BYTE, *(const int *)channel, 0, MPI_COMM_WORLD, &request);
    finish(&request);
}

int main(int argc, char **argv)
{
    static const char *const over[] = {"blocking", "polled", NULL};
    struct bare bare = {.name = "bare-mpi", .over = over};
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
    if (strcmp(bare.kind, "polled") == 0)
        bare_run(&bare, send_polled, recv_polled, &other);
    else
        bare_run(&bare, send_one, recv_one, &other);
    MPI_Finalize();
    return bare_end(&bare);
}
