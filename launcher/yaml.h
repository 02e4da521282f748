/* A YAML document as a tree of marked texts. The only door to libfyaml.
 *
 * What is kept: mappings, sequences and scalars as text (no guessing of types: `null` is the name of a transport, not nothing),
 * each with its place. What is refused, with FILE:LINE:COLUMN in the error record: syntax errors, a second document, tags,
 * keys that are not scalars, a key given twice, nesting deeper than LAB_YAML_DEPTH, an alias inside the node it names, and
 * aliases that would expand to more than LAB_YAML_VALUES values (expansion is counted, not done: an alias shares its node).
 *
 *     struct lab_yaml *yaml;
 *     err = lab_yaml_parse(text, size, "a.yaml", &yaml);
 *     const struct lab_yaml_node *root = lab_yaml_root(yaml);
 *     for (size_t i = 0; i < root->count; i++)
 *         use(root->keys[i]->text, root->items[i]);
 *     lab_yaml_free(yaml);
 */
#ifndef LAB_LAUNCHER_YAML_H
#define LAB_LAUNCHER_YAML_H

#include "launcher/mark.h"

#include <stddef.h>

enum { LAB_YAML_DEPTH = 16, LAB_YAML_VALUES = 20000 };

enum lab_yaml_kind { LAB_YAML_SCALAR, LAB_YAML_LIST, LAB_YAML_MAP };
const char *lab_yaml_kind_name(enum lab_yaml_kind kind); /* "a single value", "a list", "a mapping" */

struct lab_yaml_node {
    enum lab_yaml_kind kind;
    struct lab_mark mark;
    char *text;                    /* of a scalar, "" when it stands empty */
    struct lab_yaml_node **keys;   /* of a mapping: scalars */
    struct lab_yaml_node **items;  /* of a list or a mapping; a node may stand in several places (aliases) */
    size_t count;
    size_t weight;                 /* values in it, aliases expanded */
    struct lab_yaml_node *earlier; /* the one made before it: how the document frees them */
};

struct lab_yaml;

/* `file` names the text in messages and must outlive the tree. -EINVAL with the place; -ENOMEM. An empty document is -EINVAL. */
int lab_yaml_parse(const char *text, size_t size, const char *file, struct lab_yaml **ret_yaml);
void lab_yaml_free(struct lab_yaml *yaml); /* NULL is harmless */

const struct lab_yaml_node *lab_yaml_root(const struct lab_yaml *yaml);

/* "0.7.12": the YAML library at run time. Static storage. */
const char *lab_yaml_library(void);

#endif
