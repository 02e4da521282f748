/* The process that started this one, watched: a node whose parent was killed is an orphan that nobody would end, and the parent's own
 * parent (ssh, mpiexec) may not notice.
 *
 *     struct lab_parent parent;
 *     lab_parent_watch(&parent);
 *     ... poll parent.fd ...
 *     if (lab_parent_gone(&parent)) leave("%s (process %d) has ended", parent.name, parent.pid);
 *     lab_parent_fini(&parent); */
#ifndef LAB_NODE_AGENT_PARENT_H
#define LAB_NODE_AGENT_PARENT_H

#include <stdbool.h>
#include <sys/types.h>

struct lab_parent {
    pid_t pid;
    int fd;        /* readable once it has ended; -1: it lives in another pid namespace, or cannot be watched */
    char name[32]; /* as the kernel calls it */
};

/* To be called early: who has been an orphan since before then is one without a sign. */
void lab_parent_watch(struct lab_parent *ret_parent);
bool lab_parent_gone(const struct lab_parent *parent);
void lab_parent_fini(struct lab_parent *parent);

#endif
