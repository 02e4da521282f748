#include "launcher/conversation.h"

#include "base/clock.h"
#include "base/version.h"
#include "proto/bus/bus.h"
#include "proto/codec.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    HELLO_LOCAL_S = 5, HELLO_REMOTE_S = 10, /* a node that starts on a busy host is not a node that failed */
    STEP_LOCAL_S = 3, STEP_REMOTE_S = 10, STEP_MPI_S = 10,
    ABORT_MS = 3000, SILENT_S = 2, GRACE_MS = 500, LIMITS_S = 5,
};

enum stage { IDLE, ASSIGNED, LISTENING, READY, RUNNING, DONE, FAULTED };

struct peer {
    bool greeted;
    enum stage stage;
    Lab__Frame *hello, *listen, *done; /* owned */
    const Lab__Done *outcome;
};

struct lab_conversation {
    struct lab_conversation_spec spec;
    struct lab_bus *bus;
    struct lab_crew *crew;
    struct peer *peers;
    const Lab__Done **outcomes;
    Lab__Frame *limits;
    uint32_t number;             /* of the current launch */
    uint32_t taking_part;
    uint64_t run, began_ns, heard_from_ns;
    int signal_fd, signal;
    sigset_t mask_before;
    bool over, all_greeted, leaving;
    bool stopped;                /* this process was, during the current launch */
    bool launch_failed;          /* the launch's fault is recorded in `failure` */
    int failure_code;
    char failure[LAB_ERROR_TEXT];
};

void lab_conversation_tell(const struct lab_conversation *talk, const char *format, ...)
{
    if (!talk->spec.verbose)
        return;
    char line[LAB_ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    lab_progress_note(talk->spec.progress, "%8.1f ms  %s", (double)(lab_now_ns() - talk->began_ns) / 1e6, line);
}

/* ---- what ends a launch, and what ends everything ---- */

static void fail_launch(struct lab_conversation *talk, int code, const char *text)
{
    if (talk->launch_failed)
        return;
    talk->launch_failed = true;
    talk->failure_code = code;
    snprintf(talk->failure, sizeof talk->failure, "%s", text);
}

/* Who died matters more than what others then missed: a death replaces an earlier, milder reason. */
static void end_all(struct lab_conversation *talk, int code, const char *text)
{
    if (talk->over)
        return;
    talk->over = talk->launch_failed = true;
    talk->failure_code = code;
    snprintf(talk->failure, sizeof talk->failure, "%s", text);
}

static int failed(const struct lab_conversation *talk)
{
    return lab_refuse(talk->failure_code ? talk->failure_code : EIO, "%s", talk->failure);
}

/* ---- hearing ---- */

static void keep(Lab__Frame **slot, Lab__Frame *frame)
{
    lab_codec_free(*slot);
    *slot = frame;
}

static void hear_fault(struct lab_conversation *talk, uint32_t node, const Lab__Fault *fault)
{
    talk->peers[node].stage = FAULTED;
    if (fault->signal) /* a worker was killed: nobody asked for that */
        end_all(talk, ECHILD, fault->text);
    else
        fail_launch(talk, fault->error ? fault->error : EIO, fault->text);
    lab_conversation_tell(talk, "node %u: FAULT: %s%s%s", node, fault->text, fault->where[0] ? " at " : "", fault->where);
}

/* Takes the frame over. */
static void hear(struct lab_conversation *talk, uint32_t node, Lab__Frame *frame)
{
    struct peer *peer = &talk->peers[node];
    bool kept = false;
    if (frame->body_case == LAB__FRAME__BODY_HELLO) {
        peer->greeted = kept = true;
        keep(&peer->hello, frame);
        lab_conversation_tell(talk, "node %u: HELLO", node);
    } else if (frame->launch == talk->number && frame->launch) {
        switch (frame->body_case) {
        case LAB__FRAME__BODY_LISTEN:
            peer->stage = LISTENING;
            keep(&peer->listen, frame);
            kept = true;
            break;
        case LAB__FRAME__BODY_READY:
            peer->stage = READY;
            break;
        case LAB__FRAME__BODY_LIMITS:
            keep(&talk->limits, frame);
            kept = true;
            break;
        case LAB__FRAME__BODY_DONE:
            peer->stage = DONE;
            keep(&peer->done, frame);
            peer->outcome = frame->done;
            kept = true;
            break;
        case LAB__FRAME__BODY_FAULT:
            hear_fault(talk, node, frame->fault);
            break;
        default: /* PROGRESS: that it came is what it says */
            break;
        }
    }
    if (!kept)
        lab_codec_free(frame);
}

static void hear_all(struct lab_conversation *talk)
{
    for (;;) {
        uint32_t node;
        Lab__Frame *frame;
        int err = lab_bus_receive(talk->bus, &node, &frame);
        if (err == -EAGAIN)
            return;
        if (err == -EPROTONOSUPPORT)
            end_all(talk, EPROTONOSUPPORT, lab_error_last()->text);
        else if (err)
            lab_conversation_tell(talk, "ignored: %s", lab_error_last()->text);
        else
            hear(talk, node, frame);
    }
}

static void watch_crew(struct lab_conversation *talk)
{
    struct lab_crew_event event;
    while (talk->crew && lab_crew_event(talk->crew, &event) == 0) {
        lab_conversation_tell(talk, "%s", event.text);
        if (!talk->leaving)
            end_all(talk, ECHILD, event.text);
    }
}

static void take_signal(struct lab_conversation *talk)
{
    struct signalfd_siginfo info;
    if (read(talk->signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    char text[64];
    talk->signal = (int)info.ssi_signo;
    snprintf(text, sizeof text, "interrupted by SIG%s", sigabbrev_np((int)info.ssi_signo));
    end_all(talk, EINTR, text);
}

static void watch_silence(struct lab_conversation *talk)
{
    uint64_t now = lab_now_ns();
    for (uint32_t n = 0; n < talk->spec.nodes; n++) {
        uint64_t heard = lab_bus_last_heard_ns(talk->bus, n);
        if (!talk->peers[n].greeted)
            continue;
        /* This process may itself have been stopped for a while: silence counts from when it listens again. */
        if (heard < talk->heard_from_ns)
            heard = talk->heard_from_ns;
        if (now - heard > SILENT_S * LAB_NS_PER_S) {
            char text[256];
            snprintf(text, sizeof text, "node %u on %s has been silent for %d s", n, lab_crew_host(talk->crew, n), SILENT_S);
            end_all(talk, ETIMEDOUT, text);
        }
    }
}

/* ---- waiting ---- */

static bool all_at(const struct lab_conversation *talk, enum stage stage)
{
    for (uint32_t n = 0; n < talk->taking_part; n++)
        if (talk->peers[n].stage < stage)
            return false;
    return true;
}

static bool everyone_greeted(const struct lab_conversation *talk)
{
    for (uint32_t n = 0; n < talk->spec.nodes; n++)
        if (!talk->peers[n].greeted)
            return false;
    return true;
}

static bool settled(const struct lab_conversation *talk, enum stage stage)
{
    return stage == IDLE ? everyone_greeted(talk) : all_at(talk, stage);
}

/* Until every node has come to `stage` (IDLE: has said HELLO). 0, or -errno with talk->failure; `what` was waited for. */
static int await(struct lab_conversation *talk, enum stage stage, uint64_t deadline_ns, const char *what)
{
    enum { LOOK_AGAIN_MS = 250, STOPPED_MS = 1500 };
    uint64_t looked_ns = talk->heard_from_ns = lab_now_ns();
    for (;;) {
        /* Looks are never that far apart unless this process was stopped (Ctrl-Z): the nodes did nothing wrong meanwhile. */
        uint64_t now_ns = lab_now_ns();
        if (now_ns - looked_ns > STOPPED_MS * LAB_NS_PER_MS) {
            deadline_ns += now_ns - looked_ns;
            talk->heard_from_ns = now_ns;
            talk->stopped = true;
        }
        looked_ns = now_ns;
        hear_all(talk);
        watch_crew(talk);
        if (talk->over || (talk->launch_failed && stage != FAULTED))
            return failed(talk);
        if (settled(talk, stage))
            return 0;
        if (lab_ns_until(deadline_ns) == 0) {
            char text[200];
            uint32_t missing = 0;
            for (uint32_t n = 0; n < (stage == IDLE ? talk->spec.nodes : talk->taking_part) && !missing; n++)
                missing = (stage == IDLE ? !talk->peers[n].greeted : talk->peers[n].stage < stage) ? n + 1 : 0;
            snprintf(text, sizeof text, "node %u on %s gave no %s before the deadline", missing - 1, lab_crew_host(talk->crew, missing - 1), what);
            fail_launch(talk, ETIMEDOUT, text);
            return failed(talk);
        }
        watch_silence(talk);
        struct pollfd polls[] = {
            {.fd = lab_bus_fd(talk->bus), .events = POLLIN},
            {.fd = talk->signal_fd, .events = POLLIN},
            {.fd = lab_crew_poll_fd(talk->crew), .events = POLLIN},
        };
        int wait_ms = lab_ms_until(deadline_ns);
        poll(polls, 3, wait_ms < LOOK_AGAIN_MS ? wait_ms : LOOK_AGAIN_MS);
        if (polls[1].revents)
            take_signal(talk);
    }
}

static int say(struct lab_conversation *talk, uint32_t node, Lab__Frame *frame)
{
    frame->launch = talk->number;
    int err = lab_bus_send(talk->bus, node, frame);
    if (!err)
        return 0;
    char text[LAB_ERROR_TEXT];
    snprintf(text, sizeof text, "cannot reach node %u on %.200s: %.600s", node, lab_crew_host(talk->crew, node),
             err == -EAGAIN ? "it takes nothing any more" : lab_error_last()->text);
    /* A dead process is the better reason, if that is what it is. */
    watch_crew(talk);
    end_all(talk, -err, text);
    return failed(talk);
}

static int say_all(struct lab_conversation *talk, Lab__Frame *frame)
{
    int err = 0;
    for (uint32_t n = 0; !err && n < talk->taking_part; n++)
        err = say(talk, n, frame);
    return err;
}

/* ---- beginning ---- */

static int take_signals(struct lab_conversation *talk)
{
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &wanted, &talk->mask_before);
    talk->signal_fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    return talk->signal_fd < 0 ? lab_fail(errno, "no descriptor for signals") : 0;
}

static int note_hosts(struct lab_conversation *talk)
{
    struct lab_run *run = talk->spec.run;
    for (uint32_t n = 0; n < talk->spec.nodes; n++) {
        const Lab__Hello *hello = talk->peers[n].hello->hello;
        const Lab__Host *facts = hello->host;
        if (strcmp(hello->version, LAB_VERSION) != 0) {
            char text[256];
            snprintf(text, sizeof text, "node %u on %s is ipclab %.32s, and this is %s: install the same version", n,
                     lab_crew_host(talk->crew, n), hello->version, LAB_VERSION);
            end_all(talk, EPROTONOSUPPORT, text);
            return failed(talk);
        }
        bool known = false;
        for (uint32_t h = 0; facts && h < run->host_count; h++)
            known = known || strcmp(run->hosts[h].name, facts->name) == 0;
        struct lab_host *host = facts && !known ? lab_run_add_host(run) : NULL;
        if (!host)
            continue;
        host->name = lab_run_string(run, facts->name);
        host->cpu = lab_run_string(run, facts->cpu);
        host->kernel = lab_run_string(run, facts->kernel);
        host->hypervisor = lab_run_string(run, facts->hypervisor);
        host->cores = facts->cores;
        host->memory_bytes = facts->memory_bytes;
    }
    struct lab_library *library = lab_run_add_library(run);
    if (library) {
        library->name = "libzmq";
        library->version = lab_bus_library();
    }
    return 0;
}

static int begin(struct lab_conversation *talk)
{
    char endpoint[LAB_CREW_ENDPOINT];
    struct lab_crew_spec *crew = &talk->spec.crew;
    crew->nodes = talk->spec.nodes;
    int err = take_signals(talk);
    if (!err)
        err = lab_crew_endpoint(crew, endpoint);
    if (!err)
        err = lab_bus_serve(endpoint, crew->nodes, &talk->bus);
    if (err)
        return err;
    crew->control = lab_bus_address(talk->bus);
    bool remote = lab_conversation_remote(talk);
    uint64_t deadline_ns = lab_now_ns() + (remote ? HELLO_REMOTE_S : HELLO_LOCAL_S) * LAB_NS_PER_S;
    err = lab_crew_start(crew, deadline_ns, &talk->crew);
    if (err)
        return err;
    lab_conversation_tell(talk, "%u nodes are started, control at %s", crew->nodes, crew->control);
    err = await(talk, IDLE, deadline_ns, "HELLO");
    talk->all_greeted = !err;
    return err ? err : note_hosts(talk);
}

int lab_conversation_begin(const struct lab_conversation_spec *spec, struct lab_conversation **ret_talk)
{
    struct lab_conversation *talk = calloc(1, sizeof *talk);
    *ret_talk = NULL;
    if (talk) {
        talk->peers = calloc(spec->nodes + 1, sizeof *talk->peers);
        talk->outcomes = calloc(spec->nodes + 1, sizeof *talk->outcomes);
    }
    if (!talk || !talk->peers || !talk->outcomes) {
        if (talk) {
            free(talk->peers);
            free(talk->outcomes);
        }
        free(talk);
        return lab_fail(ENOMEM, "no memory for %u nodes", spec->nodes);
    }
    talk->spec = *spec;
    talk->began_ns = lab_now_ns();
    talk->signal_fd = -1;
    if (getrandom(&talk->run, sizeof talk->run, GRND_NONBLOCK) != (ssize_t)sizeof talk->run)
        talk->run = talk->began_ns;
    *ret_talk = talk;
    int err = begin(talk);
    if (err && !talk->over)
        end_all(talk, -err, lab_error_last()->text);
    return err ? failed(talk) : 0;
}

void lab_conversation_end(struct lab_conversation *talk)
{
    if (!talk)
        return;
    talk->leaving = true;
    Lab__Bye bye = LAB__BYE__INIT;
    Lab__Frame frame = LAB__FRAME__INIT;
    frame.body_case = LAB__FRAME__BODY_BYE;
    frame.bye = &bye;
    for (uint32_t n = 0; talk->bus && talk->crew && n < talk->spec.nodes; n++)
        if (talk->peers[n].greeted)
            lab_bus_send(talk->bus, n, &frame);
    /* After a death or a signal nobody is waited for. */
    lab_crew_end(talk->crew, talk->over ? 0 : lab_now_ns() + GRACE_MS * LAB_NS_PER_MS);
    lab_bus_close(talk->bus);
    if (talk->signal_fd >= 0) {
        close(talk->signal_fd);
        pthread_sigmask(SIG_SETMASK, &talk->mask_before, NULL);
    }
    for (uint32_t n = 0; n < talk->spec.nodes; n++) {
        lab_codec_free(talk->peers[n].hello);
        lab_codec_free(talk->peers[n].listen);
        lab_codec_free(talk->peers[n].done);
    }
    lab_codec_free(talk->limits);
    free(talk->peers);
    free(talk->outcomes);
    free(talk);
}

/* ---- a launch ---- */

static int exchange_addresses(struct lab_conversation *talk)
{
    size_t count = 0, used = 0;
    for (uint32_t n = 0; n < talk->taking_part; n++)
        count += talk->peers[n].listen->listen->n_endpoints;
    Lab__Endpoint **all = calloc(count + 1, sizeof *all);
    if (!all)
        return lab_fail(ENOMEM, "no memory for %zu addresses", count);
    for (uint32_t n = 0; n < talk->taking_part; n++)
        for (size_t e = 0; e < talk->peers[n].listen->listen->n_endpoints; e++)
            all[used++] = talk->peers[n].listen->listen->endpoints[e];
    Lab__Connect connect = LAB__CONNECT__INIT;
    connect.n_endpoints = used;
    connect.endpoints = all;
    Lab__Frame frame = LAB__FRAME__INIT;
    frame.body_case = LAB__FRAME__BODY_CONNECT;
    frame.connect = &connect;
    int err = say_all(talk, &frame);
    free(all);
    return err;
}

static int lead(struct lab_conversation *talk, Lab__Assign *assign, bool crosses, uint64_t step_ns)
{
    Lab__Frame frame = LAB__FRAME__INIT;
    frame.body_case = LAB__FRAME__BODY_ASSIGN;
    frame.assign = assign;
    int err = say_all(talk, &frame);
    if (!err && crosses) {
        err = await(talk, LISTENING, lab_now_ns() + step_ns, "LISTEN");
        if (!err)
            err = exchange_addresses(talk);
    }
    if (!err)
        err = await(talk, READY, lab_now_ns() + step_ns, "READY");
    if (err)
        return err;
    Lab__Go go = LAB__GO__INIT;
    frame.body_case = LAB__FRAME__BODY_GO;
    frame.go = &go;
    err = say_all(talk, &frame);
    return err ? err : await(talk, DONE, lab_now_ns() + assign->deadline_ns + step_ns, "DONE");
}

/* What is still alive gives the launch up; who does not answer is lost, and the run with it. */
static void give_up(struct lab_conversation *talk)
{
    if (talk->over)
        return;
    Lab__Abort abandon = LAB__ABORT__INIT;
    Lab__Frame frame = LAB__FRAME__INIT;
    frame.body_case = LAB__FRAME__BODY_ABORT;
    frame.abort = &abandon;
    for (uint32_t n = 0; n < talk->taking_part && !talk->over; n++)
        if (talk->peers[n].stage < DONE)
            say(talk, n, &frame);
    char reason[LAB_ERROR_TEXT];
    snprintf(reason, sizeof reason, "%s", talk->failure);
    uint64_t deadline_ns = lab_now_ns() + ABORT_MS * LAB_NS_PER_MS;
    while (!talk->over && !all_at(talk, DONE)) {
        talk->launch_failed = false;
        if (await(talk, DONE, deadline_ns, "answer to ABORT") == -ETIMEDOUT && !talk->over)
            end_all(talk, ETIMEDOUT, lab_error_last()->text);
    }
    if (!talk->over)
        snprintf(talk->failure, sizeof talk->failure, "%s", reason);
}

static int attempt(struct lab_conversation *talk, Lab__Assign *assign, bool crosses, bool slow_start)
{
    if (talk->over)
        return failed(talk);
    talk->stopped = false;
    talk->number++;
    talk->taking_part = assign->nodes;
    talk->launch_failed = false;
    for (uint32_t n = 0; n < talk->taking_part; n++)
        talk->peers[n].stage = ASSIGNED;
    uint64_t step_s = lab_conversation_remote(talk) ? STEP_REMOTE_S : slow_start ? STEP_MPI_S : STEP_LOCAL_S;
    int err = lead(talk, assign, crosses, step_s * LAB_NS_PER_S);
    if (!err)
        return 0;
    if (!talk->launch_failed)
        fail_launch(talk, -err, lab_error_last()->text);
    give_up(talk);
    return failed(talk);
}

/* The workers' deadline passes also while nobody is there to tell them to begin: such a launch says nothing of its cell. */
int lab_conversation_launch(struct lab_conversation *talk, Lab__Assign *assign, bool crosses, bool slow_start)
{
    int err = attempt(talk, assign, crosses, slow_start);
    while (err && talk->stopped && !talk->over) {
        lab_conversation_tell(talk, "begun anew, for this process was stopped: %s", lab_error_last()->text);
        err = attempt(talk, assign, crosses, slow_start);
    }
    return err;
}

const Lab__Done *const *lab_conversation_done(const struct lab_conversation *talk)
{
    for (uint32_t n = 0; n < talk->taking_part; n++)
        talk->outcomes[n] = talk->peers[n].outcome;
    return talk->outcomes;
}

int lab_conversation_limits(struct lab_conversation *talk, const Lab__Limits **ret_limits)
{
    Lab__Assign assign = LAB__ASSIGN__INIT;
    assign.limits = 1;
    assign.nodes = 1;
    assign.deadline_ns = LIMITS_S * LAB_NS_PER_S;
    int err = lab_conversation_launch(talk, &assign, false, false);
    if (!err && !talk->limits)
        err = lab_refuse(EPROTO, "node 0 gave no limits");
    if (!err)
        *ret_limits = talk->limits->limits;
    return err;
}

int lab_conversation_world(struct lab_conversation *talk)
{
    Lab__Assign assign = LAB__ASSIGN__INIT;
    assign.world = 1;
    assign.nodes = talk->spec.nodes;
    assign.deadline_ns = STEP_MPI_S * LAB_NS_PER_S;
    return lab_conversation_launch(talk, &assign, false, true);
}

/* ---- facts ---- */

bool lab_conversation_over(const struct lab_conversation *talk)
{
    return talk->over;
}

bool lab_conversation_greeted(const struct lab_conversation *talk)
{
    return talk && talk->all_greeted;
}

int lab_conversation_signal(const struct lab_conversation *talk)
{
    return talk ? talk->signal : 0;
}

bool lab_conversation_remote(const struct lab_conversation *talk)
{
    return talk->spec.crew.hosts != NULL;
}

uint64_t lab_conversation_run(const struct lab_conversation *talk)
{
    return talk->run;
}

const char *lab_conversation_host(const struct lab_conversation *talk, uint32_t node)
{
    return lab_conversation_remote(talk) ? lab_crew_host(talk->crew, node) : "";
}

int32_t lab_conversation_cpu(const struct lab_conversation *talk, uint32_t node, int32_t cpu)
{
    const Lab__Host *host = talk->peers[node].hello ? talk->peers[node].hello->hello->host : NULL;
    if (cpu < 0 || !lab_conversation_remote(talk) || !host || !host->n_cpus)
        return cpu;
    return host->cpus[(size_t)cpu % host->n_cpus];
}
