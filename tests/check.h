/* What every test includes: cmocka with what it needs, and two words of our own.
 *
 *     static void a_ring_that_is_full_refuses(void **state)
 *     {
 *         (void)state;
 *         lab_assert_ok(lab_ring_init(...));
 *     }
 *     int main(void)
 *     {
 *         const struct CMUnitTest tests[] = {cmocka_unit_test(a_ring_that_is_full_refuses)};
 *         return cmocka_run_group_tests(tests, NULL, NULL);
 *     }
 *
 * cmocka's assertions belong to the process that runs the group: a forked child ends with _exit() instead. */
#ifndef LAB_TESTS_CHECK_H
#define LAB_TESTS_CHECK_H

#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#ifdef __clang_analyzer__
/* cmocka's assertions do not return when they fail, and are not declared so. */
#define _assert_true(condition, ...) ((condition) ? (void)0 : abort())
#endif

/* The call succeeded; else its error record is shown. */
#define lab_assert_ok(call) lab_check_ok((call), #call, __FILE__, __LINE__)
static inline void lab_check_ok(long long err, const char *call, const char *file, int line)
{
    if (err < 0)
        print_error("%s gave %lld: %s\n", call, err, lab_error_last()->text);
    _assert_true(err >= 0, call, file, line);
}

/* The call failed with that errno, and said why. */
#define lab_assert_fails(call, code) lab_check_fails((call), (code), #call, __FILE__, __LINE__)
static inline void lab_check_fails(long long err, int code, const char *call, const char *file, int line)
{
    if (err != -code)
        print_error("%s gave %lld, not %d: %s\n", call, err, -code, lab_error_last()->text);
    _assert_true(err == -code, call, file, line);
    _assert_true(lab_error_last()->code == code && lab_error_last()->text[0], "the error record says why", file, line);
}

/* Skips this one test. */
#define lab_test_skip(reason)                   \
    do {                                        \
        print_message("skipped: %s\n", reason); \
        skip();                                 \
    } while (0)

/* Skips the whole program, before any test has run. */
static inline _Noreturn void lab_test_skip_all(const char *reason)
{
    printf("skipped: %s\n", reason);
    exit(77);
}

#endif
