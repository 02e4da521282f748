#include "launcher/yaml.h"

#include <assert.h>
#include <errno.h>
#include <libfyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct anchor {
    char *name;
    struct lab_yaml_node *node;
};

struct lab_yaml {
    const char *file;
    struct lab_yaml_node *root;
    struct lab_yaml_node *latest; /* all nodes, newest first */
    size_t node_count;
    struct lab_yaml_node *open[LAB_YAML_DEPTH];
    struct lab_yaml_node *key[LAB_YAML_DEPTH]; /* read, its value not yet, in a mapping that is open */
    size_t depth;
    struct anchor *anchors;
    size_t anchor_count;
};

const char *lab_yaml_kind_name(enum lab_yaml_kind kind)
{
    return kind == LAB_YAML_SCALAR ? "a single value" : kind == LAB_YAML_LIST ? "a list" : "a mapping";
}

const struct lab_yaml_node *lab_yaml_root(const struct lab_yaml *yaml)
{
    return yaml->root;
}

void lab_yaml_free(struct lab_yaml *yaml)
{
    if (!yaml)
        return;
    for (struct lab_yaml_node *node = yaml->latest, *earlier; node; node = earlier) {
        earlier = node->earlier;
        free(node->text);
        free(node->keys);
        free(node->items);
        free(node);
    }
    for (size_t i = 0; i < yaml->anchor_count; i++)
        free(yaml->anchors[i].name);
    free(yaml->anchors);
    free(yaml);
}

static int out_of_memory(void)
{
    return lab_fail(ENOMEM, "cannot read an experiment");
}

/* A copy, ended by a NUL and without one inside; no token is an empty text. */
static int text_of(struct fy_token *token, const struct lab_mark *mark, char **ret_text)
{
    size_t length = 0;
    const char *text = token ? fy_token_get_text(token, &length) : NULL;
    if (text && memchr(text, '\0', length))
        return lab_mark_refuse(mark, "a text with a NUL character in it has no meaning here");
    char *copy = strndup(text ? text : "", text ? length : 0);
    if (!copy)
        return out_of_memory();
    *ret_text = copy;
    return 0;
}

/* Room for one more element of a growing array: capacities are the powers of two. */
static int make_room(void *array, size_t count, size_t element_bytes)
{
    if (count & (count - 1) || (count == 0 && *(void **)array))
        return 0;
    void *grown = realloc(*(void **)array, (count ? 2 * count : 1) * element_bytes);
    if (!grown)
        return out_of_memory();
    *(void **)array = grown;
    return 0;
}

/* Counted from 1; the beginning of the file when libfyaml has no place. */
static struct lab_mark mark_of(const struct lab_yaml *yaml, const struct fy_mark *at)
{
    return (struct lab_mark){yaml->file, at ? (uint32_t)at->line + 1 : 1, at ? (uint32_t)at->column + 1 : 1};
}

static int node_new(struct lab_yaml *yaml, enum lab_yaml_kind kind, const struct fy_mark *at, struct lab_yaml_node **ret_node)
{
    struct lab_yaml_node *node = calloc(1, sizeof *node);
    if (!node)
        return out_of_memory();
    node->kind = kind;
    node->weight = 1;
    node->mark = mark_of(yaml, at);
    node->earlier = yaml->latest;
    yaml->latest = node;
    if (++yaml->node_count > LAB_YAML_VALUES)
        return lab_mark_refuse(&node->mark, "more than %d values are too many for an experiment", LAB_YAML_VALUES);
    *ret_node = node;
    return 0;
}

static int anchor_add(struct lab_yaml *yaml, struct fy_token *name, struct lab_yaml_node *node)
{
    if (!name)
        return 0;
    int err = make_room(&yaml->anchors, yaml->anchor_count, sizeof *yaml->anchors);
    if (err)
        return err;
    struct anchor anchor = {.node = node};
    err = text_of(name, &node->mark, &anchor.name);
    if (err)
        return err;
    yaml->anchors[yaml->anchor_count++] = anchor;
    return 0;
}

/* The latest node of that name, as YAML has it; never one that is still open: it would contain itself. */
static int anchor_find(struct lab_yaml *yaml, const struct lab_mark *mark, const char *name, struct lab_yaml_node **ret_node)
{
    char quoted[LAB_QUOTE_TEXT];
    for (size_t i = yaml->anchor_count; i-- > 0;) {
        if (strcmp(yaml->anchors[i].name, name) != 0)
            continue;
        for (size_t level = 0; level < yaml->depth; level++)
            if (yaml->open[level] == yaml->anchors[i].node)
                return lab_mark_refuse(mark, "the alias '*%s' stands inside the node it names", lab_quote(name, quoted));
        *ret_node = yaml->anchors[i].node;
        return 0;
    }
    return lab_mark_refuse(mark, "the alias '*%s' names no anchor before it", lab_quote(name, quoted));
}

static int key_add(struct lab_yaml *yaml, struct lab_yaml_node *key)
{
    const struct lab_yaml_node *map = yaml->open[yaml->depth - 1];
    if (key->kind != LAB_YAML_SCALAR)
        return lab_mark_refuse(&key->mark, "a key must be a name, not %s", lab_yaml_kind_name(key->kind));
    for (size_t i = 0; i < map->count; i++) {
        char quoted[LAB_QUOTE_TEXT];
        if (strcmp(map->keys[i]->text, key->text) == 0)
            return lab_mark_refuse(&key->mark, "the key '%s' is already given in line %u", lab_quote(key->text, quoted),
                                   map->keys[i]->mark.line);
    }
    yaml->key[yaml->depth - 1] = key;
    return 0;
}

/* Hangs a node into the container that is open, as the next key, value or item. */
static int attach(struct lab_yaml *yaml, struct lab_yaml_node *node)
{
    if (yaml->depth == 0) {
        yaml->root = node;
        return 0;
    }
    struct lab_yaml_node *parent = yaml->open[yaml->depth - 1];
    bool map = parent->kind == LAB_YAML_MAP;
    if (map && !yaml->key[yaml->depth - 1])
        return key_add(yaml, node);

    int err = make_room(&parent->items, parent->count, sizeof(struct lab_yaml_node *));
    if (!err && map)
        err = make_room(&parent->keys, parent->count, sizeof(struct lab_yaml_node *));
    if (err)
        return err;
    if (map)
        parent->keys[parent->count] = yaml->key[yaml->depth - 1];
    parent->items[parent->count++] = node;
    yaml->key[yaml->depth - 1] = NULL;
    return 0;
}

/* A container is complete: what it weighs is now known, and is added to the one around it. */
static int weigh(struct lab_yaml_node *node)
{
    assert(node); /* as in on_node */
    for (size_t i = 0; i < node->count; i++) {
        node->weight += node->items[i]->weight;
        if (node->weight > LAB_YAML_VALUES)
            return lab_mark_refuse(&node->mark, "with its aliases expanded this holds more than %d values", LAB_YAML_VALUES);
    }
    return 0;
}

static int on_node(struct lab_yaml *yaml, struct fy_event *event, enum lab_yaml_kind kind)
{
    struct lab_yaml_node *node = NULL;
    const struct fy_mark *at = fy_event_start_mark(event);
    int err = node_new(yaml, kind, at, &node);
    if (err)
        return err;
    assert(node); /* for clang's analyser, which follows calls only so deep */
    if (!at && yaml->depth && yaml->key[yaml->depth - 1])
        node->mark = yaml->key[yaml->depth - 1]->mark;
    struct fy_token *tag = fy_event_get_tag_token(event);
    if (tag) {
        node->mark = mark_of(yaml, fy_token_start_mark(tag));
        return lab_mark_refuse(&node->mark, "tags (!) have no meaning in an experiment");
    }
    err = anchor_add(yaml, fy_event_get_anchor_token(event), node);
    if (err)
        return err;
    if (kind == LAB_YAML_SCALAR) {
        err = text_of(event->scalar.value, &node->mark, &node->text);
        return err ? err : attach(yaml, node);
    }
    err = attach(yaml, node);
    if (err)
        return err;
    if (yaml->depth == LAB_YAML_DEPTH)
        return lab_mark_refuse(&node->mark, "lists and mappings are nested deeper than %d levels", LAB_YAML_DEPTH);
    yaml->key[yaml->depth] = NULL;
    yaml->open[yaml->depth++] = node;
    return 0;
}

static int on_alias(struct lab_yaml *yaml, struct fy_event *event)
{
    /* libfyaml marks the name; the alias begins at the '*' before it. */
    struct lab_mark mark = mark_of(yaml, fy_event_start_mark(event));
    if (mark.column > 1)
        mark.column--;
    char *name = NULL;
    int err = text_of(event->alias.anchor, &mark, &name);
    if (err)
        return err;
    struct lab_yaml_node *node = NULL;
    err = anchor_find(yaml, &mark, name, &node);
    free(name);
    return err ? err : attach(yaml, node);
}

static int on_event(struct lab_yaml *yaml, struct fy_event *event)
{
    switch (event->type) {
    case FYET_DOCUMENT_START:
        if (yaml->root)
            return lab_mark_refuse(&(struct lab_mark){yaml->file, yaml->latest->mark.line + 1, 1},
                                   "a second document ('---') begins after this one: one file holds one experiment");
        return 0;
    case FYET_SCALAR:
        return on_node(yaml, event, LAB_YAML_SCALAR);
    case FYET_SEQUENCE_START:
        return on_node(yaml, event, LAB_YAML_LIST);
    case FYET_MAPPING_START:
        return on_node(yaml, event, LAB_YAML_MAP);
    case FYET_SEQUENCE_END:
    case FYET_MAPPING_END:
        yaml->depth--;
        return weigh(yaml->open[yaml->depth]);
    case FYET_ALIAS:
        return on_alias(yaml, event);
    default:
        return 0;
    }
}

/* What libfyaml says without collecting it: it would go to standard error as it stands. The first line is kept. */
struct aside {
    char text[128];
};

static void keep_aside(struct fy_diag *diag, void *user, const char *text, size_t length)
{
    struct aside *aside = user;
    (void)diag;
    if (!aside->text[0])
        snprintf(aside->text, sizeof aside->text, "%.*s", (int)strnlen(text, length), text);
    aside->text[strcspn(aside->text, "\n")] = '\0';
}

/* libfyaml's own first complaint, in our form; one that has no place is put at the last value before it. */
static int syntax_error(const struct lab_yaml *yaml, struct fy_diag *diag, const struct aside *aside)
{
    void *position = NULL;
    const struct fy_diag_error *error;
    while ((error = fy_diag_errors_iterate(diag, &position))) {
        if (error->type != FYET_ERROR || error->line < 1)
            continue;
        struct lab_mark mark = {yaml->file, (uint32_t)error->line, error->column > 0 ? (uint32_t)error->column : 1};
        return lab_mark_refuse(&mark, "this is not YAML: %s", error->msg);
    }
    struct lab_mark last = yaml->latest ? yaml->latest->mark : mark_of(yaml, NULL);
    return lab_mark_refuse(&last, "this is not YAML, here or soon after it%s%s", aside->text[0] ? ": " : "", aside->text);
}

static int parse(struct lab_yaml *yaml, struct fy_parser *parser, struct fy_diag *diag, const struct aside *aside)
{
    int err = 0;
    bool ended = false;
    while (!err && !ended) {
        struct fy_event *event = fy_parser_parse(parser);
        if (!event)
            return syntax_error(yaml, diag, aside);
        ended = event->type == FYET_STREAM_END;
        err = on_event(yaml, event);
        fy_parser_event_free(parser, event);
    }
    if (!err && fy_parser_get_stream_error(parser))
        err = syntax_error(yaml, diag, aside);
    if (!err && (!yaml->root || (yaml->root->kind == LAB_YAML_SCALAR && !yaml->root->text[0])))
        err = lab_refuse(EINVAL, "%s: the file is empty: an experiment names at least a transport", yaml->file);
    return err;
}

/* libfyaml lets control characters pass and takes other encodings than UTF-8: neither belongs in an experiment. */
static int check_text(const char *text, size_t size, const char *file)
{
    struct lab_mark mark = {file, 1, 1};
    for (size_t i = 0; i < size;) {
        unsigned char c = (unsigned char)text[i];
        size_t more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : SIZE_MAX;
        bool sound = more < size - i && (more || (c >= ' ' && c != 0x7f) || c == '\t' || c == '\n' || c == '\r');
        for (size_t k = 1; sound && k <= more; k++)
            sound = ((unsigned char)text[i + k] & 0xc0) == 0x80;
        if (!sound)
            return lab_mark_refuse(&mark, "the byte 0x%02x is not text: an experiment is a YAML file in UTF-8", c);
        i += more + 1;
        mark.column++;
        if (c == '\n') {
            mark.line++;
            mark.column = 1;
        }
    }
    return 0;
}

int lab_yaml_parse(const char *text, size_t size, const char *file, struct lab_yaml **ret_yaml)
{
    int err = check_text(text, size, file);
    if (err)
        return err;
    struct lab_yaml *yaml = calloc(1, sizeof *yaml);
    struct fy_diag_cfg quiet;
    struct aside aside = {""};
    fy_diag_cfg_default(&quiet);
    quiet.colorize = quiet.show_type = false;
    quiet.fp = NULL;
    quiet.output_fn = keep_aside;
    quiet.user = &aside;
    struct fy_diag *diag = fy_diag_create(&quiet);
    struct fy_parse_cfg how = {.flags = FYPCF_COLLECT_DIAG | FYPCF_JSON_NONE, .diag = diag};
    struct fy_parser *parser = NULL;
    if (diag) {
        fy_diag_set_collect_errors(diag, true);
        parser = fy_parser_create(&how);
    }
    if (!yaml || !parser || fy_parser_set_string(parser, text, size) != 0) {
        err = out_of_memory();
    } else {
        yaml->file = file;
        err = parse(yaml, parser, diag, &aside);
    }
    if (parser)
        fy_parser_destroy(parser);
    if (diag)
        fy_diag_destroy(diag);
    if (err) {
        lab_yaml_free(yaml);
        return err;
    }
    *ret_yaml = yaml;
    return 0;
}

const char *lab_yaml_library(void)
{
    return fy_library_version();
}
