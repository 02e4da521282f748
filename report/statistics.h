/* From launches to figures: what every renderer shows, and nothing that a sceptic could not recompute from the store.
 *
 * The launch is the unit of repetition. A launch gives one statistic (the median of its histogram, its messages/s); the
 * figure of a cell is the median of its launches with the 95 % order-statistic interval (Le Boudec, "Performance
 * Evaluation of Computer and Communication Systems", 2.2.2), which needs six launches. Quantiles beyond the median come
 * from the merged histogram and are given only where at least LAB_TAIL samples lie beyond them.
 *
 * Virtual cores move: a launch belongs to the proximity mode that its cache-line probes name, and the figures of a cell
 * are of its most common mode alone. Cells are compared within a mode.
 *
 *     struct lab_summary summary;
 *     if (lab_cell_summary(run, cell, &summary) == 0 && !isnan(summary.p50_ns.value)) ...
 *
 * Pure functions of the run; any thread. The only failure is -ENOMEM. */
#ifndef LAB_REPORT_STATISTICS_H
#define LAB_REPORT_STATISTICS_H

#include "report/result.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LAB_TAIL = 100,           /* samples beyond a quantile for it to be shown: n(1 - q) */
    LAB_INTERVAL_LAUNCHES = 6, /* fewer give no 95 % interval of a median: 1 - 2 * 0.5^5 = 0.9375 */
    LAB_STATES_WALL_MS = 100,  /* fractions of states need windows of this length */
};

/* NaN in `value`: not measured. NaN in `low` and `high`: no interval is claimed. */
struct lab_figure {
    double value, low, high;
};

/* Median and its interval; sorts `values`. */
struct lab_figure lab_median(double *values, size_t count);

/* Half the width of the interval, as a fraction of the value; NaN without an interval. */
double lab_figure_precision(struct lab_figure figure);

/* What a histogram can tell apart around a latency: 1 ns below 2048 ns, a thousandth above. No smaller difference is
 * claimed, and no more digits are shown. */
double lab_latency_resolution(double ns);

/* How near the two CPUs of a launch were, by the hand-off time of a cache line between them. */
enum lab_proximity { LAB_NEAR_UNKNOWN, LAB_NEAR_SIBLING, LAB_NEAR_SHARED_CACHE, LAB_NEAR_REMOTE, LAB_PROXIMITIES };
enum lab_proximity lab_proximity_of(double handoff_ns); /* NaN: unknown */
const char *lab_proximity_name(enum lab_proximity mode); /* "sibling", "shared-cache", "remote"; "unknown" */

enum { LAB_REASON_TEXT = 256 };

struct lab_summary {
    enum lab_verdict verdict;
    char reason[LAB_REASON_TEXT]; /* "" when ok; a sentence else */

    uint32_t launches;            /* made */
    uint32_t kept;                /* that the figures are of */
    uint32_t other_modes;         /* sound, but in another proximity mode */
    uint32_t set_aside;           /* transient, invalid or failed, while others were sound */
    uint32_t windows, windows_set_aside; /* of the kept launches */
    enum lab_proximity mode;
    double handoff_ns;            /* median of the kept launches; NaN: not probed */

    uint64_t samples;             /* in the merged histogram */
    bool batched;                 /* latencies are means of batches */
    struct lab_figure p50_ns;
    double p90_ns, p99_ns, p999_ns, max_ns, mean_ns; /* NaN: none, or too few samples */
    struct lab_figure messages_per_s, bytes_per_s;

    struct lab_integrity integrity; /* of all launches that did not fail */
    const char *proof;              /* of the sound launches, or of all where none is: lab_proof_name's; NULL: it was not looked at */
    uint64_t interface_bytes, payload_bytes;
    uint64_t buffer_requested_bytes, buffer_actual_bytes; /* 0: nothing was asked of the kernel */
    const char *carrier;            /* of the launch that told it last: which way the library took; NULL: unknown, or it has no choice */
    double cpu_ns_per_message, switches_per_message, faults_per_message; /* both sides together */
    double fiber_switches_per_message; /* NaN: no fibers */
    double ready_ns, first_message_ns; /* of starting, medians of the kept launches; NaN: unknown */
    double private_bytes;              /* of a party, the largest of the kept launches; NaN: unknown */
    /* Stages of a message in an envelope, medians of the kept launches; NaN: not measured. Transport is what the others leave of the way from one
     * end to the other, NaN also where they leave nothing: then enqueueing and transport go on at the same time. Wake: ready and not running. */
    double encode_ns, enqueue_ns, transport_ns, wake_ns, decode_ns;
    double running, ready, waiting; /* fractions of the parties' time; NaN: windows too short */
    double cpus;                    /* busy in the mean, over all parties; NaN: not measured */
};

int lab_cell_summary(const struct lab_run *run, const struct lab_cell *cell, struct lab_summary *ret_summary);

/* The statistic of each launch that the summary kept and that has it; the caller frees the array. -ENOMEM. */
enum lab_statistic { LAB_BY_LATENCY, LAB_BY_RATE }; /* median latency; messages per second */
int lab_cell_values(const struct lab_cell *cell, const struct lab_summary *of, enum lab_statistic statistic,
                    double **ret_values, size_t *ret_count);

/* Of every cell, in their order; the caller frees the array. NULL when out of memory. */
struct lab_summary *lab_run_summaries(const struct lab_run *run);

/* Writes the verdict and the reason of every cell, and the run's: failed when the run ended by failing or no cell has a
 * figure, noisy when the machine was, ok else. -ENOMEM. */
int lab_run_settle(struct lab_run *run);

/* The worst noise grade of the run, 'A' to 'C'; 0 when none was taken. */
char lab_run_grade(const struct lab_run *run);

/* ---- comparison ---- */

enum lab_difference {
    LAB_NOT_COMPARED,  /* see `why` */
    LAB_FASTER,        /* the interval excludes 1 and the difference exceeds 2 % */
    LAB_SLOWER,
    LAB_EQUAL,         /* shown to be within 2 % (two one-sided tests at 5 %) */
    LAB_NOT_SHOWN,     /* neither */
};
const char *lab_difference_name(enum lab_difference difference); /* "faster", "no difference shown", ... */

/* How many times as fast `cell` is as `baseline`: above 1 is faster, whatever the statistic. */
struct lab_ratio {
    enum lab_difference difference;
    struct lab_figure speed; /* ratio of medians with its 95 % BCa interval; NaN value when not compared */
    const char *why;         /* not compared: a sentence; NULL else */
};

/* The BCa bootstrap of the ratio of two medians, a over b (Efron & Tibshirani, "An Introduction to the Bootstrap", 14.3),
 * resampling each side by itself. With fewer than LAB_INTERVAL_LAUNCHES values on a side the interval spans all quotients
 * of the two, which is the exact one of Hodges & Lehmann for a shift of the logarithm, of confidence 1 - 2 / C(n+m, n);
 * no interval where that falls short of `confidence` (in (0, 1)). No value of an empty side or of one with a value that
 * is not above 0. The same input gives the same interval. -ENOMEM. */
int lab_ratio_of(const double *a, size_t a_count, const double *b, size_t b_count, double confidence,
                 struct lab_figure *ret_ratio);

/* Compares the launches that the two summaries kept; not across proximity modes, nor what has no figure. A transient side
 * gives a ratio and shows nothing. */
int lab_cell_ratio(const struct lab_cell *cell, const struct lab_summary *of, const struct lab_cell *baseline,
                   const struct lab_summary *baseline_of, enum lab_statistic statistic, struct lab_ratio *ret_ratio);

#endif
