/* `ipclab list WHAT`: what there is in this version, and what each can and cannot do on this machine. */
#include "launcher/verbs.h"

#include "base/error.h"
#include "base/text.h"
#include "launcher/axis.h"
#include "launcher/crew.h"
#include "report/listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char *show_size(double bytes, char to[LAB_TEXT_NUMBER])
{
    return lab_format_size((uint64_t)bytes, to);
}

/* ---- transports ---- */

static const struct lab_column transport_columns[] = {
    {"name", "transport", LAB_COLUMN_TEXT, NULL},
    {"waits", "waits", LAB_COLUMN_LIST, NULL},
    {"joins", "joins", LAB_COLUMN_LIST, NULL},
    {"moves_by", NULL, LAB_COLUMN_TEXT, NULL},
    {"batch", "batch", LAB_COLUMN_BOOL, NULL},
    {"reports_peer_death", NULL, LAB_COLUMN_BOOL, NULL},
    {"message_max_bytes", "longest", LAB_COLUMN_NUMBER, show_size},
    {"usable", "usable", LAB_COLUMN_BOOL, NULL},
    {"missing", NULL, LAB_COLUMN_TEXT, NULL},
    {"summary", "what it is", LAB_COLUMN_TEXT, NULL},
};

static void waits_of(const struct lab_transport *transport, char *to, size_t room)
{
    size_t used = 0;
    for (enum lab_wait wait = 0; wait < LAB_WAITS; wait++)
        if (transport->waits & LAB_WAIT_BIT(wait) && used < room)
            used += (size_t)snprintf(to + used, room - used, "%s%s", used ? "," : "", lab_wait_name(wait));
}

static const char *joins_of(const struct lab_transport *transport)
{
    if (transport->caps & LAB_CAP_SELF)
        return "itself";
    if (transport->caps & LAB_CAP_REMOTE)
        return "workers,nodes,hosts";
    return transport->caps & LAB_CAP_NODES ? "workers,nodes" : "workers";
}

/* NULL when nothing is missing, else what is: its module, or what it says of this machine. */
static const char *missing_of(const struct lab_transport *transport)
{
    const struct lab_transport_ops *ops = transport->module ? NULL : lab_transport_ops(transport);
    return lab_crew_module(transport) || (ops && ops->usable && ops->usable()) ? lab_error_last()->text : NULL;
}

/* On this machine. */
static uint64_t longest_of(const struct lab_transport *transport)
{
    const struct lab_channel channel = {.transport = transport, .message_max = (uint32_t)transport->message_max, .window = 1, .batch = 1};
    const struct lab_transport_ops *ops = transport->module ? NULL : lab_transport_ops(transport);
    struct lab_bound bound;
    if (!ops || !ops->limit || ops->limit(&channel, &bound) || bound.longest > transport->message_max)
        return transport->message_max;
    return bound.longest;
}

static int add_transports(struct lab_listing *listing)
{
    const struct lab_transport *transport;
    for (size_t i = 0; (transport = lab_transport_at(i)); i++) {
        char waits[128] = "";
        waits_of(transport, waits, sizeof waits);
        const char *missing = missing_of(transport);
        int err = lab_listing_add(listing, (struct lab_field[]){
            {.text = transport->name},
            {.text = waits},
            {.text = joins_of(transport)},
            {.text = transport->caps & LAB_CAP_LOAN ? "loan" : "copy"},
            {.number = (transport->caps & LAB_CAP_BATCH) != 0},
            {.number = (transport->caps & LAB_CAP_PEER_DEATH) != 0},
            {.number = (double)longest_of(transport)},
            {.number = !missing},
            {.text = missing},
            {.text = transport->summary},
        });
        if (err)
            return err;
    }
    return 0;
}

/* ---- patterns, topologies, waits, workloads ---- */

static const struct lab_column pattern_columns[] = {
    {"name", "pattern", LAB_COLUMN_TEXT, NULL},
    {"latency_kind", "latency", LAB_COLUMN_TEXT, NULL},
    {"summary", "what is said", LAB_COLUMN_TEXT, NULL},
};

static int add_patterns(struct lab_listing *listing)
{
    const struct lab_pattern *pattern;
    int err = 0;
    for (size_t i = 0; !err && (pattern = lab_pattern_at(i)); i++)
        err = lab_listing_add(listing, (struct lab_field[]){{.text = pattern->name},
                                                            {.text = lab_latency_kind_name(pattern->latency)},
                                                            {.text = pattern->summary}});
    return err;
}

static const struct lab_column topology_columns[] = {
    {"name", "topology", LAB_COLUMN_TEXT, NULL},
    {"parties_min", "parties from", LAB_COLUMN_NUMBER, NULL},
    {"summary", "who talks to whom", LAB_COLUMN_TEXT, NULL},
};

static int add_topologies(struct lab_listing *listing)
{
    const struct lab_topology *topology;
    int err = 0;
    for (size_t i = 0; !err && (topology = lab_topology_at(i)); i++)
        err = lab_listing_add(listing, (struct lab_field[]){{.text = topology->name},
                                                            {.number = topology->parties_min},
                                                            {.text = topology->summary}});
    return err;
}

static const struct lab_column wait_columns[] = {
    {"name", "wait", LAB_COLUMN_TEXT, NULL},
    {"transports", "transports", LAB_COLUMN_LIST, NULL},
    {"summary", "what an end does until something comes", LAB_COLUMN_TEXT, NULL},
};

static int add_waits(struct lab_listing *listing)
{
    int err = 0;
    for (enum lab_wait wait = 0; !err && wait < LAB_WAITS; wait++) {
        char names[512] = "";
        size_t used = 0;
        const struct lab_transport *transport;
        for (size_t i = 0; (transport = lab_transport_at(i)); i++)
            if (transport->waits & LAB_WAIT_BIT(wait) && used < sizeof names)
                used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? "," : "", transport->name);
        err = lab_listing_add(listing, (struct lab_field[]){{.text = lab_wait_name(wait)}, {.text = names},
                                                            {.text = lab_wait_summary(wait)}});
    }
    return err;
}

static const struct lab_column workload_columns[] = {
    {"name", "workload", LAB_COLUMN_TEXT, NULL},
    {"usable", "usable", LAB_COLUMN_BOOL, NULL},
    {"missing", "why not", LAB_COLUMN_TEXT, NULL},
};

static int add_workloads(struct lab_listing *listing)
{
    int err = 0;
    for (const char *const *name = lab_axis_choices(LAB_AXIS_WORKLOAD); !err && *name; name++)
        err = lab_listing_add(listing, (struct lab_field[]){{.text = *name}, {.number = 0}, {.text = "not in this version"}});
    return err;
}

#define LIST(name, columns, add) {name, columns, sizeof(columns) / sizeof *(columns), add}

static const struct list {
    const char *name;
    const struct lab_column *columns;
    size_t column_count;
    int (*add)(struct lab_listing *listing);
} lists[] = {
    LIST("transports", transport_columns, add_transports), LIST("patterns", pattern_columns, add_patterns),
    LIST("topologies", topology_columns, add_topologies),  LIST("workloads", workload_columns, add_workloads),
    LIST("waits", wait_columns, add_waits),
};
enum { LISTS = sizeof lists / sizeof *lists };

static const char *list_name(size_t index)
{
    return index < LISTS ? lists[index].name : NULL;
}

static int find_list(const struct lab_arguments *arguments, const struct list **ret_list)
{
    static const char known[] = "transports, patterns, topologies, workloads or waits";
    if (arguments->rest_count != 1)
        return lab_refuse(EINVAL, "ipclab list takes one word: %s", known);
    const char *word = arguments->rest[0];
    for (size_t i = 0; i < LISTS; i++) {
        if (strcmp(lists[i].name, word) == 0) {
            *ret_list = &lists[i];
            return 0;
        }
    }
    char quoted[LAB_QUOTE_TEXT], hint[LAB_HINT_TEXT];
    const char *near = lab_nearest(word, list_name);
    if (near)
        return lab_refuse(EINVAL, "there is no list of '%s'%s", lab_quote(word, quoted), lab_hint(near, hint));
    return lab_refuse(EINVAL, "there is no list of '%s': it is one of %s", lab_quote(word, quoted), known);
}

int lab_verb_list(const struct lab_arguments *arguments)
{
    const struct list *list = NULL;
    int err = find_list(arguments, &list);
    if (err || !list)
        return lab_exit_of(err);
    struct lab_listing *listing = lab_listing_new(list->columns, list->column_count);
    err = listing ? list->add(listing) : lab_fail(ENOMEM, "cannot make a list");
    if (!err)
        err = lab_arguments_print_listing(arguments, listing);
    lab_listing_free(listing);
    return lab_exit_of(err);
}
