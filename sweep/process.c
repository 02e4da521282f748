#include "sweep/process.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int lab_process_read(pid_t pid, struct lab_process *ret_process)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -ESRCH;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return -ESRCH;
    text[length] = '\0';

    /* The name, in parentheses, may itself hold blanks and parentheses: count fields from the last one. */
    enum { STATE_FIELD = 3, STARTED_FIELD = 22 };
    char *rest = strrchr(text, ')');
    if (!rest)
        return -ESRCH;
    char *at = NULL;
    rest++;
    for (int field = STATE_FIELD; field <= STARTED_FIELD; field++) {
        char *word = strtok_r(field == STATE_FIELD ? rest : NULL, " ", &at);
        if (!word || (field == STATE_FIELD && (*word == 'Z' || *word == 'X')))
            return -ESRCH;
        if (field == STARTED_FIELD)
            *ret_process = (struct lab_process){.pid = pid, .started = strtoull(word, NULL, 10)};
    }
    return 0;
}

bool lab_process_alive(const struct lab_process *process)
{
    struct lab_process now;
    return process->pid > 0 && lab_process_read(process->pid, &now) == 0 && now.started == process->started;
}

int lab_process_open(const struct lab_process *process, int *ret_pidfd)
{
    if (process->pid <= 0)
        return -ESRCH;
    int pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (pidfd < 0)
        return -errno;
    /* Looked at after the pidfd holds the pid: what is alive now is what the pidfd means. */
    if (!lab_process_alive(process)) {
        close(pidfd);
        return -ESRCH;
    }
    *ret_pidfd = pidfd;
    return 0;
}

int lab_process_kill(const struct lab_process *process, uint64_t deadline_ns)
{
    int pidfd = -1;
    int err = lab_process_open(process, &pidfd);
    if (err)
        return err;
    if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0)
        err = -errno;
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    while (!err) {
        int ready = poll(&ended, 1, lab_ms_until(deadline_ns));
        if (ready > 0)
            break;
        if (ready < 0 && errno != EINTR)
            err = -errno;
        else if (lab_ns_until(deadline_ns) == 0)
            err = -ETIMEDOUT;
    }
    close(pidfd);
    return err;
}
