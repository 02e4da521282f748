/* Any bytes as an envelope, as a batch, and as a frame of reliable delivery: refused, or within what came and read alike by protobuf-c; and
 * what was read can be written and read again. */
#include "proto/batch.h"
#include "proto/codec.h"
#include "proto/data.pb-c.h"
#include "proto/envelope.h"
#include "proto/reliable_frame.h"

#include "tests/fuzz/fuzz.h"

#include <string.h>

static void read_envelope(const uint8_t *bytes, size_t size)
{
    struct lab_envelope envelope, again;
    const unsigned char *payload, *payload_again;
    size_t length, length_again;
    if (lab_envelope_read(bytes, size, &envelope, &payload, &length))
        return;
    MUST(payload >= bytes && length <= size && payload + length == bytes + size);

    /* A string in a field of a later version may be what protobuf-c has no memory or no depth for: that is its right. */
    Lab__Envelope *other;
    if (lab_codec_unpack(&lab__envelope__descriptor, bytes, size, &other) == 0) {
        MUST(other->run == envelope.run && other->epoch == envelope.epoch && other->sender == envelope.sender);
        MUST(other->receiver == envelope.receiver && other->sequence == envelope.sequence && other->stamp_ns == envelope.stamp_ns);
        MUST(other->channel == envelope.channel && other->payload.len == length && memcmp(other->payload.data, payload, length) == 0);
        lab_codec_free(other);
    }

    unsigned char *written = malloc(LAB_ENVELOPE_HEAD + length);
    MUST(written);
    lab_envelope_write(&envelope, length, written);
    memcpy(written + LAB_ENVELOPE_HEAD, payload, length);
    MUST(lab_envelope_read(written, LAB_ENVELOPE_HEAD + length, &again, &payload_again, &length_again) == 0);
    MUST(again.run == envelope.run && again.sequence == envelope.sequence && length_again == length);
    free(written);
}

static void read_batch(const uint8_t *bytes, size_t size)
{
    const unsigned char *at = bytes, *message;
    uint32_t length;
    while (at < bytes + size && lab_batch_next(&at, bytes + size, &message, &length) == 0) {
        MUST(message >= bytes && message + length == at && at <= bytes + size);
        read_envelope(message, length);
    }
}

static void read_frame(const uint8_t *bytes, size_t size, bool enveloped)
{
    struct lab_reliable_frame frame = {0};
    const unsigned char *message;
    size_t length;
    unsigned char head[LAB_RELIABLE_HEAD_MAX];
    if (lab_reliable_read(bytes, size, 7, enveloped, &frame, &message, &length))
        return;
    MUST(message >= bytes && message + length == bytes + size && size == lab_reliable_bytes(enveloped, length));
    lab_reliable_write(&frame, 7, enveloped, length, head);
    MUST(memcmp(head, bytes, size - length) == 0);
    if (length && enveloped)
        read_envelope(message, length);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    read_envelope(bytes, size);
    read_batch(bytes, size);
    read_frame(bytes, size, false);
    read_frame(bytes, size, true);
    return 0;
}
