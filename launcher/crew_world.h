/* Rank 0's place in a user's mpirun, which its node takes over, and who minds a launcher. Internal to launcher/crew*.c. */
#ifndef LAB_LAUNCHER_CREW_WORLD_H
#define LAB_LAUNCHER_CREW_WORLD_H

#include "base/child.h"
#include "launcher/crew.h"

#include <time.h>

/* The connection to mpiexec that this process inherited; -1: it has none (PMI_FD is not set). -EINVAL: it is not open. */
int lab_crew_lead_fd(int *ret_fd);

/* A node was started that speaks through it from now on. */
void lab_crew_led(void);

/* Leaves a process that waits for this one to end. If it is still there then (lab_child_kill ends it), it ends whoever carries the mark,
 * sweeps the files that MPI has made in /dev/shm since then, and ends. */
int lab_crew_mind_launcher(const char *mark, time_t since, struct lab_child *ret_minder);

#endif
