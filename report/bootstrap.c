/* The BCa bootstrap of a ratio of medians, and the comparison of two cells by it. */
#include "report/statistics.h"

#include "base/error.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 2000 };

/* A difference below this is not worth a claim, and two figures within it are equal (MEASURING, "Statistics"). */
static const double same_within = 1.02;

static const double nothing = (double)NAN;

static const char *const differences[] = {
    [LAB_NOT_COMPARED] = "not compared", [LAB_FASTER] = "faster", [LAB_SLOWER] = "slower",
    [LAB_EQUAL] = "equal within 2 %", [LAB_NOT_SHOWN] = "no difference shown",
};

const char *lab_difference_name(enum lab_difference difference)
{
    return (unsigned)difference < sizeof differences / sizeof *differences ? differences[difference] : NULL;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of_sorted(const double *sorted, size_t count)
{
    return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

/* The median of the sorted sample with element `gone` left out. */
static double median_without(const double *sorted, size_t count, size_t gone)
{
    size_t left = count - 1, high = left / 2, low = left % 2 ? high : high - 1;
    return (sorted[low + (low >= gone)] + sorted[high + (high >= gone)]) / 2;
}

/* SplitMix64 (Steele, Lea & Flood 2014): small, and the same everywhere. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* The median of `count` draws with replacement. Drawing positions of a sorted sample and counting them gives the sorted
 * resample without sorting it. */
static double resampled_median(const double *sorted, uint32_t count, uint32_t *times, uint64_t *random)
{
    memset(times, 0, count * sizeof *times);
    for (uint32_t i = 0; i < count; i++)
        times[(next_random(random) >> 32) * count >> 32]++;

    uint32_t high_rank = count / 2, low_rank = count % 2 ? high_rank : high_rank - 1, seen = 0, i = 0;
    while (seen + times[i] <= low_rank)
        seen += times[i++];
    double low = sorted[i];
    while (seen + times[i] <= high_rank)
        seen += times[i++];
    return (low + sorted[i]) / 2;
}

static double normal_cdf(double z)
{
    return erfc(-z / sqrt(2)) / 2;
}

/* Its inverse by bisection: three calls per interval are not worth a rational approximation. */
static double normal_quantile(double p)
{
    double low = -9, high = 9;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (normal_cdf(middle) < p)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

/* Skewness of the jackknife values of both samples: how the spread of the statistic changes with its value. */
static double acceleration(const double *a, size_t a_count, const double *b, size_t b_count)
{
    double a_median = median_of_sorted(a, a_count), b_median = median_of_sorted(b, b_count);
    double squares = 0, cubes = 0;
    for (int side = 0; side < 2; side++) {
        size_t count = side ? b_count : a_count;
        double mean = 0;
        for (int pass = 0; pass < 2; pass++) {
            for (size_t i = 0; i < count; i++) {
                double left_out = side ? a_median / median_without(b, b_count, i) : median_without(a, a_count, i) / b_median;
                double off = (mean - left_out) / (double)count;
                if (pass) {
                    squares += off * off;
                    cubes += off * off * off;
                }
                mean += pass ? 0 : left_out / (double)count;
            }
        }
    }
    return squares > 0 ? cubes / (6 * pow(squares, 1.5)) : 0;
}

static double percentile(const double *sorted, double p)
{
    double at = p * (RESAMPLES + 1) - 1;
    if (at <= 0)
        return sorted[0];
    if (at >= RESAMPLES - 1)
        return sorted[RESAMPLES - 1];
    size_t below = (size_t)at;
    return sorted[below] + (at - (double)below) * (sorted[below + 1] - sorted[below]);
}

static void bca_interval(const double *a, size_t a_count, const double *b, size_t b_count, double confidence,
                         double *replicates, struct lab_figure *figure)
{
    qsort(replicates, RESAMPLES, sizeof *replicates, ascending);
    double below = 0;
    for (size_t i = 0; i < RESAMPLES; i++)
        below += replicates[i] < figure->value ? 1 : replicates[i] > figure->value ? 0 : 0.5;
    double share = fmin(fmax(below, 0.5), RESAMPLES - 0.5) / RESAMPLES;

    double bias = normal_quantile(share), skew = acceleration(a, a_count, b, b_count);
    for (int end = 0; end < 2; end++) {
        double z = bias + normal_quantile(end ? (1 + confidence) / 2 : (1 - confidence) / 2);
        double at = percentile(replicates, normal_cdf(bias + z / (1 - skew * z)));
        *(end ? &figure->high : &figure->low) = at;
    }
}

/* C(a + b, a): the orders in which two samples can lie, equally likely when they are of one kind. */
static double orders(size_t a, size_t b)
{
    double product = 1;
    for (size_t i = 1; i <= a; i++)
        product *= (double)(b + i) / (double)i;
    return product;
}

int lab_ratio_of(const double *a, size_t a_count, const double *b, size_t b_count, double confidence,
                 struct lab_figure *ret_ratio)
{
    struct lab_figure figure = {nothing, nothing, nothing};
    if (!a_count || !b_count) {
        *ret_ratio = figure;
        return 0;
    }
    double *values = calloc(a_count + b_count + RESAMPLES, sizeof *values);
    uint32_t *times = calloc(a_count > b_count ? a_count : b_count, sizeof *times);
    if (!values || !times) {
        free(values);
        free(times);
        return lab_fail(ENOMEM, "cannot compare %zu launches with %zu", a_count, b_count);
    }
    double *sorted_a = values, *sorted_b = values + a_count, *replicates = sorted_b + b_count;
    memcpy(sorted_a, a, a_count * sizeof *a);
    memcpy(sorted_b, b, b_count * sizeof *b);
    qsort(sorted_a, a_count, sizeof *a, ascending);
    qsort(sorted_b, b_count, sizeof *b, ascending);

    if (sorted_a[0] > 0 && sorted_b[0] > 0)
        figure.value = median_of_sorted(sorted_a, a_count) / median_of_sorted(sorted_b, b_count);
    bool few = a_count < LAB_INTERVAL_LAUNCHES || b_count < LAB_INTERVAL_LAUNCHES;
    if (!isnan(figure.value) && few && 1 - 2 / orders(a_count, b_count) >= confidence) {
        figure.low = sorted_a[0] / sorted_b[b_count - 1];
        figure.high = sorted_a[a_count - 1] / sorted_b[0];
    } else if (!isnan(figure.value) && !few) {
        uint64_t random = 1;
        for (size_t i = 0; i < RESAMPLES; i++) {
            double of_a = resampled_median(sorted_a, (uint32_t)a_count, times, &random);
            replicates[i] = of_a / resampled_median(sorted_b, (uint32_t)b_count, times, &random);
        }
        bca_interval(sorted_a, a_count, sorted_b, b_count, confidence, replicates, &figure);
    }
    *ret_ratio = figure;
    free(values);
    free(times);
    return 0;
}

static int judge(const double *a, size_t a_count, const double *b, size_t b_count, struct lab_ratio *ret_ratio)
{
    struct lab_ratio ratio = {.difference = LAB_NOT_SHOWN};
    int err = lab_ratio_of(a, a_count, b, b_count, 0.95, &ratio.speed);
    if (err)
        return err;
    if (ratio.speed.low > 1 && ratio.speed.value > same_within) {
        ratio.difference = LAB_FASTER;
    } else if (ratio.speed.high < 1 && ratio.speed.value < 1 / same_within) {
        ratio.difference = LAB_SLOWER;
    } else {
        /* Two one-sided tests at 5 % are a 90 % interval that lies within the bounds. */
        struct lab_figure both = {nothing, nothing, nothing};
        err = lab_ratio_of(a, a_count, b, b_count, 0.90, &both);
        if (err)
            return err;
        if (both.low > 1 / same_within && both.high < same_within)
            ratio.difference = LAB_EQUAL;
    }
    *ret_ratio = ratio;
    return 0;
}

static const char *why_not_compared(const struct lab_summary *of, const struct lab_summary *baseline_of,
                                    enum lab_statistic statistic)
{
    double value = statistic == LAB_BY_LATENCY ? of->p50_ns.value : of->messages_per_s.value;
    double base = statistic == LAB_BY_LATENCY ? baseline_of->p50_ns.value : baseline_of->messages_per_s.value;
    if (isnan(value))
        return "it has no figure";
    if (isnan(base))
        return "the baseline has no figure";
    if (of->mode != baseline_of->mode && of->mode != LAB_NEAR_UNKNOWN && baseline_of->mode != LAB_NEAR_UNKNOWN)
        return "its CPUs were not as near to each other as the baseline's";
    return NULL;
}

int lab_cell_ratio(const struct lab_cell *cell, const struct lab_summary *of, const struct lab_cell *baseline,
                   const struct lab_summary *baseline_of, enum lab_statistic statistic, struct lab_ratio *ret_ratio)
{
    const char *why = why_not_compared(of, baseline_of, statistic);
    if (why) {
        *ret_ratio = (struct lab_ratio){LAB_NOT_COMPARED, {nothing, nothing, nothing}, why};
        return 0;
    }
    double *values, *base_values;
    size_t count, base_count;
    int err = lab_cell_values(cell, of, statistic, &values, &count);
    if (err)
        return err;
    err = lab_cell_values(baseline, baseline_of, statistic, &base_values, &base_count);
    if (!err) {
        /* A latency is better when smaller: the quotient is turned, so that above 1 is always faster. */
        err = statistic == LAB_BY_LATENCY ? judge(base_values, base_count, values, count, ret_ratio)
                                          : judge(values, count, base_values, base_count, ret_ratio);
        free(base_values);
        double apart = fabs(of->p50_ns.value - baseline_of->p50_ns.value);
        bool claimed = !err && (ret_ratio->difference == LAB_FASTER || ret_ratio->difference == LAB_SLOWER);
        if (claimed && statistic == LAB_BY_LATENCY && apart < lab_latency_resolution(of->p50_ns.value))
            ret_ratio->difference = LAB_NOT_SHOWN;
        /* What never became steady would give another figure a moment later. */
        if (!err && (of->verdict == LAB_TRANSIENT || baseline_of->verdict == LAB_TRANSIENT))
            ret_ratio->difference = LAB_NOT_SHOWN;
    }
    free(values);
    return err;
}
