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

/* Party 2i asks 2i + 1; an odd one is idle. */
static size_t pairs_count(uint32_t parties)
{
    return parties / 2;
}

static void pairs_edges(uint32_t parties, struct lab_edge *ret_edges)
{
    for (uint32_t pair = 0; pair < parties / 2; pair++)
        ret_edges[pair] = (struct lab_edge){.client = 2 * pair, .server = 2 * pair + 1};
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

/* Each party is the client of the next. */
static size_t line_count(uint32_t parties)
{
    return parties - 1;
}

static void line_edges(uint32_t parties, struct lab_edge *ret_edges)
{
    for (uint32_t party = 0; party + 1 < parties; party++)
        ret_edges[party] = (struct lab_edge){.client = party, .server = party + 1};
}

/* A binary heap: each party but the first is the client of its parent. The leaves' edges come first, so that whoever takes turns in
 * the order of edges has heard its children before it asks its parent. */
static size_t tree_count(uint32_t parties)
{
    return parties - 1;
}

static void tree_edges(uint32_t parties, struct lab_edge *ret_edges)
{
    for (uint32_t child = parties - 1; child > 0; child--)
        *ret_edges++ = (struct lab_edge){.client = child, .server = (child - 1) / 2};
}

/* The rows of the rectangle nearest to a square that holds exactly `parties`; a prime number lies in one row. */
static uint32_t rows_of(uint32_t parties)
{
    uint32_t rows = 1;
    for (uint32_t r = 2; r * r <= parties; r++)
        if (parties % r == 0)
            rows = r;
    return rows;
}

/* Each party of a rectangle is the client of those to its right and below it; `wrap`: of those at the other end, too. A circle of
 * two would be one edge twice. */
static size_t rectangle(uint32_t parties, bool wrap, struct lab_edge *ret_edges)
{
    uint32_t rows = rows_of(parties), columns = parties / rows;
    size_t count = 0;
    for (uint32_t party = 0; party < parties; party++) {
        uint32_t row = party / columns, column = party % columns;
        const struct lab_edge right = {.client = party, .server = row * columns + (column + 1) % columns};
        const struct lab_edge below = {.client = party, .server = (row + 1) % rows * columns + column};
        bool edge_right = column + 1 < columns || (wrap && columns > 2), edge_below = row + 1 < rows || (wrap && rows > 2);
        if (edge_right && ret_edges)
            ret_edges[count] = right;
        count += edge_right;
        if (edge_below && ret_edges)
            ret_edges[count] = below;
        count += edge_below;
    }
    return count;
}

static size_t grid_count(uint32_t parties)
{
    return rectangle(parties, false, NULL);
}

static void grid_edges(uint32_t parties, struct lab_edge *ret_edges)
{
    rectangle(parties, false, ret_edges);
}

static size_t torus_count(uint32_t parties)
{
    return rectangle(parties, true, NULL);
}

static void torus_edges(uint32_t parties, struct lab_edge *ret_edges)
{
    rectangle(parties, true, ret_edges);
}

/* Each party is the client of those whose number has one bit more. Of a number of parties that is no power of two the cube lacks
 * corners and stays connected (H. P. Katseff, "Incomplete Hypercubes", 1988). */
static size_t cube(uint32_t parties, struct lab_edge *ret_edges)
{
    size_t count = 0;
    for (uint32_t party = 0; party < parties; party++) {
        for (uint32_t bit = 1; bit < parties; bit <<= 1) {
            bool edge = !(party & bit) && (party | bit) < parties;
            if (edge && ret_edges)
                ret_edges[count] = (struct lab_edge){.client = party, .server = party | bit};
            count += edge;
        }
    }
    return count;
}

static size_t hypercube_count(uint32_t parties)
{
    return cube(parties, NULL);
}

static void hypercube_edges(uint32_t parties, struct lab_edge *ret_edges)
{
    cube(parties, ret_edges);
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
    {"pair", "one edge, between the first and the last party", pair_count, pair_edges, 2, true},
    {"pairs", "every second party talks to the next: edges that have nothing in common", pairs_count, pairs_edges, 2, false},
    {"star", "every party talks to the first, which serves them all", star_count, star_edges, 2, true},
    {"ring", "every party talks to the next, the last to the first", ring_count, ring_edges, 3, false},
    {"line", "every party talks to the next", line_count, line_edges, 2, true},
    {"tree", "every party talks to its parent in a binary tree, of which the first is the root", tree_count, tree_edges, 2, true},
    {"grid", "every party talks to its neighbours in a rectangle, as nearly square as it can be", grid_count, grid_edges, 2, false},
    {"torus", "a grid whose rows and columns are closed to rings", torus_count, torus_edges, 3, false},
    {"hypercube", "every party talks to those whose number differs in one bit", hypercube_count, hypercube_edges, 2, false},
    {"mesh", "every party talks to every other", mesh_count, mesh_edges, 2, false},
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
