#include "base/text.h"

#include "tests/check.h"

#include <errno.h>
#include <string.h>

struct number {
    const char *text;
    uint64_t value;
};

static void takes(int (*parse)(const char *, uint64_t *), const struct number *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = 0;
        lab_assert_ok(parse(numbers[i].text, &value));
        if (value != numbers[i].value)
            fail_msg("'%s' was read as %llu", numbers[i].text, (unsigned long long)value);
    }
}

/* Refused, with the offending text in the sentence and nothing written. */
static void refuses(int (*parse)(const char *, uint64_t *), const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = 77;
        if (parse(texts[i], &value) != -EINVAL)
            fail_msg("'%s' was read as %llu", texts[i], (unsigned long long)value);
        assert_int_equal(value, 77);
        char quoted[64];
        snprintf(quoted, sizeof quoted, "'%s'", texts[i]);
        assert_non_null(strstr(lab_error_last()->text, quoted));
    }
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void sizes_are_read_in_powers_of_1024(void **state)
{
    (void)state;
    static const struct number good[] = {
        {"0", 0}, {"8", 8}, {"64", 64}, {"64B", 64}, {"64 B", 64}, {"1K", 1024}, {"1k", 1024}, {"1KB", 1024}, {"1KiB", 1024},
        {"4k", 4096}, {"1MiB", 1 << 20}, {"1M", 1 << 20}, {"1.5KiB", 1536}, {"2GiB", UINT64_C(2) << 30},
    };
    static const char *const bad[] = {"", " ", "KiB", "-1", "+1", "64Q", "64K!", "1Kib/s", "0x10", "1e3", "1.5", "0.3KiB", "1..2",
                                      "nan", "inf", "99999999999999999999", "1 2", "12345678901234567890GiB", ".5K"};
    takes(lab_parse_size, good, COUNT(good));
    refuses(lab_parse_size, bad, COUNT(bad));
}

static void counts_have_no_unit(void **state)
{
    (void)state;
    static const struct number good[] = {
        {"0", 0}, {"12", 12}, {"1000000", 1000000}, {"9007199254740993", (UINT64_C(1) << 53) + 1}, {"9223372036854775807", INT64_MAX},
    };
    static const char *const bad[] = {"9223372036854775808", "18446744073709551616", "1.2.3", "", "1k", "1.5", "-3", "twelve", "12 apples"};
    takes(lab_parse_count, good, COUNT(good));
    refuses(lab_parse_count, bad, COUNT(bad));
}

static void times_must_say_their_unit(void **state)
{
    (void)state;
    static const struct number good[] = {
        {"1ns", 1}, {"250us", 250000}, {"1.5ms", 1500000}, {"5s", UINT64_C(5000000000)}, {"2min", UINT64_C(120000000000)},
        {"1h", UINT64_C(3600000000000)},
    };
    static const char *const bad[] = {"", "5", "5 parsecs", "0.5ns", "-1s", "s", "1s2"};
    takes(lab_parse_time, good, COUNT(good));
    refuses(lab_parse_time, bad, COUNT(bad));
}

static void rates_are_per_second(void **state)
{
    (void)state;
    double rate = -1;
    lab_assert_ok(lab_parse_rate("10k/s", &rate));
    assert_true(rate == 10000);
    lab_assert_ok(lab_parse_rate("1M/s", &rate));
    assert_true(rate == 1e6);
    lab_assert_ok(lab_parse_rate("0.5/s", &rate));
    assert_true(rate == 0.5);
    lab_assert_fails(lab_parse_rate("10k", &rate), EINVAL);
    lab_assert_fails(lab_parse_rate("10", &rate), EINVAL);
    lab_assert_fails(lab_parse_rate("10/min", &rate), EINVAL);
    assert_true(rate == 0.5);
}

static void truth_has_three_spellings(void **state)
{
    (void)state;
    bool value = false;
    static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};
    for (size_t i = 0; i < 3; i++) {
        lab_assert_ok(lab_parse_bool(yes[i], &value));
        assert_true(value);
        lab_assert_ok(lab_parse_bool(no[i], &value));
        assert_false(value);
    }
    lab_assert_fails(lab_parse_bool("maybe", &value), EINVAL);
    lab_assert_fails(lab_parse_bool("", &value), EINVAL);
    lab_assert_fails(lab_parse_bool("1", &value), EINVAL);
}

static void a_range_of_sizes_is_expanded(void **state)
{
    (void)state;
    uint64_t sizes[32];
    size_t count = 0;
    lab_assert_ok(lab_parse_sizes("64", sizes, 32, &count));
    assert_int_equal(count, 1);
    assert_int_equal(sizes[0], 64);

    lab_assert_ok(lab_parse_sizes("8..64", sizes, 32, &count));
    assert_int_equal(count, 4);
    assert_int_equal(sizes[3], 64);

    lab_assert_ok(lab_parse_sizes("8..1MiB*4", sizes, 32, &count));
    static const uint64_t by_four[] = {8, 32, 128, 512, 2048, 8192, 32768, 131072, 524288};
    assert_int_equal(count, COUNT(by_four));
    assert_memory_equal(sizes, by_four, sizeof by_four);

    lab_assert_ok(lab_parse_sizes("8..8", sizes, 32, &count));
    assert_int_equal(count, 1);

    /* Up to the last number there is, without running over. */
    lab_assert_ok(lab_parse_sizes("1GiB..8589934591GiB*1024", sizes, 32, &count));
    assert_int_equal(count, 4);
}

static void a_range_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"64..8", "0..8", "8..64*1", "8..64*0", "8..", "..8", "8..64*", "8..64*x", "64*2", "8...64"};
    uint64_t sizes[4] = {77};
    size_t count = 77;
    for (size_t i = 0; i < COUNT(bad); i++)
        lab_assert_fails(lab_parse_sizes(bad[i], sizes, 4, &count), EINVAL);
    assert_int_equal(count, 77);
    lab_assert_fails(lab_parse_sizes("1..1024", sizes, 4, &count), E2BIG);
    char endless[4096];
    memset(endless, '8', sizeof endless);
    endless[sizeof endless - 1] = '\0';
    lab_assert_fails(lab_parse_sizes(endless, sizes, 4, &count), EINVAL);
}

static void numbers_are_rendered_for_people(void **state)
{
    (void)state;
    char text[LAB_TEXT_NUMBER];
    assert_string_equal(lab_format_size(64, text), "64 B");
    assert_string_equal(lab_format_size(4096, text), "4 KiB");
    assert_string_equal(lab_format_size(1 << 20, text), "1 MiB");
    assert_string_equal(lab_format_size(1025, text), "1025 B");
    assert_string_equal(lab_format_size(0, text), "0 B");
    assert_string_equal(lab_format_time(64.2, text), "64.2 ns");
    assert_string_equal(lab_format_time(23100, text), "23.1 us");
    assert_string_equal(lab_format_time(1.2e6, text), "1.20 ms");
    assert_string_equal(lab_format_time(5e9, text), "5.00 s");
    assert_string_equal(lab_format_time(999.4, text), "999 ns");
    assert_string_equal(lab_format_time(999.6, text), "1.00 us");
    assert_string_equal(lab_format_rate(1230, text), "1.23 k");
    assert_string_equal(lab_format_rate(166e6, text), "166 M");
    assert_string_equal(lab_format_bandwidth(1.23e9, text), "1.23 GB/s");
    assert_string_equal(lab_format_bandwidth(500e6, text), "500 MB/s");
    /* The largest there is fits. */
    lab_format_size(UINT64_MAX, text);
    lab_format_time(1e19, text);
    assert_true(strlen(text) < sizeof text);
}

/* What is rendered can be read again. */
static void a_rendered_size_is_read_back(void **state)
{
    (void)state;
    char text[LAB_TEXT_NUMBER];
    for (uint64_t size = 1; size < UINT64_C(1) << 40; size = size * 3 / 2 + 1) {
        uint64_t back;
        lab_assert_ok(lab_parse_size(lab_format_size(size, text), &back));
        assert_int_equal(back, size);
    }
}

static const char *const transports[] = {"shm-ring", "pipe", "zmq-ipc", "zmq-tcp", "mpi"};

static const char *transport(size_t index)
{
    return index < COUNT(transports) ? transports[index] : NULL;
}

static void a_slip_of_the_pen_finds_its_name(void **state)
{
    (void)state;
    assert_string_equal(lab_nearest_of("shm-rign", transports, COUNT(transports)), "shm-ring");
    assert_string_equal(lab_nearest_of("pip", transports, COUNT(transports)), "pipe");
    assert_string_equal(lab_nearest_of("Zmq-TCP", transports, COUNT(transports)), "zmq-tcp");
    assert_string_equal(lab_nearest("zmqipc", transport), "zmq-ipc");
    assert_null(lab_nearest_of("carrier-pigeon", transports, COUNT(transports)));
    assert_null(lab_nearest("", transport));
    char endless[500];
    memset(endless, 'p', sizeof endless);
    endless[sizeof endless - 1] = '\0';
    assert_null(lab_nearest(endless, transport));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_read_in_powers_of_1024),
        cmocka_unit_test(counts_have_no_unit),
        cmocka_unit_test(times_must_say_their_unit),
        cmocka_unit_test(rates_are_per_second),
        cmocka_unit_test(truth_has_three_spellings),
        cmocka_unit_test(a_range_of_sizes_is_expanded),
        cmocka_unit_test(a_range_that_is_none_is_refused),
        cmocka_unit_test(numbers_are_rendered_for_people),
        cmocka_unit_test(a_rendered_size_is_read_back),
        cmocka_unit_test(a_slip_of_the_pen_finds_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
