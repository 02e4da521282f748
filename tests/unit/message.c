/* Messages: every byte is verified, and what is not a message is not taken for one. */
#include "tests/check.h"

#include "node/lane/message.h"

#include <stdlib.h>
#include <string.h>

static const uint32_t sizes[] = {8, 9, 15, 16, 17, 23, 24, 48, 56, 64, 65, 511, 512, 513, 520, 1000, 4096, 4113, 4120, 10000, 1 << 20};

static unsigned char *room_for(uint32_t size, uint32_t count)
{
    unsigned char *room = calloc(count, size);
    assert_non_null(room);
    return room;
}

static void a_written_message_is_read_back_whole_at_every_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct lab_stencil stencil;
        lab_assert_ok(lab_stencil_init(&stencil, sizes[i], 3, 42));
        unsigned char *at = room_for(sizes[i], 3);
        struct lab_span span = {.at = at, .stride = sizes[i], .length = sizes[i], .count = 3};
        lab_message_fill(&stencil, &span, 7, LAB_TURN);
        for (uint32_t m = 0; m < 3; m++) {
            struct lab_label label;
            assert_true(lab_message_read(at + m * sizes[i], sizes[i], true, &label));
            assert_int_equal(label.sequence, 7 + m);
            assert_int_equal(label.sender, 3);
            assert_int_equal(label.flags, m == 2 ? LAB_TURN : 0);
        }
        uint32_t flags;
        assert_int_equal(lab_message_check(&stencil, &span, 7, &flags), 3);
        assert_int_equal(flags, LAB_TURN);
        free(at);
        lab_stencil_fini(&stencil);
    }
}

static void refreshing_a_buffer_gives_the_same_bytes_as_writing_it_anew(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct lab_stencil stencil;
        lab_assert_ok(lab_stencil_init(&stencil, sizes[i], 1, 9));
        unsigned char *kept = room_for(sizes[i], 1), *anew = room_for(sizes[i], 1);
        struct lab_span span = {.at = kept, .stride = sizes[i], .length = sizes[i], .count = 1};
        lab_message_fill(&stencil, &span, 1, 0);
        lab_message_refresh(&stencil, kept, 2, LAB_FIN);
        span.at = anew;
        lab_message_fill(&stencil, &span, 2, LAB_FIN);
        assert_memory_equal(kept, anew, sizes[i]);
        free(kept);
        free(anew);
        lab_stencil_fini(&stencil);
    }
}

static void any_flipped_bit_of_a_summed_message_is_noticed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && sizes[i] <= 4120; i++) {
        if (sizes[i] < 16)
            continue;
        struct lab_stencil stencil;
        lab_assert_ok(lab_stencil_init(&stencil, sizes[i], 1, 5));
        unsigned char *at = room_for(sizes[i], 1);
        struct lab_span span = {.at = at, .stride = sizes[i], .length = sizes[i], .count = 1};
        lab_message_fill(&stencil, &span, 12345, 0);
        for (uint32_t byte = 0; byte < sizes[i]; byte++) {
            struct lab_label label;
            at[byte] ^= 0x10;
            assert_false(lab_message_read(at, sizes[i], true, &label));
            at[byte] ^= 0x10;
        }
        free(at);
        lab_stencil_fini(&stencil);
    }
}

static void a_message_of_another_length_is_not_taken_for_this_one(void **state)
{
    (void)state;
    struct lab_stencil stencil;
    struct lab_label label;
    lab_assert_ok(lab_stencil_init(&stencil, 64, 1, 5));
    unsigned char at[128] = {0};
    struct lab_span span = {.at = at, .stride = 64, .length = 64, .count = 1};
    lab_message_fill(&stencil, &span, 0, 0);
    assert_true(lab_message_read(at, 64, true, &label));
    assert_false(lab_message_read(at, 72, true, &label));
    assert_false(lab_message_read(at, 56, true, &label));
    assert_false(lab_message_read(at, 7, true, &label));
    memset(at, 0, sizeof at);
    assert_false(lab_message_read(at, 64, false, &label));
    lab_stencil_fini(&stencil);
}

static void a_checked_span_stops_before_what_is_out_of_order(void **state)
{
    (void)state;
    struct lab_stencil stencil;
    uint32_t flags;
    lab_assert_ok(lab_stencil_init(&stencil, 64, 1, 5));
    unsigned char at[4 * 64];
    struct lab_span span = {.at = at, .stride = 64, .length = 64, .count = 4};
    lab_message_fill(&stencil, &span, 100, 0);
    assert_int_equal(lab_message_check(&stencil, &span, 100, &flags), 4);
    assert_int_equal(lab_message_check(&stencil, &span, 99, &flags), 0);
    memcpy(at + 2 * 64, at, 64); /* message 100 again where 102 was due */
    assert_int_equal(lab_message_check(&stencil, &span, 100, &flags), 2);
    lab_stencil_fini(&stencil);
}

static void any_flipped_bit_of_a_label_is_noticed_and_zeroed_memory_is_no_message(void **state)
{
    (void)state;
    static const uint32_t sequences[] = {0, 1, 0xffff, 0x10000, 0x8000ffff, UINT32_MAX};
    static const unsigned char zeroes[1 << 12];
    struct lab_label label;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && sizes[i] <= sizeof zeroes; i++) {
        struct lab_stencil stencil;
        lab_assert_ok(lab_stencil_init(&stencil, sizes[i], 4095, 5));
        unsigned char *at = room_for(sizes[i], 1);
        struct lab_span span = {.at = at, .stride = sizes[i], .length = sizes[i], .count = 1};
        for (size_t s = 0; s < sizeof sequences / sizeof *sequences; s++) {
            lab_message_fill(&stencil, &span, sequences[s], LAB_MARK);
            for (int bit = 0; bit < 64; bit++) {
                at[bit / 8] ^= (unsigned char)(1 << bit % 8);
                assert_false(lab_message_read(at, sizes[i], false, &label));
                at[bit / 8] ^= (unsigned char)(1 << bit % 8);
            }
        }
        free(at);
        lab_stencil_fini(&stencil);
    }
    for (uint32_t length = 0; length <= sizeof zeroes; length++)
        assert_false(lab_message_read(zeroes, length, false, &label));
}

enum { MANY = 40, PLACE = 72 };

/* A span is verified as a whole where it can be; that must give what looking at one message after the other gives, wherever a
 * sequence carries from one half into the other or runs over. */
static void a_span_is_made_and_checked_as_its_messages_are(void **state)
{
    (void)state;
    static const uint32_t firsts[] = {0, 0xffff - 7, 0x10000, 0x1fffe, UINT32_MAX - 20}, in_a_span[] = {8, 16, 32, 40, 48, 64};
    for (size_t i = 0; i < sizeof in_a_span / sizeof *in_a_span; i++)
        for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++) {
            struct lab_stencil stencil;
            unsigned char together[MANY * PLACE] = {0}, alone[MANY * PLACE] = {0};
            uint32_t flags, size = in_a_span[i];
            struct lab_span span = {.at = together, .stride = PLACE, .length = size, .count = MANY};
            lab_assert_ok(lab_stencil_init(&stencil, size, 9, 5));
            lab_message_fill(&stencil, &span, firsts[f], LAB_FIN);
            for (uint32_t m = 0; m < MANY; m++) {
                struct lab_span one = {.at = alone + m * PLACE, .stride = PLACE, .length = size, .count = 1};
                lab_message_fill(&stencil, &one, firsts[f] + m, m + 1 < MANY ? 0 : LAB_FIN);
            }
            assert_memory_equal(together, alone, sizeof together);
            assert_int_equal(lab_message_check(&stencil, &span, firsts[f], &flags), MANY);
            assert_int_equal(flags, LAB_FIN);
            for (uint32_t m = 0; m < MANY; m++)
                for (uint32_t byte = 0; byte < size; byte++) {
                    together[m * PLACE + byte] ^= 0x40;
                    assert_int_equal(lab_message_check(&stencil, &span, firsts[f], &flags), m);
                    together[m * PLACE + byte] ^= 0x40;
                }
            lab_stencil_fini(&stencil);
        }
}

static void a_checked_span_ends_with_the_first_message_that_has_flags(void **state)
{
    (void)state;
    for (uint32_t m = 0; m < MANY; m++) {
        struct lab_stencil stencil;
        unsigned char at[MANY * 64];
        uint32_t flags;
        struct lab_span span = {.at = at, .stride = 64, .length = 64, .count = MANY}, part = {.at = at, .stride = 64, .length = 64, .count = m + 1};
        lab_assert_ok(lab_stencil_init(&stencil, 64, 1, 5));
        lab_message_fill(&stencil, &span, 70, 0);
        lab_message_fill(&stencil, &part, 70, LAB_TURN);
        assert_int_equal(lab_message_check(&stencil, &span, 70, &flags), m + 1);
        assert_int_equal(flags, LAB_TURN);
        lab_stencil_fini(&stencil);
    }
}

static void two_messages_of_a_channel_have_no_body_word_in_common(void **state)
{
    (void)state;
    struct lab_stencil stencil;
    lab_assert_ok(lab_stencil_init(&stencil, 64, 1, 5));
    uint64_t words[2][8];
    for (int m = 0; m < 2; m++) {
        struct lab_span span = {.at = (unsigned char *)words[m], .stride = 64, .length = 64, .count = 1};
        lab_message_fill(&stencil, &span, (uint32_t)m, 0);
    }
    for (int w = 0; w < 8; w++)
        assert_true(words[0][w] != words[1][w]);
    lab_stencil_fini(&stencil);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_written_message_is_read_back_whole_at_every_size),
        cmocka_unit_test(refreshing_a_buffer_gives_the_same_bytes_as_writing_it_anew),
        cmocka_unit_test(any_flipped_bit_of_a_summed_message_is_noticed),
        cmocka_unit_test(a_message_of_another_length_is_not_taken_for_this_one),
        cmocka_unit_test(a_checked_span_stops_before_what_is_out_of_order),
        cmocka_unit_test(any_flipped_bit_of_a_label_is_noticed_and_zeroed_memory_is_no_message),
        cmocka_unit_test(a_span_is_made_and_checked_as_its_messages_are),
        cmocka_unit_test(a_checked_span_ends_with_the_first_message_that_has_flags),
        cmocka_unit_test(two_messages_of_a_channel_have_no_body_word_in_common),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
