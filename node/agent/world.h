/* The MPI world that nodes are in when mpiexec started them: only what must be known before the launcher is. */
#ifndef LAB_NODE_AGENT_WORLD_H
#define LAB_NODE_AGENT_WORLD_H

/* This process's rank, from the environment that mpiexec gave it; MPI itself is not touched. -ENOENT: no mpiexec started us. */
int lab_world_rank(int *ret_rank);

/* Enters the world of nodes, all of which do so at the same time, in a thread: MPI_Init blocks until the last one has come, and the
 * agent has to go on listening meanwhile. Harmless when it was entered before. */
struct lab_world_entry;
int lab_world_enter(struct lab_world_entry **ret_entry);
int lab_world_entry_fd(const struct lab_world_entry *entry); /* readable once it is decided */
int lab_world_entered(struct lab_world_entry *entry);        /* 0; -EAGAIN: not yet; -errno with the record */

/* -ETIMEDOUT: the thread is still in MPI_Init, and this process is not fit for anything else. NULL is harmless. */
int lab_world_entry_end(struct lab_world_entry *entry);

#endif
