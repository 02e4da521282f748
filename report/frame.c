/* What stands around the groups of a table: the run and its machine above, what qualifies the figures below. */
#include "report/table.h"

#include "base/error.h"
#include "report/statistics.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void put_paragraph(FILE *to, const struct lab_render_style *style, const char *text)
{
    lab_layout_wrapped(to, text, 0, 2, lab_layout_width(style));
}

static void put_counts(const struct lab_groups *groups, FILE *to, const struct lab_render_style *style)
{
    const struct lab_run *run = groups->run;
    uint32_t times[LAB_VERDICTS] = {0};
    for (uint32_t i = 0; i < run->cell_count; i++)
        times[groups->summaries[i].verdict]++;
    char text[512], took[LAB_TEXT_NUMBER];
    int used = snprintf(text, sizeof text, "run %.64s, started %.40s", run->id ? run->id : "?",
                        run->started_utc ? run->started_utc : "?");
    if (run->ended_by)
        used += snprintf(text + used, sizeof text - (size_t)used, ", ended by %.32s after %s", run->ended_by,
                         lab_format_time((double)run->wall_ns, took));
    else
        used += snprintf(text + used, sizeof text - (size_t)used, ", unfinished");
    used += snprintf(text + used, sizeof text - (size_t)used, "; %u cells: ", run->cell_count);
    const char *separator = "";
    for (enum lab_verdict verdict = 0; verdict < LAB_VERDICTS; verdict++) {
        if (times[verdict]) {
            used += snprintf(text + used, sizeof text - (size_t)used, "%s%u %s", separator, times[verdict],
                             lab_verdict_name(verdict));
            separator = ", ";
        }
    }
    put_paragraph(to, style, text);
}

static void put_hosts(const struct lab_run *run, FILE *to, const struct lab_render_style *style)
{
    for (uint32_t i = 0; i < run->host_count; i++) {
        const struct lab_host *host = &run->hosts[i];
        char text[512];
        int used = snprintf(text, sizeof text, "%.64s: %.128s", host->name ? host->name : "host", host->cpu ? host->cpu : "?");
        if (host->cores)
            used += snprintf(text + used, sizeof text - (size_t)used, ", %u CPU%s", host->cores, host->cores == 1 ? "" : "s");
        if (host->kernel)
            used += snprintf(text + used, sizeof text - (size_t)used, ", %.96s", host->kernel);
        if (host->hypervisor && *host->hypervisor)
            snprintf(text + used, sizeof text - (size_t)used, ", on %.64s", host->hypervisor);
        put_paragraph(to, style, text);
    }
}

/* How to read the columns that this run has. */
static void put_legend(const struct lab_groups *groups, FILE *to, const struct lab_render_style *style)
{
    const struct lab_signs *signs = lab_layout_signs(style);
    bool compared = false, intervals = false, moved = false;
    for (size_t i = 0; i < groups->count; i++)
        moved |= !groups->items[i].one_mode;
    for (size_t i = 0; i < groups->count; i++)
        for (size_t j = 0; j < groups->items[i].row_count; j++)
            compared |= groups->items[i].rows[j].baseline;
    for (uint32_t i = 0; i < groups->run->cell_count; i++)
        intervals |= groups->summaries[i].kept >= LAB_INTERVAL_LAUNCHES;
    char text[1024];
    int used = snprintf(text, sizeof text, "Figures are medians of n launches%s%s%s.", intervals ? " " : "",
                        intervals ? signs->plus_minus : "", intervals ? " half their 95 % interval" : ", too few for intervals");
    if (compared)
        used += snprintf(text + used, sizeof text - (size_t)used, " %s times as fast as the baseline %s in the same column, %s "
                         "equal within 2 %%, ~ not shown to differ.", signs->times, signs->star, signs->equal);
    snprintf(text + used, sizeof text - (size_t)used, " CPUs: kept busy by all parties together.%s",
             moved ? " near: how close those CPUs were (threads of one core, a shared cache, or remote)." : "");
    lab_layout_ink(to, style, LAB_INK_DIM);
    put_paragraph(to, style, text);
    lab_layout_ink(to, style, LAB_INK_PLAIN);
}

static void put_noise_claim(const struct lab_groups *groups, FILE *to, const struct lab_render_style *style)
{
    for (uint32_t i = 0; i < groups->run->cell_count; i++) {
        if (groups->summaries[i].verdict != LAB_NOISY)
            continue;
        char text[LAB_REASON_TEXT + 96];
        snprintf(text, sizeof text, "Noisy: %s. The figures are shown and carry no claim.", groups->summaries[i].reason);
        lab_layout_ink(to, style, LAB_INK_WARN);
        put_paragraph(to, style, text);
        lab_layout_ink(to, style, LAB_INK_PLAIN);
        return;
    }
}

int lab_frame_head(const struct lab_groups *groups, FILE *to, const struct lab_render_style *style)
{
    const struct lab_run *run = groups->run;
    lab_layout_ink(to, style, LAB_INK_BOLD);
    fputs(run->experiment ? run->experiment : "run", to);
    lab_layout_ink(to, style, LAB_INK_PLAIN);
    if (run->question) {
        size_t at = lab_layout_columns(run->experiment ? run->experiment : "run") + 2;
        fputs(": ", to);
        lab_layout_wrapped(to, run->question, at, 2, lab_layout_width(style));
    } else {
        fputc('\n', to);
    }
    put_counts(groups, to, style);
    put_hosts(run, to, style);
    put_noise_claim(groups, to, style);
    if (groups->count)
        put_legend(groups, to, style);
    fputc('\n', to);
    return 0;
}

/* Rows that spin and rows that sleep cannot be compared by time alone. */
static void put_fairness(const struct lab_groups *groups, FILE *to, const struct lab_render_style *style)
{
    double looking = (double)NAN, sleeping = (double)NAN;
    for (size_t g = 0; g < groups->count; g++) {
        const struct lab_group *group = &groups->items[g];
        for (size_t i = 0; i < group->row_count * group->size_count; i++) {
            const struct lab_entry *entry = &group->rows[i / group->size_count].entries[i % group->size_count];
            if (group->rows[i / group->size_count].floor || !entry->cell || !entry->summary->kept)
                continue;
            /* fmin and fmax pass over NaN */
            if (lab_entry_sleeps(entry))
                sleeping = fmin(sleeping, entry->summary->cpus);
            else
                looking = fmax(looking, entry->summary->cpus);
        }
    }
    if (isnan(looking) || isnan(sleeping) || looking < 1.2 * sleeping)
        return;
    char text[256];
    snprintf(text, sizeof text, "Fairness: rows that spin keep up to %.1f CPUs busy whether or not there is a message, rows that "
             "sleep as few as %.1f. Read the time and the CPUs together.", looking, sleeping);
    put_paragraph(to, style, text);
    fputc('\n', to);
}

static int put_skips(const struct lab_groups *groups, FILE *to, const struct lab_render_style *style)
{
    struct lab_skip *skips;
    size_t count;
    int err = lab_skips_make(groups->run, groups->summaries, &skips, &count);
    if (err)
        return err;
    if (count) {
        lab_layout_ink(to, style, LAB_INK_BOLD);
        fputs("Skipped\n", to);
        lab_layout_ink(to, style, LAB_INK_PLAIN);
        for (size_t i = 0; i < count; i++) {
            fprintf(to, "  %4u cell%s  ", skips[i].cells, skips[i].cells == 1 ? " " : "s");
            lab_layout_wrapped(to, skips[i].reason, 13, 13, lab_layout_width(style));
        }
        fputc('\n', to);
    }
    free(skips);
    return 0;
}

static void put_limits(const struct lab_run *run, FILE *to, const struct lab_render_style *style)
{
    size_t name_width = 0;
    for (uint32_t i = 0; i < run->limit_count; i++) {
        size_t width = lab_layout_columns(run->limits[i].name);
        name_width = width > name_width ? width : name_width;
    }
    /* Two limits a line where they fit. */
    size_t column = 2 + name_width + 2 + 12, per_line = lab_layout_width(style) >= 2 * column ? 2 : 1;
    lab_layout_ink(to, style, LAB_INK_BOLD);
    fputs("Limits of this machine, measured in the same run\n", to);
    lab_layout_ink(to, style, LAB_INK_PLAIN);
    for (uint32_t i = 0; i < run->limit_count; i++) {
        const struct lab_limit *limit = &run->limits[i];
        char value[64];
        if (isnan(limit->value))
            snprintf(value, sizeof value, "not measured");
        else if (limit->unit && strcmp(limit->unit, "ns") == 0)
            lab_format_time(limit->value, value);
        else if (limit->unit && (strcmp(limit->unit, "bytes/s") == 0 || strcmp(limit->unit, "B/s") == 0))
            lab_format_bandwidth(limit->value, value);
        else
            snprintf(value, sizeof value, "%.4g %.32s", limit->value, limit->unit ? limit->unit : "");
        fputs("  ", to);
        lab_layout_left(to, limit->name, name_width + 2);
        lab_layout_right(to, value, 12);
        fputs((i + 1) % per_line && i + 1 < run->limit_count ? "  " : "\n", to);
    }
    fputc('\n', to);
}

/* The worst grade of each CPU. */
static int put_noise(const struct lab_run *run, FILE *to, const struct lab_render_style *style)
{
    char *text = NULL;
    size_t size = 0;
    FILE *line = open_memstream(&text, &size);
    if (!line)
        return lab_fail(ENOMEM, "the grades of noise");
    fputs("Noise:", line);
    const char *separator = " ";
    for (uint32_t i = 0; i < run->noise_count; i++) {
        const struct lab_noise *worst = &run->noises[i];
        bool earlier = false;
        for (uint32_t j = 0; j < run->noise_count; j++) {
            const struct lab_noise *other = &run->noises[j];
            if (other->cpu != worst->cpu)
                continue;
            earlier |= j < i;
            if (other->grade && worst->grade && other->grade[0] > worst->grade[0])
                worst = other;
        }
        if (earlier || !worst->grade)
            continue;
        char longest[LAB_TEXT_NUMBER];
        fprintf(line, "%scpu %d grade %s (%.2g %% lost, %s at the longest)", separator, worst->cpu, worst->grade,
                worst->lost_fraction * 100, lab_format_time((double)worst->max_ns, longest));
        separator = ", ";
    }
    bool lost = ferror(line);
    if (fclose(line) || lost) {
        free(text);
        return lab_fail(ENOMEM, "the grades of noise");
    }
    put_paragraph(to, style, text);
    free(text);
    return 0;
}

int lab_frame_foot(const struct lab_groups *groups, FILE *to, const struct lab_render_style *style)
{
    const struct lab_run *run = groups->run;
    put_fairness(groups, to, style);
    int err = put_skips(groups, to, style);
    if (err)
        return err;
    if (run->limit_count)
        put_limits(run, to, style);
    if (run->noise_count)
        err = put_noise(run, to, style);
    if (err)
        return err;
    for (uint32_t i = 0; i < run->warning_count; i++) {
        char text[1024];
        const struct lab_warning *warning = &run->warnings[i];
        /* What the plan says of itself is no cause for alarm. */
        bool note = warning->code && strcmp(warning->code, "plan") == 0;
        snprintf(text, sizeof text, "%s%.48s%s: %.400s%s%.400s", note ? "Note" : "Warning (", note ? "" : warning->code ? warning->code : "?",
                 note ? "" : ")", warning->text ? warning->text : "", warning->advice ? " " : "", warning->advice ? warning->advice : "");
        lab_layout_ink(to, style, note ? LAB_INK_PLAIN : LAB_INK_WARN);
        put_paragraph(to, style, text);
        lab_layout_ink(to, style, LAB_INK_PLAIN);
    }
    if (run->noise_count || run->warning_count)
        fputc('\n', to);
    return 0;
}
