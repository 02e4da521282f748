/* The table, the lister and Markdown: what a person reads. */
#include "report/listing.h"
#include "report/render.h"
#include "report/store.h"
#include "tests/check.h"
#include "tests/synthetic.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* The caller frees the text. Not inlined: gcc 12 then takes what the stream left in `text` for a pointer to `text` itself. */
static __attribute__((noinline)) char *rendered(const struct lab_run *run, enum lab_format format, struct lab_render_style style)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    assert_non_null(to);
    lab_assert_ok(lab_render(run, format, to, &style));
    fclose(to);
    return text;
}

static size_t count_of(const char *text, const char *what)
{
    size_t count = 0;
    for (; (text = strstr(text, what)); text += strlen(what))
        count++;
    return count;
}

static size_t longest_line(const char *text)
{
    size_t longest = 0, columns = 0;
    for (; *text; text++) {
        columns = *text == '\n' ? 0 : columns + (((unsigned char)*text & 0xc0) != 0x80);
        longest = columns > longest ? columns : longest;
    }
    return longest;
}

static void the_table_fits_the_width_it_is_given(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_comparison(6);
    static const uint32_t widths[] = {80, 100, 120, 200};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        char *text = rendered(run, LAB_FORMAT_TABLE, (struct lab_render_style){.width = widths[i], .utf8 = i % 2});
        assert_true(longest_line(text) <= widths[i]);
        free(text);
    }
    char *text = rendered(run, LAB_FORMAT_TABLE, (struct lab_render_style){.width = 0});
    assert_true(longest_line(text) <= LAB_RENDER_WIDTH);
    free(text);
    lab_run_free(run);
}

static void without_utf8_and_colour_it_is_plain_ascii(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_comparison(6);
    char *text = rendered(run, LAB_FORMAT_TABLE, (struct lab_render_style){.width = 0});
    for (const char *c = text; *c; c++)
        assert_true(*c == '\n' || (*c >= ' ' && *c <= '~'));
    assert_null(strstr(text, " \n"));
    free(text);
    text = rendered(run, LAB_FORMAT_TABLE, (struct lab_render_style){.colour = true});
    assert_non_null(strchr(text, '\033'));
    free(text);
    lab_run_free(run);
}

/* The line of a table that begins so, within the group that begins with `group`; cut off at its end. */
static char *line_of(const char *text, const char *group, const char *start)
{
    const char *at = strstr(text, group);
    assert_non_null(at);
    char sought[128];
    snprintf(sought, sizeof sought, "\n%s", start);
    at = strstr(at, sought);
    assert_non_null(at);
    return strndup(at + 1, strcspn(at + 1, "\n"));
}

static void a_row_shows_value_interval_ratio_wait_and_cpus(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    struct lab_cell *cell = lab_synthetic_cell(run, "shm-ring", "spin", "pingpong", 64);
    for (int i = -5; i <= 5; i++)
        lab_synthetic_launch(cell, 5000 * (1 + 0.01 * i), 1, 56);
    cell = lab_synthetic_cell(run, "pipe", "block", "pingpong", 64);
    cell->baseline = true;
    for (int i = -5; i <= 5; i++)
        lab_synthetic_launch(cell, 20000 * (1 + 0.01 * i), 0.3, 56);
    char *text = rendered(run, LAB_FORMAT_TABLE, (struct lab_render_style){.width = 0});
    char *ring = line_of(text, "pingpong, 1 node of 2 workers, pair, other-core", "shm-ring");
    char *pipe = line_of(text, "pingpong, 1 node of 2 workers, pair, other-core", "pipe *");
    static const char *const in_ring[] = {"spin", " 2.0 ", " 11 ", "5.00 us", "+-4%", "x4.00"};
    for (size_t i = 0; i < sizeof in_ring / sizeof *in_ring; i++)
        assert_non_null(strstr(ring, in_ring[i]));
    static const char *const in_pipe[] = {"block", " 0.6 ", " 11 ", "20.0 us", "+-4%"};
    for (size_t i = 0; i < sizeof in_pipe / sizeof *in_pipe; i++)
        assert_non_null(strstr(pipe, in_pipe[i]));
    assert_null(strchr(pipe, 'x'));
    assert_non_null(strstr(text, "half-round-trip time | CPUs shared-cache"));
    assert_non_null(strstr(text, "Fairness: rows that spin keep up to 2.0 CPUs busy"));
    free(ring);
    free(pipe);
    free(text);
    lab_run_free(run);
}

static void skipped_cells_are_counted_under_each_reason(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_comparison(6);
    struct lab_cell *cell = lab_synthetic_cell(run, "pipe", "spin", "pingpong", 64);
    cell->verdict = LAB_SKIPPED;
    cell->reason = "pipe cannot wait by spin";
    char *text = rendered(run, LAB_FORMAT_TABLE, (struct lab_render_style){.width = 0});
    assert_int_equal(count_of(text, "two parties that spin on one CPU"), 1);
    assert_non_null(strstr(text, "  36 cells  two parties that spin"));
    assert_non_null(strstr(text, "   1 cell   pipe cannot wait by spin"));
    free(text);
    lab_run_free(run);
}

static void what_is_not_ok_carries_a_letter_that_is_explained(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_comparison(6);
    run->cells[6].launches[2].integrity.lost = 3;  /* shm-ring spin 8 B */
    run->cells[7].launches[2].integrity.lost = 3;  /* ... 64 B: the same reason, the same letter */
    for (uint32_t i = 0; i < 6; i++) {
        run->cells[12].launches[i].verdict = LAB_FAILED; /* shm-ring yield 8 B */
        run->cells[12].launches[i].reason = "worker 1 was ended by signal 9 (Killed)";
        run->cells[18].launches[i].handoff_ns = 285; /* shm-ring adaptive 8 B */
        run->cells[19].launches[i].batched = true;   /* ... 64 B */
    }
    char *text = rendered(run, LAB_FORMAT_TABLE, (struct lab_render_style){.width = 200});
    assert_int_equal(count_of(text, "invalid a"), 2);
    assert_int_equal(count_of(text, "\n a invalid: 3 lost of "), 1);
    assert_int_equal(count_of(text, "failed b"), 1);
    assert_int_equal(count_of(text, "\n b failed: worker 1 was ended by signal 9 (Killed)\n"), 1);
    assert_int_equal(count_of(text, "\n c not compared: its CPUs were not as near"), 1);
    assert_int_equal(count_of(text, "\n d means of batches"), 1);
    char *line = line_of(text, "pingpong", "shm-ring        adaptive");
    assert_non_null(strstr(line, "70 ns c"));
    assert_non_null(strstr(line, "73 ns d"));
    assert_non_null(strstr(line, "mixed"));
    free(line);
    free(text);
    lab_run_free(run);
}

static void options_that_tell_rows_apart_stand_in_their_labels(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    static const char *const options[] = {"{\"window\":64,\"batch\":1,\"verify\":\"all\"}", "{\"window\":64,\"batch\":32,\"verify\":\"all\"}",
                                          "{\"window\":4,\"batch\":1,\"verify\":\"all\"}", "{\"window\":4,\"batch\":32,\"verify\":\"all\"}"};
    for (size_t i = 0; i < 4; i++) {
        struct lab_cell *cell = lab_synthetic_cell(run, "shm-ring", "spin", "stream", i < 2 ? 8 : 65536);
        cell->options = options[i];
        lab_synthetic_launches(cell, 6, 100, 0.01, 1, 56);
    }
    char *text = rendered(run, LAB_FORMAT_TABLE, (struct lab_render_style){.width = 200});
    assert_int_equal(count_of(text, "\nshm-ring batch 1 "), 1);
    assert_int_equal(count_of(text, "\nshm-ring batch 32 "), 1);
    assert_non_null(strstr(text, "window by size, verify all"));
    free(text);
    lab_run_free(run);
}

static void small_messages_are_counted_and_large_ones_weighed(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    lab_synthetic_launches(lab_synthetic_cell(run, "shm-ring", "spin", "stream", 8), 6, 10, 0, 1, 56);
    lab_synthetic_launches(lab_synthetic_cell(run, "shm-ring", "spin", "stream", 65536), 6, 10000, 0, 1, 56);
    char *text = rendered(run, LAB_FORMAT_TABLE, (struct lab_render_style){.width = 0});
    char *line = line_of(text, "stream", "shm-ring");
    assert_non_null(strstr(line, "100 M/s"));
    assert_non_null(strstr(line, "6.55 GB/s"));
    free(line);
    free(text);
    lab_run_free(run);
}

static void the_floor_of_the_rig_comes_last(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    struct lab_cell *cell = lab_synthetic_cell(run, "null", "spin", "pingpong", 8);
    cell->workers = 1; /* a group of its own */
    lab_synthetic_launches(cell, 6, 10, 0, 1, (double)NAN);
    lab_synthetic_launches(lab_synthetic_cell(run, "null", "spin", "stream", 8), 6, 10, 0, 1, (double)NAN);
    lab_synthetic_launches(lab_synthetic_cell(run, "pipe", "block", "stream", 8), 6, 20000, 0, 1, 56);
    char *text = rendered(run, LAB_FORMAT_TABLE, (struct lab_render_style){.width = 0});
    const char *pipe = strstr(text, "\npipe "), *beside = strstr(text, "\nnull "), *alone = strstr(text, "\npingpong, 1 worker that sends to itself |");
    assert_true(pipe && beside && alone && pipe < beside && beside < alone);
    free(text);
    lab_run_free(run);
}

static void an_unfinished_and_an_empty_run_are_shown_as_such(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    run->ended_by = NULL;
    for (enum lab_format format = 0; format < LAB_FORMATS; format++)
        free(rendered(run, format, (struct lab_render_style){.width = 0}));
    lab_synthetic_cell(run, "pipe", "block", "pingpong", 64);
    char *text = rendered(run, LAB_FORMAT_TABLE, (struct lab_render_style){.width = 0});
    assert_non_null(strstr(text, "unfinished"));
    assert_non_null(strstr(text, "failed: the run ended before its first launch"));
    assert_non_null(strstr(text, "No cell gave a figure."));
    free(text);
    lab_run_free(run);
}

static void markdown_has_rows_of_equal_length_and_no_stray_bars(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_comparison(6);
    run->cells[6].launches[2].integrity.lost = 3;
    char *text = rendered(run, LAB_FORMAT_MD, (struct lab_render_style){.width = 0}), *rest = text, *line;
    size_t rows = 0, rules = 0;
    while ((line = strsep(&rest, "\n"))) {
        if (line[0] != '|')
            continue;
        assert_int_equal(count_of(line, "|"), 9);
        rows++;
        rules += strncmp(line, "|---", 4) == 0;
    }
    assert_int_equal(rules, 4);
    assert_int_equal(rows, 4 * 2 + 2 * 10 + 2 * 7);
    free(text);
    lab_run_free(run);
}

static void formats_have_names(void **state)
{
    (void)state;
    enum lab_format format;
    for (enum lab_format i = 0; i < LAB_FORMATS; i++) {
        lab_assert_ok(lab_format_named(lab_format_name(i), &format));
        assert_int_equal(format, i);
    }
    assert_null(lab_format_name(LAB_FORMATS));
    lab_assert_fails(lab_format_named("jsno", &format), EINVAL);
    assert_non_null(strstr(lab_error_last()->text, "did you mean 'json'?"));
}

static void a_full_device_is_an_error(void **state)
{
    (void)state;
    FILE *to = fopen("/dev/full", "w");
    if (!to)
        lab_test_skip("there is no /dev/full");
    struct lab_run *run = lab_synthetic_comparison(3);
    struct lab_render_style style = {.width = 0};
    for (enum lab_format format = 0; format < LAB_FORMATS; format++)
        lab_assert_fails(lab_render(run, format, to, &style), ENOSPC);
    fclose(to);
    lab_run_free(run);
}

/* ---- the lister ---- */

static struct lab_listing *mechanisms(void)
{
    static const struct lab_column columns[] = {
        {"name", "name", LAB_COLUMN_TEXT, NULL},
        {"longest_ns", "longest", LAB_COLUMN_NUMBER, lab_format_time},
        {"internal", NULL, LAB_COLUMN_NUMBER, NULL},
        {"here", "here", LAB_COLUMN_BOOL, NULL},
        {"waits", "waits", LAB_COLUMN_LIST, NULL},
        {"summary", "summary", LAB_COLUMN_TEXT, NULL},
    };
    struct lab_listing *listing = lab_listing_new(columns, 6);
    char name[] = "pipe"; /* texts are copied */
    lab_assert_ok(lab_listing_add(listing, (struct lab_field[]){{name, 0}, {NULL, 1500}, {NULL, 7}, {NULL, 1}, {"block,poll", 0},
                                           {"a byte stream through a kernel buffer, a length before each message", 0}}));
    name[0] = 'X';
    lab_assert_ok(lab_listing_add(listing, (struct lab_field[]){{"shm \"ring\"", 0}, {NULL, (double)NAN}, {NULL, 0.5}, {NULL, 0},
                                           {"", 0}, {NULL, 0}}));
    return listing;
}

static char *listed(enum lab_listing_format format, uint32_t width)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    struct lab_listing *listing = mechanisms();
    struct lab_render_style style = {.width = width};
    lab_assert_ok(lab_listing_print(listing, format, to, &style));
    lab_listing_free(listing);
    fclose(to);
    return text;
}

static void a_listing_is_aligned_and_its_last_column_wraps(void **state)
{
    (void)state;
    char *text = listed(LAB_LISTING_TABLE, 80);
    assert_string_equal(text,
                        "name        longest  here  waits        summary\n"
                        "pipe        1.50 us  yes   block, poll  a byte stream through a kernel buffer, a\n"
                        "                                        length before each message\n"
                        "shm \"ring\"        -  no    -            -\n");
    free(text);
}

static void a_listing_as_json_keeps_every_column(void **state)
{
    (void)state;
    char *text = listed(LAB_LISTING_JSON, 0);
    static const char *const parts[] = {"\"name\": \"pipe\"", "\"longest_ns\": 1500", "\"internal\": 7", "\"here\": true",
                                        "\"shm \\\"ring\\\"\"", "\"longest_ns\": null", "\"waits\": []", "\"summary\": null"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        assert_non_null(strstr(text, parts[i]));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_fits_the_width_it_is_given),
        cmocka_unit_test(without_utf8_and_colour_it_is_plain_ascii),
        cmocka_unit_test(a_row_shows_value_interval_ratio_wait_and_cpus),
        cmocka_unit_test(skipped_cells_are_counted_under_each_reason),
        cmocka_unit_test(what_is_not_ok_carries_a_letter_that_is_explained),
        cmocka_unit_test(options_that_tell_rows_apart_stand_in_their_labels),
        cmocka_unit_test(small_messages_are_counted_and_large_ones_weighed),
        cmocka_unit_test(the_floor_of_the_rig_comes_last),
        cmocka_unit_test(an_unfinished_and_an_empty_run_are_shown_as_such),
        cmocka_unit_test(markdown_has_rows_of_equal_length_and_no_stray_bars),
        cmocka_unit_test(formats_have_names),
        cmocka_unit_test(a_full_device_is_an_error),
        cmocka_unit_test(a_listing_is_aligned_and_its_last_column_wraps),
        cmocka_unit_test(a_listing_as_json_keeps_every_column),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
