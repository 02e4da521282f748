/* What goes wrong between processes that share memory without a guard: on purpose, in a box, and beside it what the guard makes of it.
 * For `ipclab demo`; what a lesson shows has to happen before one's eyes, and nothing here is acted.
 *
 *     const struct lab_hazard *hazard = lab_hazard_named("torn-read");         // NULL: there is none
 *     struct lab_hazard_seen seen;
 *     err = hazard->show(false, budget_ns, &seen);                             // without the guard, about that long
 *     printf("%s %s of %s %s\n", seen.wrong, hazard->wrong, seen.tried, hazard->tried);
 *
 * A hazard is one file in node/hazards/ and one row of its table. Its parties are forked from the caller, on cpus of their own where there
 * are several, share one segment of memory, end with the caller, and are killed when the budget is over: a hazard may do anything and
 * leaves nothing. A race may fail to show; then `wrong` is 0, and it is for whoever prints it to say that this proves nothing. */
#ifndef LAB_NODE_HAZARD_H
#define LAB_NODE_HAZARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lab_hazard_seen {
    uint64_t tried, wrong;     /* counted, never computed */
    uint64_t took_ns;
    double recovery_ns;        /* median, from a death until work went on; NaN where nobody dies, or nothing went on */
    double recovery_worst_ns;
};

struct lab_hazard {
    const char *name, *question;
    const char *tried, *wrong;  /* what is counted, in the plural */
    const char *guard[2];       /* by `guarded` */
    const char *expected[2];    /* one sentence each */
    int (*show)(bool guarded, uint64_t budget_ns, struct lab_hazard_seen *ret_seen); /* 0 or -errno, recorded */
};

const struct lab_hazard *lab_hazard_at(size_t index); /* NULL beyond the end */
const struct lab_hazard *lab_hazard_named(const char *name);

#endif
