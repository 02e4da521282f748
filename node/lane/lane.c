#include "node/lane/lane.h"

#include "base/clock.h"
#include "base/error.h"
#include "node/lane/account.h"
#include "node/lane/copied.h"
#include "node/lane/stamp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int lab_lane_init(struct lab_lane *lane, struct lab_end *end, uint32_t size, uint16_t sender, uint64_t seed, bool verify_all,
                  const struct lab_envelope *envelope)
{
    struct lab_lane made = {
        .end = end, .loan = end->ops->reserve != NULL, .verify_all = verify_all, .envelope = envelope != NULL,
    };
    if (envelope)
        made.head = *envelope;
    int err = lab_stencil_init(&made.stencil, size, sender, seed);
    if (err)
        return err;
    if (!made.loan || made.envelope) {
        err = lab_copied_init(&made);
        if (err) {
            lab_stencil_fini(&made.stencil);
            return err;
        }
    }
    const struct lab_channel *channel = &end->channel;
    bool one_stream = lab_seats(channel, LAB_TX) == 1 && (lab_seats(channel, LAB_RX) == 1 || channel->sharing == LAB_TO_ALL);
    if (end->role == LAB_RX && !one_stream && !(made.due = calloc(LAB_SENDERS, sizeof *made.due))) {
        lab_stencil_fini(&made.stencil);
        lab_copied_fini(&made);
        return lab_fail(ENOMEM, "no memory to account for %u senders", lab_seats(channel, LAB_TX));
    }
    *lane = made;
    return 0;
}

void lab_lane_fini(struct lab_lane *lane)
{
    lab_lane_settle(lane);
    lab_end_close(lane->end);
    lab_stencil_fini(&lane->stencil);
    lab_copied_fini(lane);
    free(lane->due);
    *lane = (struct lab_lane){0};
}

/* ---- sending ---- */

/* A message that somebody may wait for: reserving, writing and committing are all there is. */
static inline __attribute__((always_inline)) int put_one(struct lab_lane *lane, uint32_t size, uint32_t flags, uint64_t deadline_ns)
{
    struct lab_end *end = lane->end;
    struct lab_span span;
    int err = end->ops->reserve(end, size, 1, deadline_ns, &span);
    if (err)
        return err;
    fill_one(&lane->stencil, span.at, size, lane->next, flags);
    end->ops->commit(end, 1);
    lane->next++;
    lane->account.sent++;
    return 0;
}

/* Many, one by one: lent ahead where the transport can, but written and sent one after the other, without a call for each. */
static inline __attribute__((always_inline)) int put_singly(struct lab_lane *lane, uint32_t size, uint32_t count, uint32_t last_flags,
                                                            uint64_t deadline_ns)
{
    struct lab_end *end = lane->end;
    const struct lab_transport_ops *ops = end->ops;
    int err = 0;
    while (count && !err && !ops->reserve_ahead)
        err = put_one(lane, size, --count ? 0 : last_flags, deadline_ns);
    while (count && !err) {
        struct lab_span span;
        struct lab_tally tally;
        err = ops->reserve_ahead(end, size, count, deadline_ns, &span, &tally);
        if (err)
            break;
        count -= span.count;
        fill_span(&lane->stencil, &span, size, lane->next, count ? 0 : last_flags, tally.sent ? &tally : NULL);
        ops->commit(end, span.count);
        lane->next += span.count;
        lane->account.sent += span.count;
    }
    return err;
}

static int put_in_batches(struct lab_lane *lane, uint32_t count, uint32_t last_flags, uint64_t deadline_ns)
{
    struct lab_end *end = lane->end;
    const struct lab_transport_ops *ops = end->ops;
    uint32_t batch = end->channel.batch;
    while (count) {
        struct lab_span span;
        int err = ops->reserve(end, lane->stencil.size, count < batch ? count : batch, deadline_ns, &span);
        if (err)
            return err;
        count -= span.count;
        lab_message_fill(&lane->stencil, &span, lane->next, count ? 0 : last_flags);
        ops->commit(end, span.count);
        lane->next += span.count;
        lane->account.sent += span.count;
    }
    return 0;
}

/* Not inlined, as take_many: what it needs of registers and stack a single message shall not pay for. */
static __attribute__((noinline)) int put_many(struct lab_lane *lane, uint32_t count, uint32_t last_flags, uint64_t deadline_ns)
{
    switch (lane->end->channel.batch == 1 ? lane->stencil.size : 0) {
    case 0: return put_in_batches(lane, count, last_flags, deadline_ns);
    case 8: return put_singly(lane, 8, count, last_flags, deadline_ns);
    case 48: return put_singly(lane, 48, count, last_flags, deadline_ns);
    case 64: return put_singly(lane, 64, count, last_flags, deadline_ns);
    default: return put_singly(lane, lane->stencil.size, count, last_flags, deadline_ns);
    }
}

static int put_lent(struct lab_lane *lane, uint32_t count, uint32_t last_flags, uint64_t deadline_ns)
{
    if (count != 1)
        return put_many(lane, count, last_flags, deadline_ns);
    switch (lane->stencil.size) {
    case 8: return put_one(lane, 8, last_flags, deadline_ns);
    case 48: return put_one(lane, 48, last_flags, deadline_ns);
    case 64: return put_one(lane, 64, last_flags, deadline_ns);
    default: return put_in_batches(lane, 1, last_flags, deadline_ns);
    }
}

int lab_lane_put(struct lab_lane *lane, uint32_t count, uint32_t last_flags, uint64_t deadline_ns)
{
    if (lane->loan && !lane->envelope)
        return put_lent(lane, count, last_flags, deadline_ns);
    return lab_copied_put(lane, count, last_flags, deadline_ns);
}

/* ---- receiving ---- */

/* The slow way, for whatever is not exactly what was expected: message by message. */
static uint32_t read_one_by_one(struct lab_lane *lane, const struct lab_span *span, uint32_t *ret_flags)
{
    *ret_flags = 0;
    for (uint32_t i = 0; i < span->count; i++) {
        struct lab_label label;
        if (!lab_message_read(span->at + i * span->stride, span->length, lab_account_due_for_sum(lane), &label)) {
            lane->account.corrupt++;
            continue;
        }
        lab_account_message(lane, label.sender, label.sequence);
        if (label.flags) {
            *ret_flags = label.flags;
            return i + 1;
        }
    }
    return span->count;
}

/* What is not exactly as it should be, from message `read` of the span on. How many of the span were read then. */
static __attribute__((noinline)) uint32_t read_rest(struct lab_lane *lane, const struct lab_span *span, uint32_t read, uint32_t *ret_flags)
{
    struct lab_span rest = {.at = span->at + read * span->stride, .stride = span->stride, .length = span->length, .count = span->count - read};
    return read + read_one_by_one(lane, &rest, ret_flags);
}

/* A short message that is waited for; it is given back when the answer has left. (Long ones are given back at once: 1 KiB is
 * answered 5 % sooner.) */
static inline __attribute__((always_inline)) int take_one(struct lab_lane *lane, uint32_t size, uint64_t deadline_ns, uint32_t *ret_count,
                                                          uint32_t *ret_flags)
{
    struct lab_end *end = lane->end;
    struct lab_span span;
    uint64_t word0;
    lab_lane_settle(lane);
    int err = end->ops->borrow(end, 1, deadline_ns, &span);
    if (err)
        return err;
    lane->unreleased = true;
    *ret_count = 1;
    if (lane->verify_all && span.length == size && read_one(span.at, size, true, &word0) && (uint32_t)word0 == lane->next) {
        lane->next++;
        lane->account.received++;
        *ret_flags = flags_of(word0);
        return 0;
    }
    read_rest(lane, &span, 0, ret_flags);
    return 0;
}

/* As many as `want`, or until one has flags. A message that was sent by itself need not be taken by itself: what is there is taken
 * together, up to TOGETHER. */
static inline __attribute__((always_inline)) int take_in_spans(struct lab_lane *lane, uint32_t size, uint32_t want, uint64_t deadline_ns,
                                                               uint32_t *ret_count, uint32_t *ret_flags)
{
    enum { TOGETHER = 64 };
    struct lab_end *end = lane->end;
    const struct lab_transport_ops *ops = end->ops;
    uint32_t batch = end->channel.batch > TOGETHER ? end->channel.batch : TOGETHER, count = 0, flags = 0;
    int err = 0;
    lab_lane_settle(lane);
    while (count < want && !flags) {
        struct lab_span span;
        err = ops->borrow(end, want - count < batch ? want - count : batch, deadline_ns, &span);
        if (err)
            break;
        uint32_t read = 0;
        if (lane->verify_all && span.length == size)
            read = check_span(&span, size, lane->next, &flags);
        lane->next += read;
        lane->account.received += read;
        if (read < span.count && !flags)
            read = read_rest(lane, &span, read, &flags);
        ops->release(end, read);
        count += read;
    }
    *ret_count = count;
    *ret_flags = flags;
    return count ? 0 : err;
}

static __attribute__((noinline)) int take_many(struct lab_lane *lane, uint32_t want, uint64_t deadline_ns, uint32_t *ret_count,
                                               uint32_t *ret_flags)
{
    switch (lane->stencil.size) {
    case 8: return take_in_spans(lane, 8, want, deadline_ns, ret_count, ret_flags);
    case 48: return take_in_spans(lane, 48, want, deadline_ns, ret_count, ret_flags);
    case 64: return take_in_spans(lane, 64, want, deadline_ns, ret_count, ret_flags);
    default: return take_in_spans(lane, lane->stencil.size, want, deadline_ns, ret_count, ret_flags);
    }
}

/* Of a shared channel: what one operation gives, with an account for each sender. */
static inline __attribute__((always_inline)) int take_share(struct lab_lane *lane, uint32_t size, uint32_t want, uint64_t deadline_ns,
                                                            uint32_t *ret_count, uint32_t *ret_flags)
{
    struct lab_end *end = lane->end;
    uint32_t batch = end->channel.batch, read = 0, flags = 0;
    struct lab_span span;
    int err = end->ops->borrow(end, want < batch ? want : batch, deadline_ns, &span);
    if (err)
        return err;
    if (span.length == size)
        for (; read < span.count && !flags; read++) {
            uint64_t word0;
            if (!read_one(span.at + read * span.stride, size, lab_account_due_for_sum(lane), &word0)) {
                lane->account.corrupt++;
                continue;
            }
            lab_account_share(lane, sender_of(word0), (uint32_t)word0);
            flags = flags_of(word0);
        }
    else
        read = read_one_by_one(lane, &span, &flags);
    end->ops->release(end, read);
    *ret_count = read;
    *ret_flags = flags;
    return 0;
}

static __attribute__((noinline)) int take_shared(struct lab_lane *lane, uint32_t want, uint64_t deadline_ns, uint32_t *ret_count,
                                                 uint32_t *ret_flags)
{
    switch (lane->stencil.size) {
    case 8: return take_share(lane, 8, want, deadline_ns, ret_count, ret_flags);
    case 64: return take_share(lane, 64, want, deadline_ns, ret_count, ret_flags);
    default: return take_share(lane, lane->stencil.size, want, deadline_ns, ret_count, ret_flags);
    }
}

static int take_lent(struct lab_lane *lane, uint32_t want, uint64_t deadline_ns, uint32_t *ret_count, uint32_t *ret_flags)
{
    if (lane->due)
        return take_shared(lane, want, deadline_ns, ret_count, ret_flags);
    switch (want == 1 ? lane->stencil.size : 0) {
    case 8: return take_one(lane, 8, deadline_ns, ret_count, ret_flags);
    case 48: return take_one(lane, 48, deadline_ns, ret_count, ret_flags);
    case 64: return take_one(lane, 64, deadline_ns, ret_count, ret_flags);
    default: return take_many(lane, want, deadline_ns, ret_count, ret_flags);
    }
}

int lab_lane_take(struct lab_lane *lane, uint32_t want, uint64_t deadline_ns, uint32_t *ret_count, uint32_t *ret_flags)
{
    if (lane->loan && !lane->envelope)
        return take_lent(lane, want, deadline_ns, ret_count, ret_flags);
    return lab_copied_take(lane, want, deadline_ns, ret_count, ret_flags);
}

void lab_lane_settle_now(struct lab_lane *lane)
{
    if (lane->unreleased)
        lane->end->ops->release(lane->end, 1);
    lane->unreleased = false;
    lab_copied_settle(lane);
}
