/* The guarded way in and out of protobuf: every byte that arrives from another process goes through here.
 *
 * protobuf-c trusts its input: a deeply nested message overflows the stack, a small one can ask for much memory. Unpacking
 * here therefore checks the size first, then walks the wire format once without recursion (nesting at most LAB_CODEC_DEPTH,
 * at most LAB_CODEC_FIELDS fields, every length inside its parent, group tags refused, every string UTF-8), then unpacks with
 * an allocator that refuses beyond a budget: 64 KiB, ten bytes for each byte and 256 for each field, and never more than
 * LAB_CODEC_MEMORY_MAX. Fields of a later version are kept unread. Allocation may fail at any point, safely. Thread-safe.
 *
 *     Lab__Frame *frame;
 *     err = lab_codec_unpack(&lab__frame__descriptor, bytes, size, &frame);
 *     ...
 *     lab_codec_free(frame);
 */
#ifndef LAB_PROTO_CODEC_H
#define LAB_PROTO_CODEC_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LAB_CODEC_DEPTH = 8,
    LAB_CODEC_FIELDS = 1 << 20,
    LAB_CODEC_BYTES_MAX = 64 << 20, /* of one message */
    LAB_CODEC_MEMORY_MAX = 4 * LAB_CODEC_BYTES_MAX, /* that unpacking one may take */
};

/* -EBADMSG with the offset and the reason (or: beyond the budget); -EMSGSIZE; -ENOMEM. `ret_message` (a generated struct *) is freed by
 * lab_codec_free, and untouched on failure. */
int lab_codec_unpack(const ProtobufCMessageDescriptor *type, const void *bytes, size_t size, void *ret_message);
void lab_codec_free(void *message); /* NULL is harmless; takes any generated message that lab_codec_unpack gave */

/* Checks, then packs into memory of its own (free()). -EINVAL for a message protobuf-c could not write safely (a NULL in a
 * repeated field, a count without elements, invalid UTF-8 in a string), -EMSGSIZE, -ENOMEM; outputs are then untouched. `message` is a generated struct. */
int lab_codec_pack(const void *message, void **ret_bytes, size_t *ret_size);

/* As framed on a stream socket between node and worker: 4 bytes little-endian length, then the message. Both block until the
 * deadline (0: try once). -EPIPE: the other side has closed, and all it sent has been received; -ETIMEDOUT; -EBADMSG: it closed
 * within a message, or as lab_codec_unpack; -EMSGSIZE, -ENOMEM. After -ETIMEDOUT part of a message may have passed: the socket
 * is of no further use. */
int lab_codec_send(int fd, const void *message, uint64_t deadline_ns);
int lab_codec_receive(int fd, const ProtobufCMessageDescriptor *type, uint64_t deadline_ns, void *ret_message);

/* "1.4.1": the protobuf library at run time. Static storage. */
const char *lab_codec_library(void);

#endif
