/* What shm-ring can do at best, beside the hand-off of one cache line in the same seconds: messages through the table of
 * functions, every byte written and every byte read, without the laboratory's rig. Long messages stand beside what memcpy moves
 * into as much memory in the same seconds.
 *
 *     ring [ROUNDS [CASE]]       rounds are interleaved: every case once, then again; CASE selects by a part of the name */
#include "bench/pair.h"

#include "base/error.h"
#include "node/transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 1000, TRIPS = 40, BATCHES = 250, STREAM = 1 << 20, STREAM_BYTES = 1 << 28, COPIED_INTO = 4 << 20, LONGEST = 64 << 10 };

struct bench;
struct bench_case {
    const char *name;
    double (*run)(struct bench *bench);
    uint32_t size, batch, window; /* AHEAD: one by one, lent ahead */
};
enum { AHEAD = 0 };

/* One case, ready to run: a channel there and one back. */
struct bench {
    const struct bench_case *kind;
    struct lab_pair *pair;
    struct lab_wire wire[2];
    struct lab_end *tx, *rx;
    uint64_t *template; /* a message; words 0 and 1 are made anew for each */
    uint64_t sequence, sum;
};

static _Noreturn void give_up(const char *doing)
{
    fprintf(stderr, "%s: %s\n", doing, lab_error_last()->text);
    exit(1);
}

static inline __attribute__((always_inline)) void write_one(unsigned char *to, const uint64_t *template, uint32_t size, uint64_t sequence)
{
    uint64_t check = sequence ^ template[1];
    memcpy(to, &sequence, 8);
    if (size < 16)
        return;
    memcpy(to + 8, &check, 8);
    memcpy(to + 16, template + 2, size - 16);
}

static inline __attribute__((always_inline)) uint64_t read_one(const unsigned char *from, uint32_t size)
{
    uint64_t sum = 0, word;
    for (uint32_t at = 0; at < size; at += 8) {
        memcpy(&word, from + at, 8);
        sum += word;
    }
    return sum;
}

/* The sizes of the table below as constants, so that a message is straight-line code. */
#define FOR_SIZE(size, call)              \
    switch (size) {                       \
    case 8: call(8); break;               \
    case 48: call(48); break;             \
    case 56: call(56); break;             \
    case 64: call(64); break;             \
    default: call(size); break;           \
    }

/* One by one, each sent by a store of this loop where the transport lends ahead. */
static void put_ahead(struct bench *bench, uint32_t size, uint32_t want, uint32_t *ret_count)
{
    struct lab_end *end = bench->tx;
    struct lab_span span;
    struct lab_tally tally;
    if (end->ops->reserve_ahead(end, size, want, bench->pair->deadline_ns, &span, &tally))
        give_up("reserve_ahead");
#define WRITE_AND_TELL(bytes)                                                                    \
    for (uint32_t i = 0; i < span.count; i++) {                                                  \
        write_one(span.at + i * span.stride, bench->template, bytes, bench->sequence + i);       \
        if (tally.sent)                                                                          \
            lab_tally_one(&tally);                                                               \
    }
    FOR_SIZE(size, WRITE_AND_TELL)
    end->ops->commit(end, span.count);
    bench->sequence += span.count;
    *ret_count = span.count;
}

static void put(struct bench *bench, uint32_t size, uint32_t want, uint32_t *ret_count)
{
    struct lab_end *end = bench->tx;
    struct lab_span span;
    if (end->ops->reserve(end, size, want, bench->pair->deadline_ns, &span))
        give_up("reserve");
#define WRITE(bytes)                                   \
    for (uint32_t i = 0; i < span.count; i++)          \
        write_one(span.at + i * span.stride, bench->template, bytes, bench->sequence + i)
    FOR_SIZE(size, WRITE)
    end->ops->commit(end, span.count);
    bench->sequence += span.count;
    *ret_count = span.count;
}

static void take(struct bench *bench, uint32_t size, uint32_t want, uint32_t *ret_count)
{
    struct lab_end *end = bench->rx;
    struct lab_span span;
    if (end->ops->borrow(end, want, bench->pair->deadline_ns, &span))
        give_up("borrow");
    if (span.length != size)
        give_up("a message of a length that was not sent");
    uint64_t sum = 0;
#define READ(bytes)                                   \
    for (uint32_t i = 0; i < span.count; i++)         \
        sum += read_one(span.at + i * span.stride, bytes)
    FOR_SIZE(size, READ)
    end->ops->release(end, span.count);
    bench->sum += sum;
    *ret_count = span.count;
}

/* What the words of messages `from` to `to` add up to. */
static uint64_t expected(const struct bench *bench, uint32_t size, uint64_t from, uint64_t to)
{
    uint64_t sum = 0, words[LONGEST / 8];
    for (uint64_t sequence = from; sequence < to; sequence++) {
        write_one((unsigned char *)words, bench->template, size, sequence);
        sum += read_one((unsigned char *)words, size);
    }
    return sum;
}

static void check(const struct bench *bench, uint32_t size, uint64_t from, uint64_t to, uint64_t sum_before)
{
    if (bench->sum - sum_before != expected(bench, size, from, to)) {
        fprintf(stderr, "what was read is not what was written\n");
        exit(1);
    }
}

/* Half of a round trip, ns. */
static double pingpong(struct bench *bench)
{
    uint32_t size = bench->kind->size, count;
    uint64_t from = bench->sequence, before = bench->sum;
    double half[BATCHES];
    for (int b = 0; b < BATCHES; b++) {
        uint64_t begin = lab_now_ns();
        for (int i = 0; i < TRIPS; i++) {
            if (bench->pair->leads)
                put(bench, size, 1, &count);
            take(bench, size, 1, &count);
            if (!bench->pair->leads)
                put(bench, size, 1, &count);
        }
        half[b] = (double)(lab_now_ns() - begin) / (2 * TRIPS);
    }
    check(bench, size, from, bench->sequence, before);
    return lab_pair_median(half, BATCHES);
}

/* Million messages per second, as the pattern "stream" sends them: half a window, then the confirmation of the half before. */
static double stream(struct bench *bench)
{
    const struct bench_case *kind = bench->kind;
    uint32_t turn = kind->window / 2, count, most = kind->batch == AHEAD ? turn : kind->batch;
    uint32_t messages = STREAM_BYTES / kind->size < STREAM ? STREAM_BYTES / kind->size : STREAM;
    uint64_t from = bench->sequence, before = bench->sum, begin = lab_now_ns();
    if (bench->pair->leads) {
        for (uint32_t sent = 0; sent < messages; sent += turn) {
            if (sent >= 2 * turn)
                take(bench, 8, 1, &count);
            for (uint32_t left = turn; left; left -= count)
                (kind->batch == AHEAD ? put_ahead : put)(bench, kind->size, left < most ? left : most, &count);
        }
        take(bench, 8, 1, &count);
        take(bench, 8, 1, &count);
    } else {
        for (uint32_t got = 0; got < messages; got += turn) {
            for (uint32_t left = turn; left; left -= count)
                take(bench, kind->size, left < most ? left : most, &count);
            put(bench, 8, 1, &count);
        }
    }
    double elapsed_ns = (double)(lab_now_ns() - begin);
    if (!bench->pair->leads) {
        bench->sequence = from + messages;
        check(bench, kind->size, from, bench->sequence, before);
    }
    return messages / elapsed_ns * 1000;
}

/* Million messages per second that one core copies from one place into as much memory as a ring takes. */
static double copying(struct bench *bench)
{
    static unsigned char to[COPIED_INTO], from[LONGEST];
    uint32_t size = bench->kind->size, messages = STREAM_BYTES / size;
    uint64_t begin = lab_now_ns();
    for (uint32_t i = 0; bench->pair->leads && i < messages; i++) {
        memcpy(to + (size_t)i * size % COPIED_INTO, from, size);
        __asm__ volatile("" ::: "memory");
    }
    return messages / (double)(lab_now_ns() - begin) * 1000;
}

static const struct bench_case cases[] = {
    {"pingpong 8 B", pingpong, 8, 1, 2},
    {"pingpong 48 B", pingpong, 48, 1, 2},
    {"pingpong 56 B", pingpong, 56, 1, 2},
    {"pingpong 64 B", pingpong, 64, 1, 2},
    {"pingpong 1 KiB", pingpong, 1024, 1, 2},
    {"stream 8 B", stream, 8, 1, 1024},
    {"stream 48 B", stream, 48, 1, 1024},
    {"stream 64 B", stream, 64, 1, 1024},
    {"stream 8 B ahead", stream, 8, AHEAD, 1024},
    {"stream 48 B ahead", stream, 48, AHEAD, 1024},
    {"stream 64 B ahead", stream, 64, AHEAD, 1024},
    {"stream 8 B in 32s", stream, 8, 32, 1024},
    {"stream 48 B in 32s", stream, 48, 32, 1024},
    {"stream 64 B in 32s", stream, 64, 32, 1024},
    {"stream 8 B in 128s, deep", stream, 8, 128, 1 << 14},
    {"stream 64 B in 32s, deep", stream, 64, 32, 1 << 14},
    {"memcpy 1 KiB", copying, 1024, 1, 2},
    {"stream 1 KiB", stream, 1024, 1, 1024},
    {"memcpy 64 KiB", copying, LONGEST, 1, 2},
    {"stream 64 KiB", stream, LONGEST, 1, 64},
};
enum { CASES = sizeof cases / sizeof *cases };

static bool is_beside_memcpy(uint32_t i)
{
    return i && cases[i].run == stream && cases[i - 1].run == copying;
}

/* Before the fork. */
static void make(struct bench *bench, const struct bench_case *kind, uint32_t id)
{
    *bench = (struct bench){.kind = kind};
    bench->template = calloc(1, kind->size + 16);
    for (uint32_t w = 1; w < (kind->size + 16) / 8; w++)
        bench->template[w] = w * UINT64_C(0x9e3779b97f4a7c15);
    const struct lab_transport *ring = lab_transport_named("shm-ring");
    for (uint32_t i = 0; i < 2; i++) {
        struct lab_channel channel = {
            .transport = ring, .id = id + i, .message_max = kind->size, .window = kind->window, .batch = kind->batch == AHEAD ? 1 : kind->batch,
        };
        if (lab_transport_ops(ring)->provision(&channel, &bench->wire[i]))
            give_up(kind->name);
    }
}

/* After it. */
static void join(struct bench *bench, struct lab_pair *pair)
{
    const struct bench_case *kind = bench->kind;
    struct lab_channel channel = {
        .transport = lab_transport_named("shm-ring"), .message_max = kind->size, .window = kind->window, .batch = kind->batch == AHEAD ? 1 : kind->batch,
    };
    bench->pair = pair;
    if (lab_end_open(&channel, LAB_TX, &bench->wire[pair->leads ? 0 : 1], NULL, pair->deadline_ns, &bench->tx) ||
        lab_end_open(&channel, LAB_RX, &bench->wire[pair->leads ? 1 : 0], NULL, pair->deadline_ns, &bench->rx))
        give_up(kind->name);
}

int main(int argc, char **argv)
{
    static double figure[CASES][ROUNDS_MAX], ratio[CASES][ROUNDS_MAX], handoff[CASES][ROUNDS_MAX];
    static struct bench bench[CASES];
    int rounds = argc > 1 ? atoi(argv[1]) : 20;
    const char *wanted = argc > 2 ? argv[2] : "";
    struct lab_pair pair;
    if (rounds < 1 || rounds > ROUNDS_MAX)
        return 2;
    for (uint32_t i = 0; i < CASES; i++)
        make(&bench[i], &cases[i], 2 * i);
    if (lab_pair_start(&pair))
        give_up("starting the two parties");
    for (uint32_t i = 0; i < CASES; i++)
        join(&bench[i], &pair);

    for (int round = 0; round < rounds; round++)
        for (uint32_t i = 0; i < CASES; i++) {
            if (!strstr(cases[i].name, wanted))
                continue;
            double before = lab_pair_meet(&pair), value = cases[i].run(&bench[i]), after = lab_pair_meet(&pair);
            handoff[i][round] = (before + after) / 2;
            figure[i][round] = value;
            ratio[i][round] = value / handoff[i][round];
        }
    for (int round = 0; round < rounds; round++)
        for (uint32_t i = 1; i < CASES; i++)
            if (is_beside_memcpy(i))
                ratio[i][round] = figure[i][round] / figure[i - 1][round];
    static const char *const modes[] = {"near", "middle", "far"};
    for (uint32_t m = 0; pair.leads && m < 3; m++)
        for (uint32_t i = 0; i < CASES; i++) {
            double f[ROUNDS_MAX], r[ROUNDS_MAX], h[ROUNDS_MAX];
            uint32_t n = 0;
            for (int round = 0; round < rounds; round++)
                if (handoff[i][round] > 0 && strcmp(lab_pair_mode(handoff[i][round]), modes[m]) == 0) {
                    f[n] = figure[i][round];
                    r[n] = ratio[i][round];
                    h[n++] = handoff[i][round];
                }
            if (!n)
                continue;
            bool latency = cases[i].run == pingpong;
            printf("%-7s %-25s %4u rounds  hand-off %6.1f ns  %7.1f %s", modes[m], cases[i].name, n, lab_pair_median(h, n),
                   lab_pair_median(f, n), latency ? "ns" : "M/s");
            if (latency)
                printf("  %.2f hand-offs", lab_pair_median(r, n));
            if (cases[i].size >= 1024 && !latency)
                printf("  %.1f GB/s", f[n / 2] * cases[i].size / 1000);
            if (is_beside_memcpy(i))
                printf("  %.2f of memcpy", lab_pair_median(r, n));
            printf("  [%.1f, %.1f]\n", f[0], f[n - 1]);
        }
    return lab_pair_end(&pair);
}
