/* Pieces of the table that others print too. Internal to report/. */
#ifndef LAB_REPORT_TABLE_H
#define LAB_REPORT_TABLE_H

#include "base/text.h"
#include "report/groups.h"
#include "report/layout.h"

#include <stdio.h>

/* A figure as a table shows it, "" when there is none: "64.2 ns", "12.3 M/s", "1.20 GB/s" ... */
char *lab_table_value(const struct lab_group *group, const struct lab_entry *entry, char to[LAB_TEXT_NUMBER]);
/* ... half its interval, "±1.2%", never below what the histogram can tell apart, "" without one ... */
char *lab_table_precision(const struct lab_group *group, const struct lab_entry *entry, const struct lab_signs *signs,
                          char to[LAB_TEXT_NUMBER]);
/* ... and how many times as fast as the baseline: "×4.80", "≈1.00" shown to be equal, "~1.1" not shown to differ. */
char *lab_table_ratio(const struct lab_ratio *ratio, const struct lab_signs *signs, char to[LAB_TEXT_NUMBER]);

/* What stands above the groups (the run, its machine, how to read the columns) and below them (skipped cells, limits,
 * noise, warnings). 0 or -ENOMEM. */
int lab_frame_head(const struct lab_groups *groups, FILE *to, const struct lab_render_style *style);
int lab_frame_foot(const struct lab_groups *groups, FILE *to, const struct lab_render_style *style);

#endif
