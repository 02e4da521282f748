/* Who talks to whom. To add a topology: two functions and a row. */
#include "launcher/plan.h"

#include <string.h>

/* The first party asks, the last one answers; those between them are idle. */
static size_t pair_count(uint32_t parties)
{
    (void)parties;
    return 1;
}

static void pair_edges(uint32_t parties, struct lab_edge *ret_edges)
{
    ret_edges[0] = (struct lab_edge){.client = 0, .server = parties - 1};
}

/* Party 0 is the server of all others. */
static size_t star_count(uint32_t parties)
{
    return parties - 1;
}

static void star_edges(uint32_t parties, struct lab_edge *ret_edges)
{
    for (uint32_t leaf = 1; leaf < parties; leaf++)
        ret_edges[leaf - 1] = (struct lab_edge){.client = leaf, .server = 0};
}

/* Each party is the client of the next, the last of the first. */
static size_t ring_count(uint32_t parties)
{
    return parties;
}

static void ring_edges(uint32_t parties, struct lab_edge *ret_edges)
{
    for (uint32_t party = 0; party < parties; party++)
        ret_edges[party] = (struct lab_edge){.client = party, .server = (party + 1) % parties};
}

/* Each party is the client of every later one. */
static size_t mesh_count(uint32_t parties)
{
    return (size_t)parties * (parties - 1) / 2;
}

static void mesh_edges(uint32_t parties, struct lab_edge *ret_edges)
{
    for (uint32_t client = 0; client < parties; client++)
        for (uint32_t server = client + 1; server < parties; server++)
            *ret_edges++ = (struct lab_edge){.client = client, .server = server};
}

static const struct lab_topology topologies[] = {
    {"pair", "one edge, between the first and the last party", pair_count, pair_edges, 2},
    {"star", "every party talks to the first, which serves them all", star_count, star_edges, 2},
    {"ring", "every party talks to the next, the last to the first", ring_count, ring_edges, 3},
    {"mesh", "every party talks to every other", mesh_count, mesh_edges, 2},
};

const struct lab_topology *lab_topology_at(size_t index)
{
    return index < sizeof topologies / sizeof *topologies ? &topologies[index] : NULL;
}

const struct lab_topology *lab_topology_named(const char *name)
{
    const struct lab_topology *topology;
    for (size_t i = 0; (topology = lab_topology_at(i)); i++)
        if (strcmp(topology->name, name) == 0)
            return topology;
    return NULL;
}
