#include "launcher/plan_making.h"

#include "base/text.h"
#include "launcher/axis.h"
#include "launcher/crew.h"
#include "launcher/plan_share.h"
#include "proto/envelope.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The default of an axis of names; that of `wait` is the transport's first, that of `link` depends on what must be joined, and that
 * of `placement` becomes `any` where it cannot be done. */
static const char *const defaults[LAB_AXES] = {
    [LAB_AXIS_PATTERN] = "pingpong",     [LAB_AXIS_TOPOLOGY] = "pair", [LAB_AXIS_PLACEMENT] = "other-core",
    [LAB_AXIS_VERIFY] = "all",           [LAB_AXIS_BACKING] = "memfd", [LAB_AXIS_UNIT] = "process",
    [LAB_AXIS_DELIVERY] = "best-effort", [LAB_AXIS_TEMPERATURE] = "warm",
};
/* What carries messages from worker to node when another transport joins the nodes, and what joins them by default. */
static const char leg_transport[] = "shm-ring", link_transport[] = "zmq-tcp";
enum { SIZE_DEFAULT = 64 };

int lab_plan_no_memory(void)
{
    return lab_fail(ENOMEM, "cannot make a plan");
}

int lab_plan_skip(struct lab_plan_making *making, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vasprintf(&making->cell->skip, format, args);
    va_end(args);
    if (length < 0) {
        making->cell->skip = NULL;
        return lab_plan_no_memory();
    }
    return LAB_PLAN_SKIPPED;
}

int lab_plan_note(struct lab_plan_making *making, const char *format, ...)
{
    char *earlier = making->cell->note, *sentence = NULL, *both = NULL;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&sentence, format, args);
    va_end(args);
    if (length < 0)
        return lab_plan_no_memory();
    if (!earlier) {
        making->cell->note = sentence;
        return 0;
    }
    length = asprintf(&both, "%s; %s", earlier, sentence);
    free(sentence);
    if (length < 0)
        return lab_plan_no_memory();
    free(earlier);
    making->cell->note = both;
    return 0;
}

static uint32_t figure(const struct lab_plan_making *making, enum lab_axis axis, uint32_t otherwise)
{
    const struct lab_value *value = making->asked->value[axis];
    return value ? (uint32_t)value->number : otherwise;
}

static void take_asked(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const struct lab_value *const *value = making->asked->value;
    for (enum lab_axis axis = 0; axis < LAB_AXES; axis++)
        cell->asked[axis] = value[axis] ? value[axis]->text : defaults[axis];
    cell->transport = lab_transport_named(cell->asked[LAB_AXIS_TRANSPORT]);
    bool fiber = strcmp(cell->asked[LAB_AXIS_UNIT], lab_unit_name(LAB_UNIT_FIBER)) == 0;
    if (cell->transport && !value[LAB_AXIS_WAIT])
        cell->asked[LAB_AXIS_WAIT] = lab_wait_name(fiber && cell->transport->waits & LAB_WAIT_BIT(LAB_WAIT_YIELD)
                                                       ? LAB_WAIT_YIELD : (enum lab_wait)__builtin_ctz(cell->transport->waits));
    cell->mark = value[LAB_AXIS_TRANSPORT]->mark;
    cell->placement = cell->asked[LAB_AXIS_PLACEMENT];
    cell->size_bytes = value[LAB_AXIS_SIZE] ? value[LAB_AXIS_SIZE]->number : SIZE_DEFAULT;
    const struct lab_hosts *hosts = making->site->hosts;
    cell->nodes = figure(making, LAB_AXIS_NODES, hosts ? lab_hosts_slots(hosts) : 1);
    cell->workers = figure(making, LAB_AXIS_WORKERS, cell->nodes > 1 ? 1 : 2);
    cell->window = figure(making, LAB_AXIS_WINDOW, 0);
    cell->batch = figure(making, LAB_AXIS_BATCH, 1);
    cell->verify_all = strcmp(cell->asked[LAB_AXIS_VERIFY], "all") == 0;
    cell->crosses_hosts = cell->nodes > 1 && (making->site->lab || making->site->machine->apart);
    for (uint32_t node = 1; hosts && node < cell->nodes; node++)
        cell->crosses_hosts |= lab_hosts_of_node(hosts, node) != lab_hosts_of_node(hosts, 0);
}

/* ---- the checks, in the order in which a reader would want to hear of them ---- */

/* Keys whose other values belong to what this version does not do. */
static int check_version(struct lab_plan_making *making)
{
    static const enum lab_axis only_default[] = {LAB_AXIS_TEMPERATURE};
    static const enum lab_axis never[] = {LAB_AXIS_WORKLOAD, LAB_AXIS_INPUT, LAB_AXIS_RATE, LAB_AXIS_ARRIVALS};
    const char *const *asked = making->cell->asked;
    for (size_t i = 0; i < sizeof only_default / sizeof *only_default; i++)
        if (strcmp(asked[only_default[i]], defaults[only_default[i]]) != 0)
            return lab_plan_skip(making, "%s: %s is not in this version, which has %s", lab_axis_name(only_default[i]),
                        asked[only_default[i]], defaults[only_default[i]]);
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (asked[never[i]])
            return lab_plan_skip(making, "%s: %s is not in this version", lab_axis_name(never[i]), asked[never[i]]);
    return 0;
}

static int take_names(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    if (!cell->transport)
        return lab_plan_skip(making, "%s is not built into this version", cell->asked[LAB_AXIS_TRANSPORT]);
    const struct lab_transport_ops *ops = cell->transport->module ? NULL : lab_transport_ops(cell->transport);
    if (!making->site->machine->described && (lab_crew_module(cell->transport) || (ops && ops->usable && ops->usable())))
        return lab_plan_skip(making, "%s: %s", cell->transport->name, lab_error_last()->text);
    cell->pattern = lab_pattern_named(cell->asked[LAB_AXIS_PATTERN]);
    if (!cell->pattern)
        return lab_plan_skip(making, "the pattern %s is not built into this version", cell->asked[LAB_AXIS_PATTERN]);
    cell->topology = lab_topology_named(cell->asked[LAB_AXIS_TOPOLOGY]);
    if (!cell->topology)
        return lab_plan_skip(making, "the topology %s is not built into this version", cell->asked[LAB_AXIS_TOPOLOGY]);
    return 0;
}

static int take_wait(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const char *name = cell->asked[LAB_AXIS_WAIT];
    if (lab_wait_named(name, &cell->wait) == 0 && cell->transport->waits & LAB_WAIT_BIT(cell->wait))
        return 0;
    char can[128] = "";
    size_t used = 0;
    for (enum lab_wait wait = 0; wait < LAB_WAITS; wait++)
        if (cell->transport->waits & LAB_WAIT_BIT(wait) && used < sizeof can)
            used += (size_t)snprintf(can + used, sizeof can - used, "%s%s", used ? ", " : "", lab_wait_name(wait));
    return lab_plan_skip(making, "%s cannot wait by %s; it can: %s", cell->transport->name, name, can);
}

static int take_spin_limit(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const struct lab_value *asked = making->asked->value[LAB_AXIS_SPIN_LIMIT];
    if (!asked)
        return 0;
    cell->spin_ns = asked->number;
    if (cell->wait != LAB_WAIT_ADAPTIVE)
        return lab_plan_skip(making, "spin_limit: %s says how long adaptive polls, and this cell waits by %s", asked->text, lab_wait_name(cell->wait));
    return 0;
}

/* Fibers share one thread, on one cpu, and hand it to each other while they wait. */
static int take_fiber(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    if (making->asked->value[LAB_AXIS_PLACEMENT] && strcmp(cell->placement, "other-core") == 0)
        return lab_plan_skip(making, "fibers share one thread: there is no other core for any of them");
    if (strcmp(cell->placement, "other-core") == 0)
        cell->placement = cell->asked[LAB_AXIS_PLACEMENT] = "same-core";
    if (cell->wait == LAB_WAIT_YIELD)
        return 0;
    return cell->wait == LAB_WAIT_SPIN
               ? lab_plan_skip(making, "a fiber that spins never lets the others run: fibers wait by yield")
               : lab_plan_skip(making, "a blocking call would stop all fibers, and %s waits by %s", cell->transport->name, lab_wait_name(cell->wait));
}

static int take_unit(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const char *name = cell->asked[LAB_AXIS_UNIT];
    int err = lab_unit_named(name, &cell->unit);
    if (err)
        return err;
    if (cell->transport->caps & LAB_CAP_THREADS && cell->unit != LAB_UNIT_THREAD)
        return lab_plan_skip(making, "%s joins threads of one process: it takes unit: thread", cell->transport->name);
    if (cell->transport->caps & LAB_CAP_THREADS && cell->nodes > 1)
        return lab_plan_skip(making, "%s joins threads of one process, and nodes are several", cell->transport->name);
    if (cell->unit == LAB_UNIT_PROCESS)
        return 0;
    if (!cell->workers)
        return lab_plan_skip(making, "with workers: 0 the nodes themselves talk, which are processes; unit: %s takes workers", name);
    if (cell->transport->caps & LAB_CAP_WORLD && cell->nodes == 1)
        return lab_plan_skip(making, "%s joins processes: a %s of one has no rank of its own", cell->transport->name, name);
    return cell->unit == LAB_UNIT_FIBER ? take_fiber(making) : 0;
}

/* Both ends in one process: one worker is all it takes. */
static int shape_self(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const char *name = cell->transport->name;
    if (cell->nodes > 1)
        return lab_plan_skip(making, "%s carries messages to itself, within one worker: there is nothing for %u nodes to do", name,
                    cell->nodes);
    if (strcmp(cell->topology->name, "pair") != 0)
        return lab_plan_skip(making, "%s carries messages to itself, and %s takes several parties", name, cell->topology->name);
    cell->workers = cell->parties = 1;
    if (strcmp(cell->placement, "other-core") == 0)
        cell->placement = "same-core"; /* there is no other */
    return lab_plan_note(making, "%s runs in one worker, which sends to itself", name);
}

static bool crosses(const struct lab_transport *transport, bool hosts)
{
    return transport->caps & (hosts ? LAB_CAP_REMOTE : LAB_CAP_REMOTE | LAB_CAP_NODES);
}

/* Workers speak to their own node, and a link joins the nodes. A transport that goes between nodes is taken at its word: it is
 * the link, and the workers use shared memory. */
static int shape_relay(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const char *asked = cell->asked[LAB_AXIS_LINK];
    const char *apart = cell->crosses_hosts ? "hosts" : "nodes";
    if (crosses(cell->transport, cell->crosses_hosts)) {
        if (asked && strcmp(asked, cell->transport->name) != 0)
            return lab_plan_skip(making, "%s goes between %s itself, and link says %s", cell->transport->name, apart, asked);
        cell->link = cell->transport;
        cell->transport = lab_transport_named(leg_transport);
        if (!(cell->transport->waits & LAB_WAIT_BIT(cell->wait)))
            cell->wait = LAB_WAIT_FUTEX;
        return lab_plan_note(making, "%s joins the nodes; workers reach their node by %s (%s)", cell->link->name, leg_transport,
                    lab_wait_name(cell->wait));
    }
    if (cell->transport->caps & LAB_CAP_WORLD)
        return lab_plan_skip(making, "%s takes workers of one node: the node that would relay is not in their MPI world", cell->transport->name);
    const char *name = asked ? asked : link_transport;
    cell->link = lab_transport_named(name);
    if (!cell->link)
        return lab_plan_skip(making, "the link %s is not built into this version", name);
    if (!making->site->machine->described && lab_crew_module(cell->link))
        return lab_plan_skip(making, "the link %s: %s", name, lab_error_last()->text);
    if (!crosses(cell->link, cell->crosses_hosts))
        return lab_plan_skip(making, "%s cannot be the link: it does not go between %s", name, apart);
    return 0;
}

static int check_sharing(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    int err = cell->pattern->sharing ? lab_plan_share(cell, &cell->skip) : 0;
    return err ? err : cell->skip ? LAB_PLAN_SKIPPED : 0;
}

static int take_shape(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    if (cell->transport->caps & LAB_CAP_SELF && !cell->pattern->sharing)
        return shape_self(making);
    cell->parties = cell->workers ? cell->nodes * cell->workers : cell->nodes;
    if (cell->parties < cell->topology->parties_min)
        return lab_plan_skip(making, "%s takes %u parties or more; nodes: %u with workers: %u makes %u", cell->topology->name,
                    cell->topology->parties_min, cell->nodes, cell->workers, cell->parties);
    if (cell->parties > LAB_PLAN_PARTIES_MAX)
        return lab_plan_skip(making, "nodes: %u with workers: %u makes %u parties; %d is the most", cell->nodes, cell->workers,
                    cell->parties, LAB_PLAN_PARTIES_MAX);
    if (cell->pattern->server_release && !cell->topology->gathers)
        return lab_plan_skip(making, "a %s meets along a tree (pair, star, line or tree), not along %s", cell->pattern->name, cell->topology->name);
    size_t edges = cell->topology->edge_count(cell->parties);
    if (edges > LAB_PLAN_EDGES_MAX)
        return lab_plan_skip(making, "%s of %u parties has %zu edges; %d is the most", cell->topology->name, cell->parties, edges, LAB_PLAN_EDGES_MAX);
    int err = check_sharing(making);
    if (err || cell->nodes == 1)
        return err;
    if (cell->workers)
        return shape_relay(making);
    if (!crosses(cell->transport, cell->crosses_hosts))
        return lab_plan_skip(making, "%s cannot join %s: it takes workers of one node", cell->transport->name,
                    cell->crosses_hosts ? "hosts" : "nodes");
    return 0;
}

/* Between nodes a message travels in an envelope. */
static int check_longest(struct lab_plan_making *making, const struct lab_transport *transport, bool between_nodes)
{
    char size[LAB_TEXT_NUMBER], most[LAB_TEXT_NUMBER];
    uint64_t bytes = making->cell->size_bytes;
    if (bytes + (between_nodes ? LAB_ENVELOPE_HEAD : 0) <= transport->message_max)
        return 0;
    return lab_plan_skip(making, "a message of %s%s is beyond what %s carries, %s", lab_format_size(bytes, size),
                         bytes > transport->message_max ? "" : " in its envelope", transport->name,
                         lab_format_size(transport->message_max, most));
}

/* What this machine's administrator has set. On other machines they will tell. */
static int check_limit(struct lab_plan_making *making)
{
    const struct lab_plan_cell *cell = making->cell;
    const struct lab_transport_ops *ops = cell->transport->module ? NULL : lab_transport_ops(cell->transport);
    const struct lab_channel channel = {
        .transport = cell->transport, .wait = cell->wait, .message_max = (uint32_t)cell->size_bytes, .window = cell->window, .batch = cell->batch};
    struct lab_bound bound;
    char size[LAB_TEXT_NUMBER], most[LAB_TEXT_NUMBER];
    if (!ops || !ops->limit || making->site->machine->described || lab_plan_elsewhere(making))
        return 0;
    if (ops->limit(&channel, &bound))
        return lab_plan_skip(making, "%s: %s", cell->transport->name, lab_error_last()->text);
    if (cell->size_bytes <= bound.longest)
        return 0;
    return lab_plan_skip(making, "a message of %s is beyond what %s carries on this machine, %s; %s", lab_format_size(cell->size_bytes, size),
                         cell->transport->name, lab_format_size(bound.longest, most), bound.mend);
}

static int take_depth(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    int err = check_longest(making, cell->transport, cell->nodes > 1 && !cell->workers);
    if (!err && cell->link)
        err = check_longest(making, cell->link, true);
    if (err)
        return err;
    if (!cell->window)
        cell->window = cell->pattern->default_window(cell->size_bytes);
    char size[LAB_TEXT_NUMBER], most[LAB_TEXT_NUMBER];
    if (cell->size_bytes > LAB_PLAN_IN_FLIGHT_MAX / cell->window)
        return lab_plan_skip(making, "a window of %u messages of %s is more than %s in flight", cell->window,
                    lab_format_size(cell->size_bytes, size), lab_format_size(LAB_PLAN_IN_FLIGHT_MAX, most));
    if (cell->batch > 1 && !(cell->transport->caps & LAB_CAP_BATCH))
        return lab_plan_skip(making, "%s hands over one message at a time, and batch is %u", cell->transport->name, cell->batch);
    if (cell->batch > cell->window)
        return lab_plan_skip(making, "a batch of %u does not fit into a window of %u", cell->batch, cell->window);
    return check_limit(making);
}

/* What loses messages between two connections, and has a protocol of ours against that. */
static int take_delivery(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const struct lab_transport *carrier = cell->link ? cell->link : cell->transport;
    if (carrier->caps & LAB_CAP_RELIABLE && making->asked->value[LAB_AXIS_DELIVERY])
        cell->delivery = cell->asked[LAB_AXIS_DELIVERY];
    cell->reliable = strcmp(cell->asked[LAB_AXIS_DELIVERY], "reliable") == 0;
    if (!cell->reliable)
        return 0;
    if (!(carrier->caps & LAB_CAP_RELIABLE))
        return lab_plan_skip(making, "delivery: reliable is for connections that are lost and come back; %s loses nothing within one, and has no other",
                             carrier->name);
    if (cell->pattern->sharing)
        return lab_plan_skip(making, "delivery: reliable is from one sender to one receiver, and %s has a channel that all share", cell->pattern->name);
    if (cell->batch > 1)
        return lab_plan_skip(making, "delivery: reliable numbers messages one by one, and batch is %u", cell->batch);
    return 0;
}

/* Unless it is said otherwise, what crosses between hosts is encrypted, and what stays within one is not. */
static int take_encryption(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const struct lab_transport *carrier = cell->link ? cell->link : cell->transport;
    const char *asked = cell->asked[LAB_AXIS_ENCRYPTION];
    bool can = carrier->caps & LAB_CAP_ENCRYPT, wanted = asked ? strcmp(asked, "on") == 0 : can && cell->crosses_hosts;
    if (wanted && !can)
        return lab_plan_skip(making, "encryption: zmq-tcp encrypts, and %s does not", carrier->name);
    cell->encrypted = wanted;
    if ((can && asked) || cell->crosses_hosts)
        cell->encryption = wanted ? "on" : "off";
    return 0;
}

bool lab_plan_elsewhere(const struct lab_plan_making *making)
{
    return making->cell->crosses_hosts && !making->site->lab;
}

/* ---- the whole ---- */

int lab_plan_cell_make(const struct lab_site *site, const struct lab_combination *combination, struct lab_plan_cell *ret_cell)
{
    static int (*const steps[])(struct lab_plan_making *) = {check_version, take_names, take_wait, take_spin_limit, take_unit, take_shape, take_depth, take_delivery, take_encryption, lab_plan_mpi, lab_plan_back, lab_plan_place};
    struct lab_plan_making making = {site, combination, ret_cell};
    *ret_cell = (struct lab_plan_cell){0};
    take_asked(&making);
    int err = 0;
    for (size_t i = 0; !err && i < sizeof steps / sizeof *steps; i++)
        err = steps[i](&making);
    if (err < 0)
        lab_plan_cell_fini(ret_cell);
    return err < 0 ? err : 0;
}

void lab_plan_cell_fini(struct lab_plan_cell *cell)
{
    free(cell->skip);
    free(cell->note);
    free(cell->slots);
    cell->skip = cell->note = NULL;
    cell->slots = NULL;
}

static uint64_t figure_of(const struct lab_plan_cell *cell, enum lab_axis axis)
{
    switch ((int)axis) {
    case LAB_AXIS_SIZE: return cell->size_bytes;
    case LAB_AXIS_NODES: return cell->nodes;
    case LAB_AXIS_WORKERS: return cell->workers;
    case LAB_AXIS_WINDOW: return cell->window;
    case LAB_AXIS_BATCH: return cell->batch;
    default: return UINT64_MAX; /* spin_limit: no cell has one that was not asked for */
    }
}

bool lab_plan_cell_matches(const struct lab_plan_cell *cell, const struct lab_combination *combination,
                           const struct lab_filter *filter)
{
    for (enum lab_axis axis = 0; axis < LAB_AXES; axis++) {
        const struct lab_values *wanted = &filter->wanted[axis];
        const struct lab_value *asked = combination->value[axis];
        uint64_t number = asked ? asked->number : figure_of(cell, axis);
        bool found = wanted->count == 0;
        for (size_t i = 0; i < wanted->count && !found; i++)
            found = lab_axis_numeric(axis) ? wanted->items[i].number == number
                                           : cell->asked[axis] && strcmp(wanted->items[i].text, cell->asked[axis]) == 0;
        if (!found)
            return false;
    }
    return true;
}

bool lab_plan_cell_same(const struct lab_plan_cell *a, const struct lab_plan_cell *b)
{
    if (a->size_bytes != b->size_bytes || a->nodes != b->nodes || a->workers != b->workers || a->window != b->window ||
        a->batch != b->batch || a->spin_ns != b->spin_ns || strcmp(a->placement, b->placement) != 0 || !a->skip != !b->skip)
        return false;
    if (!a->skip)
        return a->transport == b->transport && a->link == b->link && a->pattern == b->pattern && a->topology == b->topology &&
               a->wait == b->wait && a->unit == b->unit && a->backing == b->backing && a->verify_all == b->verify_all && a->reliable == b->reliable &&
               !a->delivery == !b->delivery && a->encrypted == b->encrypted && a->mpi_rndv == b->mpi_rndv &&
               strcmp(a->mpi_path ? a->mpi_path : "default", b->mpi_path ? b->mpi_path : "default") == 0;
    for (enum lab_axis axis = 0; axis < LAB_AXES; axis++) {
        const char *of_a = a->asked[axis] ? a->asked[axis] : "", *of_b = b->asked[axis] ? b->asked[axis] : "";
        if (!lab_axis_numeric(axis) && strcmp(of_a, of_b) != 0)
            return false;
    }
    return true;
}
