/* The MPI world that nodes are in when mpiexec started them: only what must be known before the launcher is. */
#ifndef LAB_NODE_AGENT_WORLD_H
#define LAB_NODE_AGENT_WORLD_H

enum { LAB_WORLD_ADDRESS = 256 };

/* This process's rank, from the environment that mpiexec gave it; MPI itself is not touched. -ENOENT: no mpiexec started us. */
int lab_world_rank(int *ret_rank);

/* Rank 0 passes the launcher's address, every other rank receives it (MPI_Bcast; loads lab-mpi.so and initialises MPI). Blocks
 * until all ranks take part: mpiexec ends the job when one dies. */
int lab_world_share(char address[LAB_WORLD_ADDRESS]);

#endif
