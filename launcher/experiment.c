#include "launcher/experiment.h"

#include "base/clock.h"
#include "base/text.h"
#include "launcher/experiment_text.h"
#include "launcher/hosts.h"
#include "launcher/reader.h"
#include "launcher/text_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(void)
{
    return lab_fail(ENOMEM, "cannot keep an experiment");
}

static int read_root(struct lab_reader *reader, const struct lab_yaml_node *root)
{
    if (root->kind != LAB_YAML_MAP)
        return lab_mark_refuse(&root->mark, "an experiment is a mapping of keys to values, and this is %s",
                               lab_yaml_kind_name(root->kind));
    reader->shared.mark = root->mark;
    for (size_t i = 0; i < root->count; i++) {
        const struct lab_yaml_node *key = root->keys[i];
        const struct lab_setting *setting = lab_setting_named(key->text);
        enum lab_axis axis;
        int err;
        if (setting) {
            err = setting->read(reader, key->text, root->items[i]);
        } else if (lab_axis_named(key->text, &axis)) {
            err = lab_reader_source(&reader->shared, axis, key, root->items[i]);
        } else {
            char quoted[LAB_QUOTE_TEXT], hint[LAB_HINT_TEXT];
            err = lab_mark_refuse(&key->mark, "unknown key '%s'%s", lab_quote(key->text, quoted),
                                  lab_hint(lab_nearest(key->text, lab_reader_key_at), hint));
        }
        if (err)
            return err;
    }
    return 0;
}

static int fill_block(const struct lab_reader *reader, const struct lab_sources *sources, struct lab_block *block)
{
    block->mark = sources->mark;
    for (enum lab_axis axis = 0; axis < LAB_AXES; axis++) {
        const struct lab_yaml_node *node = reader->override.axis[axis] ? reader->override.axis[axis]
                                           : sources->axis[axis]       ? sources->axis[axis]
                                                                       : reader->shared.axis[axis];
        int err = node ? lab_reader_axis(axis, node, &block->axis[axis]) : 0;
        if (err)
            return err;
    }
    if (!block->axis[LAB_AXIS_TRANSPORT].count)
        return lab_mark_refuse(&block->mark, "no transport is named: an experiment needs at least one");
    return 0;
}

static int fill_blocks(struct lab_reader *reader)
{
    struct lab_experiment *experiment = reader->experiment;
    const struct lab_sources *sources = reader->block_count ? reader->blocks : &reader->shared;
    size_t count = reader->block_count ? reader->block_count : 1;
    experiment->blocks = calloc(count, sizeof *experiment->blocks);
    if (!experiment->blocks)
        return out_of_memory();
    int err = 0;
    for (size_t i = 0; !err && i < count; i++) {
        experiment->block_count++;
        err = fill_block(reader, &sources[i], &experiment->blocks[i]);
    }
    return err;
}

/* The hosts of the file become those of the experiment, so that its normalised text stands on its own. */
static int read_hosts_file(struct lab_reader *reader)
{
    struct lab_experiment *experiment = reader->experiment;
    if (!experiment->hosts_file)
        return 0;
    if (experiment->hosts.count)
        return lab_mark_refuse(&reader->hosts_file_mark, "'hosts' and 'hosts_file' are both given; one of them must go");
    struct lab_hosts *hosts;
    int err = lab_hosts_read(experiment->hosts_file, &hosts);
    if (err)
        return err;
    struct lab_mark mark = {.file = experiment->hosts_file, .column = 1};
    for (size_t i = 0; !err && i < hosts->count; i++) {
        char text[LAB_HOST_NAME_MAX + 16];
        bool plain = hosts->items[i].slots == 1;
        if (plain)
            snprintf(text, sizeof text, "%s", hosts->items[i].name);
        else
            snprintf(text, sizeof text, "%s:%u", hosts->items[i].name, hosts->items[i].slots);
        mark.line = hosts->items[i].mark.line;
        err = lab_values_add(&experiment->hosts, text, 0, &mark);
    }
    lab_hosts_free(hosts);
    return err;
}

/* "configs/is-shm-faster.yaml" is called is-shm-faster unless it says otherwise. */
static int default_name(struct lab_experiment *experiment)
{
    if (experiment->name)
        return 0;
    const char *slash = strrchr(experiment->file, '/');
    const char *base = slash ? slash + 1 : experiment->file;
    const char *dot = strrchr(base, '.');
    experiment->name = strndup(base, dot && dot != base ? (size_t)(dot - base) : strlen(base));
    return experiment->name ? 0 : out_of_memory();
}

static int interpret(struct lab_experiment *experiment, const struct lab_yaml *yaml, const struct lab_override *overrides,
                     size_t override_count)
{
    struct lab_reader reader = {.experiment = experiment};
    struct lab_override_node **nodes = calloc(override_count + 1, sizeof(struct lab_override_node *));
    int err = nodes ? read_root(&reader, lab_yaml_root(yaml)) : out_of_memory();
    for (size_t i = 0; !err && i < override_count; i++)
        err = lab_reader_override(&reader, &overrides[i], &nodes[i]);
    if (!err)
        err = read_hosts_file(&reader);
    if (!err)
        err = fill_blocks(&reader);
    for (size_t i = 0; nodes && i < override_count; i++)
        free(nodes[i]);
    free(nodes);
    free(reader.blocks);
    return err;
}

int lab_experiment_read(const char *file, const struct lab_override *overrides, size_t override_count,
                        struct lab_experiment **ret_experiment)
{
    char *text = NULL;
    size_t size;
    struct lab_yaml *yaml = NULL;
    struct lab_experiment *experiment = calloc(1, sizeof *experiment);
    int err = experiment && (experiment->file = strdup(file)) ? 0 : out_of_memory();
    if (!err)
        err = lab_text_file_read(file, "the experiment", LAB_EXPERIMENT_BYTES, &text, &size);
    if (!err)
        err = lab_yaml_parse(text, size, experiment->file, &yaml);
    if (!err) {
        experiment->launches = 10;
        experiment->budget_ns = 60 * LAB_NS_PER_S;
        experiment->seed = 1;
        err = interpret(experiment, yaml, overrides, override_count);
    }
    if (!err)
        err = default_name(experiment);
    if (!err)
        err = lab_experiment_normalise(experiment);
    lab_yaml_free(yaml);
    free(text);
    if (err)
        lab_experiment_free(experiment);
    else
        *ret_experiment = experiment;
    return err;
}

static void filter_fini(struct lab_filter *filter)
{
    for (enum lab_axis axis = 0; axis < LAB_AXES; axis++)
        lab_values_free(&filter->wanted[axis]);
}

void lab_experiment_free(struct lab_experiment *experiment)
{
    if (!experiment)
        return;
    for (size_t i = 0; i < experiment->block_count; i++)
        for (enum lab_axis axis = 0; axis < LAB_AXES; axis++)
            lab_values_free(&experiment->blocks[i].axis[axis]);
    for (size_t i = 0; i < experiment->exclude_count; i++)
        filter_fini(&experiment->excludes[i]);
    for (size_t i = 0; i < experiment->expect_count; i++)
        free(experiment->expects[i]);
    filter_fini(&experiment->baseline);
    lab_values_free(&experiment->hosts);
    free(experiment->blocks);
    free(experiment->excludes);
    free(experiment->expects);
    free(experiment->hosts_file);
    free(experiment->name);
    free(experiment->question);
    free(experiment->text);
    free(experiment->file);
    free(experiment);
}
