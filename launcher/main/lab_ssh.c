/* ipclab-lab-ssh [-options] HOST COMMAND...: what ssh would do, in a virtual host. mpiexec calls it (-launcher-exec).
 *
 * As with ssh the words of the command are joined by blanks and given to a shell there. Options are those without a value that
 * mpiexec adds (-x), and are ignored. Exit codes are those of the command, 255 when the host cannot be entered. */
#include "base/error.h"
#include "launcher/lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNREACHABLE = 255 };

int main(int argc, char **argv)
{
    int at = 1;
    while (at < argc && argv[at][0] == '-')
        at++;
    if (argc - at < 2) {
        fprintf(stderr, "Usage: ipclab-lab-ssh HOST COMMAND...\n");
        return UNREACHABLE;
    }
    const char *host = argv[at++];
    size_t size = 1;
    for (int i = at; i < argc; i++)
        size += strlen(argv[i]) + 1;
    char *command = calloc(size, 1);
    if (!command) {
        perror("ipclab-lab-ssh");
        return UNREACHABLE;
    }
    char *end = command;
    for (int i = at; i < argc; i++) {
        if (i > at)
            *end++ = ' ';
        end = stpcpy(end, argv[i]);
    }

    char shell[] = "/bin/sh", option[] = "-c";
    int code = lab_lab_exec(host, (char *[]){shell, option, command, NULL});
    free(command);
    if (code >= 0)
        return code;
    fprintf(stderr, "ipclab-lab-ssh: %s\n", lab_error_last()->text);
    return UNREACHABLE;
}
