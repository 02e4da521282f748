/* Minders: processes that outlive those that they mind, and remove what these leave when all of them are killed at once.
 *
 * A minder waits for one process to end, ends whoever still carries the mark of its crew (clean.h), sweeps the files of MPI in /dev/shm
 * that nobody maps any more, and ends. It holds nothing that anyone could wait for, and no signal that is meant for the terminal's or
 * mpiexec's processes reaches it.
 *
 *     struct lab_child minder = {0};
 *     lab_mind_self(mark, time(NULL), &minder);      // a launcher: should it be killed
 *     ...
 *     lab_child_kill(&minder);                       // it has cleaned up itself
 *
 * To be called before there are threads: a minder is a fork without exec. */
#ifndef LAB_SWEEP_MIND_H
#define LAB_SWEEP_MIND_H

#include "base/child.h"

#include <time.h>

/* For the end of this process. Files that were changed before `since` are not looked at. -errno with the record. */
int lab_mind_self(const char *mark, time_t since, struct lab_child *ret_minder);

/* For the end of mpiexec's proxy, which has started this process: one minder on each host, that of the first rank there; in other ranks, and
 * outside mpiexec, nothing happens. When proxies die the ranks are killed with them, or end by themselves: those that carry this
 * process's mark (none: nobody) get a second for that. */
void lab_mind_proxy(void);

#endif
