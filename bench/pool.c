/* What shm-pool and shm-broadcast can do beside shm-ring and the memcpy limit, in one interleaved run: messages through the table of functions,
 * every byte written and every byte read, and (untouched) passed alone.
 *
 *     pool [ROUNDS [CASE]]       rounds are interleaved: every case once, then again; CASE selects by a part of the name
 *
 * A ping-pong is half a round trip; a stream counts what is received; `copy` is one core that copies messages from one place into as many places
 * as a stream has, alone. */
#include "bench/pair.h"

#include "base/error.h"
#include "node/transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 128, ROUNDS_MAX = 200, CASES_MAX = 64, KiB = 1 << 10, MiB = 1 << 20 };

struct bench {
    char name[64];
    const char *transport; /* NULL: copy */
    bool streams, touches;
    uint32_t size, window, messages;
    struct lab_wire wire[2];
    struct lab_end *tx, *rx;
    unsigned char *template, *places;
    uint64_t number, next; /* of messages sent and received */
    uint64_t rest;         /* what the words of a message but the first, its number, add up to */
};

static struct lab_pair pair;
static struct bench cases[CASES_MAX];
static uint32_t count;

static _Noreturn void give_up(const char *doing)
{
    fprintf(stderr, "%s: %s\n", doing, lab_error_last()->text);
    exit(1);
}

static uint64_t sum_of(const unsigned char *at, uint32_t size)
{
    uint64_t sum = 0, word;
    for (uint32_t i = 0; i < size; i += 8) {
        memcpy(&word, at + i, 8);
        sum += word;
    }
    return sum;
}

/* A line at a time, in line: the C library's memcpy chooses `rep movsb` for these sizes, whose pace depends on how the two addresses differ. */
static void copy(unsigned char *restrict to, const unsigned char *restrict from, uint32_t size, uint64_t number)
{
    memcpy(to, &number, 8); /* every message is another */
    memcpy(to + 8, from + 8, 56);
    for (uint32_t i = 64; i < size; i += 64)
        memcpy(to + i, from + i, 64);
}

static void put(struct bench *bench)
{
    struct lab_span span;
    if (bench->tx->ops->reserve(bench->tx, bench->size, 1, pair.deadline_ns, &span))
        give_up("reserve");
    if (bench->touches)
        copy(span.at, bench->template, bench->size, bench->number++);
    bench->tx->ops->commit(bench->tx, 1);
}

static void take(struct bench *bench)
{
    struct lab_span span;
    if (bench->rx->ops->borrow(bench->rx, 1, pair.deadline_ns, &span))
        give_up("borrow");
    if (bench->touches && sum_of(span.at, bench->size) != bench->rest + bench->next++) {
        fprintf(stderr, "%s: what was read is not what was written\n", bench->name);
        exit(1);
    }
    bench->rx->ops->release(bench->rx, 1);
}

/* Nanoseconds for one message, one way. */
static double run(struct bench *bench)
{
    uint64_t begin = lab_now_ns();
    uint32_t n = bench->messages;
    if (!bench->transport) {
        for (uint32_t i = 0; i < n && pair.leads; i++)
            copy(bench->places + (size_t)(i % bench->window) * bench->size, bench->template, bench->size, i);
        return (double)(lab_now_ns() - begin) / n;
    }
    if (!bench->streams) {
        for (uint32_t i = 0; i < n; i++) {
            if (pair.leads)
                put(bench);
            take(bench);
            if (!pair.leads)
                put(bench);
        }
    } else if (pair.leads) {
        for (uint32_t i = 0; i < n; i++)
            put(bench);
        take(bench);
        n--;
    } else {
        for (uint32_t i = 0; i < n; i++)
            take(bench);
        put(bench);
        n--;
    }
    double elapsed_ns = (double)(lab_now_ns() - begin);
    return elapsed_ns / (bench->streams ? n : 2.0 * n);
}

static struct lab_channel channel_of(const struct bench *bench, uint32_t id)
{
    return (struct lab_channel){
        .transport = lab_transport_named(bench->transport), .id = id, .message_max = bench->size, .window = bench->window, .batch = 1,
    };
}

/* Before the fork. */
static void add(const char *transport, bool streams, bool touches, uint32_t size)
{
    struct bench *bench = &cases[count];
    /* Streams as in bench/against.sh: 4 MiB on their way, 2 to 1024 messages. */
    uint32_t window = 4 * MiB / size;
    *bench = (struct bench){.transport = transport, .streams = streams, .touches = touches, .size = size};
    bench->window = !streams && transport ? 2 : window < 2 ? 2 : window > 1024 ? 1024 : window;
    bench->messages = (!touches || size <= KiB ? 20000 : 32 * MiB / size) / (streams ? 1 : 2);
    snprintf(bench->name, sizeof bench->name, "%-13s %-9s %-9s %8u B", transport ? transport : "copy", streams ? "stream" : transport ? "pingpong" : "",
             touches ? "" : "untouched", size);
    bench->template = aligned_alloc(LINE, size > LINE ? size : LINE);
    for (uint32_t i = 0; i < size; i++)
        bench->template[i] = i < 8 ? 0 : (unsigned char)(i * 37 + (i >> 8));
    bench->rest = sum_of(bench->template, size);
    if (!transport) {
        bench->places = aligned_alloc(LINE, (size_t)bench->window * size);
        memset(bench->places, 1, (size_t)bench->window * size);
    }
    for (uint32_t i = 0; i < 2 && transport; i++) {
        struct lab_channel channel = channel_of(bench, 2 * count + i);
        if (channel.transport == NULL || lab_transport_ops(channel.transport)->provision(&channel, &bench->wire[i]))
            give_up(bench->name);
    }
    count++;
}

/* After it. */
static void join(struct bench *bench)
{
    struct lab_channel channel = channel_of(bench, 0);
    if (lab_end_open(&channel, LAB_TX, &bench->wire[pair.leads ? 0 : 1], NULL, pair.deadline_ns, &bench->tx) ||
        lab_end_open(&channel, LAB_RX, &bench->wire[pair.leads ? 1 : 0], NULL, pair.deadline_ns, &bench->rx))
        give_up(bench->name);
}

int main(int argc, char **argv)
{
    static const char *const transports[] = {"shm-ring", "shm-pool", "shm-broadcast"};
    static const uint32_t sizes[] = {64, KiB, 64 * KiB, MiB};
    static double figure[CASES_MAX][ROUNDS_MAX], handoff[CASES_MAX][ROUNDS_MAX];
    int rounds = argc > 1 ? atoi(argv[1]) : 20;
    const char *wanted = argc > 2 ? argv[2] : "";
    if (rounds < 1 || rounds > ROUNDS_MAX)
        return 2;
    for (uint32_t s = 0; s < 4; s++) {
        add(NULL, true, true, sizes[s]);
        add("shm-pool", false, false, sizes[s]);
        for (uint32_t t = 0; t < 3; t++) {
            add(transports[t], false, true, sizes[s]);
            add(transports[t], true, true, sizes[s]);
        }
    }
    if (lab_pair_start(&pair))
        give_up("starting the two parties");
    for (uint32_t i = 0; i < count; i++)
        if (cases[i].transport)
            join(&cases[i]);
    for (int round = 0; round < rounds; round++)
        for (uint32_t i = 0; i < count; i++) {
            if (!strstr(cases[i].name, wanted))
                continue;
            double before = lab_pair_meet(&pair);
            figure[i][round] = run(&cases[i]);
            handoff[i][round] = (before + lab_pair_meet(&pair)) / 2;
        }
    for (uint32_t i = 0; i < count && pair.leads; i++) {
        if (!strstr(cases[i].name, wanted))
            continue;
        double ns = lab_pair_median(figure[i], (uint32_t)rounds);
        printf("%s %12.1f ns %8.2f M/s %8.2f GB/s   hand-off %6.1f ns  [%.1f, %.1f]\n", cases[i].name, ns, 1000 / ns, cases[i].size / ns,
               lab_pair_median(handoff[i], (uint32_t)rounds), figure[i][0], figure[i][rounds - 1]);
    }
    return lab_pair_end(&pair);
}
