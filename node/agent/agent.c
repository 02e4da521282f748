#include "node/agent/agent.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/version.h"
#include "node/agent/launch.h"
#include "node/agent/limits.h"
#include "node/agent/parent.h"
#include "node/agent/world.h"
#include "observe/host.h"
#include "observe/interface.h"
#include "proto/bus/bus.h"
#include "proto/codec.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEARTBEAT_MS = 250, SEND_WITHIN_MS = 500 };

/* What the GO of the current ASSIGN begins; nothing once it has come, or the launch is over: the launcher may say GO at the moment
 * at which this node says that it failed. */
enum due { DUE_NOTHING, DUE_LAUNCH, DUE_LIMITS, DUE_WORLD };

struct agent {
    const struct lab_agent_spec *spec;
    struct lab_bus *bus;
    struct lab_launch_run *launch;   /* NULL: none */
    enum lab_stage told;             /* the last stage the launcher was told of */
    struct lab_limits_run *limits;   /* NULL: none are being measured */
    struct lab_world_entry *entry;   /* NULL: not entering the MPI world now */
    enum due due;
    struct lab_parent parent;
    char network[LAB_NETWORK_TEXT];  /* whose interfaces a launch counts */
    uint32_t number;                 /* of the launch or of the limits */
    uint64_t beat_ns;                /* when the next heartbeat is due */
    bool leave;
};

/* The queue towards the launcher holds thousands of frames; full means that it does not read any more. */
static int say_about(struct agent *agent, uint32_t launch, Lab__Frame *frame)
{
    uint64_t deadline_ns = lab_now_ns() + SEND_WITHIN_MS * LAB_NS_PER_MS;
    frame->launch = launch;
    int err;
    while ((err = lab_bus_send(agent->bus, 0, frame)) == -EAGAIN && lab_now_ns() < deadline_ns)
        poll(NULL, 0, 1);
    return err == -EAGAIN ? lab_refuse(ETIMEDOUT, "the launcher does not take what node %u sends", agent->spec->node) : err;
}

static int say(struct agent *agent, Lab__Frame *frame)
{
    return say_about(agent, agent->number, frame);
}

static Lab__Frame frame_of(Lab__Frame__BodyCase body)
{
    Lab__Frame frame = LAB__FRAME__INIT;
    frame.body_case = body;
    return frame;
}

static int say_hello(struct agent *agent)
{
    struct lab_host_facts facts;
    int err = lab_host_read(&facts);
    if (!err)
        err = lab_network_name(facts.boot_id, agent->network);
    if (err)
        return err;
    Lab__Host host = LAB__HOST__INIT;
    host.name = facts.name;
    host.cpu = facts.cpu;
    host.cores = facts.cores;
    host.kernel = facts.kernel;
    host.memory_bytes = facts.memory_bytes;
    host.hypervisor = facts.hypervisor;
    host.shm_free_bytes = facts.shm_free_bytes;
    host.n_cpus = facts.cpu_count;
    host.cpus = facts.cpus;
    Lab__Hello hello = LAB__HELLO__INIT;
    hello.version = (char *)(uintptr_t)LAB_VERSION;
    hello.node = agent->spec->node;
    hello.host = &host;
    hello.boot_id = facts.boot_id;
    hello.rank = agent->spec->rank;
    Lab__Frame frame = frame_of(LAB__FRAME__BODY_HELLO);
    frame.hello = &hello;
    return say(agent, &frame);
}

static int say_fault(struct agent *agent, const Lab__Fault *fault)
{
    Lab__Frame frame = frame_of(LAB__FRAME__BODY_FAULT);
    frame.fault = (Lab__Fault *)(uintptr_t)fault;
    return say(agent, &frame);
}

static void describe(int err, char text[LAB_ERROR_TEXT], Lab__Fault *ret_fault)
{
    snprintf(text, LAB_ERROR_TEXT, "%s", lab_error_last()->code ? lab_error_last()->text : strerror(-err));
    *ret_fault = (Lab__Fault)LAB__FAULT__INIT;
    ret_fault->error = -err;
    ret_fault->text = text;
    ret_fault->party = -1;
}

static int say_error(struct agent *agent, int err)
{
    Lab__Fault fault;
    char text[LAB_ERROR_TEXT];
    describe(err, text, &fault);
    return say_fault(agent, &fault);
}

/* The reason of a node that ends: a fault of no launch. Who is to read it may be gone, and the error record stays what it was. */
static void say_last_words(struct agent *agent, int err)
{
    struct lab_error why = *lab_error_last();
    Lab__Fault fault;
    char text[LAB_ERROR_TEXT];
    describe(err, text, &fault);
    Lab__Frame frame = frame_of(LAB__FRAME__BODY_FAULT);
    frame.fault = &fault;
    if (lab_bus_alive(agent->bus))
        say_about(agent, 0, &frame);
    if (why.code)
        lab_refuse_at(why.file, why.line, why.code, "%s", why.text);
}

/* ---- what the launch has come to ---- */

static int end_launch(struct agent *agent)
{
    struct lab_launch_run *launch = agent->launch;
    agent->launch = NULL;
    agent->due = DUE_NOTHING;
    return lab_launch_end(launch);
}

static int say_listen(struct agent *agent)
{
    Lab__Listen listen;
    Lab__Endpoint **endpoints = calloc(lab_launch_endpoint_count(agent->launch) + 1, sizeof *endpoints);
    if (!endpoints)
        return lab_fail(ENOMEM, "no memory for addresses");
    lab_launch_endpoints(agent->launch, &listen, endpoints);
    Lab__Frame frame = frame_of(LAB__FRAME__BODY_LISTEN);
    frame.listen = &listen;
    int err = say(agent, &frame);
    free(endpoints);
    return err;
}

static int say_ready(struct agent *agent)
{
    Lab__Ready ready = LAB__READY__INIT;
    ready.parties = agent->launch ? lab_launch_party_count(agent->launch) : 0;
    Lab__Frame frame = frame_of(LAB__FRAME__BODY_READY);
    frame.ready = &ready;
    return say(agent, &frame);
}

static int say_done(struct agent *agent)
{
    Lab__Done done = LAB__DONE__INIT;
    Lab__Moved moved = LAB__MOVED__INIT;
    if (agent->launch) {
        moved.network = agent->network;
        done.moved = &moved;
        lab_launch_done(agent->launch, &done);
    }
    Lab__Frame frame = frame_of(LAB__FRAME__BODY_DONE);
    frame.done = &done;
    return say(agent, &frame);
}

static int report_stage(struct agent *agent)
{
    enum lab_stage stage = lab_launch_stage(agent->launch);
    if (stage == agent->told)
        return 0;
    agent->told = stage;
    int err = 0;
    switch (stage) {
    case LAB_STAGE_LISTENING:
        return say_listen(agent);
    case LAB_STAGE_READY:
        return say_ready(agent);
    case LAB_STAGE_DONE:
        err = say_done(agent);
        return err ? err : end_launch(agent);
    case LAB_STAGE_FAILED:
        err = say_fault(agent, lab_launch_fault(agent->launch));
        return err ? err : end_launch(agent);
    default:
        return 0;
    }
}

/* ---- what the launcher says ---- */

static int begin(struct agent *agent, Lab__Frame *frame)
{
    const Lab__Assign *assign = frame->assign;
    int err = 0;
    if (agent->launch || agent->limits || agent->entry)
        err = lab_refuse(EPROTO, "an ASSIGN arrived while launch %u was running", agent->number);
    else if (frame->launch <= agent->number)
        err = lab_refuse(EPROTO, "an ASSIGN of launch %u arrived after launch %u", frame->launch, agent->number);
    if (err) {
        lab_codec_free(frame);
        return err;
    }
    agent->number = frame->launch;
    agent->told = LAB_STAGE_OPENING;
    agent->due = assign->world ? DUE_WORLD : assign->limits ? DUE_LIMITS : DUE_LAUNCH;
    if (agent->due != DUE_LAUNCH) {
        lab_codec_free(frame);
        return say_ready(agent);
    }
    err = lab_launch_begin(frame, agent->spec->node, agent->spec->worker_path, &agent->launch);
    if (!err)
        return 0;
    agent->due = DUE_NOTHING;
    return say_error(agent, err);
}

static int go(struct agent *agent)
{
    enum due due = agent->due;
    int err = 0;
    if (due == DUE_LAUNCH && lab_launch_stage(agent->launch) != LAB_STAGE_READY)
        return 0; /* it has failed, and the launcher is about to be told */
    agent->due = DUE_NOTHING;
    switch (due) {
    case DUE_LAUNCH:
        lab_launch_go(agent->launch); /* a failure is a stage of the launch, and reported as such */
        return 0;
    case DUE_LIMITS:
        err = lab_limits_begin(&agent->limits);
        break;
    case DUE_WORLD:
        err = lab_world_enter(&agent->entry);
        break;
    default:
        break;
    }
    return err ? say_error(agent, err) : 0;
}

static int abandon(struct agent *agent)
{
    int err = agent->launch ? end_launch(agent) : 0;
    agent->due = DUE_NOTHING;
    lab_limits_end(agent->limits);
    agent->limits = NULL;
    if (!err)
        err = lab_world_entry_end(agent->entry);
    agent->entry = NULL;
    return err ? err : say_done(agent);
}

/* Takes the frame over. */
static int obey(struct agent *agent, Lab__Frame *frame)
{
    if (frame->body_case == LAB__FRAME__BODY_ASSIGN)
        return begin(agent, frame);
    int err = 0;
    bool current = frame->launch == agent->number;
    switch (frame->body_case) {
    case LAB__FRAME__BODY_CONNECT:
        if (current && agent->launch && lab_launch_stage(agent->launch) == LAB_STAGE_LISTENING)
            lab_launch_connect(agent->launch, frame->connect);
        break;
    case LAB__FRAME__BODY_GO:
        err = current ? go(agent) : 0;
        break;
    case LAB__FRAME__BODY_ABORT:
        err = current ? abandon(agent) : 0;
        break;
    case LAB__FRAME__BODY_BYE:
        agent->leave = true;
        break;
    default:
        err = lab_refuse(EPROTO, "the launcher sent frame %d, which only nodes send", (int)frame->body_case);
    }
    lab_codec_free(frame);
    return err;
}

static int listen_to_launcher(struct agent *agent)
{
    Lab__Frame *frame;
    uint32_t from;
    int err = 0;
    while (!err && !agent->leave && (err = lab_bus_receive(agent->bus, &from, &frame)) == 0)
        err = obey(agent, frame);
    return err == -EAGAIN ? 0 : err;
}

/* ---- limits ---- */

static int finish_limits(struct agent *agent)
{
    Lab__Limits limits = LAB__LIMITS__INIT;
    limits.node = agent->spec->node;
    int failed = lab_limits_collect(agent->limits, &limits), err;
    if (failed == -EAGAIN)
        return 0;
    if (failed) {
        err = say_error(agent, failed);
    } else {
        Lab__Frame frame = frame_of(LAB__FRAME__BODY_LIMITS);
        frame.limits = &limits;
        err = say(agent, &frame);
    }
    lab_limits_end(agent->limits);
    agent->limits = NULL;
    return err || failed ? err : say_done(agent);
}

static int finish_entry(struct agent *agent)
{
    int failed = lab_world_entered(agent->entry);
    if (failed == -EAGAIN)
        return 0;
    int err = failed ? say_error(agent, failed) : say_done(agent);
    lab_world_entry_end(agent->entry);
    agent->entry = NULL;
    return err;
}

/* ---- the loop ---- */

static int wait_for_news(struct agent *agent)
{
    struct pollfd polls[] = {
        {.fd = lab_bus_fd(agent->bus), .events = POLLIN},
        {.fd = agent->parent.fd, .events = POLLIN},
        {.fd = agent->limits ? lab_limits_fd(agent->limits) : -1, .events = POLLIN},
        {.fd = agent->entry ? lab_world_entry_fd(agent->entry) : -1, .events = POLLIN},
        {.fd = agent->launch ? lab_launch_fd(agent->launch) : -1, .events = POLLIN},
    };
    int wait_ms = agent->launch && lab_launch_restless(agent->launch) ? 0 : lab_ms_until(agent->beat_ns);
    if (poll(polls, sizeof polls / sizeof *polls, wait_ms) < 0 && errno != EINTR)
        return lab_fail(errno, "cannot wait for news");
    return 0;
}

static int beat(struct agent *agent)
{
    if (lab_now_ns() < agent->beat_ns)
        return 0;
    agent->beat_ns = lab_now_ns() + HEARTBEAT_MS * LAB_NS_PER_MS;
    if (!lab_bus_alive(agent->bus))
        return lab_bus_turned_away(agent->bus) ? lab_refuse(EPERM, "the launcher has other keys than this host: copy its own (ipclab keys says where they are)")
                                               : lab_refuse(ECONNRESET, "the launcher is gone");
    Lab__Progress progress = LAB__PROGRESS__INIT;
    Lab__Frame frame = frame_of(LAB__FRAME__BODY_PROGRESS);
    frame.progress = &progress;
    return say(agent, &frame);
}

/* The launch has come to a stage that the launcher does not know of. */
static bool untold(const struct agent *agent)
{
    return agent->launch && lab_launch_stage(agent->launch) != agent->told;
}

static int serve(struct agent *agent)
{
    int err = say_hello(agent);
    while (!err && !agent->leave) {
        err = listen_to_launcher(agent);
        if (!err && agent->launch)
            lab_launch_step(agent->launch);
        while (!err && untold(agent))
            err = report_stage(agent);
        if (!err && agent->limits)
            err = finish_limits(agent);
        if (!err && agent->entry)
            err = finish_entry(agent);
        if (!err)
            err = beat(agent);
        if (!err && !agent->leave && lab_parent_gone(&agent->parent))
            err = lab_refuse(ECHILD, "%s (process %d), which had started node %u, has ended", agent->parent.name, (int)agent->parent.pid,
                             agent->spec->node);
        /* What was sent may have been answered already: the bus descriptor only tells of changes. */
        if (!err)
            err = listen_to_launcher(agent);
        if (!err && !agent->leave && !untold(agent))
            err = wait_for_news(agent);
    }
    return err;
}

int lab_agent_run(const struct lab_agent_spec *spec)
{
    struct agent agent = {.spec = spec};
    int err = lab_bus_join(spec->control, spec->node, spec->keys, &agent.bus);
    if (spec->keys)
        lab_keys_forget(spec->keys);
    if (err)
        return err;
    lab_parent_watch(&agent.parent);
    agent.beat_ns = lab_now_ns() + HEARTBEAT_MS * LAB_NS_PER_MS;
    err = serve(&agent);
    if (err)
        say_last_words(&agent, err);
    int ended = agent.launch ? end_launch(&agent) : 0;
    lab_limits_end(agent.limits);
    if (!ended)
        ended = lab_world_entry_end(agent.entry);
    lab_bus_close(agent.bus);
    lab_parent_fini(&agent.parent);
    return err ? err : ended;
}
