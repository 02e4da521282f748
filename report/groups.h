/* The cells of a run arranged for reading: a group for each pattern in each setting, a row for each mechanism, a column
 * for each size, and every cell compared with its baseline. What the table and the words are made from. Internal to
 * report/. */
#ifndef LAB_REPORT_GROUPS_H
#define LAB_REPORT_GROUPS_H

#include "report/statistics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAB_LABEL_TEXT = 128 };

struct lab_entry {
    const struct lab_cell *cell; /* NULL: the row has no cell of this size */
    const struct lab_summary *summary;
    const struct lab_entry *baseline; /* NULL: none for this size; itself for the baseline */
    struct lab_ratio ratio;           /* to the baseline, by the statistic of the group */
};

struct lab_group_row {
    char label[LAB_LABEL_TEXT]; /* the transport, and the options that tell it from the other rows */
    const char *wait;
    bool baseline;              /* some entry of it is one */
    bool floor;                 /* the null transport: what the rig itself costs */
    struct lab_entry *entries;  /* one for each size of the group */
};

struct lab_group {
    const struct lab_cell *first; /* pattern, topology, nodes, workers, placement, scope, workload are those of all */
    enum lab_statistic by;        /* latency where the pattern has one */
    char settings[LAB_LABEL_TEXT]; /* the options that all rows share, "window 64, batch 8"; "" when none is worth a word */
    uint64_t *sizes;              /* ascending */
    size_t size_count;
    struct lab_group_row *rows;   /* in the order of the plan, the floor last */
    size_t row_count;
    bool one_mode;                /* all probed cells are of the mode below */
    enum lab_proximity mode;
};

struct lab_groups {
    const struct lab_run *run;
    const struct lab_summary *summaries;
    struct lab_group *items;
    size_t count;
};

/* Rows in which every cell was skipped are left out, and so are groups without rows. The run and its summaries must
 * outlive the groups. -ENOMEM. */
int lab_groups_make(const struct lab_run *run, const struct lab_summary *summaries, struct lab_groups *ret_groups);
void lab_groups_fini(struct lab_groups *groups);

/* "1 node of 2 workers", "2 nodes" */
char *lab_group_parties(const struct lab_group *group, char to[LAB_LABEL_TEXT]);

/* "pingpong, 1 node of 2 workers, pair, other-core"; of the floor alone "pingpong, 1 worker that sends to itself" */
char *lab_group_title(const struct lab_group *group, char to[LAB_LABEL_TEXT]);

/* What the group's figures are: "half-round-trip time", "messages per second, ...". */
const char *lab_group_measure(const struct lab_group *group, char to[LAB_LABEL_TEXT]);

/* Whether its wait gives the CPU away until the other side acts; the others keep looking. */
bool lab_entry_sleeps(const struct lab_entry *entry);

/* The figure of an entry by the statistic of its group. */
struct lab_figure lab_entry_figure(const struct lab_group *group, const struct lab_entry *entry);

/* How many cells were skipped for each reason, in the order of the plan. The caller frees the array. */
struct lab_skip {
    const char *reason;
    uint32_t cells;
};
int lab_skips_make(const struct lab_run *run, const struct lab_summary *summaries, struct lab_skip **ret_skips,
                   size_t *ret_count);

#endif
