#include "launcher/reader.h"

#include "base/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(void)
{
    return lab_fail(ENOMEM, "cannot keep an option of the command line");
}

enum { OVERRIDE_PARTS = LAB_AXIS_VALUES };

/* `a,b,c` or `[a, b, c]` as a list of scalars, `a` as one. Freed at once: the node is one block of memory. */
struct lab_override_node {
    struct lab_yaml_node list;
    struct lab_yaml_node part[OVERRIDE_PARTS];
    struct lab_yaml_node *items[OVERRIDE_PARTS];
    char text[];
};

static char *trimmed(char *text)
{
    text += strspn(text, " ");
    size_t length = strlen(text);
    while (length && text[length - 1] == ' ')
        text[--length] = '\0';
    return text;
}

static int override_node_new(const struct lab_override *override, bool listed, struct lab_override_node **ret_node)
{
    size_t length = strlen(override->value);
    struct lab_override_node *node = calloc(1, sizeof *node + length + 1);
    if (!node)
        return out_of_memory();
    struct lab_mark mark = {.file = override->option};
    char *text = trimmed(memcpy(node->text, override->value, length));
    length = strlen(text);
    if (listed && length >= 2 && text[0] == '[' && text[length - 1] == ']') {
        text[length - 1] = '\0';
        text++;
    }
    node->list = (struct lab_yaml_node){.kind = LAB_YAML_LIST, .mark = mark, .items = node->items};
    char *rest = text;
    do {
        if (node->list.count == OVERRIDE_PARTS) {
            free(node);
            return lab_mark_refuse(&mark, "more than %d values are too many", OVERRIDE_PARTS);
        }
        struct lab_yaml_node *part = &node->part[node->list.count];
        *part = (struct lab_yaml_node){.kind = LAB_YAML_SCALAR, .mark = mark};
        part->text = trimmed(listed ? strsep(&rest, ",") : rest);
        node->items[node->list.count++] = part;
    } while (listed && rest);
    *ret_node = node;
    return 0;
}

static const struct lab_yaml_node *override_value(const struct lab_override_node *node)
{
    return node->list.count == 1 ? node->list.items[0] : &node->list;
}

/* What a path names: `matrix.size` and `size` an axis, `baseline.wait` one of the baseline, anything else a setting. */
struct target {
    const struct lab_setting *setting;
    bool baseline;
    enum lab_axis axis;
};

static int target_of(const struct lab_override *override, struct target *ret_target)
{
    const struct lab_mark mark = {.file = override->option};
    const char *key = override->key;
    bool baseline = strncmp(key, "baseline.", 9) == 0, matrix = strncmp(key, "matrix.", 7) == 0;
    if (baseline || matrix)
        key = strchr(key, '.') + 1;
    struct target target = {.baseline = baseline};
    if (!baseline && !matrix)
        target.setting = lab_setting_named(key);
    char quoted[LAB_QUOTE_TEXT], hint[LAB_HINT_TEXT];
    if (target.setting && !target.setting->settable)
        return lab_mark_refuse(&mark, "'%s' is more than a value: it can only be set in a file", key);
    if (!target.setting && !lab_axis_named(key, &target.axis))
        return lab_mark_refuse(&mark, "unknown key '%s'%s", lab_quote(override->key, quoted),
                               lab_hint(lab_nearest(key, baseline || matrix ? lab_reader_axis_name_at : lab_reader_key_at), hint));
    *ret_target = target;
    return 0;
}

int lab_reader_override(struct lab_reader *reader, const struct lab_override *override, struct lab_override_node **ret_node)
{
    struct target target = {0};
    int err = target_of(override, &target);
    if (err)
        return err;
    bool listed = !target.setting || target.setting->list;
    err = override_node_new(override, listed, ret_node);
    if (err)
        return err;
    const struct lab_yaml_node *value = override_value(*ret_node);
    if (target.setting)
        return target.setting->read(reader, override->key, value);
    if (!target.baseline) {
        reader->override.axis[target.axis] = value;
        return lab_reader_check_axis(target.axis, value);
    }
    struct lab_filter *baseline = &reader->experiment->baseline;
    reader->experiment->has_baseline = true;
    lab_values_free(&baseline->wanted[target.axis]);
    return lab_reader_axis(target.axis, value, &baseline->wanted[target.axis]);
}
