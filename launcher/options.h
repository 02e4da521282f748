/* The command line as data: one row per option (options.c) feeds the parser and `--help`; one row per verb (main/ipclab.c)
 * says which of them it takes. getopt_long(3) does the splitting.
 *
 *     static const struct lab_verb plan = {"plan", "[FILE]", "prints the cells that run would run", lab_verb_plan,
 *                                          LAB_TAKES_EXPERIMENT | LAB_TAKES_FORMAT, LAB_REST_FILE};
 *     err = lab_arguments_parse(&plan, argc, argv, &arguments);     argv[0] is the verb
 *     ...
 *     lab_arguments_fini(&arguments);
 */
#ifndef LAB_LAUNCHER_OPTIONS_H
#define LAB_LAUNCHER_OPTIONS_H

#include "launcher/verbs.h"

#include <stdint.h>
#include <stdio.h>

enum lab_takes {
    LAB_TAKES_EXPERIMENT = 1 << 0, /* every option that is a key of the file, --set, --hosts, --lab */
    LAB_TAKES_FORMAT = 1 << 1,     /* --format, -o: a run in every format */
    LAB_TAKES_STORE = 1 << 2,      /* --db */
    LAB_TAKES_DRY_RUN = 1 << 3,
    LAB_TAKES_TALK = 1 << 4,       /* -q, -v */
    LAB_TAKES_CPUS = 1 << 5,       /* --cpus, which help does not show: it makes a plan for another machine */
    LAB_TAKES_WORLD = 1 << 6,      /* no option: in a user's mpirun rank 0 alone reads the words and speaks, the other ranks become nodes */
    LAB_TAKES_HOSTS = 1 << 8,      /* --hosts, --lab, without the rest of an experiment */
    LAB_TAKES_LISTING = 1 << 7,    /* --format, -o: a listing, as a table or as JSON */
};

enum lab_rest {
    LAB_REST_NONE,
    LAB_REST_FILE,  /* at most one, into `file` */
    LAB_REST_WORDS, /* any number, into `rest` */
    LAB_REST_RAW,   /* everything from the first that is no option on, into `rest`: a command for somebody else */
};

struct lab_verb {
    const char *name;
    const char *operands; /* as help shows them: "[FILE]" */
    const char *summary;  /* one line */
    int (*call)(const struct lab_arguments *arguments); /* NULL: known, but not in this version */
    uint32_t takes;
    enum lab_rest rest;
    bool internal;        /* not shown by --help */
};

/* -EINVAL with the nearest known option in the record; `*ret_help`: --help was asked for, nothing else was checked.
 * The arguments refer to argv. */
int lab_arguments_parse(const struct lab_verb *verb, int argc, char **argv, struct lab_arguments *ret_arguments, bool *ret_help);
void lab_arguments_fini(struct lab_arguments *arguments);

/* `ipclab VERB --help`. */
void lab_arguments_help(const struct lab_verb *verb, FILE *to);

#endif
