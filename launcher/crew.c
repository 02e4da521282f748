#include "launcher/crew.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/environment.h"
#include "base/error.h"
#include "base/home.h"
#include "launcher/crew_mpiexec.h"
#include "launcher/crew_world.h"
#include "launcher/rank.h"
#include "proto/pmi.h"
#include "sweep/clean.h"
#include "sweep/mind.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SWEEP_S = 2 };

struct lab_crew {
    uint32_t nodes;                /* of the run */
    const struct lab_hosts *hosts; /* NULL: this host, or the user's world */
    bool world;
    struct lab_child *children;    /* node processes, or mpiexec alone */
    uint32_t child_count;
    struct lab_child minder;       /* of this process, where MPI may leave files */
    int epoll;
    struct lab_pmi *pmi;           /* local crews only */
    struct lab_mpiexec_output output;
    bool told;                     /* what the output says has been handed over */
    char mark[LAB_CLEAN_MARK];
    time_t started;
};

int lab_crew_program(const char *name, char *to, size_t room)
{
    return lab_home_find(LAB_HOME_PROGRAM, name, to, room);
}

int lab_crew_module(const struct lab_transport *transport)
{
    char name[64], path[PATH_MAX];
    if (!transport->module)
        return 0;
    snprintf(name, sizeof name, "%s.so", transport->module);
    if (lab_home_find(LAB_HOME_MODULE, name, path, sizeof path) == 0)
        return 0;
    return lab_refuse(ENOENT, "%s is not part of this installation: install the package %s, then build ipclab again", name, transport->package);
}

/* ---- starting ---- */

static int watch(struct lab_crew *crew, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(crew->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return lab_fail(errno, "cannot watch the nodes");
    return 0;
}

/* One node process on this host. `more`: NULL-terminated variables; `fds`: the end of its PMI connection, its keys. */
static int start_node(struct lab_crew *crew, const char *program, char *const *argv, const char *const *more,
                      const struct lab_child_fd *fds, size_t fd_count)
{
    char **envp = lab_environment_make(crew->world, more);
    if (!envp)
        return lab_fail(ENOMEM, "cannot start a node");
    const struct lab_child_spec spec = {
        .path = program, .argv = argv, .envp = envp, .fds = fds, .fd_count = fd_count, .cpu = -1, .own_group = true};
    struct lab_child child = {0};
    int err = lab_child_spawn(&spec, &child);
    free(envp);
    if (err)
        return err;
    crew->children[crew->child_count++] = child;
    return watch(crew, child.pidfd);
}

static int start_local(struct lab_crew *crew, const struct lab_crew_spec *spec, const char *program)
{
    int err = lab_pmi_new(spec->nodes, &crew->pmi);
    if (!err)
        err = watch(crew, lab_pmi_fd(crew->pmi));
    for (uint32_t i = 0; !err && i < spec->nodes; i++) {
        char index[16], nodes[16], name[] = "ipclab-node", control[] = "--control", node[] = "--node", of[] = "--nodes",
             rank[] = "--rank", address[LAB_CREW_ENDPOINT];
        snprintf(index, sizeof index, "%u", i);
        snprintf(nodes, sizeof nodes, "%u", spec->nodes);
        snprintf(address, sizeof address, "%s", spec->control);
        char *argv[] = {name, control, address, node, index, of, nodes, rank, index, NULL};

        char variables[LAB_PMI_VARIABLES][LAB_PMI_VARIABLE];
        const char *more[LAB_PMI_VARIABLES + 2] = {crew->mark};
        struct lab_child_fd fd;
        err = lab_pmi_take_fd(crew->pmi, i, &fd.from);
        if (err)
            break;
        fd.to = LAB_PMI_FD;
        lab_pmi_environment(crew->pmi, i, fd.to, variables);
        for (int v = 0; v < LAB_PMI_VARIABLES; v++)
            more[v + 1] = variables[v];
        err = start_node(crew, program, argv, more, &fd, 1);
        close(fd.from);
    }
    if (!err && spec->ranks)
        err = lab_mind_self(crew->mark, crew->started, &crew->minder);
    return err;
}

/* Rank 0 of a user's mpirun: the other ranks learn where we are, and our node takes over our place in the world. */
static int start_lead(struct lab_crew *crew, const struct lab_crew_spec *spec, const char *program, uint64_t deadline_ns)
{
    char name[] = "ipclab-node", control[] = "--control", world[] = "--world", staying[] = "--staying", keys[] = "--keys", number[16],
         address[LAB_CREW_ENDPOINT];
    snprintf(address, sizeof address, "%s", spec->control);
    char *argv[] = {name, control, address, world, staying, spec->keys ? keys : NULL, number, NULL};
    const char *more[] = {crew->mark, NULL};
    struct lab_child_fd fds[2] = {{-1, -1}, {-1, -1}};
    int err = lab_crew_pmi_fd(&fds[0].from);
    if (!err && spec->keys)
        err = lab_keys_pass(spec->keys, &fds[1].from);
    fds[0].to = fds[0].from;
    fds[1].to = fds[0].from + 1;
    snprintf(number, sizeof number, "%d", fds[1].to);
    if (!err)
        err = lab_pmi_publish(fds[0].from, LAB_CREW_KEY, spec->control, deadline_ns);
    if (!err) {
        lab_rank_published(spec->control);
        err = start_node(crew, program, argv, more, fds, spec->keys ? 2 : 1);
    }
    if (fds[1].from >= 0)
        close(fds[1].from);
    return err;
}

static int start_remote(struct lab_crew *crew, const struct lab_crew_spec *spec)
{
    const char *more[] = {crew->mark, NULL};
    char **envp = lab_environment_make(false, more);
    if (!envp)
        return lab_fail(ENOMEM, "cannot start mpiexec");
    struct lab_child child = {0};
    int err = lab_mpiexec_start(spec, envp, &child, &crew->output);
    free(envp);
    if (err)
        return err;
    crew->children[crew->child_count++] = child;
    err = watch(crew, child.pidfd);
    return err ? err : watch(crew, crew->output.fd);
}

int lab_crew_start(const struct lab_crew_spec *spec, uint64_t deadline_ns, struct lab_crew **ret_crew)
{
    if (spec->nodes < 1 || spec->nodes > LAB_CREW_NODES_MAX)
        return lab_refuse(EINVAL, "%u nodes: 1 to %d are possible", spec->nodes, LAB_CREW_NODES_MAX);
    if (lab_ns_until(deadline_ns) == 0)
        return lab_refuse(ETIMEDOUT, "no time is left to start the nodes");
    char program[PATH_MAX];
    int err = lab_crew_program("ipclab-node", program, sizeof program);
    if (err)
        return err;

    struct lab_crew *crew = calloc(1, sizeof *crew);
    struct lab_child *children = calloc(spec->nodes, sizeof *children);
    if (!crew || !children) {
        free(crew);
        free(children);
        return lab_fail(ENOMEM, "cannot start the nodes");
    }
    crew->nodes = spec->nodes;
    crew->hosts = spec->hosts;
    crew->world = spec->world;
    crew->output.fd = -1;
    crew->started = time(NULL);
    lab_clean_mark(crew->mark);
    crew->children = children;
    crew->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (crew->epoll < 0)
        err = lab_fail(errno, "cannot watch the nodes");
    else if (spec->world)
        err = start_lead(crew, spec, program, deadline_ns);
    else if (spec->hosts)
        err = start_remote(crew, spec);
    else
        err = start_local(crew, spec, program);
    if (err) {
        struct lab_error why = *lab_error_last();
        lab_crew_end(crew, 0);
        return lab_refuse_at(why.file, why.line, why.code, "%s", why.text);
    }
    *ret_crew = crew;
    return 0;
}

/* ---- watching ---- */

int lab_crew_poll_fd(const struct lab_crew *crew)
{
    return crew->epoll;
}

const char *lab_crew_host(const struct lab_crew *crew, uint32_t node)
{
    return crew->hosts ? lab_hosts_of_node(crew->hosts, node)->name : "this host";
}

uint32_t lab_crew_alive(const struct lab_crew *crew)
{
    uint32_t alive = 0;
    for (uint32_t i = 0; i < crew->child_count; i++)
        alive += crew->children[i].pid > 0;
    return alive;
}

static void serve(struct lab_crew *crew)
{
    if (crew->pmi)
        lab_pmi_serve(crew->pmi);
    if (crew->output.fd >= 0 && !lab_mpiexec_read(&crew->output))
        lab_mpiexec_close(&crew->output);
}

/* mpiexec's group holds the processes that it forked to reach the hosts; without them the proxies there end their nodes. */
static void kill_child(struct lab_crew *crew, uint32_t i)
{
    if (crew->children[i].pid > 0 && crew->hosts)
        kill(-crew->children[i].pid, SIGKILL);
    lab_child_kill(&crew->children[i]);
}

int lab_crew_event(struct lab_crew *crew, struct lab_crew_event *ret_event)
{
    serve(crew);
    /* Also after mpiexec has ended: what it started may still have something to say. */
    if (crew->hosts && !crew->told && lab_mpiexec_told(&crew->output, crew->hosts, crew->nodes, ret_event)) {
        crew->told = true;
        kill_child(crew, 0);
        return 0;
    }
    for (uint32_t i = 0; i < crew->child_count; i++) {
        int status;
        if (crew->children[i].pid <= 0 || lab_child_reap(&crew->children[i], 0, &status) != 0)
            continue;
        serve(crew); /* its last words */
        struct lab_crew_event event = {.node = (int32_t)i, .status = status};
        char how[LAB_CHILD_STATUS_TEXT];
        if (crew->hosts && lab_mpiexec_told(&crew->output, crew->hosts, crew->nodes, &event)) {
            crew->told = true;
        } else if (crew->hosts) {
            lab_mpiexec_explain(&crew->output, status, &event);
        } else {
            event.vague = !WIFSIGNALED(status); /* who ends by himself says why, or it is said of what he hung on */
            snprintf(event.text, sizeof event.text, "node %u on %s %s", i, lab_crew_host(crew, i), lab_child_status_text(status, how));
        }
        *ret_event = event;
        return 0;
    }
    return -EAGAIN;
}

/* ---- ending ---- */

/* Lets those who were told to go leave by themselves; their MPI_Finalize needs the PMI server. */
static void wait_until_gone(struct lab_crew *crew, uint64_t deadline_ns)
{
    struct lab_crew_event event;
    while (lab_crew_alive(crew) && lab_ns_until(deadline_ns)) {
        if (lab_crew_event(crew, &event) == 0)
            continue;
        struct pollfd happened = {.fd = crew->epoll, .events = POLLIN};
        if (poll(&happened, 1, lab_ms_until(deadline_ns)) < 0 && errno != EINTR)
            break;
    }
}

void lab_crew_end(struct lab_crew *crew, uint64_t grace_deadline_ns)
{
    if (!crew)
        return;
    if (grace_deadline_ns)
        wait_until_gone(crew, grace_deadline_ns);
    bool killed = lab_crew_alive(crew) > 0;
    for (uint32_t i = 0; i < crew->child_count; i++)
        kill_child(crew, i);
    lab_clean_marked(crew->mark, lab_now_ns() + SWEEP_S * LAB_NS_PER_S);
    /* On other hosts the minders do that (sweep/mind.h), and in the user's world too. */
    if (!crew->world && (killed || crew->hosts || crew->pmi))
        lab_clean_shm(LAB_CLEAN_SHM, crew->started, NULL, false);
    /* A node that somebody else has killed is not among them. */
    lab_clean_sysv(NULL, false);
    lab_clean_mq(NULL, false);
    lab_child_kill(&crew->minder);
    lab_mpiexec_close(&crew->output);
    lab_pmi_free(crew->pmi);
    if (crew->epoll >= 0)
        close(crew->epoll);
    free(crew->children);
    free(crew);
}
