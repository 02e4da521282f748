#include "launcher/reader.h"

#include "base/clock.h"
#include "base/text.h"
#include "launcher/hosts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS_MAX = 256, EXCLUDES_MAX = 256, EXPECTS_MAX = 256, LAUNCHES_MAX = 1000 };

static int out_of_memory(void)
{
    return lab_fail(ENOMEM, "cannot keep an experiment");
}

/* ---- values ---- */

static int want(const char *key, const struct lab_yaml_node *node, enum lab_yaml_kind kind)
{
    if (node->kind == kind)
        return 0;
    if (node->kind == LAB_YAML_SCALAR && !node->text[0])
        return lab_mark_refuse(&node->mark, "'%s' has no value", key);
    return lab_mark_refuse(&node->mark, "'%s' takes %s, and this is %s", key, lab_yaml_kind_name(kind),
                           lab_yaml_kind_name(node->kind));
}

/* Calls `add` for a scalar, or for every scalar of a list. */
static int each_scalar(const char *key, const struct lab_yaml_node *node, size_t most,
                       int (*add)(void *to, const struct lab_yaml_node *scalar), void *to)
{
    if (node->kind == LAB_YAML_SCALAR)
        return add(to, node);
    if (node->kind == LAB_YAML_MAP)
        return lab_mark_refuse(&node->mark, "'%s' takes a value or a list of values, and this is a mapping", key);
    if (node->count == 0)
        return lab_mark_refuse(&node->mark, "'%s' is an empty list: it leaves nothing to choose from", key);
    if (node->count > most)
        return lab_mark_refuse(&node->mark, "'%s' has %zu values; the most is %zu", key, node->count, most);
    for (size_t i = 0; i < node->count; i++) {
        if (node->items[i]->kind != LAB_YAML_SCALAR)
            return lab_mark_refuse(&node->items[i]->mark, "'%s' takes single values, and this is %s", key,
                                   lab_yaml_kind_name(node->items[i]->kind));
        int err = add(to, node->items[i]);
        if (err)
            return err;
    }
    return 0;
}

struct axis_values {
    enum lab_axis axis;
    struct lab_values *values;
};

static int add_axis_value(void *to, const struct lab_yaml_node *scalar)
{
    const struct axis_values *into = to;
    return lab_axis_add(into->axis, scalar->text, &scalar->mark, into->values);
}

int lab_reader_axis(enum lab_axis axis, const struct lab_yaml_node *node, struct lab_values *values)
{
    return each_scalar(lab_axis_name(axis), node, LAB_AXIS_VALUES, add_axis_value, &(struct axis_values){axis, values});
}

int lab_reader_check_axis(enum lab_axis axis, const struct lab_yaml_node *node)
{
    struct lab_values scratch = {0};
    int err = lab_reader_axis(axis, node, &scratch);
    lab_values_free(&scratch);
    return err;
}

const char *lab_reader_axis_name_at(size_t index)
{
    return lab_axis_name((enum lab_axis)index);
}

/* Every key of the mapping must be an axis; `place` is what the mapping is, for the message. */
static int axis_of_key(const struct lab_yaml_node *key, const char *place, enum lab_axis *ret_axis)
{
    if (lab_axis_named(key->text, ret_axis))
        return 0;
    char quoted[LAB_QUOTE_TEXT], hint[LAB_HINT_TEXT];
    return lab_mark_refuse(&key->mark, "'%s' is not an axis, as the keys of %s are%s", lab_quote(key->text, quoted), place,
                           lab_hint(lab_nearest(key->text, lab_reader_axis_name_at), hint));
}

int lab_reader_source(struct lab_sources *sources, enum lab_axis axis, const struct lab_yaml_node *key,
                       const struct lab_yaml_node *value)
{
    if (sources->axis[axis])
        return lab_mark_refuse(&key->mark, "'%s' is already given in line %u", lab_axis_name(axis), sources->key[axis].line);
    sources->axis[axis] = value;
    sources->key[axis] = key->mark;
    return lab_reader_check_axis(axis, value);
}

static int read_matrix(const char *place, const struct lab_yaml_node *map, struct lab_sources *sources)
{
    int err = want(place, map, LAB_YAML_MAP);
    for (size_t i = 0; !err && i < map->count; i++) {
        enum lab_axis axis;
        err = axis_of_key(map->keys[i], place, &axis);
        if (!err)
            err = lab_reader_source(sources, axis, map->keys[i], map->items[i]);
    }
    return err;
}

static int read_filter(const char *place, const struct lab_yaml_node *map, struct lab_filter *filter)
{
    int err = want(place, map, LAB_YAML_MAP);
    if (!err && map->count == 0)
        err = lab_mark_refuse(&map->mark, "'%s' names no axis, and would match every cell", place);
    filter->mark = map->mark;
    for (size_t i = 0; !err && i < map->count; i++) {
        enum lab_axis axis;
        err = axis_of_key(map->keys[i], place, &axis);
        if (!err)
            err = lab_reader_axis(axis, map->items[i], &filter->wanted[axis]);
    }
    return err;
}

/* ---- settings: one function and one row each ---- */

static int keep_text(const char *key, const struct lab_yaml_node *node, char **ret_text)
{
    int err = want(key, node, LAB_YAML_SCALAR);
    if (err)
        return err;
    if (!node->text[0])
        return lab_mark_refuse(&node->mark, "'%s' has no value", key);
    char *copy = strdup(node->text);
    if (!copy)
        return out_of_memory();
    free(*ret_text);
    *ret_text = copy;
    return 0;
}

static int read_name(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    return keep_text(key, value, &reader->experiment->name);
}

static int read_question(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    return keep_text(key, value, &reader->experiment->question);
}

static int read_baseline(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    reader->experiment->has_baseline = true;
    return read_filter(key, value, &reader->experiment->baseline);
}

static int read_shared_matrix(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    int err = read_matrix(key, value, &reader->shared);
    return !err && value->count == 0 ? lab_mark_refuse(&value->mark, "'%s' names no axis: there is nothing to multiply", key) : err;
}

/* A list with at least one and at most `most` entries. */
static int want_entries(const char *key, const struct lab_yaml_node *list, size_t most)
{
    int err = want(key, list, LAB_YAML_LIST);
    if (!err && (list->count == 0 || list->count > most))
        err = lab_mark_refuse(&list->mark, "'%s' has %zu entries; it takes 1 to %zu", key, list->count, most);
    return err;
}

static int read_cells(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    int err = want_entries(key, value, BLOCKS_MAX);
    if (err)
        return err;
    reader->blocks = calloc(value->count, sizeof *reader->blocks);
    if (!reader->blocks)
        return out_of_memory();
    for (size_t i = 0; !err && i < value->count; i++) {
        reader->blocks[i].mark = value->items[i]->mark;
        err = read_matrix(key, value->items[i], &reader->blocks[i]);
        reader->block_count++;
    }
    return err;
}

static int read_excludes(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    struct lab_experiment *experiment = reader->experiment;
    int err = want_entries(key, value, EXCLUDES_MAX);
    if (err)
        return err;
    experiment->excludes = calloc(value->count, sizeof *experiment->excludes);
    if (!experiment->excludes)
        return out_of_memory();
    for (size_t i = 0; !err && i < value->count; i++) {
        experiment->exclude_count++;
        err = read_filter(key, value->items[i], &experiment->excludes[i]);
    }
    return err;
}

static int add_host(void *to, const struct lab_yaml_node *scalar)
{
    return lab_values_add(to, scalar->text, 0, &scalar->mark);
}

static int read_hosts(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    struct lab_values *values = &reader->experiment->hosts;
    struct lab_hosts *hosts = NULL;
    lab_values_free(values);
    int err = each_scalar(key, value, LAB_HOSTS_MAX, add_host, values);
    if (!err)
        err = lab_hosts_of_values(values, &hosts);
    lab_hosts_free(hosts);
    return err;
}

static int read_hosts_file_name(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    reader->hosts_file_mark = value->mark;
    return keep_text(key, value, &reader->experiment->hosts_file);
}

static int read_lab(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    int err = want(key, value, LAB_YAML_SCALAR);
    if (!err && lab_parse_bool(value->text, &reader->experiment->lab))
        err = lab_mark_refuse(&value->mark, "'%s' is true or false", key);
    return err;
}

static int read_launches(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    uint64_t count;
    int err = want(key, value, LAB_YAML_SCALAR);
    if (err)
        return err;
    char quoted[LAB_QUOTE_TEXT];
    lab_quote(value->text, quoted);
    if (lab_parse_count(quoted, &count))
        return lab_mark_refuse(&value->mark, "%s", lab_error_last()->text);
    if (count < 1 || count > LAUNCHES_MAX)
        return lab_mark_refuse(&value->mark, "'%s' is out of range: %s is 1 to %d", quoted, key, LAUNCHES_MAX);
    reader->experiment->launches = (uint32_t)count;
    return 0;
}

static int read_budget(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    uint64_t budget_ns;
    int err = want(key, value, LAB_YAML_SCALAR);
    if (err)
        return err;
    char quoted[LAB_QUOTE_TEXT];
    lab_quote(value->text, quoted);
    if (lab_parse_time(quoted, &budget_ns))
        return lab_mark_refuse(&value->mark, "%s", lab_error_last()->text);
    if (budget_ns < LAB_NS_PER_S || budget_ns > 24 * 3600 * LAB_NS_PER_S)
        return lab_mark_refuse(&value->mark, "'%s' is out of range: a budget is 1s to 24h", quoted);
    reader->experiment->budget_ns = budget_ns;
    return 0;
}

static int read_seed(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    int err = want(key, value, LAB_YAML_SCALAR);
    if (err)
        return err;
    char quoted[LAB_QUOTE_TEXT];
    lab_quote(value->text, quoted);
    if (lab_parse_count(quoted, &reader->experiment->seed))
        return lab_mark_refuse(&value->mark, "%s", lab_error_last()->text);
    return 0;
}

static int add_expect(void *to, const struct lab_yaml_node *scalar)
{
    struct lab_experiment *experiment = to;
    char **grown = realloc(experiment->expects, (experiment->expect_count + 1) * sizeof *grown);
    if (!grown)
        return out_of_memory();
    experiment->expects = grown;
    grown[experiment->expect_count] = NULL;
    int err = keep_text("expect", scalar, &grown[experiment->expect_count]);
    if (!err)
        experiment->expect_count++;
    return err;
}

static int read_expects(struct lab_reader *reader, const char *key, const struct lab_yaml_node *value)
{
    return each_scalar(key, value, EXPECTS_MAX, add_expect, reader->experiment);
}

static const struct lab_setting settings[] = {
    {"experiment", read_name, true, false},
    {"question", read_question, true, false},
    {"baseline", read_baseline, false, false},
    {"matrix", read_shared_matrix, false, false},
    {"cells", read_cells, false, false},
    {"exclude", read_excludes, false, false},
    {"hosts", read_hosts, true, true},
    {"hosts_file", read_hosts_file_name, true, false},
    {"lab", read_lab, true, false},
    {"launches", read_launches, true, false},
    {"budget", read_budget, true, false},
    {"seed", read_seed, true, false},
    {"expect", read_expects, false, false},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

const struct lab_setting *lab_setting_named(const char *key)
{
    for (size_t i = 0; i < SETTINGS; i++)
        if (strcmp(settings[i].key, key) == 0)
            return &settings[i];
    return NULL;
}

/* All keys of the top of a file: settings, then axes. */
const char *lab_reader_key_at(size_t index)
{
    return index < SETTINGS ? settings[index].key : lab_axis_name((enum lab_axis)(index - SETTINGS));
}
