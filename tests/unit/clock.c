#include "base/clock.h"

#include "tests/check.h"

#include <limits.h>

static void time_never_goes_back(void **state)
{
    (void)state;
    uint64_t last = lab_now_ns();
    for (int i = 0; i < 1000000; i++) {
        uint64_t now = lab_now_ns();
        assert_true(now >= last);
        last = now;
    }
}

static void the_clock_is_clock_monotonic(void **state)
{
    (void)state;
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    uint64_t now = lab_now_ns();
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true(now >= (uint64_t)before.tv_sec * LAB_NS_PER_S + (uint64_t)before.tv_nsec);
    assert_true(now <= (uint64_t)after.tv_sec * LAB_NS_PER_S + (uint64_t)after.tv_nsec);
}

static void a_deadline_that_has_passed_leaves_nothing(void **state)
{
    (void)state;
    assert_int_equal(lab_ns_until(0), 0);
    assert_int_equal(lab_ns_until(lab_now_ns()), 0);
    assert_int_equal(lab_ms_until(0), 0);
    assert_int_equal(lab_ms_until(1), 0);
}

static void what_is_left_of_a_deadline_is_rounded_up_to_milliseconds(void **state)
{
    (void)state;
    uint64_t deadline_ns = lab_now_ns() + 1000 * LAB_NS_PER_S;
    int ms = lab_ms_until(deadline_ns);
    uint64_t ns = lab_ns_until(deadline_ns);
    /* Read later, so less is left; but never a millisecond that is not there. */
    assert_true((uint64_t)ms * LAB_NS_PER_MS >= ns);
    assert_true(ms <= 1000000);
    assert_true(ns <= 1000 * LAB_NS_PER_S);
    /* A wait of less than a millisecond is one, not none: else a poll loop would spin. */
    for (int i = 0; i < 1000; i++) {
        deadline_ns = lab_now_ns() + LAB_NS_PER_S / 2;
        ms = lab_ms_until(deadline_ns - LAB_NS_PER_S / 2 + 100 * LAB_NS_PER_US);
        assert_true(ms == 1 || lab_now_ns() >= deadline_ns - LAB_NS_PER_S / 2 + 100 * LAB_NS_PER_US);
    }
    assert_int_equal(lab_ms_until(UINT64_MAX), INT_MAX);
}

static void nanoseconds_become_a_timespec(void **state)
{
    (void)state;
    struct timespec when = lab_timespec(3 * LAB_NS_PER_S + 999999999);
    assert_int_equal(when.tv_sec, 3);
    assert_int_equal(when.tv_nsec, 999999999);
    when = lab_timespec(0);
    assert_int_equal(when.tv_sec, 0);
    assert_int_equal(when.tv_nsec, 0);
}

static void the_clock_says_what_it_costs_and_can_tell_apart(void **state)
{
    (void)state;
    struct lab_clock_facts facts = lab_clock_measure();
    assert_true(facts.overhead_ns > 0);
    assert_true(facts.resolution_ns >= 1);
}

static void spinning_lasts_at_least_as_long_as_asked(void **state)
{
    (void)state;
    for (uint64_t ns = 0; ns < 100 * LAB_NS_PER_US; ns += 7 * LAB_NS_PER_US) {
        uint64_t begin = lab_now_ns();
        lab_spin_for(ns);
        assert_true(lab_now_ns() - begin >= ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_never_goes_back),
        cmocka_unit_test(the_clock_is_clock_monotonic),
        cmocka_unit_test(a_deadline_that_has_passed_leaves_nothing),
        cmocka_unit_test(what_is_left_of_a_deadline_is_rounded_up_to_milliseconds),
        cmocka_unit_test(nanoseconds_become_a_timespec),
        cmocka_unit_test(the_clock_says_what_it_costs_and_can_tell_apart),
        cmocka_unit_test(spinning_lasts_at_least_as_long_as_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
