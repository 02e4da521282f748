#include "proto/reliable_frame.h"

#include "base/error.h"
#include "proto/wire.h"

#include <assert.h>
#include <errno.h>

enum { AT_TX_EPOCH = 0, AT_OTHER = 9, AT_POSITION = 18, AT_KIND = 27, AT_CHECK = 29, AT_PAYLOAD = 38, AT_LENGTH = 40 };
enum { TAG_TX_EPOCH = LAB_WIRE_TAG1(8, LAB_WIRE_FIXED64), TAG_RX_EPOCH = LAB_WIRE_TAG1(9, LAB_WIRE_FIXED64),
       TAG_POSITION = LAB_WIRE_TAG1(10, LAB_WIRE_FIXED64), TAG_KIND = LAB_WIRE_TAG1(11, LAB_WIRE_VARINT),
       TAG_CHECK = LAB_WIRE_TAG1(12, LAB_WIRE_FIXED64), TAG_STREAM = LAB_WIRE_TAG1(13, LAB_WIRE_FIXED64),
       TAG_PAYLOAD_LOW = LAB_WIRE_TAG2_LOW(17, LAB_WIRE_BYTES), TAG_PAYLOAD_HIGH = LAB_WIRE_TAG2_HIGH(17) };
_Static_assert(AT_CHECK + 9 == LAB_RELIABLE_HEAD && AT_LENGTH + LAB_WIRE_LENGTH == LAB_RELIABLE_HEAD_MAX, "as the header draws it");

/* ASK says of which stream, every other frame to which receiver. */
static uint64_t other_of(const struct lab_reliable_frame *frame)
{
    return frame->kind == LAB_RELIABLE_ASK ? frame->stream : frame->rx_epoch;
}

/* Each is masked by a constant of its own, so that two that changed places show. */
static uint64_t check_of(const struct lab_reliable_frame *frame, uint64_t key, uint64_t size)
{
    uint64_t ends = lab_wire_fold(frame->tx_epoch ^ UINT64_C(0x9e3779b97f4a7c15), other_of(frame) ^ UINT64_C(0xbf58476d1ce4e5b9));
    uint64_t place = lab_wire_fold(frame->position ^ UINT64_C(0x94d049bb133111eb), (size << 3 | frame->kind) ^ UINT64_C(0xd6e8feb86659fd93));
    return lab_wire_fold(ends ^ UINT64_C(0x8ebc6af09c88c6e3), place ^ key ^ UINT64_C(0xa0761d6478bd642f));
}

void lab_reliable_write(const struct lab_reliable_frame *frame, uint64_t key, bool enveloped, size_t size, unsigned char *head)
{
    assert(size <= INT32_MAX);
    head[AT_TX_EPOCH] = TAG_TX_EPOCH;
    lab_wire_put64(head + AT_TX_EPOCH + 1, frame->tx_epoch);
    head[AT_OTHER] = frame->kind == LAB_RELIABLE_ASK ? TAG_STREAM : TAG_RX_EPOCH;
    lab_wire_put64(head + AT_OTHER + 1, other_of(frame));
    head[AT_POSITION] = TAG_POSITION;
    lab_wire_put64(head + AT_POSITION + 1, frame->position);
    head[AT_KIND] = TAG_KIND;
    head[AT_KIND + 1] = (unsigned char)frame->kind;
    head[AT_CHECK] = TAG_CHECK;
    lab_wire_put64(head + AT_CHECK + 1, check_of(frame, key, size));
    if (enveloped || !size)
        return;
    head[AT_PAYLOAD] = TAG_PAYLOAD_LOW;
    head[AT_PAYLOAD + 1] = TAG_PAYLOAD_HIGH;
    lab_wire_put_length(head + AT_LENGTH, size);
}

static bool has_tags(const unsigned char *b)
{
    uint8_t other = b[AT_KIND + 1] == LAB_RELIABLE_ASK ? TAG_STREAM : TAG_RX_EPOCH;
    return b[AT_TX_EPOCH] == TAG_TX_EPOCH && b[AT_OTHER] == other && b[AT_POSITION] == TAG_POSITION && b[AT_KIND] == TAG_KIND &&
           b[AT_CHECK] == TAG_CHECK && b[AT_KIND + 1] >= LAB_RELIABLE_ASK && b[AT_KIND + 1] <= LAB_RELIABLE_ACK;
}

/* Tag and length of a payload that ends the frame, written as we write them. */
static bool has_payload(const unsigned char *b, size_t size)
{
    unsigned char expected[LAB_WIRE_LENGTH];
    lab_wire_put_length(expected, size);
    return b[AT_PAYLOAD] == TAG_PAYLOAD_LOW && b[AT_PAYLOAD + 1] == TAG_PAYLOAD_HIGH && memcmp(b + AT_LENGTH, expected, sizeof expected) == 0;
}

int lab_reliable_read(const unsigned char *bytes, size_t bytes_size, uint64_t key, bool enveloped, struct lab_reliable_frame *ret_frame,
                      const unsigned char **ret_message, size_t *ret_size)
{
    size_t head = bytes_size == LAB_RELIABLE_HEAD ? LAB_RELIABLE_HEAD : lab_reliable_head(enveloped), size = bytes_size - head;
    if (bytes_size < head || size > INT32_MAX || !has_tags(bytes))
        return lab_refuse(EBADMSG, "%zu bytes that are no frame of reliable delivery", bytes_size);
    struct lab_reliable_frame frame = {.kind = bytes[AT_KIND + 1], .tx_epoch = lab_wire_get64(bytes + AT_TX_EPOCH + 1),
                                       .position = lab_wire_get64(bytes + AT_POSITION + 1)};
    *(frame.kind == LAB_RELIABLE_ASK ? &frame.stream : &frame.rx_epoch) = lab_wire_get64(bytes + AT_OTHER + 1);
    if (size && frame.kind != LAB_RELIABLE_DATA)
        return lab_refuse(EBADMSG, "a frame of reliable delivery of kind %d with %zu bytes behind it", (int)frame.kind, size);
    if (size && !enveloped && !has_payload(bytes, size))
        return lab_refuse(EBADMSG, "a frame of reliable delivery with a payload of another length than it says");
    if (lab_wire_get64(bytes + AT_CHECK + 1) != check_of(&frame, key, size))
        return lab_refuse(EBADMSG, "a frame of reliable delivery with a wrong check value, or for another channel");
    *ret_frame = frame;
    *ret_message = bytes + head;
    *ret_size = size;
    return 0;
}
