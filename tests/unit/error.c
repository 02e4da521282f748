#include "tests/check.h"

#include "base/text.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

static void a_failure_is_recorded_with_its_place_and_reason(void **state)
{
    (void)state;
    int line = __LINE__ + 1;
    assert_int_equal(lab_fail(ENOENT, "cannot open %s", "/no/such"), -ENOENT);
    const struct lab_error *error = lab_error_last();
    assert_int_equal(error->code, ENOENT);
    assert_int_equal(error->line, line);
    assert_non_null(strstr(error->file, "error.c"));
    assert_string_equal(error->text, "cannot open /no/such: No such file or directory");
}

static void a_refusal_says_what_it_says_and_no_more(void **state)
{
    (void)state;
    assert_int_equal(lab_refuse(EINVAL, "%d is odd", 3), -EINVAL);
    assert_int_equal(lab_error_last()->code, EINVAL);
    assert_string_equal(lab_error_last()->text, "3 is odd");
}

/* errno is 0 after a library's failure that no system call caused. */
static void a_failure_without_a_code_is_a_failure_all_the_same(void **state)
{
    (void)state;
    volatile int unset = 0;
    assert_int_equal(lab_fail(unset, "the library said no"), -EIO);
    assert_int_equal(lab_error_last()->code, EIO);
    assert_string_equal(lab_error_last()->text, "the library said no: Input/output error");
    assert_int_equal(lab_refuse(unset, "no"), -EIO);
    assert_int_equal(lab_error_last()->code, EIO);
}

/* A path may hold any bytes; a record that is not UTF-8 could not be sent to the launcher. */
static void a_record_is_utf8_whatever_it_quotes_and_wherever_it_is_cut(void **state)
{
    (void)state;
    lab_refuse(EINVAL, "cannot open '%s'", "/caf\xc3\xa9/\xff\xe9t\xc3");
    assert_string_equal(lab_error_last()->text, "cannot open '/caf\xc3\xa9/??t?'");
    char flood[2 * LAB_ERROR_TEXT + 1];
    for (size_t i = 0; i < sizeof flood - 1; i += 2)
        memcpy(flood + i, "\xc3\xa9", 2);
    flood[sizeof flood - 1] = '\0';
    lab_refuse(EINVAL, "%s", flood);
    assert_string_equal(lab_error_last()->text + LAB_ERROR_TEXT - 4, "\xc3\xa9?");
    lab_refuse(EINVAL, "no");
    lab_while(-EINVAL, "doing %s", flood);
    assert_int_equal(strlen(lab_error_last()->text), LAB_ERROR_TEXT - 1);
    for (size_t i = 0, length; i < LAB_ERROR_TEXT - 1; i += length)
        assert_int_not_equal(length = lab_utf8_length((const unsigned char *)lab_error_last()->text + i, LAB_ERROR_TEXT - 1 - i), 0);
}

static void callers_add_what_they_were_doing(void **state)
{
    (void)state;
    int err = lab_refuse(EINVAL, "no such host");
    assert_int_equal(lab_while(err, "reading %s", "hosts"), -EINVAL);
    assert_int_equal(lab_while(err, "starting"), -EINVAL);
    assert_string_equal(lab_error_last()->text, "no such host, while reading hosts, while starting");
    assert_int_equal(lab_error_last()->code, EINVAL);
}

static void a_later_failure_replaces_an_earlier_one_and_may_quote_it(void **state)
{
    (void)state;
    lab_refuse(EINVAL, "first");
    lab_refuse(EIO, "second, after: %s", lab_error_last()->text);
    assert_string_equal(lab_error_last()->text, "second, after: first");
    assert_int_equal(lab_error_last()->code, EIO);
    lab_error_clear();
    assert_int_equal(lab_error_last()->code, 0);
    assert_string_equal(lab_error_last()->text, "");
}

static void a_sentence_without_end_is_cut_and_ended(void **state)
{
    (void)state;
    char flood[3 * LAB_ERROR_TEXT];
    memset(flood, 'x', sizeof flood);
    flood[sizeof flood - 1] = '\0';
    lab_fail(EIO, "%s", flood);
    assert_int_equal(strlen(lab_error_last()->text), LAB_ERROR_TEXT - 1);
    lab_while(-EIO, "%s", flood);
    assert_int_equal(strlen(lab_error_last()->text), LAB_ERROR_TEXT - 1);
    lab_refuse(EIO, "short");
    lab_while(-EIO, "%s", flood);
    assert_int_equal(strlen(lab_error_last()->text), LAB_ERROR_TEXT - 1);
    assert_memory_equal(lab_error_last()->text, "short, while xxx", 16);
}

static void *fail_elsewhere(void *argument)
{
    (void)argument;
    lab_refuse(EPERM, "the other thread's");
    return NULL;
}

static void each_thread_has_a_record_of_its_own(void **state)
{
    (void)state;
    lab_refuse(EINVAL, "mine");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    pthread_join(thread, NULL);
    assert_string_equal(lab_error_last()->text, "mine");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_is_recorded_with_its_place_and_reason),
        cmocka_unit_test(a_refusal_says_what_it_says_and_no_more),
        cmocka_unit_test(a_failure_without_a_code_is_a_failure_all_the_same),
        cmocka_unit_test(a_record_is_utf8_whatever_it_quotes_and_wherever_it_is_cut),
        cmocka_unit_test(callers_add_what_they_were_doing),
        cmocka_unit_test(a_later_failure_replaces_an_earlier_one_and_may_quote_it),
        cmocka_unit_test(a_sentence_without_end_is_cut_and_ended),
        cmocka_unit_test(each_thread_has_a_record_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
