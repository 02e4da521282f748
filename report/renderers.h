/* What lab_render chooses from. Internal to report/. Each takes one summary per cell and leaves the stream's errors to the
 * caller: 0 or -ENOMEM. */
#ifndef LAB_REPORT_RENDERERS_H
#define LAB_REPORT_RENDERERS_H

#include "report/groups.h"
#include "report/render.h"
#include "report/statistics.h"

#include <stdio.h>

int lab_table_print(const struct lab_run *run, const struct lab_summary *summaries, FILE *to,
                    const struct lab_render_style *style);
int lab_csv_print(const struct lab_run *run, const struct lab_summary *summaries, FILE *to);
int lab_md_print(const struct lab_run *run, const struct lab_summary *summaries, FILE *to,
                 const struct lab_render_style *style);

/* The closing paragraph, wrapped to the style's width: what the figures say in plain words. Every sentence is drawn from
 * them, and is left out where they do not carry it. */
int lab_words_print(const struct lab_run *run, const struct lab_groups *groups, FILE *to,
                    const struct lab_render_style *style);

#endif
