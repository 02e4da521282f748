/* The table that a person reads: groups, rows of mechanisms, columns of sizes; marks explained below each group. */
#include "report/layout.h"
#include "report/renderers.h"
#include "report/table.h"

#include "base/error.h"
#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 2, MARKS_MOST = 26 };

/* One cell as it will stand on the page. */
struct box {
    char value[LAB_TEXT_NUMBER], precision[LAB_TEXT_NUMBER], ratio[LAB_TEXT_NUMBER], marks[4];
    enum lab_ink ink;
};

struct mark {
    char text[LAB_REASON_TEXT + 32];
};

struct page {
    const struct lab_groups *groups;
    const struct lab_group *group;
    FILE *to;
    const struct lab_render_style *style;
    const struct lab_signs *signs;
    struct box *boxes; /* row by row */
    struct mark marks[MARKS_MOST];
    size_t mark_count;
    size_t label_width, wait_width, cpus_width, launches_width, mode_width;
};

static char *put(char to[LAB_TEXT_NUMBER], const char *text)
{
    snprintf(to, LAB_TEXT_NUMBER, "%s", text);
    return to;
}

/* ---- figures as text ---- */

/* Large messages are about bytes: from one page up a rate is shown as bandwidth. */
static bool as_bandwidth(const struct lab_entry *entry)
{
    return entry->cell->size_bytes >= 4096 && !isnan(entry->summary->bytes_per_s.value);
}

char *lab_table_value(const struct lab_group *group, const struct lab_entry *entry, char to[LAB_TEXT_NUMBER])
{
    double value = lab_entry_figure(group, entry).value;
    if (isnan(value))
        return put(to, "");
    if (group->by == LAB_BY_LATENCY) {
        /* No more digits than the histogram's nanoseconds carry. */
        if (value >= 999.5)
            return lab_format_time(value, to);
        snprintf(to, LAB_TEXT_NUMBER, "%.0f ns", value);
        return to;
    }
    if (as_bandwidth(entry))
        return lab_format_bandwidth(entry->summary->bytes_per_s.value, to);
    lab_format_rate(value, to);
    size_t used = strlen(to);
    snprintf(to + used, LAB_TEXT_NUMBER - used, "%s/s", strchr(to, ' ') ? "" : " ");
    return to;
}

char *lab_table_precision(const struct lab_group *group, const struct lab_entry *entry, const struct lab_signs *signs,
                          char to[LAB_TEXT_NUMBER])
{
    struct lab_figure figure = lab_entry_figure(group, entry);
    double percent = lab_figure_precision(figure) * 100;
    if (isnan(percent))
        return put(to, "");
    if (group->by == LAB_BY_LATENCY)
        percent = fmax(percent, 100 * lab_latency_resolution(figure.value) / 2 / figure.value);
    snprintf(to, LAB_TEXT_NUMBER, "%s%.*f%%", signs->plus_minus, percent < 0.95 ? 1 : 0, percent);
    return to;
}

char *lab_table_ratio(const struct lab_ratio *ratio, const struct lab_signs *signs, char to[LAB_TEXT_NUMBER])
{
    if (ratio->difference == LAB_NOT_COMPARED)
        return put(to, "");
    double speed = ratio->speed.value;
    const char *sign = ratio->difference == LAB_EQUAL ? signs->equal : ratio->difference == LAB_NOT_SHOWN ? "~" : signs->times;
    int decimals = speed >= 99.5 ? 0 : speed >= 9.95 ? 1 : speed >= 0.0995 ? 2 : speed >= 0.00995 ? 3 : speed >= 0.000995 ? 4 : 5;
    snprintf(to, LAB_TEXT_NUMBER, "%s%.*f", sign, decimals, speed);
    return to;
}

/* ---- marks ---- */

/* The letter of a remark, the same for the same words; a remark beyond the alphabet is folded into the last letter. */
static void mark(struct page *page, struct box *box, const char *text)
{
    size_t at = 0;
    while (at < page->mark_count && strcmp(page->marks[at].text, text) != 0)
        at++;
    if (at == MARKS_MOST) {
        at--;
        snprintf(page->marks[at].text, sizeof page->marks->text, "several reasons: `--format json` has each");
    } else if (at == page->mark_count) {
        snprintf(page->marks[page->mark_count++].text, sizeof page->marks->text, "%s", text);
    }
    /* In the order of the alphabet, whichever came first. */
    char letter = (char)('a' + (int)at);
    size_t used = strlen(box->marks), place = used;
    if (used + 1 >= sizeof box->marks)
        return;
    while (place > 0 && box->marks[place - 1] > letter)
        place--;
    memmove(box->marks + place + 1, box->marks + place, used - place + 1);
    box->marks[place] = letter;
}

static void fill_box(struct page *page, const struct lab_group_row *row, const struct lab_entry *entry, struct box *box)
{
    if (!entry->cell) {
        put(box->value, page->signs->dash);
        box->ink = LAB_INK_DIM;
        return;
    }
    const struct lab_summary *summary = entry->summary;
    enum lab_verdict verdict = summary->verdict;
    char text[LAB_REASON_TEXT + 32];
    lab_table_value(page->group, entry, box->value);
    lab_table_precision(page->group, entry, page->signs, box->precision);
    lab_table_ratio(&entry->ratio, page->signs, box->ratio);
    if (!box->value[0])
        put(box->value, verdict == LAB_INVALID || verdict == LAB_FAILED ? lab_verdict_name(verdict) : page->signs->dash);
    if (verdict == LAB_INVALID || verdict == LAB_FAILED || verdict == LAB_TRANSIENT) {
        snprintf(text, sizeof text, "%s: %s", lab_verdict_name(verdict), summary->reason);
        mark(page, box, text);
    }
    if (summary->batched && page->group->by == LAB_BY_LATENCY)
        mark(page, box, "means of batches: one operation is too short for the clock");
    bool comparable = entry->baseline && entry->baseline != entry && entry->baseline->summary->kept && summary->kept;
    if (comparable && entry->ratio.difference == LAB_NOT_COMPARED) {
        snprintf(text, sizeof text, "not compared: %s", entry->ratio.why);
        mark(page, box, text);
    }
    box->ink = verdict == LAB_INVALID || verdict == LAB_FAILED    ? LAB_INK_BAD
               : verdict == LAB_TRANSIENT                         ? LAB_INK_WARN
               : row->floor || entry->ratio.difference == LAB_NOT_SHOWN || entry->ratio.difference == LAB_EQUAL
                   ? LAB_INK_PLAIN
               : entry->ratio.difference == LAB_FASTER ? LAB_INK_GOOD
               : entry->ratio.difference == LAB_SLOWER ? LAB_INK_BAD
                                                       : LAB_INK_PLAIN;
}

/* ---- columns that belong to the row ---- */

/* "2.0", or "0.6-1.9" over the sizes; "" when nothing is known. */
static void range_text(double low, double high, int decimals, const char *dash, char to[LAB_TEXT_NUMBER])
{
    char first[LAB_TEXT_NUMBER], last[LAB_TEXT_NUMBER];
    snprintf(first, sizeof first, "%.*f", decimals, low);
    snprintf(last, sizeof last, "%.*f", decimals, high);
    if (isnan(low))
        put(to, "");
    else if (strcmp(first, last) == 0)
        put(to, first);
    else
        snprintf(to, LAB_TEXT_NUMBER, "%.9s%s%.9s", first, dash, last);
}

static void row_texts(const struct page *page, const struct lab_group_row *row, char cpus[LAB_TEXT_NUMBER],
                      char launches[LAB_TEXT_NUMBER], char mode[LAB_TEXT_NUMBER])
{
    double cpus_low = (double)NAN, cpus_high = (double)NAN, kept_low = (double)NAN, kept_high = (double)NAN;
    enum lab_proximity first = LAB_NEAR_UNKNOWN;
    bool mixed = false;
    for (size_t j = 0; j < page->group->size_count; j++) {
        const struct lab_summary *summary = row->entries[j].cell ? row->entries[j].summary : NULL;
        if (!summary)
            continue;
        cpus_low = fmin(cpus_low, summary->cpus); /* fmin and fmax pass over NaN */
        cpus_high = fmax(cpus_high, summary->cpus);
        kept_low = fmin(kept_low, summary->kept);
        kept_high = fmax(kept_high, summary->kept);
        if (summary->mode != LAB_NEAR_UNKNOWN) {
            mixed |= first != LAB_NEAR_UNKNOWN && first != summary->mode;
            first = summary->mode;
        }
    }
    range_text(cpus_low, cpus_high, 1, page->signs->dash, cpus);
    range_text(kept_low, kept_high, 0, page->signs->dash, launches);
    put(mode, page->group->one_mode || first == LAB_NEAR_UNKNOWN ? ""
                 : mixed                                            ? "mixed"
                 : first == LAB_NEAR_SHARED_CACHE                   ? "cache"
                                                                    : lab_proximity_name(first));
}

static void wider(size_t *width, const char *text)
{
    size_t columns = lab_layout_columns(text);
    if (columns > *width)
        *width = columns;
}

static void measure_rows(struct page *page)
{
    page->label_width = strlen("mechanism");
    page->wait_width = page->cpus_width = strlen("CPUs");
    page->launches_width = strlen("n");
    page->mode_width = 0;
    for (size_t i = 0; i < page->group->row_count; i++) {
        const struct lab_group_row *row = &page->group->rows[i];
        char cpus[LAB_TEXT_NUMBER], launches[LAB_TEXT_NUMBER], mode[LAB_TEXT_NUMBER];
        row_texts(page, row, cpus, launches, mode);
        size_t label = lab_layout_columns(row->label) + (row->baseline ? 2 : 0);
        if (label > page->label_width)
            page->label_width = label;
        wider(&page->wait_width, row->wait ? row->wait : "");
        wider(&page->cpus_width, cpus);
        wider(&page->launches_width, launches);
        wider(&page->mode_width, mode);
    }
}

/* ---- printing ---- */

struct widths {
    size_t value, marks, precision, ratio;
};

static struct widths widths_of(const struct page *page, size_t column)
{
    char size[LAB_TEXT_NUMBER];
    struct widths widths = {.value = lab_layout_columns(lab_format_size(page->group->sizes[column], size))};
    for (size_t i = 0; i < page->group->row_count; i++) {
        const struct box *box = &page->boxes[i * page->group->size_count + column];
        wider(&widths.value, box->value);
        wider(&widths.marks, box->marks);
        wider(&widths.precision, box->precision);
        wider(&widths.ratio, box->ratio);
    }
    return widths;
}

static size_t total(struct widths widths)
{
    return GAP + widths.value + (widths.marks ? 1 + widths.marks : 0) + (widths.precision ? 1 + widths.precision : 0) +
           (widths.ratio ? 1 + widths.ratio : 0);
}

static void put_row_head(const struct page *page, const struct lab_group_row *row)
{
    char cpus[LAB_TEXT_NUMBER] = "CPUs", launches[LAB_TEXT_NUMBER] = "n", mode[LAB_TEXT_NUMBER] = "near";
    char name[LAB_LABEL_TEXT + 8] = "mechanism";
    if (row) {
        row_texts(page, row, cpus, launches, mode);
        snprintf(name, sizeof name, "%s%s%s", row->label, row->baseline ? " " : "", row->baseline ? page->signs->star : "");
    }
    lab_layout_left(page->to, name, page->label_width);
    fputs("  ", page->to);
    lab_layout_left(page->to, row ? row->wait ? row->wait : "" : "wait", page->wait_width);
    fputs("  ", page->to);
    lab_layout_right(page->to, cpus, page->cpus_width);
    fputs("  ", page->to);
    lab_layout_right(page->to, launches, page->launches_width);
    if (page->mode_width) {
        fputs("  ", page->to);
        lab_layout_left(page->to, mode, page->mode_width);
    }
}

static size_t head_width(const struct page *page)
{
    return page->label_width + page->wait_width + page->cpus_width + page->launches_width + 6 +
           (page->mode_width ? 2 + page->mode_width : 0);
}

/* The last box of a line is not padded where nothing follows. */
static void put_box(const struct page *page, const struct box *box, struct widths widths, enum lab_ink row_ink, bool last)
{
    lab_layout_repeat(page->to, " ", GAP);
    lab_layout_ink(page->to, page->style, row_ink);
    lab_layout_right(page->to, box->value, widths.value);
    lab_layout_ink(page->to, page->style, LAB_INK_PLAIN);
    bool ends = last && !box->precision[0] && !box->ratio[0];
    if (widths.marks && !(ends && !box->marks[0])) {
        fputc(' ', page->to);
        lab_layout_left(page->to, box->marks, ends ? 0 : widths.marks);
    }
    if (ends)
        return;
    if (widths.precision) {
        lab_layout_ink(page->to, page->style, LAB_INK_DIM);
        fputc(' ', page->to);
        lab_layout_right(page->to, box->precision, widths.precision);
        lab_layout_ink(page->to, page->style, LAB_INK_PLAIN);
    }
    if (widths.ratio && !(last && !box->ratio[0])) {
        fputc(' ', page->to);
        lab_layout_ink(page->to, page->style, box->ink);
        lab_layout_right(page->to, box->ratio, widths.ratio);
        lab_layout_ink(page->to, page->style, LAB_INK_PLAIN);
    }
}

/* Columns `from` up to `to_column`, with the heads of rows before them. */
static void put_band(const struct page *page, size_t from, size_t to_column)
{
    const struct lab_group *group = page->group;
    size_t width = head_width(page);
    lab_layout_ink(page->to, page->style, LAB_INK_BOLD);
    put_row_head(page, NULL);
    for (size_t j = from; j < to_column; j++) {
        struct widths widths = widths_of(page, j);
        char size[LAB_TEXT_NUMBER];
        lab_layout_repeat(page->to, " ", GAP);
        lab_layout_right(page->to, lab_format_size(group->sizes[j], size), widths.value);
        if (j + 1 < to_column)
            lab_layout_repeat(page->to, " ", total(widths) - GAP - widths.value);
        width += total(widths);
    }
    lab_layout_ink(page->to, page->style, LAB_INK_PLAIN);
    fputc('\n', page->to);
    lab_layout_ink(page->to, page->style, LAB_INK_DIM);
    lab_layout_repeat(page->to, page->signs->rule, width);
    lab_layout_ink(page->to, page->style, LAB_INK_PLAIN);
    fputc('\n', page->to);
    for (size_t i = 0; i < group->row_count; i++) {
        const struct lab_group_row *row = &group->rows[i];
        enum lab_ink ink = row->floor ? LAB_INK_DIM : row->baseline ? LAB_INK_BOLD : LAB_INK_PLAIN;
        if (ink)
            lab_layout_ink(page->to, page->style, ink);
        put_row_head(page, row);
        lab_layout_ink(page->to, page->style, LAB_INK_PLAIN);
        for (size_t j = from; j < to_column; j++)
            put_box(page, &page->boxes[i * group->size_count + j], widths_of(page, j), ink, j + 1 == to_column);
        fputc('\n', page->to);
    }
}

/* As many bands of columns as the width needs, evenly filled. */
static void put_bands(const struct page *page)
{
    size_t count = page->group->size_count, room = lab_layout_width(page->style), head = head_width(page), widest = 1;
    for (size_t j = 0; j < count; j++) {
        size_t width = total(widths_of(page, j));
        widest = width > widest ? width : widest;
    }
    size_t sum = 0;
    for (size_t j = 0; j < count; j++)
        sum += total(widths_of(page, j));
    size_t fit = 1;
    if (head + sum <= room && count)
        fit = count;
    else if (head + widest <= room)
        fit = (room - head) / widest;
    size_t bands = (count + fit - 1) / fit, from = 0;
    for (size_t left = bands; left > 0; left--) {
        size_t columns = (count - from + left - 1) / left;
        if (from)
            fputc('\n', page->to);
        put_band(page, from, from + columns);
        from += columns;
    }
}

static void put_group_head(const struct page *page)
{
    char title[LAB_LABEL_TEXT], measure[LAB_LABEL_TEXT], text[4 * LAB_LABEL_TEXT];
    lab_layout_ink(page->to, page->style, LAB_INK_BOLD);
    fputs(lab_group_title(page->group, title), page->to);
    lab_layout_ink(page->to, page->style, LAB_INK_PLAIN);
    int used = snprintf(text, sizeof text, "%s%s", page->signs->dot, lab_group_measure(page->group, measure));
    if (page->group->settings[0]) {
        char *at = text + used + strlen(page->signs->dot);
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%s", page->signs->dot, page->group->settings);
        for (; *at; at++) /* a name stays with its value */
            if (*at == ' ' && at[-1] != ',')
                *at = LAB_HARD_SPACE;
    }
    if (page->group->one_mode && page->group->mode != LAB_NEAR_UNKNOWN)
        snprintf(text + used, sizeof text - (size_t)used, "%sCPUs %s", page->signs->dot, lab_proximity_name(page->group->mode));
    size_t at = lab_layout_columns(title);
    /* The wrapper drops leading spaces, the separator's included. */
    fputc(' ', page->to);
    lab_layout_wrapped(page->to, text, at + 1, 2, lab_layout_width(page->style));
}

/* Launches that the figures of the group are not of, by why. */
static void put_left_out(const struct page *page)
{
    uint64_t others = 0, aside = 0, windows = 0, windows_aside = 0;
    for (size_t i = 0; i < page->group->row_count; i++) {
        for (size_t j = 0; j < page->group->size_count; j++) {
            const struct lab_entry *entry = &page->group->rows[i].entries[j];
            if (!entry->cell || !entry->summary->kept)
                continue;
            others += entry->summary->other_modes;
            aside += entry->summary->set_aside;
            windows += entry->summary->windows;
            windows_aside += entry->summary->windows_set_aside;
        }
    }
    char text[512] = "";
    size_t used = 0;
    windows += windows_aside;
    if (others)
        used += (size_t)snprintf(text, sizeof text, "%llu %s in another proximity mode than most of %s cell and %s left out. ",
                                 (unsigned long long)others, others == 1 ? "launch was" : "launches were", others == 1 ? "its" : "their",
                                 others == 1 ? "is" : "are");
    if (aside)
        used += (size_t)snprintf(text + used, sizeof text - used, "%llu %s transient, invalid or failed and %s left out. ",
                                 (unsigned long long)aside, aside == 1 ? "launch was" : "launches were", aside == 1 ? "is" : "are");
    if (windows_aside)
        snprintf(text + used, sizeof text - used, "%llu of %llu windows %s set aside because the CPUs moved during %s.",
                 (unsigned long long)windows_aside, (unsigned long long)windows, windows_aside == 1 ? "was" : "were",
                 windows_aside == 1 ? "it" : "them");
    if (text[0]) {
        fputs("   ", page->to);
        lab_layout_wrapped(page->to, text, 3, 3, lab_layout_width(page->style));
    }
}

static int put_group(struct page *page, const struct lab_group *group)
{
    page->group = group;
    page->mark_count = 0;
    page->boxes = calloc(group->row_count * group->size_count, sizeof *page->boxes);
    if (!page->boxes)
        return lab_fail(ENOMEM, "a table of %zu rows", group->row_count);
    for (size_t i = 0; i < group->row_count; i++)
        for (size_t j = 0; j < group->size_count; j++)
            fill_box(page, &group->rows[i], &group->rows[i].entries[j], &page->boxes[i * group->size_count + j]);
    measure_rows(page);
    put_group_head(page);
    put_bands(page);
    for (size_t i = 0; i < page->mark_count; i++) {
        fprintf(page->to, " %c ", 'a' + (int)i);
        lab_layout_wrapped(page->to, page->marks[i].text, 3, 3, lab_layout_width(page->style));
    }
    put_left_out(page);
    fputc('\n', page->to);
    free(page->boxes);
    return 0;
}

int lab_table_print(const struct lab_run *run, const struct lab_summary *summaries, FILE *to,
                    const struct lab_render_style *style)
{
    struct lab_groups groups;
    int err = lab_groups_make(run, summaries, &groups);
    if (err)
        return err;
    struct page page = {.groups = &groups, .to = to, .style = style, .signs = lab_layout_signs(style)};
    err = lab_frame_head(&groups, to, style);
    for (size_t i = 0; i < groups.count && !err; i++)
        err = put_group(&page, &groups.items[i]);
    if (!err)
        err = lab_frame_foot(&groups, to, style);
    if (!err)
        err = lab_words_print(run, &groups, to, style);
    lab_groups_fini(&groups);
    return err;
}
