/* On which cpus the parties of a cell are: the two sides of every edge apart, together, or wherever. */
#include "launcher/plan_making.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whose cpus a party takes. */
static size_t host_of(const struct lab_plan_making *making, uint32_t party)
{
    const struct lab_hosts *hosts = making->site->hosts;
    uint32_t node = making->cell->workers ? party / making->cell->workers : party;
    return hosts && lab_plan_elsewhere(making) ? (size_t)(lab_hosts_of_node(hosts, node) - hosts->items) : 0;
}

/* Of each party, those that it has an edge with. */
struct neighbours {
    uint32_t *first; /* of party p: those from first[p] on, before first[p + 1] */
    uint32_t *party;
};

static int find_neighbours(const struct lab_plan_cell *cell, struct neighbours *ret)
{
    size_t edge_count = cell->topology->edge_count(cell->parties);
    struct lab_edge *edges = calloc(edge_count, sizeof *edges);
    ret->first = calloc((size_t)cell->parties + 2, sizeof *ret->first);
    ret->party = calloc(2 * edge_count, sizeof *ret->party);
    if (!edges || !ret->first || !ret->party) {
        free(edges);
        return lab_plan_no_memory();
    }
    cell->topology->edges(cell->parties, edges);
    /* Counted one place late: while it is filled in, first[p + 1] is where the next of party p goes. */
    for (size_t e = 0; e < edge_count; e++) {
        ret->first[edges[e].client + 2]++;
        ret->first[edges[e].server + 2]++;
    }
    for (uint32_t party = 2; party <= cell->parties; party++)
        ret->first[party] += ret->first[party - 1];
    for (size_t e = 0; e < edge_count; e++) {
        ret->party[ret->first[edges[e].client + 1]++] = edges[e].server;
        ret->party[ret->first[edges[e].server + 1]++] = edges[e].client;
    }
    free(edges);
    return 0;
}

/* The cpu of its host used least among those that no neighbour there has; SIZE_MAX when all have one. `users` is that host's. */
static size_t free_slot(const struct lab_plan_making *making, const struct neighbours *neighbours, uint32_t party, const uint32_t *users,
                        size_t slot_count, bool *taken)
{
    memset(taken, 0, slot_count);
    for (uint32_t i = neighbours->first[party]; i < neighbours->first[party + 1]; i++) {
        uint32_t other = neighbours->party[i];
        if (other < party && host_of(making, other) == host_of(making, party))
            taken[making->cell->slots[other]] = true;
    }
    size_t best = SIZE_MAX;
    for (size_t slot = 0; slot < slot_count; slot++)
        if (!taken[slot] && (best == SIZE_MAX || users[slot] < users[best]))
            best = slot;
    return best;
}

/* Colours the graph of edges greedily, in the order of parties: enough for trees, rings, grids and meshes. False: there are too few
 * cpus. */
static int place_apart(struct lab_plan_making *making, bool *ret_apart)
{
    struct lab_plan_cell *cell = making->cell;
    size_t slot_count = making->site->machine->cpu_count;
    size_t host_count = making->site->hosts ? making->site->hosts->count : 1;
    struct neighbours neighbours = {0};
    uint32_t *users = calloc(host_count * slot_count + 1, sizeof *users);
    bool *taken = calloc(slot_count + 1, sizeof *taken);
    int err = users && taken ? find_neighbours(cell, &neighbours) : lab_plan_no_memory();
    bool apart = true;
    for (uint32_t party = 0; users && taken && !err && apart && party < cell->parties; party++) {
        uint32_t *users_there = users + host_of(making, party) * slot_count;
        size_t slot = free_slot(making, &neighbours, party, users_there, slot_count, taken);
        apart = slot != SIZE_MAX;
        if (apart) {
            cell->slots[party] = (uint16_t)slot;
            users_there[slot]++;
        }
    }
    free(neighbours.first);
    free(neighbours.party);
    free(users);
    free(taken);
    *ret_apart = apart;
    return err;
}

/* Who asked for other cores gets them or nothing. Who did not gets a run: every topology works with any number of parties. */
static int place_anywhere(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    char cpus[48];
    uint32_t cpu_count = making->site->machine->cpu_count;
    snprintf(cpus, sizeof cpus, "%u cpu%s%s", cpu_count, cpu_count == 1 ? "" : "s", making->site->hosts && lab_plan_elsewhere(making) ? " on each host" : "");
    if (making->asked->value[LAB_AXIS_PLACEMENT])
        return lab_plan_skip(making, "other-core keeps the two sides of every edge apart: %s cannot do that for a %s of %u", cpus,
                    cell->topology->name, cell->parties);
    free(cell->slots);
    cell->slots = NULL;
    cell->placement = cell->asked[LAB_AXIS_PLACEMENT] = "any";
    return lab_plan_note(making, "placement is any, since %s cannot keep the two sides of every edge of a %s of %u apart", cpus,
                cell->topology->name, cell->parties);
}

/* Whoever waits in a library that never lets go of its core keeps it from the one that it waits for. */
static int check_holding(struct lab_plan_making *making, uint32_t busy)
{
    const struct lab_plan_cell *cell = making->cell;
    const struct lab_transport *carrier = cell->link ? cell->link : cell->transport;
    bool together = strcmp(cell->placement, "same-core") == 0 && cell->parties > 1;
    if (!(carrier->caps & LAB_CAP_HOLDS) || lab_plan_elsewhere(making) || (!together && busy <= making->site->machine->cpu_count))
        return 0;
    return lab_plan_skip(making, "%s waits inside its library, which never lets go of a core: %u processes need %u cpus, and have %u", carrier->name, busy, busy,
                         together ? 1 : making->site->machine->cpu_count);
}

int lab_plan_place(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    uint32_t busy = cell->parties + (cell->link ? cell->nodes : 0);
    bool apart = true;
    int err = check_holding(making, busy);
    if (!err && strcmp(cell->placement, "any") != 0) {
        cell->slots = calloc(cell->parties, sizeof *cell->slots);
        if (!cell->slots)
            return lab_plan_no_memory();
        if (strcmp(cell->placement, "other-core") == 0 && cell->parties > 1)
            err = place_apart(making, &apart);
        if (!err && !apart)
            err = place_anywhere(making);
    }
    if (!err && !lab_plan_elsewhere(making) && busy > making->site->machine->cpu_count && strcmp(cell->placement, "same-core") != 0)
        err = lab_plan_note(making, "%u %s%s take turns on %u cpu%s", busy, cell->unit == LAB_UNIT_PROCESS ? "processes" : "threads",
                   cell->link ? " (workers and relaying nodes)" : "", making->site->machine->cpu_count, making->site->machine->cpu_count == 1 ? "" : "s");
    return err;
}
