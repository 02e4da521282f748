/* The hazards, one file each. */
#ifndef LAB_NODE_HAZARDS_HAZARDS_H
#define LAB_NODE_HAZARDS_HAZARDS_H

#include "node/hazard.h"

extern const struct lab_hazard lab_hazard_torn_read;
extern const struct lab_hazard lab_hazard_lost_update;
extern const struct lab_hazard lab_hazard_deadlock;
extern const struct lab_hazard lab_hazard_abandoned_lock;

#endif
