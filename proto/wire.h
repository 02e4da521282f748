/* The wire format's own words, for the two files that read it by hand: proto/codec.c and proto/envelope.c.
 * Source: "Encoding", Protocol Buffers documentation. */
#ifndef LAB_PROTO_WIRE_H
#define LAB_PROTO_WIRE_H

#include <errno.h>
#include <stdint.h>

enum { LAB_WIRE_VARINT = 0, LAB_WIRE_FIXED64 = 1, LAB_WIRE_BYTES = 2, LAB_WIRE_FIXED32 = 5 };

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
