/* What an envelope costs, by hand (proto/envelope.h) and by protobuf-c as it comes, in turn in one run: encoding is all it takes until the bytes
 * lie ready to be sent, decoding all it takes until every field and the payload can be used. The payload lies where the message is made; by
 * hand it stays there, protobuf-c copies it both times.
 *
 *     bench-envelope [ROUNDS]
 *
 * One line of JSON for each size of the payload, medians over the rounds, nanoseconds. What is encoded differs from one to the next, and
 * what is decoded is looked at: the compiler cannot take either for done. */
#include "base/clock.h"
#include "bench/pair.h"
#include "proto/data.pb-c.h"
#include "proto/envelope.h"
#include "proto/reliable_frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 51, ROUNDS_MAX = 1001, LARGEST = 1 << 20 };
#define ROUND_NS (300 * LAB_NS_PER_US)

enum what { WRITE, READ, PACK, UNPACK, HEAD, SEEN, KINDS };
static const char *const names[KINDS] = {"encode_ns", "decode_ns", "protobuf_c_encode_ns", "protobuf_c_decode_ns", "reliable_encode_ns", "reliable_decode_ns"};

struct scene {
    unsigned char *room, *message; /* a message with headroom */
    unsigned char *packed, *frame; /* where protobuf-c puts one, and one of reliable delivery */
    size_t size, packed_size;
    Lab__Envelope other;
    uint64_t sum;
};

static void write_one(struct scene *scene, uint64_t sequence)
{
    struct lab_envelope envelope = {.run = 1, .epoch = 2, .sender = 3, .receiver = 4, .sequence = sequence, .stamp_ns = sequence * 7, .channel = 5};
    lab_envelope_write(&envelope, scene->size, scene->message - LAB_ENVELOPE_HEAD);
}

static void read_one(struct scene *scene)
{
    struct lab_envelope envelope;
    const unsigned char *payload;
    size_t size;
    if (lab_envelope_read(scene->message - LAB_ENVELOPE_HEAD, LAB_ENVELOPE_HEAD + scene->size, &envelope, &payload, &size))
        abort();
    scene->sum += envelope.sequence + envelope.stamp_ns + size + (uintptr_t)payload;
}

static void pack_one(struct scene *scene, uint64_t sequence)
{
    scene->other.sequence = sequence;
    scene->other.stamp_ns = sequence * 7;
    scene->packed_size = lab__envelope__pack(&scene->other, scene->packed);
}

static void unpack_one(struct scene *scene)
{
    Lab__Envelope *envelope = lab__envelope__unpack(NULL, scene->packed_size, scene->packed);
    if (!envelope)
        abort();
    scene->sum += envelope->sequence + envelope->stamp_ns + envelope->payload.len;
    lab__envelope__free_unpacked(envelope, NULL);
}

static void head_one(struct scene *scene, uint64_t sequence)
{
    struct lab_reliable_frame frame = {.kind = LAB_RELIABLE_DATA, .tx_epoch = 1, .rx_epoch = 2, .position = sequence};
    lab_reliable_write(&frame, 3, false, scene->size + 1, scene->frame);
}

static void see_one(struct scene *scene)
{
    struct lab_reliable_frame frame;
    const unsigned char *payload;
    size_t size;
    if (lab_reliable_read(scene->frame, lab_reliable_bytes(false, scene->size + 1), 3, false, &frame, &payload, &size))
        abort();
    scene->sum += frame.position + size;
}

static void do_one(struct scene *scene, enum what what, uint64_t sequence)
{
    switch (what) {
    case WRITE: write_one(scene, sequence); break;
    case READ: read_one(scene); break;
    case PACK: pack_one(scene, sequence); break;
    case UNPACK: unpack_one(scene); break;
    case HEAD: head_one(scene, sequence); break;
    case SEEN: see_one(scene); break;
    case KINDS: break;
    }
}

/* For a round, in batches of which the clock costs nothing. */
static double time_of(struct scene *scene, enum what what)
{
    uint64_t begin = lab_now_ns(), end = begin, count = 0;
    uint32_t batch = (what == PACK || what == UNPACK) && scene->size > 65536 ? 1 : 64;
    while (end - begin < ROUND_NS) {
        for (uint32_t i = 0; i < batch; i++)
            do_one(scene, what, count + i);
        count += batch;
        end = lab_now_ns();
    }
    return (double)(end - begin) / (double)count;
}

static void show(struct scene *scene, uint32_t rounds, double *values[KINDS])
{
    for (uint32_t r = 0; r < rounds; r++)
        for (enum what what = 0; what < KINDS; what++)
            values[what][r] = time_of(scene, what);
    printf("{\"payload_bytes\": %zu", scene->size);
    double median[KINDS];
    for (enum what what = 0; what < KINDS; what++) {
        median[what] = lab_pair_median(values[what], rounds);
        printf(", \"%s\": %.1f", names[what], median[what]);
    }
    printf(", \"both_ns\": %.1f, \"protobuf_c_both_ns\": %.1f}\n", median[WRITE] + median[READ], median[PACK] + median[UNPACK]);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {0, 64, 1024, 65536, LARGEST};
    uint32_t rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : ROUNDS;
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    double *values[KINDS];
    struct scene scene = {.room = aligned_alloc(64, LAB_ENVELOPE_HEAD + LARGEST + 64), .packed = malloc(2 * LAB_ENVELOPE_HEAD + LARGEST),
                          .frame = calloc(1, LAB_RELIABLE_HEAD_MAX + LARGEST + 1)};
    for (int what = 0; what < KINDS; what++)
        values[what] = calloc(rounds, sizeof *values[what]);
    if (!scene.room || !scene.packed || !scene.frame || !values[KINDS - 1])
        return 1;
    memset(scene.room, 7, LAB_ENVELOPE_HEAD + LARGEST + 64);
    memset(scene.packed, 0, 2 * LAB_ENVELOPE_HEAD + LARGEST);
    scene.message = scene.room + LAB_ENVELOPE_HEAD;
    scene.other = (Lab__Envelope)LAB__ENVELOPE__INIT;
    scene.other.run = 1;
    scene.other.epoch = 2;
    scene.other.sender = 3;
    scene.other.receiver = 4;
    scene.other.channel = 5;
    scene.other.check = UINT64_C(0x0123456789abcdef);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        scene.size = sizes[i];
        scene.other.payload = (ProtobufCBinaryData){.len = scene.size, .data = scene.message};
        /* Each decodes what was encoded. */
        write_one(&scene, 1);
        pack_one(&scene, 1);
        head_one(&scene, 1);
        show(&scene, rounds, values);
    }
    return scene.sum ? 0 : 1;
}
