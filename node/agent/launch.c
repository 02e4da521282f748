#include "node/agent/launch_state.h"

#include "base/clock.h"
#include "proto/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXPLAIN_WITHIN_MS = 200, LEAVE_WITHIN_MS = 2000, GRACE_MS = 100, JOIN_WITHIN_MS = 1000, START_FOR_MS = 50, NEWS_AT_ONCE = 64 };

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

/* ---- news ---- */

/* What a descriptor of launch->news_fd is, with the number of the member or process. */
enum news { NEWS_CONTROL, NEWS_PROCESS, NEWS_PMI, NEWS_RELAY };

static int watch(struct lab_launch_run *launch, int fd, enum news news, uint32_t number)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)news << 32 | number};
    return epoll_ctl(launch->news_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? lab_fail(errno, "cannot watch a descriptor of the launch") : 0;
}

/* ---- starting ---- */

static int start_relay(struct lab_launch_run *launch)
{
    const struct lab_layout *layout = &launch->layout;
    struct lab_relay_path *paths = calloc(layout->path_count + 1, sizeof *paths);
    uint32_t count = 0;
    int err = 0;
    if (!paths)
        return lab_fail(ENOMEM, "no memory for a relay");
    for (uint32_t i = 0; !err && i < layout->path_count; i++) {
        const struct lab_path *path = &layout->paths[i];
        if (!path->has[LAB_HOP_LOCAL] || !path->has[LAB_HOP_LINK])
            continue;
        struct lab_relay_path *relayed = &paths[count++];
        relayed->path = path;
        /* Each end is opened by one side only; the other side's duplicate would keep a closed channel alive. */
        enum lab_role mine[LAB_HOPS] = {path->here[LAB_TX] ? LAB_RX : LAB_TX, path->here[LAB_TX] ? LAB_TX : LAB_RX};
        for (int hop = 0; !err && hop < LAB_HOPS; hop++)
            err = lab_wire_half(&launch->wired[i].wire[hop], mine[hop], &relayed->wire[hop]);
    }
    if (!err && count)
        err = lab_relay_start(paths, count, launch->assign->cell->run, launch->frame->launch, launch->deadline_ns, &launch->relay);
    if (!count)
        launch->relay_state = LAB_RELAY_EMPTIED;
    free(paths);
    return err;
}

/* Everything but the workers. */
static int start_all(struct lab_launch_run *launch)
{
    struct lab_layout *layout = &launch->layout;
    int err = 0;
    launch->stage = LAB_STAGE_OPENING;
    if (layout->ranks)
        err = lab_pmi_new(layout->ranks, &launch->pmi);
    if (!err && launch->pmi)
        err = watch(launch, lab_pmi_fd(launch->pmi), NEWS_PMI, 0);
    if (!err && layout->probed) {
        launch->probe_fd = memfd_create("ipclab-probe", MFD_CLOEXEC);
        if (launch->probe_fd < 0 || ftruncate(launch->probe_fd, sysconf(_SC_PAGESIZE)) < 0)
            err = lab_fail(errno, "no page for the proximity probe");
    }
    if (!err && layout->nodes_talk && launch->active)
        err = lab_party_start(launch, &launch->members[0]);
    if (!err && layout->nodes_talk && launch->active)
        err = watch(launch, launch->members[0].control_fd, NEWS_CONTROL, 0);
    return err;
}

/* What was started is watched also when something failed: how it ended may be the reason. */
static int start_process(struct lab_launch_run *launch, uint32_t number)
{
    struct lab_process *process = &launch->processes[number];
    int err = lab_process_start(launch, process), unwatched = 0;
    if (process->child.pid > 0) {
        launch->alive++;
        unwatched = watch(launch, process->child.pidfd, NEWS_PROCESS, number);
    }
    for (uint32_t p = process->first; !unwatched && p < process->first + process->count; p++)
        if (launch->members[p].control_fd >= 0)
            unwatched = watch(launch, launch->members[p].control_fd, NEWS_CONTROL, p);
    return err ? err : unwatched;
}

/* A thousand workers take about a second: a node that said nothing for so long would be taken for dead, so a step starts as many as
 * it can in a moment, and at least one. */
static int start_some(struct lab_launch_run *launch)
{
    uint64_t until_ns = lab_now_ns() + START_FOR_MS * LAB_NS_PER_MS;
    int err = 0;
    while (!err && launch->started < launch->process_count) {
        err = start_process(launch, launch->started++);
        if (lab_now_ns() >= until_ns)
            break;
    }
    if (err || launch->started < launch->process_count)
        return err;
    err = start_relay(launch);
    if (!err && launch->relay)
        err = watch(launch, lab_relay_fd(launch->relay), NEWS_RELAY, 0);
    if (!err)
        lab_channels_let_go(launch);
    launch->all_started = !err;
    return err;
}

/* ---- the life of a launch ---- */

/* One process for each worker, or one for all of them. */
static void man_processes(struct lab_launch_run *launch)
{
    const struct lab_layout *layout = &launch->layout;
    bool shared = layout->unit != LAB_UNIT_PROCESS;
    launch->process_count = layout->nodes_talk ? 0 : shared ? 1 : layout->party_count;
    for (uint32_t i = 0; i < launch->process_count; i++)
        launch->processes[i] = (struct lab_process){.child = {.pidfd = -1}, .first = i, .count = shared ? layout->party_count : 1};
    for (uint32_t p = 0; p < layout->party_count; p++)
        launch->active += !layout->parties[p].idle;
}

static int make_room(struct lab_launch_run *launch)
{
    uint32_t paths = launch->layout.path_count + 1, parties = launch->layout.party_count;
    launch->wired = calloc(paths, sizeof *launch->wired);
    launch->endpoints = calloc(paths, sizeof *launch->endpoints);
    launch->members = calloc(parties, sizeof *launch->members);
    launch->processes = calloc(parties, sizeof *launch->processes);
    launch->outcomes = calloc(parties, sizeof *launch->outcomes);
    if (!launch->wired || !launch->endpoints || !launch->members || !launch->processes || !launch->outcomes)
        return lab_fail(ENOMEM, "no memory for %u workers and %u channels", parties, paths);
    for (uint32_t i = 0; i < paths; i++)
        launch->wired[i].wire[LAB_HOP_LOCAL] = launch->wired[i].wire[LAB_HOP_LINK] = (struct lab_wire){.fd = {-1, -1}};
    for (uint32_t p = 0; p < parties; p++)
        launch->members[p] = (struct lab_member){.party = &launch->layout.parties[p], .control_fd = -1, .far_fd = -1};
    man_processes(launch);
    launch->news_fd = epoll_create1(EPOLL_CLOEXEC);
    return launch->news_fd < 0 ? lab_fail(errno, "no descriptor to watch a launch by") : 0;
}

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
    launch->probe_fd = launch->news_fd = -1;
    launch->deadline_ns = lab_now_ns() + frame->assign->deadline_ns;
    int err = lab_interfaces_read(&launch->before);
    if (!err)
        err = lab_layout_make(frame->assign, frame->launch, node, &launch->layout);
    if (!err)
        err = make_room(launch);
    if (!err)
        err = lab_channels_provision(launch);
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

int lab_launch_fd(const struct lab_launch_run *launch)
{
    return launch->news_fd;
}

bool lab_launch_restless(const struct lab_launch_run *launch)
{
    return launch->stage == LAB_STAGE_OPENING && !launch->all_started && !launch->suspected_ns;
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
        launch->opened += !member->opened;
        member->opened = true;
        break;
    case LAB__NOTE__BODY_RESULT:
        member->result = note;
        launch->reported++;
        epoll_ctl(launch->news_fd, EPOLL_CTL_DEL, member->control_fd, NULL);
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

static void mourn(struct lab_launch_run *launch, struct lab_process *process)
{
    int status, pid = process->child.pid;
    if (pid <= 0 || lab_child_reap(&process->child, 0, &status))
        return;
    launch->alive--;
    struct lab_member *members = &launch->members[process->first];
    bool explained = WIFEXITED(status);
    for (uint32_t p = 0; p < process->count; p++) {
        hear(launch, &members[p]); /* what it said before it ended */
        explained = explained && (members[p].party->idle || members[p].result || members[p].faulted);
    }
    if (explained)
        return;
    char how[LAB_CHILD_STATUS_TEXT], text[200];
    lab_child_status_text(status, how);
    uint32_t first = members->party->index;
    if (launch->layout.unit == LAB_UNIT_PROCESS)
        snprintf(text, sizeof text, "worker %u (process %d) %s", first, pid, how);
    else
        snprintf(text, sizeof text, "workers %u to %u, %ss of process %d, died with it: it %s", first, first + process->count - 1,
                 lab_unit_name(launch->layout.unit), pid, how);
    fail_with(launch, ECHILD, (int32_t)first, WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0, text, "");
    for (uint32_t p = 0; p < process->count; p++)
        lab_channels_hang_up(launch, &members[p]);
}

/* All that was sent to this node's parties has arrived, and was counted by the interfaces if it came over one. */
static void finish(struct lab_launch_run *launch)
{
    int err = lab_interfaces_read(&launch->after);
    if (err)
        fail_from_record(launch, err, -1);
    else
        launch->stage = LAB_STAGE_DONE;
}

static void advance(struct lab_launch_run *launch)
{
    bool opened = launch->all_started && launch->opened == launch->active && launch->relay_state != LAB_RELAY_OPENING;
    bool reported = launch->reported == launch->active, gone = !launch->alive && launch->relay_state == LAB_RELAY_EMPTIED;
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
        finish(launch);
    if (launch->stage == LAB_STAGE_LEAVING && now > launch->leave_ns)
        fail_with(launch, ETIMEDOUT, -1, 0, "a worker did not end after its result, or the relay did not become empty", "");
    if (launch->stage < LAB_STAGE_LEAVING && now > launch->deadline_ns + LAB_NS_PER_S)
        fail_with(launch, ETIMEDOUT, -1, 0, "the launch did not end before its deadline", "");
}

static void take_news(struct lab_launch_run *launch)
{
    struct epoll_event events[NEWS_AT_ONCE];
    int count = launch->news_fd < 0 ? 0 : epoll_wait(launch->news_fd, events, NEWS_AT_ONCE, 0);
    for (int i = 0; i < count; i++) {
        uint32_t number = (uint32_t)events[i].data.u64;
        switch ((enum news)(events[i].data.u64 >> 32)) {
        case NEWS_CONTROL: hear(launch, &launch->members[number]); break;
        case NEWS_PROCESS: mourn(launch, &launch->processes[number]); break;
        case NEWS_PMI: lab_pmi_serve(launch->pmi); break;
        case NEWS_RELAY: break; /* looked at below */
        }
    }
}

void lab_launch_step(struct lab_launch_run *launch)
{
    if (lab_launch_restless(launch)) {
        int err = start_some(launch);
        if (err)
            fail_from_record(launch, err, -1);
    }
    take_news(launch);
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

void lab_launch_done(const struct lab_launch_run *launch, Lab__Done *done)
{
    done->outcomes = launch->outcomes;
    for (uint32_t p = 0; p < launch->layout.party_count; p++)
        if (launch->members[p].result)
            launch->outcomes[done->n_outcomes++] = launch->members[p].result->result;
    done->buffer_requested_bytes = launch->buffer.requested;
    done->buffer_actual_bytes = launch->buffer.actual;
    done->moved->received_bytes = launch->after.received_bytes - launch->before.received_bytes;
}

/* ---- the end of it ---- */

static void end_processes(struct lab_launch_run *launch)
{
    uint64_t until = lab_now_ns() + (launch->alive && launch->stage != LAB_STAGE_LISTENING ? GRACE_MS * LAB_NS_PER_MS : 0);
    for (uint32_t i = 0; launch->alive && i < launch->process_count; i++)
        for (uint32_t p = 0; launch->processes[i].child.pid > 0 && p < launch->processes[i].count; p++)
            lab_channels_hang_up(launch, &launch->members[launch->processes[i].first + p]);
    for (uint32_t i = 0; i < launch->process_count; i++) {
        struct lab_child *child = &launch->processes[i].child;
        if (child->pid > 0 && lab_child_reap(child, until, NULL))
            lab_child_kill(child);
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
    lab_channels_retire(launch);
    lab_pmi_free(launch->pmi);
    if (launch->probe_fd >= 0)
        close(launch->probe_fd);
    if (launch->news_fd >= 0)
        close(launch->news_fd);
    lab_layout_fini(&launch->layout);
    free(launch->wired);
    free(launch->members);
    free(launch->processes);
    free(launch->endpoints);
    free(launch->outcomes);
    lab_codec_free(launch->frame);
    free(launch);
    return 0;
}
