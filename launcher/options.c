#include "launcher/options.h"

#include "base/text.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum action {
    OVERRIDE, /* of `key` */
    SET,      /* PATH=VALUE */
    LAB,      /* an override, and a flag */
    FORMAT,
    TEXT,     /* into the `const char *` at `offset` of the arguments */
    FLAG,     /* into the bool there */
    HELP,
};

struct row {
    const char *name;
    char letter;
    const char *value;    /* what stands for it in help; NULL: it takes none */
    const char *fallback; /* the default, as text; NULL: none to speak of */
    const char *help;     /* NULL: not shown */
    enum action action;
    const char *key;
    size_t offset;
    uint32_t takes;       /* verbs that have one of these take it; 0: all */
};

#define KEY(name, value, fallback, help) {name, 0, value, fallback, help, OVERRIDE, name, 0, LAB_TAKES_EXPERIMENT}
#define AT(field) offsetof(struct lab_arguments, field)

static const struct row rows[] = {
    KEY("transport", "LIST", "the file's", "mechanisms: shm-ring,pipe,... (ipclab list transports)"),
    KEY("wait", "LIST", "the transport's first", "how an end waits: spin,yield,adaptive,futex,... (ipclab list waits)"),
    KEY("backing", "LIST", "memfd", "what shared memory is made of: memfd,posix,file,sysv,hugepage"),
    KEY("delivery", "LIST", "best-effort", "what lost connections cost: best-effort,reliable (zmq-ipc, zmq-tcp)"),
    KEY("encryption", "LIST", "on between hosts, off within one", "of messages over zmq-tcp: on,off"),
    KEY("pattern", "LIST", "pingpong", "what is said: pingpong,stream,barrier"),
    KEY("topology", "LIST", "pair", "who talks to whom: pair,pairs,star,ring,... (ipclab list topologies)"),
    KEY("size", "LIST", "64", "message sizes: 64 or 1KiB or 8..1MiB*4"),
    KEY("placement", "LIST", "other-core, or any with too few cpus", "same-core, other-core, any"),
    KEY("nodes", "N", "1, or one per host", "nodes: processes that stand for hosts"),
    KEY("workers", "N", "2, or 1 with several nodes", "workers per node; 0: the nodes themselves talk"),
    KEY("rate", "LIST", NULL, "messages per second of an open loop: 10k/s"),
    KEY("launches", "N", "10", "launches of each cell, at least, where the budget allows"),
    KEY("budget", "TIME", "60s", "for measuring, all cells together"),
    KEY("seed", "N", "1", "of the order of launches and of message contents"),
    {"hosts", 0, "FILE", "this host", "hosts to use, one a line", OVERRIDE, "hosts_file", 0, LAB_TAKES_EXPERIMENT | LAB_TAKES_HOSTS},
    {"lab", 0, NULL, NULL, "use the virtual hosts of `ipclab lab up`", LAB, "lab", AT(lab), LAB_TAKES_EXPERIMENT | LAB_TAKES_HOSTS},
    {"set", 0, "PATH=VALUE", NULL, "any other key of the file: --set window=16, --set baseline.wait=spin", SET, NULL, 0,
     LAB_TAKES_EXPERIMENT},
    {"cpus", 0, "LIST", NULL, NULL, TEXT, NULL, AT(cpus), LAB_TAKES_CPUS},
    {"dry-run", 0, NULL, NULL, "say what would be done, and do nothing", FLAG, NULL, AT(dry_run), LAB_TAKES_DRY_RUN},
    {"format", 0, "FORMAT", "table", "table, json, jsonl, csv or md", FORMAT, NULL, 0, LAB_TAKES_FORMAT},
    {"format", 0, "FORMAT", "table", "table or json", FORMAT, NULL, 0, LAB_TAKES_LISTING},
    {"output", 'o', "FILE", "standard output", "where the result goes", TEXT, NULL, AT(output), LAB_TAKES_FORMAT | LAB_TAKES_LISTING},
    {"db", 0, "FILE", "~/.local/share/ipclab/runs.db", "where runs are kept", TEXT, NULL, AT(database), LAB_TAKES_STORE},
    {"quiet", 'q', NULL, NULL, "no progress and no notes on standard error", FLAG, NULL, AT(quiet), LAB_TAKES_TALK},
    {"verbose", 'v', NULL, NULL, "more of them", FLAG, NULL, AT(verbose), LAB_TAKES_TALK},
    {"help", 'h', NULL, NULL, "this text", HELP, NULL, 0, 0},
};
enum { ROWS = sizeof rows / sizeof *rows, FIRST_VALUE = 256 };

static bool takes(const struct lab_verb *verb, const struct row *row)
{
    return row->takes == 0 || verb->takes & row->takes;
}

/* ---- help ---- */

void lab_arguments_help(const struct lab_verb *verb, FILE *to)
{
    fprintf(to, "Usage: ipclab %s [options]%s%s\n\n%s\n\nOptions:\n", verb->name, verb->operands[0] ? " " : "", verb->operands,
            verb->summary);
    for (size_t i = 0; i < ROWS; i++) {
        const struct row *row = &rows[i];
        if (!takes(verb, row) || !row->help)
            continue;
        char name[48];
        snprintf(name, sizeof name, "--%s%s%s", row->name, row->value ? " " : "", row->value ? row->value : "");
        fprintf(to, "  %c%c%s %-20s %s", row->letter ? '-' : ' ', row->letter ? row->letter : ' ', row->letter ? "," : " ", name,
                row->help);
        if (row->fallback)
            fprintf(to, " (default: %s)", row->fallback);
        putc('\n', to);
    }
    if (verb->takes & LAB_TAKES_EXPERIMENT)
        fputs("\nLists are a,b,c. Each option is a key of the file too, and what the command line says holds for every cell.\n", to);
}

/* ---- parsing ---- */

static int out_of_memory(void)
{
    return lab_fail(ENOMEM, "cannot read the command line");
}

/* Takes over `key` and `option`, both from malloc, also on failure. */
static int add_override(struct lab_arguments *arguments, char *key, char *option, const char *value)
{
    union { const struct lab_override *kept; struct lab_override *ours; } list = {.kept = arguments->overrides};
    struct lab_override *grown = key && option ? realloc(list.ours, (arguments->override_count + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(key);
        free(option);
        return out_of_memory();
    }
    grown[arguments->override_count++] = (struct lab_override){.key = key, .value = value, .option = option};
    arguments->overrides = grown;
    return 0;
}

static char *joined(const char *first, const char *second, size_t length)
{
    char *text = NULL;
    return asprintf(&text, "%s%.*s", first, (int)length, second) < 0 ? NULL : text;
}

/* PATH=VALUE */
static int take_set(struct lab_arguments *arguments, const char *text)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || equals - text > 64)
        return lab_refuse(EINVAL, "--set: '%.40s' is not of the form path=value", text);
    size_t length = (size_t)(equals - text);
    return add_override(arguments, strndup(text, length), joined("--set ", text, length), equals + 1);
}

static int take(struct lab_arguments *arguments, const struct row *row, const char *value, bool *help)
{
    /* The rows' offsets lead into the arguments: a text or a flag. */
    unsigned char *field = (unsigned char *)arguments + row->offset;
    switch (row->action) {
    case OVERRIDE:
        return add_override(arguments, strdup(row->key), joined("--", row->name, strlen(row->name)), value);
    case SET:
        return take_set(arguments, value);
    case LAB:
        *(bool *)field = true;
        return add_override(arguments, strdup(row->key), joined("--", row->name, strlen(row->name)), "true");
    case FORMAT:
        arguments->format_given = true;
        return lab_format_named(value, &arguments->format);
    case TEXT:
        if (!value[0])
            return lab_refuse(EINVAL, "--%s: the value is empty", row->name);
        memcpy(field, &value, sizeof value);
        return 0;
    case FLAG:
        *(bool *)field = true;
        return 0;
    case HELP:
        *help = true;
        return 0;
    }
    return 0;
}

static int refuse_option(const struct lab_verb *verb, const char *written)
{
    const char *names[ROWS];
    size_t count = 0, elsewhere = ROWS;
    char name[64];
    if (written[0] == '-' && written[1] != '-')
        return lab_refuse(EINVAL, "ipclab %s has no option '%.40s' (see: ipclab %s --help)", verb->name, written, verb->name);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(written + 2, "="), written + 2);
    for (size_t i = 0; i < ROWS; i++) {
        if (takes(verb, &rows[i]))
            names[count++] = rows[i].name;
        else if (strcmp(rows[i].name, name) == 0)
            elsewhere = i;
    }
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return lab_refuse(EINVAL, "'--%s' takes no value", name);
    const char *near = elsewhere == ROWS ? lab_nearest_of(name, names, count) : NULL;
    return lab_refuse(EINVAL, "ipclab %s has no option '--%s'%s%s%s (see: ipclab %s --help)", verb->name, name,
                      near ? "; did you mean '--" : "", near ? near : "", near ? "'?" : "", verb->name);
}

static int take_rest(const struct lab_verb *verb, int count, char **words, struct lab_arguments *arguments)
{
    arguments->rest = words;
    arguments->rest_count = (size_t)count;
    if (verb->rest == LAB_REST_FILE && count == 1) {
        arguments->file = words[0];
        return words[0][0] ? 0 : lab_refuse(EINVAL, "the name of the file is empty");
    }
    if (count && verb->rest == LAB_REST_NONE)
        return lab_refuse(EINVAL, "ipclab %s takes no operand, and there is '%.40s'", verb->name, words[0]);
    if (count > 1 && verb->rest == LAB_REST_FILE)
        return lab_refuse(EINVAL, "ipclab %s takes one file, and there is '%.40s' after '%.40s'", verb->name, words[1], words[0]);
    return 0;
}

/* What getopt_long needs, from the rows that the verb takes. */
struct grammar {
    char letters[2 * ROWS + 3];
    struct option options[ROWS + 1];
};

static void make_grammar(const struct lab_verb *verb, struct grammar *ret_grammar)
{
    char *letter = ret_grammar->letters;
    size_t count = 0;
    if (verb->rest == LAB_REST_RAW)
        *letter++ = '+';
    *letter++ = ':';
    for (size_t i = 0; i < ROWS; i++) {
        if (!takes(verb, &rows[i]))
            continue;
        ret_grammar->options[count++] = (struct option){.name = rows[i].name,
                                                        .has_arg = rows[i].value ? required_argument : no_argument,
                                                        .val = FIRST_VALUE + (int)i};
        if (!rows[i].letter)
            continue;
        *letter++ = rows[i].letter;
        if (rows[i].value)
            *letter++ = ':';
    }
    *letter = '\0';
    ret_grammar->options[count] = (struct option){0};
}

static const struct row *row_of(int value)
{
    for (size_t i = 0; i < ROWS; i++)
        if (value == FIRST_VALUE + (int)i || (rows[i].letter && value == rows[i].letter))
            return &rows[i];
    return NULL;
}

static int parse(const struct lab_verb *verb, int argc, char **argv, struct lab_arguments *arguments, bool *help)
{
    struct grammar grammar = {0};
    make_grammar(verb, &grammar);
    opterr = 0;
    optind = 0; /* glibc: begin anew */
    int value;
    while ((value = getopt_long(argc, argv, grammar.letters, grammar.options, NULL)) != -1) {
        if (value == ':')
            return lab_refuse(EINVAL, "'%.40s' needs a value", argv[optind - 1]);
        const struct row *row = row_of(value);
        if (!row) {
            char letter[] = {'-', (char)optopt, '\0'};
            return refuse_option(verb, optopt && optopt < FIRST_VALUE ? letter : argv[optind - 1]);
        }
        int err = take(arguments, row, optarg, help);
        if (err)
            return err;
        if (*help)
            return 0;
    }
    return take_rest(verb, argc - optind, argv + optind, arguments);
}

int lab_arguments_parse(const struct lab_verb *verb, int argc, char **argv, struct lab_arguments *ret_arguments, bool *ret_help)
{
    struct lab_arguments arguments = {.verb = verb->name};
    *ret_help = false;
    int err = parse(verb, argc, argv, &arguments, ret_help);
    if (err || *ret_help)
        lab_arguments_fini(&arguments);
    else
        *ret_arguments = arguments;
    return err;
}

void lab_arguments_fini(struct lab_arguments *arguments)
{
    for (size_t i = 0; i < arguments->override_count; i++) {
        union { const char *kept; char *ours; } key = {.kept = arguments->overrides[i].key},
                                                option = {.kept = arguments->overrides[i].option};
        free(key.ours);
        free(option.ours);
    }
    union { const struct lab_override *kept; struct lab_override *ours; } list = {.kept = arguments->overrides};
    free(list.ours);
    *arguments = (struct lab_arguments){0};
}
