#include "launcher/path.h"

#include "base/error.h"
#include "node/pattern.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char *host_of(const Lab__Assign *assign, uint32_t party)
{
    return assign->hosts[assign->workers_per_node ? party / assign->workers_per_node : party];
}

static bool goes_out(const Lab__Assign *assign, const Lab__Edge *edge)
{
    return strcmp(host_of(assign, edge->client), host_of(assign, edge->server)) != 0;
}

static bool any_goes_out(const Lab__Assign *assign)
{
    for (size_t e = 0; e < assign->n_edges; e++)
        if (goes_out(assign, assign->edges[e]))
            return true;
    return false;
}

/* Of what this side of an edge received; who talks to itself has no answers. */
static uint64_t payload_of(const Lab__Assign *assign, const Lab__EdgeOutcome *side)
{
    const Lab__Edge *edge = assign->edges[side->edge];
    const struct lab_pattern *pattern = lab_pattern_named(assign->cell->pattern);
    uint32_t size = (uint32_t)assign->cell->size_bytes;
    bool answers = side->client && edge->client != edge->server && !pattern->sharing;
    return side->received * (answers ? pattern->reply_bytes(size) : size);
}

/* Of messages between hosts, or of all. */
static int sum_payload(const struct lab_collect *collect, bool only_out, uint64_t *ret_bytes)
{
    uint64_t sum = 0;
    for (size_t n = 0; n < collect->nodes; n++) {
        for (size_t o = 0; o < collect->done[n]->n_outcomes; o++) {
            const Lab__Outcome *outcome = collect->done[n]->outcomes[o];
            for (size_t e = 0; e < outcome->n_edges; e++) {
                const Lab__EdgeOutcome *side = outcome->edges[e];
                if (side->edge >= collect->assign->n_edges)
                    return lab_refuse(EBADMSG, "node %zu tells of edge %u, and there are %zu", n, side->edge, collect->assign->n_edges);
                if (!only_out || goes_out(collect->assign, collect->assign->edges[side->edge]))
                    sum += payload_of(collect->assign, side);
            }
        }
    }
    *ret_bytes = sum;
    return 0;
}

/* Nodes of one network count the same packets, each from its own ASSIGN until its own end: the one that counted longest stands for all. */
static int sum_interfaces(const struct lab_collect *collect, uint64_t *ret_bytes, size_t *ret_networks)
{
    uint64_t sum = 0;
    size_t networks = 0;
    for (size_t n = 0; n < collect->nodes; n++) {
        const Lab__Moved *moved = collect->done[n]->moved;
        if (!moved || !moved->network[0])
            return lab_refuse(EBADMSG, "node %zu does not tell what its host's interfaces carried", n);
        bool most = true, first = true;
        for (size_t other = 0; other < collect->nodes; other++) {
            const Lab__Moved *its = collect->done[other]->moved;
            if (other == n || !its || strcmp(its->network, moved->network) != 0)
                continue;
            first = first && other > n;
            most = most && (its->received_bytes < moved->received_bytes || (its->received_bytes == moved->received_bytes && other > n));
        }
        networks += first;
        sum += most ? moved->received_bytes : 0;
    }
    *ret_bytes = sum;
    *ret_networks = networks;
    return 0;
}

int lab_path_prove(const struct lab_collect *collect, struct lab_launch *launch, char reason[LAB_PATH_REASON])
{
    static const char one_host[] = "these hosts are one, by several names", astray[] = "the messages left it, or others use its network",
                      shared_memory[] = "the messages took another way, which is shared memory where hosts share it";
    bool out = any_goes_out(collect->assign);
    uint64_t payload, moved;
    size_t networks;
    int err = sum_payload(collect, out, &payload);
    if (!err)
        err = sum_interfaces(collect, &moved, &networks);
    if (err)
        return err;
    reason[0] = '\0';
    if (out && moved < payload)
        snprintf(reason, LAB_PATH_REASON, "%llu bytes arrived from other hosts, and %llu over an interface: %s", (unsigned long long)payload,
                 (unsigned long long)moved, networks == 1 ? one_host : shared_memory);
    else if (!out && moved >= payload && moved > LAB_PATH_STRAY)
        snprintf(reason, LAB_PATH_REASON, "%llu bytes came over an interface while %llu were sent within the host: %s", (unsigned long long)moved,
                 (unsigned long long)payload, astray);
    launch->proof = lab_proof_name(reason[0] ? LAB_PROOF_REFUTED : out ? LAB_PROOF_INTERFACE : LAB_PROOF_HOST);
    launch->interface_bytes = moved;
    launch->payload_bytes = payload;
    return 0;
}
