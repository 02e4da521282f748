/* What shm-queue can do at best, beside Concurrency Kit's ring for many producers and many consumers (ck_ring_enqueue_mpmc), in the
 * same seconds: every byte written and every byte read, each party a process. Both structures are asked in the same loop; where there
 * are more parties than cores they give theirs away when there is nothing to do. Two of a side share a core ("apart": producers on
 * CPU 0, consumers on CPU 1) or each has one ("beside": a producer and a consumer on each): ck_ring's producers wait for each other
 * within an operation, and where two of them have one core, one of them waits for the time slice of the other.
 *
 *     queue [ROUNDS [CASE]]     rounds are interleaved: every case once, then again; CASE selects by a part of the name
 *
 * ck_ring is measured as deep as the window and as deep as a lane; the ratio is to the better of the two. On a machine that has other
 * things to do, run it with real-time priority (chrt -r 50): parties that yield give their core to whoever else wants it. */
#include "bench/pair.h"

#include "base/error.h"
#include "shm/queue.h"
#include "shm/segment.h"

#include <ck_ring.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ROUNDS_MAX = 200,
    SIDE = 2,                 /* producers, and consumers, at most */
    MESSAGES = 1 << 20,       /* in one spell, or what can be sent in so many ms */
    SPELL_MS = 30,
    WINDOW = 1024,
    BATCH = 32,
    CK_SHALLOW = 1024,
    CK_DEEP = 1 << 16,
    LOOK = 256,               /* attempts between two looks at the clock */
    POLLS = 16,               /* attempts at ck_ring before a core is given away */
    WAIT_US = 200,            /* of one call of ours */
    PROBES = 400,
    WITHIN_S = 100,           /* for the whole bench */
};

struct line {
    uint64_t word[8];
};
CK_RING_PROTOTYPE(line, line)

enum kind { OURS, OURS_BATCHED, CK, KINDS };
struct bench_case {
    const char *name;
    uint32_t producers, consumers, size;
    bool beside;
};
static const struct bench_case cases[] = {
    {"1x1 8 B", 1, 1, 8, false},         {"1x1 64 B", 1, 1, 64, false},
    {"2x1 8 B beside", 2, 1, 8, true},   {"2x1 64 B beside", 2, 1, 64, true},
    {"1x2 8 B apart", 1, 2, 8, false},   {"1x2 64 B apart", 1, 2, 64, false},
    {"2x2 8 B beside", 2, 2, 8, true},   {"2x2 64 B beside", 2, 2, 64, true},
    {"2x2 8 B apart", 2, 2, 8, false},   {"2x2 64 B apart", 2, 2, 64, false},
};
enum { CASES = sizeof cases / sizeof *cases, VARIANTS = 4 };
/* ours one by one, ours in batches, ck shallow, ck deep */
static const char *const variants[VARIANTS] = {"one by one", "in 32s", "ck", "ck deep"};

/* Shared by everyone: where parties meet, and what consumers have received in all. */
struct board {
    _Alignas(128) _Atomic uint32_t arrived;
    _Alignas(128) _Atomic uint64_t received;
    _Atomic uint64_t sum_received;
    _Alignas(128) _Atomic uint64_t sent;
    _Atomic uint64_t sum_sent;
    _Atomic uint32_t ended; /* producers */
    _Alignas(128) _Atomic uint32_t over; /* its time is */
    uint64_t began_ns[2 * SIDE], ended_ns[2 * SIDE];
    struct lab_probe probe;
    _Alignas(128) ck_ring_t ring;
    _Alignas(128) unsigned char slots[];
};

static struct {
    struct board *board;
    struct lab_queue_config config[CASES][2];
    struct lab_segment queue[CASES][2];
    uint32_t meetings;
    uint64_t deadline_ns;
} all;

/* Both sides of one party; only one is used. */
static struct lab_queue_producer producer[CASES][2];
static struct lab_queue_consumer consumer[CASES][2];

static _Noreturn void give_up(const char *doing)
{
    fprintf(stderr, "%s: %s\n", doing, lab_error_last()->text);
    exit(1);
}

/* Whether there are more parties than cores. */
static bool crowded(const struct bench_case *kind)
{
    return kind->producers + kind->consumers > SIDE;
}

static inline void relax(const struct bench_case *kind, uint32_t *polls)
{
    if (++*polls % POLLS || !crowded(kind))
        lab_wait_pause();
    else
        sched_yield();
}

/* Asleep: who has no part in a case must not take time from those who have. */
static void meet(void)
{
    const struct timespec pause = {.tv_nsec = 50 * LAB_NS_PER_US};
    uint32_t due = ++all.meetings * 2 * SIDE;
    atomic_fetch_add(&all.board->arrived, 1);
    while ((int32_t)(atomic_load(&all.board->arrived) - due) < 0) {
        nanosleep(&pause, NULL);
        if (lab_now_ns() > all.deadline_ns)
            give_up("somebody did not come");
    }
}

static inline __attribute__((always_inline)) void write_one(void *to, uint32_t size, uint64_t number, const struct line *template)
{
    struct line line = *template;
    line.word[0] = number;
    memcpy(to, &line, size);
}

static inline __attribute__((always_inline)) uint64_t read_one(const void *from, uint32_t size)
{
    uint64_t sum = 0, word[8];
    memcpy(word, from, size);
    for (uint32_t i = 0; i < size / 8; i++)
        sum += word[i];
    return sum;
}

/* ---- the two structures, behind the same two questions: how many went in, how many came out, 0 if none could ---- */

static inline __attribute__((always_inline)) uint32_t put_ours(struct lab_queue_producer *p, uint32_t want, uint32_t size, uint64_t number,
                                                               const struct line *template, uint64_t deadline_ns)
{
    struct lab_span span;
    if (lab_queue_reserve(p, size, want, deadline_ns, &span))
        return 0;
    for (uint32_t i = 0; i < span.count; i++)
        write_one(span.at + i * span.stride, size, number + i, template);
    lab_queue_commit(p, span.count);
    return span.count;
}

static inline __attribute__((always_inline)) uint32_t take_ours(struct lab_queue_consumer *c, uint32_t want, uint32_t size, uint64_t *sum,
                                                                uint64_t deadline_ns)
{
    struct lab_span span;
    if (lab_queue_borrow(c, want, deadline_ns, &span))
        return 0;
    for (uint32_t i = 0; i < span.count; i++)
        *sum += read_one(span.at + i * span.stride, size);
    lab_queue_release(c, span.count);
    return span.count;
}

static inline __attribute__((always_inline)) uint32_t put_ck(uint32_t size, uint64_t number, const struct line *template)
{
    struct board *board = all.board;
    if (size == 8)
        return ck_ring_enqueue_mpmc(&board->ring, (void *)board->slots, (void *)(uintptr_t)number);
    struct line line;
    write_one(&line, size, number, template);
    return ck_ring_enqueue_mpmc_line(&board->ring, (void *)board->slots, &line);
}

static inline __attribute__((always_inline)) uint32_t take_ck(uint32_t size, uint64_t *sum)
{
    struct board *board = all.board;
    struct line line;
    void *pointer;
    if (size == 8) {
        if (!ck_ring_dequeue_mpmc(&board->ring, (void *)board->slots, &pointer))
            return 0;
        *sum += (uintptr_t)pointer;
        return 1;
    }
    if (!ck_ring_dequeue_mpmc_line(&board->ring, (void *)board->slots, &line))
        return 0;
    *sum += read_one(&line, size);
    return 1;
}

/* ---- a case ---- */

/* Until all is sent or the time is over, as a consumer says: producers of ck_ring may be stuck in an operation. */
static inline __attribute__((always_inline)) void produce(uint32_t c, uint32_t variant, uint32_t size, uint64_t from, uint64_t to)
{
    static const struct line template = {.word = {1, 2, 3, 4, 5, 6, 7, 8}};
    uint64_t number = from, until_ns = lab_now_ns();
    uint32_t polls = 0;
    while (number < to && !atomic_load_explicit(&all.board->over, memory_order_relaxed)) {
        uint32_t want = variant == 1 ? BATCH : 1;
        if (to - number < want)
            want = (uint32_t)(to - number);
        uint32_t put = variant < 2 ? put_ours(&producer[c][variant], want, size, number, &template, until_ns)
                                   : put_ck(size, number, &template);
        number += put;
        if (!put && variant < 2)
            until_ns = lab_now_ns() + WAIT_US * LAB_NS_PER_US;
        else if (!put)
            relax(&cases[c], &polls);
    }
    uint64_t rest = size == 64 ? 2 + 3 + 4 + 5 + 6 + 7 + 8 : 0;
    atomic_fetch_add(&all.board->sum_sent, (from + number - 1) * (number - from) / 2 + (number - from) * rest);
    atomic_fetch_add(&all.board->sent, number - from);
    atomic_fetch_add(&all.board->ended, 1);
}

/* Until all producers have ended and everything was received by someone. */
static inline __attribute__((always_inline)) void consume(uint32_t c, uint32_t variant, uint32_t size)
{
    struct board *board = all.board;
    uint64_t sum = 0, got = 0, until_ns = lab_now_ns(), ends_ns = until_ns + SPELL_MS * LAB_NS_PER_MS;
    uint32_t polls = 0, looks = 0;
    for (;;) {
        if (++looks % LOOK == 0 && lab_now_ns() > ends_ns)
            atomic_store_explicit(&board->over, 1, memory_order_relaxed);
        uint32_t took = variant < 2 ? take_ours(&consumer[c][variant], variant ? BATCH : 1, size, &sum, until_ns) : take_ck(size, &sum);
        got += took;
        if (took)
            continue;
        if (variant < 2)
            until_ns = lab_now_ns() + WAIT_US * LAB_NS_PER_US;
        else
            relax(&cases[c], &polls);
        if (atomic_load_explicit(&board->ended, memory_order_relaxed) != cases[c].producers)
            continue;
        atomic_fetch_add(&board->sum_received, sum);
        atomic_fetch_add(&board->received, got);
        sum = got = 0;
        if (atomic_load(&board->received) == atomic_load(&board->sent))
            return;
    }
}

/* Straight-line code for each size and structure. */
#define FOR_ALL(call, ...)                                               \
    switch (variant * 2 + (cases[c].size == 64)) {                       \
    case 0: call(c, 0, 8 __VA_ARGS__); break;                            \
    case 1: call(c, 0, 64 __VA_ARGS__); break;                           \
    case 2: call(c, 1, 8 __VA_ARGS__); break;                            \
    case 3: call(c, 1, 64 __VA_ARGS__); break;                           \
    case 4: case 6: call(c, 2, 8 __VA_ARGS__); break;                    \
    default: call(c, 2, 64 __VA_ARGS__); break;                          \
    }

static void pin(uint32_t cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        (void)lab_fail(errno, "cannot run on CPU %u", cpu), give_up("pinning");
}

/* Million messages per second; told by the first party. */
static double run(uint32_t c, uint32_t variant, uint32_t party, double *ret_handoff_ns)
{
    const struct bench_case *kind = &cases[c];
    if (party == 0) {
        atomic_store(&all.board->received, 0);
        atomic_store(&all.board->sum_received, 0);
        atomic_store(&all.board->sent, 0);
        atomic_store(&all.board->sum_sent, 0);
        atomic_store(&all.board->ended, 0);
        atomic_store(&all.board->over, 0);
        ck_ring_init(&all.board->ring, variant == 3 ? CK_DEEP : CK_SHALLOW);
    }
    pin(kind->beside ? party % SIDE : party / SIDE);
    meet();
    if (party == 0 && lab_probe_lead(&all.board->probe, PROBES, all.deadline_ns, ret_handoff_ns))
        give_up("the hand-off");
    if (party == (kind->beside ? SIDE + 1 : SIDE) && lab_probe_follow(&all.board->probe, PROBES, all.deadline_ns))
        give_up("the hand-off");
    meet();
    uint64_t share = MESSAGES / kind->producers;
    all.board->began_ns[party] = lab_now_ns();
    if (party < SIDE && party < kind->producers) {
        uint64_t from = 1 + party * share;
        FOR_ALL(produce, , from, from + share)
    } else if (party >= SIDE && party - SIDE < kind->consumers) {
        FOR_ALL(consume, )
    }
    all.board->ended_ns[party] = lab_now_ns();
    meet();
    if (atomic_load(&all.board->sum_received) != atomic_load(&all.board->sum_sent)) {
        fprintf(stderr, "what was read is not what was written\n");
        exit(1);
    }
    uint64_t first = UINT64_MAX, last = 0;
    for (uint32_t p = 0; p < 2 * SIDE; p++) {
        first = all.board->began_ns[p] < first ? all.board->began_ns[p] : first;
        last = all.board->ended_ns[p] > last ? all.board->ended_ns[p] : last;
    }
    double rate = (double)atomic_load(&all.board->sent) / (double)(last - first) * 1000;
    meet();
    return rate;
}

static void make(void)
{
    struct lab_segment segment;
    if (lab_segment_create("bench", sizeof(struct board) + CK_DEEP * sizeof(struct line), &segment))
        give_up("making the board");
    all.board = segment.memory;
    for (uint32_t c = 0; c < CASES; c++)
        for (uint32_t batched = 0; batched < 2; batched++) {
            all.config[c][batched] = (struct lab_queue_config){
                .message_max = cases[c].size, .window = WINDOW, .producers = cases[c].producers, .consumers = cases[c].consumers,
                .batch = batched ? BATCH : 1, .wait = crowded(&cases[c]) ? LAB_WAIT_YIELD : LAB_WAIT_SPIN,
            };
            struct lab_queue_shape shape;
            if (lab_queue_shape(&all.config[c][batched], &shape) || lab_segment_create("queue", shape.size, &all.queue[c][batched]))
                give_up(cases[c].name);
            lab_queue_init(all.queue[c][batched].memory, &all.config[c][batched], &shape);
        }
}

static void join(uint32_t party)
{
    for (uint32_t c = 0; c < CASES; c++)
        for (uint32_t b = 0; b < 2; b++) {
            struct lab_segment *queue = &all.queue[c][b];
            int err = 0;
            if (party < SIDE && party < cases[c].producers)
                err = lab_queue_produce(&producer[c][b], queue->memory, queue->size, &all.config[c][b], party);
            else if (party >= SIDE && party - SIDE < cases[c].consumers)
                err = lab_queue_consume(&consumer[c][b], queue->memory, queue->size, &all.config[c][b], party - SIDE);
            if (err)
                give_up(cases[c].name);
        }
}

static void print(double figure[CASES][VARIANTS][ROUNDS_MAX], double handoff[CASES][VARIANTS][ROUNDS_MAX], uint32_t rounds,
                  const char *wanted)
{
    printf("million messages/s, medians of %-3u rounds", rounds);
    for (uint32_t v = 0; v < VARIANTS; v++)
        printf("%12s", variants[v]);
    printf("     one by one / ck   in 32s / ck        hand-off\n");
    for (uint32_t c = 0; c < CASES; c++) {
        if (!strstr(cases[c].name, wanted))
            continue;
        double m[VARIANTS], apart[VARIANTS * ROUNDS_MAX];
        for (uint32_t i = 0; i < VARIANTS * rounds; i++)
            apart[i] = handoff[c][i % VARIANTS][i / VARIANTS];
        printf("%-39s", cases[c].name);
        for (uint32_t v = 0; v < VARIANTS; v++)
            printf("%12.2f", m[v] = lab_pair_median(figure[c][v], rounds));
        double ck = m[2] > m[3] ? m[2] : m[3];
        printf("%20.2f %13.2f %12.1f ns\n", m[0] / ck, m[1] / ck, lab_pair_median(apart, VARIANTS * rounds));
    }
}

int main(int argc, char **argv)
{
    static double figure[CASES][VARIANTS][ROUNDS_MAX], handoff[CASES][VARIANTS][ROUNDS_MAX];
    uint32_t rounds = argc > 1 ? (uint32_t)atoi(argv[1]) : 10, party = 0;
    const char *wanted = argc > 2 ? argv[2] : "";
    if (rounds < 1 || rounds > ROUNDS_MAX)
        return 2;
    make();
    all.deadline_ns = lab_now_ns() + WITHIN_S * LAB_NS_PER_S;
    pid_t children[2 * SIDE] = {0};
    for (uint32_t i = 1; i < 2 * SIDE && party == 0; i++) {
        children[i] = fork();
        if (children[i] < 0)
            return 1;
        if (children[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            party = i;
        }
    }
    join(party);
    for (uint32_t round = 0; round < rounds; round++)
        for (uint32_t c = 0; c < CASES; c++)
            for (uint32_t v = 0; v < VARIANTS; v++)
                if (strstr(cases[c].name, wanted))
                    figure[c][v][round] = run(c, v, party, &handoff[c][v][round]);
    if (party)
        _exit(0);
    int status = 0, failed = 0;
    for (uint32_t i = 1; i < 2 * SIDE; i++)
        failed |= waitpid(children[i], &status, 0) != children[i] || status;
    if (!failed)
        print(figure, handoff, rounds, wanted);
    return failed;
}
