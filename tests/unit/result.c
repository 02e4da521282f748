/* The shapes that a run is collected in. */
#include "report/result.h"
#include "tests/check.h"

#include <math.h>
#include <string.h>

static void every_verdict_has_a_name_and_nothing_else_has(void **state)
{
    (void)state;
    assert_string_equal(lab_verdict_name(LAB_OK), "ok");
    assert_string_equal(lab_verdict_name(LAB_NOISY), "noisy");
    assert_string_equal(lab_verdict_name(LAB_TRANSIENT), "transient");
    assert_string_equal(lab_verdict_name(LAB_INVALID), "invalid");
    assert_string_equal(lab_verdict_name(LAB_SKIPPED), "skipped");
    assert_string_equal(lab_verdict_name(LAB_FAILED), "failed");
    assert_null(lab_verdict_name(LAB_VERDICTS));
}

static void strings_are_copies_that_live_as_long_as_the_run(void **state)
{
    (void)state;
    struct lab_run *run = lab_run_new();
    assert_non_null(run);
    assert_null(lab_run_string(run, NULL));
    enum { MANY = 3000 };
    const char *kept[MANY];
    char text[64];
    for (int i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "string number %d", i);
        kept[i] = lab_run_string(run, text);
        assert_ptr_not_equal(kept[i], text);
    }
    char *huge = malloc(100000);
    memset(huge, 'x', 99999);
    huge[99999] = '\0';
    const char *huge_copy = lab_run_string(run, huge);
    assert_string_equal(huge_copy, huge);
    free(huge);
    for (int i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "string number %d", i);
        assert_string_equal(kept[i], text);
    }
    lab_run_free(run);
}

static void a_new_element_is_zero_or_not_measured(void **state)
{
    (void)state;
    struct lab_run *run = lab_run_new();
    assert_true(isnan(lab_run_add_limit(run)->value));
    assert_true(isnan(lab_run_add_noise(run)->lost_fraction));
    struct lab_launch *launch = lab_cell_add_launch(lab_run_add_cell(run));
    assert_true(isnan(launch->messages_per_s));
    assert_true(isnan(launch->bytes_per_s));
    assert_true(isnan(launch->handoff_ns));
    assert_null(launch->latency);
    assert_int_equal(launch->messages, 0);
    lab_run_free(run);
}

static void arrays_grow_and_keep_what_they_hold(void **state)
{
    (void)state;
    struct lab_run *run = lab_run_new();
    enum { MANY = 300 };
    for (uint32_t i = 0; i < MANY; i++) {
        struct lab_cell *cell = lab_run_add_cell(run);
        assert_int_equal(cell->launch_count, 0);
        cell->id = i;
        for (uint32_t j = 0; j < i % 7; j++) {
            struct lab_launch *launch = lab_cell_add_launch(&run->cells[i]);
            launch->round = j;
            launch->latency = lab_hist_new();
        }
        lab_run_add_host(run)->cores = i;
        lab_run_add_library(run)->name = "a library";
        lab_run_add_warning(run)->code = "a warning";
    }
    assert_int_equal(run->cell_count, MANY);
    assert_int_equal(run->host_count, MANY);
    assert_int_equal(run->library_count, MANY);
    assert_int_equal(run->warning_count, MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(run->cells[i].id, i);
        assert_int_equal(run->hosts[i].cores, i);
        assert_int_equal(run->cells[i].launch_count, i % 7);
        for (uint32_t j = 0; j < i % 7; j++)
            assert_int_equal(run->cells[i].launches[j].round, j);
    }
    lab_run_free(run);
    lab_run_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_verdict_has_a_name_and_nothing_else_has),
        cmocka_unit_test(strings_are_copies_that_live_as_long_as_the_run),
        cmocka_unit_test(a_new_element_is_zero_or_not_measured),
        cmocka_unit_test(arrays_grow_and_keep_what_they_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
