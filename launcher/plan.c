#include "launcher/plan.h"

#include "base/text.h"
#include "launcher/axis.h"
#include "launcher/plan_cell.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* ---- the machine ---- */

void lab_machine_read(struct lab_machine *ret_machine)
{
    *ret_machine = (struct lab_machine){.cpu_count = 0};
    lab_huge_pages_read(&ret_machine->huge_pages);
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            ret_machine->cpus[ret_machine->cpu_count++] = cpu;
}

_Static_assert(sizeof((struct lab_machine *)0)->cpus / sizeof(int) >= CPU_SETSIZE, "every cpu of a cpu_set_t must fit");

int lab_machine_parse(const char *cpus, struct lab_machine *ret_machine)
{
    struct lab_machine machine = {.huge_pages.size = 2 << 20, .described = true};
    const size_t room = sizeof machine.cpus / sizeof *machine.cpus;
    const char *at = cpus;
    do {
        char *end;
        if (*at < '0' || *at > '9')
            return lab_refuse(EINVAL, "'%s' is not a list of cpus (0,1,4-7)", cpus);
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        if ((*end && *end != ',') || last < first || last >= room)
            return lab_refuse(EINVAL, "'%s' is not a list of cpus (0,1,4-7)", cpus);
        for (unsigned long cpu = first; cpu <= last && machine.cpu_count < room; cpu++)
            machine.cpus[machine.cpu_count++] = (int)cpu;
        at = end + 1;
        if (!*end)
            break;
    } while (true);
    *ret_machine = machine;
    return 0;
}

int32_t lab_plan_cpu(const struct lab_plan_cell *cell, const struct lab_machine *machine, uint32_t party)
{
    /* A host with fewer cpus than the launcher's has its parties share them. */
    return cell->slots && machine->cpu_count ? machine->cpus[cell->slots[party] % machine->cpu_count] : -1;
}

/* ---- the product of the axes ---- */

static bool excluded(const struct lab_experiment *experiment, const struct lab_plan_cell *cell,
                     const struct lab_combination *combination)
{
    for (size_t i = 0; i < experiment->exclude_count; i++)
        if (lab_plan_cell_matches(cell, combination, &experiment->excludes[i]))
            return true;
    return false;
}

/* Takes the cell over, or drops it: excluded, or one that there is already. */
static void add_cell(struct lab_plan *plan, struct lab_plan_cell *cell, const struct lab_combination *combination)
{
    const struct lab_experiment *experiment = plan->experiment;
    if (excluded(experiment, cell, combination)) {
        plan->excluded++;
        lab_plan_cell_fini(cell);
        return;
    }
    cell->baseline = !cell->skip && experiment->has_baseline && lab_plan_cell_matches(cell, combination, &experiment->baseline);
    for (size_t i = 0; i < plan->cell_count; i++) {
        if (lab_plan_cell_same(&plan->cells[i], cell)) {
            plan->cells[i].baseline |= cell->baseline;
            plan->merged++;
            lab_plan_cell_fini(cell);
            return;
        }
    }
    cell->id = (uint32_t)plan->cell_count;
    plan->cells[plan->cell_count++] = *cell;
    if (cell->skip)
        plan->skip_count++;
    else if (cell->nodes > plan->nodes_max)
        plan->nodes_max = cell->nodes;
}

/* Counts through the values as an odometer does, the last axis fastest. False once all have been. */
static bool next_combination(const struct lab_block *block, size_t position[LAB_AXES])
{
    for (size_t axis = LAB_AXES; axis-- > 0;) {
        if (++position[axis] < block->axis[axis].count)
            return true;
        position[axis] = 0;
    }
    return false;
}

static int add_block(struct lab_plan *plan, const struct lab_block *block, const struct lab_site *site)
{
    size_t position[LAB_AXES] = {0};
    do {
        struct lab_combination combination = {.mark = block->mark};
        for (enum lab_axis axis = 0; axis < LAB_AXES; axis++)
            if (block->axis[axis].count)
                combination.value[axis] = &block->axis[axis].items[position[axis]];
        struct lab_plan_cell cell = {0};
        int err = lab_plan_cell_make(site, &combination, &cell);
        if (err)
            return err;
        add_cell(plan, &cell, &combination);
    } while (next_combination(block, position));
    return 0;
}

static int count_combinations(const struct lab_experiment *experiment, size_t *ret_count)
{
    size_t total = 0;
    for (size_t i = 0; i < experiment->block_count; i++) {
        size_t product = 1;
        for (enum lab_axis axis = 0; axis < LAB_AXES && product <= LAB_PLAN_CELLS_MAX; axis++)
            if (experiment->blocks[i].axis[axis].count)
                product *= experiment->blocks[i].axis[axis].count;
        total += product;
        if (total > LAB_PLAN_CELLS_MAX)
            return lab_mark_refuse(&experiment->blocks[i].mark, "the axes make more than %d cells; shorten a list, or split the file",
                                   LAB_PLAN_CELLS_MAX);
    }
    *ret_count = total;
    return 0;
}

static int add_blocks(struct lab_plan *plan, const struct lab_site *site)
{
    const struct lab_experiment *experiment = plan->experiment;
    for (size_t i = 0; i < experiment->block_count; i++) {
        size_t before = plan->cell_count + plan->merged;
        int err = add_block(plan, &experiment->blocks[i], site);
        if (err)
            return err;
        if (plan->cell_count + plan->merged == before)
            return lab_mark_refuse(&experiment->excludes[0].mark, "the excludes leave no cell of the matrix in line %u",
                                   experiment->blocks[i].mark.line);
    }
    return 0;
}

int lab_plan_make(const struct lab_experiment *experiment, const struct lab_machine *machine, struct lab_plan **ret_plan)
{
    size_t count = 0;
    struct lab_hosts *hosts = NULL;
    struct lab_plan *plan = NULL;
    int err = count_combinations(experiment, &count);
    if (!err && experiment->hosts.count)
        err = lab_hosts_of_values(&experiment->hosts, &hosts);
    if (err)
        return err;
    plan = calloc(1, sizeof *plan);
    if (plan)
        plan->cells = calloc(count ? count : 1, sizeof *plan->cells);
    if (!plan || !plan->cells) {
        err = lab_fail(ENOMEM, "cannot make a plan of %zu cells", count);
    } else {
        plan->experiment = experiment;
        err = add_blocks(plan, &(struct lab_site){.hosts = hosts, .lab = experiment->lab, .machine = machine});
    }
    lab_hosts_free(hosts);
    if (err)
        lab_plan_free(plan);
    else
        *ret_plan = plan;
    return err;
}

void lab_plan_free(struct lab_plan *plan)
{
    if (!plan)
        return;
    for (size_t i = 0; i < plan->cell_count; i++)
        lab_plan_cell_fini(&plan->cells[i]);
    free(plan->cells);
    free(plan);
}
