#include "node/unit.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>

static const char *const names[LAB_UNITS] = {
    [LAB_UNIT_PROCESS] = "process",
    [LAB_UNIT_THREAD] = "thread",
    [LAB_UNIT_FIBER] = "fiber",
};

const char *lab_unit_name(enum lab_unit unit)
{
    return unit < LAB_UNITS ? names[unit] : NULL;
}

int lab_unit_named(const char *name, enum lab_unit *ret_unit)
{
    for (enum lab_unit unit = 0; unit < LAB_UNITS; unit++)
        if (strcmp(names[unit], name) == 0) {
            *ret_unit = unit;
            return 0;
        }
    return lab_refuse(EINVAL, "there is no unit named '%s'", name);
}
