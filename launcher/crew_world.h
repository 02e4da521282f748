/* A rank's place in a user's mpirun, which its node takes over. Internal to launcher/crew*.c and launcher/rank.c. */
#ifndef LAB_LAUNCHER_CREW_WORLD_H
#define LAB_LAUNCHER_CREW_WORLD_H

#include "launcher/crew.h"

/* Under which rank 0 publishes the control address (lab_pmi_publish). */
#define LAB_CREW_KEY "ipclab-control"

/* The connection to mpiexec that this process inherited. -EINVAL: it has none (PMI_FD), or it is not open. */
int lab_crew_pmi_fd(int *ret_fd);

#endif
