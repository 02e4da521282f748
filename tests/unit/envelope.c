/* The hand-written envelope against the generated one: what either writes the other reads. */
#include "proto/data.pb-c.h"
#include "proto/envelope.h"

#include "tests/check.h"

#include <errno.h>
#include <string.h>

enum { PAYLOAD = 100, ROOM = 2 * LAB_ENVELOPE_HEAD + PAYLOAD };

static const struct lab_envelope example = {
    .run = UINT64_C(0xfedcba9876543210), .epoch = 7, .sender = 3, .receiver = UINT32_MAX, .sequence = UINT64_MAX, .stamp_ns = 1, .channel = 12,
};

static size_t write_example(unsigned char wire[ROOM], size_t payload_size)
{
    lab_envelope_write(&example, payload_size, wire);
    for (size_t i = 0; i < payload_size; i++)
        wire[LAB_ENVELOPE_HEAD + i] = (unsigned char)(i * 7);
    return LAB_ENVELOPE_HEAD + payload_size;
}

static void assert_example(const struct lab_envelope *read)
{
    assert_true(read->run == example.run && read->sequence == example.sequence && read->stamp_ns == example.stamp_ns);
    assert_int_equal(read->epoch, example.epoch);
    assert_int_equal(read->sender, example.sender);
    assert_int_equal(read->receiver, example.receiver);
    assert_int_equal(read->channel, example.channel);
}

static void assert_reads_back(const unsigned char *wire, size_t size, size_t payload_size)
{
    struct lab_envelope read;
    const unsigned char *payload;
    size_t length;
    lab_assert_ok(lab_envelope_read(wire, size, &read, &payload, &length));
    assert_example(&read);
    assert_int_equal(length, payload_size);
    assert_ptr_equal(payload, wire + size - payload_size);
}

static void assert_refused(const unsigned char *wire, size_t size)
{
    struct lab_envelope read = {.channel = 99};
    const unsigned char *payload = NULL;
    size_t length = 99;
    lab_assert_fails(lab_envelope_read(wire, size, &read, &payload, &length), EBADMSG);
    assert_int_equal(read.channel, 99);
    assert_null(payload);
    assert_int_equal(length, 99);
}

static void what_is_written_is_read_back_where_it_lies(void **state)
{
    (void)state;
    unsigned char wire[ROOM];
    for (size_t payload = 0; payload <= PAYLOAD; payload++)
        assert_reads_back(wire, write_example(wire, payload), payload);
}

static void every_length_below_two_gibibytes_is_written_as_it_is(void **state)
{
    (void)state;
    unsigned char head[LAB_ENVELOPE_HEAD];
    for (unsigned bit = 0; bit < 31; bit++) {
        size_t length = (UINT32_C(1) << bit) + (bit > 3 ? 5 : 0), decoded = 0;
        lab_envelope_write(&example, length, head);
        for (int i = 0; i < 5; i++)
            decoded |= (size_t)(head[59 + i] & 0x7f) << 7 * i;
        assert_int_equal(decoded, length);
    }
}

static void protobuf_reads_what_is_written_by_hand(void **state)
{
    (void)state;
    unsigned char wire[ROOM];
    Lab__Envelope *read = lab__envelope__unpack(NULL, write_example(wire, PAYLOAD), wire);
    assert_non_null(read);
    assert_true(read->run == example.run && read->sequence == example.sequence && read->stamp_ns == example.stamp_ns);
    assert_int_equal(read->epoch, example.epoch);
    assert_int_equal(read->sender, example.sender);
    assert_int_equal(read->receiver, example.receiver);
    assert_int_equal(read->channel, example.channel);
    assert_int_equal(read->payload.len, PAYLOAD);
    assert_memory_equal(read->payload.data, wire + LAB_ENVELOPE_HEAD, PAYLOAD);
    assert_int_equal(read->base.n_unknown_fields, 0);
    lab__envelope__free_unpacked(read, NULL);
}

static void what_protobuf_writes_is_read_by_hand(void **state)
{
    (void)state;
    unsigned char wire[ROOM], packed[ROOM];
    Lab__Envelope *message = lab__envelope__unpack(NULL, write_example(wire, PAYLOAD), wire);
    size_t size = lab__envelope__pack(message, packed);
    assert_true(size < LAB_ENVELOPE_HEAD + PAYLOAD); /* its length takes one byte: not our head */
    assert_reads_back(packed, size, PAYLOAD);
    lab__envelope__free_unpacked(message, NULL);
}

/* Where the fields of the head begin, and where it ends. */
static const size_t begins[] = {0, 9, 14, 19, 24, 33, 42, 47, 57};
enum { FIELDS = sizeof begins / sizeof *begins - 1 };

static void the_order_of_the_fields_does_not_matter(void **state)
{
    (void)state;
    unsigned char wire[ROOM], turned[ROOM];
    size_t size = write_example(wire, PAYLOAD), at = 0;
    for (size_t f = FIELDS; f-- > 0; at += begins[f + 1] - begins[f])
        memcpy(turned + at, wire + begins[f], begins[f + 1] - begins[f]);
    memcpy(turned + at, wire + at, size - at);
    assert_reads_back(turned, size, PAYLOAD);
}

static void fields_of_a_later_version_are_skipped(void **state)
{
    (void)state;
    static const unsigned char later[] = {
        0x40, 0xff, 0x01,                         /* 8: a varint */
        0x49, 1, 2, 3, 4, 5, 6, 7, 8,             /* 9: a fixed64 */
        0x55, 1, 2, 3, 4,                         /* 10: a fixed32 */
        0x5a, 0x03, 'a', 'b', 'c',                /* 11: bytes */
        0x08, 0x05,                               /* 1, but a varint: not the run */
    };
    unsigned char wire[ROOM], longer[ROOM + sizeof later];
    size_t size = write_example(wire, PAYLOAD);
    memcpy(longer, later, sizeof later);
    memcpy(longer + sizeof later, wire, size);
    assert_reads_back(longer, sizeof later + size, PAYLOAD);
}

static void an_envelope_cut_off_anywhere_is_refused(void **state)
{
    (void)state;
    unsigned char wire[ROOM];
    size_t size = write_example(wire, PAYLOAD);
    for (size_t cut = 0; cut < size; cut++) {
        unsigned char *exact = malloc(cut + 1); /* so that a sanitizer sees a read beyond it */
        memcpy(exact, wire, cut);
        exact = realloc(exact, cut ? cut : 1);
        assert_refused(exact, cut);
        free(exact);
    }
    assert_refused(wire, size + 1);
}

static void no_flipped_bit_of_the_head_goes_unseen(void **state)
{
    (void)state;
    unsigned char wire[ROOM];
    size_t size = write_example(wire, PAYLOAD);
    for (size_t bit = 0; bit < LAB_ENVELOPE_HEAD * 8; bit++) {
        wire[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_refused(wire, size);
        wire[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    assert_reads_back(wire, size, PAYLOAD);
}

static void no_two_flipped_bits_of_the_head_cancel_out(void **state)
{
    (void)state;
    struct lab_envelope read;
    unsigned char wire[ROOM];
    const unsigned char *payload;
    size_t size = write_example(wire, PAYLOAD), length;
    for (size_t a = 0; a < LAB_ENVELOPE_HEAD * 8; a++)
        for (size_t b = a + 1; b < LAB_ENVELOPE_HEAD * 8; b++) {
            wire[a / 8] ^= (unsigned char)(1 << a % 8);
            wire[b / 8] ^= (unsigned char)(1 << b % 8);
            if (lab_envelope_read(wire, size, &read, &payload, &length) == 0)
                fail_msg("bits %zu and %zu of the head", a, b);
            wire[a / 8] ^= (unsigned char)(1 << a % 8);
            wire[b / 8] ^= (unsigned char)(1 << b % 8);
        }
}

static void two_fields_that_changed_places_are_seen(void **state)
{
    (void)state;
    static const size_t wide[] = {1, 25, 34}, narrow[] = {10, 15, 20, 43};
    unsigned char wire[ROOM], swapped[ROOM];
    size_t size = write_example(wire, PAYLOAD);
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < i; j++) {
            memcpy(swapped, wire, size);
            memcpy(swapped + narrow[i], wire + narrow[j], 4);
            memcpy(swapped + narrow[j], wire + narrow[i], 4);
            assert_refused(swapped, size);
            if (i == 3)
                continue;
            memcpy(swapped, wire, size);
            memcpy(swapped + wide[i], wire + wide[j], 8);
            memcpy(swapped + wide[j], wire + wide[i], 8);
            assert_refused(swapped, size);
        }
}

static void the_payload_comes_last_or_not_at_all(void **state)
{
    (void)state;
    unsigned char wire[ROOM], turned[ROOM];
    size_t size = write_example(wire, PAYLOAD), tail = size - 57;
    memcpy(turned, wire + 57, tail);
    memcpy(turned + tail, wire, 57);
    assert_refused(turned, size);
    assert_refused(wire, 57); /* complete but for the payload */
}

static void hostile_lengths_are_refused(void **state)
{
    (void)state;
    static const unsigned char huge[] = {0x8a, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    static const unsigned char endless[] = {0x8a, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const unsigned char group[] = {0x0b, 0x0c};
    assert_refused(huge, sizeof huge);
    assert_refused(endless, sizeof endless);
    assert_refused(group, sizeof group);
    assert_refused(huge, 0);
}

/* The canonical layout with one continuation bit missing says another length to every other reader. */
static void a_length_that_others_would_read_differently_is_refused(void **state)
{
    (void)state;
    unsigned char wire[ROOM];
    size_t size = write_example(wire, PAYLOAD);
    for (size_t i = 59; i < 63; i++) {
        wire[i] &= 0x7f;
        assert_refused(wire, size);
        wire[i] |= 0x80;
    }
}

int main(int argc, char **argv)
{
    /* For unit.protoc: one envelope to standard output. */
    if (argc == 2 && strcmp(argv[1], "--write") == 0) {
        unsigned char wire[ROOM];
        size_t size = write_example(wire, 4);
        memcpy(wire + LAB_ENVELOPE_HEAD, "ping", sizeof "ping" - 1);
        return fwrite(wire, 1, size, stdout) == size && fflush(stdout) == 0 ? 0 : 1;
    }
    /* And one from standard input. */
    if (argc == 2 && strcmp(argv[1], "--read") == 0) {
        unsigned char wire[ROOM];
        struct lab_envelope e;
        const unsigned char *payload;
        size_t length, size = fread(wire, 1, sizeof wire, stdin);
        if (lab_envelope_read(wire, size, &e, &payload, &length)) {
            fprintf(stderr, "%s\n", lab_error_last()->text);
            return 1;
        }
        printf("%u %u %u %.*s\n", e.epoch, e.sender, e.channel, (int)length, (const char *)payload);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back_where_it_lies),
        cmocka_unit_test(every_length_below_two_gibibytes_is_written_as_it_is),
        cmocka_unit_test(protobuf_reads_what_is_written_by_hand),
        cmocka_unit_test(what_protobuf_writes_is_read_by_hand),
        cmocka_unit_test(the_order_of_the_fields_does_not_matter),
        cmocka_unit_test(fields_of_a_later_version_are_skipped),
        cmocka_unit_test(an_envelope_cut_off_anywhere_is_refused),
        cmocka_unit_test(no_flipped_bit_of_the_head_goes_unseen),
        cmocka_unit_test(no_two_flipped_bits_of_the_head_cancel_out),
        cmocka_unit_test(two_fields_that_changed_places_are_seen),
        cmocka_unit_test(the_payload_comes_last_or_not_at_all),
        cmocka_unit_test(hostile_lengths_are_refused),
        cmocka_unit_test(a_length_that_others_would_read_differently_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
