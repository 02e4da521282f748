/* struct lab_envelope <-> the wire form of message lab.Envelope (proto/data.proto), payload neither copied nor allocated.
 *
 * The head that precedes the payload has one constant size, LAB_ENVELOPE_HEAD bytes (the length of the payload is written
 * as a five-byte varint, which every protobuf reader accepts), so that a sender writes it into headroom before the payload
 * and sends both as one contiguous message, and a receiver finds the payload 8-byte aligned at a constant offset.
 * lab_envelope_read accepts any field order that a protobuf writer may produce, so long as the payload comes last; unknown
 * fields are skipped, hostile lengths refused. Neither function allocates or blocks; any thread may call them.
 *
 *     unsigned char *message = buffer;                          room for LAB_ENVELOPE_HEAD + payload_size
 *     lab_envelope_write(&envelope, payload_size, message);     the payload lies at message + LAB_ENVELOPE_HEAD
 *     ...
 *     err = lab_envelope_read(message, size, &envelope, &payload, &payload_size);
 *
 * The check value is over every header field and the payload's length, not over the payload: whoever writes the payload puts
 * a check into it. */
#ifndef LAB_PROTO_ENVELOPE_H
#define LAB_PROTO_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

enum { LAB_ENVELOPE_HEAD = 64 };

struct lab_envelope {
    uint64_t run;
    uint32_t epoch;
    uint32_t sender;
    uint32_t receiver;
    uint64_t sequence;
    uint64_t stamp_ns;
    uint32_t channel;
};

/* Writes the head; the payload of `payload_size` bytes (below 2 GiB) follows it directly. Fills in the check value. */
void lab_envelope_write(const struct lab_envelope *envelope, size_t payload_size, unsigned char head[LAB_ENVELOPE_HEAD]);

/* -EBADMSG (truncated, payload not last or missing, wrong check value); outputs are then untouched. The payload lies inside
 * `bytes` and lives as long. */
int lab_envelope_read(const unsigned char *bytes, size_t size, struct lab_envelope *ret_envelope,
                      const unsigned char **ret_payload, size_t *ret_payload_size);

#endif
