/* Comma-separated values (RFC 4180) and Markdown tables (GitHub). */
#include "report/renderers.h"
#include "report/table.h"

#include "base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- csv ---- */

/* A field in quotes where the text needs them. */
static void put_csv_text(FILE *to, const char *text)
{
    if (!text)
        return;
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, to);
        return;
    }
    fputc('"', to);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', to);
        fputc(*text, to);
    }
    fputc('"', to);
}

static void put_csv_number(FILE *to, double value)
{
    fputc(',', to);
    if (isfinite(value))
        fprintf(to, "%.9g", value);
}

static void put_csv_figure(FILE *to, struct lab_figure figure)
{
    put_csv_number(to, figure.value);
    put_csv_number(to, figure.low);
    put_csv_number(to, figure.high);
}

/* The names are those of the JSON, nested ones joined by an underscore. */
static const char csv_head[] =
    "run,id,transport,options,wait,pattern,topology,workload,size_bytes,nodes,workers,placement,unit,scope,baseline,verdict,reason,"
    "launches,launches_kept,samples,latency_kind,latency_p50_ns,latency_p50_ci95_low_ns,latency_p50_ci95_high_ns,latency_p90_ns,"
    "latency_p99_ns,latency_p999_ns,latency_max_ns,latency_mean_ns,messages_per_s,messages_per_s_ci95_low,messages_per_s_ci95_high,"
    "bytes_per_s,bytes_per_s_ci95_low,bytes_per_s_ci95_high,sent,received,lost,duplicated,reordered,corrupt,"
    "context_switches_per_message,page_faults_per_message,cpu_ns_per_message,running,ready,waiting,proximity,handoff_ns";

int lab_csv_print(const struct lab_run *run, const struct lab_summary *summaries, FILE *to)
{
    fprintf(to, "%s\r\n", csv_head);
    for (uint32_t i = 0; i < run->cell_count; i++) {
        const struct lab_cell *cell = &run->cells[i];
        const struct lab_summary *s = &summaries[i];
        char id[16], size[24], nodes[16], workers[16];
        snprintf(id, sizeof id, "%u", cell->id);
        snprintf(size, sizeof size, "%llu", (unsigned long long)cell->size_bytes);
        snprintf(nodes, sizeof nodes, "%u", cell->nodes);
        snprintf(workers, sizeof workers, "%u", cell->workers);
        const char *const texts[] = {
            run->id, id, cell->transport, cell->options, cell->wait, cell->pattern, cell->topology, cell->workload, size, nodes,
            workers, cell->placement, cell->unit, cell->remote ? "remote" : "local", cell->baseline ? "true" : "false",
            lab_run_verdict(run, s->verdict), s->reason,
        };
        for (size_t j = 0; j < sizeof texts / sizeof *texts; j++) {
            if (j)
                fputc(',', to);
            put_csv_text(to, texts[j]);
        }
        bool has_latency = cell->latency_kind && !isnan(s->p50_ns.value);
        fprintf(to, ",%u,%u,%llu,%s", s->launches, s->kept, (unsigned long long)s->samples, has_latency ? cell->latency_kind : "");
        put_csv_figure(to, s->p50_ns);
        const double tail[] = {s->p90_ns, s->p99_ns, s->p999_ns, s->max_ns, s->mean_ns};
        for (size_t j = 0; j < sizeof tail / sizeof *tail; j++)
            put_csv_number(to, tail[j]);
        put_csv_figure(to, s->messages_per_s);
        put_csv_figure(to, s->bytes_per_s);
        const uint64_t counts[] = {s->integrity.sent, s->integrity.received, s->integrity.lost, s->integrity.duplicated,
                                   s->integrity.reordered, s->integrity.corrupt};
        for (size_t j = 0; j < sizeof counts / sizeof *counts; j++)
            if (s->launches)
                fprintf(to, ",%llu", (unsigned long long)counts[j]);
            else
                fputc(',', to);
        const double costs[] = {s->switches_per_message, s->faults_per_message, s->cpu_ns_per_message,
                                s->running, s->ready, s->waiting};
        for (size_t j = 0; j < sizeof costs / sizeof *costs; j++)
            put_csv_number(to, costs[j]);
        fprintf(to, ",%s", s->mode == LAB_NEAR_UNKNOWN ? "" : lab_proximity_name(s->mode));
        put_csv_number(to, s->handoff_ns);
        fputs("\r\n", to);
    }
    return 0;
}

/* ---- markdown ---- */

/* In a table a bar would end the field and a newline the row. */
static void put_md_text(FILE *to, const char *text)
{
    for (; text && *text; text++) {
        if (*text == '|' || *text == '*' || *text == '_' || *text == '<' || *text == '`')
            fputc('\\', to);
        fputc(*text == '\n' ? ' ' : *text, to);
    }
}

static void put_md_entry(FILE *to, const struct lab_group *group, const struct lab_entry *entry, const struct lab_signs *signs)
{
    char value[LAB_TEXT_NUMBER], precision[LAB_TEXT_NUMBER], ratio[LAB_TEXT_NUMBER];
    fputs(" | ", to);
    if (!entry->cell) {
        fputs(signs->dash, to);
        return;
    }
    enum lab_verdict verdict = entry->summary->verdict;
    lab_table_value(group, entry, value);
    lab_table_precision(group, entry, signs, precision);
    lab_table_ratio(&entry->ratio, signs, ratio);
    fprintf(to, "%s%s%s", value, *precision ? " " : "", precision);
    /* A tilde strikes text out in this dialect. */
    if (*ratio)
        fprintf(to, " (%s%s)", *ratio == '~' ? "\\" : "", ratio);
    if (verdict != LAB_OK && verdict != LAB_NOISY)
        fprintf(to, "%s%s", *value ? ", " : "", lab_verdict_name(verdict));
    else if (!*value)
        fputs(signs->dash, to);
}

static void put_md_group(FILE *to, const struct lab_group *group, const struct lab_signs *signs)
{
    char title[LAB_LABEL_TEXT], measure[LAB_LABEL_TEXT], size[LAB_TEXT_NUMBER];
    fprintf(to, "\n### %s\n\n%s%s%s\n\n| mechanism | wait", lab_group_title(group, title), lab_group_measure(group, measure),
            group->settings[0] ? "; " : "", group->settings);
    for (size_t j = 0; j < group->size_count; j++)
        fprintf(to, " | %s", lab_format_size(group->sizes[j], size));
    fputs(" |\n|---|---", to);
    for (size_t j = 0; j < group->size_count; j++)
        fputs("|---:", to);
    fputs("|\n", to);
    for (size_t i = 0; i < group->row_count; i++) {
        const struct lab_group_row *row = &group->rows[i];
        fputs("| ", to);
        put_md_text(to, row->label);
        fprintf(to, "%s%s | %s", row->baseline ? " " : "", row->baseline ? signs->star : "", row->wait ? row->wait : "");
        for (size_t j = 0; j < group->size_count; j++)
            put_md_entry(to, group, &row->entries[j], signs);
        fputs(" |\n", to);
    }
    const char *separator = "\n";
    for (size_t i = 0; i < group->row_count; i++) {
        for (size_t j = 0; j < group->size_count; j++) {
            const struct lab_entry *entry = &group->rows[i].entries[j];
            if (!entry->cell || entry->summary->verdict == LAB_OK || entry->summary->verdict == LAB_NOISY)
                continue;
            fprintf(to, "%s- %s, %s, %s: ", separator, group->rows[i].label, lab_format_size(group->sizes[j], size),
                    lab_verdict_name(entry->summary->verdict));
            put_md_text(to, entry->summary->reason);
            fputc('\n', to);
            separator = "";
        }
    }
}

int lab_md_print(const struct lab_run *run, const struct lab_summary *summaries, FILE *to, const struct lab_render_style *style)
{
    /* Markdown is a file format: UTF-8 whatever the terminal, and one line per paragraph. */
    struct lab_render_style own = {.width = UINT32_MAX, .utf8 = true, .interactive = style->interactive};
    const struct lab_signs *signs = lab_layout_signs(&own);
    struct lab_groups groups;
    int err = lab_groups_make(run, summaries, &groups);
    if (err)
        return err;
    fputs("## ", to);
    put_md_text(to, run->experiment ? run->experiment : "run");
    fprintf(to, "\n\nrun %s, %s. Figures are medians of launches %s half their 95 %% interval, in brackets how many times as fast "
            "as the baseline %s (%s equal within 2 %%, \\~ not shown to differ).\n", run->id ? run->id : "?",
            run->started_utc ? run->started_utc : "?", signs->plus_minus, signs->star, signs->equal);
    for (size_t i = 0; i < groups.count; i++)
        put_md_group(to, &groups.items[i], signs);

    struct lab_skip *skips;
    size_t skip_count;
    err = lab_skips_make(run, summaries, &skips, &skip_count);
    if (!err) {
        fputs(skip_count ? "\n### Skipped\n\n" : "", to);
        for (size_t i = 0; i < skip_count; i++) {
            fprintf(to, "- %u: ", skips[i].cells);
            put_md_text(to, skips[i].reason);
            fputc('\n', to);
        }
        free(skips);
        fputc('\n', to);
        err = lab_words_print(run, &groups, to, &own);
    }
    lab_groups_fini(&groups);
    return err;
}
