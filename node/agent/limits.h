/* The limits of this host, measured by a thread of the node while its agent goes on listening: what no mechanism on it can
 * beat. The hand-off is that between the first two cpus this process may use. */
#ifndef LAB_NODE_AGENT_LIMITS_H
#define LAB_NODE_AGENT_LIMITS_H

#include "proto/control.pb-c.h"

struct lab_limits_run;

int lab_limits_begin(struct lab_limits_run **ret_limits);
int lab_limits_fd(const struct lab_limits_run *limits); /* readable once they are measured */

/* -EAGAIN: not yet. Fills in what was measured; the strings and arrays belong to `limits`. */
int lab_limits_collect(struct lab_limits_run *limits, Lab__Limits *ret_message);

void lab_limits_end(struct lab_limits_run *limits); /* waits for the thread (bounded: about 0.1 s); NULL is harmless */

#endif
