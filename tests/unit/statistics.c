/* From launches to figures: intervals, modes, verdicts, comparisons, against truths that are known. */
#include "report/statistics.h"
#include "tests/check.h"
#include "tests/synthetic.h"

#include <errno.h>

static void assert_near(double a, double b, double tolerance)
{
    if (!(fabs(a - b) <= tolerance))
        fail_msg("%.9g is not within %g of %.9g", a, tolerance, b);
}

static struct lab_summary summary_of(const struct lab_run *run, uint32_t cell)
{
    struct lab_summary summary;
    lab_assert_ok(lab_cell_summary(run, &run->cells[cell], &summary));
    return summary;
}

/* ---- medians ---- */

static void the_interval_of_a_median_is_that_of_the_binomial_tables(void **state)
{
    (void)state;
    /* Ranks for 95 % of David & Nagaraja, "Order Statistics": n, lower rank (the upper one is n + 1 - it). */
    static const struct { size_t n, rank; } known[] = {{6, 1}, {8, 1}, {9, 2}, {10, 2}, {12, 3}, {20, 6}, {30, 10}, {40, 14}, {100, 40}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        double values[100];
        for (size_t j = 0; j < known[i].n; j++)
            values[j] = (double)(known[i].n - j); /* descending: it has to sort */
        struct lab_figure figure = lab_median(values, known[i].n);
        assert_near(figure.value, ((double)known[i].n + 1) / 2, 1e-12);
        assert_near(figure.low, (double)known[i].rank, 1e-12);
        assert_near(figure.high, (double)(known[i].n + 1 - known[i].rank), 1e-12);
    }
}

static void five_launches_have_a_median_and_no_interval(void **state)
{
    (void)state;
    double values[] = {5, 1, 4, 2, 3};
    struct lab_figure figure = lab_median(values, 5);
    assert_near(figure.value, 3, 0);
    assert_true(isnan(figure.low) && isnan(figure.high));
    assert_true(isnan(lab_figure_precision(figure)));
    assert_true(isnan(lab_median(values, 0).value));
}

static void thousands_of_launches_do_not_underflow(void **state)
{
    (void)state;
    enum { MANY = 5000 };
    double *values = calloc(MANY, sizeof *values);
    for (size_t i = 0; i < MANY; i++)
        values[i] = (double)(i + 1);
    struct lab_figure figure = lab_median(values, MANY);
    /* The normal approximation: n/2 - 0.98 sqrt(n). */
    assert_near(figure.low, MANY / 2.0 - 0.98 * sqrt(MANY), 2);
    free(values);
}

/* ---- summaries ---- */

static void a_figure_is_the_median_over_launches_and_tails_come_from_all_samples(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    struct lab_cell *cell = lab_synthetic_cell(run, "shm-ring", "spin", "pingpong", 64);
    static const double medians[] = {1000, 1100, 5000, 1050, 1020, 1080, 1060};
    for (size_t i = 0; i < 7; i++)
        lab_synthetic_launch(cell, medians[i], 1, 56);
    struct lab_summary s = summary_of(run, 0);
    assert_int_equal(s.verdict, LAB_OK);
    assert_int_equal(s.kept, 7);
    assert_near(s.p50_ns.value, 1060, 10);
    assert_near(s.p50_ns.low, 1000, 10);
    assert_near(s.p50_ns.high, 5000, 50);
    assert_int_equal(s.samples, 7 * 20000);
    assert_true(s.p90_ns > 4000); /* the slow launch is a seventh of all samples: no outlier is removed */
    assert_near(s.messages_per_s.value, 1e9 / 1060, 1);
    assert_near(s.cpus, 2, 1e-9);
    assert_near(s.running, 1, 1e-9);
    assert_near(s.cpu_ns_per_message, 400e6 / 20000, 1e-6);
    assert_near(s.faults_per_message, 7.0 / 20000, 1e-12);
    lab_run_free(run);
}

static void a_quantile_needs_a_hundred_samples_beyond_it(void **state)
{
    (void)state;
    static const struct { uint64_t samples; bool p90, p99, p999; } cases[] = {
        {999, false, false, false}, {1000, true, false, false}, {9999, true, false, false},
        {10000, true, true, false}, {99999, true, true, false}, {100000, true, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lab_run *run = lab_synthetic_run();
        struct lab_launch *launch = lab_cell_add_launch(lab_synthetic_cell(run, "pipe", "block", "pingpong", 8));
        launch->latency = lab_hist_new();
        lab_hist_record_n(launch->latency, 500, cases[i].samples);
        struct lab_summary s = summary_of(run, 0);
        assert_near(s.p50_ns.value, 500, 0);
        assert_int_equal(!isnan(s.p90_ns), cases[i].p90);
        assert_int_equal(!isnan(s.p99_ns), cases[i].p99);
        assert_int_equal(!isnan(s.p999_ns), cases[i].p999);
        assert_near(s.max_ns, 500, 0);
        lab_run_free(run);
    }
}

static void a_median_is_finer_than_the_buckets_it_is_taken_from(void **state)
{
    (void)state;
    /* Three quarters of the samples in 50 ns, the rest in 51 ns: the grouped median lies two thirds into the bucket. */
    struct lab_run *run = lab_synthetic_run();
    struct lab_launch *launch = lab_cell_add_launch(lab_synthetic_cell(run, "shm-ring", "spin", "pingpong", 8));
    launch->latency = lab_hist_new();
    lab_hist_record_n(launch->latency, 50, 7500);
    lab_hist_record_n(launch->latency, 51, 2500);
    assert_near(summary_of(run, 0).p50_ns.value, 50 + 1.0 / 6, 1e-9);
    lab_run_free(run);
}

static void hand_off_times_name_the_mode(void **state)
{
    (void)state;
    assert_int_equal(lab_proximity_of(27), LAB_NEAR_SIBLING);
    assert_int_equal(lab_proximity_of(60), LAB_NEAR_SHARED_CACHE);
    assert_int_equal(lab_proximity_of(139.9), LAB_NEAR_SHARED_CACHE);
    assert_int_equal(lab_proximity_of(285), LAB_NEAR_REMOTE);
    assert_int_equal(lab_proximity_of((double)NAN), LAB_NEAR_UNKNOWN);
}

static void only_the_most_common_mode_gives_the_figures(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    struct lab_cell *cell = lab_synthetic_cell(run, "shm-ring", "spin", "pingpong", 64);
    lab_synthetic_launches(cell, 4, 60, 0, 1, 56);
    lab_synthetic_launches(cell, 3, 280, 0, 1, 285);
    struct lab_summary s = summary_of(run, 0);
    assert_int_equal(s.mode, LAB_NEAR_SHARED_CACHE);
    assert_int_equal(s.kept, 4);
    assert_int_equal(s.other_modes, 3);
    assert_near(s.p50_ns.value, 60, 1);
    assert_near(s.handoff_ns, 56, 0);
    lab_synthetic_launches(cell, 1, 280, 0, 1, 285); /* a tie: the nearer one, whichever came first */
    assert_int_equal(summary_of(run, 0).mode, LAB_NEAR_SHARED_CACHE);
    lab_synthetic_launches(cell, 1, 280, 0, 1, 285);
    s = summary_of(run, 0);
    assert_int_equal(s.mode, LAB_NEAR_REMOTE);
    assert_near(s.p50_ns.value, 280, 3);
    lab_run_free(run);
}

/* ---- verdicts ---- */

static void one_lost_message_makes_a_cell_invalid_and_gives_no_figure(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    struct lab_cell *cell = lab_synthetic_cell(run, "pipe", "block", "pingpong", 64);
    lab_synthetic_launches(cell, 10, 26000, 0.01, 0.3, 56);
    for (int kind = 0; kind < 4; kind++) {
        uint64_t *counts[] = {&cell->launches[4].integrity.lost, &cell->launches[4].integrity.duplicated,
                              &cell->launches[4].integrity.reordered, &cell->launches[4].integrity.corrupt};
        static const char *const words[] = {"1 lost", "1 duplicated", "1 out of order", "1 corrupt"};
        *counts[kind] = 1;
        struct lab_summary s = summary_of(run, 0);
        assert_int_equal(s.verdict, LAB_INVALID);
        assert_non_null(strstr(s.reason, words[kind]));
        assert_true(isnan(s.p50_ns.value) && isnan(s.messages_per_s.value) && isnan(s.cpu_ns_per_message));
        *counts[kind] = 0;
    }
    assert_int_equal(summary_of(run, 0).verdict, LAB_OK);
    cell->launches[4].integrity.lost = 1;
    cell->options = "{\"delivery\":\"best-effort\"}";
    assert_int_equal(summary_of(run, 0).verdict, LAB_OK);
    cell->launches[4].integrity.corrupt = 1;
    assert_int_equal(summary_of(run, 0).verdict, LAB_INVALID);
    lab_run_free(run);
}

static void transport_is_what_the_other_stages_leave_of_the_way(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    struct lab_cell *cell = lab_synthetic_cell(run, "zmq-tcp", "block", "pingpong", 64);
    lab_synthetic_launches(cell, 6, 30000, 0, 0.3, 56);
    struct lab_summary s = summary_of(run, 0);
    assert_true(isnan(s.encode_ns) && isnan(s.enqueue_ns) && isnan(s.transport_ns) && isnan(s.wake_ns) && isnan(s.decode_ns));
    for (uint32_t i = 0; i < 6; i++) {
        struct lab_launch *launch = &cell->launches[i];
        launch->encode_ns = 30 + i;
        launch->enqueue_ns = 1000;
        launch->decode_ns = 12;
        launch->one_way_ns = 20000;
        launch->run_delay_ns = 2000 * launch->messages;
    }
    s = summary_of(run, 0);
    assert_near(s.encode_ns, 32.5, 1e-9);
    assert_near(s.wake_ns, 2000, 1e-9);
    assert_near(s.transport_ns, 20000 - 32.5 - 1000 - 2000, 1e-9);
    assert_near(s.decode_ns, 12, 1e-9);
    for (uint32_t i = 0; i < 6; i++)
        cell->launches[i].enqueue_ns = 19000; /* the library sends while it is still being handed the message */
    s = summary_of(run, 0);
    assert_true(isnan(s.transport_ns));
    assert_near(s.enqueue_ns, 19000, 0);
    lab_run_free(run);
}

static void launches_that_are_not_sound_are_left_out_while_others_are(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    struct lab_cell *cell = lab_synthetic_cell(run, "pipe", "block", "pingpong", 64);
    lab_synthetic_launches(cell, 6, 26000, 0, 0.3, 56);
    for (uint32_t i = 0; i < 3; i++) {
        static const enum lab_verdict verdicts[] = {LAB_TRANSIENT, LAB_INVALID, LAB_FAILED};
        struct lab_launch *odd = lab_synthetic_launch(cell, 90000, 0.3, 56);
        odd->verdict = verdicts[i];
        odd->reason = "odd";
        odd->proof = lab_proof_name(LAB_PROOF_REFUTED);
    }
    cell->launches[8].integrity.lost = 5; /* it failed: its messages were under way */
    struct lab_summary s = summary_of(run, 0);
    assert_int_equal(s.verdict, LAB_OK);
    assert_int_equal(s.kept, 6);
    assert_int_equal(s.set_aside, 3);
    assert_near(s.p50_ns.value, 26000, 30);
    assert_string_equal(s.proof, lab_proof_name(LAB_PROOF_HOST));
    assert_int_equal(s.interface_bytes, 6 * 4200);
    for (uint32_t i = 0; i < 7; i++)
        cell->launches[i].verdict = LAB_INVALID;
    s = summary_of(run, 0);
    assert_string_equal(s.proof, lab_proof_name(LAB_PROOF_REFUTED));
    assert_int_equal(s.interface_bytes, 8 * 4200); /* of one that failed nothing counts */
    for (uint32_t i = 0; i < 7; i++)
        cell->launches[i].verdict = LAB_TRANSIENT;
    assert_int_equal(summary_of(run, 0).verdict, LAB_FAILED);
    cell->launches[8].verdict = LAB_TRANSIENT;
    cell->launches[8].integrity.lost = 0;
    s = summary_of(run, 0);
    assert_int_equal(s.verdict, LAB_TRANSIENT);
    assert_int_equal(s.kept, 8);
    lab_run_free(run);
}

static void a_noisy_machine_makes_noisy_cells(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    lab_synthetic_launches(lab_synthetic_cell(run, "pipe", "block", "pingpong", 64), 6, 26000, 0, 0.3, 56);
    assert_int_equal(lab_run_grade(run), 'B');
    assert_int_equal(summary_of(run, 0).verdict, LAB_OK);
    *lab_run_add_noise(run) = (struct lab_noise){1, "C", 0.07, 4200000};
    struct lab_summary s = summary_of(run, 0);
    assert_int_equal(s.verdict, LAB_NOISY);
    assert_non_null(strstr(s.reason, "cpu 1 lost 7 %"));
    assert_near(s.p50_ns.value, 26000, 30);
    lab_assert_ok(lab_run_settle(run));
    assert_int_equal(run->verdict, LAB_NOISY);
    assert_int_equal(run->cells[0].verdict, LAB_NOISY);
    lab_run_free(run);
}

static void cells_without_launches_are_skipped_or_failed_with_a_reason(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    lab_synthetic_cell(run, "pipe", "block", "pingpong", 64);
    struct lab_cell *cell = lab_synthetic_cell(run, "pipe", "spin", "pingpong", 64);
    cell->verdict = LAB_SKIPPED;
    cell->reason = "pipe cannot wait by spin";
    for (int again = 0; again < 2; again++) {
        lab_assert_ok(lab_run_settle(run));
        assert_int_equal(run->verdict, LAB_FAILED);
        assert_int_equal(run->cells[0].verdict, LAB_FAILED);
        assert_non_null(run->cells[0].reason);
        assert_int_equal(run->cells[1].verdict, LAB_SKIPPED);
        assert_string_equal(run->cells[1].reason, "pipe cannot wait by spin");
    }
    lab_run_free(run);
}

static void states_need_a_tenth_of_a_second(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    struct lab_launch *launch = lab_synthetic_launch(lab_synthetic_cell(run, "pipe", "block", "stream", 64), 26000, 0.3, 56);
    launch->wall_ns = 99999999;
    launch->cpu_ns = 33333333;
    assert_true(isnan(summary_of(run, 0).running));
    assert_near(summary_of(run, 0).cpus, 2.0 / 3, 1e-6); /* CPU clocks are exact at any length */
    launch->wall_ns = 100000000;
    launch->cpu_ns = 30000000;
    launch->run_delay_ns = 10000000;
    struct lab_summary s = summary_of(run, 0);
    assert_near(s.running, 0.3, 1e-9);
    assert_near(s.ready, 0.1, 1e-9);
    assert_near(s.waiting, 0.6, 1e-9);
    assert_near(s.cpus, 0.6, 1e-9);
    lab_run_free(run);
}

/* ---- comparisons ---- */

static void a_ratio_is_that_of_the_medians_within_its_interval(void **state)
{
    (void)state;
    double a[20], b[20];
    for (size_t i = 0; i < 20; i++) {
        a[i] = 200 * (1 + 0.02 * lab_synthetic_noise(i));
        b[i] = 100 * (1 + 0.02 * lab_synthetic_noise(100 + i));
    }
    struct lab_figure ratio, again, wider;
    lab_assert_ok(lab_ratio_of(a, 20, b, 20, 0.95, &ratio));
    lab_assert_ok(lab_ratio_of(a, 20, b, 20, 0.95, &again));
    lab_assert_ok(lab_ratio_of(a, 20, b, 20, 0.99, &wider));
    assert_near(ratio.value, 2, 0.03);
    assert_true(ratio.low <= ratio.value && ratio.value <= ratio.high);
    assert_true(ratio.low > 1.94 && ratio.high < 2.06);
    assert_memory_equal(&ratio, &again, sizeof ratio);
    assert_true(wider.low <= ratio.low && wider.high >= ratio.high);
    assert_near(a[0], 200 * (1 + 0.02 * lab_synthetic_noise(0)), 0); /* the input is not sorted under the caller */
}

static void few_launches_have_the_exact_interval_or_none(void **state)
{
    (void)state;
    const double a[] = {20, 22, 21, 23}, b[] = {10, 10.5, 11, 10.2};
    struct lab_figure ratio;
    lab_assert_ok(lab_ratio_of(a, 4, b, 4, 0.95, &ratio)); /* 1 - 2/70 = 0.971 */
    assert_near(ratio.low, 20.0 / 11, 1e-12);
    assert_near(ratio.high, 23.0 / 10, 1e-12);
    lab_assert_ok(lab_ratio_of(a, 4, b, 4, 0.98, &ratio));
    assert_true(isnan(ratio.low) && isnan(ratio.high));
    lab_assert_ok(lab_ratio_of(a, 3, b, 4, 0.95, &ratio)); /* 1 - 2/35 = 0.943 */
    assert_near(ratio.value, 21 / 10.35, 1e-12);
    assert_true(isnan(ratio.low));
    lab_assert_ok(lab_ratio_of(a, 0, b, 4, 0.95, &ratio));
    assert_true(isnan(ratio.value));
    const double zero[] = {0, 1, 2};
    lab_assert_ok(lab_ratio_of(a, 3, zero, 3, 0.95, &ratio));
    assert_true(isnan(ratio.value));
}

/* Of intervals for samples of one kind about 95 % must hold 1; the bootstrap of a median of ten falls a little short. */
static void the_interval_of_a_ratio_covers_the_truth_as_often_as_it_says(void **state)
{
    (void)state;
    enum { TRIALS = 400 };
    static const size_t sizes[] = {4, 10, 20};
    for (size_t k = 0; k < 3; k++) {
        int holds = 0;
        for (uint64_t trial = 0; trial < TRIALS; trial++) {
            double a[20], b[20];
            for (size_t i = 0; i < sizes[k]; i++) {
                /* Skewed, as latencies are: the exponential of a sum of three uniforms. */
                double sum_a = 0, sum_b = 0;
                for (uint64_t j = 0; j < 3; j++) {
                    sum_a += lab_synthetic_noise(((trial * 20 + i) * 3 + j) * 2);
                    sum_b += lab_synthetic_noise(((trial * 20 + i) * 3 + j) * 2 + 1);
                }
                a[i] = exp(0.1 * sum_a);
                b[i] = exp(0.1 * sum_b);
            }
            struct lab_figure ratio;
            lab_assert_ok(lab_ratio_of(a, sizes[k], b, sizes[k], 0.95, &ratio));
            holds += ratio.low <= 1 && ratio.high >= 1;
        }
        print_message("%zu launches: %.1f %% of intervals hold the truth\n", sizes[k], 100.0 * holds / TRIALS);
        assert_true(holds >= TRIALS * 91 / 100 && holds < TRIALS);
    }
}

static struct lab_ratio ratio_of_cells(const struct lab_run *run, enum lab_statistic by)
{
    struct lab_summary a = summary_of(run, 0), b = summary_of(run, 1);
    struct lab_ratio ratio;
    lab_assert_ok(lab_cell_ratio(&run->cells[0], &a, &run->cells[1], &b, by, &ratio));
    return ratio;
}

static struct lab_run *two_cells(double a_ns, double b_ns, double spread, double a_handoff_ns, uint32_t launches)
{
    struct lab_run *run = lab_synthetic_run();
    lab_synthetic_launches(lab_synthetic_cell(run, "shm-ring", "spin", "pingpong", 64), launches, a_ns, spread, 1, a_handoff_ns);
    lab_synthetic_launches(lab_synthetic_cell(run, "mpi", "spin", "pingpong", 64), launches, b_ns, spread, 1, 56);
    return run;
}

static void a_difference_is_claimed_only_when_it_is_shown_and_matters(void **state)
{
    (void)state;
    static const struct { double a, b, spread; uint32_t launches; enum lab_difference wanted; } cases[] = {
        {5000, 10000, 0.02, 10, LAB_FASTER},    {10000, 5000, 0.02, 10, LAB_SLOWER}, {5000, 10000, 0.02, 4, LAB_FASTER},
        {5000, 10000, 0.02, 3, LAB_NOT_SHOWN},  {10000, 10000, 0.001, 20, LAB_EQUAL}, {10000, 10100, 0.001, 20, LAB_EQUAL},
        {10000, 10000, 0.2, 10, LAB_NOT_SHOWN}, {10000, 10400, 0.2, 10, LAB_NOT_SHOWN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lab_run *run = two_cells(cases[i].a, cases[i].b, cases[i].spread, 56, cases[i].launches);
        assert_int_equal(ratio_of_cells(run, LAB_BY_LATENCY).difference, cases[i].wanted);
        assert_int_equal(ratio_of_cells(run, LAB_BY_RATE).difference, cases[i].wanted);
        lab_run_free(run);
    }
    struct lab_run *run = two_cells(5000, 10000, 0.01, 56, 10);
    assert_near(ratio_of_cells(run, LAB_BY_LATENCY).speed.value, 2, 0.03);
    assert_near(ratio_of_cells(run, LAB_BY_RATE).speed.value, 2, 0.03);
    lab_run_free(run);
}

static void less_than_a_nanosecond_is_never_a_difference(void **state)
{
    (void)state;
    struct lab_run *run = lab_synthetic_run();
    for (uint32_t cell = 0; cell < 2; cell++) {
        lab_synthetic_cell(run, cell ? "mpi" : "shm-ring", "spin", "pingpong", 8);
        for (uint32_t i = 0; i < 10; i++) {
            struct lab_launch *launch = lab_cell_add_launch(&run->cells[cell]);
            launch->handoff_ns = 27;
            launch->latency = lab_hist_new();
            lab_hist_record_n(launch->latency, 20, 1000);
            lab_hist_record_n(launch->latency, 21, cell ? 1900 : 100);
        }
    }
    struct lab_ratio ratio = ratio_of_cells(run, LAB_BY_LATENCY);
    assert_true(ratio.speed.low > 1.02); /* the medians of buckets are 20.05 and 20.74: 3 %, and yet not told apart */
    assert_int_equal(ratio.difference, LAB_NOT_SHOWN);
    lab_run_free(run);
}

static void a_transient_side_shows_nothing(void **state)
{
    (void)state;
    struct lab_run *run = two_cells(5000, 10000, 0.01, 56, 10);
    for (uint32_t i = 0; i < 10; i++)
        run->cells[1].launches[i].verdict = LAB_TRANSIENT;
    struct lab_ratio ratio = ratio_of_cells(run, LAB_BY_LATENCY);
    assert_int_equal(ratio.difference, LAB_NOT_SHOWN);
    assert_near(ratio.speed.value, 2, 0.03);
    lab_run_free(run);
}

static void cells_in_different_modes_are_not_compared(void **state)
{
    (void)state;
    struct lab_run *run = two_cells(280, 148, 0.01, 285, 10);
    struct lab_ratio ratio = ratio_of_cells(run, LAB_BY_LATENCY);
    assert_int_equal(ratio.difference, LAB_NOT_COMPARED);
    assert_true(isnan(ratio.speed.value));
    assert_non_null(ratio.why);
    lab_run_free(run);
    run = two_cells(55, 148, 0.01, (double)NAN, 10);
    assert_int_equal(ratio_of_cells(run, LAB_BY_LATENCY).difference, LAB_FASTER);
    run->cells[1].launches[0].integrity.lost = 1;
    ratio = ratio_of_cells(run, LAB_BY_LATENCY);
    assert_int_equal(ratio.difference, LAB_NOT_COMPARED);
    assert_string_equal(ratio.why, "the baseline has no figure");
    lab_run_free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_interval_of_a_median_is_that_of_the_binomial_tables),
        cmocka_unit_test(five_launches_have_a_median_and_no_interval),
        cmocka_unit_test(thousands_of_launches_do_not_underflow),
        cmocka_unit_test(a_figure_is_the_median_over_launches_and_tails_come_from_all_samples),
        cmocka_unit_test(a_quantile_needs_a_hundred_samples_beyond_it),
        cmocka_unit_test(a_median_is_finer_than_the_buckets_it_is_taken_from),
        cmocka_unit_test(hand_off_times_name_the_mode),
        cmocka_unit_test(only_the_most_common_mode_gives_the_figures),
        cmocka_unit_test(one_lost_message_makes_a_cell_invalid_and_gives_no_figure),
        cmocka_unit_test(transport_is_what_the_other_stages_leave_of_the_way),
        cmocka_unit_test(launches_that_are_not_sound_are_left_out_while_others_are),
        cmocka_unit_test(a_noisy_machine_makes_noisy_cells),
        cmocka_unit_test(cells_without_launches_are_skipped_or_failed_with_a_reason),
        cmocka_unit_test(states_need_a_tenth_of_a_second),
        cmocka_unit_test(a_ratio_is_that_of_the_medians_within_its_interval),
        cmocka_unit_test(few_launches_have_the_exact_interval_or_none),
        cmocka_unit_test(the_interval_of_a_ratio_covers_the_truth_as_often_as_it_says),
        cmocka_unit_test(a_difference_is_claimed_only_when_it_is_shown_and_matters),
        cmocka_unit_test(less_than_a_nanosecond_is_never_a_difference),
        cmocka_unit_test(a_transient_side_shows_nothing),
        cmocka_unit_test(cells_in_different_modes_are_not_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
