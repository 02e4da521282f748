/* How experiment.c, settings.c and override.c read an experiment together. Nobody else includes this.
 *
 * The keys of the file are gathered and checked first (`struct lab_sources` says which node speaks for which axis), overrides then
 * take the place of nodes, and the blocks are filled from what results. An override is a node of its own, made from the text of
 * the command line, and goes through the very checks that the file's nodes go through. */
#ifndef LAB_LAUNCHER_READER_H
#define LAB_LAUNCHER_READER_H

#include "launcher/axis.h"
#include "launcher/experiment.h"
#include "launcher/yaml.h"

struct lab_sources {
    const struct lab_yaml_node *axis[LAB_AXES]; /* NULL: not named */
    struct lab_mark key[LAB_AXES];              /* where it was named */
    struct lab_mark mark;
};

struct lab_reader {
    struct lab_experiment *experiment;
    struct lab_sources shared;   /* of the top of the file and of `matrix` */
    struct lab_sources *blocks;  /* of `cells`, what is shared not yet in them */
    size_t block_count;
    struct lab_sources override; /* of the command line: in every block */
    struct lab_mark hosts_file_mark;
};

/* A key of the file's top that is not an axis. */
struct lab_setting {
    const char *key;
    int (*read)(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value);
    bool settable; /* the command line can override it */
    bool list;     /* ... with a list */
};
const struct lab_setting *lab_setting_named(const char *key); /* NULL: none */

/* Names for lab_nearest: every key of the file's top, and every axis. */
const char *lab_reader_key_at(size_t index);
const char *lab_reader_axis_name_at(size_t index);

/* Checks a value or a list of values of an axis; the first appends them too. */
int lab_reader_axis(enum lab_axis axis, const struct lab_yaml_node *node, struct lab_values *values);
int lab_reader_check_axis(enum lab_axis axis, const struct lab_yaml_node *node);

/* Notes and checks that `key` gives this axis; -EINVAL when it is given already. */
int lab_reader_source(struct lab_sources *sources, enum lab_axis axis, const struct lab_yaml_node *key,
                      const struct lab_yaml_node *value);

/* Applies one override. `reader` refers to the node afterwards, and the caller frees it with free(), also on failure. */
struct lab_override_node;
int lab_reader_override(struct lab_reader *reader, const struct lab_override *override, struct lab_override_node **ret_node);

#endif
