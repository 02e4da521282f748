/* The loops of bench/bare.h through the table of functions of a copying transport (node/transport.h): what the seam costs
 * beside the bare loop over the same mechanism, when the two are run in turn.
 *
 *     bench-seam --over zmq-ipc --size 64
 *     mpiexec -n 2 bench-seam --over mpi --size 64 */
#include "bench/bare.h"

#include "base/error.h"
#include "node/transport.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORTH, BACK, CHANNELS };

struct seam {
    const struct bare *bare;
    struct lab_end *tx, *rx;
    uint64_t deadline_ns;
};

static _Noreturn void give_up(const struct bare *bare)
{
    errno = 0;
    bare_fail(bare, lab_error_last()->code ? lab_error_last()->text : "the deadline passed");
}

static void send_one(void *channel, const void *bytes, size_t size)
{
    const struct seam *seam = channel;
    if (seam->tx->ops->send(seam->tx, bytes, size, seam->deadline_ns))
        give_up(seam->bare);
}

static void recv_one(void *channel, void *bytes, size_t size)
{
    const struct seam *seam = channel;
    if (seam->rx->ops->recv(seam->rx, bytes, size, seam->deadline_ns) < 0)
        give_up(seam->bare);
}

int main(int argc, char **argv)
{
    static const char *const over[] = {"pipe", "unix-seqpacket", "zmq-ipc", "zmq-tcp", "mpi", NULL};
    const char *number = getenv("PMI_RANK");
    struct bare bare = {.name = "seam", .over = over, .processes = !number, .client = number && atoi(number) == 0};

    /* Provisioning comes before the fork, and so before bare_begin() has read the options. */
    const struct lab_transport *transport = lab_transport_named(number ? "mpi" : "pipe");
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "--over") == 0 && lab_transport_named(argv[i + 1]))
            transport = lab_transport_named(argv[i + 1]);
    const struct lab_transport_ops *ops = lab_transport_ops(transport);
    if (!ops)
        give_up(&bare);
    if (!ops->send)
        usage_of_copying(&bare);
    return 0;
}
