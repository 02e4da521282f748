#include "sweep/mind.h"

#include "base/clock.h"
#include "base/error.h"
#include "sweep/clean.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LEAVE_S = 1, SWEEP_S = 2, UNMAP_S = 5, EARLIER_S = 2 /* other ranks may have begun before this one */ };

struct minded {
    int fd;           /* a pidfd */
    const char *mark; /* NULL: nobody is ended */
    uint64_t leave_ns; /* how long those who carry it may take to leave by themselves */
    time_t since;
};

static _Noreturn void mind(const struct minded *minded)
{
    setsid();
    dup2(minded->fd, STDIN_FILENO);
    close_range(STDIN_FILENO + 1, ~0U, 0);
    struct pollfd gone = {.fd = STDIN_FILENO, .events = POLLIN};
    while (poll(&gone, 1, -1) < 0 && errno == EINTR)
        ;
    if (minded->mark) {
        uint64_t now_ns = lab_now_ns();
        lab_clean_await(minded->mark, now_ns + minded->leave_ns);
        lab_clean_marked(minded->mark, lab_now_ns() + SWEEP_S * LAB_NS_PER_S);
    }
    lab_clean_shm_until(LAB_CLEAN_SHM, minded->since, lab_now_ns() + UNMAP_S * LAB_NS_PER_S);
    lab_clean_sysv(NULL, false);
    lab_clean_mq(NULL, false);
    _exit(0);
}

static int pidfd_of(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* What this process inherited makes it one of those that a sweep ends. A minder is nobody's business: in it the mark is unmade where the
 * kernel shows it, and kept in `to`. NULL: it carries none. */
static const char *take_mark_off(char to[LAB_CLEAN_MARK])
{
    char *value = getenv(LAB_CLEAN_VARIABLE);
    if (!value)
        return NULL;
    snprintf(to, LAB_CLEAN_MARK, LAB_CLEAN_VARIABLE "=%s", value);
    memset(value - strlen(LAB_CLEAN_VARIABLE "="), '-', strlen(LAB_CLEAN_VARIABLE));
    return to;
}

void lab_mind_proxy(void)
{
    const char *local = getenv("MPI_LOCALRANKID");
    struct minded minded = {
        .fd = local && strcmp(local, "0") == 0 ? pidfd_of(getppid()) : -1, .leave_ns = LEAVE_S * LAB_NS_PER_S, .since = time(NULL) - EARLIER_S};
    if (minded.fd < 0)
        return;
    fflush(NULL);
    if (fork() == 0) {
        char mark[LAB_CLEAN_MARK];
        minded.mark = take_mark_off(mark);
        mind(&minded);
    }
    close(minded.fd);
}

int lab_mind_self(const char *mark, time_t since, struct lab_child *ret_minder)
{
    struct minded minded = {.fd = pidfd_of(getpid()), .mark = mark, .since = since};
    if (minded.fd < 0)
        return lab_fail(errno, "cannot watch over this process");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        mind(&minded);
    int err = pid < 0 ? lab_fail(errno, "cannot start what watches over this process") : 0;
    close(minded.fd);
    if (!err)
        *ret_minder = (struct lab_child){.pid = pid, .pidfd = pidfd_of(pid)};
    return err;
}
