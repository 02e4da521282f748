/* Scenarios of several messages in one operation, lent or copied; for tests/contract/scenarios.h. */
#ifndef LAB_TESTS_CONTRACT_BATCHES_H
#define LAB_TESTS_CONTRACT_BATCHES_H

#include "tests/contract/duet.h"

enum { MANY = 10000 };

/* ---- lending ---- */

static int reserve(struct party *party, uint32_t length, uint32_t want, struct lab_span *ret_span)
{
    int err;
    do
        err = party->end->ops->reserve(party->end, length, want, party->deadline_ns, ret_span);
    while (party_again(party, err));
    return err;
}

static int borrow(struct party *party, uint32_t want, struct lab_span *ret_span)
{
    int err;
    do
        err = party->end->ops->borrow(party->end, want, party->deadline_ns, ret_span);
    while (party_again(party, err));
    return err;
}

static void fill_span(const struct lab_span *span, uint32_t first)
{
    for (uint32_t i = 0; i < span->count; i++)
        message_fill(span->at + i * span->stride, span->length, first + i);
}

static bool span_is(const struct lab_span *span, uint32_t first)
{
    for (uint32_t i = 0; i < span->count; i++)
        if (!message_is(span->at + i * span->stride, span->length, first + i))
            return false;
    return true;
}

/* Every time: abandon, then commit less than was lent. */
static bool tx_commits_less(struct party *party)
{
    for (uint32_t sent = 0; sent < 300;) {
        struct lab_span span;
        NEED_IS(reserve(party, 40, 4, &span), 0);
        NEED(span.count >= 1 && span.count <= 4 && span.length == 40 && span.stride >= 40);
        fill_span(&span, 100000);
        party->end->ops->commit(party->end, 0);

        NEED_IS(reserve(party, 72, 4, &span), 0);
        NEED(span.count >= 1 && span.count <= 4 && span.length == 72 && span.stride >= 72);
        fill_span(&span, sent);
        uint32_t count = span.count > 1 ? span.count - 1 : 1;
        party->end->ops->commit(party->end, count);
        sent += count;
    }
    return true;
}

/* Every time: give nothing back, then less than was lent; what was not released is lent again. */
static bool rx_releases_less(struct party *party)
{
    for (uint32_t received = 0; received < 300;) {
        struct lab_span span;
        NEED_IS(borrow(party, 4, &span), 0);
        NEED(span.count >= 1 && span.count <= 4 && span.length == 72);
        NEED(span_is(&span, received));
        party->end->ops->release(party->end, 0);

        NEED_IS(borrow(party, 4, &span), 0);
        NEED(span_is(&span, received));
        uint32_t count = span.count > 1 ? span.count - 1 : 1;
        party->end->ops->release(party->end, count);
        received += count;
    }
    return true;
}

/* Every 37 messages are of another length, so that batches end at odd places. */
enum { ALIKE = 37 };
static uint32_t batch_length_of(uint32_t number)
{
    return 16 + number / ALIKE % 6 * 8;
}

static bool tx_batches(struct party *party)
{
    for (uint32_t sent = 0; sent < MANY;) {
        struct lab_span span;
        uint32_t want = party->channel->batch, alike = ALIKE - sent % ALIKE, left = MANY - sent;
        want = want < alike ? want : alike;
        want = want < left ? want : left;
        NEED_IS(reserve(party, batch_length_of(sent), want, &span), 0);
        NEED(span.count >= 1 && span.count <= want);
        fill_span(&span, sent);
        party->end->ops->commit(party->end, span.count);
        sent += span.count;
    }
    return true;
}

static bool rx_batches(struct party *party)
{
    for (uint32_t received = 0; received < MANY;) {
        struct lab_span span;
        NEED_IS(borrow(party, party->channel->batch, &span), 0);
        NEED(span.count >= 1 && span.count <= party->channel->batch && span.length == batch_length_of(received));
        NEED(span.count <= ALIKE - received % ALIKE);
        NEED(span_is(&span, received));
        party->end->ops->release(party->end, span.count);
        received += span.count;
        /* Over null the sender goes on before the ring is empty: else every span would begin where the ring does. */
        party_again(party, -EAGAIN);
    }
    return true;
}

/* ---- copying several ---- */

enum { TOGETHER = 32, PLACE = 256 };

/* Spans of 1, 2, ... TOGETHER messages, of which the transport may take a part. */
static bool send_together(struct party *party, uint32_t count, uint32_t length, uint32_t first)
{
    unsigned char places[TOGETHER * PLACE];
    struct lab_span span = {.at = places, .stride = PLACE, .length = length, .count = count};
    fill_span(&span, first);
    while (span.count) {
        int sent;
        do
            sent = party->end->ops->send_many(party->end, &span, party->deadline_ns);
        while (party_again(party, sent));
        NEED(sent >= 1 && sent <= (int)span.count);
        span.at += (uint32_t)sent * span.stride;
        span.count -= (uint32_t)sent;
    }
    return true;
}

static bool tx_together(struct party *party)
{
    for (uint32_t sent = 0, count; sent < MANY; sent += count) {
        uint32_t alike = ALIKE - sent % ALIKE, left = MANY - sent;
        count = sent % TOGETHER + 1;
        count = count < alike ? count : alike;
        count = count < left ? count : left;
        if (count == 1 && sent % 2)
            NEED_IS(party_say(party, batch_length_of(sent), sent), 0);
        else
            NEED(send_together(party, count, batch_length_of(sent), sent));
    }
    return true;
}

/* How many came, in places of `stride` bytes. */
static int receive_together(struct party *party, unsigned char *places, size_t stride, uint32_t want, uint32_t lengths[TOGETHER])
{
    int got;
    do
        got = party->end->ops->recv_many(party->end, places, stride, want, party->deadline_ns, lengths);
    while (party_again(party, got));
    return got;
}

static bool rx_together(struct party *party)
{
    unsigned char places[TOGETHER * PLACE];
    uint32_t lengths[TOGETHER];
    for (uint32_t received = 0; received < MANY;) {
        uint32_t want = received % 7 ? TOGETHER : 3;
        int got = receive_together(party, places, PLACE, want, lengths);
        NEED(got >= 1 && got <= (int)want);
        for (int i = 0; i < got; i++, received++) {
            NEED_IS(lengths[i], batch_length_of(received));
            NEED(message_is(places + i * PLACE, lengths[i], received));
        }
    }
    return true;
}

static bool rx_many_of_together(struct party *party)
{
    for (uint32_t i = 0; i < MANY; i++)
        NEED_IS(party_hear(party, i), batch_length_of(i));
    return true;
}

static bool tx_together_too_long(struct party *party)
{
    NEED_IS(party_say(party, 40, 0), 0);
    NEED(send_together(party, 1, 200, 1));
    NEED(send_together(party, 3, 40, 2));
    NEED_IS(party_say(party, 200, 5), 0);
    NEED_IS(party_say(party, 40, 6), 0);
    return true;
}

/* Each message is received once, or refused once, in the order in which they were sent. */
static bool rx_small_places(struct party *party)
{
    enum { SMALL = 64 };
    unsigned char places[TOGETHER * SMALL];
    uint32_t lengths[TOGETHER];
    for (uint32_t next = 0; next < 7;) {
        int got = receive_together(party, places, SMALL, 8, lengths);
        if (next == 1 || next == 5) {
            NEED_IS(got, -EMSGSIZE);
            next++;
            continue;
        }
        NEED(got >= 1);
        for (int i = 0; i < got; i++, next++)
            NEED(lengths[i] == 40 && message_is(places + i * SMALL, 40, next));
    }
    return true;
}

#endif
