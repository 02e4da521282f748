/* A command inside a virtual host: ipclab lab exec, and what mpiexec takes for ssh. */
#include "launcher/lab.h"

#include "base/error.h"
#include "launcher/lab_state.h"
#include "sweep/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOT_EXECUTABLE = 126, NOT_FOUND = 127, BY_SIGNAL = 128, HOST_ENDS_MS = 200, HOMES = 5 };

static int find_host(const char *wanted, struct lab_state_host *ret_host)
{
    struct lab_state state;
    int err = lab_state_read(&state);
    if (err)
        return err;
    if (!state.count)
        return lab_refuse(ENOENT, "no virtual hosts are up: sudo ipclab lab up 2");
    for (uint32_t i = 0; i < state.count; i++)
        if (strcmp(state.hosts[i].name, wanted) == 0 || strcmp(state.hosts[i].address, wanted) == 0) {
            *ret_host = state.hosts[i];
            return 0;
        }
    return lab_refuse(ENOENT, "'%.40s' is no virtual host; there are %s (%s) to %s (%s)", wanted, state.hosts[0].name,
                      state.hosts[0].address, state.hosts[state.count - 1].name, state.hosts[state.count - 1].address);
}

/* Where we come from, and the host that we are in. */
struct visit {
    int host;                  /* pidfd of its init */
    int home[HOMES], folder;
};

static const char *const home_names[HOMES] = {"mnt", "pid", "net", "ipc", "uts"};

static void end_visit(struct visit *visit)
{
    for (int i = 0; i < HOMES; i++)
        if (visit->home[i] >= 0)
            close(visit->home[i]);
    if (visit->folder >= 0)
        close(visit->folder);
    if (visit->host >= 0)
        close(visit->host);
}

static int refuse_ended(const struct lab_state_host *host)
{
    return lab_refuse(EHOSTDOWN, "the virtual host %s has ended: sudo ipclab lab down, then up again", host->name);
}

/* All namespaces of the host at once, through its pidfd; the pid namespace holds for children only. */
static int enter(const struct lab_state_host *host, struct visit *ret_visit)
{
    struct visit visit = {.host = -1, .folder = open(".", O_PATH | O_CLOEXEC)};
    int err = lab_process_open(&host->init, &visit.host);
    if (err == -ESRCH)
        err = refuse_ended(host);
    else if (err)
        err = lab_fail(-err, "cannot look at virtual host %s", host->name);
    for (int i = 0; i < HOMES; i++) {
        char path[32];
        snprintf(path, sizeof path, "/proc/self/ns/%s", home_names[i]);
        visit.home[i] = open(path, O_RDONLY | O_CLOEXEC);
        if (visit.home[i] < 0 && !err)
            err = lab_fail(errno, "cannot look at the namespaces of this process");
    }
    if (!err && setns(visit.host, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWPID) < 0)
        err = errno == ESRCH ? refuse_ended(host) : lab_fail(errno, "cannot enter virtual host %s", host->name);
    if (err)
        end_visit(&visit);
    else
        *ret_visit = visit;
    return err;
}

/* Home again: who calls us goes on where he was. */
static void leave(struct visit *visit)
{
    for (int i = 0; i < HOMES; i++)
        if (visit->home[i] >= 0 && setns(visit->home[i], 0) < 0)
            abort(); /* nothing that follows may happen in the wrong place */
    if (visit->folder >= 0 && fchdir(visit->folder) < 0 && chdir("/") < 0)
        abort();
    end_visit(visit);
}

/* The kernel kills all that runs in a host before its init counts as ended. */
static bool has_ended(int host_pidfd)
{
    struct pollfd ended = {.fd = host_pidfd, .events = POLLIN};
    return poll(&ended, 1, HOST_ENDS_MS) == 1;
}

/* `alive` is readable (at its end) once the parent is gone: PR_SET_PDEATHSIG alone would miss one that went before. */
static _Noreturn void become(char *const *argv, const char *folder, int alive, const sigset_t *mask)
{
    struct pollfd gone = {.fd = alive, .events = POLLIN};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || poll(&gone, 1, 0) != 0)
        _exit(NOT_EXECUTABLE);
    if (chdir(folder) < 0 && chdir("/") < 0)
        _exit(NOT_EXECUTABLE);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(argv[0], argv);
    int code = errno == ENOENT || errno == ENOTDIR ? NOT_FOUND : NOT_EXECUTABLE;
    fprintf(stderr, "cannot execute %s: %s\n", argv[0], strerror(errno));
    _exit(code);
}

/* Signals are passed on, but for those of the terminal's keys, which its whole process group has had from the kernel. */
static int attend(pid_t pid, const sigset_t *awaited)
{
    for (;;) {
        siginfo_t happened;
        int number = sigwaitinfo(awaited, &happened);
        if (number > 0 && number != SIGCHLD) {
            if (happened.si_code != SI_KERNEL)
                kill(pid, number); /* not reaped yet: the pid is still the child's */
            continue;
        }
        int status;
        pid_t ended = waitpid(pid, &status, WNOHANG);
        if (ended < 0)
            return lab_fail(errno, "cannot wait for the command");
        if (ended == pid)
            return WIFSIGNALED(status) ? BY_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
    }
}

int lab_lab_exec(const char *host, char *const *argv)
{
    struct lab_state_host found;
    char folder[PATH_MAX];
    int err = lab_state_permitted();
    if (!err)
        err = find_host(host, &found);
    if (err)
        return err;
    if (!getcwd(folder, sizeof folder))
        strcpy(folder, "/");
    struct visit visit;
    err = enter(&found, &visit);
    if (err)
        return err;

    static const int passed[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH, SIGCHLD};
    sigset_t awaited, before;
    sigemptyset(&awaited);
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        sigaddset(&awaited, passed[i]);
    sigprocmask(SIG_BLOCK, &awaited, &before);
    int alive[2] = {-1, -1};
    fflush(NULL);
    pid_t pid = pipe2(alive, O_CLOEXEC) < 0 ? -1 : fork();
    if (pid < 0)
        err = lab_fail(errno, "cannot start a command in %s", host);
    if (pid == 0) {
        close(alive[1]);
        become(argv, folder, alive[0], &before);
    }
    if (alive[0] >= 0)
        close(alive[0]);
    int code = err ? err : attend(pid, &awaited);
    if (alive[1] >= 0)
        close(alive[1]);
    if (code == BY_SIGNAL + SIGKILL && has_ended(visit.host))
        code = lab_refuse(EHOSTDOWN, "the virtual host %s has ended, and by signal %d (SIGKILL) all that ran in it: sudo ipclab lab down, then up again",
                          found.name, SIGKILL);
    leave(&visit);
    return code;
}
