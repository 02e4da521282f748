#include "launcher/peers.h"

#include "base/error.h"
#include "proto/codec.h"

#include <errno.h>
#include <stdlib.h>

struct peer {
    Lab__Frame *hello, *listen, *done, *fault; /* owned */
    enum lab_peer_stage stage;
};

struct lab_peers {
    uint32_t nodes, launch, taking_part;
    enum lab_launch_kind kind;
    bool connected, gone, aborted; /* CONNECT, GO, ABORT have been said */
    Lab__Frame *limits;            /* owned */
    const Lab__Done **outcomes;
    struct peer peer[];
};

int lab_peers_new(uint32_t nodes, struct lab_peers **ret_peers)
{
    struct lab_peers *peers = calloc(1, sizeof *peers + nodes * sizeof peers->peer[0]);
    const Lab__Done **outcomes = calloc(nodes + 1, sizeof *outcomes);
    if (!peers || !outcomes) {
        free(peers);
        free(outcomes);
        return lab_fail(ENOMEM, "no memory for %u nodes", nodes);
    }
    peers->nodes = nodes;
    peers->outcomes = outcomes;
    *ret_peers = peers;
    return 0;
}

static void forget(Lab__Frame **frame)
{
    lab_codec_free(*frame);
    *frame = NULL;
}

static void forget_launch(struct lab_peers *peers)
{
    for (uint32_t n = 0; n < peers->nodes; n++) {
        forget(&peers->peer[n].listen);
        forget(&peers->peer[n].done);
        forget(&peers->peer[n].fault);
        peers->peer[n].stage = LAB_PEER_GREETED;
    }
    forget(&peers->limits);
}

void lab_peers_free(struct lab_peers *peers)
{
    if (!peers)
        return;
    forget_launch(peers);
    for (uint32_t n = 0; n < peers->nodes; n++)
        forget(&peers->peer[n].hello);
    free(peers->outcomes);
    free(peers);
}

/* ---- what the launcher says ---- */

void lab_peers_assign(struct lab_peers *peers, uint32_t launch, uint32_t taking_part, enum lab_launch_kind kind)
{
    forget_launch(peers);
    peers->launch = launch;
    peers->taking_part = taking_part < peers->nodes ? taking_part : peers->nodes;
    peers->kind = kind;
    peers->connected = peers->gone = peers->aborted = false;
    for (uint32_t n = 0; n < peers->taking_part; n++)
        peers->peer[n].stage = LAB_PEER_ASSIGNED;
}

void lab_peers_connect(struct lab_peers *peers)
{
    peers->connected = true;
}

void lab_peers_go(struct lab_peers *peers)
{
    peers->gone = true;
}

void lab_peers_abort(struct lab_peers *peers)
{
    peers->aborted = true;
}

/* ---- what nodes say ---- */

static const char *name_of(Lab__Frame__BodyCase body)
{
    switch ((int)body) {
    case LAB__FRAME__BODY_HELLO: return "HELLO";
    case LAB__FRAME__BODY_ASSIGN: return "ASSIGN";
    case LAB__FRAME__BODY_LISTEN: return "LISTEN";
    case LAB__FRAME__BODY_CONNECT: return "CONNECT";
    case LAB__FRAME__BODY_READY: return "READY";
    case LAB__FRAME__BODY_GO: return "GO";
    case LAB__FRAME__BODY_PROGRESS: return "PROGRESS";
    case LAB__FRAME__BODY_DONE: return "DONE";
    case LAB__FRAME__BODY_FAULT: return "FAULT";
    case LAB__FRAME__BODY_BYE: return "BYE";
    case LAB__FRAME__BODY_ABORT: return "ABORT";
    case LAB__FRAME__BODY_LIMITS: return "LIMITS";
    case LAB__FRAME__BODY_ENDED: return "ENDED";
    default: return "an unknown frame";
    }
}

/* What the launch waits for from this node. */
static const char *due(const struct lab_peers *peers, const struct peer *peer)
{
    switch (peer->stage) {
    case LAB_PEER_ASSIGNED: return peers->kind == LAB_LAUNCH_LISTENS ? "LISTEN was due" : "READY was due";
    case LAB_PEER_LISTENING: return peers->connected ? "READY was due" : "it was to wait for CONNECT";
    case LAB_PEER_READY: return peers->gone ? "DONE was due" : "it was to wait for GO";
    case LAB_PEER_DONE: return "it was done with the launch";
    case LAB_PEER_FAULTED: return "it had given the launch up";
    default: return "it takes no part in the launch";
    }
}

static int refuse(const struct lab_peers *peers, uint32_t node, const Lab__Frame *frame)
{
    return lab_refuse(EPROTO, "node %u said %s where %s (launch %u)", node, name_of(frame->body_case), due(peers, &peers->peer[node]), peers->launch);
}

static int hear_hello(struct lab_peers *peers, uint32_t node, Lab__Frame *frame)
{
    struct peer *peer = &peers->peer[node];
    if (peer->hello)
        return lab_refuse(EPROTO, "node %u said HELLO a second time", node);
    if (frame->hello->node != node)
        return lab_refuse(EPROTO, "node %u said in its HELLO that it is node %u", node, frame->hello->node);
    peer->hello = frame;
    return 0;
}

/* Whether this is the node's turn to say that; a stage that it brings the node to. */
static bool in_turn(const struct lab_peers *peers, const struct peer *peer, Lab__Frame__BodyCase body, enum lab_peer_stage *ret_stage)
{
    bool assigned = peer->stage == LAB_PEER_ASSIGNED, listens = peers->kind == LAB_LAUNCH_LISTENS;
    *ret_stage = peer->stage;
    switch ((int)body) {
    case LAB__FRAME__BODY_LISTEN:
        *ret_stage = LAB_PEER_LISTENING;
        return assigned && listens;
    case LAB__FRAME__BODY_READY:
        *ret_stage = LAB_PEER_READY;
        return listens ? peer->stage == LAB_PEER_LISTENING && peers->connected : assigned;
    case LAB__FRAME__BODY_LIMITS:
        return peers->kind == LAB_LAUNCH_LIMITS && peer->stage == LAB_PEER_READY && peers->gone && !peers->limits;
    case LAB__FRAME__BODY_DONE:
        *ret_stage = LAB_PEER_DONE;
        return peer->stage == LAB_PEER_READY && peers->gone;
    case LAB__FRAME__BODY_FAULT:
        *ret_stage = LAB_PEER_FAULTED;
        return peer->stage != LAB_PEER_GREETED && peer->stage < LAB_PEER_DONE;
    default:
        return false;
    }
}

static Lab__Frame **place_of(struct lab_peers *peers, struct peer *peer, Lab__Frame__BodyCase body)
{
    switch ((int)body) {
    case LAB__FRAME__BODY_LISTEN: return &peer->listen;
    case LAB__FRAME__BODY_LIMITS: return &peers->limits;
    case LAB__FRAME__BODY_DONE: return &peer->done;
    case LAB__FRAME__BODY_FAULT: return &peer->fault;
    default: return NULL;
    }
}

/* What a node may still have had under way when ABORT reached it. */
static bool crossed_abort(const struct lab_peers *peers, const struct peer *peer, Lab__Frame__BodyCase body)
{
    return peers->aborted && peer->stage != LAB_PEER_GREETED &&
           (body == LAB__FRAME__BODY_LISTEN || body == LAB__FRAME__BODY_READY || body == LAB__FRAME__BODY_LIMITS ||
            body == LAB__FRAME__BODY_DONE || body == LAB__FRAME__BODY_FAULT);
}

/* `*ret_kept`: the frame has found its place, else it is the caller's. */
static int hear_launch(struct lab_peers *peers, uint32_t node, Lab__Frame *frame, const Lab__Fault **ret_fault, bool *ret_kept)
{
    struct peer *peer = &peers->peer[node];
    enum lab_peer_stage stage;
    if (frame->launch > peers->launch)
        return lab_refuse(EPROTO, "node %u said %s of launch %u, and this is launch %u", node, name_of(frame->body_case), frame->launch, peers->launch);
    if (frame->body_case == LAB__FRAME__BODY_PROGRESS || frame->launch < peers->launch)
        return 0;
    if (!peer->hello)
        return lab_refuse(EPROTO, "node %u said %s before HELLO", node, name_of(frame->body_case));
    if (!in_turn(peers, peer, frame->body_case, &stage) && !crossed_abort(peers, peer, frame->body_case))
        return refuse(peers, node, frame);
    Lab__Frame **place = place_of(peers, peer, frame->body_case);
    if (place && !*place) {
        *place = frame;
        *ret_kept = true;
        *ret_fault = frame->body_case == LAB__FRAME__BODY_FAULT ? frame->fault : NULL;
    }
    if (stage > peer->stage)
        peer->stage = stage;
    return 0;
}

int lab_peers_hear(struct lab_peers *peers, uint32_t node, Lab__Frame *frame, const Lab__Fault **ret_fault)
{
    bool hello = frame->body_case == LAB__FRAME__BODY_HELLO, kept = false;
    int err;
    *ret_fault = NULL;
    if (node >= peers->nodes)
        err = lab_refuse(EPROTO, "node %u said %s, and there are %u nodes", node, name_of(frame->body_case), peers->nodes);
    else if (hello)
        kept = (err = hear_hello(peers, node, frame)) == 0;
    else
        err = hear_launch(peers, node, frame, ret_fault, &kept);
    if (!kept)
        lab_codec_free(frame);
    return err;
}

/* ---- how far they have come ---- */

bool lab_peers_at(const struct lab_peers *peers, uint32_t node, enum lab_peer_stage stage)
{
    return stage == LAB_PEER_GREETED ? peers->peer[node].hello != NULL : peers->peer[node].stage >= stage;
}

int32_t lab_peers_behind(const struct lab_peers *peers, enum lab_peer_stage stage)
{
    uint32_t count = stage == LAB_PEER_GREETED ? peers->nodes : peers->taking_part;
    for (uint32_t n = 0; n < count; n++)
        if (!lab_peers_at(peers, n, stage))
            return (int32_t)n;
    return -1;
}

const Lab__Hello *lab_peers_hello(const struct lab_peers *peers, uint32_t node)
{
    return peers->peer[node].hello ? peers->peer[node].hello->hello : NULL;
}

const Lab__Listen *lab_peers_listen(const struct lab_peers *peers, uint32_t node)
{
    return peers->peer[node].listen ? peers->peer[node].listen->listen : NULL;
}

const Lab__Limits *lab_peers_limits(const struct lab_peers *peers)
{
    return peers->limits ? peers->limits->limits : NULL;
}

const Lab__Done *const *lab_peers_done(struct lab_peers *peers)
{
    for (uint32_t n = 0; n < peers->nodes; n++)
        peers->outcomes[n] = peers->peer[n].done ? peers->peer[n].done->done : NULL;
    return peers->outcomes;
}
