#include "report/statistics.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "report/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double nothing = (double)NAN;
#define NO_FIGURE ((struct lab_figure){nothing, nothing, nothing})

/* ---- the median of launches ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The largest k for which [x(k), x(n+1-k)] holds the median with at least 95 %: P(Bin(n, 1/2) < k) <= 0.025 on each side;
 * 0 when there is none. Terms are taken as logarithms, so that many launches do not underflow. */
static size_t interval_rank(size_t count)
{
    double log_term = -(double)count * log(2), below = 0;
    size_t rank = 0;
    while (rank < count) {
        below += exp(log_term);
        if (below > 0.025)
            break;
        rank++;
        log_term += log((double)(count - rank + 1) / (double)rank);
    }
    return rank;
}

struct lab_figure lab_median(double *values, size_t count)
{
    if (!count)
        return NO_FIGURE;
    qsort(values, count, sizeof *values, ascending);
    struct lab_figure figure = NO_FIGURE;
    figure.value = (values[(count - 1) / 2] + values[count / 2]) / 2;
    size_t rank = interval_rank(count);
    if (rank) {
        figure.low = values[rank - 1];
        figure.high = values[count - rank];
    }
    return figure;
}

double lab_figure_precision(struct lab_figure figure)
{
    return (figure.high - figure.low) / 2 / figure.value;
}

/* ---- proximity ---- */

/* Hand-off times come in clusters that lie apart by factors: 24-30 ns between two threads of one core, 55-68 ns between
 * cores that share a cache, 270-300 ns where they do not (measured on Zen 5; other machines differ less than the clusters
 * do). The bounds are the geometric means of the gaps' edges, sqrt(30 * 55) and sqrt(68 * 270), rounded. */
static const double sibling_below_ns = 40, shared_cache_below_ns = 140;

enum lab_proximity lab_proximity_of(double handoff_ns)
{
    if (isnan(handoff_ns))
        return LAB_NEAR_UNKNOWN;
    return handoff_ns < sibling_below_ns        ? LAB_NEAR_SIBLING
           : handoff_ns < shared_cache_below_ns ? LAB_NEAR_SHARED_CACHE
                                                : LAB_NEAR_REMOTE;
}

const char *lab_proximity_name(enum lab_proximity mode)
{
    static const char *const names[LAB_PROXIMITIES] = {"unknown", "sibling", "shared-cache", "remote"};
    return (unsigned)mode < LAB_PROXIMITIES ? names[mode] : NULL;
}

/* ---- which launches count ---- */

/* Sound launches are those that are ok; where there is none, the transient ones, so that a cell that never becomes steady
 * still shows what was seen. Invalid and failed launches never give a figure. */
static enum lab_verdict sound_verdict(const struct lab_cell *cell)
{
    for (uint32_t i = 0; i < cell->launch_count; i++)
        if (cell->launches[i].verdict == LAB_OK)
            return LAB_OK;
    return LAB_TRANSIENT;
}

static bool kept(const struct lab_launch *launch, enum lab_verdict sound, enum lab_proximity mode)
{
    return launch->verdict == sound && lab_proximity_of(launch->handoff_ns) == mode;
}

/* The mode of most sound launches; of two with as many, the nearer, which is the faster. */
static enum lab_proximity common_mode(const struct lab_cell *cell, enum lab_verdict sound)
{
    uint32_t times[LAB_PROXIMITIES] = {0};
    for (uint32_t i = 0; i < cell->launch_count; i++)
        if (cell->launches[i].verdict == sound)
            times[lab_proximity_of(cell->launches[i].handoff_ns)]++;
    enum lab_proximity best = LAB_NEAR_UNKNOWN;
    for (enum lab_proximity mode = LAB_NEAR_SIBLING; mode < LAB_PROXIMITIES; mode++)
        if (times[mode] > times[best] || (best == LAB_NEAR_UNKNOWN && times[mode] && times[mode] == times[best]))
            best = mode;
    return best;
}

/* The median of grouped data: interpolated within its bucket, since values around 50 ns in buckets of 1 ns would else jump
 * by 2 % from one launch to the next. */
static double interpolated_median(const struct lab_hist *hist)
{
    double rank = (double)hist->count / 2, below = 0;
    for (uint32_t i = 0; i < LAB_HIST_BUCKETS; i++) {
        double within = (double)hist->bucket[i];
        if (below + within < rank || within <= 0) {
            below += within;
            continue;
        }
        uint64_t low, high;
        lab_hist_bounds(i, &low, &high);
        double value = (double)low - 0.5 + (double)(high - low + 1) * (rank - below) / within;
        return fmin(fmax(value, (double)hist->least), (double)hist->most);
    }
    return nothing;
}

double lab_latency_resolution(double ns)
{
    uint64_t low, high;
    lab_hist_bounds(lab_hist_index((uint64_t)ns), &low, &high);
    return (double)(high - low + 1);
}

static double statistic_of(const struct lab_launch *launch, enum lab_statistic statistic)
{
    if (statistic == LAB_BY_RATE)
        return launch->messages_per_s;
    return launch->latency ? interpolated_median(launch->latency) : nothing;
}

int lab_cell_values(const struct lab_cell *cell, const struct lab_summary *of, enum lab_statistic statistic,
                    double **ret_values, size_t *ret_count)
{
    double *values = calloc(cell->launch_count + 1, sizeof *values);
    if (!values)
        return lab_fail(ENOMEM, "the figures of %u launches", cell->launch_count);
    enum lab_verdict sound = sound_verdict(cell);
    size_t count = 0;
    for (uint32_t i = 0; of->kept && i < cell->launch_count; i++) {
        double value = statistic_of(&cell->launches[i], statistic);
        if (kept(&cell->launches[i], sound, of->mode) && !isnan(value))
            values[count++] = value;
    }
    *ret_values = values;
    *ret_count = count;
    return 0;
}

/* ---- verdict ---- */

/* Best-effort delivery may lose, repeat and reorder; nothing may corrupt. */
static bool broken(const struct lab_cell *cell, const struct lab_integrity *integrity)
{
    char delivery[LAB_OPTION_TEXT];
    if (lab_option_text(cell->options, "delivery", delivery) && strcmp(delivery, "best-effort") == 0)
        return integrity->corrupt;
    return integrity->lost || integrity->duplicated || integrity->reordered || integrity->corrupt;
}

static void say_broken(const struct lab_integrity *integrity, char to[LAB_REASON_TEXT])
{
    const struct { const char *name; uint64_t count; } kinds[] = {
        {"lost", integrity->lost}, {"duplicated", integrity->duplicated},
        {"out of order", integrity->reordered}, {"corrupt", integrity->corrupt},
    };
    int used = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].count)
            used += snprintf(to + used, LAB_REASON_TEXT - (size_t)used, "%s%llu %s", used ? ", " : "",
                             (unsigned long long)kinds[i].count, kinds[i].name);
    snprintf(to + used, LAB_REASON_TEXT - (size_t)used, " of %llu messages sent", (unsigned long long)integrity->sent);
}

char lab_run_grade(const struct lab_run *run)
{
    char worst = 0;
    for (uint32_t i = 0; i < run->noise_count; i++)
        if (run->noises[i].grade && run->noises[i].grade[0] > worst)
            worst = run->noises[i].grade[0];
    return worst;
}

static const struct lab_noise *worst_noise(const struct lab_run *run)
{
    const struct lab_noise *worst = NULL;
    for (uint32_t i = 0; i < run->noise_count; i++) {
        const struct lab_noise *noise = &run->noises[i];
        if (noise->grade && noise->grade[0] == 'C' && (!worst || noise->lost_fraction > worst->lost_fraction))
            worst = noise;
    }
    return worst;
}

static const char *first_reason(const struct lab_cell *cell, enum lab_verdict verdict)
{
    for (uint32_t i = 0; i < cell->launch_count; i++)
        if (cell->launches[i].verdict == verdict && cell->launches[i].reason)
            return cell->launches[i].reason;
    return NULL;
}

static void settle(const struct lab_run *run, const struct lab_cell *cell, struct lab_summary *s)
{
    uint32_t times[LAB_VERDICTS] = {0};
    for (uint32_t i = 0; i < cell->launch_count; i++)
        times[cell->launches[i].verdict]++;

    const char *reason = NULL;
    if (cell->verdict == LAB_SKIPPED) {
        s->verdict = LAB_SKIPPED;
        reason = cell->reason ? cell->reason : "no reason was recorded";
    } else if (broken(cell, &s->integrity)) {
        s->verdict = LAB_INVALID;
        say_broken(&s->integrity, s->reason);
    } else if (!cell->launch_count) {
        s->verdict = LAB_FAILED;
        reason = cell->reason ? cell->reason : "the run ended before its first launch";
    } else if (!times[LAB_OK]) {
        s->verdict = times[LAB_FAILED] ? LAB_FAILED : times[LAB_TRANSIENT] ? LAB_TRANSIENT : LAB_INVALID;
        reason = first_reason(cell, s->verdict);
        if (!reason)
            reason = s->verdict == LAB_TRANSIENT ? "no launch became steady" : "no launch gave a figure";
    } else {
        const struct lab_noise *noise = worst_noise(run);
        s->verdict = noise ? LAB_NOISY : LAB_OK;
        if (noise) {
            char longest[LAB_TEXT_NUMBER];
            snprintf(s->reason, sizeof s->reason, "cpu %d lost %.2g %% of its time to others, %s at the longest (grade C)",
                     noise->cpu, noise->lost_fraction * 100, lab_format_time((double)noise->max_ns, longest));
        }
    }
    if (reason)
        snprintf(s->reason, sizeof s->reason, "%s", reason);
}

/* ---- figures ---- */

static double beyond(const struct lab_hist *hist, double q)
{
    /* The millionth makes up for binary fractions: 1 - 0.999 is a little less than a thousandth. */
    return (double)hist->count * (1 - q) + 1e-6 >= LAB_TAIL ? (double)lab_hist_quantile(hist, q) : nothing;
}

static void take_costs(const struct lab_cell *cell, enum lab_verdict sound, struct lab_summary *s)
{
    uint64_t cpu = 0, wall = 0, delay = 0, switches = 0, faults = 0, messages = 0, fiber_switches = 0;
    for (uint32_t i = 0; i < cell->launch_count; i++) {
        const struct lab_launch *launch = &cell->launches[i];
        if (!kept(launch, sound, s->mode))
            continue;
        cpu += launch->cpu_ns;
        wall += launch->wall_ns;
        delay += launch->run_delay_ns;
        switches += launch->switches;
        faults += launch->faults;
        fiber_switches += launch->fiber_switches;
        messages += launch->messages;
        s->windows += launch->windows;
        s->windows_set_aside += launch->set_aside;
        s->batched |= launch->batched;
    }
    if (messages && wall) {
        s->cpu_ns_per_message = (double)cpu / (double)messages;
        s->switches_per_message = (double)switches / (double)messages;
        s->faults_per_message = (double)faults / (double)messages;
        s->fiber_switches_per_message = fiber_switches ? (double)fiber_switches / (double)messages : nothing;
    }
    /* CPU time is read from the threads' own clocks and exact; the run delay lags by up to a tick. */
    double share = wall ? (double)cpu / (double)wall : nothing;
    s->cpus = share * (cell->nodes * (cell->workers ? cell->workers : 1));
    if (wall >= LAB_STATES_WALL_MS * LAB_NS_PER_MS) {
        /* Helper threads may add CPU time beyond that of the party itself: fractions are kept within 0 and 1, the CPUs
         * busy are not. */
        s->running = fmin(share, 1);
        s->ready = fmin((double)delay / (double)wall, 1 - s->running);
        s->waiting = 1 - s->running - s->ready;
    }
}

/* What it took to start; `values` has room for twice the launches. */
static void take_start(const struct lab_cell *cell, enum lab_verdict sound, double *values, struct lab_summary *s)
{
    double *ready = values, *first = values + cell->launch_count;
    size_t readies = 0, firsts = 0;
    for (uint32_t i = 0; i < cell->launch_count; i++) {
        const struct lab_launch *launch = &cell->launches[i];
        if (!kept(launch, sound, s->mode))
            continue;
        if (launch->ready_ns)
            ready[readies++] = (double)launch->ready_ns;
        if (launch->setup_ns)
            first[firsts++] = (double)launch->setup_ns;
        if (launch->private_bytes)
            s->private_bytes = fmax(s->private_bytes, (double)launch->private_bytes);
    }
    s->ready_ns = lab_median(ready, readies).value;
    s->first_message_ns = lab_median(first, firsts).value;
}

/* `values` has room for as many as there are launches. */
static double median_of(const struct lab_cell *cell, enum lab_verdict sound, enum lab_proximity mode, size_t member, double *values)
{
    size_t count = 0;
    for (uint32_t i = 0; i < cell->launch_count; i++) {
        double value;
        memcpy(&value, (const char *)&cell->launches[i] + member, sizeof value);
        if (kept(&cell->launches[i], sound, mode) && !isnan(value))
            values[count++] = value;
    }
    return lab_median(values, count).value;
}

static void take_stages(const struct lab_cell *cell, enum lab_verdict sound, double *values, struct lab_summary *s)
{
    uint64_t delay = 0, messages = 0;
    for (uint32_t i = 0; i < cell->launch_count; i++) {
        if (!kept(&cell->launches[i], sound, s->mode))
            continue;
        delay += cell->launches[i].run_delay_ns;
        messages += cell->launches[i].messages;
    }
    s->encode_ns = median_of(cell, sound, s->mode, offsetof(struct lab_launch, encode_ns), values);
    s->enqueue_ns = median_of(cell, sound, s->mode, offsetof(struct lab_launch, enqueue_ns), values);
    s->decode_ns = median_of(cell, sound, s->mode, offsetof(struct lab_launch, decode_ns), values);
    double one_way = median_of(cell, sound, s->mode, offsetof(struct lab_launch, one_way_ns), values);
    if (isnan(one_way) || !messages)
        return;
    s->wake_ns = (double)delay / (double)messages;
    double left = one_way - s->encode_ns - s->enqueue_ns - s->wake_ns;
    s->transport_ns = left > 0 ? left : nothing;
}

static void take_figures(const struct lab_cell *cell, enum lab_verdict sound, struct lab_hist *merged, double *values,
                         struct lab_summary *s)
{
    double *p50 = values, *messages = p50 + cell->launch_count, *bytes = messages + cell->launch_count;
    double *handoff = bytes + cell->launch_count;
    size_t p50s = 0, rates = 0, bandwidths = 0;
    for (uint32_t i = 0; i < cell->launch_count; i++) {
        const struct lab_launch *launch = &cell->launches[i];
        if (!kept(launch, sound, s->mode))
            continue;
        handoff[s->kept++] = launch->handoff_ns;
        double median = statistic_of(launch, LAB_BY_LATENCY);
        if (!isnan(median)) {
            p50[p50s++] = median;
            lab_hist_merge(merged, launch->latency);
        }
        if (!isnan(launch->messages_per_s))
            messages[rates++] = launch->messages_per_s;
        if (!isnan(launch->bytes_per_s))
            bytes[bandwidths++] = launch->bytes_per_s;
    }
    s->p50_ns = lab_median(p50, p50s);
    s->messages_per_s = lab_median(messages, rates);
    s->bytes_per_s = lab_median(bytes, bandwidths);
    if (s->mode != LAB_NEAR_UNKNOWN)
        s->handoff_ns = lab_median(handoff, s->kept).value;
    s->samples = merged->count;
    if (merged->count) {
        s->p90_ns = beyond(merged, 0.9);
        s->p99_ns = beyond(merged, 0.99);
        s->p999_ns = beyond(merged, 0.999);
        s->max_ns = (double)merged->most;
        s->mean_ns = lab_hist_mean(merged);
    }
}

static void add_integrity(struct lab_integrity *to, const struct lab_integrity *from)
{
    to->sent += from->sent;
    to->received += from->received;
    to->lost += from->lost;
    to->duplicated += from->duplicated;
    to->reordered += from->reordered;
    to->corrupt += from->corrupt;
}

/* Of the sound launches; where there is none, of those that did not fail: a path that was refuted is why. */
static void take_path(const struct lab_cell *cell, enum lab_verdict sound, struct lab_summary *s)
{
    bool any_sound = s->set_aside < s->launches;
    for (uint32_t i = 0; i < cell->launch_count; i++) {
        const struct lab_launch *launch = &cell->launches[i];
        if (launch->carrier)
            s->carrier = launch->carrier;
        if (!launch->proof || (any_sound ? launch->verdict != sound : launch->verdict == LAB_FAILED))
            continue;
        s->proof = launch->proof;
        s->interface_bytes += launch->interface_bytes;
        s->payload_bytes += launch->payload_bytes;
    }
}

/* The same in each launch, but for what an administrator changes meanwhile: then the least. */
static void take_buffer(const struct lab_cell *cell, struct lab_summary *s)
{
    for (uint32_t i = 0; i < cell->launch_count; i++) {
        const struct lab_launch *launch = &cell->launches[i];
        if (!launch->buffer_requested_bytes || (s->buffer_requested_bytes && launch->buffer_actual_bytes >= s->buffer_actual_bytes))
            continue;
        s->buffer_requested_bytes = launch->buffer_requested_bytes;
        s->buffer_actual_bytes = launch->buffer_actual_bytes;
    }
}

int lab_cell_summary(const struct lab_run *run, const struct lab_cell *cell, struct lab_summary *ret_summary)
{
    struct lab_summary s = {
        .launches = cell->launch_count, .handoff_ns = nothing,
        .p50_ns = NO_FIGURE, .messages_per_s = NO_FIGURE, .bytes_per_s = NO_FIGURE,
        .p90_ns = nothing, .p99_ns = nothing, .p999_ns = nothing, .max_ns = nothing, .mean_ns = nothing,
        .cpu_ns_per_message = nothing, .switches_per_message = nothing, .faults_per_message = nothing,
        .fiber_switches_per_message = nothing, .ready_ns = nothing, .first_message_ns = nothing, .private_bytes = nothing,
        .encode_ns = nothing, .enqueue_ns = nothing, .transport_ns = nothing, .wake_ns = nothing, .decode_ns = nothing,
        .running = nothing, .ready = nothing, .waiting = nothing, .cpus = nothing,
    };
    enum lab_verdict sound = sound_verdict(cell);
    for (uint32_t i = 0; i < cell->launch_count; i++) {
        /* A launch that was cut short has messages under way; what it counted says nothing of the mechanism. */
        if (cell->launches[i].verdict != LAB_FAILED)
            add_integrity(&s.integrity, &cell->launches[i].integrity);
        s.set_aside += cell->launches[i].verdict != sound;
    }
    take_path(cell, sound, &s);
    take_buffer(cell, &s);
    settle(run, cell, &s);
    if (s.verdict == LAB_OK || s.verdict == LAB_NOISY || s.verdict == LAB_TRANSIENT) {
        struct lab_hist *merged = lab_hist_new();
        double *values = calloc(cell->launch_count + 1, 4 * sizeof *values);
        if (!merged || !values) {
            lab_hist_free(merged);
            free(values);
            return lab_fail(ENOMEM, "the figures of cell %u", cell->id);
        }
        s.mode = common_mode(cell, sound);
        take_figures(cell, sound, merged, values, &s);
        take_costs(cell, sound, &s);
        take_start(cell, sound, values, &s);
        take_stages(cell, sound, values, &s);
        s.other_modes = s.launches - s.set_aside - s.kept;
        lab_hist_free(merged);
        free(values);
    }
    *ret_summary = s;
    return 0;
}

struct lab_summary *lab_run_summaries(const struct lab_run *run)
{
    struct lab_summary *summaries = calloc(run->cell_count + 1, sizeof *summaries);
    for (uint32_t i = 0; summaries && i < run->cell_count; i++) {
        if (lab_cell_summary(run, &run->cells[i], &summaries[i])) {
            free(summaries);
            return NULL;
        }
    }
    return summaries;
}

int lab_run_settle(struct lab_run *run)
{
    bool any = false, all_skipped = true;
    for (uint32_t i = 0; i < run->cell_count; i++) {
        struct lab_cell *cell = &run->cells[i];
        struct lab_summary summary = {.launches = 0};
        int err = lab_cell_summary(run, cell, &summary);
        if (err)
            return err;
        const char *reason = summary.reason[0] ? lab_run_string(run, summary.reason) : NULL;
        if (summary.reason[0] && !reason)
            return lab_fail(ENOMEM, "the verdict of cell %u", cell->id);
        cell->verdict = summary.verdict;
        cell->reason = reason;
        any |= summary.kept > 0;
        all_skipped &= summary.verdict == LAB_SKIPPED;
    }
    bool failed = run->failure || (run->cell_count && !any && !all_skipped);
    run->verdict = failed ? LAB_FAILED : all_skipped && run->cell_count ? LAB_SKIPPED : worst_noise(run) ? LAB_NOISY : LAB_OK;
    return 0;
}
