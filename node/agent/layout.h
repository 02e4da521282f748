/* What an ASSIGN means for one node: its parties, and every one-way path that touches it. Pure data, made from the message
 * alone, so that all nodes of a run derive the same picture.
 *
 * Each edge gives two paths, forward (number 2e) and backward (2e + 1). Seen from one node a path has up to two channels:
 *
 *     both workers here          local                       worker ── local ──▶ worker
 *     sender here only           local (a leg), link         worker ── leg ──▶ relay ── link ──▶
 *     receiver here only         link, local (a leg)                    ── link ──▶ relay ── leg ──▶ worker
 *     the nodes themselves talk  link                        node thread ── link ──▶ node thread
 *
 * Of a pattern whose parties share one channel there is one path, local to this node, whatever the number of edges. */
#ifndef LAB_NODE_AGENT_LAYOUT_H
#define LAB_NODE_AGENT_LAYOUT_H

#include "node/pattern.h"
#include "node/transport.h"
#include "node/unit.h"
#include "proto/control.pb-c.h"

enum lab_hop { LAB_HOP_LOCAL, LAB_HOP_LINK, LAB_HOPS };

struct lab_path {
    uint32_t number;
    uint32_t party[2];               /* by role */
    bool here[2];                    /* whether that party is this node's, by role */
    bool has[LAB_HOPS];
    struct lab_channel channel[LAB_HOPS];
};

struct lab_party {
    uint32_t index;
    int32_t cpu;
    int rank;                        /* in the MPI world of this node's workers; -1: not in it */
    bool idle;                       /* no edge touches it */
    enum lab_role role;              /* in the channel that all share, and its seat there */
    uint32_t seat;
    const uint32_t *paths;           /* those with an end of its own, by their index in the layout, ascending */
    uint32_t path_count;
};

struct lab_layout {
    uint32_t node;
    bool nodes_talk;                 /* parties are threads of nodes */
    bool crosses;                    /* some edge of the launch crosses nodes */
    bool shared;                     /* one channel, path 0, of which each party has one end; its path names the first of each role */
    bool probed;                     /* one edge, two pinned processes of this node: the distance of their cores is probed */
    const struct lab_pattern *pattern;
    enum lab_unit unit;
    struct lab_party *parties; uint32_t party_count;   /* this node's */
    struct lab_path *paths; uint32_t path_count;       /* those with an end here, by number */
    uint32_t *touched;               /* behind the paths of the parties */
    uint32_t ranks;                  /* size of the MPI world of this node's workers; 0: none */
};

/* `epoch` is the launch's number; `assign` must outlive the layout. -EPROTO with the reason when the message makes no sense; nothing is left on failure. */
int lab_layout_make(const Lab__Assign *assign, uint32_t epoch, uint32_t node, struct lab_layout *ret_layout);
void lab_layout_fini(struct lab_layout *layout);

/* The party of this node that has that number in the run; NULL: it is another node's. */
const struct lab_party *lab_layout_party(const struct lab_layout *layout, uint32_t index);

/* The path of that number, NULL when none touches this node; `ret_index` is its place (or where it would be). */
const struct lab_path *lab_layout_path(const struct lab_layout *layout, uint32_t number, uint32_t *ret_index);

#endif
