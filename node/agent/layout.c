#include "node/agent/layout.h"

#include "base/error.h"
#include "node/lane/lane.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARTIES_MAX = 4096, EDGES_MAX = 1 << 20, WINDOW_MAX = 1 << 20 };

/* The legs of a relay carry what the experiment's transport is, unless that is itself a way between hosts. */
static const struct lab_transport *leg_of(const struct lab_transport *transport)
{
    return transport->caps & LAB_CAP_REMOTE ? lab_transport_named("shm-ring") : transport;
}

/* The experiment's wait where the transport can do it; else the one nearest in meaning: sleeping for sleeping. */
static enum lab_wait wait_for(const struct lab_transport *transport, enum lab_wait wanted)
{
    if (transport->waits & LAB_WAIT_BIT(wanted))
        return wanted;
    bool sleeps = wanted != LAB_WAIT_SPIN && wanted != LAB_WAIT_YIELD && wanted != LAB_WAIT_ADAPTIVE;
    if (sleeps && transport->waits & LAB_WAIT_BIT(LAB_WAIT_FUTEX))
        return LAB_WAIT_FUTEX;
    return (enum lab_wait)__builtin_ctz(transport->waits);
}

static int check(const Lab__Assign *assign, uint32_t node)
{
    const Lab__Cell *cell = assign->cell;
    uint32_t parties = assign->nodes * (assign->workers_per_node ? assign->workers_per_node : 1);
    if (!cell)
        return lab_refuse(EPROTO, "an ASSIGN without a cell");
    if (assign->nodes <= node || assign->nodes > PARTIES_MAX || assign->workers_per_node > PARTIES_MAX || parties > PARTIES_MAX)
        return lab_refuse(EPROTO, "%u nodes of %u workers, this one being %u: not possible", assign->nodes, assign->workers_per_node, node);
    if (assign->n_places != parties || assign->n_hosts != assign->nodes || assign->n_edges > EDGES_MAX)
        return lab_refuse(EPROTO, "%zu places for %u parties, %zu hosts for %u nodes, %zu edges", assign->n_places, parties,
                          assign->n_hosts, assign->nodes, assign->n_edges);
    if (cell->size_bytes < 8 || cell->size_bytes > INT32_MAX / 2 || !cell->window || cell->window > WINDOW_MAX || !cell->batch)
        return lab_refuse(EPROTO, "messages of %llu bytes, %u in flight, %u at once: not possible", (unsigned long long)cell->size_bytes,
                          cell->window, cell->batch);
    const Lab__KeyPair *keys = cell->link_keys;
    if (keys && (strlen(keys->open) != LAB_CURVE_KEY - 1 || strlen(keys->secret) != LAB_CURVE_KEY - 1))
        return lab_refuse(EPROTO, "keys of %zu and %zu letters", strlen(keys->open), strlen(keys->secret));
    for (size_t e = 0; e < assign->n_edges; e++)
        if (assign->edges[e]->client >= parties || assign->edges[e]->server >= parties)
            return lab_refuse(EPROTO, "edge %zu joins parties %u and %u of %u", e, assign->edges[e]->client, assign->edges[e]->server, parties);
    return 0;
}

struct maker {
    const Lab__Assign *assign;
    const struct lab_transport *transport, *link;
    enum lab_wait wait;
    enum lab_backing backing;
    uint32_t epoch;
    struct lab_layout *layout;
};

static uint32_t node_of(const struct maker *m, uint32_t party)
{
    return m->assign->workers_per_node ? party / m->assign->workers_per_node : party;
}

/* What one way of an edge carries. */
struct flow {
    uint32_t size, window, batch;
};

/* A pair that is too long is none: check() has looked. */
static struct lab_curve_pair keys_for(const struct maker *m, const struct lab_transport *transport)
{
    struct lab_curve_pair keys = {0};
    const Lab__KeyPair *told = m->assign->cell->link_keys;
    if (told && transport->caps & LAB_CAP_ENCRYPT) {
        snprintf(keys.open, sizeof keys.open, "%s", told->open);
        snprintf(keys.secret, sizeof keys.secret, "%s", told->secret);
    }
    return keys;
}

static struct lab_channel channel_for(const struct maker *m, const struct lab_transport *transport, uint32_t number, uint32_t message_max,
                                      const struct flow *flow)
{
    return (struct lab_channel){
        .transport = transport, .wait = wait_for(transport, m->wait), .id = number, .epoch = m->epoch, .message_max = message_max,
        .window = flow->window, .batch = transport->caps & LAB_CAP_BATCH ? flow->batch : 1,
        .backing = transport->caps & LAB_CAP_BACKING ? m->backing : LAB_BACKING_MEMFD, .spin_ns = m->assign->cell->spin_ns,
        .reliable = m->assign->cell->reliable && transport->caps & LAB_CAP_RELIABLE,
        .keys = keys_for(m, transport),
    };
}

static int add_path(const struct maker *m, uint32_t number, uint32_t tx, uint32_t rx, struct flow flow)
{
    struct lab_layout *layout = m->layout;
    uint32_t tx_node = node_of(m, tx), rx_node = node_of(m, rx);
    bool crosses = tx_node != rx_node;
    layout->crosses = layout->crosses || crosses;
    struct lab_path path = {.number = number, .party = {tx, rx}, .here = {tx_node == layout->node, rx_node == layout->node}};
    if (!path.here[LAB_TX] && !path.here[LAB_RX])
        return 0;
    if (!layout->nodes_talk) {
        path.has[LAB_HOP_LOCAL] = true;
        path.channel[LAB_HOP_LOCAL] = channel_for(m, crosses ? leg_of(m->transport) : m->transport, number, flow.size, &flow);
    }
    if (crosses) {
        if (!m->link)
            return lab_refuse(EPROTO, "edge %u crosses nodes, and no link between them was named", number / 2);
        struct lab_channel link = channel_for(m, m->link, number, lab_lane_wire_bytes(flow.size, true), &flow);
        link.crosses_nodes = true;
        link.crosses_hosts = m->assign->hosts[rx_node][0] || m->assign->hosts[tx_node][0];
        link.host = m->assign->hosts[rx_node][0] ? m->assign->hosts[rx_node] : NULL;
        link.rank[LAB_TX] = (int)tx_node;
        link.rank[LAB_RX] = (int)rx_node;
        path.has[LAB_HOP_LINK] = true;
        path.channel[LAB_HOP_LINK] = link;
    } else if (layout->nodes_talk) {
        return lab_refuse(EPROTO, "edge %u joins node %u to itself", number / 2, tx_node);
    }
    layout->paths[layout->path_count++] = path;
    return 0;
}

const struct lab_party *lab_layout_party(const struct lab_layout *layout, uint32_t index)
{
    uint32_t place = index - layout->node * layout->party_count;
    return place < layout->party_count ? &layout->parties[place] : NULL;
}

/* The party of this node at that end of a path; NULL: there is none, or, at the receiving end of a path that leads to itself, it has been
 * counted. */
static struct lab_party *end_of(const struct lab_layout *layout, const struct lab_path *path, enum lab_role role)
{
    const struct lab_party *party = lab_layout_party(layout, path->party[role]);
    bool again = role == LAB_RX && path->party[LAB_TX] == path->party[LAB_RX];
    return party && !again ? &layout->parties[party - layout->parties] : NULL;
}

/* Tells each party its paths: first how many they are, then where they stand, one party behind the other, then which. */
static int share_paths(struct lab_layout *layout)
{
    struct lab_party *party;
    uint32_t *next = layout->touched = calloc(2 * (size_t)layout->path_count + 1, sizeof *layout->touched);
    if (!next)
        return lab_fail(ENOMEM, "no memory for the paths of %u workers", layout->party_count);
    for (uint32_t i = 0; i < 2 * layout->path_count; i++)
        if ((party = end_of(layout, &layout->paths[i / 2], (enum lab_role)(i % 2))))
            party->path_count++;
    for (uint32_t p = 0; p < layout->party_count; p++) {
        party = &layout->parties[p];
        party->paths = next;
        party->idle = !party->path_count;
        next += party->path_count;
        party->path_count = 0;
    }
    for (uint32_t i = 0; i < 2 * layout->path_count; i++)
        if ((party = end_of(layout, &layout->paths[i / 2], (enum lab_role)(i % 2))))
            layout->touched[party->paths - layout->touched + party->path_count++] = i / 2;
    return 0;
}

/* Ranks go to the workers that have an end in an MPI channel, in party order: all of a world must initialise together. */
static void rank_workers(struct lab_layout *layout)
{
    for (uint32_t p = 0; p < layout->party_count; p++) {
        struct lab_party *party = &layout->parties[p];
        bool member = false;
        for (uint32_t i = 0; i < party->path_count && !member; i++) {
            const struct lab_path *path = &layout->paths[party->paths[i]];
            member = path->has[LAB_HOP_LOCAL] && path->channel[LAB_HOP_LOCAL].transport->caps & LAB_CAP_WORLD;
        }
        party->rank = member ? (int)layout->ranks++ : -1;
    }
    for (uint32_t i = 0; i < layout->path_count; i++) {
        struct lab_path *path = &layout->paths[i];
        for (int role = 0; role < 2; role++) {
            const struct lab_party *party = lab_layout_party(layout, path->party[role]);
            path->channel[LAB_HOP_LOCAL].rank[role] = party ? party->rank : -1;
        }
    }
}

/* Each party either sends or receives; seats are given in the order of parties. */
static int seat_parties(const struct maker *m, uint32_t ret_seats[2])
{
    struct lab_layout *layout = m->layout;
    const struct lab_pattern *pattern = layout->pattern;
    for (uint32_t p = 0; p < layout->party_count; p++)
        layout->parties[p].idle = true;
    for (size_t e = 0; e < m->assign->n_edges; e++) {
        uint32_t asks = m->assign->edges[e]->client, answers = m->assign->edges[e]->server;
        uint32_t index[2] = {pattern->servers_send ? answers : asks, pattern->servers_send ? asks : answers};
        for (int role = 0; role < 2; role++) {
            struct lab_party *party = index[role] < layout->party_count ? &layout->parties[index[role]] : NULL;
            if (!party || layout->nodes_talk || m->assign->nodes > 1)
                return lab_refuse(EPROTO, "%s joins workers of one node", pattern->name);
            if (!party->idle && (int)party->role != role)
                return lab_refuse(EPROTO, "in %s party %u would both send and receive", pattern->name, party->index);
            party->idle = false;
            party->role = (enum lab_role)role;
        }
    }
    for (uint32_t p = 0; p < layout->party_count; p++)
        if (!layout->parties[p].idle)
            layout->parties[p].seat = ret_seats[layout->parties[p].role]++;
    return ret_seats[LAB_TX] && ret_seats[LAB_RX] ? 0 : lab_refuse(EPROTO, "%s without edges", pattern->name);
}

static int share_channel(const struct maker *m)
{
    struct lab_layout *layout = m->layout;
    const Lab__Cell *cell = m->assign->cell;
    uint32_t seats[2] = {0, 0}, first[2] = {0, 0};
    int err = seat_parties(m, seats);
    if (err)
        return err;
    layout->touched = calloc(1, sizeof *layout->touched); /* path 0, of everyone */
    if (!layout->touched)
        return lab_fail(ENOMEM, "no memory for a path");
    for (uint32_t p = layout->party_count; p-- > 0;) {
        struct lab_party *party = &layout->parties[p];
        if (party->idle)
            continue;
        party->paths = layout->touched;
        party->path_count = 1;
        first[party->role] = party->index;
    }
    err = add_path(m, 0, first[LAB_TX], first[LAB_RX], (struct flow){(uint32_t)cell->size_bytes, cell->window, cell->batch});
    if (!err) {
        struct lab_channel *shared = &layout->paths[0].channel[LAB_HOP_LOCAL];
        memcpy(shared->seats, seats, sizeof seats);
        shared->sharing = layout->pattern->sharing;
    }
    return err;
}

/* Two paths for each edge; who talks to itself has one. */
static int lay_paths(const struct maker *m)
{
    const Lab__Cell *cell = m->assign->cell;
    const struct lab_pattern *pattern = m->layout->pattern;
    uint32_t size = (uint32_t)cell->size_bytes;
    int err = 0;
    for (uint32_t e = 0; !err && e < m->assign->n_edges; e++) {
        const Lab__Edge *edge = m->assign->edges[e];
        err = add_path(m, 2 * e, edge->client, edge->server, (struct flow){size, cell->window, cell->batch});
        if (!err && edge->client != edge->server)
            /* Answers go one by one. */
            err = add_path(m, 2 * e + 1, edge->server, edge->client, (struct flow){pattern->reply_bytes(size), pattern->reply_window(cell->window), 1});
    }
    return err ? err : share_paths(m->layout);
}

static void find_probed(const struct maker *m)
{
    struct lab_layout *layout = m->layout;
    if (layout->nodes_talk || layout->shared || m->assign->n_edges != 1)
        return;
    const struct lab_party *client = lab_layout_party(layout, m->assign->edges[0]->client);
    const struct lab_party *server = lab_layout_party(layout, m->assign->edges[0]->server);
    layout->probed = client && server && client != server && client->cpu >= 0 && server->cpu >= 0 && client->cpu != server->cpu;
}

int lab_layout_make(const Lab__Assign *assign, uint32_t epoch, uint32_t node, struct lab_layout *ret_layout)
{
    int err = check(assign, node);
    if (err)
        return err;
    const Lab__Cell *cell = assign->cell;
    struct lab_layout layout = {
        .node = node, .nodes_talk = assign->workers_per_node == 0, .pattern = lab_pattern_named(cell->pattern),
        .party_count = assign->workers_per_node ? assign->workers_per_node : 1,
    };
    struct maker m = {.assign = assign, .epoch = epoch, .transport = lab_transport_named(cell->transport), .link = lab_transport_named(cell->link), .layout = &layout};
    if (!m.transport || !layout.pattern)
        return lab_refuse(EPROTO, "there is no transport '%s' or no pattern '%s' here", cell->transport, cell->pattern);
    if (layout.nodes_talk)
        m.link = m.transport;
    err = lab_wait_named(cell->wait, &m.wait);
    if (!err)
        err = lab_unit_named(cell->unit, &layout.unit);
    if (!err)
        err = lab_backing_named(cell->backing, &m.backing);
    if (err)
        return err;
    if (layout.nodes_talk && layout.unit != LAB_UNIT_PROCESS)
        return lab_refuse(EPROTO, "the nodes themselves talk, and the unit is %s", cell->unit);

    layout.parties = calloc(layout.party_count, sizeof *layout.parties);
    layout.paths = calloc(assign->n_edges * 2 + 1, sizeof *layout.paths);
    if (!layout.parties || !layout.paths)
        err = lab_fail(ENOMEM, "no memory for %u workers and %zu edges", layout.party_count, assign->n_edges);
    for (uint32_t p = 0; !err && p < layout.party_count; p++) {
        uint32_t index = node * layout.party_count + p;
        layout.parties[p] = (struct lab_party){.index = index, .cpu = assign->places[index]->cpu, .rank = -1};
    }
    layout.shared = layout.pattern->sharing != LAB_NOT_SHARED;
    if (!err)
        err = layout.shared ? share_channel(&m) : lay_paths(&m);
    if (err) {
        lab_layout_fini(&layout);
        return err;
    }
    rank_workers(&layout);
    if (layout.ranks && layout.unit != LAB_UNIT_PROCESS) {
        lab_layout_fini(&layout);
        return lab_refuse(EPROTO, "%s joins processes, and the unit is %s", cell->transport, cell->unit);
    }
    find_probed(&m);
    *ret_layout = layout;
    return 0;
}

void lab_layout_fini(struct lab_layout *layout)
{
    free(layout->parties);
    free(layout->paths);
    free(layout->touched);
    *layout = (struct lab_layout){0};
}

const struct lab_path *lab_layout_path(const struct lab_layout *layout, uint32_t number, uint32_t *ret_index)
{
    uint32_t low = 0, high = layout->path_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (layout->paths[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_index = low;
    return low < layout->path_count && layout->paths[low].number == number ? &layout->paths[low] : NULL;
}
