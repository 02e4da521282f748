/* The loops of bench/bare.h through the table of functions of a copying transport (node/transport.h): what the seam costs
 * beside the bare loop over the same mechanism, when the two are run in turn.
 *
 *     bench-seam --over zmq-ipc --size 64
 *     mpiexec -n 2 bench-seam --over mpi --size 64 */
#include "bench/bare.h"

#include "base/error.h"
#include "node/transport.h"

#include <errno.h>
#include <stdlib.h>

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

static int default_wait(const struct lab_transport *transport)
{
    return __builtin_ctz(transport->waits);
}

/* Forth from the client (rank 0) to the server (rank 1), and back. */
static void provision(const struct bare *bare, const struct lab_transport *transport, struct lab_channel channel[CHANNELS],
                      struct lab_wire wire[CHANNELS])
{
    for (int way = FORTH; way < CHANNELS; way++) {
        channel[way] = (struct lab_channel){
            .transport = transport, .wait = (enum lab_wait)default_wait(transport), .id = (uint32_t)way,
            .message_max = (uint32_t)bare->size, .window = bare->stream ? bare->window : 2, .batch = 1,
            .rank = {[LAB_TX] = way, [LAB_RX] = !way},
        };
        wire[way] = (struct lab_wire){.fd = {-1, -1}};
        if (lab_transport_ops(transport)->provision(&channel[way], &wire[way]))
            give_up(bare);
    }
}

static void open_one(const struct bare *bare, const struct lab_channel *channel, enum lab_role role, struct lab_wire *wire,
                     uint64_t deadline_ns, struct lab_end **ret_end)
{
    if (lab_end_open(channel, role, wire, NULL, deadline_ns, ret_end))
        give_up(bare);
    wire->fd[role] = -1;
}

int main(int argc, char **argv)
{
    static const char *const over[] = {"zmq-ipc", "zmq-tcp", "mpi", "pipe", "fifo", "unix-stream", "unix-seqpacket", "unix-dgram", "tcp", "udp", "posix-mq",
                                       "sysv-mq", NULL};
    struct bare bare = {.name = "seam", .over = over};
    const char *number = getenv("PMI_RANK");
    bare_options(&bare, argc, argv);
    const struct lab_transport *transport = lab_transport_named(bare.kind);
    const struct lab_transport_ops *ops = lab_transport_ops(transport);
    if (!ops)
        give_up(&bare);

    struct lab_channel channel[CHANNELS];
    struct lab_wire wire[CHANNELS];
    provision(&bare, transport, channel, wire);
    if (number && transport->caps & LAB_CAP_WORLD)
        bare_join(&bare, atoi(number) == 0);
    else
        bare_fork(&bare);
    struct seam seam = {&bare, NULL, NULL, lab_now_ns() + 3600 * LAB_NS_PER_S};
    open_one(&bare, &channel[bare.client ? FORTH : BACK], LAB_TX, &wire[bare.client ? FORTH : BACK], seam.deadline_ns, &seam.tx);
    open_one(&bare, &channel[bare.client ? BACK : FORTH], LAB_RX, &wire[bare.client ? BACK : FORTH], seam.deadline_ns, &seam.rx);
    /* Where the mechanism itself tells who is gone, nobody else may hold it; elsewhere it has to be there. */
    for (int way = FORTH; way < CHANNELS && !ops->hangup; way++)
        ops->retire(&channel[way], &wire[way]);
    bare_run(&bare, send_one, recv_one, &seam);
    lab_end_close(seam.tx);
    lab_end_close(seam.rx);
    for (int way = FORTH; way < CHANNELS && ops->hangup; way++)
        ops->retire(&channel[way], &wire[way]);
    return bare_end(&bare);
}
