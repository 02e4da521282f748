#include "launcher/plan.h"

#include "base/error.h"
#include "base/version.h"
#include "report/result.h"

#include <errno.h>
#include <stdio.h>

static const char *options_of(struct lab_run *run, const struct lab_plan_cell *cell)
{
    char text[256];
    int used = snprintf(text, sizeof text, "{\"window\": %u, \"batch\": %u", cell->window, cell->batch);
    if (cell->link)
        used += snprintf(text + used, sizeof text - (size_t)used, ", \"link\": \"%s\"", cell->link->name);
    if (cell->backing != LAB_BACKING_MEMFD)
        used += snprintf(text + used, sizeof text - (size_t)used, ", \"backing\": \"%s\"", lab_backing_name(cell->backing));
    if (cell->spin_ns)
        used += snprintf(text + used, sizeof text - (size_t)used, ", \"spin_limit_ns\": %llu", (unsigned long long)cell->spin_ns);
    if (cell->delivery)
        used += snprintf(text + used, sizeof text - (size_t)used, ", \"delivery\": \"%s\"", cell->delivery);
    if (cell->encryption)
        used += snprintf(text + used, sizeof text - (size_t)used, ", \"encryption\": \"%s\"", cell->encryption);
    if (cell->mpi_path)
        used += snprintf(text + used, sizeof text - (size_t)used, ", \"mpi_path\": \"%s\"", cell->mpi_path);
    if (cell->mpi_rndv)
        used += snprintf(text + used, sizeof text - (size_t)used, ", \"mpi_rndv\": %llu", (unsigned long long)cell->mpi_rndv);
    if (!cell->verify_all)
        used += snprintf(text + used, sizeof text - (size_t)used, ", \"verify\": \"sample\"");
    snprintf(text + used, sizeof text - (size_t)used, "}");
    return lab_run_string(run, text);
}

/* A cell that is skipped is shown as it was asked for, one that runs as it will be. */
static int add_cell(struct lab_run *run, const struct lab_plan_cell *cell)
{
    struct lab_cell *to = lab_run_add_cell(run);
    if (!to)
        return -ENOMEM;
    bool runs = !cell->skip;
    const char *wait = runs ? lab_wait_name(cell->wait) : cell->asked[LAB_AXIS_WAIT];
    to->id = cell->id;
    to->transport = lab_run_string(run, runs ? cell->transport->name : cell->asked[LAB_AXIS_TRANSPORT]);
    to->wait = lab_run_string(run, wait ? wait : "");
    to->pattern = lab_run_string(run, cell->asked[LAB_AXIS_PATTERN]);
    to->topology = lab_run_string(run, cell->asked[LAB_AXIS_TOPOLOGY]);
    to->workload = lab_run_string(run, cell->asked[LAB_AXIS_WORKLOAD]);
    to->placement = lab_run_string(run, cell->placement);
    to->unit = lab_run_string(run, cell->asked[LAB_AXIS_UNIT]);
    to->options = runs ? options_of(run, cell) : lab_run_string(run, "{}");
    to->size_bytes = cell->size_bytes;
    to->nodes = cell->nodes;
    to->workers = cell->workers;
    to->remote = cell->crosses_hosts;
    to->baseline = cell->baseline;
    to->latency_kind = cell->pattern ? lab_latency_kind_name(cell->pattern->latency) : NULL;
    to->verdict = runs ? LAB_OK : LAB_SKIPPED;
    to->reason = lab_run_string(run, cell->skip);
    return to->transport && to->wait && to->pattern && to->topology && to->placement && to->unit && to->options ? 0 : -ENOMEM;
}

int lab_plan_to_run(const struct lab_plan *plan, struct lab_run *run)
{
    const struct lab_experiment *experiment = plan->experiment;
    run->experiment = lab_run_string(run, experiment->name);
    run->question = lab_run_string(run, experiment->question);
    run->config_hash = lab_run_string(run, experiment->hash);
    run->config = lab_run_string(run, experiment->text);
    run->version = LAB_VERSION;
    run->seed = experiment->seed;
    int err = run->experiment && run->config_hash && run->config ? 0 : -ENOMEM;
    for (size_t i = 0; !err && i < plan->cell_count; i++)
        err = add_cell(run, &plan->cells[i]);
    return err ? lab_fail(ENOMEM, "cannot prepare the result of %zu cells", plan->cell_count) : 0;
}
