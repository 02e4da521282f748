/* Several messages in one frame: the wire form of message lab.Batch (proto/data.proto), so that a frame of envelopes is one that any protobuf
 * implementation reads. Neither function allocates or blocks; any thread may call them.
 *
 *     unsigned char *to = frame;                        room for lab_batch_bytes(length, count)
 *     for each message
 *         to = lab_batch_append(to, message, length);
 *
 *     const unsigned char *at = frame, *message;
 *     while (at < end && (err = lab_batch_next(&at, end, &message, &length)) == 0) ... */
#ifndef LAB_PROTO_BATCH_H
#define LAB_PROTO_BATCH_H

#include <stddef.h>
#include <stdint.h>

/* `count` messages of `length` bytes each. */
size_t lab_batch_bytes(uint32_t length, uint32_t count);

/* Copies one message, below 2 GiB; where the next one goes. */
unsigned char *lab_batch_append(unsigned char *to, const void *message, uint32_t length);

/* Steps over one message, which lies inside the frame. -EBADMSG, recorded: the frame is damaged, and the outputs are untouched. */
static inline int lab_batch_next(const unsigned char **at, const unsigned char *end, const unsigned char **ret_message, uint32_t *ret_length);

/* ---- in line, for messages so short that a call would be felt ---- */

enum { LAB_BATCH_TAG = 0x0a /* field 1, bytes */, LAB_BATCH_SHORT = 0x80 /* what is shorter has a length of one byte */ };

int lab_batch_next_long(const unsigned char **at, const unsigned char *end, const unsigned char **ret_message, uint32_t *ret_length);

static inline int lab_batch_next(const unsigned char **at, const unsigned char *end, const unsigned char **ret_message, uint32_t *ret_length)
{
    const unsigned char *head = *at;
    size_t left = (size_t)(end - head);
    if (left < 2 || head[0] != LAB_BATCH_TAG || head[1] >= LAB_BATCH_SHORT || head[1] > left - 2)
        return lab_batch_next_long(at, end, ret_message, ret_length);
    *ret_message = head + 2;
    *ret_length = head[1];
    *at = head + 2 + head[1];
    return 0;
}

#endif
