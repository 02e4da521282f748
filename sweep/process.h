/* Processes that are not our children, named so that a recycled pid is never taken for them: by pid and start time.
 *
 *     struct lab_process who;
 *     lab_process_read(pid, &who);                 ... kept in a file, read again much later ...
 *     if (lab_process_open(&who, &pidfd) == 0)     // it is still the same one
 *         syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
 *
 * Reads /proc; any thread; never blocks. */
#ifndef LAB_SWEEP_PROCESS_H
#define LAB_SWEEP_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct lab_process {
    pid_t pid;
    uint64_t started; /* clock ticks since boot, field 22 of /proc/PID/stat */
};

/* -ESRCH: there is none, or it has ended and waits to be reaped. No record is left: callers expect it. */
int lab_process_read(pid_t pid, struct lab_process *ret_process);

bool lab_process_alive(const struct lab_process *process);

/* A pidfd (the caller closes it) of this process and no other, or -ESRCH. */
int lab_process_open(const struct lab_process *process, int *ret_pidfd);

/* SIGKILL, and waits until it has ended: 0, -ESRCH (it had ended already), -ETIMEDOUT, or -EPERM. */
int lab_process_kill(const struct lab_process *process, uint64_t deadline_ns);

#endif
