/* What a run leaves behind when it is killed: found by what it carries, never by its name alone, and removed.
 *
 * Every process that a crew starts carries a mark in its environment, which descendants inherit wherever they are reparented
 * to: the launcher's pid and start time, its pid namespace and the kernel's boot id (so that another container or another host
 * never judges it), and the number of the crew. Shared-memory files of MPI belong to a dead run when this user owns them and no
 * process maps or has opened them; a System V segment with a key of ours does when nobody has attached it and its maker is gone.
 *
 *     char mark[LAB_CLEAN_MARK];
 *     lab_clean_mark(mark);                        // one more variable for the environment of what is started
 *     ...
 *     lab_clean_marked(mark, lab_now_ns() + 2 * LAB_NS_PER_S);
 *
 * Reads /proc: milliseconds per call. Any thread. */
#ifndef LAB_SWEEP_CLEAN_H
#define LAB_SWEEP_CLEAN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { LAB_CLEAN_MARK = 160 };
#define LAB_CLEAN_VARIABLE "IPCLAB_CREW"

#define LAB_CLEAN_SHM "/dev/shm" /* where the C library keeps shared memory under names */

/* "IPCLAB_CREW=...", another one at each call. */
void lab_clean_mark(char to[LAB_CLEAN_MARK]);

/* SIGKILL to every process that carries this mark, again until a look at /proc finds none or the deadline has passed (children
 * of what was just killed). Returns how many were killed, -ETIMEDOUT when some are still there. */
int lab_clean_marked(const char *mark, uint64_t deadline_ns);

/* The same for the marks of every launcher that is gone. Says what it ends on `told` (NULL: silent). With `look_only` it ends
 * nothing. Returns how many. */
int lab_clean_orphans(FILE *told, bool look_only);

/* Waits until nobody carries this mark, at most until the deadline: 0, -ETIMEDOUT (no record: callers expect it), or -errno when /proc
 * cannot be read. */
int lab_clean_await(const char *mark, uint64_t deadline_ns);

/* Removes `mpich_shar_tmp*`, `ucx_shm_posix_*` and `ipclab-fifo-*` of this user from the directory when no process maps or has opened them and
 * they were changed at or after `since` (seconds of the wall clock; 0: whenever). Says what on `told`. Returns how many, or
 * -errno with the record when the directory cannot be read. */
int lab_clean_shm(const char *directory, time_t since, FILE *told, bool look_only);

/* Removes the System V segments and message queues of this user that a node was killed over (shm/backing.h), those of this IPC
 * namespace. Returns how many. */
int lab_clean_sysv(FILE *told, bool look_only);

/* The same for the one POSIX message queue that may be left (base/leftover.h). */
int lab_clean_mq(FILE *told, bool look_only);

/* The same, silently, again and again until there are no such files or the deadline has passed: who maps them is about to end. */
int lab_clean_shm_until(const char *directory, time_t since, uint64_t deadline_ns);

#endif
