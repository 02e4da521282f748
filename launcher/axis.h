/* What each axis of an experiment may hold: one row per axis, which checks the values of files and of the command line alike.
 *
 *     struct lab_values sizes = {0};
 *     err = lab_axis_add(LAB_AXIS_SIZE, "8..1MiB*4", &mark, &sizes);
 *     ...
 *     lab_values_free(&sizes);
 *
 * Names are those of the whole laboratory, whether this version can do them or not: the plan skips what it cannot. */
#ifndef LAB_LAUNCHER_AXIS_H
#define LAB_LAUNCHER_AXIS_H

#include "launcher/experiment.h"

enum { LAB_AXIS_VALUES = 256 }; /* at most, of one axis */

/* Whether there is an axis of that name. */
bool lab_axis_named(const char *name, enum lab_axis *ret_axis);

/* The names that a value of this axis may have, NULL-terminated; NULL for an axis of numbers or free text. */
const char *const *lab_axis_choices(enum lab_axis axis);

/* Whether its values are numbers (`number` tells them apart) or names (`text` does). */
bool lab_axis_numeric(enum lab_axis axis);

/* Checks a value and appends it (a range of sizes: all of them). -EINVAL at the mark; -ENOMEM. */
int lab_axis_add(enum lab_axis axis, const char *text, const struct lab_mark *mark, struct lab_values *values);

int lab_values_add(struct lab_values *values, const char *text, uint64_t number, const struct lab_mark *mark); /* -ENOMEM */
void lab_values_free(struct lab_values *values);

#endif
