#include "launcher/text_file.h"

#include "base/error.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int too_large(const char *path, const char *what, size_t most)
{
    char limit[LAB_TEXT_NUMBER];
    return lab_refuse(EFBIG, "%s: %s is larger than %s", path, what, lab_format_size(most, limit));
}

static int read_all(int fd, const char *path, const char *what, size_t most, char *to, size_t *ret_size)
{
    size_t size = 0;
    for (;;) {
        ssize_t got = read(fd, to + size, most + 1 - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return lab_fail(errno, "%s: cannot read %s", path, what);
        size += (size_t)got;
        if (size > most)
            return too_large(path, what, most);
        if (got == 0) {
            to[size] = '\0';
            *ret_size = size;
            return 0;
        }
    }
}

int lab_text_file_read(const char *path, const char *what, size_t most, char **ret_text, size_t *ret_size)
{
    /* O_NONBLOCK: opening a fifo must not wait for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return lab_fail(errno, "%s: cannot open %s", path, what);
    struct stat facts;
    char *text = NULL;
    int err = 0;
    if (fstat(fd, &facts) != 0)
        err = lab_fail(errno, "%s: cannot look at %s", path, what);
    else if (!S_ISREG(facts.st_mode))
        err = lab_refuse(EINVAL, "%s: %s must be a regular file, and this is a %s", path, what,
                         S_ISDIR(facts.st_mode) ? "directory" : S_ISFIFO(facts.st_mode) ? "pipe" : "device or socket");
    else if ((size_t)facts.st_size > most)
        err = too_large(path, what, most);
    else if (!(text = malloc(most + 2)))
        err = lab_fail(ENOMEM, "%s: cannot read %s", path, what);
    else
        err = read_all(fd, path, what, most, text, ret_size);
    close(fd);
    if (err)
        free(text);
    else
        *ret_text = text;
    return err;
}
