#include "node/lane/copied.h"

#include "base/clock.h"
#include "base/error.h"
#include "node/lane/account.h"
#include "node/lane/stamp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* As lab_message_refresh and lab_message_read, with sizes that the compiler knows where what a library costs is little more than this. */
static inline __attribute__((always_inline)) void refresh(const struct lab_lane *lane, unsigned char *message, uint32_t sequence, uint32_t flags)
{
    switch (lane->stencil.size) {
    case 8: fill_one(&lane->stencil, message, 8, sequence, flags); break;
    case 64: fill_one(&lane->stencil, message, 64, sequence, flags); break;
    default: lab_message_refresh(&lane->stencil, message, sequence, flags);
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

/* ---- the buffer ----
 *
 * Messages are 64-byte aligned, and an envelope lies in the 64 bytes before one. A little more than is expected fits, also into the last place, so that an over-long
 * message is seen as such. */

static unsigned char *message_at(const struct lab_lane *lane, uint32_t place)
{
    return lane->buffer + place * lane->stride + LAB_ENVELOPE_HEAD;
}

/* Where what travels begins. */
static unsigned char *wire_at(const struct lab_lane *lane, uint32_t place)
{
    return message_at(lane, place) - (lane->envelope ? LAB_ENVELOPE_HEAD : 0);
}

int lab_copied_init(struct lab_lane *lane)
{
    uint32_t size = lane->stencil.size;
    lane->places = lane->end->ops->send_many ? lane->end->channel.batch : 1;
    lane->stride = ((size_t)size + LAB_ENVELOPE_HEAD + 127) & ~(size_t)63;
    lane->buffer = aligned_alloc(64, lane->places * lane->stride + LAB_ENVELOPE_HEAD);
    lane->lengths = calloc(lane->places, sizeof *lane->lengths);
    if (lane->envelope && lane->places == 1)
        lane->stages = lab_stages_new();
    if (!lane->buffer || !lane->lengths || (lane->envelope && lane->places == 1 && !lane->stages)) {
        lab_copied_fini(lane);
        return lab_fail(ENOMEM, "no memory for %u messages of %u bytes", lane->places, size);
    }
    memset(lane->buffer, 0, lane->places * lane->stride + LAB_ENVELOPE_HEAD);
    struct lab_span first = {.at = message_at(lane, 0), .stride = lane->stride, .length = size, .count = lane->places};
    lab_message_fill(&lane->stencil, &first, lane->next, 0);
    return 0;
}

void lab_copied_fini(struct lab_lane *lane)
{
    free(lane->buffer);
    free(lane->lengths);
    lab_stages_free(lane->stages);
    lane->buffer = NULL;
    lane->lengths = NULL;
    lane->stages = NULL;
}

/* ---- sending ---- */

static void enclose(struct lab_lane *lane, uint32_t place)
{
    lane->head.sequence = lane->next + place;
    lane->head.stamp_ns = lab_now_ns();
    lab_envelope_write(&lane->head, lane->stencil.size, wire_at(lane, place));
}

/* A message that is looked at, in its envelope. */
static __attribute__((noinline)) int send_looked_at(struct lab_lane *lane, uint64_t deadline_ns)
{
    uint64_t begin_ns = lab_now_ns();
    int err = lab_end_send(lane->end, wire_at(lane, 0), lab_lane_wire_bytes(lane->stencil.size, true), deadline_ns);
    uint64_t sent_ns = lab_now_ns();
    if (err)
        return err;
    lab_hist_record(lane->stages->ns[LAB_STAGE_ENQUEUE], sent_ns - begin_ns);
    for (int i = 0; i < LAB_STAGES_BATCH; i++)
        enclose(lane, 0);
    lab_hist_record(lane->stages->ns[LAB_STAGE_ENCODE], lab_now_ns() - sent_ns);
    return 0;
}

/* The next message lies ready: it was made after the one before had left, when nobody waited for it. */
static int put_singly(struct lab_lane *lane, uint32_t count, uint32_t last_flags, uint64_t deadline_ns)
{
    unsigned char *message = message_at(lane, 0);
    while (count) {
        count--;
        if (!count && last_flags)
            refresh(lane, message, lane->next, last_flags);
        if (lane->envelope)
            enclose(lane, 0);
        int err = lab_stages_due(lane->stages, lane->next)
                      ? send_looked_at(lane, deadline_ns)
                      : lab_end_send(lane->end, wire_at(lane, 0), lab_lane_wire_bytes(lane->stencil.size, lane->envelope), deadline_ns);
        if (!err) {
            lane->next++;
            lane->account.sent++;
        }
        if (!err || last_flags)
            refresh(lane, message, lane->next, 0);
        if (err)
            return err;
    }
    return 0;
}

static int put_together(struct lab_lane *lane, uint32_t count, uint32_t last_flags, uint64_t deadline_ns)
{
    while (count) {
        struct lab_span span = {.at = wire_at(lane, 0), .stride = lane->stride,
                                .length = lab_lane_wire_bytes(lane->stencil.size, lane->envelope),
                                .count = count < lane->places ? count : lane->places};
        for (uint32_t i = 0; i < span.count; i++) {
            refresh(lane, message_at(lane, i), lane->next + i, i + 1 == count ? last_flags : 0);
            if (lane->envelope)
                enclose(lane, i);
        }
        int sent = lane->end->ops->send_many(lane->end, &span, deadline_ns);
        if (sent < 0)
            return sent;
        count -= (uint32_t)sent;
        lane->next += (uint32_t)sent;
        lane->account.sent += (uint32_t)sent;
    }
    return 0;
}

int lab_copied_put(struct lab_lane *lane, uint32_t count, uint32_t last_flags, uint64_t deadline_ns)
{
    return lane->places > 1 ? put_together(lane, count, last_flags, deadline_ns) : put_singly(lane, count, last_flags, deadline_ns);
}

/* ---- receiving ---- */

static int open_envelope(const struct lab_lane *lane, const unsigned char *bytes, size_t size, const unsigned char **ret_message,
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

/* Whatever is not simply the message that was expected. */
static __attribute__((noinline)) void read_other(struct lab_lane *lane, uint32_t place, uint32_t length, uint32_t *ret_flags)
{
    const unsigned char *wire = wire_at(lane, place), *message = wire;
    uint64_t word0;
    *ret_flags = 0;
    if ((lane->envelope && open_envelope(lane, wire, length, &message, &length)) || length != lane->stencil.size ||
        !read_one(message, length, false, &word0)) {
        lane->account.corrupt++;
        return;
    }
    if (lab_account_due_for_sum(lane))
        lane->unsettled = message;
    lab_account_message(lane, sender_of(word0), (uint32_t)word0);
    *ret_flags = flags_of(word0);
}

static inline __attribute__((always_inline)) bool labelled(const struct lab_lane *lane, const unsigned char *message, uint64_t *ret_word0)
{
    switch (lane->stencil.size) {
    case 8: return read_one(message, 8, false, ret_word0);
    case 64: return read_one(message, 64, false, ret_word0);
    default: return read_one(message, lane->stencil.size, false, ret_word0);
    }
}

/* Of what arrived in a place: reads its label, and leaves the rest to lab_copied_settle(). Somebody may wait for the answer: the message
 * that was expected is seen as such by a few comparisons. */
static inline void read_label(struct lab_lane *lane, uint32_t place, uint32_t length, uint32_t *ret_flags)
{
    const unsigned char *message = wire_at(lane, place);
    uint64_t word0;
    if (lane->envelope || lane->due || !lane->verify_all || length != lane->stencil.size || !labelled(lane, message, &word0) ||
        (uint32_t)word0 != lane->next) {
        read_other(lane, place, length, ret_flags);
        return;
    }
    lane->unsettled = message;
    lane->next++;
    lane->account.received++;
    *ret_flags = flags_of(word0);
}

static int take_singly(struct lab_lane *lane, uint64_t deadline_ns, uint32_t *ret_count, uint32_t *ret_flags)
{
    lab_lane_settle(lane);
    ssize_t got = lab_end_recv(lane->end, wire_at(lane, 0), lab_lane_wire_bytes(lane->stencil.size, lane->envelope), deadline_ns);
    if (got < 0)
        return (int)got;
    if (lab_stages_due(lane->stages, lane->next))
        lane->stages->arrived_ns = lab_now_ns();
    *ret_count = 1;
    read_label(lane, 0, (uint32_t)got, ret_flags);
    return 0;
}

/* What came together may be more than is wanted, or go on after flags: the rest is there the next time. */
static int take_together(struct lab_lane *lane, uint32_t want, uint64_t deadline_ns, uint32_t *ret_count, uint32_t *ret_flags)
{
    uint32_t count = 0, flags = 0;
    if (lane->taken == lane->arrived) {
        lab_lane_settle(lane);
        int got = lane->end->ops->recv_many(lane->end, wire_at(lane, 0), lane->stride, lane->places, deadline_ns, lane->lengths);
        if (got < 0)
            return got;
        lane->arrived = (uint32_t)got;
        lane->taken = 0;
    }
    for (; lane->taken < lane->arrived && count < want && !flags; count++, lane->taken++) {
        lab_lane_settle(lane);
        read_label(lane, lane->taken, lane->lengths[lane->taken], &flags);
    }
    *ret_count = count;
    *ret_flags = flags;
    return 0;
}

int lab_copied_take(struct lab_lane *lane, uint32_t want, uint64_t deadline_ns, uint32_t *ret_count, uint32_t *ret_flags)
{
    return lane->places > 1 ? take_together(lane, want, deadline_ns, ret_count, ret_flags) : take_singly(lane, deadline_ns, ret_count, ret_flags);
}

/* The message that was looked at lies where it came. */
static __attribute__((noinline)) void look_back(struct lab_lane *lane)
{
    struct lab_envelope head;
    const unsigned char *payload;
    size_t length, size = lab_lane_wire_bytes(lane->stencil.size, true);
    uint64_t begin_ns = lab_now_ns(), arrived_ns = lane->stages->arrived_ns;
    int err = 0;
    for (int i = 0; i < LAB_STAGES_BATCH && !err; i++)
        err = lab_envelope_read(wire_at(lane, 0), size, &head, &payload, &length);
    lane->stages->arrived_ns = 0;
    if (err)
        return; /* it was counted corrupt */
    lab_hist_record(lane->stages->ns[LAB_STAGE_DECODE], lab_now_ns() - begin_ns);
    if (!lane->end->channel.crosses_hosts && arrived_ns > head.stamp_ns)
        lab_hist_record(lane->stages->ns[LAB_STAGE_ONE_WAY], arrived_ns - head.stamp_ns);
}

void lab_copied_settle(struct lab_lane *lane)
{
    if (lane->stages && lane->stages->arrived_ns)
        look_back(lane);
    if (lane->unsettled && !whole(lane, lane->unsettled)) {
        lane->account.corrupt++;
        lane->account.received--;
    }
    lane->unsettled = NULL;
}

/* ---- the copy path of every transport ---- */

/* Out of line: a transport that copies pays for one jump. */
static __attribute__((noinline)) int send_by_loan(struct lab_end *end, const void *message, uint32_t length, uint64_t deadline_ns)
{
    struct lab_span span;
    int err = end->ops->reserve(end, length, 1, deadline_ns, &span);
    if (err)
        return err;
    memcpy(span.at, message, length);
    end->ops->commit(end, 1);
    return 0;
}

static __attribute__((noinline)) ssize_t recv_by_loan(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
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

int lab_end_send(struct lab_end *end, const void *message, uint32_t length, uint64_t deadline_ns)
{
    return end->ops->send ? end->ops->send(end, message, length, deadline_ns) : send_by_loan(end, message, length, deadline_ns);
}

ssize_t lab_end_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    return end->ops->recv ? end->ops->recv(end, to, room, deadline_ns) : recv_by_loan(end, to, room, deadline_ns);
}
