/* ipclab: one command with verbs. To add a verb: a function in launcher/verb_<name>.c and a row here. */
#include "base/text.h"
#include "base/version.h"
#include "launcher/crew.h"
#include "launcher/options.h"
#include "launcher/rank.h"

#include <errno.h>
#include <string.h>

enum { EXPERIMENT = LAB_TAKES_EXPERIMENT | LAB_TAKES_FORMAT | LAB_TAKES_TALK };

static const struct lab_verb verbs[] = {
    {"run", "[FILE]", "runs an experiment; without FILE the built-in comparison", lab_verb_run,
     EXPERIMENT | LAB_TAKES_STORE | LAB_TAKES_DRY_RUN | LAB_TAKES_WORLD, LAB_REST_FILE, false},
    {"plan", "[FILE]", "prints the cells that run would run, and those skipped with the reason; starts nothing", lab_verb_plan,
     EXPERIMENT | LAB_TAKES_STORE | LAB_TAKES_DRY_RUN | LAB_TAKES_CPUS, LAB_REST_FILE, false},
    {"list", "WHAT", "what there is: transports, patterns, topologies, workloads or waits", lab_verb_list,
     LAB_TAKES_LISTING, LAB_REST_WORDS, false},
    {"show", "[RUN]", "a stored run again; without RUN the latest", lab_verb_show,
     LAB_TAKES_FORMAT | LAB_TAKES_STORE, LAB_REST_WORDS, false},
    {"history", "", "the stored runs, newest first", lab_verb_history, LAB_TAKES_LISTING | LAB_TAKES_STORE, LAB_REST_NONE, false},
    {"demo", "NAME", "what goes wrong without a guard: torn-read, lost-update, deadlock or abandoned-lock", lab_verb_demo,
     LAB_TAKES_LISTING, LAB_REST_WORDS, false},
    {"lab", "up N | status | exec HOST -- COMMAND | down", "virtual hosts on this machine (root)", lab_verb_lab,
     LAB_TAKES_TALK, LAB_REST_RAW, false},
    {"doctor", "", "what on this machine, or on these hosts, will disturb or prevent a run, and what mends it", lab_verb_doctor,
     LAB_TAKES_LISTING | LAB_TAKES_HOSTS, LAB_REST_NONE, false},
    {"keys", "[renew]", "the keys for connections to other hosts, made where there are none", lab_verb_keys, LAB_TAKES_LISTING, LAB_REST_WORDS, false},
    {"clean", "", "removes what a crashed run left, and says what", lab_verb_clean,
     LAB_TAKES_TALK | LAB_TAKES_DRY_RUN, LAB_REST_NONE, false},
    {"node", "", "internal: becomes ipclab-node", lab_verb_internal, 0, LAB_REST_RAW, true},
    {"worker", "", "internal: becomes ipclab-worker", lab_verb_internal, 0, LAB_REST_RAW, true},
    {"compare", "A B", "two stored runs, cell by cell, with a verdict each", NULL, 0, LAB_REST_WORDS, false},
    {"report", "[RUN...] -o FILE.html", "one self-contained page", NULL, 0, LAB_REST_WORDS, false},
    {"explain", "[RUN]", "the lesson's table with a measured figure in each cell", NULL, 0, LAB_REST_WORDS, false},
    {"recommend", "", "the mechanism to use here, the runner-up, and why", NULL, 0, LAB_REST_WORDS, false},
    {"ps", "[PID]", "workers with their states", NULL, 0, LAB_REST_WORDS, false},
    {"pcb", "PID", "one process control block", NULL, 0, LAB_REST_WORDS, false},
    {"trace", "FILE -o OUT", "one run with its events recorded", NULL, 0, LAB_REST_WORDS, false},
    {"selftest", "", "known truths injected, and whether the figures show them", NULL, 0, LAB_REST_WORDS, false},
};
enum { VERBS = sizeof verbs / sizeof *verbs };

static const char *verb_name(size_t index)
{
    return index < VERBS ? verbs[index].name : NULL;
}

static void print_help(FILE *to)
{
    fputs("Usage: ipclab VERB [options] [FILE]\n\n"
          "Measures inter-process communication side by side: shared memory, kernel mechanisms, ZeroMQ, MPI.\n\nVerbs:\n", to);
    for (size_t i = 0; i < VERBS; i++)
        if (verbs[i].call && !verbs[i].internal)
            fprintf(to, "  %-9s %s\n", verbs[i].name, verbs[i].summary);
    fputs("\nNot in this version:", to);
    const char *between = " ";
    for (size_t i = 0; i < VERBS; i++) {
        if (!verbs[i].call) {
            fprintf(to, "%s%s", between, verbs[i].name);
            between = ", ";
        }
    }
    fputs("\n\nipclab VERB --help says more. Begin with: ipclab run\n", to);
}

/* NULL, with the reason in the record. */
static const struct lab_verb *find_verb(const char *name)
{
    for (size_t i = 0; i < VERBS; i++) {
        if (strcmp(verbs[i].name, name) != 0)
            continue;
        if (verbs[i].call)
            return &verbs[i];
        lab_refuse(EINVAL, "%s is not in this version of ipclab (%s)", name, LAB_VERSION);
        return NULL;
    }
    static const char *const options[] = {"--help", "--version"};
    char quoted[LAB_QUOTE_TEXT], hint[LAB_HINT_TEXT];
    bool option = name[0] == '-';
    const char *near = option ? lab_nearest_of(name, options, sizeof options / sizeof *options) : lab_nearest(name, verb_name);
    lab_refuse(EINVAL, "unknown %s '%s'%s (see: ipclab --help)", option ? "option" : "verb", lab_quote(name, quoted), lab_hint(near, hint));
    return NULL;
}

/* `ipclab help VERB` */
static int help_about(int count, char **words)
{
    if (count == 0) {
        print_help(stdout);
        return LAB_EXIT_OK;
    }
    const struct lab_verb *verb = find_verb(words[0]);
    if (!verb)
        return LAB_EXIT_USAGE;
    lab_arguments_help(verb, stdout);
    return LAB_EXIT_OK;
}

static int call(const struct lab_verb *verb, int argc, char **argv)
{
    struct lab_arguments arguments;
    bool help, inside = false;
    uint32_t rank = 0, size;
    int err = verb->takes & LAB_TAKES_WORLD ? lab_crew_world(&inside, &rank, &size) : 0;
    if (!err && inside)
        err = lab_rank_begin(rank); /* goes on in a child of rank 0's */
    if (!err)
        err = lab_arguments_parse(verb, argc, argv, &arguments, &help);
    if (err)
        return lab_exit_of(err);
    if (help) {
        lab_arguments_help(verb, stdout);
        return LAB_EXIT_OK;
    }
    int code = verb->call(&arguments);
    const struct lab_error *error = lab_error_last();
    if (code != LAB_EXIT_OK && arguments.verbose && error->code)
        fprintf(stderr, "(%s:%d)\n", error->file, error->line);
    lab_arguments_fini(&arguments);
    return code;
}

/* A sentence may quote a name from the command line: what a terminal would obey is not shown to it. */
static void put_sentence(const char *text, FILE *to)
{
    for (; *text; text++)
        fputc((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text, to);
    fputc('\n', to);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return LAB_EXIT_USAGE;
    }
    const char *word = argv[1];
    int code = LAB_EXIT_OK;
    const struct lab_verb *verb = NULL;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
        code = help_about(argc - 2, argv + 2);
    else if (strcmp(word, "--version") == 0)
        printf("ipclab %s\n", LAB_VERSION);
    else if (!(verb = find_verb(word)))
        code = LAB_EXIT_USAGE;
    else
        code = call(verb, argc - 1, argv + 1);

    const struct lab_error *error = lab_error_last();
    if (code != LAB_EXIT_OK && code != LAB_EXIT_MISSED && error->code)
        put_sentence(error->text, stderr);
    errno = EIO;
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == LAB_EXIT_OK) {
        perror("standard output");
        code = LAB_EXIT_FAILED;
    }
    return code;
}
