/* The environment of processes that we start: our own, without what another launcher left in it. */
#ifndef LAB_BASE_ENVIRONMENT_H
#define LAB_BASE_ENVIRONMENT_H

#include <stdbool.h>
#include <stddef.h>

/* A NULL-terminated copy for execve(2): the current environment, without the variables of process managers (PMI_*, PMIX_*,
 * HYDI_*, MPI_LOCAL*) unless `keep_world`, and without those that `more` names; then `more` ("NAME=value",
 * NULL-terminated). The texts are not copied: they must outlive it. free() it; NULL: no memory. */
char **lab_environment_make(bool keep_world, const char *const *more);

#endif
