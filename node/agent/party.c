/* A party of a launch: what it is told, and how it is started and ended. */
#include "node/agent/launch_state.h"

#include "base/clock.h"
#include "base/environment.h"
#include "node/lane/worker.h"
#include "proto/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WORKER_CONTROL_FD = 3, WORKER_FIRST_FD = 4 };

/* ---- telling a party what to do ---- */

struct briefing {
    Lab__Task task;
    Lab__Side *sides;
    Lab__Side **pointers;
    Lab__End *ends;
    size_t side_count;
    struct lab_child_fd fds[512];
    size_t fd_count;
    bool overflow;              /* there were more */
};

static void hand_over_as(struct briefing *briefing, int fd, int to)
{
    if (briefing->fd_count == sizeof briefing->fds / sizeof *briefing->fds)
        briefing->overflow = true;
    else
        briefing->fds[briefing->fd_count++] = (struct lab_child_fd){.from = fd, .to = to};
}

/* A descriptor for the party: a duplicate for a thread, which then owns it; mapped to the next number for a process. */
static int32_t hand_over(struct briefing *briefing, const struct lab_member *member, int fd)
{
    if (fd < 0)
        return -1;
    if (member->threaded)
        return fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int to = WORKER_FIRST_FD + (int)briefing->fd_count;
    hand_over_as(briefing, fd, to);
    return to;
}

static void brief_end(struct briefing *briefing, const struct lab_launch_run *launch, const struct lab_member *member, uint32_t i,
                      enum lab_role role, Lab__End *ret_end)
{
    const struct lab_path *path = &launch->layout.paths[i];
    enum lab_hop hop = launch->layout.nodes_talk ? LAB_HOP_LINK : LAB_HOP_LOCAL;
    const struct lab_channel *channel = &path->channel[hop];
    const struct lab_wire *wire = &launch->wired[i].wire[hop];
    Lab__End end = LAB__END__INIT;
    end.transport = (char *)(uintptr_t)channel->transport->name;
    end.wait = (char *)(uintptr_t)lab_wait_name(channel->wait);
    end.channel = channel->id;
    end.fd = hand_over(briefing, member, wire->fd[role]);
    end.address = (char *)(uintptr_t)wire->address;
    end.message_max = channel->message_max;
    end.window = channel->window;
    end.batch = channel->batch;
    end.tx_rank = channel->rank[LAB_TX];
    end.rx_rank = channel->rank[LAB_RX];
    end.crosses_nodes = channel->crosses_nodes;
    end.crosses_hosts = channel->crosses_hosts;
    *ret_end = end;
}

static void brief_side(struct briefing *briefing, const struct lab_launch_run *launch, const struct lab_member *member, uint32_t forward)
{
    const struct lab_path *there = &launch->layout.paths[forward];
    uint32_t me = member->party->index, backward;
    bool client = there->party[LAB_TX] == me;
    if (!lab_layout_path(&launch->layout, there->number + 1, &backward))
        backward = forward; /* it talks to itself */

    size_t s = briefing->side_count++;
    Lab__Side side = LAB__SIDE__INIT;
    side.edge = there->number / 2;
    side.client = client;
    side.peer = there->party[client ? LAB_RX : LAB_TX];
    side.envelope = launch->layout.nodes_talk;
    side.probe_slot = launch->layout.probed ? 0 : -1;
    side.tx = &briefing->ends[2 * s];
    side.rx = &briefing->ends[2 * s + 1];
    brief_end(briefing, launch, member, client ? forward : backward, LAB_TX, side.tx);
    brief_end(briefing, launch, member, client ? backward : forward, LAB_RX, side.rx);
    briefing->sides[s] = side;
    briefing->pointers[s] = &briefing->sides[s];
}

static int brief(struct lab_launch_run *launch, const struct lab_member *member, struct briefing *briefing)
{
    const struct lab_layout *layout = &launch->layout;
    uint32_t me = member->party->index;
    size_t edges = layout->path_count + 1;
    *briefing = (struct briefing){0};
    briefing->sides = calloc(edges, sizeof *briefing->sides);
    briefing->pointers = calloc(edges, sizeof *briefing->pointers);
    briefing->ends = calloc(2 * edges, sizeof *briefing->ends);
    if (!briefing->sides || !briefing->pointers || !briefing->ends)
        return lab_fail(ENOMEM, "no memory for the task of a worker with %zu edges", edges);
    for (uint32_t i = 0; i < layout->path_count; i++) {
        const struct lab_path *path = &layout->paths[i];
        if (path->number % 2 == 0 && (path->party[LAB_TX] == me || path->party[LAB_RX] == me))
            brief_side(briefing, launch, member, i);
    }
    Lab__Task task = LAB__TASK__INIT;
    task.cell = launch->assign->cell;
    task.party = me;
    task.epoch = launch->frame->launch;
    task.n_sides = briefing->side_count;
    task.sides = briefing->pointers;
    task.probe_fd = layout->probed ? hand_over(briefing, member, launch->probe_fd) : -1;
    task.deadline_ns = launch->deadline_ns;
    task.cpu = member->party->cpu;
    briefing->task = task;
    return 0;
}

static void dismiss(struct briefing *briefing)
{
    free(briefing->sides);
    free(briefing->pointers);
    free(briefing->ends);
}

static int send_task(const struct lab_member *member, struct briefing *briefing)
{
    Lab__Note note = LAB__NOTE__INIT;
    note.body_case = LAB__NOTE__BODY_TASK;
    note.task = &briefing->task;
    return lab_codec_send(member->control_fd, &note, lab_now_ns() + LAB_NOTE_WITHIN_MS * LAB_NS_PER_MS);
}

/* ---- starting parties ---- */

static void *member_main(void *argument)
{
    struct lab_member *member = argument;
    lab_worker_run(member->far_fd);
    shutdown(member->far_fd, SHUT_RDWR);
    return NULL;
}

static int start_thread(struct lab_member *member)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (member->party->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)member->party->cpu, &set);
        pthread_attr_setaffinity_np(&attributes, sizeof set, &set);
    }
    int err = pthread_create(&member->thread, &attributes, member_main, member);
    pthread_attr_destroy(&attributes);
    if (err) {
        member->threaded = false;
        return lab_fail(err, "cannot start the thread of party %u on cpu %d", member->party->index, member->party->cpu);
    }
    return 0;
}

static int start_process(struct lab_launch_run *launch, struct lab_member *member, struct briefing *briefing, int far_fd)
{
    char *const argv[] = {(char *)(uintptr_t)"ipclab-worker", NULL};
    char variables[LAB_PMI_VARIABLES][LAB_PMI_VARIABLE];
    const char *more[LAB_PMI_VARIABLES + 1] = {NULL};
    int pmi_fd = -1;
    if (member->party->rank >= 0) {
        int err = lab_pmi_take_fd(launch->pmi, (uint32_t)member->party->rank, &pmi_fd);
        if (err)
            return err;
        lab_pmi_environment(launch->pmi, (uint32_t)member->party->rank, hand_over(briefing, member, pmi_fd), variables);
        for (int v = 0; v < LAB_PMI_VARIABLES; v++)
            more[v] = variables[v];
    }
    hand_over_as(briefing, far_fd, WORKER_CONTROL_FD);
    char **envp = lab_environment_make(false, more);
    const struct lab_child_spec spec = {
        .path = launch->worker_path, .argv = argv, .envp = envp, .fds = briefing->fds, .fd_count = briefing->fd_count,
        .cpu = member->party->cpu,
    };
    int err = !envp                ? lab_fail(ENOMEM, "no memory for an environment")
              : briefing->overflow ? lab_refuse(EMFILE, "worker %u has %zu edges: more than %zu descriptors", member->party->index,
                                                briefing->side_count, sizeof briefing->fds / sizeof *briefing->fds)
                                   : lab_child_spawn(&spec, &member->child);
    free(envp);
    if (pmi_fd >= 0)
        close(pmi_fd);
    return err;
}

int lab_party_start(struct lab_launch_run *launch, struct lab_member *member)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return lab_fail(errno, "no control socket for party %u", member->party->index);
    member->control_fd = pair[0];
    member->threaded = launch->layout.nodes_talk;

    struct briefing briefing;
    int err = brief(launch, member, &briefing);
    if (!err && member->threaded) {
        member->far_fd = pair[1];
        err = start_thread(member);
    } else if (!err) {
        err = start_process(launch, member, &briefing, pair[1]);
        close(pair[1]);
    } else {
        close(pair[1]);
    }
    if (!err)
        err = send_task(member, &briefing);
    dismiss(&briefing);
    return err;
}

/* ---- ending ---- */

int lab_party_join(struct lab_member *member, uint64_t deadline_ns)
{
    shutdown(member->control_fd >= 0 ? member->control_fd : member->far_fd, SHUT_RDWR);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    uint64_t real_ns = (uint64_t)until.tv_sec * LAB_NS_PER_S + (uint64_t)until.tv_nsec + lab_ns_until(deadline_ns);
    until = lab_timespec(real_ns);
    if (pthread_timedjoin_np(member->thread, NULL, &until))
        return lab_refuse(ETIMEDOUT, "the thread of party %u did not end", member->party->index);
    close(member->far_fd);
    member->threaded = false;
    return 0;
}
