#include "proto/envelope.h"

#include "base/error.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* The canonical head, field by field: tag byte(s), then a little-endian value.
 *
 *     0 run(1)  9 epoch(2)  14 sender(3)  19 receiver(4)  24 sequence(5)  33 stamp(6)  42 channel(7)  47 check(16)  57 payload(17)
 *
 * The tag of a field above 15 takes two bytes; the payload's length takes five. */
enum { AT_RUN = 0, AT_EPOCH = 9, AT_SENDER = 14, AT_RECEIVER = 19, AT_SEQUENCE = 24, AT_STAMP = 33, AT_CHANNEL = 42, AT_CHECK = 47, AT_PAYLOAD = 57 };
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum { CHECK_FIELD = 16, PAYLOAD_FIELD = 17 };
_Static_assert(AT_PAYLOAD + 2 + 5 == LAB_ENVELOPE_HEAD, "the payload follows its five-byte length");

static void put32(unsigned char *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

static void put64(unsigned char *at, uint64_t value)
{
    memcpy(at, &value, sizeof value);
}

static uint32_t get32(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t get64(const unsigned char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Every header field and the payload's length, each turned by another amount: a swapped or flipped field shows. */
static uint64_t check_of(const struct lab_envelope *e, uint64_t payload_size)
{
    uint64_t mixed = e->run * UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ ((uint64_t)e->epoch << 32 | e->channel)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ ((uint64_t)e->sender << 32 | e->receiver)) * UINT64_C(0x94d049bb133111eb);
    mixed = (mixed ^ e->sequence ^ mixed >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ e->stamp_ns ^ mixed >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    return (mixed ^ payload_size ^ mixed >> 32) * UINT64_C(0x94d049bb133111eb);
}

static const unsigned char blank[LAB_ENVELOPE_HEAD] = {
    [AT_RUN] = 1 << 3 | FIXED64,      [AT_EPOCH] = 2 << 3 | FIXED32,    [AT_SENDER] = 3 << 3 | FIXED32,
    [AT_RECEIVER] = 4 << 3 | FIXED32, [AT_SEQUENCE] = 5 << 3 | FIXED64, [AT_STAMP] = 6 << 3 | FIXED64,
    [AT_CHANNEL] = 7 << 3 | FIXED32,
    [AT_CHECK] = (CHECK_FIELD << 3 & 0x7f) | 0x80 | FIXED64,  [AT_CHECK + 1] = CHECK_FIELD >> 4,
    [AT_PAYLOAD] = (PAYLOAD_FIELD << 3 & 0x7f) | 0x80 | BYTES, [AT_PAYLOAD + 1] = PAYLOAD_FIELD >> 4,
};

void lab_envelope_write(const struct lab_envelope *envelope, size_t payload_size, unsigned char head[LAB_ENVELOPE_HEAD])
{
    memcpy(head, blank, sizeof blank);
    put64(head + AT_RUN + 1, envelope->run);
    put32(head + AT_EPOCH + 1, envelope->epoch);
    put32(head + AT_SENDER + 1, envelope->sender);
    put32(head + AT_RECEIVER + 1, envelope->receiver);
    put64(head + AT_SEQUENCE + 1, envelope->sequence);
    put64(head + AT_STAMP + 1, envelope->stamp_ns);
    put32(head + AT_CHANNEL + 1, envelope->channel);
    put64(head + AT_CHECK + 2, check_of(envelope, payload_size));
    for (int i = 0; i < 5; i++)
        head[AT_PAYLOAD + 2 + i] = (unsigned char)((payload_size >> (7 * i) & 0x7f) | (i < 4 ? 0x80 : 0));
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

static bool is_canonical(const unsigned char *b, size_t size)
{
    return size >= LAB_ENVELOPE_HEAD && b[AT_RUN] == blank[AT_RUN] && b[AT_EPOCH] == blank[AT_EPOCH] && b[AT_SENDER] == blank[AT_SENDER] &&
           b[AT_RECEIVER] == blank[AT_RECEIVER] && b[AT_SEQUENCE] == blank[AT_SEQUENCE] && b[AT_STAMP] == blank[AT_STAMP] &&
           b[AT_CHANNEL] == blank[AT_CHANNEL] && b[AT_CHECK] == blank[AT_CHECK] && b[AT_CHECK + 1] == blank[AT_CHECK + 1] &&
           b[AT_PAYLOAD] == blank[AT_PAYLOAD] && b[AT_PAYLOAD + 1] == blank[AT_PAYLOAD + 1] && b[AT_PAYLOAD + 6] < 0x10;
}

static void read_canonical(const unsigned char *b, struct reading *r)
{
    r->envelope = (struct lab_envelope){
        .run = get64(b + AT_RUN + 1), .epoch = get32(b + AT_EPOCH + 1), .sender = get32(b + AT_SENDER + 1),
        .receiver = get32(b + AT_RECEIVER + 1), .sequence = get64(b + AT_SEQUENCE + 1), .stamp_ns = get64(b + AT_STAMP + 1),
        .channel = get32(b + AT_CHANNEL + 1),
    };
    r->check = get64(b + AT_CHECK + 2);
    for (int i = 0; i < 5; i++)
        r->payload_size |= (size_t)(b[AT_PAYLOAD + 2 + i] & 0x7f) << (7 * i);
    r->payload = b + LAB_ENVELOPE_HEAD;
}

static int read_varint(const unsigned char **at, const unsigned char *end, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && *at < end; shift += 7) {
        unsigned char byte = *(*at)++;
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret_value = value;
            return 0;
        }
    }
    return damaged("a damaged number");
}

static void take_fixed(struct reading *r, uint64_t field, bool wide, const unsigned char *at)
{
    struct lab_envelope *e = &r->envelope;
    uint64_t value = wide ? get64(at) : get32(at);
    switch (field << 1 | wide) {
    case 1 << 1 | 1: e->run = value; break;
    case 2 << 1: e->epoch = (uint32_t)value; break;
    case 3 << 1: e->sender = (uint32_t)value; break;
    case 4 << 1: e->receiver = (uint32_t)value; break;
    case 5 << 1 | 1: e->sequence = value; break;
    case 6 << 1 | 1: e->stamp_ns = value; break;
    case 7 << 1: e->channel = (uint32_t)value; break;
    case CHECK_FIELD << 1 | 1: r->check = value; break;
    default: break; /* of a later version */
    }
}

/* Any order and any unknown fields, as protobuf allows; only the payload has to end the message. */
static int read_any(const unsigned char *bytes, size_t size, struct reading *r)
{
    const unsigned char *at = bytes, *end = bytes + size;
    while (at < end) {
        uint64_t tag, length;
        int err = read_varint(&at, end, &tag);
        if (err)
            return err;
        switch (tag & 7) {
        case VARINT:
            err = read_varint(&at, end, &length);
            if (err)
                return err;
            continue;
        case FIXED64: length = 8; break;
        case FIXED32: length = 4; break;
        case BYTES:
            err = read_varint(&at, end, &length);
            if (err)
                return err;
            break;
        default:
            return damaged("an unknown kind of field");
        }
        if (length > (uint64_t)(end - at))
            return damaged("a field longer than the envelope");
        if ((tag & 7) == BYTES && tag >> 3 == PAYLOAD_FIELD) {
            r->payload = at;
            r->payload_size = length;
            return at + length == end ? 0 : damaged("something after its payload");
        }
        if ((tag & 7) != BYTES)
            take_fixed(r, tag >> 3, (tag & 7) == FIXED64, at);
        at += length;
    }
    return damaged("no payload");
}

int lab_envelope_read(const unsigned char *bytes, size_t size, struct lab_envelope *ret_envelope, const unsigned char **ret_payload,
                      size_t *ret_payload_size)
{
    struct reading r = {0};
    if (is_canonical(bytes, size)) {
        read_canonical(bytes, &r);
        if (r.payload_size != size - LAB_ENVELOPE_HEAD)
            return damaged("a payload of another length than it says");
    } else {
        int err = read_any(bytes, size, &r);
        if (err)
            return err;
    }
    if (r.check != check_of(&r.envelope, r.payload_size))
        return damaged("a wrong check value");
    *ret_envelope = r.envelope;
    *ret_payload = r.payload;
    *ret_payload_size = r.payload_size;
    return 0;
}
