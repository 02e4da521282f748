/* What a run says in plain words. A sentence is a function that looks at the figures and stays silent where they do not
 * carry it: "faster" needs an interval that excludes 1, whatever the medians look like. */
#include "report/renderers.h"
#include "report/table.h"

#include "base/error.h"
#include "report/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_TEXT = LAB_LABEL_TEXT + 32, FIGURE_TEXT = LAB_TEXT_NUMBER + 16, CROSSOVERS_MOST = 3 };

struct words {
    FILE *to;
    const struct lab_groups *groups;
    bool told_spinning, told_limit; /* once is enough */
    bool all_few; /* no cell has the launches that an interval takes: said once, ahead of everything */
    int err; /* of a comparison that ran out of memory */
};

/* ---- entries ---- */

/* "shm-ring (spin)"; "shm-ring via zmq-tcp (futex)" where a link joins the nodes, whether the rows' labels have it or the heading. */
static const char *name_of(const struct lab_group *group, const struct lab_entry *entry, char to[NAME_TEXT])
{
    const char *label = "";
    char link[LAB_OPTION_TEXT] = "";
    for (size_t i = 0; i < group->row_count; i++)
        if (entry >= group->rows[i].entries && entry < group->rows[i].entries + group->size_count)
            label = group->rows[i].label;
    bool linked = entry->cell && !strstr(label, " via ") && lab_option_text(entry->cell->options, "link", link);
    bool waits = entry->cell && entry->cell->wait;
    snprintf(to, NAME_TEXT, "%.100s%s%.32s%s%.16s%s", label, linked ? " via " : "", linked ? link : "", waits ? " (" : "",
             waits ? entry->cell->wait : "", waits ? ")" : "");
    return to;
}

/* "55 ns", "145 M messages/s", "1.20 GB/s" */
static const char *figure_text(const struct lab_group *group, const struct lab_entry *entry, char to[FIGURE_TEXT])
{
    char value[LAB_TEXT_NUMBER];
    lab_table_value(group, entry, value);
    char *unit = strstr(value, "/s");
    bool of_messages = group->by == LAB_BY_RATE && unit && unit > value && unit[-1] != 'B';
    if (of_messages)
        *unit = '\0';
    snprintf(to, FIGURE_TEXT, "%s%s", value, of_messages ? unit[-1] == ' ' ? "messages/s" : " messages/s" : "");
    for (char *space = to; (space = strchr(space, ' '));)
        *space = LAB_HARD_SPACE;
    return to;
}

/* "64 KiB", not to be broken at the end of a line */
static const char *size_text(uint64_t bytes, char to[LAB_TEXT_NUMBER])
{
    char *space = strchr(lab_format_size(bytes, to), ' ');
    if (space)
        *space = LAB_HARD_SPACE;
    return to;
}

/* "shm-ring (spin) with 55 ns" */
static const char *name_and_figure(const struct lab_group *group, const struct lab_entry *entry, char to[2 * NAME_TEXT])
{
    char name[NAME_TEXT], figure[FIGURE_TEXT];
    snprintf(to, 2 * NAME_TEXT, "%s with %s", name_of(group, entry, name), figure_text(group, entry, figure));
    return to;
}

/* The best figure of a column, the floor and `except` left out; NULL when there is none. */
static const struct lab_entry *best_of(const struct lab_group *group, size_t column, const struct lab_entry *except,
                                       bool only_sleeping)
{
    const struct lab_entry *best = NULL;
    double best_value = (double)NAN;
    for (size_t i = 0; i < group->row_count; i++) {
        const struct lab_entry *entry = &group->rows[i].entries[column];
        if (group->rows[i].floor || entry == except)
            continue;
        double value = lab_entry_figure(group, entry).value;
        if (isnan(value) || (only_sleeping && !lab_entry_sleeps(entry)))
            continue;
        bool better = !best || (group->by == LAB_BY_LATENCY ? value < best_value : value > best_value);
        if (better) {
            best = entry;
            best_value = value;
        }
    }
    return best;
}

static struct lab_ratio ratio_of(struct words *words, const struct lab_group *group, const struct lab_entry *a,
                                 const struct lab_entry *b)
{
    struct lab_ratio ratio = {.difference = LAB_NOT_COMPARED, .why = ""};
    if (a->cell && b->cell) {
        int err = lab_cell_ratio(a->cell, a->summary, b->cell, b->summary, group->by, &ratio);
        words->err = words->err ? words->err : err;
    }
    return ratio;
}

/* "483 [471, 494] times": the figure and its interval, three digits each. */
enum { TIMES_TEXT = 3 * LAB_TEXT_NUMBER + 16 };
static const char *times_text(struct lab_figure figure, char to[TIMES_TEXT])
{
    const double values[] = {figure.value, figure.low, figure.high};
    char texts[3][LAB_TEXT_NUMBER];
    for (int i = 0; i < 3; i++)
        snprintf(texts[i], sizeof texts[i], "%.*f", values[i] >= 99.5 ? 0 : values[i] >= 9.95 ? 1 : 2, values[i]);
    snprintf(to, TIMES_TEXT, "%s\x1f[%s,\x1f%s] times", texts[0], texts[1], texts[2]);
    return to;
}

/* ---- sentences about a group ---- */

/* "at 8 B shm-ring (spin) is the fastest with 55 ns, 483 [471, 494] times as fast as pipe (block) with 26.5 us" */
static void say_best(struct words *words, const struct lab_group *group, size_t column, const char *lead)
{
    const struct lab_entry *best = best_of(group, column, NULL, false);
    if (!best)
        return;
    const struct lab_entry *second = best_of(group, column, best, false);
    char size[LAB_TEXT_NUMBER], name[2 * NAME_TEXT], other[2 * NAME_TEXT], times[TIMES_TEXT];
    fprintf(words->to, "%s at %s ", lead, size_text(group->sizes[column], size));
    if (!second) {
        fprintf(words->to, "only %s has a figure", name_and_figure(group, best, name));
        return;
    }
    struct lab_ratio first = ratio_of(words, group, best, second);
    bool alone = first.difference == LAB_FASTER, few = first.difference != LAB_NOT_COMPARED && isnan(first.speed.low);
    if (alone)
        fprintf(words->to, "%s is the fastest with %s", name_of(group, best, name), figure_text(group, best, other));
    else if (few)
        fprintf(words->to, "%s has the best median%s", name_and_figure(group, best, name),
                words->all_few ? "" : ", from too few launches for a claim");
    else
        fprintf(words->to, "%s and %s have the best medians, %s", name_and_figure(group, best, name),
                name_and_figure(group, second, other),
                first.difference == LAB_EQUAL          ? "equal within 2 %"
                : first.difference == LAB_NOT_COMPARED ? "not comparable, for their CPUs were not equally near"
                                                       : "with no difference shown between them");

    /* Against the baseline where there is one; against the next otherwise. */
    const struct lab_entry *against = best->baseline ? best->baseline : alone ? second : best;
    if (against == best || (!alone && !few && against == second))
        return;
    struct lab_ratio ratio = ratio_of(words, group, best, against);
    if (ratio.difference == LAB_FASTER)
        fprintf(words->to, ", %s%s as fast as %s", alone || few ? "" : "the first ", times_text(ratio.speed, times),
                name_and_figure(group, against, other));
    else if (ratio.difference == LAB_NOT_SHOWN && isnan(ratio.speed.low))
        fprintf(words->to, "; the baseline is %s", name_and_figure(group, against, other));
    else if (ratio.difference == LAB_NOT_SHOWN)
        fprintf(words->to, "; no difference from the baseline %s is shown", name_and_figure(group, against, other));
}

/* Where b overtakes a as messages grow: the last size at which a is shown to be faster, the first after it at which b is,
 * and never the other way round. */
static bool crossover(struct words *words, const struct lab_group *group, const struct lab_group_row *a,
                      const struct lab_group_row *b, size_t *ret_below, size_t *ret_above)
{
    size_t below = SIZE_MAX, above = SIZE_MAX;
    for (size_t j = 0; j < group->size_count; j++) {
        struct lab_ratio ratio = ratio_of(words, group, &a->entries[j], &b->entries[j]);
        if (ratio.difference == LAB_FASTER) {
            if (above != SIZE_MAX)
                return false;
            below = j;
        } else if (ratio.difference == LAB_SLOWER && above == SIZE_MAX) {
            if (below == SIZE_MAX)
                return false;
            above = j;
        }
    }
    *ret_below = below;
    *ret_above = above;
    return below != SIZE_MAX && above != SIZE_MAX;
}

static const struct lab_group_row *row_of(const struct lab_group *group, const struct lab_entry *entry)
{
    for (size_t i = 0; i < group->row_count; i++)
        if (entry >= group->rows[i].entries && entry < group->rows[i].entries + group->size_count)
            return &group->rows[i];
    return NULL;
}

static bool say_crossover(struct words *words, const struct lab_group *group, const struct lab_group_row *a,
                          const struct lab_group_row *b)
{
    size_t below, above;
    if (!crossover(words, group, a, b, &below, &above))
        return false;
    char names[2][NAME_TEXT], values[4][LAB_TEXT_NUMBER], sizes[2][LAB_TEXT_NUMBER];
    fprintf(words->to, " %s overtakes %s between %s (%s against %s) and %s (%s against %s).",
            name_of(group, &b->entries[above], names[0]), name_of(group, &a->entries[below], names[1]),
            size_text(group->sizes[below], sizes[0]), lab_table_value(group, &b->entries[below], values[0]),
            lab_table_value(group, &a->entries[below], values[1]), size_text(group->sizes[above], sizes[1]),
            lab_table_value(group, &b->entries[above], values[2]), lab_table_value(group, &a->entries[above], values[3]));
    return true;
}

static void say_crossovers(struct words *words, const struct lab_group *group)
{
    const struct lab_entry *small = best_of(group, 0, NULL, false);
    const struct lab_entry *large = best_of(group, group->size_count - 1, NULL, false);
    const struct lab_group_row *small_row = small ? row_of(group, small) : NULL, *large_row = large ? row_of(group, large) : NULL;
    int said = 0;
    if (small_row && large_row && small_row != large_row)
        said += say_crossover(words, group, small_row, large_row);
    for (size_t i = 0; i < group->row_count; i++) {
        const struct lab_group_row *baseline = &group->rows[i];
        for (size_t j = 0; baseline->baseline && j < group->row_count && said < CROSSOVERS_MOST; j++) {
            const struct lab_group_row *row = &group->rows[j];
            bool told = row == small_row && baseline == large_row;
            if (!row->baseline && !row->floor && !told)
                said += say_crossover(words, group, row, baseline);
        }
    }
}

static void say_cost_of_spinning(struct words *words, const struct lab_group *group)
{
    const struct lab_entry *best = best_of(group, 0, NULL, false), *sleeper = best_of(group, 0, NULL, true);
    if (words->told_spinning || !best || !sleeper || lab_entry_sleeps(best) || isnan(best->summary->cpus) ||
        isnan(sleeper->summary->cpus))
        return;
    struct lab_ratio ratio = ratio_of(words, group, best, sleeper);
    if (ratio.difference != LAB_FASTER || best->summary->cpus <= sleeper->summary->cpus)
        return;
    char names[2][2 * NAME_TEXT], times[TIMES_TEXT];
    fprintf(words->to, " That speed is paid for with CPU time: %s keeps %.1f CPUs busy, %s, the fastest that sleeps, %.1f; the first "
            "is %s as fast.", name_of(group, best, names[0]), best->summary->cpus, name_and_figure(group, sleeper, names[1]),
            sleeper->summary->cpus, times_text(ratio.speed, times));
    words->told_spinning = true;
}

static void say_limit(struct words *words, const struct lab_group *group)
{
    const struct lab_entry *best = best_of(group, 0, NULL, false);
    if (words->told_limit || !best || group->by != LAB_BY_LATENCY || group->first->nodes != 1 || !best->cell->latency_kind ||
        strcmp(best->cell->latency_kind, "half-round-trip") != 0 || best->summary->mode == LAB_NEAR_UNKNOWN ||
        best->summary->p50_ns.value < best->summary->handoff_ns)
        return;
    char handoff[LAB_TEXT_NUMBER];
    fprintf(words->to, " Handing over one cache line between the same CPUs took %s in the same launches: the floor for "
            "anything that shares memory.", lab_format_time(best->summary->handoff_ns, handoff));
    words->told_limit = true;
}

/* "\npingpong, other-core:": the pattern, and of the setting what is not the same in all groups. */
static void begin_paragraph(struct words *words, const struct lab_group *group)
{
    char parties_text[LAB_LABEL_TEXT];
    bool parties = false, topology = false, placement = false, remote = false;
    const struct lab_cell *cell = group->first;
    for (size_t i = 0; i < words->groups->count; i++) {
        const struct lab_cell *other = words->groups->items[i].first;
        parties |= other->nodes != cell->nodes || other->workers != cell->workers;
        topology |= strcmp(other->topology, cell->topology) != 0;
        placement |= cell->placement && other->placement && strcmp(other->placement, cell->placement) != 0;
        remote |= other->remote != cell->remote;
    }
    fprintf(words->to, "\n%s%s%s", cell->pattern, cell->workload ? " " : "", cell->workload ? cell->workload : "");
    if (parties)
        fprintf(words->to, ", %s", lab_group_parties(group, parties_text));
    fprintf(words->to, "%s%s%s%s%s:", topology ? ", " : "", topology ? cell->topology : "", placement ? ", " : "",
            placement ? cell->placement : "", !remote ? "" : cell->remote ? ", between hosts" : ", one host");
}

static void say_group(struct words *words, const struct lab_group *group)
{
    size_t mechanisms = 0;
    for (size_t i = 0; i < group->row_count; i++)
        mechanisms += !group->rows[i].floor;
    if (mechanisms < 2 || !best_of(group, 0, NULL, false))
        return;
    begin_paragraph(words, group);
    say_best(words, group, 0, "");
    if (group->size_count > 1)
        say_best(words, group, group->size_count - 1, ";");
    fputc('.', words->to);
    say_crossovers(words, group);
    say_cost_of_spinning(words, group);
    say_limit(words, group);
}

/* ---- sentences about the run ---- */

/* What a pattern's best within one node is against its best between nodes, at the smallest size that both have. */
struct distance {
    const struct lab_group *near, *far;
    const struct lab_entry *local, *distant;
    struct lab_ratio ratio;
};

static bool measure_distance(struct words *words, const struct lab_group *near, const struct lab_group *far,
                             struct distance *ret_distance)
{
    if (near->first->nodes != 1 || far->first->nodes < 2 || near->by != far->by || strcmp(near->first->pattern, far->first->pattern) != 0)
        return false;
    for (size_t i = 0; i < near->size_count; i++) {
        for (size_t j = 0; j < far->size_count; j++) {
            if (near->sizes[i] != far->sizes[j])
                continue;
            struct distance found = {.near = near, .far = far, .local = best_of(near, i, NULL, false),
                                     .distant = best_of(far, j, NULL, false)};
            if (!found.local || !found.distant)
                return false;
            found.ratio = ratio_of(words, near, found.local, found.distant);
            *ret_distance = found;
            return found.ratio.difference == LAB_FASTER;
        }
    }
    return false;
}

/* Whether far groups of that pattern are held against this group within a node: the first of its kind. */
static bool is_near(const struct lab_groups *groups, const struct lab_group *group)
{
    if (group->first->nodes != 1 || !best_of(group, 0, NULL, false))
        return false;
    for (const struct lab_group *earlier = groups->items; earlier < group; earlier++)
        if (earlier->first->nodes == 1 && earlier->by == group->by && best_of(earlier, 0, NULL, false) &&
            strcmp(earlier->first->pattern, group->first->pattern) == 0)
            return false;
    return true;
}

static void say_distance(struct words *words, const struct distance *distance, const struct lab_entry **said)
{
    const struct lab_cell *far = distance->far->first;
    char names[2][2 * NAME_TEXT], times[TIMES_TEXT], parties[LAB_LABEL_TEXT], size[LAB_TEXT_NUMBER];
    if (!*said)
        fputs(" Leaving the node costs:", words->to);
    if (distance->local == *said)
        fputs(" and", words->to);
    else
        fprintf(words->to, "%s in %s at %s the best within one node, %s, is", *said ? ";" : "", far->pattern,
                size_text(distance->local->cell->size_bytes, size), name_and_figure(distance->near, distance->local, names[0]));
    fprintf(words->to, " %s as fast as the best between %s%s, %s", times_text(distance->ratio.speed, times),
            lab_group_parties(distance->far, parties), far->remote ? " on different hosts" : "",
            name_and_figure(distance->far, distance->distant, names[1]));
    *said = distance->local;
}

/* One sentence for all: a clause for each pattern, and in it what is as fast within one node against each setting between nodes. */
static void say_distances(struct words *words)
{
    const struct lab_groups *groups = words->groups;
    const struct lab_entry *said = NULL;
    for (size_t i = 0; i < groups->count; i++) {
        if (!is_near(groups, &groups->items[i]))
            continue;
        struct distance distance;
        for (size_t j = 0; j < groups->count; j++)
            if (measure_distance(words, &groups->items[i], &groups->items[j], &distance))
                say_distance(words, &distance, &said);
    }
    if (said)
        fputc('.', words->to);
}

static void say_what_is_missing(struct words *words)
{
    const struct lab_run *run = words->groups->run;
    uint32_t times[LAB_VERDICTS] = {0};
    for (uint32_t i = 0; i < run->cell_count; i++)
        times[words->groups->summaries[i].verdict]++;
    static const struct { enum lab_verdict verdict; const char *one, *several; } kinds[] = {
        {LAB_SKIPPED, "was skipped", "were skipped"}, {LAB_INVALID, "is invalid", "are invalid"},
        {LAB_FAILED, "failed", "failed"}, {LAB_TRANSIENT, "never became steady", "never became steady"},
    };
    bool first = true;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint32_t count = times[kinds[i].verdict];
        if (!count)
            continue;
        if (first)
            fprintf(words->to, " Of %u cells", run->cell_count);
        fprintf(words->to, "%s %u %s", first ? "" : ",", count, count == 1 ? kinds[i].one : kinds[i].several);
        first = false;
    }
    if (!first)
        fputs("; the reasons stand above.", words->to);
}

static void say_end(struct words *words)
{
    const struct lab_groups *groups = words->groups;
    const struct lab_group *widest_group = NULL;
    const struct lab_entry *widest = NULL;
    double width = 0;
    uint32_t few = 0;
    for (size_t g = 0; g < groups->count; g++) {
        for (size_t i = 0; i < groups->items[g].row_count; i++) {
            for (size_t j = 0; j < groups->items[g].size_count; j++) {
                const struct lab_entry *entry = &groups->items[g].rows[i].entries[j];
                if (!entry->cell)
                    continue;
                double precision = lab_figure_precision(lab_entry_figure(&groups->items[g], entry));
                few += entry->summary->kept && entry->summary->kept < LAB_INTERVAL_LAUNCHES;
                if (precision > width) {
                    width = precision;
                    widest = entry;
                    widest_group = &groups->items[g];
                }
            }
        }
    }
    const char *by = groups->run->ended_by;
    if (!by)
        fputs(" The run was cut short: what it had measured until then is shown.", words->to);
    else if (strcmp(by, "interrupted") == 0)
        fprintf(words->to, " The run was %s: what it had measured until then is shown.",
                groups->run->failure ? groups->run->failure : by);
    else if (strcmp(by, "budget") == 0)
        fputs(" The budget ended the run.", words->to);
    else if (strcmp(by, "precision") == 0)
        fputs(" The run ended because its intervals were narrow enough.", words->to);
    else if (strcmp(by, "launches") == 0)
        fputs(" The run ended when every cell had its launches.", words->to);
    if (widest) {
        char name[NAME_TEXT], size[LAB_TEXT_NUMBER];
        fprintf(words->to, " The widest interval is %.*f\x1f%% to either side (%s, %s, %s).", width < 0.0095 ? 1 : 0, width * 100,
                name_of(widest_group, widest, name), widest->cell->pattern, size_text(widest->cell->size_bytes, size));
    }
    if (few && !words->all_few)
        fprintf(words->to, " %u cell%s fewer than %d launches that count, and so no interval: a larger --budget gives more.",
                few, few == 1 ? " has" : "s have", LAB_INTERVAL_LAUNCHES);
}

int lab_words_print(const struct lab_run *run, const struct lab_groups *groups, FILE *to, const struct lab_render_style *style)
{
    char *text = NULL;
    size_t size = 0;
    struct words words = {.to = open_memstream(&text, &size), .groups = groups};
    if (!words.to)
        return lab_fail(ENOMEM, "the closing words");
    bool interrupted = run->ended_by && strcmp(run->ended_by, "interrupted") == 0; /* told where the end is told */
    if (run->failure && !interrupted)
        fprintf(words.to, " The run failed: %s.", run->failure);
    bool noisy = false, any = false, enough = false;
    for (uint32_t i = 0; i < run->cell_count; i++) {
        noisy |= groups->summaries[i].verdict == LAB_NOISY;
        any |= groups->summaries[i].kept > 0;
        enough |= groups->summaries[i].kept >= LAB_INTERVAL_LAUNCHES;
    }
    words.all_few = any && !enough;
    if (!any)
        fputs(" No cell gave a figure.", words.to);
    else if (noisy)
        fputs(" The machine was noisy (grade C): what follows was seen in this run and is no claim about the next.", words.to);
    if (words.all_few)
        fprintf(words.to, " No cell has the %d launches that an interval takes, and so these are medians and no claims: a larger "
                "--budget gives more.", LAB_INTERVAL_LAUNCHES);
    for (size_t i = 0; i < groups->count; i++)
        say_group(&words, &groups->items[i]);
    fputc('\n', words.to);
    say_distances(&words);
    say_what_is_missing(&words);
    if (any || interrupted || !run->ended_by)
        say_end(&words);
    bool lost = ferror(words.to);
    if (fclose(words.to) || lost) {
        free(text);
        return lab_fail(ENOMEM, "the closing words");
    }
    char *rest = text;
    for (char *line; !words.err && (line = strsep(&rest, "\n"));)
        if (line[strspn(line, " ")])
            lab_layout_wrapped(to, line, 0, 2, lab_layout_width(style));
    free(text);
    return words.err;
}
