/* Whether the channels of a cell can be made: what their shared memory is made of, whether the transport has room for so much, and
 * whether this machine has enough of it. */
#include "launcher/plan_making.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- its channels ---- */

enum way { FORWARD, BACKWARD };

/* How many ways one of its channels has: of one that all share nobody answers. */
static int ways_of(const struct lab_plan_cell *cell)
{
    return cell->pattern->sharing ? 1 : 2;
}

/* As node/agent/layout.c has it. */
static struct lab_channel channel_of(const struct lab_plan_cell *cell, enum way way)
{
    uint32_t size = (uint32_t)cell->size_bytes;
    struct lab_channel channel = {
        .transport = cell->transport, .wait = cell->wait, .backing = cell->backing, .message_max = size, .window = cell->window,
        .batch = cell->batch, .seats = {cell->seats[LAB_TX], cell->seats[LAB_RX]}};
    if (way == BACKWARD) {
        channel.message_max = cell->pattern->reply_bytes(size);
        channel.window = cell->pattern->reply_window(cell->window);
        channel.batch = 1;
    }
    return channel;
}

/* What a transport of ours has no room for, messages, windows or parties, it says itself. */
static int check_room(struct lab_plan_making *making)
{
    const struct lab_plan_cell *cell = making->cell;
    const struct lab_transport_ops *ops = cell->transport->module ? NULL : lab_transport_ops(cell->transport);
    for (int way = 0; ops && ops->memory && way < ways_of(cell); way++) {
        struct lab_channel channel = channel_of(cell, (enum way)way);
        size_t bytes;
        if (ops->memory(&channel, &bytes))
            return lab_plan_skip(making, "%s: %s", cell->transport->name, lab_error_last()->text);
    }
    return 0;
}

/* ---- huge pages ---- */

/* Those that one way of an edge takes, at each of its `hops`. */
static int count_huge_pages(const struct lab_plan_making *making, enum way way, uint64_t hops, uint64_t *pages)
{
    struct lab_channel channel = channel_of(making->cell, way);
    size_t bytes, page = making->site->machine->huge_pages.size;
    int err = lab_transport_ops(making->cell->transport)->memory(&channel, &bytes);
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
        return lab_plan_no_memory();
    cell->topology->edges(cell->parties, edges);
    *ret_hops = count;
    for (size_t i = 0; i < count; i++)
        *ret_hops += edges[i].client / cell->workers != edges[i].server / cell->workers;
    free(edges);
    return 0;
}

static int check_huge_pages(struct lab_plan_making *making)
{
    const struct lab_huge_pages *there = &making->site->machine->huge_pages;
    char mend[LAB_HUGE_PAGES_TEXT];
    uint64_t wanted = 0, hops = 0;
    int err = count_hops(making->cell, &hops);
    if (err)
        return err;
    for (int way = 0; !err && there->size && way < ways_of(making->cell); way++)
        err = count_huge_pages(making, (enum way)way, hops, &wanted);
    if (err)
        return lab_plan_skip(making, "%s", lab_error_last()->text);
    return there->size && wanted <= there->free ? 0 : lab_plan_skip(making, "backing: %s", lab_huge_pages_mend(there, wanted, mend));
}

/* ---- the whole ---- */

static int take_backing(struct lab_plan_making *making)
{
    struct lab_plan_cell *cell = making->cell;
    const char *name = cell->asked[LAB_AXIS_BACKING];
    if (lab_backing_named(name, &cell->backing))
        return lab_plan_skip(making, "the backing %s is not in this version", name);
    if (cell->backing == LAB_BACKING_MEMFD)
        return 0;
    if (strcmp(cell->transport->name, cell->asked[LAB_AXIS_TRANSPORT]) != 0 || !(cell->transport->caps & LAB_CAP_BACKING))
        return lab_plan_skip(making, "backing: %s is what shared memory is made of, and %s has none of ours", name, cell->asked[LAB_AXIS_TRANSPORT]);
    if (lab_plan_elsewhere(making))
        return 0; /* what there is on other machines, they will tell */
    if (!making->site->machine->described && lab_backing_usable(cell->backing))
        return lab_plan_skip(making, "backing: %s: %s", name, lab_error_last()->text);
    return 0;
}

int lab_plan_back(struct lab_plan_making *making)
{
    int err = take_backing(making);
    if (!err)
        err = check_room(making);
    if (!err && making->cell->backing == LAB_BACKING_HUGEPAGE && !lab_plan_elsewhere(making))
        err = check_huge_pages(making);
    return err;
}
