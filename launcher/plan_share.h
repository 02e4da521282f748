#ifndef LAB_LAUNCHER_PLAN_SHARE_H
#define LAB_LAUNCHER_PLAN_SHARE_H

#include "launcher/plan.h"

/* Counts the seats of a cell whose pattern shares a channel (node/pattern.h), whose transport, topology and parties are known. The refusal is a sentence for the
 * reader, the caller's to free; NULL: they can. -ENOMEM. */
int lab_plan_share(struct lab_plan_cell *cell, char **ret_refusal);

#endif
