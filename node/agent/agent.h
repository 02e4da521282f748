/* The agent: a node's conversation with the launcher, from HELLO to BYE. One thread, one launch at a time. */
#ifndef LAB_NODE_AGENT_AGENT_H
#define LAB_NODE_AGENT_AGENT_H

#include "proto/bus/keys.h"

#include <stdint.h>

struct lab_agent_spec {
    const char *control;     /* address of the launcher's bus */
    struct lab_keys *keys;   /* for it, forgotten as soon as it is joined; NULL: none */
    uint32_t node;           /* this node's index */
    int rank;                /* in the MPI world of nodes; -1: none */
    const char *worker_path; /* the program of worker processes */
};

/* Runs until BYE (0), or until the launcher is lost or something cannot go on (-errno, in the error record). No worker
 * outlives it. */
int lab_agent_run(const struct lab_agent_spec *spec);

#endif
