#include "launcher/experiment_text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A scalar, quoted unless every reader of YAML takes it for a plain one. */
static void write_text(FILE *to, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/*-";
    if (isalnum((unsigned char)text[0]) && text[strspn(text, plain)] == '\0') {
        fputs(text, to);
        return;
    }
    putc('"', to);
    for (const char *at = text; *at; at++) {
        unsigned char c = (unsigned char)*at;
        if (c == '"' || c == '\\')
            fprintf(to, "\\%c", c);
        else if (c < ' ')
            fprintf(to, "\\x%02x", c);
        else
            putc(c, to);
    }
    putc('"', to);
}

static void write_values(FILE *to, const struct lab_values *values)
{
    if (values->count != 1)
        putc('[', to);
    for (size_t i = 0; i < values->count; i++) {
        if (i)
            fputs(", ", to);
        write_text(to, values->items[i].text);
    }
    if (values->count != 1)
        putc(']', to);
}

/* `{transport: pipe, size: [64, 1KiB]}` */
static void write_axes(FILE *to, const struct lab_values axes[LAB_AXES])
{
    const char *between = "";
    putc('{', to);
    for (enum lab_axis axis = 0; axis < LAB_AXES; axis++) {
        if (!axes[axis].count)
            continue;
        fprintf(to, "%s%s: ", between, lab_axis_name(axis));
        write_values(to, &axes[axis]);
        between = ", ";
    }
    putc('}', to);
}

static void write_experiment(FILE *to, const struct lab_experiment *experiment)
{
    fputs("experiment: ", to);
    write_text(to, experiment->name);
    if (experiment->question) {
        fputs("\nquestion: ", to);
        write_text(to, experiment->question);
    }
    if (experiment->has_baseline) {
        fputs("\nbaseline: ", to);
        write_axes(to, experiment->baseline.wanted);
    }
    if (experiment->hosts.count) {
        fputs("\nhosts: ", to);
        write_values(to, &experiment->hosts);
    }
    if (experiment->lab)
        fputs("\nlab: true", to);
    fputs("\ncells:", to);
    for (size_t i = 0; i < experiment->block_count; i++) {
        fputs("\n  - ", to);
        write_axes(to, experiment->blocks[i].axis);
    }
    if (experiment->exclude_count)
        fputs("\nexclude:", to);
    for (size_t i = 0; i < experiment->exclude_count; i++) {
        fputs("\n  - ", to);
        write_axes(to, experiment->excludes[i].wanted);
    }
    fprintf(to, "\nlaunches: %" PRIu32 "\nbudget: %" PRIu64 "ns\nseed: %" PRIu64, experiment->launches, experiment->budget_ns,
            experiment->seed);
    if (experiment->expect_count)
        fputs("\nexpect:", to);
    for (size_t i = 0; i < experiment->expect_count; i++) {
        fputs("\n  - ", to);
        write_text(to, experiment->expects[i]);
    }
    putc('\n', to);
}

/* FNV-1a, 64 bits (Fowler, Noll, Vo). */
static uint64_t hash_of(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

int lab_experiment_normalise(struct lab_experiment *experiment)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    if (!to)
        return lab_fail(ENOMEM, "cannot write down an experiment");
    write_experiment(to, experiment);
    bool failed = ferror(to) != 0;
    if (fclose(to) != 0 || failed) {
        free(text);
        return lab_fail(ENOMEM, "cannot write down an experiment");
    }
    free(experiment->text);
    experiment->text = text;
    snprintf(experiment->hash, sizeof experiment->hash, "%016" PRIx64, hash_of(text));
    return 0;
}
