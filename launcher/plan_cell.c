#include "launcher/plan_cell.h"

#include "base/text.h"
#include "launcher/axis.h"
#include "launcher/plan_share.h"

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

/* A cell on its way: every check returns 0 to go on, SKIPPED, or -ENOMEM. */
enum { SKIPPED = 1 };

struct making {
    const struct lab_site *site;
    const struct lab_combination *asked;
    struct lab_plan_cell *cell;
};

static int out_of_memory(void)
{
    return lab_fail(ENOMEM, "cannot make a plan");
}

LAB_PRINTF(2, 3) static int skip(struct making *making, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vasprintf(&making->cell->skip, format, args);
    va_end(args);
    if (length < 0) {
        making->cell->skip = NULL;
        return out_of_memory();
    }
    return SKIPPED;
}

LAB_PRINTF(2, 3) static int note(struct making *making, const char *format, ...)
{
    char *earlier = making->cell->note, *sentence = NULL, *both = NULL;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&sentence, format, args);
    va_end(args);
    if (length < 0)
        return out_of_memory();
    if (!earlier) {
        making->cell->note = sentence;
        return 0;
    }
    length = asprintf(&both, "%s; %s", earlier, sentence);
    free(sentence);
    if (length < 0)
        return out_of_memory();
    free(earlier);
    making->cell->note = both;
    return 0;
}

static uint32_t figure(const struct making *making, enum lab_axis axis, uint32_t otherwise)
{
    const struct lab_value *value = making->asked->value[axis];
    return value ? (uint32_t)value->number : otherwise;
}

static void take_asked(struct making *making)
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
static int check_version(struct making *making)
{
    static const enum lab_axis only_default[] = {LAB_AXIS_DELIVERY, LAB_AXIS_TEMPERATURE};
    static const enum lab_axis never[] = {LAB_AXIS_WORKLOAD, LAB_AXIS_INPUT, LAB_AXIS_RATE, LAB_AXIS_ARRIVALS};
    const char *const *asked = making->cell->asked;
    for (size_t i = 0; i < sizeof only_default / sizeof *only_default; i++)
        if (strcmp(asked[only_default[i]], defaults[only_default[i]]) != 0)
            return skip(making, "%s: %s is not in this version, which has %s", lab_axis_name(only_default[i]),
                        asked[only_default[i]], defaults[only_default[i]]);
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (asked[never[i]])
            return skip(making, "%s: %s is not in this version", lab_axis_name(never[i]), asked[never[i]]);
    return 0;
}

static int take_names(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    if (!cell->transport)
        return skip(making, "%s is not built into this version", cell->asked[LAB_AXIS_TRANSPORT]);
    const struct lab_transport_ops *ops = cell->transport->module ? NULL : lab_transport_ops(cell->transport);
    if (ops && ops->usable && ops->usable())
        return skip(making, "%s: %s", cell->transport->name, lab_error_last()->text);
    cell->pattern = lab_pattern_named(cell->asked[LAB_AXIS_PATTERN]);
    if (!cell->pattern)
        return skip(making, "the pattern %s is not built into this version", cell->asked[LAB_AXIS_PATTERN]);
    cell->topology = lab_topology_named(cell->asked[LAB_AXIS_TOPOLOGY]);
    if (!cell->topology)
        return skip(making, "the topology %s is not built into this version", cell->asked[LAB_AXIS_TOPOLOGY]);
    return 0;
}

static int take_wait(struct making *making)
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
    return skip(making, "%s cannot wait by %s; it can: %s", cell->transport->name, name, can);
}

static int take_spin_limit(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const struct lab_value *asked = making->asked->value[LAB_AXIS_SPIN_LIMIT];
    if (!asked)
        return 0;
    cell->spin_ns = asked->number;
    if (cell->wait != LAB_WAIT_ADAPTIVE)
        return skip(making, "spin_limit: %s says how long adaptive polls, and this cell waits by %s", asked->text, lab_wait_name(cell->wait));
    return 0;
}

/* Fibers share one thread, on one cpu, and hand it to each other while they wait. */
static int take_fiber(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    if (making->asked->value[LAB_AXIS_PLACEMENT] && strcmp(cell->placement, "other-core") == 0)
        return skip(making, "fibers share one thread: there is no other core for any of them");
    if (strcmp(cell->placement, "other-core") == 0)
        cell->placement = cell->asked[LAB_AXIS_PLACEMENT] = "same-core";
    if (cell->wait == LAB_WAIT_YIELD)
        return 0;
    return cell->wait == LAB_WAIT_SPIN
               ? skip(making, "a fiber that spins never lets the others run: fibers wait by yield")
               : skip(making, "a blocking call would stop all fibers, and %s waits by %s", cell->transport->name, lab_wait_name(cell->wait));
}

static int take_unit(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const char *name = cell->asked[LAB_AXIS_UNIT];
    int err = lab_unit_named(name, &cell->unit);
    if (err)
        return err;
    if (cell->unit == LAB_UNIT_PROCESS)
        return 0;
    if (!cell->workers)
        return skip(making, "with workers: 0 the nodes themselves talk, which are processes; unit: %s takes workers", name);
    if (cell->transport->caps & LAB_CAP_WORLD && cell->nodes == 1)
        return skip(making, "%s joins processes: a %s of one has no rank of its own", cell->transport->name, name);
    return cell->unit == LAB_UNIT_FIBER ? take_fiber(making) : 0;
}

/* Both ends in one process: one worker is all it takes. */
static int shape_self(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const char *name = cell->transport->name;
    if (cell->nodes > 1)
        return skip(making, "%s carries messages to itself, within one worker: there is nothing for %u nodes to do", name,
                    cell->nodes);
    if (strcmp(cell->topology->name, "pair") != 0)
        return skip(making, "%s carries messages to itself, and %s takes several parties", name, cell->topology->name);
    cell->workers = cell->parties = 1;
    if (strcmp(cell->placement, "other-core") == 0)
        cell->placement = "same-core"; /* there is no other */
    return note(making, "%s runs in one worker, which sends to itself", name);
}

static bool crosses(const struct lab_transport *transport, bool hosts)
{
    return transport->caps & (hosts ? LAB_CAP_REMOTE : LAB_CAP_REMOTE | LAB_CAP_NODES);
}

/* Workers speak to their own node, and a link joins the nodes. A transport that goes between nodes is taken at its word: it is
 * the link, and the workers use shared memory. */
static int shape_relay(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const char *asked = cell->asked[LAB_AXIS_LINK];
    const char *apart = cell->crosses_hosts ? "hosts" : "nodes";
    if (crosses(cell->transport, cell->crosses_hosts)) {
        if (asked && strcmp(asked, cell->transport->name) != 0)
            return skip(making, "%s goes between %s itself, and link says %s", cell->transport->name, apart, asked);
        cell->link = cell->transport;
        cell->transport = lab_transport_named(leg_transport);
        if (!(cell->transport->waits & LAB_WAIT_BIT(cell->wait)))
            cell->wait = LAB_WAIT_FUTEX;
        return note(making, "%s joins the nodes; workers reach their node by %s (%s)", cell->link->name, leg_transport,
                    lab_wait_name(cell->wait));
    }
    const char *name = asked ? asked : link_transport;
    cell->link = lab_transport_named(name);
    if (!cell->link)
        return skip(making, "the link %s is not built into this version", name);
    if (!crosses(cell->link, cell->crosses_hosts))
        return skip(making, "%s cannot be the link: it does not go between %s", name, apart);
    return 0;
}

static int check_sharing(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    int err = cell->pattern->sharing ? lab_plan_share(cell, &cell->skip) : 0;
    return err ? err : cell->skip ? SKIPPED : 0;
}

static int take_shape(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    if (cell->transport->caps & LAB_CAP_SELF && !cell->pattern->sharing)
        return shape_self(making);
    cell->parties = cell->workers ? cell->nodes * cell->workers : cell->nodes;
    if (cell->parties < cell->topology->parties_min)
        return skip(making, "%s takes %u parties or more; nodes: %u with workers: %u makes %u", cell->topology->name,
                    cell->topology->parties_min, cell->nodes, cell->workers, cell->parties);
    if (cell->parties > LAB_PLAN_PARTIES_MAX)
        return skip(making, "nodes: %u with workers: %u makes %u parties; %d is the most", cell->nodes, cell->workers,
                    cell->parties, LAB_PLAN_PARTIES_MAX);
    if (cell->pattern->server_release && !cell->topology->gathers)
        return skip(making, "a %s meets along a tree (pair, star, line or tree), not along %s", cell->pattern->name, cell->topology->name);
    size_t edges = cell->topology->edge_count(cell->parties);
    if (edges > LAB_PLAN_EDGES_MAX)
        return skip(making, "%s of %u parties has %zu edges; %d is the most", cell->topology->name, cell->parties, edges, LAB_PLAN_EDGES_MAX);
    int err = check_sharing(making);
    if (err || cell->nodes == 1)
        return err;
    if (cell->workers)
        return shape_relay(making);
    if (!crosses(cell->transport, cell->crosses_hosts))
        return skip(making, "%s cannot join %s: it takes workers of one node", cell->transport->name,
                    cell->crosses_hosts ? "hosts" : "nodes");
    return 0;
}

static int check_longest(struct making *making, const struct lab_transport *transport)
{
    char size[LAB_TEXT_NUMBER], most[LAB_TEXT_NUMBER];
    if (!transport || making->cell->size_bytes <= transport->message_max)
        return 0;
    return skip(making, "a message of %s is beyond what %s carries, %s", lab_format_size(making->cell->size_bytes, size),
                transport->name, lab_format_size(transport->message_max, most));
}

static int take_depth(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    int err = check_longest(making, cell->transport);
    if (!err)
        err = check_longest(making, cell->link);
    if (err)
        return err;
    if (!cell->window)
        cell->window = cell->pattern->default_window(cell->size_bytes);
    char size[LAB_TEXT_NUMBER], most[LAB_TEXT_NUMBER];
    if (cell->size_bytes > LAB_PLAN_IN_FLIGHT_MAX / cell->window)
        return skip(making, "a window of %u messages of %s is more than %s in flight", cell->window,
                    lab_format_size(cell->size_bytes, size), lab_format_size(LAB_PLAN_IN_FLIGHT_MAX, most));
    if (cell->batch > 1 && !(cell->transport->caps & LAB_CAP_BATCH))
        return skip(making, "%s hands over one message at a time, and batch is %u", cell->transport->name, cell->batch);
    if (cell->batch > cell->window)
        return skip(making, "a batch of %u does not fit into a window of %u", cell->batch, cell->window);
    return 0;
}

/* On other machines; virtual hosts share what this one has. Parties on hosts that nobody has named may be on one, and are
 * placed as if they were. */
static bool elsewhere(const struct making *making)
{
    return making->cell->crosses_hosts && !making->site->lab;
}

/* ---- what shared memory is made of ---- */

/* Huge pages that one way of an edge takes, at each of its `hops`. */
static int count_huge_pages(const struct making *making, struct lab_channel channel, uint64_t hops, uint64_t *pages)
{
    const struct lab_transport_ops *ops = lab_transport_ops(making->cell->transport);
    size_t bytes, page = making->site->machine->huge_pages.size;
    int err = ops ? ops->memory(&channel, &bytes) : -ENOPKG;
    if (!err)
        *pages += hops * ((lab_backing_bytes(LAB_BACKING_MEMFD, bytes) + page - 1) / page);
    return err;
}

/* An edge between nodes of this machine has a leg at each of them. */
static int count_hops(const struct lab_plan_cell *cell, uint64_t *ret_hops)
{
    *ret_hops = 1;
    if (cell->pattern->sharing)
        return 0;
    size_t count = cell->topology->edge_count(cell->parties);
    struct lab_edge *edges = calloc(count + 1, sizeof *edges);
    if (!edges)
        return out_of_memory();
    cell->topology->edges(cell->parties, edges);
    *ret_hops = count;
    for (size_t i = 0; i < count; i++)
        *ret_hops += edges[i].client / cell->workers != edges[i].server / cell->workers;
    free(edges);
    return 0;
}

static int check_huge_pages(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const struct lab_huge_pages *there = &making->site->machine->huge_pages;
    char mend[LAB_HUGE_PAGES_TEXT];
    uint64_t wanted = 0, hops = 0;
    uint32_t size = (uint32_t)cell->size_bytes;
    const struct lab_channel forward = {
        .transport = cell->transport, .wait = cell->wait, .backing = cell->backing, .message_max = size, .window = cell->window, .batch = cell->batch,
        .seats = {cell->seats[LAB_TX], cell->seats[LAB_RX]}};
    struct lab_channel backward = forward;
    backward.message_max = cell->pattern->reply_bytes(size);
    backward.window = cell->pattern->reply_window(cell->window);
    backward.batch = 1;
    int err = count_hops(cell, &hops);
    if (err)
        return err;
    err = there->size ? count_huge_pages(making, forward, hops, &wanted) : 0;
    if (!err && there->size && !cell->pattern->sharing)
        err = count_huge_pages(making, backward, hops, &wanted);
    if (err)
        return skip(making, "%s", lab_error_last()->text);
    return there->size && wanted <= there->free ? 0 : skip(making, "backing: %s", lab_huge_pages_mend(there, wanted, mend));
}

static int take_backing(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const char *name = cell->asked[LAB_AXIS_BACKING];
    if (lab_backing_named(name, &cell->backing))
        return skip(making, "the backing %s is not in this version", name);
    if (cell->backing == LAB_BACKING_MEMFD)
        return 0;
    if (strcmp(cell->transport->name, cell->asked[LAB_AXIS_TRANSPORT]) != 0 || !(cell->transport->caps & LAB_CAP_BACKING))
        return skip(making, "backing: %s is what shared memory is made of, and %s has none of ours", name, cell->asked[LAB_AXIS_TRANSPORT]);
    if (elsewhere(making))
        return 0; /* what there is on other machines, they will tell */
    if (lab_backing_usable(cell->backing))
        return skip(making, "backing: %s: %s", name, lab_error_last()->text);
    return cell->backing == LAB_BACKING_HUGEPAGE ? check_huge_pages(making) : 0;
}

/* ---- placement ---- */

/* Whose cpus a party takes. */
static size_t host_of(const struct making *making, uint32_t party)
{
    const struct lab_hosts *hosts = making->site->hosts;
    uint32_t node = making->cell->workers ? party / making->cell->workers : party;
    return hosts && elsewhere(making) ? (size_t)(lab_hosts_of_node(hosts, node) - hosts->items) : 0;
}

/* Of each party, those that it has an edge with. */
struct neighbours {
    uint32_t *first; /* of party p: those from first[p] on, before first[p + 1] */
    uint32_t *party;
};

static int find_neighbours(const struct lab_plan_cell *cell, struct neighbours *ret)
{
    size_t edge_count = cell->topology->edge_count(cell->parties);
    struct lab_edge *edges = calloc(edge_count, sizeof *edges);
    ret->first = calloc((size_t)cell->parties + 2, sizeof *ret->first);
    ret->party = calloc(2 * edge_count, sizeof *ret->party);
    if (!edges || !ret->first || !ret->party) {
        free(edges);
        return out_of_memory();
    }
    cell->topology->edges(cell->parties, edges);
    /* Counted one place late: while it is filled in, first[p + 1] is where the next of party p goes. */
    for (size_t e = 0; e < edge_count; e++) {
        ret->first[edges[e].client + 2]++;
        ret->first[edges[e].server + 2]++;
    }
    for (uint32_t party = 2; party <= cell->parties; party++)
        ret->first[party] += ret->first[party - 1];
    for (size_t e = 0; e < edge_count; e++) {
        ret->party[ret->first[edges[e].client + 1]++] = edges[e].server;
        ret->party[ret->first[edges[e].server + 1]++] = edges[e].client;
    }
    free(edges);
    return 0;
}

/* The cpu of its host used least among those that no neighbour there has; SIZE_MAX when all have one. `users` is that host's. */
static size_t free_slot(const struct making *making, const struct neighbours *neighbours, uint32_t party, const uint32_t *users,
                        size_t slot_count, bool *taken)
{
    memset(taken, 0, slot_count);
    for (uint32_t i = neighbours->first[party]; i < neighbours->first[party + 1]; i++) {
        uint32_t other = neighbours->party[i];
        if (other < party && host_of(making, other) == host_of(making, party))
            taken[making->cell->slots[other]] = true;
    }
    size_t best = SIZE_MAX;
    for (size_t slot = 0; slot < slot_count; slot++)
        if (!taken[slot] && (best == SIZE_MAX || users[slot] < users[best]))
            best = slot;
    return best;
}

/* Colours the graph of edges greedily, in the order of parties: enough for trees, rings, grids and meshes. False: there are too few
 * cpus. */
static int place_apart(struct making *making, bool *ret_apart)
{
    struct lab_plan_cell *cell = making->cell;
    size_t slot_count = making->site->machine->cpu_count;
    size_t host_count = making->site->hosts ? making->site->hosts->count : 1;
    struct neighbours neighbours;
    uint32_t *users = calloc(host_count * slot_count + 1, sizeof *users);
    bool *taken = calloc(slot_count + 1, sizeof *taken);
    int err = find_neighbours(cell, &neighbours);
    if (!err && (!users || !taken))
        err = out_of_memory();
    bool apart = true;
    for (uint32_t party = 0; !err && apart && party < cell->parties; party++) {
        uint32_t *users_there = users + host_of(making, party) * slot_count;
        size_t slot = free_slot(making, &neighbours, party, users_there, slot_count, taken);
        apart = slot != SIZE_MAX;
        if (apart) {
            cell->slots[party] = (uint16_t)slot;
            users_there[slot]++;
        }
    }
    free(neighbours.first);
    free(neighbours.party);
    free(users);
    free(taken);
    *ret_apart = apart;
    return err;
}

/* Who asked for other cores gets them or nothing. Who did not gets a run: every topology works with any number of parties. */
static int place_anywhere(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    char cpus[48];
    uint32_t cpu_count = making->site->machine->cpu_count;
    snprintf(cpus, sizeof cpus, "%u cpu%s%s", cpu_count, cpu_count == 1 ? "" : "s", making->site->hosts && elsewhere(making) ? " on each host" : "");
    if (making->asked->value[LAB_AXIS_PLACEMENT])
        return skip(making, "other-core keeps the two sides of every edge apart: %s cannot do that for a %s of %u", cpus,
                    cell->topology->name, cell->parties);
    free(cell->slots);
    cell->slots = NULL;
    cell->placement = cell->asked[LAB_AXIS_PLACEMENT] = "any";
    return note(making, "placement is any, since %s cannot keep the two sides of every edge of a %s of %u apart", cpus,
                cell->topology->name, cell->parties);
}

static int take_places(struct making *making)
{
    struct lab_plan_cell *cell = making->cell;
    uint32_t busy = cell->parties + (cell->link ? cell->nodes : 0);
    bool apart = true;
    int err = 0;
    if (strcmp(cell->placement, "any") != 0) {
        cell->slots = calloc(cell->parties, sizeof *cell->slots);
        if (!cell->slots)
            return out_of_memory();
        if (strcmp(cell->placement, "other-core") == 0 && cell->parties > 1)
            err = place_apart(making, &apart);
        if (!err && !apart)
            err = place_anywhere(making);
    }
    if (!err && !elsewhere(making) && busy > making->site->machine->cpu_count && strcmp(cell->placement, "same-core") != 0)
        err = note(making, "%u %s%s take turns on %u cpu%s", busy, cell->unit == LAB_UNIT_PROCESS ? "processes" : "threads",
                   cell->link ? " (workers and relaying nodes)" : "", making->site->machine->cpu_count, making->site->machine->cpu_count == 1 ? "" : "s");
    return err;
}

/* ---- the whole ---- */

int lab_plan_cell_make(const struct lab_site *site, const struct lab_combination *combination, struct lab_plan_cell *ret_cell)
{
    static int (*const steps[])(struct making *) = {check_version, take_names, take_wait, take_spin_limit, take_unit, take_shape, take_depth, take_backing, take_places};
    struct making making = {site, combination, ret_cell};
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
               a->wait == b->wait && a->unit == b->unit && a->backing == b->backing && a->verify_all == b->verify_all;
    for (enum lab_axis axis = 0; axis < LAB_AXES; axis++) {
        const char *of_a = a->asked[axis] ? a->asked[axis] : "", *of_b = b->asked[axis] ? b->asked[axis] : "";
        if (!lab_axis_numeric(axis) && strcmp(of_a, of_b) != 0)
            return false;
    }
    return true;
}
