/* The wire format's own words, for the files that read or write it by hand: proto/codec.c, proto/envelope.c, proto/reliable_frame.c.
 * Source: "Encoding", Protocol Buffers documentation. */
#ifndef LAB_PROTO_WIRE_H
#define LAB_PROTO_WIRE_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { LAB_WIRE_VARINT = 0, LAB_WIRE_FIXED64 = 1, LAB_WIRE_BYTES = 2, LAB_WIRE_FIXED32 = 5 };

/* Tags: one byte up to field 15, two above. */
#define LAB_WIRE_TAG1(number, kind) ((number) << 3 | (kind))
#define LAB_WIRE_TAG2_LOW(number, kind) ((((number) << 3) & 0x7f) | 0x80 | (kind))
#define LAB_WIRE_TAG2_HIGH(number) ((number) >> 4)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fixed32 and fixed64 lie in memory as they travel");

static inline void lab_wire_put32(unsigned char *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline void lab_wire_put64(unsigned char *at, uint64_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline uint32_t lab_wire_get32(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t lab_wire_get64(const unsigned char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* A length below 2 GiB in five bytes always, which every protobuf reader accepts: the first four say that more follows. */
enum { LAB_WIRE_LENGTH = 5 };

static inline void lab_wire_put_length(unsigned char *at, size_t length)
{
    for (int i = 0; i < LAB_WIRE_LENGTH; i++)
        at[i] = (unsigned char)((length >> (7 * i) & 0x7f) | (i < LAB_WIRE_LENGTH - 1 ? 0x80 : 0));
}

/* Five times seven bits, whatever the eighth ones say. */
static inline size_t lab_wire_get_length(const unsigned char *at)
{
    uint32_t low = lab_wire_get32(at);
    return (low & 0x7f) | (low >> 1 & 0x7f << 7) | (low >> 2 & 0x7f << 14) | (low >> 3 & 0x7f << 21) | (size_t)at[4] << 28;
}

/* The product of two words folded into one: every bit of either reaches every bit of it (wyhash, Wang Yi). For check values. */
static inline uint64_t lab_wire_fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Reads one varint and moves `at` past it; both untouched on failure. -EBADMSG: cut off by `end`, or more than 64 bits. */
static inline int lab_wire_varint(const unsigned char **at, const unsigned char *end, uint64_t *ret_value)
{
    uint64_t value = 0;
    const unsigned char *byte = *at;
    for (unsigned shift = 0; shift < 64 && byte < end; shift += 7, byte++) {
        if (shift == 63 && *byte > 1)
            return -EBADMSG;
        value |= (uint64_t)(*byte & 0x7f) << shift;
        if (!(*byte & 0x80)) {
            *at = byte + 1;
            *ret_value = value;
            return 0;
        }
    }
    return -EBADMSG;
}

/* Reads the head of one field and moves `at` to its value, of which `ret_size` bytes lie before `end`; a varint is stepped over
 * whole, and leaves 0. -EBADMSG: damaged, a group, or longer than what is left, and `ret_why` says which; the other outputs are
 * then untouched, and `at` lies within the field. */
static inline int lab_wire_field(const unsigned char **at, const unsigned char *end, uint32_t *ret_number, unsigned *ret_kind,
                                 uint64_t *ret_size, const char **ret_why)
{
    uint64_t tag, size = 0;
    *ret_why = "a damaged tag";
    if (lab_wire_varint(at, end, &tag) || tag >> 3 == 0 || tag > UINT32_MAX)
        return -EBADMSG;
    switch (tag & 7) {
    case LAB_WIRE_VARINT:
        *ret_why = "a damaged number";
        if (lab_wire_varint(at, end, &size))
            return -EBADMSG;
        size = 0;
        break;
    case LAB_WIRE_FIXED64: size = 8; break;
    case LAB_WIRE_FIXED32: size = 4; break;
    case LAB_WIRE_BYTES:
        *ret_why = "a damaged length";
        if (lab_wire_varint(at, end, &size))
            return -EBADMSG;
        break;
    default:
        *ret_why = "an unknown kind of field";
        return -EBADMSG;
    }
    *ret_why = "a field longer than what holds it";
    if (size > (uint64_t)(end - *at))
        return -EBADMSG;
    *ret_number = (uint32_t)(tag >> 3);
    *ret_kind = (unsigned)(tag & 7);
    *ret_size = size;
    return 0;
}

#endif
