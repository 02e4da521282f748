/* The cells that an experiment means, each ready to run or skipped with its reason: data, made without starting anything. */
#ifndef LAB_LAUNCHER_PLAN_H
#define LAB_LAUNCHER_PLAN_H

#include "launcher/experiment.h"
#include "node/pattern.h"
#include "node/transport.h"
#include "node/unit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct lab_edge {
    uint32_t client, server; /* parties: workers numbered over all nodes, or nodes when `workers` is 0 */
};

/* A topology is a function from a number of parties to edges: two short functions and one row in launcher/topology.c. In a run
 * every party takes the turns of its edges in the order of this list. */
struct lab_topology {
    const char *name, *summary;
    size_t (*edge_count)(uint32_t parties);
    void (*edges)(uint32_t parties, struct lab_edge *ret_edges);
    uint32_t parties_min;
    bool gathers; /* a tree: each party but one asks exactly one other, and those who ask it come before in the order of edges */
};
const struct lab_topology *lab_topology_at(size_t index); /* NULL beyond the last */
const struct lab_topology *lab_topology_named(const char *name);

/* What one node takes (node/agent/layout.c), and more descriptors than a machine has. */
enum { LAB_PLAN_PARTIES_MAX = 4096, LAB_PLAN_EDGES_MAX = 1 << 16, LAB_PLAN_CELLS_MAX = 10000 };
#define LAB_PLAN_IN_FLIGHT_MAX (UINT64_C(1) << 30) /* bytes of one channel's window */

/* Of a cell that is skipped, every pointer into a table may be NULL and the figures may be 0: `asked` is what to print. */
struct lab_plan_cell {
    uint32_t id;
    const char *asked[LAB_AXES]; /* as the experiment has it, or the default of an axis of names; NULL: nothing */
    const struct lab_transport *transport;
    const struct lab_transport *link; /* between nodes when `transport` cannot go there; NULL: not needed */
    const struct lab_pattern *pattern;
    const struct lab_topology *topology;
    enum lab_wait wait;
    enum lab_unit unit;
    enum lab_backing backing;
    const char *mpi_path;    /* "shm", "cma", "tcp", or "default" where that was asked for; NULL: it was not, or MPI moves nothing here */
    uint64_t mpi_rndv;       /* bytes from which on MPI is to send by rendezvous; 0: as it likes */
    uint64_t spin_ns;        /* adaptive polls for so long at most; 0: the default */
    uint64_t size_bytes;
    uint32_t nodes, workers; /* workers per node; 0: the nodes talk */
    uint32_t parties;        /* nodes * workers, or nodes */
    uint32_t seats[2];       /* senders and receivers of a channel that all share; 0, 0: edges have channels of their own */
    uint32_t window, batch;
    const char *placement;   /* "same-core", "other-core", "any" */
    uint16_t *slots;         /* owned; of each party, which of the machine's cpus; NULL: any */
    bool crosses_hosts;      /* its nodes are on different hosts */
    bool verify_all;
    bool reliable;           /* delivery: reliable */
    const char *delivery;    /* as it was asked for, of what could do either; NULL: what is lost is a fault */
    bool encrypted;
    const char *encryption;  /* "on" or "off" of what crosses hosts, and of what could be either and was asked for; NULL: as all within a host, in the clear */
    bool baseline;
    char *skip;              /* owned, a sentence; NULL: it runs */
    char *note;              /* owned, a sentence on how it runs that a reader must know; NULL: none */
    struct lab_mark mark;
};

struct lab_plan {
    const struct lab_experiment *experiment;
    struct lab_plan_cell *cells;
    size_t cell_count, skip_count;
    size_t excluded;     /* combinations that `exclude` removed: no cells at all */
    size_t merged;       /* combinations that meant a cell that there was already */
    uint32_t nodes_max;  /* of the cells that run */
};

/* What the machine offers, for what it cannot do; cpus are those the launcher may use. */
struct lab_machine {
    int cpus[1024];
    uint32_t cpu_count;
    bool apart; /* several nodes are on other machines too, which nobody has named (a user's mpirun over several hosts) */
    struct lab_huge_pages huge_pages;
    bool described; /* by someone: it is not this one, and what this one can do says nothing of it */
};
void lab_machine_read(struct lab_machine *ret_machine);
/* One with these cpus, which can do all that can be done, and no free huge pages: "0,1,4-7"; -EINVAL. */
int lab_machine_parse(const char *cpus, struct lab_machine *ret_machine);

/* An impossible *request* (a block that leaves no cell at all, 0 nodes) is -EINVAL with file:line:column; an impossible
 * *combination* is a skipped cell. The plan refers to the experiment, which must outlive it. */
int lab_plan_make(const struct lab_experiment *experiment, const struct lab_machine *machine, struct lab_plan **ret_plan);
void lab_plan_free(struct lab_plan *plan);

/* What its workers find in their environment, "NAME=value" each; how many. */
enum { LAB_PLAN_VARIABLES = 2, LAB_PLAN_VARIABLE = 48 };
int lab_plan_mpi_variables(const struct lab_plan_cell *cell, char to[LAB_PLAN_VARIABLES][LAB_PLAN_VARIABLE]);

/* The cpu of a party of a cell that runs: same-core: all on one; other-core: the two sides of every edge apart; any: -1. */
int32_t lab_plan_cpu(const struct lab_plan_cell *cell, const struct lab_machine *machine, uint32_t party);

/* For people: cells that differ only in their size share a line, those skipped for the same reason too. -ENOMEM; what the
 * stream says of itself (ferror) is the caller's. */
int lab_plan_print(const struct lab_plan *plan, FILE *to);

/* The plan as a run that has not begun: name, question, hash and text of the experiment, the seed, and every cell without
 * launches, in the same order; those skipped have their verdict and reason. Appends to `run`, which refers to nothing of the
 * plan afterwards. -ENOMEM. */
struct lab_run;
int lab_plan_to_run(const struct lab_plan *plan, struct lab_run *run);

#endif
