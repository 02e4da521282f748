#include "node/lane/measure.h"

#include "base/error.h"
#include "base/fiber.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROBES_MAX = 4096,
    PROBE_ROUNDS = 32,
    OPERATIONS_MAX = 4096,
    BATCH_BELOW = 50,   /* operations shorter than this many clock readings are timed in batches ... */
    BATCH_SPAN = 200,   /* ... as long as this many */
};

/* The proximity of two virtual cores is one of a few clusters of hand-off times; a change is a jump, not a drift. */
static bool same_proximity(double a, double b)
{
    return a > 0 && b > 0 && (a > b ? a / b : b / a) < 1.5;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(const double *values, uint32_t count)
{
    double sorted[LAB_STEADY_WINDOWS];
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, ascending);
    return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

bool lab_series_steady(const double rates[LAB_STEADY_WINDOWS])
{
    enum { N = LAB_STEADY_WINDOWS, KENDALL_5_PERCENT = 23 };
    double mean = 0, slope = 0, weight = 0;
    for (int i = 0; i < N; i++)
        mean += rates[i] / N;
    if (mean <= 0)
        return false;
    bool within = true;
    int concordance = 0;
    for (int i = 0; i < N; i++) {
        double x = i - (N - 1) / 2.0;
        slope += x * (rates[i] - mean);
        weight += x * x;
        within = within && fabs(rates[i] - mean) < 0.05 * mean;
        for (int j = 0; j < i; j++)
            concordance += (rates[i] > rates[j]) - (rates[i] < rates[j]);
    }
    if (within && fabs(slope / weight) * N < 0.01 * mean)
        return true;
    double early = median_of(rates, N / 2), late = median_of(rates + N / 2, N / 2);
    return abs(concordance) < KENDALL_5_PERCENT && fabs(early - late) < 0.05 * mean;
}

/* What the worker as a whole keeps while it runs. */
struct progress {
    enum { WARMING, MEASURING, LEAVING } phase;
    uint64_t began_ns, window_began_ns, messages_before;
    uint64_t measured_until_ns;
    double rate[LAB_STEADY_WINDOWS];
    uint32_t rates;
    bool warmed_up;             /* the warm-up ended because the rate was steady */
    bool marked;
    struct lab_usage before;
    uint64_t switches_before;
};

/* What lab_measure keeps for each side beside its result. */
struct gauge {
    struct lab_hist *window;    /* latencies of the current window */
    double *probes;
    uint32_t probe_count;
    double last_probe;
};

struct measuring {
    struct lab_measure *measure;
    struct gauge *gauges;
    struct progress now;
};

int lab_measure_init(struct lab_measure *measure)
{
    measure->results = calloc(measure->side_count ? measure->side_count : 1, sizeof *measure->results);
    if (!measure->results)
        return lab_fail(ENOMEM, "no memory for %u results", measure->side_count);
    double overhead_ns = lab_clock_measure().overhead_ns;
    for (uint32_t i = 0; i < measure->side_count; i++) {
        struct lab_edge_side *side = &measure->sides[i];
        side->clock_overhead_ns = overhead_ns;
        side->operations = measure->pattern->first_operations(side->window);
        if (side->client && measure->pattern->latency != LAB_NO_LATENCY && !(measure->results[i].latency = lab_hist_new())) {
            lab_measure_fini(measure);
            return lab_fail(ENOMEM, "no memory for a histogram");
        }
    }
    return 0;
}

void lab_measure_fini(struct lab_measure *measure)
{
    for (uint32_t i = 0; measure->results && i < measure->side_count; i++)
        lab_hist_free(measure->results[i].latency);
    free(measure->results);
    measure->results = NULL;
}

/* ---- one pass over all edges ---- */

static int probe(struct measuring *m, uint32_t i)
{
    struct lab_edge_side *side = &m->measure->sides[i];
    struct gauge *gauge = &m->gauges[i];
    if (!side->probe)
        return 0;
    double handoff_ns = 0;
    int err = side->client ? lab_probe_lead(side->probe, PROBE_ROUNDS, m->measure->deadline_ns, &handoff_ns)
                           : lab_probe_follow(side->probe, PROBE_ROUNDS, m->measure->deadline_ns);
    if (err)
        return lab_while(err, "probing the distance of the two cores");
    gauge->last_probe = handoff_ns;
    if (gauge->probes && gauge->probe_count < PROBES_MAX)
        gauge->probes[gauge->probe_count++] = handoff_ns;
    return 0;
}

static void mark(struct measuring *m)
{
    if (!m->now.marked) {
        lab_usage_read(m->measure->scope, &m->now.before);
        m->now.switches_before = lab_fiber_switches();
    }
    m->now.marked = true;
}

/* What the client of an edge told with its turn, once that has been answered. */
static int heed(struct measuring *m, uint32_t i, uint32_t flags)
{
    if (flags & LAB_MARK)
        mark(m);
    int err = flags & LAB_PROBE ? probe(m, i) : 0;
    if (flags & LAB_FIN)
        m->measure->sides[i].finished = true;
    return err;
}

static int serve(struct measuring *m, uint32_t i)
{
    const struct lab_pattern *pattern = m->measure->pattern;
    struct lab_edge_side *side = &m->measure->sides[i];
    uint32_t flags = 0;
    int err = pattern->server_turn(side, m->measure->deadline_ns, &flags);
    if (err)
        return err;
    side->owes = pattern->server_release != NULL;
    side->told = flags;
    return side->owes ? 0 : heed(m, i, flags);
}

/* A turn that is long enough beside the clock is timed alone; a shorter one grows. */
static void calibrate(const struct lab_measure *measure, struct lab_edge_side *side)
{
    double operation_ns = (double)side->turn_ns / side->operations;
    if (!side->turn_ns || measure->pattern->latency == LAB_NO_LATENCY || operation_ns >= BATCH_BELOW * side->clock_overhead_ns)
        return;
    double wanted = BATCH_SPAN * side->clock_overhead_ns / (operation_ns > 1 ? operation_ns : 1);
    side->operations = wanted < OPERATIONS_MAX ? (uint32_t)wanted + 1 : OPERATIONS_MAX;
}

static int drive(struct measuring *m, uint32_t i, uint32_t flags)
{
    const struct lab_pattern *pattern = m->measure->pattern;
    struct lab_edge_side *side = &m->measure->sides[i];
    uint64_t deadline_ns = m->measure->deadline_ns;
    int err = pattern->client_turn(side, flags, deadline_ns);
    if (!err && flags && pattern->client_drain)
        err = pattern->client_drain(side, deadline_ns);
    if (err)
        return err;
    if (m->now.phase == WARMING)
        calibrate(m->measure, side);
    if (!m->measure->results[i].first_message_ns)
        m->measure->results[i].first_message_ns = lab_now_ns();
    if (flags & LAB_FIN)
        side->finished = true;
    return 0;
}

/* ---- windows ---- */

static uint64_t delivered(const struct lab_measure *measure)
{
    uint64_t messages = 0;
    for (uint32_t i = 0; i < measure->side_count; i++)
        messages += measure->sides[i].client ? measure->sides[i].messages : 0;
    return messages;
}

static void note_rate(struct progress *now, double rate)
{
    if (now->rates == LAB_STEADY_WINDOWS)
        memmove(now->rate, now->rate + 1, (LAB_STEADY_WINDOWS - 1) * sizeof now->rate[0]);
    else
        now->rates++;
    now->rate[now->rates - 1] = rate;
}

static bool steady(const struct progress *now)
{
    return now->rates == LAB_STEADY_WINDOWS && lab_series_steady(now->rate);
}

/* An edge of this worker, or of one that it depends on, has ended before its own: what is left runs at a pace of its own, and is not
 * what was to be measured. */
static bool left_behind(const struct lab_measure *measure)
{
    for (uint32_t i = 0; i < measure->side_count; i++)
        if (measure->sides[i].finished || measure->sides[i].parted)
            return true;
    return false;
}

/* The flags of the next pass, from where the clock stands. Warm-up windows are a fifth of measuring ones: they only have to
 * show whether the rate still moves. */
static uint32_t next_flags(struct measuring *m, uint64_t now_ns)
{
    struct lab_measure *measure = m->measure;
    struct progress *now = &m->now;
    uint64_t in_window_ns = now_ns - now->window_began_ns;
    if (now->phase == WARMING) {
        if (in_window_ns < measure->warmup_ns / (2 * LAB_STEADY_WINDOWS))
            return 0;
        uint64_t messages = delivered(measure);
        note_rate(now, (double)(messages - now->messages_before) / (double)in_window_ns);
        now->messages_before = messages;
        now->window_began_ns = now_ns;
        bool early = !measure->together && steady(now);
        return early || now_ns - now->began_ns >= measure->warmup_ns ? LAB_MARK | LAB_PROBE : 0;
    }
    if (left_behind(measure))
        return LAB_PROBE | LAB_FIN;
    if (in_window_ns < measure->window_ns)
        return 0;
    return now_ns >= now->measured_until_ns ? LAB_PROBE | LAB_FIN : LAB_PROBE;
}

static void open_window(struct measuring *m)
{
    for (uint32_t i = 0; i < m->measure->side_count; i++) {
        struct lab_edge_side *side = &m->measure->sides[i];
        side->messages = 0;
        if (side->client && m->gauges[i].window) {
            lab_hist_clear(m->gauges[i].window);
            side->latency = m->gauges[i].window;
        }
    }
    m->now.window_began_ns = lab_now_ns();
}

/* A window counts for an edge when the probes at its two ends agree, or when there is nothing to probe. */
static void close_window(struct measuring *m, const double *probes_before, uint64_t ended_ns)
{
    struct lab_measure *measure = m->measure;
    uint64_t elapsed_ns = ended_ns - m->now.window_began_ns;
    note_rate(&m->now, (double)delivered(measure) / (double)elapsed_ns);
    for (uint32_t i = 0; i < measure->side_count; i++) {
        struct lab_edge_side *side = &measure->sides[i];
        struct lab_edge_result *result = &measure->results[i];
        if (!side->client)
            continue;
        if (side->probe && !same_proximity(probes_before[i], m->gauges[i].last_probe)) {
            result->set_aside++;
            continue;
        }
        result->windows++;
        result->messages += side->messages;
        result->elapsed_ns += elapsed_ns;
        result->batched = side->operations > 1 && measure->pattern->latency != LAB_NO_LATENCY;
        if (side->latency)
            lab_hist_merge(result->latency, side->latency);
    }
}

/* The answers that wait until all edges have had their turn. */
static int release(struct measuring *m)
{
    uint32_t flags = left_behind(m->measure) ? LAB_FIN : 0;
    int err = 0;
    for (uint32_t i = 0; !err && i < m->measure->side_count; i++) {
        struct lab_edge_side *side = &m->measure->sides[i];
        if (!side->owes)
            continue;
        side->owes = false;
        err = m->measure->pattern->server_release(side, flags, m->measure->deadline_ns);
        if (!err)
            err = heed(m, i, side->told);
    }
    return err;
}

/* One pass: every unfinished edge takes its turn, in order; then the clients' edges are probed if it was asked for. The time
 * between the last turn and the probe belongs to no window. */
static int pass(struct measuring *m, uint32_t flags, uint64_t *ret_turned_ns)
{
    int err = 0;
    for (uint32_t i = 0; !err && i < m->measure->side_count; i++) {
        struct lab_edge_side *side = &m->measure->sides[i];
        if (side->finished)
            continue;
        err = side->client ? drive(m, i, flags) : serve(m, i);
        if (!err && side->client && flags & LAB_PROBE) {
            *ret_turned_ns = lab_now_ns();
            err = probe(m, i);
        }
    }
    return !err && m->measure->pattern->server_release ? release(m) : err;
}

static bool all_finished(const struct lab_measure *measure)
{
    for (uint32_t i = 0; i < measure->side_count; i++)
        if (!measure->sides[i].finished)
            return false;
    return true;
}

static void hold_probes(const struct measuring *m, double *probes)
{
    for (uint32_t i = 0; i < m->measure->side_count; i++)
        probes[i] = m->gauges[i].last_probe;
}

static int run(struct measuring *m, double *probes_before)
{
    struct lab_measure *measure = m->measure;
    struct progress *now = &m->now;
    bool leads = false;
    for (uint32_t i = 0; i < measure->side_count; i++)
        leads = leads || measure->sides[i].client;
    now->phase = leads ? WARMING : LEAVING;
    now->began_ns = now->window_began_ns = lab_now_ns();

    while (!all_finished(measure)) {
        uint32_t flags = now->phase == LEAVING ? 0 : next_flags(m, lab_now_ns());
        bool cut = left_behind(measure);
        uint64_t turned_ns = 0;
        int err = pass(m, flags, &turned_ns);
        if (err)
            return err;
        if (now->phase == LEAVING || !flags)
            continue;
        if (now->phase == WARMING) {
            now->phase = MEASURING;
            now->measured_until_ns = lab_now_ns() + measure->measure_ns - measure->window_ns;
            now->warmed_up = steady(now);
            for (uint32_t i = 0; i < measure->side_count; i++)
                measure->results[i].warmup_ns = lab_now_ns() - now->began_ns;
            now->rates = 0;
            mark(m);
        } else if (!cut) {
            close_window(m, probes_before, turned_ns);
        }
        if (flags & LAB_FIN) {
            measure->steady = now->rates < LAB_STEADY_WINDOWS ? now->warmed_up : steady(now);
            now->phase = LEAVING;
        } else {
            hold_probes(m, probes_before);
            open_window(m);
        }
    }
    if (!leads)
        measure->steady = true;
    struct lab_usage after;
    lab_usage_read(measure->scope, &after);
    if (now->marked)
        measure->usage = lab_usage_delta(&now->before, &after);
    measure->fiber_switches = now->marked ? lab_fiber_switches() - now->switches_before : 0;
    return 0;
}

static int ready_gauges(struct measuring *m)
{
    for (uint32_t i = 0; i < m->measure->side_count; i++) {
        const struct lab_edge_side *side = &m->measure->sides[i];
        bool timed = side->client && m->measure->pattern->latency != LAB_NO_LATENCY;
        if ((timed && !(m->gauges[i].window = lab_hist_new())) ||
            (side->client && side->probe && !(m->gauges[i].probes = calloc(PROBES_MAX, sizeof(double)))))
            return lab_fail(ENOMEM, "no memory to measure %u edges", m->measure->side_count);
    }
    return 0;
}

int lab_measure_run(struct lab_measure *measure)
{
    uint32_t sides = measure->side_count ? measure->side_count : 1;
    struct measuring m = {.measure = measure, .gauges = calloc(sides, sizeof *m.gauges)};
    double *probes_before = calloc(sides, sizeof *probes_before);
    int err = m.gauges && probes_before ? ready_gauges(&m) : lab_fail(ENOMEM, "no memory to measure %u edges", sides);
    if (!err)
        err = run(&m, probes_before);

    for (uint32_t i = 0; m.gauges && i < measure->side_count; i++) {
        struct gauge *gauge = &m.gauges[i];
        if (!err && gauge->probe_count) {
            qsort(gauge->probes, gauge->probe_count, sizeof *gauge->probes, ascending);
            measure->results[i].handoff_ns = gauge->probes[gauge->probe_count / 2];
        }
        lab_hist_free(gauge->window);
        free(gauge->probes);
        measure->sides[i].latency = NULL;
    }
    free(m.gauges);
    free(probes_before);
    return err;
}
