/* The measured unit: a process (ipclab-worker) or, where nodes themselves talk, a thread of the node. Either way it is told
 * what to do over one stream socket: TASK, then it answers OPENED, waits for START, measures, answers RESULT or FAULT. */
#ifndef LAB_NODE_LANE_WORKER_H
#define LAB_NODE_LANE_WORKER_H

/* Runs one task that arrives on `control_fd` (not closed here). 0 when a RESULT was sent; -errno when a FAULT was sent, or when
 * not even that could be. Descriptors named by the task belong to it from then on. */
int lab_worker_run(int control_fd);

#endif
