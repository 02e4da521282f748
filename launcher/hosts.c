#include "launcher/hosts.h"

#include "launcher/mark.h"
#include "launcher/text_file.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 20 };

static int out_of_memory(void)
{
    return lab_fail(ENOMEM, "cannot keep the list of hosts");
}

static struct lab_hosts *list_new(const char *file)
{
    struct lab_hosts *hosts = calloc(1, sizeof *hosts);
    if (hosts)
        hosts->file = strdup(file);
    if (hosts && hosts->file)
        return hosts;
    lab_hosts_free(hosts);
    return NULL;
}

static int append(struct lab_hosts *hosts, const char *name, size_t length, uint32_t slots, const struct lab_mark *mark)
{
    if (hosts->count == LAB_HOSTS_MAX)
        return lab_mark_refuse(mark, "more than %d hosts are too many", LAB_HOSTS_MAX);
    struct lab_hosts_entry *items = realloc(hosts->items, (hosts->count + 1) * sizeof *items);
    if (!items)
        return out_of_memory();
    hosts->items = items;
    char *copy = strndup(name, length);
    if (!copy)
        return out_of_memory();
    items[hosts->count++] = (struct lab_hosts_entry){.name = copy, .slots = slots, .mark = *mark};
    return 0;
}

/* `text` is one word of a line; `mark` is where it begins. */
static int add_word(struct lab_hosts *hosts, const char *text, size_t length, const struct lab_mark *mark)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    char quoted[LAB_QUOTE_TEXT], word[LAB_HOST_NAME_MAX + 16];
    if (length >= sizeof word)
        return lab_mark_refuse(mark, "a host's name has at most %d letters, and this one %zu", LAB_HOST_NAME_MAX, length);
    memcpy(word, text, length);
    word[length] = '\0';

    size_t name_length = strcspn(word, ":");
    if (strlen(word) < length || strspn(word, letters) < name_length || word[0] == '-' || name_length == 0 ||
        name_length > LAB_HOST_NAME_MAX)
        return lab_mark_refuse(mark, "'%s' is not the name or IPv4 address of a host", lab_quote(word, quoted));

    uint32_t slots = 1;
    if (word[name_length]) {
        struct lab_mark at = *mark;
        at.column += (uint32_t)name_length + 1;
        const char *number = word + name_length + 1;
        if (strchr(number, ':'))
            return lab_mark_refuse(mark, "'%s' looks like an IPv6 address, which Hydra cannot take; give the host a name",
                                   lab_quote(word, quoted));
        char *end = NULL;
        unsigned long value = number[0] >= '0' && number[0] <= '9' ? strtoul(number, &end, 10) : 0;
        if (!end || *end || value < 1 || value > LAB_HOST_SLOTS_MAX)
            return lab_mark_refuse(&at, "'%s' is not a number of nodes, which is 1 to %d", lab_quote(number, quoted),
                                   LAB_HOST_SLOTS_MAX);
        slots = (uint32_t)value;
    }
    for (size_t i = 0; i < hosts->count; i++)
        if (strlen(hosts->items[i].name) == name_length && strncasecmp(hosts->items[i].name, word, name_length) == 0)
            return lab_mark_refuse(mark, "the host '%s' is named twice, first in line %u; several nodes on it are written '%s:2'",
                                   hosts->items[i].name, hosts->items[i].mark.line, hosts->items[i].name);
    return append(hosts, word, name_length, slots, mark);
}

static int add_line(struct lab_hosts *hosts, const char *line, size_t length, struct lab_mark mark)
{
    static const char blanks[] = " \t\r\f\v";
    const char *comment = memchr(line, '#', length);
    if (comment)
        length = (size_t)(comment - line);
    const char *end = line + length;
    const char *word = line;
    while (word < end && strchr(blanks, *word))
        word++;
    if (word == end)
        return 0;
    const char *after = word;
    while (after < end && !(*after && strchr(blanks, *after)))
        after++;
    mark.column = (uint32_t)(word - line) + 1;
    int err = add_word(hosts, word, (size_t)(after - word), &mark);
    if (err)
        return err;

    const char *more = after;
    while (more < end && *more && strchr(blanks, *more))
        more++;
    if (more == end)
        return 0;
    char quoted[LAB_QUOTE_TEXT], rest[LAB_QUOTE_TEXT];
    size_t rest_length = (size_t)(end - more) < sizeof rest ? (size_t)(end - more) : sizeof rest - 1;
    memcpy(rest, more, rest_length);
    rest[rest_length] = '\0';
    mark.column = (uint32_t)(more - line) + 1;
    return lab_mark_refuse(&mark, "a line names one host, and '%s' follows it", lab_quote(rest, quoted));
}

int lab_hosts_parse(const char *text, size_t size, const char *file, struct lab_hosts **ret_hosts)
{
    struct lab_hosts *hosts = list_new(file);
    if (!hosts)
        return out_of_memory();
    int err = 0;
    struct lab_mark mark = {.file = hosts->file};
    for (const char *line = text, *end = text + size; !err && line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const char *stop = newline ? newline : end;
        mark.line++;
        err = add_line(hosts, line, (size_t)(stop - line), mark);
        line = stop + 1;
    }
    if (!err && !hosts->count)
        err = lab_refuse(EINVAL, "%s: names no host; write one host a line, NAME or NAME:SLOTS", file);
    if (err)
        lab_hosts_free(hosts);
    else
        *ret_hosts = hosts;
    return err;
}

int lab_hosts_read(const char *path, struct lab_hosts **ret_hosts)
{
    char *text;
    size_t size;
    int err = lab_text_file_read(path, "the list of hosts", FILE_BYTES_MAX, &text, &size);
    if (err)
        return err;
    err = lab_hosts_parse(text, size, path, ret_hosts);
    free(text);
    return err;
}

int lab_hosts_of_values(const struct lab_values *values, struct lab_hosts **ret_hosts)
{
    if (!values->count)
        return lab_refuse(EINVAL, "the experiment names no host");
    struct lab_hosts *hosts = list_new(values->items[0].mark.file ? values->items[0].mark.file : "hosts");
    if (!hosts)
        return out_of_memory();
    int err = 0;
    for (size_t i = 0; !err && i < values->count; i++) {
        struct lab_mark mark = values->items[i].mark;
        mark.file = hosts->file;
        err = add_word(hosts, values->items[i].text, strlen(values->items[i].text), &mark);
    }
    if (err)
        lab_hosts_free(hosts);
    else
        *ret_hosts = hosts;
    return err;
}

void lab_hosts_free(struct lab_hosts *hosts)
{
    if (!hosts)
        return;
    for (size_t i = 0; i < hosts->count; i++)
        free(hosts->items[i].name);
    free(hosts->items);
    free(hosts->file);
    free(hosts);
}

uint32_t lab_hosts_slots(const struct lab_hosts *hosts)
{
    uint32_t slots = 0;
    for (size_t i = 0; i < hosts->count; i++)
        slots += hosts->items[i].slots;
    return slots;
}

const struct lab_hosts_entry *lab_hosts_of_node(const struct lab_hosts *hosts, uint32_t node)
{
    uint32_t slots = lab_hosts_slots(hosts);
    assert(slots); /* a list without hosts was refused */
    uint32_t place = node % slots;
    size_t i = 0;
    while (place >= hosts->items[i].slots)
        place -= hosts->items[i++].slots;
    return &hosts->items[i];
}

uint32_t lab_hosts_nodes_on(const struct lab_hosts *hosts, size_t index, uint32_t nodes)
{
    uint32_t before = 0, all = lab_hosts_slots(hosts), slots = hosts->items[index].slots;
    for (size_t i = 0; i < index; i++)
        before += hosts->items[i].slots;
    if (!all)
        return 0;
    uint32_t left = nodes % all, last_round = left <= before ? 0 : left - before < slots ? left - before : slots;
    return nodes / all * slots + last_round;
}
