#include "node/agent/launch_state.h"

#include "base/clock.h"
#include "proto/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXPLAIN_WITHIN_MS = 200, LEAVE_WITHIN_MS = 2000, GRACE_MS = 100, JOIN_WITHIN_MS = 1000 };

/* ---- failing ---- */

static void set_fault(struct lab_launch_run *launch, int err, int32_t party, uint32_t signal, const char *text, const char *where)
{
    snprintf(launch->fault_text, sizeof launch->fault_text, "%s", text);
    snprintf(launch->fault_where, sizeof launch->fault_where, "%s", where);
    launch->fault = (Lab__Fault)LAB__FAULT__INIT;
    launch->fault.error = err < 0 ? -err : err;
    launch->fault.party = party;
    launch->fault.signal = signal;
    launch->fault.text = launch->fault_text;
    launch->fault.where = launch->fault_where;
}

static void fail_with(struct lab_launch_run *launch, int err, int32_t party, uint32_t signal, const char *text, const char *where)
{
    if (launch->stage == LAB_STAGE_FAILED)
        return;
    launch->stage = LAB_STAGE_FAILED;
    set_fault(launch, err, party, signal, text, where);
}

/* Somebody's other side is gone. Who that was, and how it ended, says more: a killed process closes its sockets before its pidfd tells
 * of it, so the news of its death is waited for. */
static void suspect(struct lab_launch_run *launch, int32_t party, const char *text, const char *where)
{
    if (launch->stage == LAB_STAGE_FAILED || launch->suspected_ns)
        return;
    launch->suspected_ns = lab_now_ns() + EXPLAIN_WITHIN_MS * LAB_NS_PER_MS;
    set_fault(launch, EPIPE, party, 0, text, where);
}

static void fail_from_record(struct lab_launch_run *launch, int err, int32_t party)
{
    const struct lab_error *error = lab_error_last();
    char where[160];
    snprintf(where, sizeof where, "%s:%d", error->file ? error->file : "?", error->line);
    if (err == -EPIPE)
        suspect(launch, party, error->text, where);
    else
        fail_with(launch, err, party, 0, error->code ? error->text : strerror(-err), where);
}

/* ---- channels ---- */

static int provision(struct lab_launch_run *launch, uint32_t i, enum lab_hop hop)
{
    const struct lab_channel *channel = &launch->layout.paths[i].channel[hop];
    const struct lab_transport_ops *ops = lab_transport_ops(channel->transport);
    if (!ops)
        return -lab_error_last()->code;
    struct lab_wire *wire = &launch->wired[i].wire[hop];
    int err = ops->provision(channel, wire);
    if (err)
        return lab_while(err, "making channel %u (%s)", channel->id, channel->transport->name);
    launch->wired[i].provisioned[hop] = true;
    return 0;
}

static int provision_all(struct lab_launch_run *launch)
{
    for (uint32_t i = 0; i < launch->layout.path_count; i++) {
        const struct lab_path *path = &launch->layout.paths[i];
        int err = path->has[LAB_HOP_LOCAL] ? provision(launch, i, LAB_HOP_LOCAL) : 0;
        if (!err && path->has[LAB_HOP_LINK] && path->here[LAB_RX]) {
            err = provision(launch, i, LAB_HOP_LINK);
            Lab__Endpoint *endpoint = &launch->endpoints[launch->endpoint_count];
            *endpoint = (Lab__Endpoint)LAB__ENDPOINT__INIT;
            endpoint->channel = path->number;
            endpoint->address = launch->wired[i].wire[LAB_HOP_LINK].address;
            launch->endpoint_count += !err;
        }
        if (err)
            return err;
    }
    return 0;
}

static void retire_all(struct lab_launch_run *launch)
{
    for (uint32_t i = 0; launch->wired && i < launch->layout.path_count; i++) {
        for (int hop = 0; hop < LAB_HOPS; hop++) {
            const struct lab_channel *channel = &launch->layout.paths[i].channel[hop];
            if (!launch->wired[i].provisioned[hop])
                continue;
            const struct lab_transport_ops *ops = lab_transport_ops(channel->transport);
            if (ops)
                ops->retire(channel, &launch->wired[i].wire[hop]);
            launch->wired[i].provisioned[hop] = false;
        }
    }
}

/* What the kernel cannot tell the others about a party that is gone. */
static void hang_up(struct lab_launch_run *launch, const struct lab_member *dead)
{
    for (uint32_t i = 0; i < launch->layout.path_count; i++) {
        const struct lab_path *path = &launch->layout.paths[i];
        if (!launch->wired[i].provisioned[LAB_HOP_LOCAL])
            continue;
        const struct lab_transport_ops *ops = lab_transport_ops(path->channel[LAB_HOP_LOCAL].transport);
        for (int role = 0; ops && ops->hangup && role < 2; role++)
            if (path->party[role] == dead->party->index)
                ops->hangup(&path->channel[LAB_HOP_LOCAL], &launch->wired[i].wire[LAB_HOP_LOCAL], (enum lab_role)role);
    }
}

/* ---- starting ---- */

static int start_relay(struct lab_launch_run *launch)
{
    const struct lab_layout *layout = &launch->layout;
    struct lab_relay_path *paths = calloc(layout->path_count + 1, sizeof *paths);
    uint32_t count = 0;
    if (!paths)
        return lab_fail(ENOMEM, "no memory for a relay");
    for (uint32_t i = 0; i < layout->path_count; i++) {
        const struct lab_path *path = &layout->paths[i];
        if (!path->has[LAB_HOP_LOCAL] || !path->has[LAB_HOP_LINK])
            continue;
        struct lab_relay_path *relayed = &paths[count++];
        relayed->path = path;
        for (int hop = 0; hop < LAB_HOPS; hop++) {
            relayed->wire[hop] = launch->wired[i].wire[hop];
            for (int role = 0; role < 2; role++)
                if (relayed->wire[hop].fd[role] >= 0)
                    relayed->wire[hop].fd[role] = fcntl(relayed->wire[hop].fd[role], F_DUPFD_CLOEXEC, 3);
        }
        /* Each end is opened by one side only; the other side's duplicate would keep a closed channel alive. */
        enum lab_role mine[LAB_HOPS] = {path->here[LAB_TX] ? LAB_RX : LAB_TX, path->here[LAB_TX] ? LAB_TX : LAB_RX};
        for (int hop = 0; hop < LAB_HOPS; hop++) {
            int *other = &relayed->wire[hop].fd[mine[hop] == LAB_TX ? LAB_RX : LAB_TX];
            if (*other >= 0)
                close(*other);
            *other = -1;
        }
    }
    int err = count ? lab_relay_start(paths, count, launch->assign->cell->run, launch->frame->launch, launch->deadline_ns, &launch->relay) : 0;
    if (!count)
        launch->relay_state = LAB_RELAY_EMPTIED;
    free(paths);
    return err;
}

static int start_all(struct lab_launch_run *launch)
{
    struct lab_layout *layout = &launch->layout;
    int err = 0;
    launch->stage = LAB_STAGE_OPENING;
    if (layout->ranks)
        err = lab_pmi_new(layout->ranks, &launch->pmi);
    if (!err && layout->probed) {
        launch->probe_fd = memfd_create("ipclab-probe", MFD_CLOEXEC);
        if (launch->probe_fd < 0 || ftruncate(launch->probe_fd, sysconf(_SC_PAGESIZE)) < 0)
            err = lab_fail(errno, "no page for the proximity probe");
    }
    for (uint32_t p = 0; !err && p < layout->party_count; p++)
        if (!layout->parties[p].idle)
            err = lab_party_start(launch, &launch->members[p]);
    if (!err)
        err = start_relay(launch);
    if (err)
        return err;
    /* From here on what a worker inherited is its own: our copies would hide its end from the kernel. */
    for (uint32_t i = 0; i < layout->path_count; i++)
        for (int hop = 0; hop < LAB_HOPS; hop++)
            if (launch->wired[i].provisioned[hop] && !lab_transport_ops(layout->paths[i].channel[hop].transport)->hangup) {
                struct lab_wire *wire = &launch->wired[i].wire[hop];
                for (int role = 0; role < 2; role++) {
                    int fd = wire->fd[role];
                    if (fd >= 0)
                        close(fd);
                    if (wire->fd[1 - role] == fd)
                        wire->fd[1 - role] = -1;
                    wire->fd[role] = -1;
                }
            }
    return 0;
}

/* ---- the life of a launch ---- */

int lab_launch_begin(Lab__Frame *frame, uint32_t node, const char *worker_path, struct lab_launch_run **ret_launch)
{
    struct lab_launch_run *launch = calloc(1, sizeof *launch);
    if (!launch) {
        lab_codec_free(frame);
        return lab_fail(ENOMEM, "no memory for a launch");
    }
    launch->frame = frame;
    launch->assign = frame->assign;
    launch->worker_path = worker_path;
    launch->probe_fd = -1;
    launch->deadline_ns = lab_now_ns() + frame->assign->deadline_ns;
    int err = lab_layout_make(frame->assign, frame->launch, node, &launch->layout);
    if (!err) {
        uint32_t paths = launch->layout.path_count + 1, parties = launch->layout.party_count;
        launch->wired = calloc(paths, sizeof *launch->wired);
        launch->endpoints = calloc(paths, sizeof *launch->endpoints);
        launch->members = calloc(parties, sizeof *launch->members);
        launch->outcomes = calloc(parties, sizeof *launch->outcomes);
        if (!launch->wired || !launch->endpoints || !launch->members || !launch->outcomes)
            err = lab_fail(ENOMEM, "no memory for %u workers and %u channels", parties, paths);
        for (uint32_t i = 0; !err && i < paths; i++)
            launch->wired[i].wire[LAB_HOP_LOCAL] = launch->wired[i].wire[LAB_HOP_LINK] = (struct lab_wire){.fd = {-1, -1}};
        for (uint32_t p = 0; !err && p < parties; p++)
            launch->members[p] = (struct lab_member){.party = &launch->layout.parties[p], .control_fd = -1, .far_fd = -1, .child = {.pidfd = -1}};
    }
    if (!err)
        err = provision_all(launch);
    if (!err && launch->layout.crosses)
        launch->stage = LAB_STAGE_LISTENING;
    else if (!err)
        err = start_all(launch);
    if (err)
        fail_from_record(launch, err, -1);
    *ret_launch = launch;
    return 0;
}

enum lab_stage lab_launch_stage(const struct lab_launch_run *launch)
{
    return launch->stage;
}

uint32_t lab_launch_party_count(const struct lab_launch_run *launch)
{
    return launch->layout.party_count;
}

uint32_t lab_launch_endpoint_count(const struct lab_launch_run *launch)
{
    return launch->endpoint_count;
}

void lab_launch_endpoints(const struct lab_launch_run *launch, Lab__Listen *ret_listen, Lab__Endpoint **endpoints)
{
    *ret_listen = (Lab__Listen)LAB__LISTEN__INIT;
    for (uint32_t i = 0; i < launch->endpoint_count; i++)
        endpoints[i] = &launch->endpoints[i];
    ret_listen->n_endpoints = launch->endpoint_count;
    ret_listen->endpoints = endpoints;
}

int lab_launch_connect(struct lab_launch_run *launch, const Lab__Connect *connect)
{
    struct lab_layout *layout = &launch->layout;
    for (size_t i = 0; i < connect->n_endpoints; i++) {
        uint32_t at;
        const struct lab_path *path = lab_layout_path(layout, connect->endpoints[i]->channel, &at);
        if (!path || !path->has[LAB_HOP_LINK] || path->here[LAB_RX])
            continue;
        struct lab_wire *wire = &launch->wired[at].wire[LAB_HOP_LINK];
        snprintf(wire->address, sizeof wire->address, "%s", connect->endpoints[i]->address);
    }
    int err = start_all(launch);
    if (err)
        fail_from_record(launch, err, -1);
    return err;
}

int lab_launch_go(struct lab_launch_run *launch)
{
    Lab__Start start = LAB__START__INIT;
    Lab__Note note = LAB__NOTE__INIT;
    note.body_case = LAB__NOTE__BODY_START;
    note.start = &start;
    launch->stage = LAB_STAGE_RUNNING;
    for (uint32_t p = 0; p < launch->layout.party_count; p++) {
        struct lab_member *member = &launch->members[p];
        bool gone = member->control_fd < 0; /* its pidfd tells how */
        int err = member->party->idle || gone ? 0 : lab_codec_send(member->control_fd, &note, lab_now_ns() + LAB_NOTE_WITHIN_MS * LAB_NS_PER_MS);
        if (err)
            fail_from_record(launch, err, (int32_t)member->party->index);
        if (launch->stage == LAB_STAGE_FAILED)
            return err;
    }
    return 0;
}

uint32_t lab_launch_poll_count(const struct lab_launch_run *launch)
{
    return 2 * launch->layout.party_count + 2;
}

uint32_t lab_launch_polls(const struct lab_launch_run *launch, struct pollfd *polls)
{
    uint32_t count = 0;
    if (launch->stage == LAB_STAGE_FAILED || launch->stage == LAB_STAGE_DONE)
        return 0;
    for (uint32_t p = 0; p < launch->layout.party_count; p++) {
        const struct lab_member *member = &launch->members[p];
        if (member->control_fd >= 0 && !member->result)
            polls[count++] = (struct pollfd){.fd = member->control_fd, .events = POLLIN};
        if (member->child.pid > 0)
            polls[count++] = (struct pollfd){.fd = member->child.pidfd, .events = POLLIN};
    }
    if (launch->pmi)
        polls[count++] = (struct pollfd){.fd = lab_pmi_fd(launch->pmi), .events = POLLIN};
    if (launch->relay)
        polls[count++] = (struct pollfd){.fd = lab_relay_fd(launch->relay), .events = POLLIN};
    return count;
}

/* A member's note, if one is there. */
static void hear(struct lab_launch_run *launch, struct lab_member *member)
{
    struct pollfd readable = {.fd = member->control_fd, .events = POLLIN};
    if (member->control_fd < 0 || member->result || poll(&readable, 1, 0) <= 0)
        return;
    Lab__Note *note;
    int err = lab_codec_receive(member->control_fd, &lab__note__descriptor, lab_now_ns() + LAB_NOTE_WITHIN_MS * LAB_NS_PER_MS, &note);
    if (err == -EPIPE || err == -ECONNRESET) {
        /* A process is heard of again through its pidfd, with the signal that ended it. */
        close(member->control_fd);
        member->control_fd = -1;
        if (member->threaded)
            fail_with(launch, EPIPE, (int32_t)member->party->index, 0, "a thread of the node ended without a result", "");
        return;
    }
    if (err) {
        fail_from_record(launch, err, (int32_t)member->party->index);
        return;
    }
    switch (note->body_case) {
    case LAB__NOTE__BODY_OPENED:
        member->opened = true;
        break;
    case LAB__NOTE__BODY_RESULT:
        member->result = note;
        return;
    case LAB__NOTE__BODY_FAULT:
        member->faulted = true;
        if (note->fault->error == EPIPE && !member->threaded)
            suspect(launch, note->fault->party, note->fault->text, note->fault->where);
        else
            fail_with(launch, note->fault->error, note->fault->party, 0, note->fault->text, note->fault->where);
        break;
    default:
        fail_with(launch, EPROTO, (int32_t)member->party->index, 0, "a worker sent what only a node sends", "");
    }
    lab_codec_free(note);
}

static void mourn(struct lab_launch_run *launch, struct lab_member *member)
{
    int status, pid = member->child.pid;
    if (pid <= 0 || lab_child_reap(&member->child, 0, &status))
        return;
    hear(launch, member); /* what it said before it ended */
    if ((member->result || member->faulted) && WIFEXITED(status))
        return;
    char how[LAB_CHILD_STATUS_TEXT], text[200];
    snprintf(text, sizeof text, "worker %u (process %d) %s", member->party->index, pid, lab_child_status_text(status, how));
    fail_with(launch, ECHILD, (int32_t)member->party->index, WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0, text, "");
    hang_up(launch, member);
}

static void advance(struct lab_launch_run *launch)
{
    bool opened = launch->relay_state != LAB_RELAY_OPENING, reported = true, gone = launch->relay_state == LAB_RELAY_EMPTIED;
    for (uint32_t p = 0; p < launch->layout.party_count; p++) {
        const struct lab_member *member = &launch->members[p];
        if (member->party->idle)
            continue;
        opened = opened && member->opened;
        reported = reported && member->result;
        gone = gone && member->child.pid <= 0;
    }
    uint64_t now = lab_now_ns();
    if (launch->suspected_ns) {
        if (now > launch->suspected_ns)
            launch->stage = LAB_STAGE_FAILED;
        return;
    }
    if (launch->stage == LAB_STAGE_OPENING && opened)
        launch->stage = LAB_STAGE_READY;
    if (launch->stage == LAB_STAGE_RUNNING && reported) {
        launch->stage = LAB_STAGE_LEAVING;
        /* What a relay carries ends when the workers of other nodes do. */
        launch->leave_ns = (launch->relay ? launch->deadline_ns : now) + LEAVE_WITHIN_MS * LAB_NS_PER_MS;
    }
    if (launch->stage == LAB_STAGE_LEAVING && gone)
        launch->stage = LAB_STAGE_DONE;
    if (launch->stage == LAB_STAGE_LEAVING && now > launch->leave_ns)
        fail_with(launch, ETIMEDOUT, -1, 0, "a worker did not end after its result, or the relay did not become empty", "");
    if (launch->stage < LAB_STAGE_LEAVING && now > launch->deadline_ns + LAB_NS_PER_S)
        fail_with(launch, ETIMEDOUT, -1, 0, "the launch did not end before its deadline", "");
}

void lab_launch_step(struct lab_launch_run *launch)
{
    if (launch->pmi)
        lab_pmi_serve(launch->pmi);
    for (uint32_t p = 0; p < launch->layout.party_count; p++) {
        hear(launch, &launch->members[p]);
        mourn(launch, &launch->members[p]);
    }
    if (launch->relay && launch->stage < LAB_STAGE_DONE) {
        launch->relay_state = lab_relay_state(launch->relay);
        if (launch->relay_state < 0)
            fail_from_record(launch, launch->relay_state, -1);
    }
    if (launch->stage != LAB_STAGE_FAILED)
        advance(launch);
}

const Lab__Fault *lab_launch_fault(const struct lab_launch_run *launch)
{
    return &launch->fault;
}

void lab_launch_done(const struct lab_launch_run *launch, Lab__Done *ret_done)
{
    *ret_done = (Lab__Done)LAB__DONE__INIT;
    ret_done->outcomes = launch->outcomes;
    for (uint32_t p = 0; p < launch->layout.party_count; p++)
        if (launch->members[p].result)
            launch->outcomes[ret_done->n_outcomes++] = launch->members[p].result->result;
}

/* ---- the end of it ---- */

static void end_processes(struct lab_launch_run *launch)
{
    bool alive = false;
    for (uint32_t p = 0; p < launch->layout.party_count; p++)
        alive = alive || launch->members[p].child.pid > 0;
    uint64_t until = lab_now_ns() + (alive && launch->stage != LAB_STAGE_LISTENING ? GRACE_MS * LAB_NS_PER_MS : 0);
    for (uint32_t p = 0; alive && p < launch->layout.party_count; p++)
        if (launch->members[p].child.pid > 0)
            hang_up(launch, &launch->members[p]);
    for (uint32_t p = 0; p < launch->layout.party_count; p++) {
        struct lab_member *member = &launch->members[p];
        if (member->child.pid > 0 && lab_child_reap(&member->child, until, NULL))
            lab_child_kill(&member->child);
    }
}

int lab_launch_end(struct lab_launch_run *launch)
{
    int err = 0;
    if (!launch)
        return 0;
    lab_ends_abandoned = launch->stage != LAB_STAGE_DONE;
    if (launch->members) {
        end_processes(launch);
        uint64_t until = lab_now_ns() + JOIN_WITHIN_MS * LAB_NS_PER_MS;
        for (uint32_t p = 0; p < launch->layout.party_count; p++) {
            struct lab_member *member = &launch->members[p];
            if (member->threaded && !err)
                err = lab_party_join(member, until);
            if (member->control_fd >= 0)
                close(member->control_fd);
            lab_codec_free(member->result);
        }
    }
    if (err)
        return err; /* a thread still uses what follows */
    err = lab_relay_stop(launch->relay);
    if (err)
        return err;
    lab_ends_abandoned = false;
    retire_all(launch);
    lab_pmi_free(launch->pmi);
    if (launch->probe_fd >= 0)
        close(launch->probe_fd);
    lab_layout_fini(&launch->layout);
    free(launch->wired);
    free(launch->members);
    free(launch->endpoints);
    free(launch->outcomes);
    lab_codec_free(launch->frame);
    free(launch);
    return 0;
}
