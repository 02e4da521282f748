/* A process that outlives those that it minds, and removes what they leave of shared memory when they are all killed at once. */
#include "launcher/crew_world.h"

#include "base/clock.h"
#include "base/error.h"
#include "launcher/clean.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SHARED_MEMORY "/dev/shm"

enum { SWEEP_S = 2, EARLIER_S = 2 /* other ranks may have begun before this one */ };

/* Holds nothing that anyone could wait for, has no part in what the terminal or mpiexec does to the others, allocates nothing before. */
static _Noreturn void mind(int minded, const char *mark, time_t since)
{
    setsid();
    dup2(minded, STDIN_FILENO);
    close_range(STDIN_FILENO + 1, ~0U, 0);
    struct pollfd gone = {.fd = STDIN_FILENO, .events = POLLIN};
    while (poll(&gone, 1, -1) < 0 && errno == EINTR)
        ;
    if (mark)
        lab_clean_marked(mark, lab_now_ns() + SWEEP_S * LAB_NS_PER_S);
    lab_clean_shm(SHARED_MEMORY, since, NULL, false);
    lab_clean_sysv(NULL, false);
    _exit(0);
}

static int pidfd_of(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

void lab_crew_mind(void)
{
    const char *local = getenv("MPI_LOCALRANKID");
    int proxy = local && strcmp(local, "0") == 0 ? pidfd_of(getppid()) : -1;
    if (proxy < 0)
        return;
    fflush(NULL);
    if (fork() == 0)
        mind(proxy, NULL, time(NULL) - EARLIER_S);
    close(proxy);
}

int lab_crew_mind_launcher(const char *mark, time_t since, struct lab_child *ret_minder)
{
    int self = pidfd_of(getpid());
    if (self < 0)
        return lab_fail(errno, "cannot watch over this process");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        mind(self, mark, since);
    int err = pid < 0 ? lab_fail(errno, "cannot start what watches over this process") : 0;
    close(self);
    if (!err)
        *ret_minder = (struct lab_child){.pid = pid, .pidfd = pidfd_of(pid)};
    return err;
}
