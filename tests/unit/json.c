/* What programs read: JSON, JSON lines and CSV, against the published schema. */
#include "report/render.h"
#include "tests/check.h"
#include "tests/synthetic.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

static char *rendered(const struct lab_run *run, enum lab_format format)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    struct lab_render_style style = {.width = 0};
    lab_assert_ok(lab_render(run, format, to, &style));
    fclose(to);
    return text;
}

static json_t *parsed(const struct lab_run *run)
{
    char *text = rendered(run, LAB_FORMAT_JSON);
    json_error_t error;
    json_t *document = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!document)
        fail_msg("line %d: %s", error.line, error.text);
    free(text);
    return document;
}

static void assert_keys(json_t *object, const char *const *keys)
{
    assert_true(json_is_object(object));
    for (; *keys; keys++)
        if (!json_object_get(object, *keys))
            fail_msg("there is no \"%s\"", *keys);
}
#define ASSERT_KEYS(object, ...) assert_keys(object, (const char *const[]){__VA_ARGS__, NULL})

static json_t *at(json_t *document, const char *path)
{
    char copy[128], *rest = copy, *step;
    snprintf(copy, sizeof copy, "%s", path);
    while ((step = strsep(&rest, ".")))
        document = step[0] >= '0' && step[0] <= '9' ? json_array_get(document, (size_t)atoi(step)) : json_object_get(document, step);
    if (!document)
        fail_msg("there is no %s", path);
    return document;
}

static struct lab_run *three_cells(uint32_t launches)
{
    struct lab_run *run = lab_synthetic_run();
    lab_synthetic_launches(lab_synthetic_cell(run, "shm-ring", "spin", "pingpong", 64), launches, 60, 0.01, 1, 56);
    lab_synthetic_launches(lab_synthetic_cell(run, "pipe", "block", "stream", 64), launches, 26000, 0.01, 0.3, (double)NAN);
    struct lab_cell *skipped = lab_synthetic_cell(run, "pipe", "spin", "pingpong", 64);
    skipped->verdict = LAB_SKIPPED;
    skipped->reason = "pipe cannot wait by spin";
    return run;
}

static void the_document_has_every_published_name(void **state)
{
    (void)state;
    struct lab_run *run = three_cells(6);
    json_t *document = parsed(run);
    assert_string_equal(json_string_value(at(document, "schema")), "ipclab/result/1");
    ASSERT_KEYS(document, "schema", "run", "environment", "limits", "cells");
    ASSERT_KEYS(at(document, "run"), "id", "started_utc", "experiment", "question", "config_hash", "seed", "version", "verdict");
    ASSERT_KEYS(at(document, "environment"), "hosts", "libraries", "noise", "warnings");
    ASSERT_KEYS(at(document, "environment.hosts.0"), "name", "cpu", "cores", "kernel", "memory_bytes", "hypervisor");
    ASSERT_KEYS(at(document, "environment.noise.0"), "cpu", "grade", "lost_fraction", "max_ns");
    ASSERT_KEYS(at(document, "limits.0"), "name", "value", "unit");
    for (size_t i = 0; i < 3; i++) {
        json_t *cell = json_array_get(at(document, "cells"), i);
        ASSERT_KEYS(cell, "id", "transport", "options", "wait", "pattern", "topology", "workload", "size_bytes", "nodes", "workers",
                    "placement", "unit", "scope", "verdict", "reason", "launches", "samples", "latency_ns", "throughput",
                    "integrity", "cost", "startup", "stages", "states", "path");
        ASSERT_KEYS(at(cell, "startup"), "ready_ns", "first_message_ns", "private_bytes_per_worker");
        ASSERT_KEYS(at(cell, "throughput"), "messages_per_s", "bytes_per_s");
        ASSERT_KEYS(at(cell, "cost"), "syscalls_per_message", "context_switches_per_message", "page_faults_per_message",
                    "user_copies_per_message", "kernel_copies_per_message", "cpu_ns_per_message", "fiber_switches_per_message");
        ASSERT_KEYS(at(cell, "path"), "interface_bytes", "payload_bytes", "proof");
        ASSERT_KEYS(at(cell, "latency_ns"), "kind", "p50", "p90", "p99", "p999", "max", "mean");
        ASSERT_KEYS(at(cell, "latency_ns.p50"), "value", "ci95");
        ASSERT_KEYS(at(cell, "throughput.messages_per_s"), "value", "ci95");
        ASSERT_KEYS(at(cell, "throughput.bytes_per_s"), "value", "ci95");
        ASSERT_KEYS(at(cell, "integrity"), "sent", "received", "lost", "duplicated", "reordered", "corrupt");
        ASSERT_KEYS(at(cell, "stages"), "encode_ns", "enqueue_ns", "transport_ns", "wake_ns", "decode_ns");
        ASSERT_KEYS(at(cell, "states"), "running", "ready", "waiting");
    }
    assert_int_equal(json_integer_value(at(document, "cells.0.options.window")), 1);
    assert_string_equal(json_string_value(at(document, "environment.libraries.libzmq")), "4.3.4");
    assert_null(json_object_get(at(document, "cells.0.options"), "kernel_buffer")); /* a ring has none */
    assert_int_equal(json_integer_value(at(document, "cells.1.options.kernel_buffer.requested_bytes")), 1 << 21);
    assert_int_equal(json_integer_value(at(document, "cells.1.options.kernel_buffer.actual_bytes")), 1 << 20);
    assert_string_equal(json_string_value(at(document, "cells.0.path.proof")), "within-host");
    assert_int_equal(json_integer_value(at(document, "cells.0.path.interface_bytes")), 6 * 4200);
    assert_true(json_integer_value(at(document, "cells.0.path.payload_bytes")) > 0);
    json_decref(document);
    lab_run_free(run);
}

static void what_was_not_measured_is_null_and_never_zero(void **state)
{
    (void)state;
    struct lab_run *run = three_cells(6);
    run->question = NULL;
    json_t *document = parsed(run);
    static const char *const nulls[] = {
        "run.question", "run.failure", "limits.3.value", "cells.0.workload", "cells.0.reason", "cells.0.cost.syscalls_per_message",
        "cells.0.cost.user_copies_per_message", "cells.2.path.proof", "cells.2.path.interface_bytes", "cells.2.path.payload_bytes", "cells.1.latency_ns.kind", "cells.1.latency_ns.p50.value",
        "cells.1.latency_ns.p99", "cells.1.latency_ns.batched", "cells.1.proximity", "cells.2.latency_ns.p50.value",
        "cells.2.throughput.messages_per_s.value", "cells.2.throughput.messages_per_s.ci95", "cells.2.integrity.sent",
        "cells.2.integrity.lost", "cells.2.states.running", "cells.2.states.waiting",
        "cells.2.cost.cpu_ns_per_message", "cells.2.cost.fiber_switches_per_message", "cells.2.startup.ready_ns",
        "cells.2.startup.private_bytes_per_worker",
    };
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
        if (!json_is_null(at(document, nulls[i])))
            fail_msg("%s is not null", nulls[i]);
    assert_string_equal(json_string_value(at(document, "cells.2.verdict")), "skipped");
    assert_string_equal(json_string_value(at(document, "cells.2.reason")), "pipe cannot wait by spin");
    assert_int_equal(json_integer_value(at(document, "cells.0.integrity.lost")), 0); /* counted, and none */
    json_decref(document);
    lab_run_free(run);
}

static void a_plan_has_no_verdict_but_of_what_it_skips(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    lab_synthetic_cell(run, "shm-ring", "spin", "pingpong", 64);
    lab_synthetic_cell(run, "pipe", "spin", "pingpong", 64)->verdict = LAB_SKIPPED;
    run->planned = true;
    json_t *document = parsed(run);
    assert_true(json_is_null(at(document, "run.verdict")));
    assert_true(json_is_null(at(document, "cells.0.verdict")));
    assert_string_equal(json_string_value(at(document, "cells.1.verdict")), "skipped");
    assert_int_equal(json_integer_value(at(document, "cells.0.launches")), 0);
    json_decref(document);
    lab_run_free(run);
}

static void intervals_are_null_below_six_launches(void **state)
{
    (void)state;
    for (uint32_t launches = 5; launches <= 6; launches++) {
        struct lab_run *run = three_cells(launches);
        json_t *document = parsed(run);
        assert_int_equal(json_is_null(at(document, "cells.0.latency_ns.p50.ci95")), launches == 5);
        assert_int_equal(json_is_null(at(document, "cells.1.throughput.bytes_per_s.ci95")), launches == 5);
        if (launches == 6) {
            double low = json_number_value(at(document, "cells.0.latency_ns.p50.ci95.0"));
            double value = json_number_value(at(document, "cells.0.latency_ns.p50.value"));
            double high = json_number_value(at(document, "cells.0.latency_ns.p50.ci95.1"));
            assert_true(59 < low && low <= value && value <= high && high < 61);
        }
        /* 5 and 6 times 20,000 samples: 100 beyond p999 in the first already. */
        assert_true(json_is_number(at(document, "cells.0.latency_ns.p999")));
        json_decref(document);
        lab_run_free(run);
    }
    struct lab_run *run = three_cells(4);
    json_t *document = parsed(run);
    assert_true(json_is_null(at(document, "cells.0.latency_ns.p999")));
    assert_true(json_is_number(at(document, "cells.0.latency_ns.p99")));
    json_decref(document);
    lab_run_free(run);
}

static void text_from_outside_cannot_break_the_document(void **state)
{
    (void)state;
    struct lab_run *run = three_cells(3);
    run->experiment = "quotes \" and \\ and \n newlines";
    run->hosts[0].cpu = "not utf-8: \xff\xfe";
    run->cells[0].options = "not json";
    run->cells[2].options = "[1]";
    json_t *document = parsed(run);
    assert_string_equal(json_string_value(at(document, "run.experiment")), run->experiment);
    assert_string_equal(json_string_value(at(document, "environment.hosts.0.cpu")), "not utf-8: ??");
    assert_int_equal(json_object_size(at(document, "cells.0.options")), 0);
    assert_int_equal(json_object_size(at(document, "cells.2.options")), 0);
    json_decref(document);
    lab_run_free(run);
}

static void a_seed_is_never_rounded(void **state)
{
    (void)state;
    struct lab_run *run = three_cells(1);
    json_t *document = parsed(run);
    assert_string_equal(json_string_value(at(document, "run.seed")), "18364758544493064720");
    json_decref(document);
    run->seed = INT64_MAX;
    document = parsed(run);
    assert_true(json_integer_value(at(document, "run.seed")) == INT64_MAX);
    json_decref(document);
    lab_run_free(run);
}

static void json_lines_are_the_run_and_then_its_cells(void **state)
{
    (void)state;
    struct lab_run *run = three_cells(6);
    json_t *document = parsed(run);
    char *text = rendered(run, LAB_FORMAT_JSONL), *rest = text, *line;
    size_t lines = 0;
    while ((line = strsep(&rest, "\n")) && *line) {
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(object);
        assert_string_equal(json_string_value(at(object, "kind")), lines ? "cell" : "run");
        if (lines) {
            assert_string_equal(json_string_value(at(object, "run")), run->id);
            json_object_del(object, "kind");
            json_object_del(object, "run");
            assert_true(json_equal(object, json_array_get(at(document, "cells"), lines - 1)));
        } else {
            assert_true(json_equal(at(object, "environment"), at(document, "environment")));
        }
        json_decref(object);
        lines++;
    }
    assert_int_equal(lines, 1 + 3);
    free(text);
    json_decref(document);
    lab_run_free(run);
}

/* Splits a CSV text by RFC 4180 into fields; "\x1e" ends a record. The caller frees the copy behind `ret_fields[0]`. */
static size_t split_csv(const char *text, char **ret_fields, size_t room)
{
    char *to = malloc(2 * strlen(text) + 2), *field = to;
    size_t count = 0;
    bool quoted = false;
    ret_fields[0] = to;
    for (; *text; text++) {
        assert_true(count + 2 < room);
        if (quoted && text[0] == '"' && text[1] == '"')
            *to++ = *text++;
        else if (*text == '"')
            quoted = !quoted;
        else if (!quoted && (*text == ',' || (text[0] == '\r' && text[1] == '\n'))) {
            bool ends = *text == '\r';
            *to++ = '\0';
            ret_fields[count++] = field;
            field = to;
            if (ends) {
                text++;
                *to++ = '\x1e';
                *to++ = '\0';
                ret_fields[count++] = field;
                field = to;
            }
        } else
            *to++ = *text;
    }
    assert_false(quoted);
    return count;
}

static void csv_has_a_field_for_every_name_in_every_row(void **state)
{
    (void)state;
    struct lab_run *run = three_cells(6);
    run->cells[2].reason = "a \"quoted\" reason,\r\nwith a comma";
    char *text = rendered(run, LAB_FORMAT_CSV), *fields[1024] = {NULL};
    size_t count = split_csv(text, fields, 1024), columns = 0;
    while (columns < count && strcmp(fields[columns], "\x1e") != 0)
        columns++;
    assert_int_equal(count, 4 * (columns + 1));
    size_t reason = 0, p50 = 0, options = 0;
    for (size_t i = 0; i < columns; i++) {
        reason = strcmp(fields[i], "reason") == 0 ? i : reason;
        p50 = strcmp(fields[i], "latency_p50_ns") == 0 ? i : p50;
        options = strcmp(fields[i], "options") == 0 ? i : options;
    }
    for (size_t row = 0; row < 4; row++)
        assert_string_equal(fields[row * (columns + 1) + columns], "\x1e");
    assert_string_equal(fields[3 * (columns + 1) + reason], "a \"quoted\" reason,\r\nwith a comma");
    assert_string_equal(fields[(columns + 1) + options], "{\"window\":1}");
    assert_true(fabs(atof(fields[(columns + 1) + p50]) - 60) < 1);
    assert_string_equal(fields[2 * (columns + 1) + p50], ""); /* stream has no latency */
    free(fields[0]);
    free(text);
    lab_run_free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_document_has_every_published_name),
        cmocka_unit_test(what_was_not_measured_is_null_and_never_zero),
        cmocka_unit_test(a_plan_has_no_verdict_but_of_what_it_skips),
        cmocka_unit_test(intervals_are_null_below_six_launches),
        cmocka_unit_test(text_from_outside_cannot_break_the_document),
        cmocka_unit_test(a_seed_is_never_rounded),
        cmocka_unit_test(json_lines_are_the_run_and_then_its_cells),
        cmocka_unit_test(csv_has_a_field_for_every_name_in_every_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
