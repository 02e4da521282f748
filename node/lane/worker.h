/* The measured unit: one party of an experiment, told what to do over one stream socket. TASK, then it answers OPENED, waits for START,
 * measures, answers RESULT or FAULT.
 *
 * A party lives in a process of its own (ipclab-worker), shares one with others as a kernel thread or a fiber of it, or is, where nodes
 * themselves talk, a thread of the node. Whichever it is, it does the same in the same order. */
#ifndef LAB_NODE_LANE_WORKER_H
#define LAB_NODE_LANE_WORKER_H

#include "node/unit.h"

#include <stdint.h>

/* Runs one task that arrives on `control_fd` (not closed here). 0 when a RESULT was sent; -errno when a FAULT was sent, or when
 * not even that could be. Descriptors named by the task belong to it from then on. */
int lab_worker_run(int control_fd);

/* The same for `count` parties that share this process, on the sockets `control_fd` and those that follow: each a `unit`. 0 when
 * each of them has said how it ended. */
int lab_worker_run_all(enum lab_unit unit, int control_fd, uint32_t count);

/* ---- one step after the other, for who runs several parties on one thread (node/lane/crowd.c) ---- */

struct lab_worker;

/* Which of how many parties of this process it is, and as what. */
struct lab_company {
    enum lab_unit unit;
    uint32_t place, count;
};

/* Waits for the TASK. The worker is freed by lab_worker_free, also when later steps fail. */
int lab_worker_hire(int control_fd, struct lab_company company, struct lab_worker **ret_worker);
void lab_worker_free(struct lab_worker *worker); /* closes its ends; NULL is harmless */
int32_t lab_worker_cpu(const struct lab_worker *worker); /* where it is to run; -1: anywhere */

/* Each step in this order, each at once when an earlier one failed, with that failure, of which a FAULT has told the node. */
int lab_worker_open(struct lab_worker *worker);    /* opens its ends, sends OPENED */
int lab_worker_await(struct lab_worker *worker);   /* waits for START */
int lab_worker_measure(struct lab_worker *worker); /* the only step that waits for other parties */
int lab_worker_report(struct lab_worker *worker);  /* sends the RESULT */

#endif
