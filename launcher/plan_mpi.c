/* How MPI is told to move messages: mpi_path and mpi_rndv. MPICH's library for that is UCX, which listens to its environment. */
#include "launcher/plan_making.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

/* What UCX may use to reach another process; it cannot do without `self`. Its name "shm" would take one copy for long messages as well. */
static const struct {
    const char *path, *transports;
} paths[] = {{"shm", "posix,self"}, {"cma", "posix,cma,self"}, {"tcp", "tcp,self"}};

int lab_plan_mpi(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const struct lab_value *threshold = making->asked->value[LAB_AXIS_MPI_RNDV];
    const char *path = cell->asked[LAB_AXIS_MPI_PATH];
    bool forced = path && strcmp(path, "default") != 0, moves = cell->transport->caps & LAB_CAP_WORLD && cell->transport->caps & LAB_CAP_COPY;
    if (moves && !cell->link) {
        cell->mpi_path = path;
        cell->mpi_rndv = threshold ? threshold->number : 0;
    }
    if (!forced && !threshold)
        return 0;
    const char *key = forced ? "mpi_path" : "mpi_rndv", *asked = forced ? path : threshold->text;
    if (!moves && !cell->link)
        return lab_plan_skip(making, "%s: %s says how MPI moves messages, and %s is not moved by MPI", key, asked, cell->transport->name);
    return cell->nodes > 1 ? lab_plan_skip(making, "%s: %s is for the workers of one node: nodes keep one MPI world for a whole run", key, asked) : 0;
}

int lab_plan_mpi_variables(const struct lab_plan_cell *cell, char to[LAB_PLAN_VARIABLES][LAB_PLAN_VARIABLE])
{
    int count = 0;
    for (size_t p = 0; cell->mpi_path && p < sizeof paths / sizeof *paths; p++)
        if (strcmp(paths[p].path, cell->mpi_path) == 0)
            snprintf(to[count++], LAB_PLAN_VARIABLE, "UCX_TLS=%s", paths[p].transports);
    if (cell->mpi_rndv)
        snprintf(to[count++], LAB_PLAN_VARIABLE, "UCX_RNDV_THRESH=%llu", (unsigned long long)cell->mpi_rndv);
    return count;
}
