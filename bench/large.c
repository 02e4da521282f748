/* What a large message costs two processes over shared memory of ours and over MPI, side by side in one run; what the bytes cost is told
 * apart from what passing them costs.
 *
 *     mpiexec -n 2 bench-large [ROUNDS [CASE]]     rounds are interleaved: every case once, then again; CASE selects by a part of the name
 *     UCX_RNDV_THRESH=inf mpiexec -n 2 ...         MPICH as it is when it copies twice instead of asking the kernel
 *
 * Each is half of a ping-pong. Four things are done with the bytes, the same for all:
 *
 *     whole      Every byte of each message is new, written by the sender and read by the receiver, within the time. What a program has of it.
 *     moved      The message lies ready in memory of the sender, and is to be in memory of the receiver; nobody writes or reads it else. What
 *                benchmarks of MPI measure. Ours copy in and copy out; `one copy`: the sender's memory is the pool itself, the receiver copies out.
 *     read       The message lies ready in memory of the sender, and the receiver reads it: of ours in place.
 *     passed     Nobody touches it. MPI has no such thing: its receiver gets a copy or nothing.
 *
 * MPI is measured with one buffer, as most programs have it, and with four in turn, as our structures have them: a core may write faster to
 * lines that the other has evicted meanwhile than to those that it still has. The ratios are to the faster of the two.
 *
 * A ping-pong has one message under way: what one core writes is then read by the other, line by line, out of that core's cache. That alone, without
 * any mechanism, is the row `lines`: one core writes a megabyte, the other reads it, and they tell each other by a flag. */
#include "bench/pair.h"

#include "base/error.h"
#include "node/lane/bulk.h"
#include "node/transport.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE = 128, ROUNDS_MAX = 200, CASES_MAX = 48, KiB = 1 << 10, MiB = 1 << 20, PAGE = LAB_PAGE, TRIPS = 16, WINDOW = 2, TURNS = 4 };

enum task { WHOLE, MOVED, ONE_COPY, READ, PASSED };
static const char *const tasks[] = {"whole", "moved", "one copy", "read", "passed"};

struct bench {
    char name[64];
    const char *transport; /* NULL: MPI; "lines": bare memory */
    enum task task;
    uint32_t size, buffers; /* MPI: of the program, used in turn */
    struct lab_wire wire[2];
    struct lab_end *tx, *rx;
    uint64_t sent, received;
};

/* What both ranks map. */
struct board {
    struct lab_probe probe;
    struct { _Alignas(LINE) _Atomic uint64_t count; } flag[2][2]; /* by size and party */
    _Alignas(4096) unsigned char bytes[2][MiB];
};

static struct lab_pair pair;
static struct board *board;
static struct bench cases[CASES_MAX];
static uint32_t count;
static unsigned char *source, *target; /* of this rank */
static uint64_t check;                 /* so that what is read is read */

static _Noreturn void give_up(const char *doing)
{
    fprintf(stderr, "%s: %s\n", doing, lab_error_last()->text);
    MPI_Abort(MPI_COMM_WORLD, 1);
    exit(1);
}

/* ---- what is done with bytes, whoever moved them: as the laboratory writes and reads long bodies ---- */

static void write_all(unsigned char *to, uint32_t size, uint64_t number)
{
    static uint64_t page[PAGE / sizeof(uint64_t)];
    for (uint32_t i = 0; i < PAGE / sizeof *page; i++)
        page[i] = number + i;
    lab_bulk_repeat(to, (const unsigned char *)page, size);
}

static void must_be(const struct bench *bench, uint64_t sum)
{
    uint64_t words = PAGE / sizeof(uint64_t);
    if (sum == (words * bench->received + words * (words - 1) / 2) * (bench->size / PAGE))
        return;
    fprintf(stderr, "%s: what was read is not what was written\n", bench->name);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/* ---- one message ---- */

static void put_mpi(struct bench *bench)
{
    unsigned char *from = source + bench->sent % bench->buffers * MiB;
    if (bench->task == WHOLE)
        write_all(from, bench->size, bench->sent);
    MPI_Send(from, (int)bench->size, MPI_BYTE, pair.leads, 0, MPI_COMM_WORLD);
}

static void take_mpi(struct bench *bench)
{
    unsigned char *to = target + bench->received % bench->buffers * MiB;
    MPI_Recv(to, (int)bench->size, MPI_BYTE, pair.leads, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (bench->task == WHOLE)
        must_be(bench, lab_bulk_sum(to, bench->size));
    else if (bench->task == READ)
        check += lab_bulk_sum(to, bench->size);
}

static void put_lines(struct bench *bench)
{
    write_all(board->bytes[!pair.leads], bench->size, bench->sent);
    atomic_store_explicit(&board->flag[bench->size == MiB][!pair.leads].count, bench->sent + 1, memory_order_release);
}

static void take_lines(struct bench *bench)
{
    while (atomic_load_explicit(&board->flag[bench->size == MiB][pair.leads].count, memory_order_acquire) <= bench->received)
        lab_wait_pause();
    must_be(bench, lab_bulk_sum(board->bytes[pair.leads], bench->size));
}

static void put_ours(struct bench *bench)
{
    struct lab_span span;
    if (bench->tx->ops->reserve(bench->tx, bench->size, 1, pair.deadline_ns, &span))
        give_up("reserve");
    if (bench->task == WHOLE)
        write_all(span.at, bench->size, bench->sent);
    else if (bench->task == MOVED)
        memcpy(span.at, source, bench->size);
    bench->tx->ops->commit(bench->tx, 1);
}

static void take_ours(struct bench *bench)
{
    struct lab_span span;
    if (bench->rx->ops->borrow(bench->rx, 1, pair.deadline_ns, &span))
        give_up("borrow");
    if (bench->task == WHOLE)
        must_be(bench, lab_bulk_sum(span.at, bench->size));
    else if (bench->task == READ)
        check += lab_bulk_sum(span.at, bench->size);
    else if (bench->task != PASSED)
        memcpy(target, span.at, bench->size);
    bench->rx->ops->release(bench->rx, 1);
}

static bool is_lines(const struct bench *bench)
{
    return bench->transport && strcmp(bench->transport, "lines") == 0;
}

static void put(struct bench *bench)
{
    if (is_lines(bench))
        put_lines(bench);
    else if (bench->transport)
        put_ours(bench);
    else
        put_mpi(bench);
    bench->sent++;
}

static void take(struct bench *bench)
{
    if (is_lines(bench))
        take_lines(bench);
    else if (bench->transport)
        take_ours(bench);
    else
        take_mpi(bench);
    bench->received++;
}

/* Nanoseconds for one message, one way. Half of the trips come before, until what the case before has left in the caches is out of them. */
static double run(struct bench *bench)
{
    uint64_t begin = 0;
    uint32_t trips = bench->task == PASSED ? 100 * TRIPS : TRIPS * (bench->size < MiB ? 8 : 1);
    for (uint32_t i = 0; i < 2 * trips; i++) {
        if (i == trips)
            begin = lab_now_ns();
        if (pair.leads)
            put(bench);
        take(bench);
        if (!pair.leads)
            put(bench);
    }
    return (double)(lab_now_ns() - begin) / (2.0 * trips);
}

/* ---- the cases ---- */

static struct lab_channel channel_of(const struct bench *bench, uint32_t id)
{
    return (struct lab_channel){
        .transport = lab_transport_named(bench->transport), .id = id, .message_max = bench->size, .window = WINDOW, .batch = 1};
}

static void add(const char *transport, enum task task, uint32_t size, uint32_t buffers)
{
    struct bench *bench = &cases[count];
    *bench = (struct bench){.transport = transport, .task = task, .size = size, .buffers = buffers};
    snprintf(bench->name, sizeof bench->name, "%4u KiB  %-8s %s", size / KiB, tasks[task],
             transport ? transport : buffers > 1 ? "MPI in turn" : "MPI");
    for (uint32_t way = 0; way < 2 && pair.leads && transport && !is_lines(bench); way++) {
        struct lab_channel channel = channel_of(bench, 2 * count + way);
        if (lab_transport_ops(channel.transport)->provision(&channel, &bench->wire[way]))
            give_up(bench->name);
    }
    count++;
}

/* The other rank's descriptors, opened here. */
static int borrow_fd(pid_t owner, int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)owner, fd);
    int mine = open(path, O_RDWR | O_CLOEXEC);
    if (mine < 0)
        (void)lab_fail(errno, "cannot open %s", path), give_up("sharing memory");
    return mine;
}

static void join(struct bench *bench, pid_t owner)
{
    if (!bench->transport || is_lines(bench))
        return;
    MPI_Bcast(bench->wire, sizeof bench->wire, MPI_BYTE, 0, MPI_COMM_WORLD);
    for (uint32_t way = 0; way < 2 && !pair.leads; way++)
        for (int role = 0; role < 2; role++)
            bench->wire[way].fd[role] = borrow_fd(owner, bench->wire[way].fd[role]);
    MPI_Barrier(MPI_COMM_WORLD); /* who opens an end closes its descriptor */
    struct lab_channel channel = channel_of(bench, 0);
    if (lab_end_open(&channel, LAB_TX, &bench->wire[pair.leads ? 0 : 1], NULL, pair.deadline_ns, &bench->tx) ||
        lab_end_open(&channel, LAB_RX, &bench->wire[pair.leads ? 1 : 0], NULL, pair.deadline_ns, &bench->rx))
        give_up(bench->name);
}

static void meet_other(void)
{
    struct lab_segment segment = {.fd = -1};
    struct { pid_t pid; int fd; } owner = {0};
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    pair = (struct lab_pair){.leads = rank == 0, .deadline_ns = lab_now_ns() + LAB_PAIR_WITHIN_S * LAB_NS_PER_S};
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)rank, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        (void)lab_fail(errno, "cannot run on CPU %d", rank), give_up("pinning");
    if (pair.leads && lab_segment_create("bench-large", sizeof(struct board) + 4096, &segment))
        give_up("sharing memory");
    if (pair.leads)
        lab_segment_ready(&segment);
    owner.pid = getpid();
    owner.fd = segment.fd;
    MPI_Bcast(&owner, sizeof owner, MPI_BYTE, 0, MPI_COMM_WORLD);
    if (!pair.leads && lab_segment_attach(borrow_fd(owner.pid, owner.fd), pair.deadline_ns, &segment))
        give_up("sharing memory");
    board = (struct board *)(((uintptr_t)segment.memory + 4095) & ~(uintptr_t)4095);
    pair.probe = &board->probe;
    static const char *const ours[] = {"shm-pool", "shm-ring"};
    static const uint32_t sizes[] = {64 * KiB, MiB};
    for (uint32_t s = 0; s < 2; s++) {
        add("lines", WHOLE, sizes[s], 1);
        for (enum task task = WHOLE; task <= PASSED; task++) {
            for (uint32_t t = 0; t < 2; t++)
                add(ours[t], task, sizes[s], 1);
            for (uint32_t buffers = 1; buffers <= TURNS && task != ONE_COPY && task != PASSED; buffers *= TURNS)
                add(NULL, task, sizes[s], buffers);
        }
    }
    for (uint32_t i = 0; i < count; i++)
        join(&cases[i], owner.pid);
}

/* MPI's best figure for the same; 0: there is none. */
static double beside(const double *ns, const struct bench *bench)
{
    double best = 0;
    for (uint32_t i = 0; i < count && bench->transport; i++)
        if (!cases[i].transport && cases[i].task == bench->task && cases[i].size == bench->size && (best <= 0 || ns[i] < best))
            best = ns[i];
    return best;
}

static void print(double figure[CASES_MAX][ROUNDS_MAX], double handoff[CASES_MAX][ROUNDS_MAX], uint32_t rounds)
{
    double ns[CASES_MAX] = {0};
    for (uint32_t i = 0; i < count; i++)
        ns[i] = lab_pair_median(figure[i], rounds);
    for (uint32_t i = 0; i < count; i++) {
        double mpi = beside(ns, &cases[i]);
        if (ns[i] <= 0)
            continue;
        printf("%-28s %9.2f us  %7.1f GB/s  hand-off %6.1f ns", cases[i].name, ns[i] / 1e3, cases[i].size / ns[i],
               lab_pair_median(handoff[i], rounds));
        if (mpi > 0)
            printf("  MPI takes %.2f times as long", mpi / ns[i]);
        putchar('\n');
    }
}

int main(int argc, char **argv)
{
    static double figure[CASES_MAX][ROUNDS_MAX], handoff[CASES_MAX][ROUNDS_MAX];
    int rounds = argc > 1 ? atoi(argv[1]) : 20, ranks = 0;
    const char *wanted = argc > 2 ? argv[2] : "";
    MPI_Init(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (ranks != 2 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "mpiexec -n 2 %s [ROUNDS [CASE]], up to %d rounds\n", argv[0], ROUNDS_MAX);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    source = aligned_alloc(4096, TURNS * MiB);
    target = aligned_alloc(4096, TURNS * MiB);
    memset(source, 1, TURNS * MiB);
    memset(target, 1, TURNS * MiB);
    meet_other();
    for (int round = 0; round < rounds; round++)
        for (uint32_t i = 0; i < count; i++) {
            if (!strstr(cases[i].name, wanted))
                continue;
            double before = lab_pair_meet(&pair);
            figure[i][round] = run(&cases[i]);
            handoff[i][round] = (before + lab_pair_meet(&pair)) / 2;
        }
    if (pair.leads)
        print(figure, handoff, (uint32_t)rounds);
    MPI_Finalize();
    return check == 1; /* never: sums of whole buffers */
}
