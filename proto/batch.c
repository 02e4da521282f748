#include "proto/batch.h"

#include "base/error.h"
#include "proto/wire.h"

#include <string.h>

enum { MESSAGE_FIELD = 1 };
_Static_assert(LAB_BATCH_TAG == (MESSAGE_FIELD << 3 | LAB_WIRE_BYTES), "the tag of proto/data.proto");

static size_t varint_bytes(uint32_t value)
{
    size_t bytes = 1;
    while (value >>= 7)
        bytes++;
    return bytes;
}

size_t lab_batch_bytes(uint32_t length, uint32_t count)
{
    return count * (1 + varint_bytes(length) + (size_t)length);
}

unsigned char *lab_batch_append(unsigned char *to, const void *message, uint32_t length)
{
    *to++ = LAB_BATCH_TAG;
    uint32_t left = length;
    for (; left > 0x7f; left >>= 7)
        *to++ = (unsigned char)(left | 0x80);
    *to++ = (unsigned char)left;
    memcpy(to, message, length);
    return to + length;
}

int lab_batch_next_long(const unsigned char **at, const unsigned char *end, const unsigned char **ret_message, uint32_t *ret_length)
{
    const unsigned char *value = *at;
    uint32_t number;
    unsigned kind;
    uint64_t length;
    const char *why;
    if (lab_wire_field(&value, end, &number, &kind, &length, &why))
        return lab_refuse(EBADMSG, "a batch of messages has %s", why);
    if (number != MESSAGE_FIELD || kind != LAB_WIRE_BYTES || length > INT32_MAX)
        return lab_refuse(EBADMSG, "a batch of messages has a field %u of kind %u and %llu bytes, which is no message", number, kind,
                          (unsigned long long)length);
    *ret_message = value;
    *ret_length = (uint32_t)length;
    *at = value + length;
    return 0;
}
