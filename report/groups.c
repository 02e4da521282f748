#include "report/groups.h"

#include "base/error.h"
#include "report/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_group(const struct lab_cell *a, const struct lab_cell *b)
{
    return same_text(a->pattern, b->pattern) && same_text(a->topology, b->topology) && same_text(a->workload, b->workload) &&
           same_text(a->placement, b->placement) && a->nodes == b->nodes && a->workers == b->workers &&
           a->remote == b->remote;
}

/* Members of the group that is being made, with their options taken apart. */
struct member {
    const struct lab_cell *cell;
    const struct lab_summary *summary;
    struct lab_options options;
};

static const char *option_of(const struct member *member, const char *name)
{
    for (size_t i = 0; i < member->options.count; i++)
        if (strcmp(member->options.option[i].name, name) == 0)
            return member->options.option[i].text;
    return "";
}

static void read_member(const struct lab_cell *cell, const struct lab_summary *summary, struct member *to)
{
    to->cell = cell;
    to->summary = summary;
    lab_options_read(cell->options, &to->options);
    /* What executes (process, thread, fiber) tells rows apart just as an option does. */
    if (cell->unit && to->options.count < LAB_OPTIONS_MOST) {
        struct lab_option *unit = &to->options.option[to->options.count++];
        snprintf(unit->name, sizeof unit->name, "unit");
        snprintf(unit->text, sizeof unit->text, "%s", cell->unit);
    }
}

/* An option tells rows apart when two cells of one size have it differently. One that follows from the size (a window that
 * shrinks as messages grow) belongs to the column. */
static bool tells_apart(const struct member *members, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = i + 1; j < count; j++)
            if (members[i].cell->size_bytes == members[j].cell->size_bytes &&
                strcmp(option_of(&members[i], name), option_of(&members[j], name)) != 0)
                return true;
    return false;
}

struct naming {
    char apart[LAB_OPTIONS_MOST][LAB_OPTION_TEXT];
    size_t apart_count;
};

static void append(char to[LAB_LABEL_TEXT], const char *separator, const char *name, const char *text)
{
    size_t used = strlen(to);
    snprintf(to + used, LAB_LABEL_TEXT - used, "%s%s %s", used ? separator : "", name, text);
}

static bool known(const struct naming *naming, const char *name)
{
    for (size_t i = 0; i < naming->apart_count; i++)
        if (strcmp(naming->apart[i], name) == 0)
            return true;
    return false;
}

/* What a reader takes for granted: messages handed over one by one, and one at a time where a message is answered before the next,
 * whatever depth the buffers were given. */
static bool goes_without_saying(const char *name, const char *text, enum lab_statistic by)
{
    return (strcmp(name, "batch") == 0 && strcmp(text, "1") == 0) || (strcmp(name, "window") == 0 && by == LAB_BY_LATENCY);
}

/* Sorts the options into those that stand in the labels of rows and those that stand in the heading. */
static void sort_options(const struct member *members, size_t count, enum lab_statistic by, struct naming *naming,
                         char settings[LAB_LABEL_TEXT])
{
    struct naming shared = {.apart_count = 0};
    naming->apart_count = 0;
    settings[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < members[i].options.count; j++) {
            const char *name = members[i].options.option[j].name, *text = members[i].options.option[j].text;
            if (known(naming, name) || known(&shared, name))
                continue;
            bool apart = tells_apart(members, count, name);
            struct naming *to = apart ? naming : &shared;
            if (to->apart_count == LAB_OPTIONS_MOST)
                continue;
            snprintf(to->apart[to->apart_count++], LAB_OPTION_TEXT, "%s", name);
            if (apart || strcmp(name, "unit") == 0)
                continue;
            bool by_size = false;
            for (size_t k = 0; k < count; k++)
                by_size |= strcmp(option_of(&members[k], name), text) != 0;
            if (by_size || !goes_without_saying(name, text, by))
                append(settings, ", ", name, by_size ? "by size" : text);
        }
    }
}

static void label(const struct member *member, const struct naming *naming, char to[LAB_LABEL_TEXT])
{
    snprintf(to, LAB_LABEL_TEXT, "%s", member->cell->transport);
    for (size_t i = 0; i < naming->apart_count; i++) {
        const char *text = option_of(member, naming->apart[i]);
        bool is_link = strcmp(naming->apart[i], "link") == 0;
        if (*text)
            append(to, " ", is_link ? "via" : naming->apart[i], text);
    }
}

static size_t column_of(const struct lab_group *group, uint64_t size_bytes)
{
    size_t column = 0;
    while (group->sizes[column] != size_bytes)
        column++;
    return column;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int take_sizes(const struct member *members, size_t count, struct lab_group *group)
{
    group->sizes = calloc(count, sizeof *group->sizes);
    if (!group->sizes)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        group->sizes[i] = members[i].cell->size_bytes;
    qsort(group->sizes, count, sizeof *group->sizes, ascending);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || group->sizes[i] != group->sizes[group->size_count - 1])
            group->sizes[group->size_count++] = group->sizes[i];
    return 0;
}

/* The row of this label with room for the size; a cell that is twice in the plan gets a row of its own. */
static struct lab_group_row *row_for(struct lab_group *group, const char *name, const struct member *member, size_t column)
{
    for (size_t i = 0; i < group->row_count; i++) {
        struct lab_group_row *row = &group->rows[i];
        if (strcmp(row->label, name) == 0 && same_text(row->wait, member->cell->wait) && !row->entries[column].cell)
            return row;
    }
    struct lab_group_row *row = &group->rows[group->row_count];
    row->entries = calloc(group->size_count, sizeof *row->entries);
    if (!row->entries)
        return NULL;
    snprintf(row->label, sizeof row->label, "%s", name);
    row->wait = member->cell->wait;
    row->floor = same_text(member->cell->transport, "null");
    group->row_count++;
    return row;
}

static int take_rows(const struct member *members, size_t count, const struct naming *naming, struct lab_group *group)
{
    group->rows = calloc(count, sizeof *group->rows);
    if (!group->rows)
        return -ENOMEM;
    for (int floor = 0; floor < 2; floor++) {
        for (size_t i = 0; i < count; i++) {
            if (same_text(members[i].cell->transport, "null") != floor)
                continue;
            char name[LAB_LABEL_TEXT];
            label(&members[i], naming, name);
            size_t column = column_of(group, members[i].cell->size_bytes);
            struct lab_group_row *row = row_for(group, name, &members[i], column);
            if (!row)
                return -ENOMEM;
            row->entries[column].cell = members[i].cell;
            row->entries[column].summary = members[i].summary;
            row->baseline |= members[i].cell->baseline;
        }
    }
    return 0;
}

static size_t shared_options(const struct lab_cell *a, const struct lab_cell *b)
{
    struct lab_options of_a;
    lab_options_read(a->options, &of_a);
    size_t same = 0;
    for (size_t i = 0; i < of_a.count; i++) {
        char text[LAB_OPTION_TEXT];
        same += lab_option_text(b->options, of_a.option[i].name, text) && strcmp(text, of_a.option[i].text) == 0;
    }
    return same;
}

/* Of the baselines of this size the one set most like the cell. */
static const struct lab_entry *baseline_for(const struct lab_group *group, const struct lab_entry *entry, size_t column)
{
    const struct lab_entry *best = NULL;
    size_t best_shared = 0;
    for (size_t i = 0; i < group->row_count; i++) {
        const struct lab_entry *candidate = &group->rows[i].entries[column];
        if (!candidate->cell || !candidate->cell->baseline)
            continue;
        if (candidate == entry)
            return candidate;
        size_t shared = shared_options(entry->cell, candidate->cell);
        if (!best || shared > best_shared) {
            best = candidate;
            best_shared = shared;
        }
    }
    return best;
}

static int compare_entries(struct lab_group *group)
{
    for (size_t i = 0; i < group->row_count; i++) {
        for (size_t j = 0; j < group->size_count; j++) {
            struct lab_entry *entry = &group->rows[i].entries[j];
            entry->ratio = (struct lab_ratio){.speed = {(double)NAN, (double)NAN, (double)NAN}};
            if (!entry->cell || group->rows[i].floor)
                continue;
            entry->baseline = baseline_for(group, entry, j);
            if (!entry->baseline || entry->baseline == entry)
                continue;
            int err = lab_cell_ratio(entry->cell, entry->summary, entry->baseline->cell, entry->baseline->summary, group->by,
                                     &entry->ratio);
            if (err)
                return err;
        }
    }
    return 0;
}

static int make_group(const struct member *members, size_t count, struct lab_group *group)
{
    *group = (struct lab_group){.first = members[0].cell, .by = LAB_BY_RATE, .one_mode = true};
    for (size_t i = 0; i < count; i++) {
        enum lab_proximity mode = members[i].summary->mode;
        if (members[i].cell->latency_kind)
            group->by = LAB_BY_LATENCY;
        if (mode == LAB_NEAR_UNKNOWN)
            continue;
        group->one_mode &= group->mode == LAB_NEAR_UNKNOWN || group->mode == mode;
        group->mode = mode;
    }
    struct naming naming;
    sort_options(members, count, group->by, &naming, group->settings);
    int err = take_sizes(members, count, group);
    if (!err)
        err = take_rows(members, count, &naming, group);
    return err ? err : compare_entries(group);
}

/* A group of the rig's floor alone explains the others, and so comes after them. */
static void floors_last(struct lab_groups *groups)
{
    for (size_t i = 0, left = groups->count; left > 0; left--) {
        struct lab_group group = groups->items[i];
        if (!group.row_count || !group.rows[0].floor) {
            i++;
            continue;
        }
        memmove(&groups->items[i], &groups->items[i + 1], (groups->count - i - 1) * sizeof group);
        groups->items[groups->count - 1] = group;
    }
}

int lab_groups_make(const struct lab_run *run, const struct lab_summary *summaries, struct lab_groups *ret_groups)
{
    struct lab_groups groups = {.run = run, .summaries = summaries};
    struct member *members = calloc(run->cell_count + 1, sizeof *members);
    bool *taken = calloc(run->cell_count + 1, sizeof *taken);
    groups.items = calloc(run->cell_count + 1, sizeof *groups.items);
    int err = members && taken && groups.items ? 0 : -ENOMEM;
    for (uint32_t i = 0; i < run->cell_count && !err; i++) {
        if (taken[i] || summaries[i].verdict == LAB_SKIPPED)
            continue;
        size_t count = 0;
        for (uint32_t j = i; j < run->cell_count; j++) {
            if (taken[j] || summaries[j].verdict == LAB_SKIPPED || !same_group(&run->cells[i], &run->cells[j]))
                continue;
            read_member(&run->cells[j], &summaries[j], &members[count++]);
            taken[j] = true;
        }
        err = make_group(members, count, &groups.items[groups.count++]);
    }
    floors_last(&groups);
    free(members);
    free(taken);
    if (err) {
        lab_groups_fini(&groups);
        return lab_fail(ENOMEM, "the groups of %u cells", run->cell_count);
    }
    *ret_groups = groups;
    return 0;
}

void lab_groups_fini(struct lab_groups *groups)
{
    for (size_t i = 0; i < groups->count; i++) {
        for (size_t j = 0; j < groups->items[i].row_count; j++)
            free(groups->items[i].rows[j].entries);
        free(groups->items[i].rows);
        free(groups->items[i].sizes);
    }
    free(groups->items);
    *groups = (struct lab_groups){.count = 0};
}

/* ---- words about groups ---- */

bool lab_entry_sleeps(const struct lab_entry *entry)
{
    static const char *const sleeping[] = {"futex", "block", "semaphore", "condvar", "poll"};
    for (size_t i = 0; entry->cell->wait && i < sizeof sleeping / sizeof *sleeping; i++)
        if (strcmp(entry->cell->wait, sleeping[i]) == 0)
            return true;
    return false;
}

char *lab_group_parties(const struct lab_group *group, char to[LAB_LABEL_TEXT])
{
    uint32_t nodes = group->first->nodes, workers = group->first->workers;
    int used = snprintf(to, LAB_LABEL_TEXT, "%u node%s", nodes, nodes == 1 ? "" : "s");
    if (workers)
        snprintf(to + used, LAB_LABEL_TEXT - (size_t)used, " of %u worker%s", workers, workers == 1 ? "" : "s");
    return to;
}

char *lab_group_title(const struct lab_group *group, char to[LAB_LABEL_TEXT])
{
    const struct lab_cell *cell = group->first;
    char where[LAB_LABEL_TEXT];
    if (group->row_count && group->rows[0].floor) {
        bool anywhere = cell->placement && strcmp(cell->placement, "any") == 0;
        snprintf(to, LAB_LABEL_TEXT, "%.40s, 1 worker that sends to itself%s", cell->pattern, anywhere ? ", on any CPU" : "");
        return to;
    }
    lab_group_parties(group, where);
    snprintf(to, LAB_LABEL_TEXT, "%s%s%s, %.40s%s, %s, %s", cell->pattern, cell->workload ? " " : "",
             cell->workload ? cell->workload : "", where, cell->remote ? " on different hosts" : "", cell->topology,
             cell->placement ? cell->placement : "any");
    return to;
}

const char *lab_group_measure(const struct lab_group *group, char to[LAB_LABEL_TEXT])
{
    if (group->by == LAB_BY_RATE)
        return "messages per second, from 4 KiB on bytes per second";
    const char *kind = NULL;
    for (size_t i = 0; i < group->row_count && !kind; i++)
        for (size_t j = 0; j < group->size_count && !kind; j++)
            if (group->rows[i].entries[j].cell)
                kind = group->rows[i].entries[j].cell->latency_kind;
    snprintf(to, LAB_LABEL_TEXT, "%s time", kind ? kind : "");
    return to;
}

struct lab_figure lab_entry_figure(const struct lab_group *group, const struct lab_entry *entry)
{
    if (!entry->cell)
        return (struct lab_figure){(double)NAN, (double)NAN, (double)NAN};
    return group->by == LAB_BY_LATENCY ? entry->summary->p50_ns : entry->summary->messages_per_s;
}

int lab_skips_make(const struct lab_run *run, const struct lab_summary *summaries, struct lab_skip **ret_skips,
                   size_t *ret_count)
{
    struct lab_skip *skips = calloc(run->cell_count + 1, sizeof *skips);
    if (!skips)
        return lab_fail(ENOMEM, "the reasons of skipped cells");
    size_t count = 0;
    for (uint32_t i = 0; i < run->cell_count; i++) {
        if (summaries[i].verdict != LAB_SKIPPED)
            continue;
        size_t at = 0;
        while (at < count && strcmp(skips[at].reason, summaries[i].reason) != 0)
            at++;
        if (at == count)
            skips[count++].reason = summaries[i].reason;
        skips[at].cells++;
    }
    *ret_skips = skips;
    *ret_count = count;
    return 0;
}
