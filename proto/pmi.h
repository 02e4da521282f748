/* A server of PMI-1, the protocol by which MPI processes find each other: what Hydra's proxy speaks over PMI_FD. With it whoever
 * forks the ranks of one host needs no mpiexec, so an MPI cell costs what MPI_Init costs, and the ranks are its own children.
 *
 *     struct lab_pmi *pmi;
 *     lab_pmi_new(2, &pmi);
 *     for each rank: lab_pmi_take_fd(pmi, rank, &fd); lab_pmi_environment(pmi, rank, LAB_PMI_FD, variables); spawn with fd as LAB_PMI_FD
 *     ... poll lab_pmi_fd(pmi), and when it is readable: lab_pmi_serve(pmi) ...
 *     lab_pmi_free(pmi);
 *
 * All ranks are on one host and form one world. They initialise together: MPI_Init returns in each once it was called in all.
 * A rank that ends without saying goodbye is simply gone: who started it sees that by its pidfd. Lines, keys, values and their
 * number are bounded; a client that breaks the protocol is dropped.
 *
 * The protocol: MPICH's "simple PMI", src/pmi/simple (lines of key=value pairs). One thread per server; nothing blocks. */
#ifndef LAB_PROTO_PMI_H
#define LAB_PROTO_PMI_H

#include <stdint.h>

enum { LAB_PMI_FD = 10, LAB_PMI_VARIABLES = 6, LAB_PMI_VARIABLE = 40, LAB_PMI_RANKS_MAX = 1024 };

struct lab_pmi;

int lab_pmi_new(uint32_t ranks, struct lab_pmi **ret_pmi);
void lab_pmi_free(struct lab_pmi *pmi); /* NULL is harmless; closes the connections */

/* The client's end of a rank's connection, once; the caller passes it on as the child's descriptor of any number, and closes it. */
int lab_pmi_take_fd(struct lab_pmi *pmi, uint32_t rank, int *ret_fd);

/* What the rank must find in its environment, "NAME=value" each; `fd_in_child` is the descriptor's number there. */
void lab_pmi_environment(const struct lab_pmi *pmi, uint32_t rank, int fd_in_child, char ret_variables[LAB_PMI_VARIABLES][LAB_PMI_VARIABLE]);

/* Readable when lab_pmi_serve() has something to do. */
int lab_pmi_fd(const struct lab_pmi *pmi);
void lab_pmi_serve(struct lab_pmi *pmi);

/* ---- the other side: a rank that will not initialise ---- */

/* Ends the world of an mpiexec that this process is a rank of: the others wait in MPI_Init until every rank has come, for ever if one
 * never does. mpiexec ends them, says nothing, and exits with `exit_code`; this process too is killed soon after. Nobody else
 * of this rank may be using the connection `fd` (PMI_FD): whoever did must have ended. Before MPI_Init or after it, but not
 * once MPI_Finalize is through: the connection is closed then (-EPIPE), and no rank waits any more.
 * Blocks until the greeting is answered, at most until the deadline (-ETIMEDOUT); -EPROTO: it speaks another version. */
int lab_pmi_abort(int fd, int exit_code, uint64_t deadline_ns);

#endif
