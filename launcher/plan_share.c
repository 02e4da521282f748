/* Whether the parties of a cell can share one channel, as its pattern has it. */
#include "launcher/plan_share.h"

#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

LAB_PRINTF(1, 2) static char *sentence(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    return text;
}

/* What each party does: sends, receives, or, which cannot be, both. */
enum { SENDS = 1, RECEIVES = 2 };

static int count_roles(const struct lab_plan_cell *cell, uint32_t ret_count[4])
{
    size_t edge_count = cell->topology->edge_count(cell->parties);
    struct lab_edge *edges = calloc(edge_count + 1, sizeof *edges);
    unsigned char *roles = calloc(cell->parties + 1, 1);
    if (!edges || !roles) {
        free(edges);
        free(roles);
        return lab_fail(ENOMEM, "no memory for %u parties", cell->parties);
    }
    cell->topology->edges(cell->parties, edges);
    for (size_t e = 0; e < edge_count; e++) {
        roles[edges[e].client] |= cell->pattern->servers_send ? RECEIVES : SENDS;
        roles[edges[e].server] |= cell->pattern->servers_send ? SENDS : RECEIVES;
    }
    for (uint32_t party = 0; party < cell->parties; party++)
        ret_count[roles[party]]++;
    free(edges);
    free(roles);
    return 0;
}

static char *refusal(const struct lab_plan_cell *cell, const uint32_t count[4])
{
    const struct lab_pattern *pattern = cell->pattern;
    const struct lab_transport *transport = cell->transport;
    bool to_all = pattern->sharing == LAB_TO_ALL;
    uint32_t senders = count[SENDS], receivers = count[RECEIVES];
    if (count[SENDS | RECEIVES])
        return sentence("in %s a party either sends or receives, and in a %s some do both", pattern->name, cell->topology->name);
    if (pattern->single_sender && senders != 1)
        return sentence("%s has one sender, and a %s of %u makes %u", pattern->name, cell->topology->name, cell->parties, senders);
    if (pattern->single_receiver && receivers != 1)
        return sentence("%s has one receiver, and a %s of %u makes %u", pattern->name, cell->topology->name, cell->parties, receivers);
    if (senders > 1 && !(transport->caps & LAB_CAP_PRODUCERS))
        return sentence("a channel of %s has one sender, and a %s of %u makes %u", transport->name, cell->topology->name, cell->parties, senders);
    if (receivers > 1 && !(transport->caps & (to_all ? LAB_CAP_READERS : LAB_CAP_CONSUMERS)))
        return sentence("%s does not carry a message to %s of several receivers", transport->name, to_all ? "every one" : "one");
    if (senders > 1 && receivers > 1 && transport->caps & LAB_CAP_HUB)
        return sentence("%s joins many to one or one to many: between %u senders and %u receivers it would take somebody in the middle",
                        transport->name, senders, receivers);
    return NULL;
}

int lab_plan_share(struct lab_plan_cell *cell, char **ret_refusal)
{
    const char *name = cell->pattern->name;
    uint32_t count[4] = {0};
    *ret_refusal = NULL;
    if (cell->transport->caps & LAB_CAP_SELF)
        *ret_refusal = sentence("%s carries messages to itself, and %s takes several parties", cell->transport->name, name);
    else if (cell->nodes > 1 || !cell->workers)
        *ret_refusal = sentence("%s is for workers of one node, which share one channel", name);
    else {
        int err = count_roles(cell, count);
        if (err)
            return err;
        cell->seats[LAB_TX] = count[SENDS];
        cell->seats[LAB_RX] = count[RECEIVES];
        *ret_refusal = refusal(cell, count);
    }
    return 0;
}
