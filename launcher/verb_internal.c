/* `ipclab node` and `ipclab worker`: the internal programs under the name of the command, for launchers that know no other. */
#include "launcher/verbs.h"

#include "base/error.h"
#include "launcher/crew.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int lab_verb_internal(const struct lab_arguments *arguments)
{
    char name[32], path[PATH_MAX];
    snprintf(name, sizeof name, "ipclab-%s", arguments->verb);
    int err = lab_crew_program(name, path, sizeof path);
    if (err)
        return lab_exit_of(err);
    char **argv = calloc(arguments->rest_count + 2, sizeof *argv);
    if (!argv)
        return lab_exit_of(lab_fail(ENOMEM, "cannot start %s", path));
    argv[0] = path;
    memcpy(argv + 1, arguments->rest, arguments->rest_count * sizeof *argv);
    execv(path, argv);
    err = lab_fail(errno, "cannot start %s", path);
    free(argv);
    return lab_exit_of(err);
}
