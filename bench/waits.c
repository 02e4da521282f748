/* What a way to wait is worth when processes are few and when they are many: pairs that play ping-pong over shm/ring, as ordinary
 * processes of the ordinary scheduler, all at the same time on given CPUs.
 *
 *     waits [-r ROUNDS] [-t MS] [-b BYTES] [-p apart|together|any] [-c CPU,CPU...] [PROCESSES...]
 *
 * Rounds are interleaved: every strategy once, then again. `apart` keeps the two of a pair on two CPUs, `together` on one, `any`
 * lets the scheduler place them. Printed are round trips/s of all pairs together (the median of the rounds), what a fixed strategy made
 * of what adaptive made (the median of the rounds' ratios), and what the pair that got least had of an equal share.
 *
 * A round in which others had much of the CPUs is played again, a few times. Each round has processes of its own: the scheduler remembers for seconds who has yielded. They meet at a barrier and play until a
 * deadline; counted is what the pairs' own counters say between two readings by the parent, some time after the start and some time
 * before the end. Root keeps the processes of other sessions away (the scheduler's autogroups, which share the CPUs between sessions
 * whatever the nice values in them are). */
#include "base/clock.h"
#include "base/error.h"
#include "bench/pair.h"
#include "shm/ring.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOREIGN_MOST 0.08
enum { ATTEMPTS = 3, PROCESSES_MAX = 4096, ROUNDS_MAX = 100, CPUS_MAX = 64, SETTLE_MS = 10, SETTLE_PER_MS = 5, START_WITHIN_S = 20 };

/* ---- the strategies ---- */

/* What is fixed is said in numbers: so many looks, so many yields, then sleep. */
struct strategy {
    const char *name;
    enum lab_wait wait;
    uint32_t polls, yields;
};

static const struct strategy strategies[] = {
    {"adaptive", LAB_WAIT_ADAPTIVE, 0, 0},
    {"spin", LAB_WAIT_SPIN, 0, 0},
    {"yield", LAB_WAIT_YIELD, 0, 0},
    {"futex", LAB_WAIT_FUTEX, 0, 0},
    {"2,000 polls, futex", LAB_WAIT_FUTEX, 2000, 0},
    {"3 yields, futex", LAB_WAIT_FUTEX, 0, 3},
};
enum { ADAPTIVE, STRATEGIES = sizeof strategies / sizeof *strategies };

static struct lab_wait_plan plan_of(const struct strategy *strategy)
{
    struct lab_wait_plan plan = lab_wait_plan(strategy->wait);
    if (strategy->polls)
        plan.polls = strategy->polls;
    if (strategy->yields)
        plan.yields = strategy->yields;
    return plan;
}

/* ---- what is shared ---- */

struct shared {
    _Alignas(LAB_RING_LINE) _Atomic uint32_t started; /* the parent's */
    uint64_t deadline_ns;
    _Alignas(LAB_RING_LINE) _Atomic uint32_t arrived; /* the children's: so many are at the barrier */
};

/* Of one pair. */
struct score {
    _Alignas(LAB_RING_LINE) _Atomic uint64_t trips;
};

struct arena {
    void *memory;
    size_t size;
    struct shared *shared;
    struct score *scores;
    unsigned char *rings; /* of pair p: there at 2 p, back at 2 p + 1 */
    struct lab_ring_config config;
    struct lab_ring_shape shape;
    uint32_t processes;
};

struct request {
    uint32_t rounds, play_ms, bytes;
    const char *placement;
    int cpus[CPUS_MAX];
    uint32_t cpu_count;
};

static _Noreturn void give_up(const char *doing)
{
    fprintf(stderr, "%s: %s\n", doing, lab_error_last()->text);
    exit(1);
}

static long futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *within)
{
    return syscall(SYS_futex, word, operation, value, within, NULL, 0);
}

static void *ring_at(const struct arena *arena, uint32_t index)
{
    return arena->rings + index * arena->shape.size;
}

static void arena_make(const struct request *request, uint32_t processes, struct arena *ret_arena)
{
    struct arena arena = {.processes = processes, .config = {.message_max = request->bytes, .window = 1, .batch = 1, .wait = LAB_WAIT_FUTEX}};
    if (lab_ring_shape(&arena.config, &arena.shape))
        give_up("the shape of the rings");
    size_t scores = processes / 2 * sizeof(struct score);
    arena.size = sizeof(struct shared) + scores + processes * arena.shape.size;
    arena.memory = mmap(NULL, arena.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (arena.memory == MAP_FAILED) {
        lab_fail(errno, "no memory for %u processes", processes);
        give_up("making the rings");
    }
    arena.shared = arena.memory;
    arena.scores = (struct score *)(arena.shared + 1);
    arena.rings = (unsigned char *)arena.scores + scores;
    *ret_arena = arena;
}

static void arena_reset(const struct arena *arena)
{
    memset(arena->memory, 0, arena->size);
    for (uint32_t ring = 0; ring < arena->processes; ring++)
        lab_ring_init(ring_at(arena, ring), &arena->config, &arena->shape);
}

/* ---- a process ---- */

struct player {
    const struct arena *arena;
    struct lab_ring_producer tx;
    struct lab_ring_consumer rx;
    uint64_t deadline_ns;
    _Atomic uint64_t *trips;
};

static void pin(const struct request *request, uint32_t process)
{
    uint32_t pair = process / 2, shift = strcmp(request->placement, "apart") == 0 ? process % 2 : 0;
    cpu_set_t set;
    CPU_ZERO(&set);
    for (uint32_t c = 0; c < request->cpu_count; c++)
        if (strcmp(request->placement, "any") == 0 || c == (pair + shift) % request->cpu_count)
            CPU_SET(request->cpus[c], &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0) {
        lab_fail(errno, "cannot be placed %s", request->placement);
        give_up("a process");
    }
}

/* Every byte is written and every byte is read. */
static int put(struct player *player, uint64_t number)
{
    struct lab_span span;
    int err = lab_ring_reserve(&player->tx, player->arena->config.message_max, 1, player->deadline_ns, &span);
    if (err)
        return err;
    for (uint32_t at = 0; at < span.length; at += sizeof number)
        memcpy(span.at + at, &number, sizeof number);
    lab_ring_commit(&player->tx, 1);
    return 0;
}

static int take(struct player *player, uint64_t number)
{
    struct lab_span span;
    int err = lab_ring_borrow(&player->rx, 1, player->deadline_ns, &span);
    if (err)
        return err;
    uint64_t wrong = 0, word;
    for (uint32_t at = 0; at < span.length; at += sizeof word) {
        memcpy(&word, span.at + at, sizeof word);
        wrong |= word ^ number;
    }
    lab_ring_release(&player->rx, 1);
    return wrong ? lab_refuse(EBADMSG, "message %llu is not what was sent", (unsigned long long)number) : 0;
}

/* Until the deadline: whoever has to wait finds that it has passed; who never has to is told by the client. */
static int play(struct player *player, bool client)
{
    for (uint64_t trip = 1;; trip++) {
        int err = client ? put(player, trip) : take(player, trip);
        if (!err)
            err = client ? take(player, trip) : put(player, trip);
        if (err)
            return err == -EAGAIN ? 0 : err;
        if (!client)
            continue;
        atomic_store_explicit(player->trips, trip, memory_order_relaxed);
        if (trip % 64 == 0 && lab_now_ns() >= player->deadline_ns)
            return 0;
    }
}

static int attach(const struct arena *arena, uint32_t process, const struct strategy *strategy, struct player *ret_player)
{
    uint32_t pair = process / 2, server = process % 2;
    *ret_player = (struct player){.arena = arena, .trips = &arena->scores[pair].trips};
    int err = lab_ring_produce(&ret_player->tx, ring_at(arena, 2 * pair + server), arena->shape.size, &arena->config);
    if (!err)
        err = lab_ring_consume(&ret_player->rx, ring_at(arena, 2 * pair + !server), arena->shape.size, &arena->config);
    ret_player->tx.view.plan = ret_player->rx.view.plan = plan_of(strategy);
    return err;
}

/* Returns the exit code. */
static int process_main(const struct arena *arena, const struct request *request, const struct strategy *strategy, uint32_t process)
{
    struct shared *shared = arena->shared;
    const struct timespec patience = lab_timespec(START_WITHIN_S * LAB_NS_PER_S);
    struct player player;
    setpriority(PRIO_PROCESS, 0, 0);
    pin(request, process);
    int err = attach(arena, process, strategy, &player);
    if (!err) {
        if (atomic_fetch_add(&shared->arrived, 1) + 1 == arena->processes)
            futex(&shared->arrived, FUTEX_WAKE, 1, NULL);
        while (!atomic_load(&shared->started))
            if (futex(&shared->started, FUTEX_WAIT, 0, &patience) < 0 && errno == ETIMEDOUT)
                return 1;
        player.deadline_ns = shared->deadline_ns;
        err = play(&player, process % 2 == 0);
    }
    if (err)
        fprintf(stderr, "process %u: %s\n", process, lab_error_last()->text);
    return err != 0;
}

/* ---- the parent ---- */

static void start_all(const struct arena *arena, const struct request *request, const struct strategy *strategy)
{
    struct shared *shared = arena->shared;
    fflush(NULL);
    for (uint32_t process = 0; process < arena->processes; process++) {
        pid_t pid = fork();
        if (pid < 0) {
            lab_fail(errno, "cannot fork process %u", process);
            give_up("starting");
        }
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(process_main(arena, request, strategy, process));
        }
    }
    uint64_t deadline_ns = lab_now_ns() + START_WITHIN_S * LAB_NS_PER_S;
    const struct timespec moment = lab_timespec(100 * LAB_NS_PER_MS);
    for (uint32_t arrived; (arrived = atomic_load(&shared->arrived)) < arena->processes;) {
        if (lab_now_ns() > deadline_ns) {
            fprintf(stderr, "%u of %u processes came to the barrier\n", arrived, arena->processes);
            exit(1);
        }
        futex(&shared->arrived, FUTEX_WAIT, arrived, &moment);
    }
}

static void end_all(const struct arena *arena)
{
    int failed = 0, status;
    for (uint32_t process = 0; process < arena->processes; process++)
        failed |= wait(&status) < 0 || status;
    if (failed) {
        fprintf(stderr, "a process failed\n");
        exit(1);
    }
}

static void sleep_until(uint64_t at_ns)
{
    struct timespec at = lab_timespec(at_ns);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}

static void read_scores(const struct arena *arena, uint64_t *ret_trips)
{
    for (uint32_t pair = 0; pair < arena->processes / 2; pair++)
        ret_trips[pair] = atomic_load_explicit(&arena->scores[pair].trips, memory_order_relaxed);
}

/* What the CPUs were busy with, and what this process and its children had of it, ns. */
static double busy_ns(const struct request *request)
{
    double ticks = 0;
    char line[256];
    FILE *stat = fopen("/proc/stat", "r");
    while (stat && fgets(line, sizeof line, stat)) {
        int cpu;
        double user, nice, system;
        if (sscanf(line, "cpu%d %lf %lf %lf", &cpu, &user, &nice, &system) != 4)
            continue;
        for (uint32_t c = 0; c < request->cpu_count; c++)
            if (request->cpus[c] == cpu)
                ticks += user + nice + system;
    }
    if (stat)
        fclose(stat);
    return ticks * 1e9 / (double)sysconf(_SC_CLK_TCK);
}

static double own_ns(void)
{
    double ns = 0;
    for (int who = RUSAGE_CHILDREN; who <= RUSAGE_SELF; who++) {
        struct rusage used;
        getrusage(who, &used);
        ns += (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e9 + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e3;
    }
    return ns;
}

struct figure {
    double per_s;
    double least;   /* of the pair that made least, as a share of what each would have if all had the same */
    double foreign; /* what others had of the CPUs, as a share of their time */
};

static struct figure one_round(const struct arena *arena, const struct request *request, const struct strategy *strategy)
{
    static uint64_t before[PROCESSES_MAX / 2], after[PROCESSES_MAX / 2];
    struct shared *shared = arena->shared;
    uint32_t pairs = arena->processes / 2;
    double busy = busy_ns(request), own = own_ns(), start_ns = (double)lab_now_ns();
    arena_reset(arena);
    start_all(arena, request, strategy);
    uint64_t settle_ns = (SETTLE_MS + arena->processes / SETTLE_PER_MS) * LAB_NS_PER_MS;
    uint64_t begin_ns = lab_now_ns() + settle_ns, end_ns = begin_ns + request->play_ms * LAB_NS_PER_MS;
    shared->deadline_ns = end_ns + settle_ns;
    atomic_store(&shared->started, 1);
    futex(&shared->started, FUTEX_WAKE, INT32_MAX, NULL);
    sleep_until(begin_ns);
    begin_ns = lab_now_ns();
    read_scores(arena, before);
    sleep_until(end_ns);
    end_ns = lab_now_ns();
    read_scores(arena, after);
    end_all(arena);
    busy = busy_ns(request) - busy;
    own = own_ns() - own;

    uint64_t total = 0, least = UINT64_MAX;
    for (uint32_t pair = 0; pair < pairs; pair++) {
        uint64_t trips = after[pair] - before[pair];
        total += trips;
        least = trips < least ? trips : least;
    }
    return (struct figure){
        .per_s = (double)total / (double)(end_ns - begin_ns) * 1e9,
        .least = total ? (double)least * pairs / (double)total : 0,
        .foreign = (busy - own) / (((double)lab_now_ns() - start_ns) * request->cpu_count),
    };
}

/* How many times what adaptive made a strategy made, in the same round: the two cores move between rounds. */
static double against_adaptive(double rate[STRATEGIES][ROUNDS_MAX], uint32_t strategy, uint32_t rounds)
{
    double ratio[ROUNDS_MAX];
    for (uint32_t round = 0; round < rounds; round++)
        ratio[round] = rate[strategy][round] / (rate[ADAPTIVE][round] + 1);
    return lab_pair_median(ratio, rounds);
}

static void print_table(uint32_t processes, double rate[STRATEGIES][ROUNDS_MAX], double least[STRATEGIES][ROUNDS_MAX], uint32_t rounds)
{
    double ratio[STRATEGIES];
    uint32_t best = ADAPTIVE + 1;
    for (uint32_t s = 0; s < STRATEGIES; s++)
        ratio[s] = against_adaptive(rate, s, rounds);
    for (uint32_t s = 0; s < STRATEGIES; s++) {
        double p50 = lab_pair_median(rate[s], rounds);
        printf("%5u processes  %-20s %12.0f round trips/s  [%.0f, %.0f]  %.2f of adaptive; least pair: %.2f of its share\n", processes,
               strategies[s].name, p50, rate[s][0], rate[s][rounds - 1], ratio[s], lab_pair_median(least[s], rounds));
        if (s != ADAPTIVE && ratio[s] > ratio[best])
            best = s;
    }
    printf("%5u processes  the best fixed one, %s, made %.2f of what adaptive made in the same rounds\n", processes,
           strategies[best].name, ratio[best]);
}

static void play_with(const struct request *request, uint32_t processes)
{
    static double rate[STRATEGIES][ROUNDS_MAX], least[STRATEGIES][ROUNDS_MAX];
    struct arena arena;
    arena_make(request, processes, &arena);
    uint32_t aside = 0;
    for (uint32_t round = 0; round < request->rounds; round++)
        for (uint32_t s = 0; s < STRATEGIES; s++) {
            struct figure figure;
            for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
                figure = one_round(&arena, request, &strategies[s]);
                if (figure.foreign < FOREIGN_MOST)
                    break;
                aside++;
            }
            rate[s][round] = figure.per_s;
            least[s][round] = figure.least;
        }
    if (aside)
        printf("%5u processes  %u rounds were disturbed: others had %.0f %% of the CPUs or more\n", processes, aside, 100 * FOREIGN_MOST);
    munmap(arena.memory, arena.size);
    print_table(processes, rate, least, request->rounds);
    fflush(stdout);
}

static bool parse_cpus(char *text, struct request *request)
{
    request->cpu_count = 0;
    for (char *cpu = strtok(text, ","); cpu && request->cpu_count < CPUS_MAX; cpu = strtok(NULL, ","))
        request->cpus[request->cpu_count++] = atoi(cpu);
    return request->cpu_count > 0;
}

/* The parent must get to its clock among a thousand who run; those it counts have the ordinary priority, within a group that other
 * sessions do not disturb. Without the right to it the figures still hold, with whatever else runs. */
static void have_the_cpus(void)
{
    FILE *autogroup = setsid() < 0 ? NULL : fopen("/proc/self/autogroup", "w");
    if (!autogroup || fputs("-20", autogroup) < 0 || fclose(autogroup) || setpriority(PRIO_PROCESS, 0, -20))
        fprintf(stderr, "other sessions take part: %s\n", strerror(errno));
}

int main(int argc, char **argv)
{
    static const uint32_t usual[] = {2, 8, 64, 256, 1000};
    struct request request = {.rounds = 5, .play_ms = 200, .bytes = 64, .placement = "apart", .cpus = {0, 1}, .cpu_count = 2};
    for (int option; (option = getopt(argc, argv, "r:t:b:p:c:")) != -1;)
        switch (option) {
        case 'r': request.rounds = (uint32_t)atoi(optarg); break;
        case 't': request.play_ms = (uint32_t)atoi(optarg); break;
        case 'b': request.bytes = (uint32_t)atoi(optarg); break;
        case 'p': request.placement = optarg; break;
        case 'c':
            if (!parse_cpus(optarg, &request))
                return 2;
            break;
        default: return 2;
        }
    if (request.rounds < 1 || request.rounds > ROUNDS_MAX || request.bytes < 8 || request.bytes % 8 || request.play_ms < 1)
        return 2;
    for (int i = optind; i < argc; i++)
        if (atoi(argv[i]) < 2 || atoi(argv[i]) > PROCESSES_MAX || atoi(argv[i]) % 2)
            return 2;
    have_the_cpus();
    printf("pairs %s, %u B, %u rounds of %u ms each\n", request.placement, request.bytes, request.rounds, request.play_ms);
    for (int i = optind; i < argc; i++)
        play_with(&request, (uint32_t)atoi(argv[i]));
    for (size_t i = 0; optind == argc && i < sizeof usual / sizeof *usual; i++)
        play_with(&request, usual[i]);
    return 0;
}
