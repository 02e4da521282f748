/* A rank of a user's mpirun (`mpirun -f HOSTS -n N ipclab run FILE`): a small process that stays, for Hydra ends all ranks when one is killed.
 *
 * What works is its child: in rank 0 the launcher (whose node is a child of the launcher), in any other rank a node. The child has
 * the rank's place in the MPI world; when it has ended, however it did, the rank says so and leaves the world in good order:
 *
 *     rank 0   mpiexec ─ proxy ─ rank ─ launcher ─ node ─ workers      finishes the stored run of a launcher that was killed; its exit
 *                                                                      code is mpiexec's
 *     rank i             proxy ─ rank ─ node ─ workers                 tells the launcher by which signal its node ended, or that the
 *                                                                      proxy did
 *
 * What the child says to mpiexec (PMI) passes through the rank, which keeps one thing back: the wish to end all other ranks.
 * A rank that is itself killed is Hydra's matter: mpiexec ends all others at once, and says which it was.
 * Ctrl-C, SIGTERM and SIGHUP are passed on to the launcher, and to no node: what comes of them is decided by the launcher. */
#ifndef LAB_LAUNCHER_RANK_H
#define LAB_LAUNCHER_RANK_H

#include <stdint.h>

/* To be called before there are threads. Returns 0 in the launcher of rank 0 only, or -errno with the record where nothing could be begun; the
 * process that stays, and all of other ranks, never return. */
int lab_rank_begin(uint32_t rank);

/* What the launcher has done that the one who stays must know: the ranks have learnt this address; the run is in that store (NULL: the
 * default one) under this id. Outside an mpirun nothing happens. */
void lab_rank_published(const char *control);
void lab_rank_stored(const char *database, const char *run);

#endif
