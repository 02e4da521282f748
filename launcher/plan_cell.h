/* One combination of the axes made into a cell, or into a reason why it is none. Internal to launcher/plan*.c. */
#ifndef LAB_LAUNCHER_PLAN_CELL_H
#define LAB_LAUNCHER_PLAN_CELL_H

#include "launcher/hosts.h"
#include "launcher/plan.h"

/* What a combination asks for: a value of each axis, NULL for the default. */
struct lab_combination {
    const struct lab_value *value[LAB_AXES];
    struct lab_mark mark; /* of its block */
};

/* Where the cells of a plan would run. */
struct lab_site {
    const struct lab_hosts *hosts; /* NULL: none are named */
    bool lab;                      /* every node is a virtual host */
    const struct lab_machine *machine;
};

/* Fills in the cell, all of it but `id` and `baseline`. 0 (a cell that is skipped is no failure) or -ENOMEM. */
int lab_plan_cell_make(const struct lab_site *site, const struct lab_combination *combination, struct lab_plan_cell *ret_cell);
void lab_plan_cell_fini(struct lab_plan_cell *cell);

/* Whether everything the filter names is what the combination asks for, defaults included. */
bool lab_plan_cell_matches(const struct lab_plan_cell *cell, const struct lab_combination *combination,
                           const struct lab_filter *filter);

/* Whether two cells mean the same measurement, or the same refusal. */
bool lab_plan_cell_same(const struct lab_plan_cell *a, const struct lab_plan_cell *b);

#endif
