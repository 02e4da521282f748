#include "launcher/conversation.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/version.h"
#include "launcher/peers.h"
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
    HELLO_LOCAL_S = 5, HELLO_REMOTE_S = 8, /* a node that starts on a busy host is not a node that failed */
    STEP_LOCAL_S = 3, STEP_REMOTE_S = 10, STEP_MPI_S = 10,
    ABORT_MS = 3000, SILENT_S = 2, SILENT_REMOTE_S = 4, GRACE_MS = 500, LIMITS_S = 5, BETTER_MS = 500,
    LOOK_AGAIN_MS = 250, STOPPED_MS = 1500,
};

/* Who died matters more than what others then missed. One death shows itself in several places, in any order: the surer reason replaces
 * the other if it comes soon. */
enum certainty { GUESSED, NOTICED, KNOWN };

struct lab_conversation {
    struct lab_conversation_spec spec;
    struct lab_bus *bus;
    struct lab_crew *crew;
    struct lab_peers *peers;
    uint32_t number;             /* of the current launch */
    uint32_t taking_part, parties;
    uint64_t run, began_ns, heard_from_ns;
    int signal_fd, signal;
    sigset_t mask_before;
    bool apart;                  /* the hosts are those of a user's mpirun */
    bool over, all_greeted, leaving;
    enum certainty certainty;    /* of `failure`, once over */
    uint64_t better_until_ns;    /* how long a better reason is waited for */
    uint64_t ready_ns;           /* what the current launch took to become READY */
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

/* For people: where a node is. */
static const char *where(const struct lab_conversation *talk, uint32_t node)
{
    const Lab__Hello *hello = talk->apart ? lab_peers_hello(talk->peers, node) : NULL;
    if (talk->apart)
        return hello && hello->host ? hello->host->name : "a host of mpirun's";
    return lab_crew_host(talk->crew, node);
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

static void end_all(struct lab_conversation *talk, enum certainty certainty, int code, const char *text)
{
    if (talk->over && certainty <= talk->certainty)
        return;
    if (!talk->over)
        talk->better_until_ns = lab_now_ns() + BETTER_MS * LAB_NS_PER_MS;
    talk->over = talk->launch_failed = true;
    talk->certainty = certainty;
    talk->failure_code = code;
    snprintf(talk->failure, sizeof talk->failure, "%s", text);
}

static int failed(const struct lab_conversation *talk)
{
    return lab_refuse(talk->failure_code ? talk->failure_code : EIO, "%s", talk->failure);
}

/* ---- hearing ---- */

/* `of_node`: it is about no launch, and the node ends. */
static void hear_fault(struct lab_conversation *talk, uint32_t node, const Lab__Fault *fault, bool of_node)
{
    char text[LAB_ERROR_TEXT], silent[64];
    int code = fault->error > 0 ? fault->error : EIO;
    snprintf(silent, sizeof silent, "node %u failed, and did not say why", node);
    const char *said = fault->text[0] ? fault->text : silent;
    if (lab_conversation_remote(talk))
        snprintf(text, sizeof text, "host %.255s: %.700s", where(talk, node), said);
    else
        snprintf(text, sizeof text, "%s", said);
    if (of_node)
        end_all(talk, NOTICED, code, text);
    else if (fault->signal) /* a worker was killed: nobody asked for that */
        end_all(talk, KNOWN, ECHILD, text);
    else
        fail_launch(talk, code, text);
    lab_conversation_tell(talk, "node %u: FAULT: %s%s%s", node, text, fault->where[0] ? " at " : "", fault->where);
}

/* Who minds a node of mpirun's knows how it ended; a node that ended by itself may have said more. */
static void hear_end(struct lab_conversation *talk, uint32_t node, int status)
{
    char how[LAB_CHILD_STATUS_TEXT], text[LAB_CREW_TEXT];
    snprintf(text, sizeof text, "node %u on %s%s %s", node, talk->apart ? "host " : "", where(talk, node), lab_child_status_text(status, how));
    lab_conversation_tell(talk, "%s", text);
    if (!talk->leaving)
        end_all(talk, WIFSIGNALED(status) ? KNOWN : GUESSED, ECHILD, text);
}

/* Takes the frame over. */
static void hear(struct lab_conversation *talk, uint32_t node, Lab__Frame *frame)
{
    const Lab__Fault *fault;
    bool hello = frame->body_case == LAB__FRAME__BODY_HELLO;
    if (frame->body_case == LAB__FRAME__BODY_FAULT && !frame->launch) {
        hear_fault(talk, node, frame->fault, true);
        lab_codec_free(frame);
    } else if (frame->body_case == LAB__FRAME__BODY_ENDED) {
        hear_end(talk, node, (int)frame->ended->status);
        lab_codec_free(frame);
    } else if (lab_peers_hear(talk->peers, node, frame, &fault))
        end_all(talk, KNOWN, EPROTO, lab_error_last()->text);
    else if (fault)
        hear_fault(talk, node, fault, false);
    else if (hello)
        lab_conversation_tell(talk, "node %u: HELLO", node);
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
            end_all(talk, KNOWN, EPROTONOSUPPORT, lab_error_last()->text);
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
            end_all(talk, event.vague ? GUESSED : KNOWN, ECHILD, event.text);
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
    end_all(talk, KNOWN, EINTR, text);
}

static void watch_silence(struct lab_conversation *talk)
{
    /* A killed node is told of by its connection. Silence is that of a stopped one or of a cut link, or of a host that is busy with its own
     * relays: longer than a moment. A node beside a thousand workers has its turn when they have had theirs. */
    uint64_t now = lab_now_ns(), silent_s = talk->spec.crew.hosts ? SILENT_REMOTE_S : SILENT_S;
    silent_s += talk->parties * LAB_START_WITHIN_NS / LAB_NS_PER_S;
    for (uint32_t n = 0; n < talk->spec.nodes; n++) {
        uint64_t heard = lab_bus_last_heard_ns(talk->bus, n);
        if (!lab_peers_at(talk->peers, n, LAB_PEER_GREETED))
            continue;
        /* This process may itself have been stopped for a while: silence counts from when it listens again. */
        if (heard < talk->heard_from_ns)
            heard = talk->heard_from_ns;
        if (now - heard > silent_s * LAB_NS_PER_S) {
            char text[256];
            snprintf(text, sizeof text, "node %u on %s has been silent for %d s", n, where(talk, n), (int)silent_s);
            end_all(talk, GUESSED, ETIMEDOUT, text);
        }
    }
}

/* ---- waiting ---- */

static void wait_for_news(struct lab_conversation *talk, uint64_t deadline_ns)
{
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

static bool may_learn_more(const struct lab_conversation *talk)
{
    return talk->over && talk->certainty < KNOWN && talk->crew && lab_ns_until(talk->better_until_ns);
}

/* It is over; why, another may know better. */
static int conclude(struct lab_conversation *talk)
{
    while (may_learn_more(talk)) {
        wait_for_news(talk, talk->better_until_ns);
        hear_all(talk);
        watch_crew(talk);
    }
    return failed(talk);
}

/* Until every node has come to `stage`. 0, or -errno with talk->failure; `what` was waited for. */
static int await(struct lab_conversation *talk, enum lab_peer_stage stage, uint64_t deadline_ns, const char *what)
{
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
        if (talk->over || talk->launch_failed)
            return conclude(talk);
        int32_t behind = lab_peers_behind(talk->peers, stage);
        if (behind < 0)
            return 0;
        if (lab_ns_until(deadline_ns) == 0) {
            char text[LAB_ERROR_TEXT];
            if (stage == LAB_PEER_GREETED && talk->spec.crew.hosts)
                snprintf(text, sizeof text, "host %s: node %d gave no %s within %d s; can that host reach %s? A firewall may drop it",
                         where(talk, (uint32_t)behind), (int)behind, what, HELLO_REMOTE_S, lab_bus_address(talk->bus));
            else
                snprintf(text, sizeof text, "node %d on %s gave no %s before the deadline", (int)behind, where(talk, (uint32_t)behind), what);
            fail_launch(talk, ETIMEDOUT, text);
            return failed(talk);
        }
        watch_silence(talk);
        wait_for_news(talk, deadline_ns);
    }
}

static int say(struct lab_conversation *talk, uint32_t node, Lab__Frame *frame)
{
    frame->launch = talk->number;
    int err = lab_bus_send(talk->bus, node, frame);
    if (!err)
        return 0;
    char text[LAB_ERROR_TEXT];
    snprintf(text, sizeof text, "cannot reach node %u on %.200s: %.600s", node, where(talk, node),
             err == -EAGAIN ? "it takes nothing any more" : lab_error_last()->text);
    end_all(talk, GUESSED, -err, text);
    return conclude(talk);
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
        const Lab__Hello *hello = lab_peers_hello(talk->peers, n);
        const Lab__Host *facts = hello->host;
        if (strcmp(hello->version, LAB_VERSION) != 0) {
            char text[256];
            snprintf(text, sizeof text, "node %u on %s is ipclab %.32s, and this is %s: install the same version", n,
                     where(talk, n), hello->version, LAB_VERSION);
            end_all(talk, KNOWN, EPROTONOSUPPORT, text);
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
    err = await(talk, LAB_PEER_GREETED, deadline_ns, "HELLO");
    if (!err)
        err = note_hosts(talk);
    talk->all_greeted = !err;
    return err;
}

int lab_conversation_begin(const struct lab_conversation_spec *spec, struct lab_conversation **ret_talk)
{
    struct lab_conversation *talk = calloc(1, sizeof *talk);
    *ret_talk = NULL;
    if (!talk)
        return lab_fail(ENOMEM, "no memory for %u nodes", spec->nodes);
    int err = lab_peers_new(spec->nodes, &talk->peers);
    if (err) {
        free(talk);
        return err;
    }
    talk->spec = *spec;
    talk->apart = spec->crew.world && lab_crew_apart();
    talk->began_ns = lab_now_ns();
    talk->signal_fd = -1;
    if (getrandom(&talk->run, sizeof talk->run, GRND_NONBLOCK) != (ssize_t)sizeof talk->run)
        talk->run = talk->began_ns;
    *ret_talk = talk;
    err = begin(talk);
    if (err && !talk->over)
        end_all(talk, GUESSED, -err, lab_error_last()->text);
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
        if (lab_peers_at(talk->peers, n, LAB_PEER_GREETED))
            lab_bus_send(talk->bus, n, &frame);
    /* After a death or a signal nobody is waited for. */
    lab_crew_end(talk->crew, talk->over ? 0 : lab_now_ns() + GRACE_MS * LAB_NS_PER_MS);
    lab_bus_close(talk->bus);
    if (talk->signal_fd >= 0) {
        close(talk->signal_fd);
        pthread_sigmask(SIG_SETMASK, &talk->mask_before, NULL);
    }
    lab_peers_free(talk->peers);
    free(talk);
}

/* ---- a launch ---- */

static int exchange_addresses(struct lab_conversation *talk)
{
    size_t count = 0, used = 0;
    for (uint32_t n = 0; n < talk->taking_part; n++)
        count += lab_peers_listen(talk->peers, n)->n_endpoints;
    Lab__Endpoint **all = calloc(count + 1, sizeof *all);
    if (!all)
        return lab_fail(ENOMEM, "no memory for %zu addresses", count);
    for (uint32_t n = 0; n < talk->taking_part; n++)
        for (size_t e = 0; e < lab_peers_listen(talk->peers, n)->n_endpoints; e++)
            all[used++] = lab_peers_listen(talk->peers, n)->endpoints[e];
    Lab__Connect connect = LAB__CONNECT__INIT;
    connect.n_endpoints = used;
    connect.endpoints = all;
    Lab__Frame frame = LAB__FRAME__INIT;
    frame.body_case = LAB__FRAME__BODY_CONNECT;
    frame.connect = &connect;
    int err = say_all(talk, &frame);
    lab_peers_connect(talk->peers);
    free(all);
    return err;
}

static int lead(struct lab_conversation *talk, Lab__Assign *assign, bool crosses, uint64_t step_ns)
{
    Lab__Frame frame = LAB__FRAME__INIT;
    frame.body_case = LAB__FRAME__BODY_ASSIGN;
    frame.assign = assign;
    uint64_t began_ns = lab_now_ns();
    int err = say_all(talk, &frame);
    if (!err && crosses) {
        err = await(talk, LAB_PEER_LISTENING, lab_now_ns() + step_ns, "LISTEN");
        if (!err)
            err = exchange_addresses(talk);
    }
    if (!err)
        err = await(talk, LAB_PEER_READY, lab_now_ns() + step_ns, "READY");
    if (err)
        return err;
    talk->ready_ns = lab_now_ns() - began_ns;
    Lab__Go go = LAB__GO__INIT;
    frame.body_case = LAB__FRAME__BODY_GO;
    frame.go = &go;
    err = say_all(talk, &frame);
    lab_peers_go(talk->peers);
    return err ? err : await(talk, LAB_PEER_DONE, lab_now_ns() + assign->deadline_ns + step_ns, "DONE");
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
    lab_peers_abort(talk->peers);
    for (uint32_t n = 0; n < talk->taking_part && !talk->over; n++)
        if (!lab_peers_at(talk->peers, n, LAB_PEER_DONE))
            say(talk, n, &frame);
    char reason[LAB_ERROR_TEXT];
    snprintf(reason, sizeof reason, "%s", talk->failure);
    uint64_t deadline_ns = lab_now_ns() + ABORT_MS * LAB_NS_PER_MS;
    while (!talk->over && lab_peers_behind(talk->peers, LAB_PEER_DONE) >= 0) {
        talk->launch_failed = false;
        if (await(talk, LAB_PEER_DONE, deadline_ns, "answer to ABORT") == -ETIMEDOUT && !talk->over)
            end_all(talk, GUESSED, ETIMEDOUT, lab_error_last()->text);
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
    talk->parties = (uint32_t)assign->n_places;
    talk->launch_failed = false;
    lab_peers_assign(talk->peers, talk->number, talk->taking_part,
                     crosses ? LAB_LAUNCH_LISTENS : assign->limits ? LAB_LAUNCH_LIMITS : LAB_LAUNCH_PLAIN);
    uint64_t step_s = lab_conversation_remote(talk) ? STEP_REMOTE_S : slow_start ? STEP_MPI_S : STEP_LOCAL_S;
    int err = lead(talk, assign, crosses, step_s * LAB_NS_PER_S + assign->n_places * LAB_START_WITHIN_NS);
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

uint64_t lab_conversation_ready_ns(const struct lab_conversation *talk)
{
    return talk->ready_ns;
}

const Lab__Done *const *lab_conversation_done(const struct lab_conversation *talk)
{
    return lab_peers_done(talk->peers);
}

int lab_conversation_limits(struct lab_conversation *talk, const Lab__Limits **ret_limits)
{
    Lab__Assign assign = LAB__ASSIGN__INIT;
    assign.limits = 1;
    assign.nodes = 1;
    assign.deadline_ns = LIMITS_S * LAB_NS_PER_S;
    int err = lab_conversation_launch(talk, &assign, false, false);
    if (!err && !lab_peers_limits(talk->peers))
        err = lab_refuse(EPROTO, "node 0 gave no limits");
    if (!err)
        *ret_limits = lab_peers_limits(talk->peers);
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
    return talk->spec.crew.hosts != NULL || talk->apart;
}

uint64_t lab_conversation_run(const struct lab_conversation *talk)
{
    return talk->run;
}

const char *lab_conversation_host(const struct lab_conversation *talk, uint32_t node)
{
    if (talk->apart) /* nobody has named these hosts: the address that a node came from leads back to it */
        return lab_bus_peer(talk->bus, node);
    return lab_conversation_remote(talk) ? lab_crew_host(talk->crew, node) : "";
}

int32_t lab_conversation_cpu(const struct lab_conversation *talk, uint32_t node, int32_t cpu)
{
    const Lab__Hello *hello = lab_peers_hello(talk->peers, node);
    const Lab__Host *host = hello ? hello->host : NULL;
    if (cpu < 0 || !lab_conversation_remote(talk) || !host || !host->n_cpus)
        return cpu;
    return host->cpus[(size_t)cpu % host->n_cpus];
}
