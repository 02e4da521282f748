/* What is played over every transport: pairs of scripts, and the table of them. A scenario is two functions and a row. */
#ifndef LAB_TESTS_CONTRACT_SCENARIOS_H
#define LAB_TESTS_CONTRACT_SCENARIOS_H

#include "tests/contract/batches.h"
#include "tests/contract/duet.h"

enum { LONG = 2 << 20 };

/* ---- one message, every size, order ---- */

static bool tx_one(struct party *party)
{
    NEED_IS(party_say(party, 64, 1), 0);
    return true;
}

static bool rx_one(struct party *party)
{
    NEED_IS(party_hear(party, 1), 64);
    return true;
}

/* Around cache lines, pages, PIPE_BUF, packets, the default capacity of a pipe, with and without four bytes of ours. */
static const uint32_t sizes[] = {
    8, 9, 15, 16, 17, 24, 63, 64, 65, 127, 128, 129, 1000, 1023, 4091, 4092, 4093, 4095, 4096, 4097, 8191, 16385, 32767,
    65527, 65531, 65532, 65533, 65535, 65536, 65537, 100003, 131067, 262144, 524287, (1 << 20) - 1, 1 << 20,
};
enum { SIZES = sizeof sizes / sizeof *sizes, EACH = 3 };

static uint32_t size_of(const struct party *party, uint32_t number)
{
    uint32_t size = sizes[number % SIZES], most = party->channel->message_max;
    return size < most ? size : most;
}

static bool tx_sizes(struct party *party)
{
    for (uint32_t i = 0; i < SIZES * EACH; i++)
        NEED_IS(party_say(party, size_of(party, i), i), 0);
    for (uint32_t i = 0; i < SIZES; i++)
        NEED_IS(party_say(party, size_of(party, SIZES - 1 - i), i), 0);
    return true;
}

static bool rx_sizes(struct party *party)
{
    for (uint32_t i = 0; i < SIZES * EACH; i++)
        NEED_IS(party_hear(party, i), size_of(party, i));
    for (uint32_t i = 0; i < SIZES; i++)
        NEED_IS(party_hear(party, i), size_of(party, SIZES - 1 - i));
    return true;
}

/* Lengths from 8 to 256 that do not repeat soon. */
static uint32_t length_of(uint32_t number)
{
    return 8 + number * 2654435761u % 249;
}

static bool tx_many(struct party *party)
{
    for (uint32_t i = 0; i < MANY; i++)
        NEED_IS(party_say(party, length_of(i), i), 0);
    return true;
}

static bool rx_many(struct party *party)
{
    for (uint32_t i = 0; i < MANY; i++)
        NEED_IS(party_hear(party, i), length_of(i));
    return true;
}

/* ---- deadlines ---- */

static bool rx_gives_up(struct party *party)
{
    uint64_t soon = lab_now_ns() + 20 * LAB_NS_PER_MS;
    NEED_IS(party_hear_within(party, 0, 0), -EAGAIN);
    NEED_IS(party_hear_within(party, 0, soon), -EAGAIN);
    NEED(party_is_self(party) || lab_now_ns() >= soon);
    NEED(party_meet(party));
    for (uint32_t i = 0; i < 3; i++)
        NEED_IS(party_hear(party, i), 64);
    NEED_IS(party_hear_within(party, 0, 0), -EAGAIN);
    NEED(party_meet(party));
    return true;
}

static bool tx_after_it_gave_up(struct party *party)
{
    NEED(party_meet(party));
    for (uint32_t i = 0; i < 3; i++)
        NEED_IS(party_say(party, 64, i), 0);
    NEED(party_meet(party));
    return true;
}

/* Fills the channel; then says how many messages were accepted with one that is shorter. A stream of bytes may have taken a part of the
 * last message: then the channel ends with it. */
static bool tx_fills(struct party *party)
{
    enum { BOUND = 200000, LENGTH = 1000 };
    uint32_t sent = 0;
    int err;
    while ((err = party_try(party, LENGTH, sent, 0)) == 0 && sent < BOUND)
        sent++;
    /* A mechanism that works behind our back may make room meanwhile. */
    while (err == -EAGAIN && (err = party_try(party, LENGTH, sent, lab_now_ns() + 20 * LAB_NS_PER_MS)) == 0 && sent < BOUND) {
        sent++;
        err = -EAGAIN;
    }
    NEED(err == -EAGAIN || err == -EIO);
    NEED(party_meet(party));
    if (err == -EIO) {
        NEED_IS(party_try(party, LENGTH, sent, 0), -EIO);
        party_close(party);
    } else {
        NEED_IS(party_say(party, LENGTH, sent), 0);
        NEED_IS(party_say(party, 8, sent + 1), 0);
    }
    NEED(party_meet(party));
    return true;
}

static bool rx_empties(struct party *party)
{
    NEED(party_meet(party));
    uint32_t received = 0;
    ssize_t got;
    while ((got = party_hear(party, received)) == 1000)
        received++;
    NEED(got == 8 || got == -EPIPE);
    if (got == 8)
        NEED_IS(party_hear_within(party, 0, 0), -EAGAIN);
    NEED(party_meet(party));
    return true;
}

static bool tx_long(struct party *party)
{
    NEED_IS(party_say(party, party->channel->message_max, 7), 0);
    NEED_IS(party_say(party, 64, 8), 0);
    return true;
}

/* Comes by with "try once" while the message is being written, so that it finds every part of it. */
static bool rx_long_bit_by_bit(struct party *party)
{
    ssize_t got;
    do
        got = party_hear_within(party, 7, 0);
    while (got == -EAGAIN && (party_again(party, got) || lab_ns_until(party->deadline_ns)));
    NEED_IS(got, party->channel->message_max);
    NEED_IS(party_hear(party, 8), 64);
    return true;
}

/* The deadline passes when a part of the message has left, where the mechanism moves it in parts. */
static bool tx_long_with_short_deadline(struct party *party)
{
    int err = party_try(party, party->channel->message_max, 1, lab_now_ns() + 5 * LAB_NS_PER_MS);
    NEED(err == 0 || err == -EAGAIN || err == -EIO);
    if (err != -EIO)
        NEED_IS(party_say(party, 64, err ? 2 : 3), 0);
    else
        NEED_IS(party_try(party, 64, 2, party->deadline_ns), -EIO);
    return true;
}

/* Sent means that all of it arrives, given up that nothing of it does; broken, that the channel says so. */
static bool rx_long_after_its_deadline(struct party *party)
{
    lab_spin_for(20 * LAB_NS_PER_MS);
    uint32_t length = party->channel->message_max;
    unsigned char *bytes = malloc(length);
    ssize_t got;
    do
        got = lab_end_recv(party->end, bytes, length, party->deadline_ns);
    while (party_again(party, got));
    bool whole = got == (ssize_t)length && message_is(bytes, length, 1), only = got == 64 && message_is(bytes, 64, 2);
    free(bytes);
    NEED(whole || only || got == -EPIPE);
    if (whole)
        NEED_IS(party_hear(party, 3), 64);
    return true;
}

/* ---- a peer that ends ---- */

static bool tx_leaves(struct party *party)
{
    for (uint32_t i = 0; i < 5; i++)
        NEED_IS(party_say(party, 100, i), 0);
    party_close(party);
    NEED(party_meet(party));
    return true;
}

static bool rx_drains(struct party *party)
{
    /* What lies in the sender has to be fetched while it closes. */
    bool fragile = party->channel->transport->caps & LAB_CAP_FRAGILE;
    NEED(fragile || party_meet(party));
    for (uint32_t i = 0; i < 5; i++)
        NEED_IS(party_hear(party, i), 100);
    NEED_IS(party_hear(party, 0), -EPIPE);
    NEED_IS(party_hear_within(party, 0, 0), -EPIPE);
    NEED(!fragile || party_meet(party));
    return true;
}

/* A few messages may be accepted before the sender can know. */
static bool tx_until_told(struct party *party)
{
    NEED_IS(party_say(party, 100, 0), 0);
    NEED(party_meet(party));
    enum { BOUND = 200000 };
    int err = 0;
    for (uint32_t i = 1; i < BOUND && !err; i++)
        err = party_say(party, 100, i);
    NEED_IS(err, -EPIPE);
    NEED_IS(party_try(party, 100, 1, 0), -EPIPE);
    return true;
}

static bool rx_leaves(struct party *party)
{
    NEED_IS(party_hear(party, 0), 100);
    party_close(party);
    NEED(party_meet(party));
    return true;
}

static bool tx_dies(struct party *party)
{
    for (uint32_t i = 0; i < 5; i++)
        NEED_IS(party_say(party, 100, i), 0);
    /* What a thread of a library has not moved yet dies with the process, and so does what lies in its memory. */
    if (party->channel->transport->caps & (LAB_CAP_NODES | LAB_CAP_FRAGILE))
        NEED(party_meet(party));
    raise(SIGKILL);
    return false;
}

static bool rx_of_the_dead(struct party *party)
{
    for (uint32_t i = 0; i < 5; i++)
        NEED_IS(party_hear(party, i), 100);
    if (party->channel->transport->caps & (LAB_CAP_NODES | LAB_CAP_FRAGILE))
        NEED(party_meet(party));
    NEED_IS(party_hear(party, 0), -EPIPE);
    NEED_IS(party_hear_within(party, 0, 0), -EPIPE);
    return true;
}

static bool rx_dies(struct party *party)
{
    NEED_IS(party_hear(party, 0), 100);
    NEED(party_meet(party));
    raise(SIGKILL);
    return false;
}

/* ---- messages that are too long ---- */

static bool tx_too_long(struct party *party)
{
    uint32_t max = party->channel->message_max;
    NEED_IS(party_say(party, 64, 1), 0);
    NEED_IS(party_try(party, max + 1, 2, party->deadline_ns), -EMSGSIZE);
    NEED_IS(lab_error_last()->code, EMSGSIZE);
    NEED_IS(party_say(party, max, 3), 0);
    NEED_IS(party_say(party, 64, 4), 0);
    NEED_IS(party_say(party, max, 5), 0);
    return true;
}

static ssize_t hear_into(struct party *party, void *to, size_t room)
{
    ssize_t got;
    do
        got = lab_end_recv(party->end, to, room, party->deadline_ns);
    while (party_again(party, got));
    return got;
}

static bool rx_small_buffer(struct party *party)
{
    uint32_t max = party->channel->message_max;
    unsigned char small[64 + 8];
    memset(small, 0xee, sizeof small);
    NEED_IS(hear_into(party, small, 16), -EMSGSIZE);
    NEED_IS(hear_into(party, small, 64), -EMSGSIZE);
    NEED_IS(lab_error_last()->code, EMSGSIZE);
    NEED_IS(hear_into(party, small, 64), 64);
    NEED(message_is(small, 64, 4));
    for (size_t i = 64; i < sizeof small; i++)
        NEED_IS(small[i], 0xee);
    NEED_IS(party_hear(party, 5), max);
    return true;
}

/* Nobody receives meanwhile; and again, from another place in the buffer. */
static bool tx_fills_the_window(struct party *party)
{
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < party->channel->window; i++)
            NEED_IS(party_try(party, party->channel->message_max, i, 0), 0);
        NEED(party_meet(party));
        NEED(party_meet(party));
    }
    return true;
}

static bool rx_empties_the_window(struct party *party)
{
    for (uint32_t round = 0; round < 3; round++) {
        NEED(party_meet(party));
        for (uint32_t i = 0; i < party->channel->window; i++)
            NEED_IS(party_hear(party, i), party->channel->message_max);
        NEED(party_meet(party));
    }
    return true;
}

/* ---- the table ---- */

struct scenario {
    const char *sentence;
    duet_script *tx, *rx;
    uint32_t message_max, window, batch;
    uint32_t needs, without; /* capabilities; `without` is skipped with a reason */
    int killed;              /* the role whose process ends itself; -1: neither */
};

/* MPI can neither take back a send that has begun nor tell a sender that its receiver has closed (node/transports/mpi/mpi.c). */
enum { CANNOT_TAKE_BACK = LAB_CAP_WORLD };

static const struct scenario scenarios[] = {
    {"one message arrives as it was sent", tx_one, rx_one, 64, 2, 1, 0, 0, -1},
    {"messages of every size arrive whole", tx_sizes, rx_sizes, 1 << 20, 2, 1, 0, 0, -1},
    {"ten thousand messages arrive in order", tx_many, rx_many, 256, 16, 1, 0, 0, -1},
    {"ten thousand messages arrive in order through a window of one", tx_many, rx_many, 256, 1, 1, 0, 0, -1},
    {"a receiver with nothing to receive gives up at its deadline and misses nothing", tx_after_it_gave_up, rx_gives_up, 64, 4, 1, 0, 0, -1},
    {"a sender without room gives up at its deadline, nothing whole is lost or sent twice", tx_fills, rx_empties, 1000, 5, 1, 0, CANNOT_TAKE_BACK, -1},
    {"a long message received by trying again and again arrives whole", tx_long, rx_long_bit_by_bit, LONG, 1, 1, 0, 0, -1},
    {"a long message whose deadline passes midway is sent, given up or the end of the channel", tx_long_with_short_deadline, rx_long_after_its_deadline,
     LONG, 1, 1, 0, CANNOT_TAKE_BACK, -1},
    {"what a sender sent before it closed is received, then the end is told", tx_leaves, rx_drains, 100, 8, 1, 0, 0, -1},
    {"a sender whose receiver closed is told", tx_until_told, rx_leaves, 100, 8, 1, 0, LAB_CAP_WORLD, -1},
    {"what a killed sender sent is received, then the end is told", tx_dies, rx_of_the_dead, 100, 8, 1, 0, LAB_CAP_SELF | LAB_CAP_THREADS | LAB_CAP_WORLD, LAB_TX},
    {"a sender whose receiver was killed is told", tx_until_told, rx_dies, 100, 8, 1, 0, LAB_CAP_SELF | LAB_CAP_THREADS | LAB_CAP_WORLD, LAB_RX},
    {"a message too long for the buffer or the channel is refused, the channel goes on", tx_too_long, rx_small_buffer, 1000, 4, 1, 0, 0, -1},
    {"a large message too long for the buffer is refused, the channel goes on", tx_too_long, rx_small_buffer, 3 << 20, 4, 1, 0, 0, -1},
    {"what is lent and not committed is not sent, what is not released is lent again", tx_commits_less, rx_releases_less, 72, 7, 4,
     LAB_CAP_LOAN | LAB_CAP_BATCH, 0, -1},
    {"ten thousand messages lent in batches arrive in order", tx_batches, rx_batches, 56, 100, 32, LAB_CAP_LOAN | LAB_CAP_BATCH, 0, -1},
    {"ten thousand messages sent together, in numbers of all kinds, arrive in order", tx_together, rx_together, 64, 100, 32, LAB_CAP_COPY | LAB_CAP_BATCH, 0, -1},
    {"what one sends together another takes one by one, and the other way round", tx_together, rx_many_of_together, 64, 100, 32, LAB_CAP_COPY | LAB_CAP_BATCH, 0, -1},
    {"a message sent together that is too long for its place is refused, those beside it are not", tx_together_too_long, rx_small_places, 200, 20, 8,
     LAB_CAP_COPY | LAB_CAP_BATCH, 0, -1},
    {"a window of messages fits without a receiver", tx_fills_the_window, rx_empties_the_window, 1001, 7, 1, LAB_CAP_LOAN, 0, -1},
    {"a window of one message fits without a receiver", tx_fills_the_window, rx_empties_the_window, 8, 1, 1, LAB_CAP_LOAN, 0, -1},
    {"a large window of messages fits without a receiver", tx_fills_the_window, rx_empties_the_window, 64, 1024, 1, LAB_CAP_LOAN, 0, -1},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

#endif
