/* An experiment as its file states it: lists of values for each axis, and the settings around them. No plan yet.
 *
 * The file is YAML (README, "Experiment files"). Everything wrong with it is reported as
 * "FILE:LINE:COLUMN: what is wrong: 'offending text'; did you mean 'name'?" through the error record with EINVAL. */
#ifndef LAB_LAUNCHER_EXPERIMENT_H
#define LAB_LAUNCHER_EXPERIMENT_H

#include "launcher/mark.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Every axis of the matrix. Values are kept as checked text; the plan turns them into cells. */
enum lab_axis {
    LAB_AXIS_TRANSPORT, LAB_AXIS_WAIT, LAB_AXIS_PATTERN, LAB_AXIS_TOPOLOGY, LAB_AXIS_SIZE, LAB_AXIS_PLACEMENT,
    LAB_AXIS_NODES, LAB_AXIS_WORKERS, LAB_AXIS_WINDOW, LAB_AXIS_BATCH, LAB_AXIS_LINK, LAB_AXIS_VERIFY,
    LAB_AXIS_BACKING, LAB_AXIS_ENCRYPTION, LAB_AXIS_UNIT, LAB_AXIS_RATE, LAB_AXIS_ARRIVALS, LAB_AXIS_DELIVERY, LAB_AXIS_WORKLOAD,
    LAB_AXIS_INPUT, LAB_AXIS_TEMPERATURE, LAB_AXIS_SPIN_LIMIT, LAB_AXIS_MPI_PATH, LAB_AXIS_MPI_RNDV,
    LAB_AXES
};
const char *lab_axis_name(enum lab_axis axis); /* "transport", ...; the key in the file */

struct lab_value {
    char *text;
    uint64_t number; /* sizes in bytes, counts; 0 for names */
    struct lab_mark mark;
};

struct lab_values {
    struct lab_value *items;
    size_t count;
};

/* One `exclude` entry, or the `baseline`: the axes it names must all match. */
struct lab_filter {
    struct lab_values wanted[LAB_AXES]; /* count 0: axis not named */
    struct lab_mark mark;
};

/* One block of the matrix. A file has one, or several under `cells:`, a list of mappings of axes. An axis that a block does
 * not name is that of the file's top, or of its `matrix`. */
struct lab_block {
    struct lab_values axis[LAB_AXES]; /* count 0: the default */
    struct lab_mark mark;
};

enum { LAB_HASH_TEXT = 17 };

struct lab_experiment {
    char *file;          /* as given */
    char *name, *question;
    char *text;          /* normalised YAML with the overrides applied: what the store keeps, what the hash is of */
    char hash[LAB_HASH_TEXT]; /* of `text`: FNV-1a, 64 bits, in hexadecimal */
    struct lab_block *blocks;  size_t block_count;   /* at least one */
    struct lab_filter *excludes; size_t exclude_count;
    struct lab_filter baseline; bool has_baseline;
    struct lab_values hosts;   /* "NAME" or "NAME:SLOTS" (launcher/hosts.h), those of hosts_file too; count 0: this host */
    char *hosts_file;          /* NULL: none */
    bool lab;                  /* the nodes are virtual hosts of this machine: every node is a host of its own */
    char **expects; size_t expect_count;
    uint32_t launches;         /* at least this many of each cell where the budget allows */
    uint64_t budget_ns;        /* for measuring, all cells together */
    uint64_t seed;
};

/* An option of the command line that overrides a key: --set path=value, or a short option's long key. */
struct lab_override {
    const char *key;     /* "matrix.size", "nodes", "launches", ... */
    const char *value;   /* text; `a,b,c` lists and ranges as in the contract */
    const char *option;  /* how the user wrote it, "--size", for messages */
};

enum { LAB_EXPERIMENT_BYTES = 1 << 20 };

/* Reads and checks the file (at most LAB_EXPERIMENT_BYTES; symlinks are followed, devices refused), then applies the overrides:
 * one of an axis replaces it in every block. The overrides' texts must outlive the experiment. On failure -errno with the
 * sentence. */
int lab_experiment_read(const char *file, const struct lab_override *overrides, size_t override_count,
                        struct lab_experiment **ret_experiment);
void lab_experiment_free(struct lab_experiment *experiment);

#endif
