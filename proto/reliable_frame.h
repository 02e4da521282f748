/* struct lab_reliable_frame <-> the fields 8 to 13 of message lab.Envelope (proto/data.proto), which come before everything else of it.
 * protobuf reads fields in any order, and joins messages by laying one behind the other: in front of a message that is an envelope itself
 * they become fields of that one envelope, and in front of any other they are followed by tag and length of `payload`. Either way what is
 * on the wire is one lab.Envelope to every protobuf implementation; neither is the message copied here, nor is it looked at.
 *
 *      0 tx_epoch(8)  9 rx_epoch(9) or stream(13)  18 position(10)  27 kind(11)  29 head_check(12)  38 ... the envelope's own fields
 *                                                                                                   38 payload(17)  40 length  45 ...
 *
 *     unsigned char *frame = buffer;                             room for lab_reliable_head(enveloped) + size
 *     lab_reliable_write(&what, key, enveloped, size, frame);    the message lies behind the head
 *     ...
 *     err = lab_reliable_read(frame, frame_size, key, enveloped, &what, &message, &size);
 *
 * A frame with nothing behind it has size 0: every frame but DATA, and of DATA the one that ends a stream. The check value is over all
 * fields, the size of the message and a key that both ends share, such as the number of their channel: a frame for another is refused.
 * It tells damage and mistakes; it does not tell friend from foe. Others may read these frames, but only ours are understood: the layout
 * is fixed. Neither function allocates or blocks; any thread may call them. */
#ifndef LAB_PROTO_RELIABLE_FRAME_H
#define LAB_PROTO_RELIABLE_FRAME_H

#include "proto/reliable.h"

#include <stddef.h>

enum { LAB_RELIABLE_HEAD = 38, LAB_RELIABLE_HEAD_MAX = LAB_RELIABLE_HEAD + 7 };

/* Bytes before a message. */
static inline size_t lab_reliable_head(bool enveloped)
{
    return enveloped ? LAB_RELIABLE_HEAD : LAB_RELIABLE_HEAD_MAX;
}

/* Bytes of a frame with a message of that size. */
static inline size_t lab_reliable_bytes(bool enveloped, size_t size)
{
    return size ? lab_reliable_head(enveloped) + size : LAB_RELIABLE_HEAD;
}

/* The message of `size` bytes (below 2 GiB) follows. */
void lab_reliable_write(const struct lab_reliable_frame *frame, uint64_t key, bool enveloped, size_t size, unsigned char *head);

/* -EBADMSG: not such a frame, or of another key; outputs are then untouched. The message lies inside `bytes`. */
int lab_reliable_read(const unsigned char *bytes, size_t bytes_size, uint64_t key, bool enveloped, struct lab_reliable_frame *ret_frame,
                      const unsigned char **ret_message, size_t *ret_size);

#endif
