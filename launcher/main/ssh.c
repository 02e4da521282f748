/* ipclab-ssh [options of ssh] HOST COMMAND...: ssh, the one that PATH finds, as a run needs it (launcher/door.h): it neither asks nor waits
 * for ever, and it notices a cut link.
 *
 * ssh exits with 255 whether the command was ended by a signal or could not be started at all, and never says by which. So the command is
 * given to a shell of its own on the other side, which stays, and says by its exit code what has become of it.
 *
 * Where the run has keys, ssh's standard input is the way to that side: no command reads anything else there. */
#include "base/child.h"
#include "base/error.h"
#include "launcher/capture.h"
#include "launcher/crew.h"
#include "launcher/door.h"
#include "proto/bus/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ssh(1)'s own; a colon after those with a value. */
#define OPTIONS_OF_SSH "+:1246AaCfGgKkMNnqsTtVvXxYyB:b:c:D:E:e:F:I:i:J:L:l:m:O:o:P:p:Q:R:S:W:w:"

static char *const always[] = {
    (char[]){"-o"}, (char[]){"BatchMode=yes"}, (char[]){"-o"}, (char[]){"ConnectTimeout=5"},
    (char[]){"-o"}, (char[]){"ServerAliveInterval=2"}, (char[]){"-o"}, (char[]){"ServerAliveCountMax=3"},
};
enum { ALWAYS = sizeof always / sizeof *always };

/* What runs the command there: nothing, or who makes keys that it reads into a descriptor for it. */
static int find_carrier(bool keys, char to[PATH_MAX + 32])
{
    char node[PATH_MAX];
    int err = keys ? lab_crew_program("ipclab-node", node, sizeof node) : 0;
    if (!err && keys && strchr(node, '\''))
        err = lab_refuse(EINVAL, "the path %s holds a quote, which no remote shell would understand", node);
    if (!err)
        snprintf(to, PATH_MAX + 32, keys ? "'%s' --carry-keys " : "", node);
    return err;
}

/* The login shell may be any; it hands the command to one that is known, in quotes that all of them understand. */
static char *quote(const char *command)
{
    char *quoted = malloc(4 * strlen(command) + 32);
    if (!quoted)
        return NULL;
    char *end = stpcpy(quoted, "exec /bin/sh -c '");
    for (; *command; command++)
        end = *command == '\'' ? stpcpy(end, "'\\''") : (*end = *command, end + 1);
    (void)stpcpy(end, "; exit $?'");
    return quoted;
}

/* The read end of a pipe that holds the keys and nothing more: they are fewer than any pipe takes at once. */
static int fill_pipe(int keys, int *ret_fd)
{
    char text[LAB_KEYS_TEXT];
    int ends[2], size = lab_keys_take_text(keys, text);
    if (size < 0)
        return size;
    int err = pipe2(ends, O_CLOEXEC) < 0 ? lab_fail(errno, "cannot hand on the keys") : 0;
    if (!err && write(ends[1], text, (size_t)size) != size) {
        err = lab_fail(errno, "cannot hand on the keys");
        close(ends[0]);
    }
    explicit_bzero(text, sizeof text);
    if (err)
        return err;
    close(ends[1]);
    *ret_fd = ends[0];
    return 0;
}

/* `passed`: what comes before the host, and it; ssh's standard error leads to where doors complain, its input is `from`. */
static int run_ssh(FILE *to, int from, char **passed, int count, char *command, int *ret_status)
{
    char path[PATH_MAX], name[] = "ssh";
    int err = lab_program_find(name, path);
    char **words = err ? NULL : calloc((size_t)count + ALWAYS + 3, sizeof *words);
    if (!words)
        return err ? err : lab_fail(ENOMEM, "cannot start ssh");
    words[0] = name;
    memcpy(words + 1, always, sizeof always);
    memcpy(words + 1 + ALWAYS, passed, (size_t)count * sizeof *passed);
    words[1 + ALWAYS + count] = command;
    const struct lab_child_fd fds[] = {{fileno(to), STDERR_FILENO}, {from, STDIN_FILENO}};
    struct lab_child child;
    err = lab_child_spawn(&(struct lab_child_spec){.path = path, .argv = words, .fds = fds, .fd_count = from == STDIN_FILENO ? 1 : 2, .cpu = -1}, &child);
    free(words);
    return err ? err : lab_child_reap(&child, UINT64_MAX, ret_status); /* as long as the run: its end is that of our group */
}

int main(int argc, char **argv)
{
    int keys, from = STDIN_FILENO;
    FILE *to = lab_door_complaints(&keys);
    while (getopt(argc, argv, OPTIONS_OF_SSH) != -1)
        ;
    if (argc - optind < 2) {
        fprintf(stderr, "Usage: ipclab-ssh [options of ssh] HOST COMMAND...\n");
        return LAB_DOOR_UNREACHABLE;
    }
    int at = optind + 1, status = 0;
    const char *host = argv[optind];
    char carrier[PATH_MAX + 32];
    int err = find_carrier(keys >= 0, carrier);
    if (!err && keys >= 0)
        err = fill_pipe(keys, &from);
    char *command = err ? NULL : lab_door_join(carrier, argc - at, argv + at, ""), *quoted = command ? quote(command) : NULL;
    if (!err)
        err = quoted ? run_ssh(to, from, argv + 1, optind, quoted, &status) : lab_fail(ENOMEM, "cannot start ssh");
    free(command);
    free(quoted);
    char how[LAB_CHILD_STATUS_TEXT];
    if (err)
        fprintf(to, LAB_DOOR_SAYS "host %s: %s\n", host, lab_error_last()->text);
    else if (WIFSIGNALED(status))
        fprintf(to, LAB_DOOR_SAYS "host %s: ssh to it, on this host, %s\n", host, lab_child_status_text(status, how));
    else if (WEXITSTATUS(status) != LAB_DOOR_UNREACHABLE)
        lab_door_tell(to, host, argv[at], WEXITSTATUS(status));
    return err || WIFSIGNALED(status) ? LAB_DOOR_UNREACHABLE : WEXITSTATUS(status);
}
