/* The hand-written batch against the generated one, and against damage. */
#include "proto/batch.h"
#include "proto/data.pb-c.h"
#include "proto/envelope.h"

#include "tests/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t write_batch(unsigned char **ret_frame, uint32_t length, uint32_t count)
{
    size_t bytes = lab_batch_bytes(length, count);
    unsigned char *frame = malloc(bytes), *message = malloc(length + 1), *to = frame;
    assert_true(frame && message);
    for (uint32_t i = 0; i < count; i++) {
        memset(message, (int)i, length);
        to = lab_batch_append(to, message, length);
    }
    assert_ptr_equal(to, frame + bytes);
    free(message);
    *ret_frame = frame;
    return bytes;
}

static void what_is_appended_comes_again(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {0, 1, 8, 127, 128, 16383, 16384, 1 << 21};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        unsigned char *frame;
        size_t bytes = write_batch(&frame, lengths[i], 3);
        const unsigned char *at = frame, *message;
        uint32_t length, count = 0;
        for (; at < frame + bytes; count++) {
            lab_assert_ok(lab_batch_next(&at, frame + bytes, &message, &length));
            assert_int_equal(length, lengths[i]);
            assert_true(length == 0 || (message[0] == count && message[length - 1] == count));
        }
        assert_int_equal(count, 3);
        free(frame);
    }
}

static void a_batch_of_envelopes_is_what_protobuf_reads(void **state)
{
    (void)state;
    enum { PAYLOAD = 200, COUNT = 5 };
    unsigned char message[LAB_ENVELOPE_HEAD + PAYLOAD] = {0}, frame[2048], *to = frame;
    for (uint32_t i = 0; i < COUNT; i++) {
        struct lab_envelope head = {.run = 3, .sequence = i, .channel = 9};
        lab_envelope_write(&head, PAYLOAD, message);
        to = lab_batch_append(to, message, sizeof message);
    }
    assert_int_equal(to - frame, lab_batch_bytes(sizeof message, COUNT));
    Lab__Batch *batch = lab__batch__unpack(NULL, (size_t)(to - frame), frame);
    assert_non_null(batch);
    assert_int_equal(batch->n_message, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(batch->message[i]->sequence, i);
        assert_int_equal(batch->message[i]->channel, 9);
        assert_int_equal(batch->message[i]->payload.len, PAYLOAD);
    }
    lab__batch__free_unpacked(batch, NULL);
}

static void a_batch_cut_anywhere_ends_with_an_error_or_between_messages(void **state)
{
    (void)state;
    enum { LENGTH = 200, COUNT = 4 };
    unsigned char *frame;
    size_t bytes = write_batch(&frame, LENGTH, COUNT), one = bytes / COUNT;
    for (size_t cut = 0; cut < bytes; cut++) {
        unsigned char *copy = malloc(cut + 1);
        assert_non_null(copy);
        memcpy(copy, frame, cut);
        const unsigned char *at = copy, *message;
        uint32_t length;
        int err = 0;
        while (at < copy + cut && !err)
            err = lab_batch_next(&at, copy + cut, &message, &length);
        assert_int_equal(err, cut % one ? -EBADMSG : 0);
        assert_ptr_equal(at, copy + cut / one * one);
        free(copy);
    }
    free(frame);
}

static void what_is_no_message_is_refused(void **state)
{
    (void)state;
    static const unsigned char bad[][12] = {
        {0x12, 0x01, 0x00},                                     /* another field */
        {0x08, 0x01},                                           /* a number */
        {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, /* 2^64 - 1 bytes */
        {0x0b},                                                 /* a group */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const unsigned char *at = bad[i], *message = NULL;
        uint32_t length = 77;
        lab_assert_fails(lab_batch_next(&at, bad[i] + sizeof bad[i], &message, &length), EBADMSG);
        assert_ptr_equal(at, bad[i]);
        assert_int_equal(length, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_appended_comes_again),
        cmocka_unit_test(a_batch_of_envelopes_is_what_protobuf_reads),
        cmocka_unit_test(a_batch_cut_anywhere_ends_with_an_error_or_between_messages),
        cmocka_unit_test(what_is_no_message_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
