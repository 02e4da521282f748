/* The verbs of the command line: what main() hands to each, and what each hands back.
 *
 * A verb is one function, `int lab_verb_<name>(const struct lab_arguments *arguments)`, in launcher/verb_<name>.c, and one row of
 * the table in launcher/main/ipclab.c. main() has read the options before it calls (launcher/options.h); the verb writes
 * its data to standard output or to `arguments->output`, and returns an exit code. It may leave a failure in the error record:
 * main() prints the record to standard error when the code is neither LAB_EXIT_OK nor LAB_EXIT_MISSED and it holds one.
 *
 *     int lab_verb_plan(const struct lab_arguments *arguments)
 *     {
 *         struct lab_experiment *experiment;
 *         int err = lab_arguments_experiment(arguments, &experiment);
 *         if (err)
 *             return lab_exit_of(err);
 *         ...
 *     }
 */
#ifndef LAB_LAUNCHER_VERBS_H
#define LAB_LAUNCHER_VERBS_H

#include "launcher/experiment.h"
#include "launcher/plan.h"
#include "report/render.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum lab_exit {
    LAB_EXIT_OK = 0,
    LAB_EXIT_FAILED = 1,   /* the experiment failed */
    LAB_EXIT_USAGE = 2,    /* usage or configuration error */
    LAB_EXIT_MISSED = 3,   /* a threshold was missed or a regression found */
    LAB_EXIT_REFUSED = 4,  /* the environment was refused */
    LAB_EXIT_PARTIAL = 5,  /* partial results */
    LAB_EXIT_SKIPPED = 77,
    LAB_EXIT_TIME = 124,   /* out of time */
    LAB_EXIT_SIGNAL = 128, /* + the signal's number */
};

struct lab_arguments {
    const char *verb;               /* "run", ... */
    const char *file;               /* the experiment; NULL: the built-in comparison */
    const struct lab_override *overrides; /* of --set and of the short options, in the order given */
    size_t override_count;
    enum lab_format format;         /* LAB_FORMAT_TABLE by default */
    bool format_given;
    const char *output;             /* -o FILE; NULL: standard output */
    const char *database;           /* --db FILE; NULL: the default place */
    const char *cpus;               /* --cpus LIST (plan only): as if these were the cpus, "0,1"; NULL: those of this machine */
    bool lab, quiet, verbose, dry_run; /* --lab is an override too: experiment->lab */
    char **rest;                    /* what is neither option nor FILE: `list` WHAT, `show` RUN, `lab` up 2, `clean`, ... */
    size_t rest_count;
};

/* Reads the experiment that the arguments name, with their overrides; in a user's mpirun its world says how many nodes there are. 0 or -errno with the record filled in. */
int lab_arguments_experiment(const struct lab_arguments *arguments, struct lab_experiment **ret_experiment);

/* The machine to plan for: this one, or the one that --cpus describes. */
int lab_arguments_machine(const struct lab_arguments *arguments, struct lab_machine *ret_machine);

/* Where the arguments want the data: standard output, or a file that is written beside its place and renamed when it is
 * complete, so that a failure leaves the old one (a device or a pipe is written to directly). Close it in any case: `err` is what writing came to, and is returned when it
 * is a failure; else that of the stream. */
struct lab_output {
    FILE *stream;
    const char *place; /* NULL: standard output */
    char *final, *temporary; /* NULL: written in place */
};
int lab_output_open(const struct lab_arguments *arguments, struct lab_output *ret_output);
int lab_output_close(struct lab_output *output, int err);

/* Renders the run in the format and to the place that the arguments name. 0 or -errno with the record filled in. */
int lab_arguments_render(const struct lab_arguments *arguments, const struct lab_run *run);

/* The same for a listing, as a table or as JSON; -EINVAL for another format. */
struct lab_listing;
int lab_arguments_print_listing(const struct lab_arguments *arguments, const struct lab_listing *listing);

/* The exit code for a failure: usage for -EINVAL, -ENOENT and other faults of what was asked; failed for the rest. */
int lab_exit_of(int err);

int lab_verb_run(const struct lab_arguments *arguments);

/* Finishes a stored run whose launcher was killed: `failure` is why. Returns the exit code that it would have come to. */
int lab_run_bury(const char *database, const char *id, const char *failure);

int lab_verb_plan(const struct lab_arguments *arguments);
int lab_verb_list(const struct lab_arguments *arguments);
int lab_verb_show(const struct lab_arguments *arguments);
int lab_verb_history(const struct lab_arguments *arguments);
int lab_verb_lab(const struct lab_arguments *arguments);
int lab_verb_demo(const struct lab_arguments *arguments);
int lab_verb_doctor(const struct lab_arguments *arguments);
int lab_verb_keys(const struct lab_arguments *arguments);
int lab_verb_clean(const struct lab_arguments *arguments);
int lab_verb_internal(const struct lab_arguments *arguments); /* node, worker: becomes that program */

#endif
