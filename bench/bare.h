/* The loops that a user of a mechanism writes who wants nothing else: ping-pong and stream of raw bytes between two processes,
 * each pinned to a cpu. The laboratory's own transports are measured against them.
 *
 * A message is one buffer, used again and again, its pages touched once before. With --bytes kept (the default) its bytes are neither
 * written nor read between two messages, but for the first one, by which the client says that this is the end: what a program does
 * with its bytes is not what a mechanism costs. But then every message is the same, and a copy of it may lie in the reader's own
 * cache, from where it is "received" faster than anything new can be. With --bytes new messages differ as ipclab's do (node/lane/
 * message.h): all words of up to 512 bytes are written, in larger ones the first of every 4 KiB, and the receiver of a stream reads
 * every byte. There are no deadlines in the loops, as in a user's; SIGALRM ends the program when they take far too long.
 *
 *     static void send_one(void *channel, const void *bytes, size_t size) { ... }
 *     static void recv_one(void *channel, void *bytes, size_t size) { ... }
 *     int main(int argc, char **argv)
 *     {
 *         struct bare bare = {.name = "bare-kernel"};
 *         bare_options(&bare, argc, argv);
 *         ... make what is inherited ...
 *         bare_fork(&bare);                   returns in both processes, each pinned
 *         ... connect ...
 *         bare_run(&bare, send_one, recv_one, channel);
 *         return bare_end(&bare);             the client prints, the server ends
 *     }
 *
 * Options: --pattern pingpong|stream, --size BYTES, --window MESSAGES (stream), --seconds S or --count MESSAGES (round trips of
 * a ping-pong), --cpus A,B (client, server; -1: not pinned), --bytes kept|new, and --over KIND where a bench has several.
 *
 * The result is one line of JSON. `half_round_trip_ns` is half a round trip; what takes less than BARE_SAMPLE_NS is timed in
 * batches, so that the clock costs next to nothing. `messages_per_s` counts one direction of a stream, and both of a
 * ping-pong. The first fifth of the time is warm-up. */
#ifndef LAB_BENCH_BARE_H
#define LAB_BENCH_BARE_H

#include "base/clock.h"
#include "base/hist.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

enum { BARE_SIZE_MIN = 8, BARE_CREDIT_BYTES = 8, BARE_BATCH_MAX = 1 << 16, BARE_HEAD = 64 };
#define BARE_SAMPLE_NS (10 * LAB_NS_PER_US)

typedef void bare_send(void *channel, const void *bytes, size_t size);
typedef void bare_recv(void *channel, void *bytes, size_t size);

struct bare {
    const char *name;        /* of the bench */
    const char *const *over; /* the values of --over, NULL-terminated, the default first; NULL: it has none */
    bool pingpong_only;

    /* by bare_options() */
    const char *kind; /* of `over`, NULL: none */
    bool stream;
    size_t size;
    uint32_t window;
    uint64_t count; /* messages after the warm-up; 0: as many as fit in `seconds` */
    double seconds;
    int cpu[2];
    bool renew; /* --bytes new */

    /* by bare_fork() or bare_join() */
    bool client;
    pid_t child;  /* 0: none, or the child itself */
    int token_fd; /* a stream socket between the two processes; -1: none */

    /* by bare_run(), in the client */
    struct lab_hist *latency;
    uint64_t messages, elapsed_ns;
};

/* Ends the program on a wrong option. */
void bare_options(struct bare *bare, int argc, char **argv);

/* Makes the second process: the caller is the client, its child the server. Each is pinned. */
void bare_fork(struct bare *bare);

/* Instead of bare_fork(), where somebody else has started the two processes. Pins. */
void bare_join(struct bare *bare, bool client);

/* After bare_fork(): both processes have come this far; `size` bytes travel from the server to the client on the way. */
void bare_meet(struct bare *bare, void *from_server, size_t size);

/* Prints the client's result and returns the exit code of the program, once the server has ended; the server ends here. */
int bare_end(struct bare *bare);

/* Ends the program: "bare-kernel: cannot ...: reason of errno". */
_Noreturn void bare_fail(const struct bare *bare, const char *what);

/* A message's memory, touched. In front of it, and of what else is sent and received here, are BARE_HEAD bytes, for what a mechanism wants to
 * have there. */
unsigned char *bare_buffer(const struct bare *bare);

/* ---- the loops; the two functions are inlined into them ---- */

enum { BARE_WHOLE = 512, BARE_WORD = 8, BARE_PAGE = 4096 };

static inline __attribute__((always_inline)) void bare_write(const struct bare *bare, unsigned char *message, uint64_t number)
{
    size_t step = bare->size <= BARE_WHOLE ? BARE_WORD : BARE_PAGE;
    for (size_t at = BARE_WORD; bare->renew && at + BARE_WORD <= bare->size; at += step)
        memcpy(message + at, &number, BARE_WORD);
}

/* The compiler has to believe that the sum is wanted. */
static inline __attribute__((always_inline)) void bare_read(const struct bare *bare, const unsigned char *message)
{
    uint64_t sum = 0, word;
    for (size_t at = 0; bare->renew && at + BARE_WORD <= bare->size; at += BARE_WORD) {
        memcpy(&word, message + at, BARE_WORD);
        sum += word;
    }
    __asm__ volatile("" ::"r"(sum));
}

static inline __attribute__((always_inline)) uint32_t bare_half(const struct bare *bare)
{
    return bare->window > 1 ? bare->window / 2 : 1;
}

static inline __attribute__((always_inline)) void bare_serve(const struct bare *bare, bare_send *send_one, bare_recv *recv_one, void *channel)
{
    unsigned char *message = bare_buffer(bare), room[BARE_HEAD + BARE_CREDIT_BYTES] = {0}, *credit = room + BARE_HEAD;
    uint32_t half = bare_half(bare);
    uint64_t number = 0;
    do {
        if (bare->stream) {
            for (uint32_t i = 0; i < half; i++) {
                recv_one(channel, message, bare->size);
                bare_read(bare, message);
            }
            send_one(channel, credit, BARE_CREDIT_BYTES);
        } else {
            recv_one(channel, message, bare->size);
            bare_write(bare, message, number++);
            send_one(channel, message, bare->size);
        }
    } while (message[0] == 0);
}

/* When warm-up and measurement end: by the clock, or by the count. */
struct bare_pace {
    uint64_t warm_ns, end_ns, warm_count, end_count;
};

static inline struct bare_pace bare_pace_of(const struct bare *bare)
{
    uint64_t now = lab_now_ns(), whole = (uint64_t)(bare->seconds * (double)LAB_NS_PER_S);
    if (bare->count)
        return (struct bare_pace){0, 0, bare->count / 4, bare->count / 4 + bare->count};
    return (struct bare_pace){now + whole / 5, now + whole, 0, 0};
}

static inline __attribute__((always_inline)) void bare_ask(struct bare *bare, bare_send *send_one, bare_recv *recv_one, void *channel)
{
    unsigned char *message = bare_buffer(bare);
    struct bare_pace pace = bare_pace_of(bare);
    uint64_t begin = 0, end = lab_now_ns(), first = 0, trips = 0;
    uint32_t batch = 1;
    bool warm = false, last;
    do {
        uint64_t since = end;
        for (uint32_t i = 0; i < batch; i++) {
            bare_write(bare, message, trips + i);
            send_one(channel, message, bare->size);
            recv_one(channel, message, bare->size);
        }
        end = lab_now_ns();
        trips += batch;
        if (warm) {
            lab_hist_record_n(bare->latency, (end - since) / (2 * (uint64_t)batch), batch);
        } else {
            if (end - since < BARE_SAMPLE_NS && batch < BARE_BATCH_MAX)
                batch *= 2;
            warm = end >= pace.warm_ns && trips >= pace.warm_count;
            begin = end;
            first = trips;
        }
        last = warm && end >= pace.end_ns && trips >= pace.end_count;
    } while (!last || trips == first);
    bare->messages = 2 * (trips - first);
    bare->elapsed_ns = end - begin;
    message[0] = 1;
    send_one(channel, message, bare->size);
    recv_one(channel, message, bare->size);
}

/* At most a window ahead of the credits, one of which comes back for every half window. */
static inline __attribute__((always_inline)) void bare_pour(struct bare *bare, bare_send *send_one, bare_recv *recv_one, void *channel)
{
    unsigned char *message = bare_buffer(bare), room[BARE_HEAD + BARE_CREDIT_BYTES], *credit = room + BARE_HEAD;
    struct bare_pace pace = bare_pace_of(bare);
    uint32_t half = bare_half(bare), outstanding = 0;
    uint64_t begin = 0, first = 0, confirmed = 0;
    bool warm = false, last;
    do {
        if ((outstanding + 1) * half > bare->window) {
            recv_one(channel, credit, BARE_CREDIT_BYTES);
            outstanding--;
            confirmed += half;
        }
        uint64_t now = lab_now_ns();
        if (!warm && now >= pace.warm_ns && confirmed >= pace.warm_count && confirmed) {
            warm = true;
            begin = now;
            first = confirmed;
        }
        last = warm && now >= pace.end_ns && confirmed >= pace.end_count && confirmed > first;
        if (last) {
            bare->messages = confirmed - first;
            bare->elapsed_ns = now - begin;
        }
        message[0] = last;
        for (uint32_t i = 0; i < half; i++) {
            bare_write(bare, message, confirmed + i);
            send_one(channel, message, bare->size);
        }
        outstanding++;
    } while (!last);
    while (outstanding--)
        recv_one(channel, credit, BARE_CREDIT_BYTES);
}

static inline __attribute__((always_inline)) void bare_run(struct bare *bare, bare_send *send_one, bare_recv *recv_one, void *channel)
{
    if (!bare->client)
        bare_serve(bare, send_one, recv_one, channel);
    else if (bare->stream)
        bare_pour(bare, send_one, recv_one, channel);
    else
        bare_ask(bare, send_one, recv_one, channel);
}

#endif
