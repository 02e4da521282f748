#include "proto/envelope.h"

#include "base/error.h"
#include "proto/wire.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* The canonical head, field by field: tag byte(s), then a little-endian value.
 *
 *     0 run(1)  9 epoch(2)  14 sender(3)  19 receiver(4)  24 sequence(5)  33 stamp(6)  42 channel(7)  47 check(16)  57 payload(17)
 *
 * The tag of a field above 15 takes two bytes; the payload's length takes five. */
enum { AT_RUN = 0, AT_EPOCH = 9, AT_SENDER = 14, AT_RECEIVER = 19, AT_SEQUENCE = 24, AT_STAMP = 33, AT_CHANNEL = 42, AT_CHECK = 47, AT_PAYLOAD = 57,
       AT_LENGTH = 59 };
enum { CHECK_FIELD = 16, PAYLOAD_FIELD = 17 };
_Static_assert(AT_PAYLOAD + 2 + LAB_WIRE_LENGTH == LAB_ENVELOPE_HEAD, "the payload follows its five-byte length");
_Static_assert(LAB_ENVELOPE_HEAD % 8 == 0, "the head is compared word by word");

/* Every header field and the payload's length. Each is masked by a constant of its own, so that two that changed places show;
 * the products depend on each other as little as possible, for the sake of time. */
static inline __attribute__((always_inline)) uint64_t check_of(const struct lab_envelope *e, uint64_t payload_size)
{
    uint64_t route = (uint64_t)e->sender << 32 | e->receiver, place = (uint64_t)e->epoch << 32 | e->channel;
    uint64_t message = lab_wire_fold(e->sequence ^ UINT64_C(0x9e3779b97f4a7c15), e->stamp_ns ^ UINT64_C(0xbf58476d1ce4e5b9));
    uint64_t parties = lab_wire_fold(route ^ UINT64_C(0x94d049bb133111eb), place ^ UINT64_C(0xd6e8feb86659fd93));
    uint64_t extent = lab_wire_fold(e->run ^ UINT64_C(0xa0761d6478bd642f), payload_size ^ UINT64_C(0xe7037ed1a0b428db));
    return lab_wire_fold(message ^ UINT64_C(0x8ebc6af09c88c6e3), parties ^ extent);
}

/* The head of an envelope in which every value is 0, */
static const unsigned char blank[LAB_ENVELOPE_HEAD] = {
    [AT_RUN] = LAB_WIRE_TAG1(1, LAB_WIRE_FIXED64),
    [AT_EPOCH] = LAB_WIRE_TAG1(2, LAB_WIRE_FIXED32),
    [AT_SENDER] = LAB_WIRE_TAG1(3, LAB_WIRE_FIXED32),
    [AT_RECEIVER] = LAB_WIRE_TAG1(4, LAB_WIRE_FIXED32),
    [AT_SEQUENCE] = LAB_WIRE_TAG1(5, LAB_WIRE_FIXED64),
    [AT_STAMP] = LAB_WIRE_TAG1(6, LAB_WIRE_FIXED64),
    [AT_CHANNEL] = LAB_WIRE_TAG1(7, LAB_WIRE_FIXED32),
    [AT_CHECK] = LAB_WIRE_TAG2_LOW(CHECK_FIELD, LAB_WIRE_FIXED64), [AT_CHECK + 1] = LAB_WIRE_TAG2_HIGH(CHECK_FIELD),
    [AT_PAYLOAD] = LAB_WIRE_TAG2_LOW(PAYLOAD_FIELD, LAB_WIRE_BYTES), [AT_PAYLOAD + 1] = LAB_WIRE_TAG2_HIGH(PAYLOAD_FIELD),
    [AT_LENGTH] = 0x80, [AT_LENGTH + 1] = 0x80, [AT_LENGTH + 2] = 0x80, [AT_LENGTH + 3] = 0x80,
};

/* and which of its bits no value changes: the tags, and those that make the length five bytes long and below 2 GiB. */
static const unsigned char constant[LAB_ENVELOPE_HEAD] = {
    [AT_RUN] = 0xff, [AT_EPOCH] = 0xff, [AT_SENDER] = 0xff, [AT_RECEIVER] = 0xff, [AT_SEQUENCE] = 0xff, [AT_STAMP] = 0xff,
    [AT_CHANNEL] = 0xff, [AT_CHECK] = 0xff, [AT_CHECK + 1] = 0xff, [AT_PAYLOAD] = 0xff, [AT_PAYLOAD + 1] = 0xff,
    [AT_LENGTH] = 0x80, [AT_LENGTH + 1] = 0x80, [AT_LENGTH + 2] = 0x80, [AT_LENGTH + 3] = 0x80, [AT_LENGTH + 4] = 0xf8,
};

void lab_envelope_write(const struct lab_envelope *envelope, size_t payload_size, unsigned char head[LAB_ENVELOPE_HEAD])
{
    assert(payload_size <= INT32_MAX);
    memcpy(head, blank, sizeof blank);
    lab_wire_put64(head + AT_RUN + 1, envelope->run);
    lab_wire_put32(head + AT_EPOCH + 1, envelope->epoch);
    lab_wire_put32(head + AT_SENDER + 1, envelope->sender);
    lab_wire_put32(head + AT_RECEIVER + 1, envelope->receiver);
    lab_wire_put64(head + AT_SEQUENCE + 1, envelope->sequence);
    lab_wire_put64(head + AT_STAMP + 1, envelope->stamp_ns);
    lab_wire_put32(head + AT_CHANNEL + 1, envelope->channel);
    lab_wire_put64(head + AT_CHECK + 2, check_of(envelope, payload_size));
    lab_wire_put_length(head + AT_LENGTH, payload_size);
}

/* ---- reading ---- */

struct reading {
    struct lab_envelope envelope;
    uint64_t check;
    const unsigned char *payload;
    size_t payload_size;
};

static int damaged(const char *what)
{
    return lab_refuse(EBADMSG, "an envelope with %s", what);
}

static bool is_canonical(const unsigned char *bytes, size_t size)
{
    uint64_t differ = 0;
    for (size_t at = 0; size >= LAB_ENVELOPE_HEAD && at < LAB_ENVELOPE_HEAD; at += 8)
        differ |= (lab_wire_get64(bytes + at) ^ lab_wire_get64(blank + at)) & lab_wire_get64(constant + at);
    return size >= LAB_ENVELOPE_HEAD && !differ;
}

static struct lab_envelope envelope_at(const unsigned char *b)
{
    return (struct lab_envelope){
        .run = lab_wire_get64(b + AT_RUN + 1), .epoch = lab_wire_get32(b + AT_EPOCH + 1), .sender = lab_wire_get32(b + AT_SENDER + 1),
        .receiver = lab_wire_get32(b + AT_RECEIVER + 1), .sequence = lab_wire_get64(b + AT_SEQUENCE + 1), .stamp_ns = lab_wire_get64(b + AT_STAMP + 1),
        .channel = lab_wire_get32(b + AT_CHANNEL + 1),
    };
}

static void take_fixed(struct reading *r, uint32_t number, unsigned kind, const unsigned char *at)
{
    struct lab_envelope *e = &r->envelope;
    uint64_t value = kind == LAB_WIRE_FIXED64 ? lab_wire_get64(at) : lab_wire_get32(at);
    switch ((uint64_t)number << 3 | kind) {
    case LAB_WIRE_TAG1(1, LAB_WIRE_FIXED64): e->run = value; break;
    case LAB_WIRE_TAG1(2, LAB_WIRE_FIXED32): e->epoch = (uint32_t)value; break;
    case LAB_WIRE_TAG1(3, LAB_WIRE_FIXED32): e->sender = (uint32_t)value; break;
    case LAB_WIRE_TAG1(4, LAB_WIRE_FIXED32): e->receiver = (uint32_t)value; break;
    case LAB_WIRE_TAG1(5, LAB_WIRE_FIXED64): e->sequence = value; break;
    case LAB_WIRE_TAG1(6, LAB_WIRE_FIXED64): e->stamp_ns = value; break;
    case LAB_WIRE_TAG1(7, LAB_WIRE_FIXED32): e->channel = (uint32_t)value; break;
    case LAB_WIRE_TAG1(CHECK_FIELD, LAB_WIRE_FIXED64): r->check = value; break;
    default: break; /* of a later version */
    }
}

/* Any order and any unknown fields, as protobuf allows; only the payload has to end the message. */
static int read_any(const unsigned char *bytes, size_t size, struct reading *r)
{
    const unsigned char *at = bytes, *end = bytes + size;
    while (at < end) {
        uint32_t number;
        unsigned kind;
        uint64_t length;
        const char *why;
        if (lab_wire_field(&at, end, &number, &kind, &length, &why))
            return damaged(why);
        if (kind == LAB_WIRE_BYTES && number == PAYLOAD_FIELD) {
            r->payload = at;
            r->payload_size = length;
            return at + length == end ? 0 : damaged("something after its payload");
        }
        if (kind == LAB_WIRE_FIXED32 || kind == LAB_WIRE_FIXED64)
            take_fixed(r, number, kind, at);
        at += length;
    }
    return damaged("no payload");
}

static __attribute__((noinline)) int read_other(const unsigned char *bytes, size_t size, struct reading *r)
{
    *r = (struct reading){0};
    int err = read_any(bytes, size, r);
    return err ? err : r->check == check_of(&r->envelope, r->payload_size) ? 0 : damaged("a wrong check value");
}

int lab_envelope_read(const unsigned char *bytes, size_t size, struct lab_envelope *ret_envelope, const unsigned char **ret_payload,
                      size_t *ret_payload_size)
{
    if (!is_canonical(bytes, size)) {
        struct reading r;
        int err = read_other(bytes, size, &r);
        if (err)
            return err;
        *ret_envelope = r.envelope;
        *ret_payload = r.payload;
        *ret_payload_size = r.payload_size;
        return 0;
    }
    struct lab_envelope envelope = envelope_at(bytes);
    size_t length = lab_wire_get_length(bytes + AT_LENGTH);
    if (length != size - LAB_ENVELOPE_HEAD)
        return damaged("a payload of another length than it says");
    if (lab_wire_get64(bytes + AT_CHECK + 2) != check_of(&envelope, length))
        return damaged("a wrong check value");
    *ret_envelope = envelope;
    *ret_payload = bytes + LAB_ENVELOPE_HEAD;
    *ret_payload_size = length;
    return 0;
}
