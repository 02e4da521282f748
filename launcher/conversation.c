#include "launcher/conversation.h"

#include "base/clock.h"
#include "base/version.h"
#include "launcher/talk.h"
#include "launcher/yaml.h"
#include "observe/limits.h"
#include "proto/codec.h"
#include "report/render.h"
#include "report/store.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum {
    HELLO_LOCAL_S = 5,
    STEP_LOCAL_S = 3, STEP_REMOTE_S = 10, STEP_MPI_S = 10,
    ABORT_MS = 3000, GRACE_MS = 500, LIMITS_S = 5,
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

/* ---- beginning ---- */

/* Those of this process, whose versions are those of every host where they were installed alike. */
static int note_libraries(struct lab_run *run)
{
    const struct lab_library libraries[] = {
        {"libzmq", lab_bus_library()}, {"protobuf-c", lab_codec_library()}, {"hwloc-api", lab_limit_library()},
        {"libfyaml", lab_yaml_library()}, {"jansson", lab_render_library()}, {"SQLite", lab_store_library()},
    };
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        struct lab_library *library = lab_run_add_library(run);
        if (!library)
            return lab_fail(ENOMEM, "no memory for the names of libraries");
        *library = libraries[i];
    }
    return 0;
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
                     lab_talk_where(talk, n), hello->version, LAB_VERSION);
            lab_talk_end_all(talk, LAB_KNOWN, EPROTONOSUPPORT, text);
            return lab_talk_failed(talk);
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
    return note_libraries(run);
}

/* Within a host the bus has none. */
static int find_keys(struct lab_conversation *talk)
{
    bool made;
    if (!lab_conversation_remote(talk))
        return 0;
    int err = lab_keys_load(&talk->keys, &made);
    if (!err)
        talk->spec.crew.keys = &talk->keys;
    if (!err && made)
        lab_conversation_tell(talk, "keys for connections to other hosts were made: ipclab keys shows where");
    return err;
}

static int begin(struct lab_conversation *talk)
{
    char endpoint[LAB_CREW_ENDPOINT];
    struct lab_crew_spec *crew = &talk->spec.crew;
    crew->nodes = talk->spec.nodes;
    int err = lab_talk_take_signals(talk);
    if (!err)
        err = lab_crew_endpoint(crew, endpoint);
    if (!err)
        err = find_keys(talk);
    if (!err)
        err = lab_bus_serve(endpoint, crew->nodes, crew->keys, &talk->bus);
    if (err)
        return err;
    crew->control = lab_bus_address(talk->bus);
    bool remote = lab_conversation_remote(talk);
    uint64_t deadline_ns = lab_now_ns() + (remote ? LAB_TALK_HELLO_REMOTE_S : HELLO_LOCAL_S) * LAB_NS_PER_S;
    err = lab_crew_start(crew, deadline_ns, &talk->crew);
    if (err)
        return err;
    lab_conversation_tell(talk, "%u nodes are started, control at %s", crew->nodes, crew->control);
    err = lab_talk_await(talk, LAB_PEER_GREETED, deadline_ns, "HELLO");
    if (!err)
        err = note_hosts(talk);
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
        lab_talk_end_all(talk, LAB_GUESSED, -err, lab_error_last()->text);
    return err ? lab_talk_failed(talk) : 0;
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
    lab_keys_forget(&talk->keys);
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
    int err = lab_talk_say_all(talk, &frame);
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
    int err = lab_talk_say_all(talk, &frame);
    if (!err && crosses) {
        err = lab_talk_await(talk, LAB_PEER_LISTENING, lab_now_ns() + step_ns, "LISTEN");
        if (!err)
            err = exchange_addresses(talk);
    }
    if (!err)
        err = lab_talk_await(talk, LAB_PEER_READY, lab_now_ns() + step_ns, "READY");
    if (err)
        return err;
    talk->ready_ns = lab_now_ns() - began_ns;
    Lab__Go go = LAB__GO__INIT;
    frame.body_case = LAB__FRAME__BODY_GO;
    frame.go = &go;
    err = lab_talk_say_all(talk, &frame);
    lab_peers_go(talk->peers);
    return err ? err : lab_talk_await(talk, LAB_PEER_DONE, lab_now_ns() + assign->deadline_ns + step_ns, "DONE");
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
            lab_talk_say(talk, n, &frame);
    char reason[LAB_ERROR_TEXT];
    snprintf(reason, sizeof reason, "%s", talk->failure);
    uint64_t deadline_ns = lab_now_ns() + ABORT_MS * LAB_NS_PER_MS;
    while (!talk->over && lab_peers_behind(talk->peers, LAB_PEER_DONE) >= 0) {
        talk->launch_failed = false;
        if (lab_talk_await(talk, LAB_PEER_DONE, deadline_ns, "answer to ABORT") == -ETIMEDOUT && !talk->over)
            lab_talk_end_all(talk, LAB_GUESSED, ETIMEDOUT, lab_error_last()->text);
    }
    if (!talk->over)
        snprintf(talk->failure, sizeof talk->failure, "%s", reason);
}

static int attempt(struct lab_conversation *talk, Lab__Assign *assign, bool crosses, bool slow_start)
{
    if (talk->over)
        return lab_talk_failed(talk);
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
        lab_talk_fail_launch(talk, -err, lab_error_last()->text);
    give_up(talk);
    return lab_talk_failed(talk);
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
    /* Who speaks another protocol, or is another version, has been heard and refused. */
    bool refused = talk && talk->over && talk->failure_code == EPROTONOSUPPORT;
    return talk && !refused && lab_peers_behind(talk->peers, LAB_PEER_GREETED) < 0;
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
