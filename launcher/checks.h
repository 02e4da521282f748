/* What `ipclab doctor` looks at: one row a check, a function of the facts of one host. To add one: a function and a row in checks.c.
 *
 *     struct lab_finding finding;
 *     for (size_t i = 0; lab_check_name(i); i++)
 *         if (lab_check_run(i, &facts, &finding)) ... */
#ifndef LAB_LAUNCHER_CHECKS_H
#define LAB_LAUNCHER_CHECKS_H

#include "launcher/facts.h"

enum lab_gravity { LAB_WELL, LAB_DISTURBS, LAB_PREVENTS };

enum { LAB_FINDING_TEXT = 512 };
struct lab_finding {
    enum lab_gravity gravity;
    char text[LAB_FINDING_TEXT]; /* what was found, with its figures */
    char mend[LAB_FINDING_TEXT]; /* what mends it, most of all a command to paste; "": nothing to mend, or nobody can */
};

/* "ok", "will disturb", "prevents" */
const char *lab_gravity_name(enum lab_gravity gravity);

/* NULL beyond the last. */
const char *lab_check_name(size_t index);

/* The next finding of a check, `number` from 0 on; false: there are no more. Most have one. */
bool lab_check_run(size_t index, const struct lab_facts *facts, size_t number, struct lab_finding *ret_finding);

#endif
