/* Both ends of proto/reliable.h in a world made from a seed: frames are lost, repeated, overtaken and held back, the wire is cut, and
 * either end dies and comes back, remembering or not. The same seed makes the same world, so that a failure can be looked at:
 *
 *     stress.reliable              seeds 1 to 6000
 *     stress.reliable FIRST LAST   those; a failure prints its seed, and what happened before it
 *
 * After the storm the world heals, and everything has to be through within a bounded time. What is checked at every step: positions are
 * delivered in order, each once (a receiver that forgot may get again what was not acknowledged, and nothing else), of the stream that
 * is the newest, with the bytes that were pushed; the sender holds no more than its window, and never believes more than the application
 * took. tests/stress/reliable_mutants.sh breaks the protocol in one place after the other: each has to be seen here. */
#include "proto/reliable.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_MAX = 16, FLIGHT_MAX = 256, STORM_TICKS = 1500, CALM_TICKS = 4000, TRACE_LINES = 60, TRACE_TEXT = 120, SEEDS = 6000 };
enum { TX, RX };

/* What is on its way, with the bytes of a message: whose they are, and the how manieth of that stream. */
struct flight {
    struct lab_reliable_frame frame;
    uint64_t stream, body;
    uint64_t arrives;
    int to;
};

struct world {
    uint64_t seed, random, now;
    struct flight flights[FLIGHT_MAX];
    uint32_t flying;
    /* how bad it is */
    uint32_t loss, twice, delay, cut_chance, death, forgetful, lazy;
    uint64_t cut_until;
    bool calm;

    struct lab_reliable_tx tx;
    struct lab_reliable_rx rx;
    uint64_t epoch[2];
    uint64_t stream;          /* whose messages are pushed now: the epoch of the life that began it */
    uint64_t keep[WINDOW_MAX], keep_stream[WINDOW_MAX];
    uint64_t pushed, wanted;  /* of this stream, by all lives */

    /* the application's own books, which survive whatever dies */
    uint64_t taken_stream, taken; /* of which stream, and how many of it */
    uint64_t believed;            /* the most that the sender was told of this stream */
    uint64_t given_stream, given; /* delivered to this life of the receiver: the next position */
    bool forgot;                  /* what the receiver remembers may be behind what was taken, though not behind what was acknowledged */
    uint64_t deliveries, deaths;

    bool traced, failed;
    char trace[TRACE_LINES][TRACE_TEXT];
    uint64_t lines;
};

/* xorshift64* (Marsaglia, Vigna). */
static uint64_t dice(struct world *w)
{
    w->random ^= w->random >> 12;
    w->random ^= w->random << 25;
    w->random ^= w->random >> 27;
    return w->random * UINT64_C(0x2545f4914f6cdd1d) >> 32;
}

static bool chance(struct world *w, uint32_t in_1000)
{
    return dice(w) % 1000 < in_1000;
}

static __attribute__((format(printf, 2, 3))) void note(struct world *w, const char *format, ...)
{
    if (!w->traced)
        return;
    char *line = w->trace[w->lines++ % TRACE_LINES];
    int used = snprintf(line, TRACE_TEXT, "%6" PRIu64 "  ", w->now);
    va_list args;
    va_start(args, format);
    vsnprintf(line + used, TRACE_TEXT - (size_t)used, format, args);
    va_end(args);
}

static void demand(struct world *w, bool holds, const char *what)
{
    if (holds || w->failed)
        return;
    w->failed = true;
    note(w, "BROKEN: %s", what);
    if (w->traced)
        printf("seed %" PRIu64 ", tick %" PRIu64 ": %s\n", w->seed, w->now, what);
}

/* ---- the wire ---- */

static const char *name_of(enum lab_reliable_kind kind)
{
    static const char *const names[] = {"?", "ASK", "DATA", "HERE", "ACK"};
    return names[kind];
}

static void fly(struct world *w, int to, const struct lab_reliable_frame *frame, uint64_t stream, uint64_t body)
{
    if (w->flying == FLIGHT_MAX)
        return; /* a full wire loses */
    w->flights[w->flying++] =
        (struct flight){.frame = *frame, .stream = stream, .body = body, .arrives = w->now + 1 + (w->delay ? dice(w) % w->delay : 0), .to = to};
}

static void send_frame(struct world *w, int to, const struct lab_reliable_frame *frame, uint64_t stream, uint64_t body)
{
    bool lost = w->now < w->cut_until || chance(w, w->loss);
    note(w, "%s %s S%" PRIu64 " R%" PRIu64 " %" PRIu64 "%s", to == RX ? "-->" : "<--", name_of(frame->kind), frame->tx_epoch, frame->rx_epoch,
         frame->position, lost ? "  lost" : "");
    if (lost)
        return;
    fly(w, to, frame, stream, body);
    if (chance(w, w->twice))
        fly(w, to, frame, stream, body);
}

/* ---- the application at the receiving end ---- */

static void deliver(struct world *w, const struct flight *flight)
{
    uint64_t position = flight->frame.position;
    note(w, "delivered: %" PRIu64 " of stream %" PRIu64, flight->body, flight->stream);
    w->deliveries++;
    demand(w, flight->body == position, "a message came at another position than it was pushed at");
    demand(w, flight->stream >= w->given_stream && flight->stream >= w->taken_stream, "something of an earlier stream came after the new one");
    if (flight->stream > w->given_stream) {
        bool begins = position == 0;
        bool goes_on = w->forgot && flight->stream == w->taken_stream && position <= w->taken && position >= w->believed;
        bool came_back = flight->stream == w->taken_stream && position == w->taken;
        demand(w, flight->stream > w->taken_stream ? begins : goes_on || came_back, "a life of the receiver began at the wrong place");
        w->given_stream = flight->stream;
    } else {
        demand(w, position >= w->given, "a message came twice");
        demand(w, position <= w->given, "a message was left out");
    }
    if (flight->stream == w->stream)
        demand(w, position >= w->believed, "what had been acknowledged came again");
    w->given = position + 1;
}

static void take(struct world *w)
{
    lab_reliable_rx_taken(&w->rx, w->now);
    if (w->given_stream > w->taken_stream || (w->given_stream == w->taken_stream && w->given > w->taken)) {
        w->taken_stream = w->given_stream;
        w->taken = w->given;
        w->forgot = false; /* where it is has been caught up with */
    }
}

static void land(struct world *w, const struct flight *flight)
{
    if (flight->to == TX)
        lab_reliable_tx_heard(&w->tx, w->now, &flight->frame);
    else if (lab_reliable_rx_heard(&w->rx, &flight->frame) == LAB_RELIABLE_DELIVER)
        deliver(w, flight);
}

static void arrive(struct world *w)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->flying; i++) {
        struct flight flight = w->flights[i];
        if (flight.arrives > w->now)
            w->flights[kept++] = flight;
        else
            land(w, &flight);
    }
    w->flying = kept;
}

/* ---- both ends ---- */

static void check_sender(struct world *w)
{
    demand(w, w->tx.next <= w->tx.acked || w->tx.next - w->tx.acked <= w->tx.config.window, "more was kept than the window");
    uint64_t took = w->taken_stream == w->stream ? w->taken : 0;
    demand(w, w->tx.acked <= took, "the sender believes more than was taken");
    if (w->tx.acked > w->believed)
        w->believed = w->tx.acked;
}

static void run_sender(struct world *w)
{
    struct lab_reliable_frame frame;
    while (w->tx.next < w->wanted && lab_reliable_tx_room(&w->tx) && (w->calm || chance(w, 300))) {
        uint64_t position = lab_reliable_tx_push(&w->tx);
        w->keep[position % w->tx.config.window] = position;
        w->keep_stream[position % w->tx.config.window] = w->stream;
        if (position >= w->pushed)
            w->pushed = position + 1;
    }
    for (int burst = 0; burst < 8 && lab_reliable_tx_due(&w->tx, w->now, &frame); burst++) {
        bool data = frame.kind == LAB_RELIABLE_DATA;
        uint32_t place = (uint32_t)(frame.position % w->tx.config.window);
        send_frame(w, RX, &frame, data ? w->keep_stream[place] : 0, data ? w->keep[place] : 0);
        lab_reliable_tx_sent(&w->tx, w->now, &frame);
    }
}

static void run_receiver(struct world *w)
{
    struct lab_reliable_frame frame;
    if (w->calm || !chance(w, w->lazy))
        take(w);
    for (int burst = 0; burst < 8 && lab_reliable_rx_due(&w->rx, w->now, &frame); burst++) {
        send_frame(w, TX, &frame, 0, 0);
        lab_reliable_rx_sent(&w->rx, &frame);
    }
}

static void bear_sender(struct world *w, bool remembers)
{
    struct lab_reliable_tx_config config = {
        .epoch = ++w->epoch[TX], .window = w->tx.config.window, .resend_ns = 40, .resend_most_ns = 200,
        .resumes = remembers, .stream = w->stream, .from = w->tx.acked, .until = w->pushed,
    };
    if (!remembers) {
        w->stream = config.epoch;
        w->pushed = w->believed = 0;
        w->wanted = 20 + dice(w) % 200;
    }
    memset(w->keep, 0xff, sizeof w->keep);
    note(w, "the sender begins life %" PRIu64 "%s", config.epoch, remembers ? ", remembering" : "");
    lab_reliable_tx_init(&w->tx, &config);
}

/* What the application took and the receiver's position are kept as one: what was delivered and not taken is asked for again. */
static void bear_receiver(struct world *w, bool remembers)
{
    struct lab_reliable_rx_config config = {
        .epoch = ++w->epoch[RX], .ack_every = w->rx.config.ack_every, .ack_delay_ns = 10,
        .resumes = remembers, .stream = w->rx.stream, .tx_epoch = w->rx.tx_epoch, .from = w->rx.taken,
    };
    note(w, "the receiver begins life %" PRIu64 "%s", config.epoch, remembers ? ", remembering" : "");
    lab_reliable_rx_init(&w->rx, &config);
    w->forgot = w->forgot || !remembers;
    w->given_stream = 0;
    w->given = 0;
}

static void misfortune(struct world *w)
{
    if (chance(w, w->cut_chance))
        w->cut_until = w->now + dice(w) % 300;
    if (chance(w, w->death)) {
        w->deaths++;
        bear_receiver(w, !chance(w, w->forgetful));
    }
    if (chance(w, w->death)) {
        w->deaths++;
        bear_sender(w, !chance(w, w->forgetful));
    }
}

static void tick(struct world *w)
{
    w->now++;
    arrive(w);
    run_sender(w);
    run_receiver(w);
    check_sender(w);
}

/* A receiver that forgot and is never sent anything again does not know how far its earlier life was; the sender does. */
static bool all_is_through(const struct world *w)
{
    return w->tx.next == w->wanted && lab_reliable_tx_idle(&w->tx) && w->taken_stream == w->stream && w->taken == w->wanted;
}

static void make(struct world *w, uint64_t seed)
{
    static const uint32_t often[] = {0, 0, 5, 30, 150, 400};
    *w = (struct world){.seed = seed, .random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1};
    for (int i = 0; i < 8; i++)
        dice(w);
    w->loss = often[dice(w) % 6];
    w->twice = often[dice(w) % 6];
    w->delay = (uint32_t[]){0, 0, 3, 20, 120}[dice(w) % 5];
    w->cut_chance = (uint32_t[]){0, 2, 8}[dice(w) % 3];
    w->death = (uint32_t[]){0, 0, 2, 8}[dice(w) % 4];
    w->forgetful = (uint32_t[]){0, 500, 1000}[dice(w) % 3];
    w->lazy = often[dice(w) % 6];
    w->tx.config.window = 1 + (uint32_t)dice(w) % WINDOW_MAX;
    w->rx.config.ack_every = 1 + (uint32_t)dice(w) % w->tx.config.window;
    bear_receiver(w, false);
    bear_sender(w, false);
}

static bool live(struct world *w, uint64_t seed, bool traced)
{
    make(w, seed);
    w->traced = traced;
    for (int t = 0; t < STORM_TICKS && !w->failed; t++) {
        misfortune(w);
        tick(w);
    }
    note(w, "calm");
    w->calm = true;
    w->loss = w->twice = w->delay = 0;
    w->cut_until = 0;
    w->wanted = w->tx.next > w->wanted ? w->tx.next : w->wanted;
    w->wanted += 3; /* something new has to get through as well */
    for (int t = 0; t < CALM_TICKS && !w->failed && !all_is_through(w); t++)
        tick(w);
    demand(w, all_is_through(w), "the wire is whole, and not everything got through");
    return !w->failed;
}

static void show(const struct world *w)
{
    uint64_t first = w->lines > TRACE_LINES ? w->lines - TRACE_LINES : 0;
    printf("loss %u, twice %u, delay %u, cut %u, death %u, forgetful %u, lazy %u, window %u, ack every %u\n", w->loss, w->twice, w->delay,
           w->cut_chance, w->death, w->forgetful, w->lazy, w->tx.config.window, w->rx.config.ack_every);
    for (uint64_t i = first; i < w->lines; i++)
        puts(w->trace[i % TRACE_LINES]);
}

int main(int argc, char **argv)
{
    static struct world w;
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1, last = argc > 2 ? strtoull(argv[2], NULL, 0) : argc > 1 ? first : SEEDS;
    uint64_t deliveries = 0, deaths = 0, dropped = 0, resent = 0;
    for (uint64_t seed = first; seed <= last; seed++) {
        if (!live(&w, seed, false)) {
            live(&w, seed, true);
            show(&w);
            return 1;
        }
        deliveries += w.deliveries;
        deaths += w.deaths;
        dropped += w.rx.duplicates + w.rx.gaps + w.rx.strange;
        resent += w.tx.resent;
    }
    printf("seeds %" PRIu64 " to %" PRIu64 ": %" PRIu64 " messages delivered, %" PRIu64 " lives ended; the last lives sent %" PRIu64
           " again and dropped %" PRIu64 "\n", first, last, deliveries, deaths, resent, dropped);
    return deliveries && (first == last || (deaths && resent && dropped)) ? 0 : 1;
}
