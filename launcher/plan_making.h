/* A cell on its way, and the checks that are files of their own. Internal to launcher/plan*.c. */
#ifndef LAB_LAUNCHER_PLAN_MAKING_H
#define LAB_LAUNCHER_PLAN_MAKING_H

#include "base/error.h"
#include "launcher/plan_cell.h"

/* A cell on its way: every check returns 0 to go on, LAB_PLAN_SKIPPED, or -ENOMEM. */
enum { LAB_PLAN_SKIPPED = 1 };

struct lab_plan_making {
    const struct lab_site *site;
    const struct lab_combination *asked;
    struct lab_plan_cell *cell;
};

/* Says why the cell is none: LAB_PLAN_SKIPPED, or -ENOMEM. */
LAB_PRINTF(2, 3) int lab_plan_skip(struct lab_plan_making *making, const char *format, ...);

/* Adds a sentence on how the cell runs: 0, or -ENOMEM. */
LAB_PRINTF(2, 3) int lab_plan_note(struct lab_plan_making *making, const char *format, ...);

int lab_plan_no_memory(void); /* -ENOMEM, recorded */

/* On other machines; virtual hosts share what this one has. Parties on hosts that nobody has named may be on one, and are
 * placed as if they were. */
bool lab_plan_elsewhere(const struct lab_plan_making *making);

int lab_plan_mpi(struct lab_plan_making *making);   /* how MPI is told to move messages */
int lab_plan_back(struct lab_plan_making *making);  /* whether its channels can be made, and of what */
int lab_plan_place(struct lab_plan_making *making); /* on which cpus its parties are */

#endif
