/* Rank 0's place in a user's mpirun, which its node takes over. Internal to launcher/crew*.c. */
#ifndef LAB_LAUNCHER_CREW_WORLD_H
#define LAB_LAUNCHER_CREW_WORLD_H

#include "launcher/crew.h"

/* The connection to mpiexec that this process inherited; -1: it has none (PMI_FD is not set). -EINVAL: it is not open. */
int lab_crew_lead_fd(int *ret_fd);

/* A node was started that speaks through it from now on. */
void lab_crew_led(void);

#endif
