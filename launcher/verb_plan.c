#include "launcher/verbs.h"

#include "report/result.h"

#include <errno.h>

/* In Markdown the table is what it is on a terminal: it has no figures to put into columns. */
static int print_table(const struct lab_arguments *arguments, const struct lab_plan *plan)
{
    bool fenced = arguments->format == LAB_FORMAT_MD;
    struct lab_output output;
    int err = lab_output_open(arguments, &output);
    if (err)
        return err;
    fputs(fenced ? "```\n" : "", output.stream);
    err = lab_plan_print(plan, output.stream);
    fputs(fenced ? "```\n" : "", output.stream);
    return lab_output_close(&output, err);
}

static int print_result(const struct lab_arguments *arguments, const struct lab_plan *plan)
{
    struct lab_run *run = lab_run_new();
    if (!run)
        return lab_fail(ENOMEM, "cannot print a plan");
    int err = lab_plan_to_run(plan, run);
    for (uint32_t i = 0; i < run->cell_count; i++)
        if (run->cells[i].verdict != LAB_SKIPPED)
            run->cells[i].reason = "planned: it has not been run";
    run->planned = true;
    if (!err)
        err = lab_arguments_render(arguments, run);
    lab_run_free(run);
    return err;
}

int lab_verb_plan(const struct lab_arguments *arguments)
{
    struct lab_machine machine;
    struct lab_experiment *experiment = NULL;
    struct lab_plan *plan = NULL;
    int err = lab_arguments_machine(arguments, &machine);
    if (!err)
        err = lab_arguments_experiment(arguments, &experiment);
    if (!err)
        err = lab_plan_make(experiment, &machine, &plan);
    if (!err)
        err = arguments->format == LAB_FORMAT_TABLE || arguments->format == LAB_FORMAT_MD ? print_table(arguments, plan)
                                                                                           : print_result(arguments, plan);
    lab_plan_free(plan);
    lab_experiment_free(experiment);
    return lab_exit_of(err);
}
