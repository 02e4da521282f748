/* ipclab-lab-ssh [-options] HOST COMMAND...: what ssh would do, in a virtual host (launcher/door.h).
 *
 * The command inherits the descriptor of the keys as it is. As with ssh the words of the command are joined by blanks and given to a shell there. Options are those without a value that
 * mpiexec adds (-x), and are ignored. */
#include "base/error.h"
#include "launcher/door.h"
#include "launcher/lab.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One program and its arguments: it takes the shell's place, so that its end is seen as it is, and not by a shell that may itself die while
 * it tells of it. */
static bool is_simple(int count, char **words)
{
    bool simple = words[0][0] && strchr("/\"'", words[0][0]);
    for (int i = 0; i < count; i++)
        simple = simple && !strpbrk(words[i], ";&|<>()`$\\\n");
    return simple;
}

int main(int argc, char **argv)
{
    FILE *to = lab_door_complaints(NULL);
    int at = 1;
    while (at < argc && argv[at][0] == '-')
        at++;
    if (argc - at < 2) {
        fprintf(stderr, "Usage: ipclab-lab-ssh HOST COMMAND...\n");
        return LAB_DOOR_UNREACHABLE;
    }
    const char *host = argv[at++];
    char *command = lab_door_join(is_simple(argc - at, argv + at) ? "exec " : "", argc - at, argv + at, "");
    if (!command) {
        perror("ipclab-lab-ssh");
        return LAB_DOOR_UNREACHABLE;
    }
    char shell[] = "/bin/sh", option[] = "-c";
    int code = lab_lab_exec(host, (char *[]){shell, option, command, NULL});
    free(command);
    if (code < 0)
        fprintf(to, LAB_DOOR_SAYS "host %s: %s\n", host, lab_error_last()->text);
    else
        lab_door_tell(to, host, argv[at], code);
    return code < 0 ? LAB_DOOR_UNREACHABLE : code;
}
