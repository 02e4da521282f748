#include "node/hazards/hazards.h"

#include <string.h>

static const struct lab_hazard *const hazards[] = {
    &lab_hazard_torn_read, &lab_hazard_lost_update, &lab_hazard_deadlock, &lab_hazard_abandoned_lock,
};

const struct lab_hazard *lab_hazard_at(size_t index)
{
    return index < sizeof hazards / sizeof *hazards ? hazards[index] : NULL;
}

const struct lab_hazard *lab_hazard_named(const char *name)
{
    const struct lab_hazard *hazard = NULL;
    for (size_t i = 0; (hazard = lab_hazard_at(i)) && strcmp(hazard->name, name) != 0; i++)
        continue;
    return hazard;
}
