/* Reading experiments: what a file means, whichever way it is written, and that nothing in it can do harm. The sentences for what
 * is wrong stand in tests/plan/bad.sh. */
#include "base/clock.h"
#include "launcher/axis.h"
#include "launcher/experiment.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A file in memory: thousands of them are read. */
static char path[32];
static int memory = -1;

static void write_file(const char *text, size_t size)
{
    assert_int_equal(ftruncate(memory, 0), 0);
    assert_int_equal(pwrite(memory, text, size, 0), size);
}

static int read_text_with(const char *text, const struct lab_override *overrides, size_t count, struct lab_experiment **ret)
{
    write_file(text, strlen(text));
    return lab_experiment_read(path, overrides, count, ret);
}

static struct lab_experiment *experiment_of(const char *text)
{
    struct lab_experiment *experiment;
    lab_assert_ok(read_text_with(text, NULL, 0, &experiment));
    return experiment;
}

static const char contract[] =
    "experiment: is-shm-always-faster\n"
    "question: When does a pipe beat a spinning ring?\n"
    "baseline: {transport: pipe}\n"
    "nodes: 1\nworkers: 2\ntopology: pair\npattern: pingpong\n"
    "matrix:\n"
    "  transport: [shm-ring, pipe, unix-seqpacket, zmq-ipc, mpi]\n"
    "  wait: [spin, futex, block]\n"
    "  size: [64, 4KiB, 1MiB]\n"
    "  placement: [same-core, other-core]\n"
    "exclude: [{transport: shm-ring, wait: spin, placement: same-core, size: 1MiB}]\n"
    "launches: 12\nbudget: 90s\nseed: 7\n"
    "expect: [\"p50(shm-ring) < p50(pipe)\"]\n";

static void the_example_of_the_contract_is_read_as_it_stands(void **state)
{
    (void)state;
    struct lab_experiment *experiment = experiment_of(contract);
    assert_string_equal(experiment->name, "is-shm-always-faster");
    assert_string_equal(experiment->question, "When does a pipe beat a spinning ring?");
    assert_int_equal(experiment->block_count, 1);
    const struct lab_values *axis = experiment->blocks[0].axis;
    assert_int_equal(axis[LAB_AXIS_TRANSPORT].count, 5);
    assert_int_equal(axis[LAB_AXIS_SIZE].count, 3);
    assert_int_equal(axis[LAB_AXIS_SIZE].items[1].number, 4096);
    assert_int_equal(axis[LAB_AXIS_SIZE].items[1].mark.line, 11);
    assert_int_equal(axis[LAB_AXIS_SIZE].items[1].mark.column, 14);
    assert_int_equal(axis[LAB_AXIS_WORKERS].items[0].number, 2);
    assert_true(experiment->has_baseline);
    assert_string_equal(experiment->baseline.wanted[LAB_AXIS_TRANSPORT].items[0].text, "pipe");
    assert_int_equal(experiment->exclude_count, 1);
    assert_int_equal(experiment->excludes[0].wanted[LAB_AXIS_SIZE].items[0].number, 1 << 20);
    assert_int_equal(experiment->launches, 12);
    assert_int_equal(experiment->budget_ns, 90 * LAB_NS_PER_S);
    assert_int_equal(experiment->seed, 7);
    assert_int_equal(experiment->expect_count, 1);
    assert_string_equal(experiment->expects[0], "p50(shm-ring) < p50(pipe)");
    lab_experiment_free(experiment);
}

static void what_is_left_out_has_its_default(void **state)
{
    (void)state;
    struct lab_experiment *experiment = experiment_of("transport: pipe\n");
    assert_non_null(strstr(path, experiment->name));
    assert_null(experiment->question);
    assert_int_equal(experiment->launches, 10);
    assert_int_equal(experiment->budget_ns, 60 * LAB_NS_PER_S);
    assert_int_equal(experiment->seed, 1);
    assert_int_equal(experiment->hosts.count, 0);
    assert_false(experiment->lab);
    assert_int_equal(experiment->blocks[0].axis[LAB_AXIS_SIZE].count, 0);
    lab_experiment_free(experiment);
}

static void the_name_null_is_a_transport_and_not_nothing(void **state)
{
    (void)state;
    struct lab_experiment *experiment = experiment_of("transport: [null, pipe]\n");
    assert_string_equal(experiment->blocks[0].axis[LAB_AXIS_TRANSPORT].items[0].text, "null");
    lab_experiment_free(experiment);
}

static void a_range_of_sizes_is_its_sizes(void **state)
{
    (void)state;
    struct lab_experiment *experiment = experiment_of("transport: pipe\nsize: [8..1MiB*16, 24]\n");
    static const uint64_t sizes[] = {8, 128, 2048, 32768, 524288, 24};
    const struct lab_values *found = &experiment->blocks[0].axis[LAB_AXIS_SIZE];
    assert_int_equal(found->count, sizeof sizes / sizeof *sizes);
    for (size_t i = 0; i < found->count; i++)
        assert_int_equal(found->items[i].number, sizes[i]);
    lab_experiment_free(experiment);
}

static void a_block_takes_from_the_top_what_it_does_not_say_itself(void **state)
{
    (void)state;
    struct lab_experiment *experiment = experiment_of("transport: [pipe, mpi]\nsize: 64\nmatrix: {wait: block}\n"
                                                      "cells:\n  - {size: 128}\n  - {transport: shm-ring, wait: spin}\n");
    assert_int_equal(experiment->block_count, 2);
    const struct lab_values *first = experiment->blocks[0].axis, *second = experiment->blocks[1].axis;
    assert_int_equal(first[LAB_AXIS_TRANSPORT].count, 2);
    assert_int_equal(first[LAB_AXIS_SIZE].items[0].number, 128);
    assert_string_equal(first[LAB_AXIS_WAIT].items[0].text, "block");
    assert_int_equal(second[LAB_AXIS_TRANSPORT].count, 1);
    assert_int_equal(second[LAB_AXIS_SIZE].items[0].number, 64);
    assert_string_equal(second[LAB_AXIS_WAIT].items[0].text, "spin");
    lab_experiment_free(experiment);
}

static void an_alias_is_what_its_anchor_is(void **state)
{
    (void)state;
    struct lab_experiment *experiment = experiment_of("transport: pipe\ncells:\n  - size: &s [64, 128]\n  - {size: *s, batch: 1}\n");
    assert_int_equal(experiment->blocks[1].axis[LAB_AXIS_SIZE].count, 2);
    assert_int_equal(experiment->blocks[1].axis[LAB_AXIS_SIZE].items[1].number, 128);
    lab_experiment_free(experiment);
}

static void the_normalised_text_read_again_gives_itself(void **state)
{
    (void)state;
    static const char *const texts[] = {
        contract,
        "transport: pipe\n",
        "transport: [null, pipe]\nquestion: \"a \\\"quoted\\\" \\\\ one: with # signs\\n and a line\"\nhosts: [a, \"b:2\", 10.0.0.3]\n",
        "transport: pipe\nlab: true\nrate: [10k/s, 1M/s]\narrivals: poisson\ninput: \"some file, with: signs.txt\"\n"
        "size: 8..1GiB\ncells: [{}, {batch: 4, window: [8, 16]}]\nexpect: [a < b, \"- c\"]\nbudget: 1500ms\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct lab_experiment *first = experiment_of(texts[i]);
        struct lab_experiment *second = experiment_of(first->text);
        assert_string_equal(first->text, second->text);
        assert_string_equal(first->hash, second->hash);
        assert_int_equal(strlen(first->hash), LAB_HASH_TEXT - 1);
        lab_experiment_free(first);
        lab_experiment_free(second);
    }
}

static void two_spellings_of_one_experiment_have_one_hash(void **state)
{
    (void)state;
    struct lab_experiment *first = experiment_of("experiment: e\ntransport: pipe\nmatrix:\n  size: [1KiB, 64]\nbudget: 1min\n");
    struct lab_experiment *second = experiment_of("# other words\nbudget: 60s\ncells:\n- size: [1024, 64B]\n  transport: [pipe]\n"
                                                  "experiment: \"e\"\nlaunches: 10\n");
    struct lab_experiment *other = experiment_of("experiment: e\ntransport: pipe\nmatrix:\n  size: [1KiB, 65]\nbudget: 1min\n");
    assert_string_equal(first->hash, second->hash);
    assert_string_not_equal(first->hash, other->hash);
    lab_experiment_free(first);
    lab_experiment_free(second);
    lab_experiment_free(other);
}

static void an_override_of_an_axis_holds_in_every_block(void **state)
{
    (void)state;
    static const struct lab_override overrides[] = {
        {"size", "32, 16", "--size"}, {"matrix.wait", "[spin]", "--set matrix.wait"}, {"launches", "3", "--launches"},
        {"baseline.transport", "mpi", "--set baseline.transport"}, {"question", "a, b", "--set question"},
    };
    struct lab_experiment *experiment;
    lab_assert_ok(read_text_with("transport: [pipe, mpi]\nsize: 64\nbaseline: {transport: pipe, size: 64}\n"
                                 "cells:\n  - {size: 128, wait: block}\n  - {}\n",
                                 overrides, sizeof overrides / sizeof *overrides, &experiment));
    for (size_t i = 0; i < 2; i++) {
        const struct lab_values *axis = experiment->blocks[i].axis;
        assert_int_equal(axis[LAB_AXIS_SIZE].count, 2);
        assert_int_equal(axis[LAB_AXIS_SIZE].items[0].number, 32);
        assert_int_equal(axis[LAB_AXIS_SIZE].items[1].number, 16);
        assert_int_equal(axis[LAB_AXIS_WAIT].count, 1);
        assert_string_equal(axis[LAB_AXIS_WAIT].items[0].text, "spin");
    }
    assert_int_equal(experiment->launches, 3);
    assert_string_equal(experiment->question, "a, b");
    assert_string_equal(experiment->baseline.wanted[LAB_AXIS_TRANSPORT].items[0].text, "mpi");
    assert_int_equal(experiment->baseline.wanted[LAB_AXIS_SIZE].items[0].number, 64);
    lab_experiment_free(experiment);
}

static void the_last_of_two_overrides_counts(void **state)
{
    (void)state;
    static const struct lab_override overrides[] = {{"size", "32", "--size"}, {"size", "16", "--size"}, {"seed", "4", "--seed"},
                                                    {"seed", "5", "--seed"}};
    struct lab_experiment *experiment;
    lab_assert_ok(read_text_with("transport: pipe\n", overrides, sizeof overrides / sizeof *overrides, &experiment));
    assert_int_equal(experiment->blocks[0].axis[LAB_AXIS_SIZE].items[0].number, 16);
    assert_int_equal(experiment->seed, 5);
    lab_experiment_free(experiment);
}

static void a_wrong_value_is_refused_even_where_an_override_takes_its_place(void **state)
{
    (void)state;
    static const struct lab_override override = {"size", "32", "--size"};
    struct lab_experiment *experiment;
    lab_assert_fails(read_text_with("transport: pipe\nsize: 64KB5\n", &override, 1, &experiment), EINVAL);
    assert_non_null(strstr(lab_error_last()->text, ":2:7: '64KB5'"));
}

static void the_hosts_of_a_hosts_file_are_those_of_the_experiment(void **state)
{
    (void)state;
    char hosts[] = "/tmp/ipclab-hosts-XXXXXX";
    int fd = mkstemp(hosts);
    assert_true(fd >= 0);
    static const char lines[] = "# two of them\n10.0.0.1\n\n10.0.0.2:4   # the larger one\n";
    assert_int_equal(write(fd, lines, sizeof lines - 1), sizeof lines - 1);
    close(fd);
    const struct lab_override override = {"hosts_file", hosts, "--hosts"};
    struct lab_experiment *experiment;
    int err = read_text_with("transport: mpi\n", &override, 1, &experiment);
    unlink(hosts);
    lab_assert_ok(err);
    assert_int_equal(experiment->hosts.count, 2);
    assert_string_equal(experiment->hosts.items[0].text, "10.0.0.1");
    assert_string_equal(experiment->hosts.items[1].text, "10.0.0.2:4");
    assert_non_null(strstr(experiment->text, "10.0.0.2:4"));
    lab_experiment_free(experiment);
}

static void every_axis_has_a_name_that_names_it(void **state)
{
    (void)state;
    for (enum lab_axis axis = 0; axis < LAB_AXES; axis++) {
        enum lab_axis found;
        assert_non_null(lab_axis_name(axis));
        assert_true(lab_axis_named(lab_axis_name(axis), &found));
        assert_int_equal(found, axis);
    }
    assert_null(lab_axis_name(LAB_AXES));
}

/* Bytes of the example are changed, removed and doubled. Whatever comes out is an experiment whose text can be read again, or is
 * refused with a sentence that begins with the file; the sanitizers of the asan build watch. */
static void no_damage_to_a_file_does_damage_here(void **state)
{
    (void)state;
    static const char pieces[] = "[]{}:,&*!|>'\"%@`#-?\n\t \\0aZ~<\x80\xff\x01";
    enum { ROUNDS = 4000 };
    uint64_t random = 88172645463325252u;
    size_t accepted = 0;
    for (int round = 0; round < ROUNDS; round++) {
        char text[2 * sizeof contract];
        size_t size = sizeof contract - 1;
        memcpy(text, contract, size);
        for (int edit = 0; edit <= round % 4; edit++) {
            random ^= random << 13; /* xorshift64 (Marsaglia) */
            random ^= random >> 7;
            random ^= random << 17;
            size_t at = random % size, length = random >> 20 & 15, action = random >> 60;
            if (at + length > size)
                length = size - at;
            if (action < 8) {
                text[at] = pieces[(random >> 32) % (sizeof pieces - 1)];
            } else if (action < 12) {
                memmove(text + at, text + at + length, size - at - length);
                size -= length;
            } else if (size + length < sizeof text) {
                memmove(text + at + length, text + at, size - at);
                size += length;
            }
        }
        write_file(text, size);
        struct lab_experiment *experiment;
        int err = lab_experiment_read(path, NULL, 0, &experiment);
        if (err) {
            assert_int_equal(err, -EINVAL);
            assert_memory_equal(lab_error_last()->text, path, strlen(path));
            continue;
        }
        accepted++;
        struct lab_experiment *again = experiment_of(experiment->text);
        assert_string_equal(again->text, experiment->text);
        lab_experiment_free(again);
        lab_experiment_free(experiment);
    }
    assert_in_range(accepted, 1, ROUNDS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_the_contract_is_read_as_it_stands),
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(the_name_null_is_a_transport_and_not_nothing),
        cmocka_unit_test(a_range_of_sizes_is_its_sizes),
        cmocka_unit_test(a_block_takes_from_the_top_what_it_does_not_say_itself),
        cmocka_unit_test(an_alias_is_what_its_anchor_is),
        cmocka_unit_test(the_normalised_text_read_again_gives_itself),
        cmocka_unit_test(two_spellings_of_one_experiment_have_one_hash),
        cmocka_unit_test(an_override_of_an_axis_holds_in_every_block),
        cmocka_unit_test(the_last_of_two_overrides_counts),
        cmocka_unit_test(a_wrong_value_is_refused_even_where_an_override_takes_its_place),
        cmocka_unit_test(the_hosts_of_a_hosts_file_are_those_of_the_experiment),
        cmocka_unit_test(every_axis_has_a_name_that_names_it),
        cmocka_unit_test(no_damage_to_a_file_does_damage_here),
    };
    memory = memfd_create("experiment", MFD_CLOEXEC);
    if (memory < 0)
        return 1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
