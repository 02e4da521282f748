/* The laboratory's `mpi` beside loops over bare MPI, in one MPI world: two ranks play a burst of the one, a burst of the next, and so on,
 * again and again, so that whatever the machine does meanwhile it does to all of them.
 *
 *     mpiexec -n 2 bench-mpi [--pattern pingpong|stream] [--size BYTES] [--rounds N] [--cpus A,B]
 *
 *   blocking   MPI_Send and MPI_Recv, as a user writes it. It has no deadline: a call never returns when the other rank is gone
 *   polled     MPI_Isend, MPI_Irecv and MPI_Test until they are complete
 *   seam       the functions of the transport, node/transports/mpi/
 *   ipclab     the pattern's own turns (node/patterns/) over lanes of the transport: what `ipclab run` times
 *
 * and each but the last twice: `kept` sends one buffer's bytes again and again, and nobody looks at them; `new` does with them what
 * ipclab does: a message differs from the one before (bench/bare.h), and every byte that was received is read. One line a contestant: the median time of a message (half a round trip of a
 * pingpong), and how many times ipclab's it is, round by round: the median with the quarters around it. */
#include "bench/bare.h"

#include "base/error.h"
#include "base/text.h"
#include "node/lane/edge.h"
#include "node/transport.h"

#include <errno.h>
#include <getopt.h>
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 1000, TURNS_MAX = 1 << 20, FORTH = 0, BACK = 1, CHANNELS = 2 };
#define BURST_NS (4 * LAB_NS_PER_MS)
#define DEADLINE_NS (600 * LAB_NS_PER_S)

struct bench {
    struct bare bare;          /* size, window, pattern, which rank this is */
    const struct lab_pattern *pattern;
    struct lab_edge_side side; /* ipclab's two lanes */
    uint32_t epoch;            /* each time that they are opened */
    unsigned char *said, *heard;
    uint64_t deadline_ns;
    uint32_t rounds;
};

static _Noreturn void give_up(struct bench *bench)
{
    errno = 0;
    bare_fail(&bench->bare, lab_error_last()->code ? lab_error_last()->text : "the deadline passed");
}

/* ---- bare MPI ---- */

static void send_blocking(struct bench *bench, const void *bytes, size_t size)
{
    MPI_Send(bytes, (int)size, MPI_BYTE, bench->bare.client, 0, MPI_COMM_WORLD);
}

static void recv_blocking(struct bench *bench, void *bytes, size_t size)
{
    MPI_Recv(bytes, (int)size, MPI_BYTE, bench->bare.client, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static void poll_for(MPI_Request *request)
{
    for (int done = 0; !done;)
        MPI_Test(request, &done, MPI_STATUS_IGNORE);
}

static void send_polled(struct bench *bench, const void *bytes, size_t size)
{
    MPI_Request request;
    MPI_Isend(bytes, (int)size, MPI_BYTE, bench->bare.client, 0, MPI_COMM_WORLD, &request);
    poll_for(&request);
}

static void recv_polled(struct bench *bench, void *bytes, size_t size)
{
    MPI_Request request;
    MPI_Irecv(bytes, (int)size, MPI_BYTE, bench->bare.client, 0, MPI_COMM_WORLD, &request);
    poll_for(&request);
}

typedef void send_fn(struct bench *bench, const void *bytes, size_t size);
typedef void recv_fn(struct bench *bench, void *bytes, size_t size);

/* The functions are inlined: what is called through a pointer is no bare loop. Each way has a buffer of its own, as in the OSU benchmarks: one
 * for both would have to come over from the other core before it can be written. What was received is read when the answer has left. */
static inline __attribute__((always_inline)) void play_pingpong(struct bench *bench, uint32_t turns, send_fn *send_one, recv_fn *recv_one)
{
    const struct bare *bare = &bench->bare;
    for (uint32_t turn = 0; turn < turns; turn++) {
        if (!bare->client)
            recv_one(bench, bench->heard, bare->size);
        bare_write(bare, bench->said, turn);
        send_one(bench, bench->said, bare->size);
        if (!bare->client || turn)
            bare_read(bare, bench->heard);
        if (bare->client)
            recv_one(bench, bench->heard, bare->size);
    }
}

/* `turns` halves of a window, one of which may be ahead of its confirmation. */
static inline __attribute__((always_inline)) void play_stream(struct bench *bench, uint32_t turns, send_fn *send_one, recv_fn *recv_one)
{
    const struct bare *bare = &bench->bare;
    unsigned char credit[BARE_CREDIT_BYTES] = {0};
    for (uint32_t turn = 0; turn < turns; turn++) {
        for (uint32_t i = 0; i < bare_half(bare); i++) {
            if (bare->client) {
                bare_write(bare, bench->said, turn + i);
                send_one(bench, bench->said, bare->size);
            } else {
                recv_one(bench, bench->heard, bare->size);
                bare_read(bare, bench->heard);
            }
        }
        if (!bare->client)
            send_one(bench, credit, sizeof credit);
        else if (turn)
            recv_one(bench, credit, sizeof credit);
    }
    if (bare->client)
        recv_one(bench, credit, sizeof credit);
}

static inline __attribute__((always_inline)) void play(struct bench *bench, uint32_t turns, send_fn *send_one, recv_fn *recv_one)
{
    if (bench->bare.stream)
        play_stream(bench, turns, send_one, recv_one);
    else
        play_pingpong(bench, turns, send_one, recv_one);
}

static void play_blocking(struct bench *bench, uint32_t turns)
{
    play(bench, turns, send_blocking, recv_blocking);
}

static void play_polled(struct bench *bench, uint32_t turns)
{
    play(bench, turns, send_polled, recv_polled);
}

/* ---- the transport alone ---- */

static void send_seam(struct bench *bench, const void *bytes, size_t size)
{
    struct lab_end *end = bench->side.tx.end;
    if (end->ops->send(end, bytes, size, bench->deadline_ns))
        give_up(bench);
}

static void recv_seam(struct bench *bench, void *bytes, size_t size)
{
    struct lab_end *end = bench->side.rx.end;
    if (end->ops->recv(end, bytes, size, bench->deadline_ns) < 0)
        give_up(bench);
}

static void play_seam(struct bench *bench, uint32_t turns)
{
    play(bench, turns, send_seam, recv_seam);
}

/* ---- ipclab ---- */

static void play_ipclab(struct bench *bench, uint32_t turns)
{
    struct lab_edge_side *side = &bench->side;
    uint32_t flags;
    int err = 0;
    side->operations = bench->bare.stream ? bare_half(&bench->bare) : 1;
    if (!bench->bare.stream && bench->bare.client) {
        side->operations = turns;
        turns = 1;
    } else if (!bench->bare.stream) {
        turns = 1;
    }
    while (!err && turns--)
        err = side->client ? bench->pattern->client_turn(side, 0, bench->deadline_ns) : bench->pattern->server_turn(side, bench->deadline_ns, &flags);
    if (!err && side->client && bench->pattern->client_drain)
        err = bench->pattern->client_drain(side, bench->deadline_ns);
    if (err)
        give_up(bench);
}

/* From rank 0 to rank 1, and back. */
static void open_lanes(struct bench *bench)
{
    const struct lab_transport *transport = lab_transport_named("mpi");
    if (!lab_transport_ops(transport))
        give_up(bench);
    const struct bare *bare = &bench->bare;
    struct lab_end *end[2];
    for (int way = FORTH; way < CHANNELS; way++) {
        bool back = way == BACK;
        struct lab_channel channel = {
            .transport = transport, .wait = LAB_WAIT_SPIN, .id = (uint32_t)way + 1, .epoch = bench->epoch, .batch = 1, .rank = {[LAB_TX] = way, [LAB_RX] = !way},
            .message_max = back ? bench->pattern->reply_bytes((uint32_t)bare->size) : (uint32_t)bare->size,
            .window = back ? bench->pattern->reply_window(bare->window) : bare->window,
        };
        struct lab_wire wire = {.fd = {-1, -1}};
        enum lab_role role = bare->client == !back ? LAB_TX : LAB_RX;
        if (lab_end_open(&channel, role, &wire, NULL, bench->deadline_ns, &end[role]) ||
            lab_lane_init(role == LAB_TX ? &bench->side.tx : &bench->side.rx, end[role], channel.message_max, (uint16_t)way, 1, true, NULL))
            give_up(bench);
    }
    bench->epoch++;
    bench->side.client = bare->client;
    bench->side.window = bare->window;
}

static void close_lanes(struct bench *bench)
{
    lab_lane_fini(&bench->side.tx);
    lab_lane_fini(&bench->side.rx);
    bench->side = (struct lab_edge_side){0};
}

/* ---- the contest ---- */

static const struct contestant {
    const char *name;
    void (*play)(struct bench *bench, uint32_t turns);
    bool renew; /* its bytes differ from message to message, and are read */
    bool lanes; /* it needs them: MPI itself goes through all receives that are posted, so that others' would not be bare */
} contestants[] = {
    {"blocking, kept", play_blocking, false, false}, {"blocking, new", play_blocking, true, false}, {"polled, kept", play_polled, false, false},
    {"polled, new", play_polled, true, false},       {"seam, kept", play_seam, false, true},        {"seam, new", play_seam, true, true},
    {"ipclab", play_ipclab, false, true},
};
enum { CONTESTANTS = sizeof contestants / sizeof *contestants, IPCLAB = CONTESTANTS - 1 };

/* Of one message, ns. A quarter of the turns are played before, to warm up. */
static double burst(struct bench *bench, const struct contestant *contestant, uint32_t turns)
{
    bench->bare.renew = contestant->renew;
    if (contestant->lanes)
        open_lanes(bench);
    contestant->play(bench, turns / 4 + 1);
    MPI_Barrier(MPI_COMM_WORLD);
    uint64_t begin = lab_now_ns();
    contestant->play(bench, turns);
    uint64_t took_ns = lab_now_ns() - begin, messages = (uint64_t)turns * (bench->bare.stream ? bare_half(&bench->bare) : 2);
    if (contestant->lanes)
        close_lanes(bench);
    return (double)took_ns / (double)messages;
}

/* As many turns as take BURST_NS; both ranks must know. */
static uint32_t turns_of_burst(struct bench *bench)
{
    uint32_t turns = 1;
    uint64_t took_ns;
    do {
        took_ns = lab_now_ns();
        burst(bench, &contestants[0], turns *= 2);
        took_ns = lab_now_ns() - took_ns;
        MPI_Bcast(&took_ns, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    } while (took_ns < BURST_NS && turns < TURNS_MAX);
    return turns;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void compare(struct bench *bench)
{
    static double ns[CONTESTANTS][ROUNDS_MAX], ratio[ROUNDS_MAX];
    uint32_t turns = turns_of_burst(bench), rounds = bench->rounds;
    for (uint32_t round = 0; round < rounds; round++)
        for (int c = 0; c < CONTESTANTS; c++)
            ns[c][round] = burst(bench, &contestants[c], turns);
    for (int c = 0; bench->bare.client && c < CONTESTANTS; c++) {
        for (uint32_t round = 0; round < rounds; round++)
            ratio[round] = ns[IPCLAB][round] / ns[c][round];
        qsort(ratio, rounds, sizeof *ratio, ascending);
        double sorted[ROUNDS_MAX];
        memcpy(sorted, ns[c], rounds * sizeof *sorted);
        qsort(sorted, rounds, sizeof *sorted, ascending);
        printf("%-8s %8zu  %-16s %12.1f ns", bench->bare.stream ? "stream" : "pingpong", bench->bare.size, contestants[c].name, sorted[rounds / 2]);
        if (c != IPCLAB)
            printf("   ipclab takes %.3f [%.3f, %.3f] of it", ratio[rounds / 2], ratio[rounds / 4], ratio[rounds * 3 / 4]);
        printf("\n");
    }
}

static void usage(void)
{
    fprintf(stderr, "usage: mpiexec -n 2 bench-mpi [--pattern pingpong|stream] [--size BYTES] [--rounds N] [--cpus A,B]\n");
    exit(2);
}

static void read_options(struct bench *bench, int argc, char **argv)
{
    static const struct option options[] = {
        {"pattern", required_argument, NULL, 'p'}, {"size", required_argument, NULL, 's'}, {"rounds", required_argument, NULL, 'r'},
        {"cpus", required_argument, NULL, 'u'},    {NULL, 0, NULL, 0},
    };
    uint64_t size = 64, rounds = 51;
    struct bare *bare = &bench->bare;
    bool good = true;
    for (int letter; good && (letter = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (letter) {
        case 'p': good = (bare->stream = strcmp(optarg, "stream") == 0) || strcmp(optarg, "pingpong") == 0; break;
        case 's': good = lab_parse_size(optarg, &size) == 0 && size >= LAB_MESSAGE_MIN && size <= 1 << 30; break;
        case 'r': good = lab_parse_count(optarg, &rounds) == 0 && rounds >= 1 && rounds <= ROUNDS_MAX; break;
        case 'u': good = sscanf(optarg, "%d,%d", &bare->cpu[0], &bare->cpu[1]) == 2; break;
        default: good = false;
        }
    }
    if (!good || optind < argc || !getenv("PMI_RANK"))
        usage();
    bare->size = size;
    bench->rounds = (uint32_t)rounds;
}

int main(int argc, char **argv)
{
    struct bench bench = {.bare = {.name = "bench-mpi", .cpu = {0, 1}, .seconds = DEADLINE_NS / LAB_NS_PER_S}};
    read_options(&bench, argc, argv);
    bench.pattern = lab_pattern_named(bench.bare.stream ? "stream" : "pingpong");
    bench.bare.window = bench.pattern->default_window(bench.bare.size);
    bench.deadline_ns = lab_now_ns() + DEADLINE_NS;
    bare_join(&bench.bare, atoi(getenv("PMI_RANK")) == 0);
    open_lanes(&bench); /* MPI is initialised by them */
    close_lanes(&bench);
    bench.said = bare_buffer(&bench.bare);
    bench.heard = bare_buffer(&bench.bare);
    compare(&bench);
    lab_hist_free(bench.bare.latency);
    return 0;
}
