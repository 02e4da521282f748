#include "base/environment.h"

#include <stdlib.h>
#include <string.h>

extern char **environ;

static bool of_process_manager(const char *variable)
{
    static const char *const beginnings[] = {"PMI_", "PMIX_", "HYDI_", "MPI_LOCALNRANKS=", "MPI_LOCALRANKID="};
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++)
        if (strncmp(variable, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    return false;
}

static bool named_in(const char *variable, const char *const *more)
{
    size_t length = strcspn(variable, "=") + 1;
    for (; *more; more++)
        if (strncmp(variable, *more, length) == 0)
            return true;
    return false;
}

char **lab_environment_make(bool keep_world, const char *const *more)
{
    size_t count = 0, used = 0;
    for (char **at = environ; at && *at; at++)
        count++;
    for (const char *const *at = more; *at; at++)
        count++;
    char **made = calloc(count + 1, sizeof(char *));
    if (!made)
        return NULL;
    for (char **at = environ; at && *at; at++)
        if ((keep_world || !of_process_manager(*at)) && !named_in(*at, more))
            made[used++] = *at;
    for (const char *const *at = more; *at; at++)
        memcpy(&made[used++], at, sizeof *at); /* execve(2) takes char *const[] and changes none of them */
    return made;
}
