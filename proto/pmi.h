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

#include <stddef.h>
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

/* ---- the other side: a rank of an mpiexec that speaks for itself, beside MPI or without it ----
 *
 * `fd` is PMI_FD, and nobody else of this rank may be using the connection: whoever did must have ended, or begins later. All calls
 * block until they are answered, at most until the deadline (-ETIMEDOUT); -EPROTO: mpiexec speaks another version; -EPIPE: it has
 * closed the connection. */

/* Rank 0 tells all others one thing: it publishes, they learn, all of them once, and nobody returns before the last one has called.
 * Keys hold no blank, values no newline; -ERANGE when the value is longer than `room`. */
int lab_pmi_publish(int fd, const char *key, const char *value, uint64_t deadline_ns);
int lab_pmi_learn(int fd, const char *key, uint64_t deadline_ns, char *to, size_t room);

/* A good end of a rank that has spoken for itself: without it mpiexec would take it for one that died. -EPIPE when its MPI has said so
 * already (MPI_Finalize). */
int lab_pmi_leave(int fd, uint64_t deadline_ns);

/* Ends the world: the others may wait for this rank for ever. mpiexec ends them, says nothing, and exits with `exit_code`; this
 * process too is killed soon after. Before MPI_Init or after it, but not once MPI_Finalize is through (-EPIPE): no rank waits any more. */
int lab_pmi_abort(int fd, int exit_code, uint64_t deadline_ns);

#endif
