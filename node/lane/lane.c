#include "node/lane/lane.h"

#include "base/clock.h"
#include "base/error.h"
#include "node/lane/stamp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_EVERY = 64 };

/* As lab_message_refresh and lab_message_read, with sizes that the compiler knows where what a library costs is little more than this. */
static inline __attribute__((always_inline)) void refresh(const struct lab_lane *lane, unsigned char *message, uint32_t flags)
{
    switch (lane->stencil.size) {
    case 8: fill_one(&lane->stencil, message, 8, lane->next, flags); break;
    case 64: fill_one(&lane->stencil, message, 64, lane->next, flags); break;
    default: lab_message_refresh(&lane->stencil, message, lane->next, flags);
    }
}

static inline __attribute__((always_inline)) bool whole(const struct lab_lane *lane, const unsigned char *message)
{
    uint64_t word0;
    struct lab_label label;
    switch (lane->stencil.size) {
    case 8: return read_one(message, 8, true, &word0);
    case 64: return read_one(message, 64, true, &word0);
    default: return lab_message_read(message, lane->stencil.size, true, &label);
    }
}

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
        /* The message is 64-byte aligned, the envelope lies in the 64 bytes before it; a little more than is expected
         * fits, so that an over-long message is seen as such. */
        size_t room = ((size_t)size + LAB_ENVELOPE_HEAD + 127) & ~(size_t)63;
        made.buffer = aligned_alloc(64, room);
        if (!made.buffer) {
            lab_stencil_fini(&made.stencil);
            return lab_fail(ENOMEM, "no memory for a message of %u bytes", size);
        }
        memset(made.buffer, 0, room);
        struct lab_span first = {.at = made.buffer + LAB_ENVELOPE_HEAD, .stride = size, .length = size, .count = 1};
        lab_message_fill(&made.stencil, &first, made.next, 0);
    }
    const struct lab_channel *channel = &end->channel;
    bool one_stream = lab_seats(channel, LAB_TX) == 1 && (lab_seats(channel, LAB_RX) == 1 || channel->transport->caps & LAB_CAP_READERS);
    if (end->role == LAB_RX && !one_stream && !(made.due = calloc(LAB_SENDERS, sizeof *made.due))) {
        lab_stencil_fini(&made.stencil);
        free(made.buffer);
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
    free(lane->buffer);
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

/* The next message lies ready: it was made after the one before had left, when nobody waited for it. */
static int put_copied(struct lab_lane *lane, uint32_t count, uint32_t last_flags, uint64_t deadline_ns)
{
    unsigned char *message = lane->buffer + LAB_ENVELOPE_HEAD;
    while (count) {
        count--;
        if (!count && last_flags)
            refresh(lane, message, last_flags);
        const unsigned char *from = message;
        if (lane->envelope) {
            lane->head.sequence = lane->next;
            lane->head.stamp_ns = lab_now_ns();
            lab_envelope_write(&lane->head, lane->stencil.size, lane->buffer);
            from = lane->buffer;
        }
        int err = lab_end_send(lane->end, from, lab_lane_wire_bytes(lane->stencil.size, lane->envelope), deadline_ns);
        if (!err) {
            lane->next++;
            lane->account.sent++;
        }
        if (!err || last_flags)
            refresh(lane, message, 0);
        if (err)
            return err;
    }
    return 0;
}

int lab_lane_put(struct lab_lane *lane, uint32_t count, uint32_t last_flags, uint64_t deadline_ns)
{
    if (lane->loan && !lane->envelope)
        return put_lent(lane, count, last_flags, deadline_ns);
    return put_copied(lane, count, last_flags, deadline_ns);
}

/* ---- receiving ---- */

/* A message out of order: is it one that was counted lost (late), or one that came already? */
static void account_stray(struct lab_lane *lane, uint32_t sequence)
{
    for (uint32_t g = lane->gaps; g-- > 0;) {
        uint32_t offset = sequence - lane->gap[g].from, count = lane->gap[g].count;
        if (offset >= count)
            continue;
        lane->account.reordered++;
        lane->account.lost--;
        lane->account.received++;
        /* What remains of the gap: the part before, and the part after if there is room to remember it. */
        lane->gap[g].count = offset;
        if (offset + 1 < count && lane->gaps < LAB_GAPS_MAX) {
            lane->gap[lane->gaps].from = sequence + 1;
            lane->gap[lane->gaps].count = count - offset - 1;
            lane->gaps++;
        }
        return;
    }
    lane->account.duplicated++;
}

/* Of a shared channel: what each sender sends must at least come in order. */
static inline void account_share(struct lab_lane *lane, uint16_t sender, uint32_t sequence)
{
    uint32_t *due = &lane->due[sender];
    lane->account.received++;
    if (sequence - *due > UINT32_MAX / 2)
        lane->account.reordered++;
    else
        *due = sequence + 1;
}

static void account_sequence(struct lab_lane *lane, uint16_t sender, uint32_t sequence)
{
    if (lane->due) {
        account_share(lane, sender, sequence);
        return;
    }
    uint32_t ahead = sequence - lane->next;
    if (ahead > UINT32_MAX / 2) {
        account_stray(lane, sequence);
        return;
    }
    if (ahead) {
        lane->account.lost += ahead;
        if (lane->gaps == LAB_GAPS_MAX)
            memmove(&lane->gap[0], &lane->gap[1], --lane->gaps * sizeof lane->gap[0]);
        lane->gap[lane->gaps].from = lane->next;
        lane->gap[lane->gaps].count = ahead;
        lane->gaps++;
    }
    lane->account.received++;
    lane->next = sequence + 1;
}

static bool due_for_sum(const struct lab_lane *lane)
{
    return lane->verify_all || lane->account.received % SAMPLE_EVERY == 0;
}

/* The slow way, for whatever is not exactly what was expected: message by message. */
static uint32_t read_one_by_one(struct lab_lane *lane, const struct lab_span *span, uint32_t *ret_flags)
{
    *ret_flags = 0;
    for (uint32_t i = 0; i < span->count; i++) {
        struct lab_label label;
        if (!lab_message_read(span->at + i * span->stride, span->length, due_for_sum(lane), &label)) {
            lane->account.corrupt++;
            continue;
        }
        account_sequence(lane, label.sender, label.sequence);
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
            if (!read_one(span.at + read * span.stride, size, due_for_sum(lane), &word0)) {
                lane->account.corrupt++;
                continue;
            }
            account_share(lane, sender_of(word0), (uint32_t)word0);
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

static int open_envelope(struct lab_lane *lane, const unsigned char *bytes, size_t size, const unsigned char **ret_message,
                         uint32_t *ret_length)
{
    struct lab_envelope head;
    const unsigned char *payload;
    size_t length;
    int err = lab_envelope_read(bytes, size, &head, &payload, &length);
    if (err)
        return err;
    if (head.run != lane->head.run || head.epoch != lane->head.epoch || head.channel != lane->head.channel)
        return lab_refuse(EBADMSG, "an envelope of run %llx, epoch %u, channel %u arrived on channel %u of run %llx, epoch %u",
                          (unsigned long long)head.run, head.epoch, head.channel, lane->head.channel,
                          (unsigned long long)lane->head.run, lane->head.epoch);
    *ret_message = payload;
    *ret_length = (uint32_t)length;
    return 0;
}

static int take_copied(struct lab_lane *lane, uint64_t deadline_ns, uint32_t *ret_count, uint32_t *ret_flags)
{
    lab_lane_settle(lane);
    unsigned char *to = lane->envelope ? lane->buffer : lane->buffer + LAB_ENVELOPE_HEAD;
    size_t room = lab_lane_wire_bytes(lane->stencil.size, lane->envelope);
    ssize_t got = lab_end_recv(lane->end, to, room, deadline_ns);
    if (got < 0)
        return (int)got;

    const unsigned char *message = to;
    uint32_t length = (uint32_t)got;
    uint64_t word0;
    *ret_count = 1;
    *ret_flags = 0;
    if ((lane->envelope && open_envelope(lane, to, (size_t)got, &message, &length)) || length != lane->stencil.size ||
        !read_one(message, length, false, &word0)) {
        lane->account.corrupt++;
        return 0;
    }
    if (due_for_sum(lane))
        lane->unsettled = message;
    account_sequence(lane, sender_of(word0), (uint32_t)word0);
    *ret_flags = flags_of(word0);
    return 0;
}

int lab_lane_take(struct lab_lane *lane, uint32_t want, uint64_t deadline_ns, uint32_t *ret_count, uint32_t *ret_flags)
{
    if (lane->loan && !lane->envelope)
        return take_lent(lane, want, deadline_ns, ret_count, ret_flags);
    return take_copied(lane, deadline_ns, ret_count, ret_flags);
}

void lab_lane_settle_now(struct lab_lane *lane)
{
    if (lane->unreleased)
        lane->end->ops->release(lane->end, 1);
    lane->unreleased = false;
    if (lane->unsettled && !whole(lane, lane->unsettled)) {
        lane->account.corrupt++;
        lane->account.received--;
    }
    lane->unsettled = NULL;
}

/* ---- the copy path of every transport ---- */

int lab_end_send(struct lab_end *end, const void *message, uint32_t length, uint64_t deadline_ns)
{
    if (end->ops->send)
        return end->ops->send(end, message, length, deadline_ns);
    struct lab_span span;
    int err = end->ops->reserve(end, length, 1, deadline_ns, &span);
    if (err)
        return err;
    memcpy(span.at, message, length);
    end->ops->commit(end, 1);
    return 0;
}

ssize_t lab_end_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    if (end->ops->recv)
        return end->ops->recv(end, to, room, deadline_ns);
    struct lab_span span;
    int err = end->ops->borrow(end, 1, deadline_ns, &span);
    if (err)
        return err;
    if (span.length <= room)
        memcpy(to, span.at, span.length);
    end->ops->release(end, 1);
    if (span.length > room)
        return lab_refuse(EMSGSIZE, "a message of %u bytes for a buffer of %zu", span.length, room);
    return (ssize_t)span.length;
}
