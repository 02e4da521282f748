/* The closing words say what the figures carry, and stay silent where they carry nothing. */
#include "report/render.h"
#include "tests/check.h"
#include "tests/synthetic.h"

#include <math.h>
#include <string.h>

/* The words of a run: what a table ends with, on one line. The caller frees them. (Inlined, gcc 12 takes the memory that the stream made for
 * the variable that points to it, and warns of a dangling pointer.) */
__attribute__((noinline)) static char *words_of(const struct lab_run *run)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    struct lab_render_style style = {.width = UINT32_MAX};
    lab_assert_ok(lab_render(run, LAB_FORMAT_TABLE, to, &style));
    fclose(to);
    return text;
}

static void assert_said(const struct lab_run *run, const char *words, bool wanted)
{
    char *text = words_of(run);
    if ((strstr(text, words) != NULL) != wanted)
        fail_msg("%s: '%s' in:\n%s", wanted ? "not said" : "said", words, text);
    free(text);
}

static struct lab_cell *add(struct lab_run *run, const char *transport, const char *wait, uint64_t size, double ns, double spread,
                            uint32_t launches)
{
    struct lab_cell *cell = lab_synthetic_cell(run, transport, wait, "pingpong", size);
    cell->baseline = strcmp(transport, "pipe") == 0;
    lab_synthetic_launches(cell, launches, ns, spread, strcmp(wait, "spin") == 0 ? 1 : 0.3, 56);
    return cell;
}

static void the_fastest_is_named_with_both_figures_and_the_interval(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    add(run, "shm-ring", "spin", 8, 5000, 0, 10);
    add(run, "pipe", "block", 8, 20000, 0, 10);
    assert_said(run, "at 8 B shm-ring (spin) is the fastest with 5.00 us, 4.00 [4.00, 4.00] times as fast as pipe (block) with "
                "20.0 us.", true);
    assert_said(run, "That speed is paid for with CPU time: shm-ring (spin) keeps 2.0 CPUs busy, pipe (block) with 20.0 us, the "
                "fastest that sleeps, 0.6", true);
    assert_said(run, "Handing over one cache line between the same CPUs took 56.0 ns", true);
    lab_run_free(run);
}

static void nothing_is_called_fastest_when_intervals_overlap(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    add(run, "shm-ring", "spin", 8, 10000, 0.2, 10);
    add(run, "mpi", "spin", 8, 10100, 0.2, 10);
    assert_said(run, "is the fastest with", false);
    assert_said(run, "times as fast as", false);
    assert_said(run, "with no difference shown between them", true);
    lab_run_free(run);
    run = lab_synthetic_run();
    add(run, "shm-ring", "spin", 8, 10000, 0.001, 20);
    add(run, "mpi", "spin", 8, 10000, 0.001, 20);
    assert_said(run, "have the best medians, equal within 2 %", true);
    lab_run_free(run);
}

static void three_launches_carry_no_claim(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    add(run, "shm-ring", "spin", 8, 60, 0.01, 3);
    add(run, "pipe", "block", 8, 20000, 0.01, 3);
    assert_said(run, "is the fastest with", false);
    assert_said(run, " times as fast as pipe", false);
    assert_said(run, "shm-ring (spin) with 60 ns has the best median; the baseline is pipe (block) with", true);
    assert_said(run, "No cell has the 6 launches that an interval takes", true);
    assert_said(run, "from too few launches for a claim", false); /* it has been said of all */
    add(run, "shm-ring", "spin", 64, 60, 0.01, 6);
    assert_said(run, "with 60 ns has the best median, from too few launches for a claim;", true);
    assert_said(run, "No cell has the 6 launches", false);
    assert_said(run, "2 cells have fewer than 6 launches", true);
    lab_run_free(run);
}

static void a_crossover_is_told_with_the_sizes_on_both_sides_of_it(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    static const uint64_t sizes[] = {8, 1024, 65536};
    static const double ring[] = {5000, 10000, 90000}, pipe[] = {20000, 20000, 30000};
    for (size_t i = 0; i < 3; i++) {
        add(run, "shm-ring", "spin", sizes[i], ring[i], 0.01, 10);
        add(run, "pipe", "block", sizes[i], pipe[i], 0.01, 10);
    }
    assert_said(run, "pipe (block) overtakes shm-ring (spin) between 1 KiB (", true);
    assert_said(run, ") and 64 KiB (", true);
    lab_run_free(run);
    run = lab_synthetic_run(); /* faster, slower, faster: no size from which on it is so */
    static const double back_and_forth[] = {5000, 90000, 5000};
    for (size_t i = 0; i < 3; i++) {
        add(run, "shm-ring", "spin", sizes[i], back_and_forth[i], 0.01, 10);
        add(run, "pipe", "block", sizes[i], pipe[i], 0.01, 10);
    }
    assert_said(run, "overtakes", false);
    lab_run_free(run);
}

static void the_distance_between_nodes_is_told_when_both_were_measured(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    add(run, "shm-ring", "spin", 64, 5000, 0.01, 10);
    add(run, "mpi", "spin", 64, 10000, 0.01, 10);
    assert_said(run, "Leaving the node", false);
    for (int i = 0; i < 2; i++) {
        struct lab_cell *cell = lab_synthetic_cell(run, i ? "zmq-tcp" : "mpi", i ? "block" : "spin", "pingpong", 64);
        cell->nodes = 2;
        cell->workers = 1;
        cell->remote = true;
        lab_synthetic_launches(cell, 10, i ? 90000 : 50000, 0.01, 1, (double)NAN);
    }
    assert_said(run, "Leaving the node costs: in pingpong at 64 B the best within one node, shm-ring (spin) with 4.99 us, is ", true);
    assert_said(run, " as fast as the best between 2 nodes of 1 worker on different hosts, mpi (spin) with 50.0 us.", true);
    lab_run_free(run);
}

static void the_distances_of_all_patterns_and_settings_are_one_sentence(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    for (uint32_t setting = 0; setting < 3; setting++) { /* the patterns in turn, as files name them */
        for (uint32_t pattern = 0; pattern < 2; pattern++) {
            struct lab_cell *cell = lab_synthetic_cell(run, "shm-ring", "spin", pattern ? "stream" : "pingpong", 64);
            cell->nodes = setting ? 2 : 1;
            cell->workers = setting ? setting - 1 : 2;
            if (setting == 2)
                cell->options = "{\"window\":1,\"batch\":1,\"link\":\"zmq-tcp\"}";
            lab_synthetic_launches(cell, 10, 5000 * (1 + 9.0 * setting), 0, 1, 56);
        }
    }
    char *text = words_of(run);
    const char *sentence = strstr(text, "Leaving the node costs: in pingpong at 64 B the best within one node, shm-ring (spin) with 5.00 us, "
                                        "is 10.0 [10.0, 10.0] times as fast as the best between 2 nodes, shm-ring (spin) with 50.0 us "
                                        "and 19.0 [19.0, 19.0] times as fast as the best between 2 nodes of 1 worker, shm-ring via "
                                        "zmq-tcp (spin) with 95.0 us; in stream at 64 B the best within one node, shm-ring (spin) with");
    if (!sentence)
        fail_msg("%s", text);
    assert_null(strstr(sentence + 1, "Leaving"));
    assert_non_null(strstr(text, "\nstream, 1 node of 2 workers"));
    free(text);
    lab_run_free(run);
}

static void what_went_wrong_is_counted_and_what_did_not_is_not(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    add(run, "shm-ring", "spin", 8, 5000, 0.01, 6);
    add(run, "pipe", "block", 8, 20000, 0.01, 6);
    assert_said(run, "were skipped", false);
    assert_said(run, "the reasons stand above", false);
    run->cells[1].launches[0].integrity.reordered = 2;
    struct lab_cell *cell = lab_synthetic_cell(run, "pipe", "spin", "pingpong", 8);
    cell->verdict = LAB_SKIPPED;
    cell->reason = "pipe cannot wait by spin";
    lab_synthetic_cell(run, "mpi", "spin", "pingpong", 8);
    assert_said(run, "Of 4 cells 1 was skipped, 1 is invalid, 1 failed; the reasons stand above.", true);
    lab_run_free(run);
}

static void what_ended_the_run_is_said(void **state)
{
    (void)state;
    static const struct { const char *by, *words; } cases[] = {
        {"budget", "The budget ended the run."}, {"precision", "because its intervals were narrow enough"},
        {"launches", "when every cell had its launches"}, {"interrupted", "The run was interrupted"}, {NULL, "cut short"},
    };
    struct lab_run *run = lab_synthetic_run();
    add(run, "shm-ring", "spin", 8, 5000, 0.05, 10);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run->ended_by = cases[i].by;
        for (size_t j = 0; j < sizeof cases / sizeof *cases; j++)
            assert_said(run, cases[j].words, i == j);
    }
    assert_said(run, "The widest interval is ", true);
    run->ended_by = "interrupted";
    run->failure = "interrupted by SIGINT";
    assert_said(run, "The run was interrupted by SIGINT: what it had measured", true);
    assert_said(run, "failed", false);
    run->ended_by = NULL;
    run->failure = "a node was lost";
    assert_said(run, "The run failed: a node was lost.", true);
    lab_run_free(run);
}

static void a_noisy_machine_takes_the_claim_back(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    add(run, "shm-ring", "spin", 8, 5000, 0, 10);
    add(run, "pipe", "block", 8, 20000, 0, 10);
    assert_said(run, "noisy (grade C)", false);
    *lab_run_add_noise(run) = (struct lab_noise){0, "C", 0.05, 9000000};
    assert_said(run, "The machine was noisy (grade C)", true);
    assert_said(run, "Noisy: cpu 0 lost 5 % of its time to others", true);
    lab_run_free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fastest_is_named_with_both_figures_and_the_interval),
        cmocka_unit_test(nothing_is_called_fastest_when_intervals_overlap),
        cmocka_unit_test(three_launches_carry_no_claim),
        cmocka_unit_test(a_crossover_is_told_with_the_sizes_on_both_sides_of_it),
        cmocka_unit_test(the_distance_between_nodes_is_told_when_both_were_measured),
        cmocka_unit_test(the_distances_of_all_patterns_and_settings_are_one_sentence),
        cmocka_unit_test(what_went_wrong_is_counted_and_what_did_not_is_not),
        cmocka_unit_test(what_ended_the_run_is_said),
        cmocka_unit_test(a_noisy_machine_takes_the_claim_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
