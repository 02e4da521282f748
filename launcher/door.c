#include "launcher/door.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { BY_SIGNAL = 128 };

FILE *lab_door_complaints(int *ret_keys)
{
    if (ret_keys)
        *ret_keys = getenv(LAB_DOOR_VARIABLE) && fcntl(LAB_DOOR_KEYS_FD, F_GETFD) >= 0 ? LAB_DOOR_KEYS_FD : -1;
    FILE *to = getenv(LAB_DOOR_VARIABLE) && fcntl(LAB_DOOR_FD, F_SETFD, FD_CLOEXEC) == 0 ? fdopen(LAB_DOOR_FD, "w") : NULL;
    unsetenv(LAB_DOOR_VARIABLE);
    if (!to)
        return stderr;
    setvbuf(to, NULL, _IOLBF, 0); /* a line is one write, and is not torn by those of others */
    return to;
}

void lab_door_tell(FILE *to, const char *host, const char *command, int code)
{
    const char *slash = strrchr(command, '/'), *name = slash ? slash + 1 : command + strspn(command, "'\"");
    int number = code - BY_SIGNAL;
    if (number > 0 && number < NSIG)
        fprintf(to, LAB_DOOR_SAYS "host %s: %.*s ended by signal %d (SIG%s)\n", host, (int)strcspn(name, " '\""), name, number,
                sigabbrev_np(number) ? sigabbrev_np(number) : "?");
}

char *lab_door_join(const char *before, int count, char *const *words, const char *after)
{
    size_t size = strlen(before) + strlen(after) + 1;
    for (int i = 0; i < count; i++)
        size += strlen(words[i]) + 1;
    char *joined = malloc(size);
    if (!joined)
        return NULL;
    char *end = stpcpy(joined, before);
    for (int i = 0; i < count; i++) {
        if (i)
            *end++ = ' ';
        end = stpcpy(end, words[i]);
    }
    (void)stpcpy(end, after);
    return joined;
}
