/* Child processes: started without inheriting anything by accident, and watched by pidfd.
 *
 *     struct lab_child child;
 *     err = lab_child_spawn(&(struct lab_child_spec){.path = path, .argv = argv, .fds = fds, .fd_count = 1, .cpu = -1}, &child);
 *     ... poll(child.pidfd) ...
 *     lab_child_end(&child, deadline_ns, &status);
 *
 * The child gets descriptors 0, 1, 2 and those named in `fds`, every other one closed; the default signal dispositions
 * and an empty signal mask; and SIGKILL when the *thread* that spawned it ends (prctl(2), PR_SET_PDEATHSIG): spawn from a
 * thread that lives as long as the child may. */
#ifndef LAB_BASE_CHILD_H
#define LAB_BASE_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct lab_child_fd {
    int from; /* open here */
    int to;   /* its number in the child, 3 or higher */
};

struct lab_child_spec {
    const char *path;
    char *const *argv;
    char *const *envp; /* NULL: the caller's environment */
    const struct lab_child_fd *fds;
    size_t fd_count;
    int cpu;          /* pinned to it from its first instruction; -1: not pinned */
    bool own_group;   /* a process group of its own, so that the terminal's Ctrl-C reaches only the launcher */
    bool outlives;    /* no parent-death signal */
    bool quiet;       /* standard output and error go to /dev/null */
};

struct lab_child {
    pid_t pid;  /* 0: none */
    int pidfd;  /* readable once the process has ended; -1: none */
};

/* Returns once the child has executed `path`, or -errno with the reason (a missing program is reported here). */
int lab_child_spawn(const struct lab_child_spec *spec, struct lab_child *ret_child);

/* Waits until the child has ended and reaps it; -EAGAIN at the deadline (0: has it ended already?).
 * The status is that of waitpid(2); `ret_status` may be NULL. */
int lab_child_reap(struct lab_child *child, uint64_t deadline_ns, int *ret_status);

/* SIGKILL through the pidfd (never hits a recycled pid), then reap. Harmless on a child that is gone. */
void lab_child_kill(struct lab_child *child);

/* "exited with code 3", "ended by signal 9 (Killed)". */
enum { LAB_CHILD_STATUS_TEXT = 64 };
char *lab_child_status_text(int status, char to[LAB_CHILD_STATUS_TEXT]);

#endif
