#include "base/child.h"

#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Runs in the child, between vfork and exec, on the parent's memory: only system calls, only its own locals and `high`, which has
 * room for each descriptor. They are first moved above every target, so that one assignment cannot overwrite another's source. */
static int become(const struct lab_child_spec *spec, int *high, pid_t parent)
{
    int top = 2;
    for (size_t i = 0; i < spec->fd_count; i++)
        if (spec->fds[i].to > top)
            top = spec->fds[i].to;
    for (size_t i = 0; i < spec->fd_count; i++) {
        high[i] = fcntl(spec->fds[i].from, F_DUPFD, top + 1);
        if (high[i] < 0)
            return errno;
    }
    if (top > 2 && syscall(SYS_close_range, 3u, (unsigned)top, 0) < 0)
        return errno;
    for (size_t i = 0; i < spec->fd_count; i++)
        if (dup2(high[i], spec->fds[i].to) < 0)
            return errno;
    if (syscall(SYS_close_range, (unsigned)(top + 1), ~0u, 0) < 0)
        return errno;

    if (spec->quiet) {
        int null = open("/dev/null", O_RDWR);
        if (null < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
            return errno;
        if (null > 2) /* else it is one of them, closed before */
            close(null);
    }
    if (spec->own_group)
        setpgid(0, 0);
    if (spec->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)spec->cpu, &set);
        if (sched_setaffinity(0, sizeof set, &set) < 0)
            return errno;
    }
    if (!spec->outlives) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
            return errno;
        if (getppid() != parent)
            _exit(127);
    }
    /* Handlers end with exec; what the parent ignored would stay ignored. */
    const struct sigaction normal = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &normal, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(spec->path, spec->argv, spec->envp ? spec->envp : environ);
    return errno;
}

int lab_child_spawn(const struct lab_child_spec *spec, struct lab_child *ret_child)
{
    int *high = calloc(spec->fd_count + 1, sizeof *high);
    if (!high)
        return lab_fail(ENOMEM, "no memory for the %zu descriptors of %s", spec->fd_count, spec->path);

    /* Signals stay blocked across vfork: a handler must not run in the child on the parent's memory. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    volatile int failure = 0;
    pid_t parent = getpid();
    /* Not posix_spawn: it knows no cpu, no parent's death and no closing of the rest, and a fork copies the tables of all memory. */
    pid_t pid = vfork(); /* NOLINT(clang-analyzer-security.insecureAPI.vfork) */
    if (pid == 0) {
        failure = become(spec, high, parent); /* NOLINT(clang-analyzer-unix.Vfork) */
        _exit(127);
    }
    int err = pid < 0 ? errno : failure;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    free(high);

    if (pid > 0 && err)
        (void)TEMP_FAILURE_RETRY(waitpid(pid, NULL, 0));
    if (err)
        return lab_fail(err, "cannot start %s", spec->path);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        err = errno;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return lab_fail(err, "cannot watch %s (pidfd_open)", spec->path);
    }
    *ret_child = (struct lab_child){.pid = pid, .pidfd = pidfd};
    return 0;
}

int lab_child_reap(struct lab_child *child, uint64_t deadline_ns, int *ret_status)
{
    if (child->pid <= 0)
        return lab_refuse(ECHILD, "no child to wait for");
    for (;;) {
        struct pollfd ended = {.fd = child->pidfd, .events = POLLIN};
        int ready = poll(&ended, 1, deadline_ns ? lab_ms_until(deadline_ns) : 0);
        if (ready < 0 && errno != EINTR)
            return lab_fail(errno, "cannot wait for process %d", (int)child->pid);
        if (ready > 0)
            break;
        if (ready == 0 && lab_ns_until(deadline_ns) == 0)
            return -EAGAIN;
    }
    int status = 0;
    if (waitpid(child->pid, &status, 0) < 0 && errno != ECHILD)
        return lab_fail(errno, "cannot reap process %d", (int)child->pid);
    close(child->pidfd);
    *child = (struct lab_child){.pid = 0, .pidfd = -1};
    if (ret_status)
        *ret_status = status;
    return 0;
}

void lab_child_kill(struct lab_child *child)
{
    if (!child || child->pid <= 0)
        return;
    syscall(SYS_pidfd_send_signal, child->pidfd, SIGKILL, NULL, 0);
    lab_child_reap(child, lab_now_ns() + 10 * LAB_NS_PER_S, NULL);
}

char *lab_child_status_text(int status, char to[LAB_CHILD_STATUS_TEXT])
{
    if (WIFSIGNALED(status)) {
        int number = WTERMSIG(status);
        const char *name = sigabbrev_np(number);
        snprintf(to, LAB_CHILD_STATUS_TEXT, "ended by signal %d (SIG%s)", number, name ? name : "?");
    } else {
        snprintf(to, LAB_CHILD_STATUS_TEXT, "exited with code %d", WEXITSTATUS(status));
    }
    return to;
}
