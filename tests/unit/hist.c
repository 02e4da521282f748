/* The histogram against what an exact sort of the same values says. */
#include "base/hist.h"

#include "tests/check.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum { VALUES = 200000, FEWER = VALUES / 10 };
static uint64_t values[VALUES];

static uint64_t random_state = 88172645463325252u;
static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Values spread over `bits` powers of two, as latencies are: each power equally likely. */
static struct lab_hist *filled(unsigned bits, size_t count)
{
    struct lab_hist *hist = lab_hist_new();
    assert_non_null(hist);
    for (size_t i = 0; i < count; i++) {
        unsigned power = (unsigned)(next_random() % bits) + 1;
        values[i] = next_random() & ((UINT64_C(1) << power) - 1);
        lab_hist_record(hist, values[i]);
    }
    return hist;
}

static void quantiles_are_those_of_the_sorted_values_within_a_thousandth(void **state)
{
    (void)state;
    static const double quantiles[] = {0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1};
    for (unsigned bits = 1; bits <= LAB_HIST_TOP_BITS; bits++) {
        struct lab_hist *hist = filled(bits, FEWER);
        qsort(values, FEWER, sizeof *values, ascending);
        for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
            size_t rank = (size_t)ceil(quantiles[i] * FEWER);
            double exact = (double)values[rank ? rank - 1 : 0], got = (double)lab_hist_quantile(hist, quantiles[i]);
            if (fabs(got - exact) > exact / 1000)
                fail_msg("%u bits, quantile %g: %.0f, sorted %.0f", bits, quantiles[i], got, exact);
        }
        assert_int_equal(hist->least, values[0]);
        assert_int_equal(hist->most, values[FEWER - 1]);
        lab_hist_free(hist);
    }
}

static void the_mean_is_exact(void **state)
{
    (void)state;
    struct lab_hist *hist = filled(36, VALUES);
    long double sum = 0;
    for (size_t i = 0; i < VALUES; i++)
        sum += (long double)values[i];
    assert_true(fabs(lab_hist_mean(hist) - (double)(sum / VALUES)) <= 1e-9 * lab_hist_mean(hist));
    assert_int_equal(hist->count, VALUES);
    lab_hist_free(hist);
}

static void every_bucket_holds_the_values_between_its_bounds(void **state)
{
    (void)state;
    uint64_t expected = 0, low, high;
    for (uint32_t i = 0; i < LAB_HIST_BUCKETS; i++) {
        lab_hist_bounds(i, &low, &high);
        assert_int_equal(low, expected); /* no gap, no overlap */
        assert_true(high >= low);
        assert_int_equal(lab_hist_index(low), i);
        assert_int_equal(lab_hist_index(high), i);
        assert_true((double)(high - low) <= (double)low / 1000 || high == low);
        expected = high + 1;
    }
    assert_int_equal(expected, UINT64_C(1) << LAB_HIST_TOP_BITS);
}

static void what_is_beyond_the_range_counts_in_the_last_bucket(void **state)
{
    (void)state;
    struct lab_hist *hist = lab_hist_new();
    lab_hist_record(hist, UINT64_C(1) << LAB_HIST_TOP_BITS);
    lab_hist_record(hist, UINT64_MAX);
    assert_int_equal(hist->bucket[LAB_HIST_BUCKETS - 1], 2);
    assert_true(hist->most == UINT64_MAX);
    assert_int_equal(hist->least, UINT64_C(1) << LAB_HIST_TOP_BITS);
    lab_hist_free(hist);
}

static void an_empty_histogram_has_no_figures(void **state)
{
    (void)state;
    struct lab_hist *hist = lab_hist_new();
    assert_int_equal(lab_hist_quantile(hist, 0.5), 0);
    assert_true(lab_hist_mean(hist) == 0);
    lab_hist_record_n(hist, 700, 3);
    assert_int_equal(lab_hist_quantile(hist, 0.5), 700);
    lab_hist_clear(hist);
    assert_int_equal(lab_hist_quantile(hist, 0.5), 0);
    assert_int_equal(hist->count, 0);
    assert_true(hist->least == UINT64_MAX && hist->most == 0);
    lab_hist_free(hist);
    lab_hist_free(NULL);
}

static void recording_many_at_once_is_recording_one_many_times(void **state)
{
    (void)state;
    struct lab_hist *once = lab_hist_new(), *many = lab_hist_new();
    for (int i = 0; i < 1000; i++)
        lab_hist_record(many, 123456);
    lab_hist_record_n(once, 123456, 1000);
    assert_memory_equal(once, many, sizeof *once);
    lab_hist_free(once);
    lab_hist_free(many);
}

static void merging_is_recording_into_one(void **state)
{
    (void)state;
    struct lab_hist *a = filled(20, 1000), *whole = lab_hist_new();
    for (size_t i = 0; i < 1000; i++)
        lab_hist_record(whole, values[i]);
    struct lab_hist *b = filled(38, 1000);
    for (size_t i = 0; i < 1000; i++)
        lab_hist_record(whole, values[i]);
    lab_hist_merge(a, b);
    assert_memory_equal(a, whole, sizeof *a);
    lab_hist_free(a);
    lab_hist_free(b);
    lab_hist_free(whole);
}

static unsigned char *encoded(const struct lab_hist *hist, size_t *ret_size)
{
    size_t size = lab_hist_encode(hist, NULL, 0);
    unsigned char *bytes = malloc(size);
    assert_non_null(bytes);
    assert_int_equal(lab_hist_encode(hist, bytes, size), size);
    *ret_size = size;
    return bytes;
}

static void what_is_encoded_comes_back_exactly(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        /* Empty; a few; many, with values beyond the range. */
        struct lab_hist *hist = round == 0 ? lab_hist_new() : filled(38, round == 1 ? 5 : VALUES), *back = lab_hist_new();
        if (round == 2)
            lab_hist_record(hist, UINT64_MAX);
        size_t size;
        unsigned char *bytes = encoded(hist, &size);
        lab_assert_ok(lab_hist_merge_encoded(back, bytes, size));
        assert_memory_equal(back, hist, sizeof *hist);
        lab_assert_ok(lab_hist_merge_encoded(back, bytes, size));
        assert_int_equal(back->count, 2 * hist->count);
        free(bytes);
        lab_hist_free(hist);
        lab_hist_free(back);
    }
}

static void encoding_into_too_little_room_writes_nothing_beyond_it(void **state)
{
    (void)state;
    struct lab_hist *hist = filled(38, 1000);
    size_t size = lab_hist_encode(hist, NULL, 0);
    unsigned char bytes[32];
    memset(bytes, 0xa5, sizeof bytes);
    assert_true(size > 16);
    assert_int_equal(lab_hist_encode(hist, bytes, 16), size);
    for (size_t i = 16; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], 0xa5);
    lab_hist_free(hist);
}

static void every_truncation_is_refused_and_merges_nothing(void **state)
{
    (void)state;
    struct lab_hist *hist = filled(38, 200), *into = filled(10, 50), *before = lab_hist_new();
    memcpy(before, into, sizeof *into);
    size_t size;
    unsigned char *bytes = encoded(hist, &size);
    for (size_t cut = 0; cut < size; cut++) {
        unsigned char *part = malloc(cut ? cut : 1); /* its own block, so that reading beyond it is seen */
        memcpy(part, bytes, cut);
        lab_assert_fails(lab_hist_merge_encoded(into, part, cut), EBADMSG);
        free(part);
    }
    assert_memory_equal(into, before, sizeof *into);
    free(bytes);
    lab_hist_free(hist);
    lab_hist_free(into);
    lab_hist_free(before);
}

static void garbage_is_refused_and_merges_nothing(void **state)
{
    (void)state;
    static const struct {
        unsigned char bytes[28];
        size_t size;
    } garbage[] = {
        {{1, 5, 5, 5, 5, 2}, 6},                                                    /* counts that do not add up */
        {{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1}, 10},                         /* a bucket beyond the last */
        {{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1}, 15}, /* ... far beyond */
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 12}, /* a number without end */
        {{2, 0, 0, 0, 5, 1, 0xff, 0x01, 1, 9}, 10},                                  /* a gap without its count */
        {{2, 0, 0, 2, 0, 0, 2, 2}, 8},                                               /* the least lies in a bucket that is empty */
        {{2, 10, 5, 5, 5, 1, 0, 1}, 8},                                              /* one bucket twice */
        {{2, 99, 5, 5, 5, 2}, 6},                                                    /* a sum that such values do not have */
        {{2, 9, 5, 5, 5, 2}, 6},
        {{0, 9, 0, 0}, 4},                                                           /* a sum of nothing */
        {{0, 0, 1, 2, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1,    /* counts that run over */
          1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1}, 26},
        {{0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2, 5, 5, 5, 5, 1}, 15}, /* a number of more than 64 bits */
    };
    struct lab_hist *into = filled(10, 50), *before = lab_hist_new();
    memcpy(before, into, sizeof *into);
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++)
        lab_assert_fails(lab_hist_merge_encoded(into, garbage[i].bytes, garbage[i].size), EBADMSG);
    for (int i = 0; i < 20000; i++) {
        unsigned char noise[64];
        size_t size = next_random() % sizeof noise;
        for (size_t b = 0; b < sizeof noise; b++)
            noise[b] = (unsigned char)next_random();
        if (lab_hist_merge_encoded(into, noise, size) == 0)
            memcpy(into, before, sizeof *into); /* noise may happen to be one */
        assert_memory_equal(into, before, sizeof *into);
    }
    lab_hist_free(into);
    lab_hist_free(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_those_of_the_sorted_values_within_a_thousandth),
        cmocka_unit_test(the_mean_is_exact),
        cmocka_unit_test(every_bucket_holds_the_values_between_its_bounds),
        cmocka_unit_test(what_is_beyond_the_range_counts_in_the_last_bucket),
        cmocka_unit_test(an_empty_histogram_has_no_figures),
        cmocka_unit_test(recording_many_at_once_is_recording_one_many_times),
        cmocka_unit_test(merging_is_recording_into_one),
        cmocka_unit_test(what_is_encoded_comes_back_exactly),
        cmocka_unit_test(encoding_into_too_little_room_writes_nothing_beyond_it),
        cmocka_unit_test(every_truncation_is_refused_and_merges_nothing),
        cmocka_unit_test(garbage_is_refused_and_merges_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
