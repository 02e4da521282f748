/* ipclab-lab-ssh [-options] HOST COMMAND...: what ssh would do, in a virtual host. mpiexec calls it (-launcher-exec).
 *
 * As with ssh the words of the command are joined by blanks and given to a shell there. Options are those without a value that
 * mpiexec adds (-x), and are ignored. Exit codes are those of the command, 255 when the host cannot be entered. Unlike ssh it says
 * so when a signal has ended the command: mpiexec itself would wait for ever. */
#include "base/error.h"
#include "launcher/lab.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BY_SIGNAL = 128, UNREACHABLE = 255 };

/* `command` is a word for a shell, in quotes perhaps: its last part names the program. */
static void tell_signal(FILE *to, const char *host, const char *command, int number)
{
    const char *slash = strrchr(command, '/'), *name = slash ? slash + 1 : command;
    if (number < NSIG)
        fprintf(to, "ipclab-lab-ssh: host %s: %.*s ended by signal %d (SIG%s)\n", host, (int)strcspn(name, " '\""), name, number,
                sigabbrev_np(number) ? sigabbrev_np(number) : "?");
}

/* Where complaints are read. The command must not inherit that: it is not its place. */
static FILE *complaints(void)
{
    FILE *to = getenv(LAB_DOOR_VARIABLE) && fcntl(LAB_DOOR_FD, F_SETFD, FD_CLOEXEC) == 0 ? fdopen(LAB_DOOR_FD, "w") : NULL;
    unsetenv(LAB_DOOR_VARIABLE);
    if (!to)
        return stderr;
    setvbuf(to, NULL, _IOLBF, 0); /* a line is one write, and is not torn by those of others */
    return to;
}

/* One program and its arguments: it takes the shell's place, so that its end is seen as it is, and not by a shell that may itself die while
 * it tells of it. */
static const char in_its_place[] = "exec ";
static bool is_simple(int count, char **words)
{
    bool simple = words[0][0] && strchr("/\"'", words[0][0]);
    for (int i = 0; i < count; i++)
        simple = simple && !strpbrk(words[i], ";&|<>()`$\\\n");
    return simple;
}

int main(int argc, char **argv)
{
    FILE *to = complaints();
    int at = 1;
    while (at < argc && argv[at][0] == '-')
        at++;
    if (argc - at < 2) {
        fprintf(stderr, "Usage: ipclab-lab-ssh HOST COMMAND...\n");
        return UNREACHABLE;
    }
    const char *host = argv[at++];
    size_t size = sizeof in_its_place;
    for (int i = at; i < argc; i++)
        size += strlen(argv[i]) + 1;
    char *command = calloc(size, 1);
    if (!command) {
        perror("ipclab-lab-ssh");
        return UNREACHABLE;
    }
    char *end = is_simple(argc - at, argv + at) ? stpcpy(command, in_its_place) : command;
    for (int i = at; i < argc; i++) {
        if (i > at)
            *end++ = ' ';
        end = stpcpy(end, argv[i]);
    }

    char shell[] = "/bin/sh", option[] = "-c";
    int code = lab_lab_exec(host, (char *[]){shell, option, command, NULL});
    free(command);
    if (code < 0)
        fprintf(to, "ipclab-lab-ssh: host %s: %s\n", host, lab_error_last()->text);
    else if (code > BY_SIGNAL)
        tell_signal(to, host, argv[at], code - BY_SIGNAL);
    return code < 0 ? UNREACHABLE : code;
}
