#include "node/agent/parent.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void lab_parent_watch(struct lab_parent *ret_parent)
{
    struct lab_parent parent = {.pid = getppid(), .fd = -1, .name = "the process"};
    char path[32], name[sizeof parent.name];
    if (parent.pid > 0)
        parent.fd = (int)syscall(SYS_pidfd_open, parent.pid, 0);
    /* A pid that was recycled before the descriptor held it is not our parent's any more. */
    if (parent.fd >= 0 && getppid() != parent.pid) {
        close(parent.fd);
        parent.fd = -1;
    }
    snprintf(path, sizeof path, "/proc/%d/comm", (int)parent.pid);
    int fd = parent.fd < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, name, sizeof name - 1);
    if (length > 0) {
        name[length] = '\0';
        snprintf(parent.name, sizeof parent.name, "%.*s", (int)strcspn(name, "\n"), name);
    }
    if (fd >= 0)
        close(fd);
    *ret_parent = parent;
}

bool lab_parent_gone(const struct lab_parent *parent)
{
    struct pollfd ended = {.fd = parent->fd, .events = POLLIN};
    return parent->fd >= 0 && poll(&ended, 1, 0) == 1;
}

void lab_parent_fini(struct lab_parent *parent)
{
    if (parent->fd >= 0)
        close(parent->fd);
    parent->fd = -1;
}
