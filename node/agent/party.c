/* A party of a launch: what it is told, and how it is started and ended. */
#include "node/agent/launch_state.h"

#include "base/clock.h"
#include "base/environment.h"
#include "node/lane/worker.h"
#include "proto/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { VARIABLES_MAX = 8 }; /* of a cell, for its workers */
enum { WORKER_CONTROL_FD = 3 }; /* of its first member; those of the others follow, then whatever the members are handed */

/* ---- telling a party what to do ---- */

/* What a process inherits. */
struct manifest {
    struct lab_child_fd *fds; /* owned */
    size_t count, room;
    int next;                 /* the number that the next descriptor gets there */
};

/* What one member is told. */
struct briefing {
    Lab__Task task;
    Lab__Side *sides;
    Lab__Side **pointers;
    Lab__End *ends;
    size_t side_count;
    struct manifest *manifest; /* of its process; NULL: it is a thread of ours */
    int err;                   /* -ENOMEM: not all descriptors could be handed over */
};

static int hand_over_as(struct manifest *manifest, int fd, int to)
{
    if (manifest->count == manifest->room) {
        size_t room = manifest->room ? 2 * manifest->room : 16;
        struct lab_child_fd *grown = realloc(manifest->fds, room * sizeof *grown);
        if (!grown)
            return lab_fail(ENOMEM, "no memory for the %zu descriptors of a worker", room);
        manifest->fds = grown;
        manifest->room = room;
    }
    manifest->fds[manifest->count++] = (struct lab_child_fd){.from = fd, .to = to};
    return 0;
}

/* A descriptor for the party: a duplicate for a thread of ours, which then owns it; mapped to the next number for a process. */
static int32_t hand_over(struct briefing *briefing, int fd)
{
    if (fd < 0)
        return -1;
    if (!briefing->manifest)
        return fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int err = hand_over_as(briefing->manifest, fd, briefing->manifest->next);
    if (err)
        briefing->err = err;
    return briefing->manifest->next++;
}

static void brief_end(struct briefing *briefing, const struct lab_launch_run *launch, uint32_t i, enum lab_role role, uint32_t seat, Lab__End *ret_end)
{
    const struct lab_path *path = &launch->layout.paths[i];
    enum lab_hop hop = launch->layout.nodes_talk ? LAB_HOP_LINK : LAB_HOP_LOCAL;
    const struct lab_channel *channel = &path->channel[hop];
    const struct lab_wire *wire = &launch->wired[i].wire[hop];
    Lab__End end = LAB__END__INIT;
    end.transport = (char *)(uintptr_t)channel->transport->name;
    end.wait = (char *)(uintptr_t)lab_wait_name(channel->wait);
    end.backing = (char *)(uintptr_t)lab_backing_name(channel->backing);
    end.channel = channel->id;
    end.fd = hand_over(briefing, wire->fd[role]);
    end.own_bell = hand_over(briefing, wire->has_bells ? wire->bells[role].own : -1);
    end.peer_bell = hand_over(briefing, wire->has_bells ? wire->bells[role].peer : -1);
    end.spin_ns = channel->spin_ns;
    end.address = (char *)(uintptr_t)wire->address;
    end.message_max = channel->message_max;
    end.window = channel->window;
    end.batch = channel->batch;
    end.tx_rank = channel->rank[LAB_TX];
    end.rx_rank = channel->rank[LAB_RX];
    end.crosses_nodes = channel->crosses_nodes;
    end.crosses_hosts = channel->crosses_hosts;
    end.tx_seats = lab_seats(channel, LAB_TX);
    end.rx_seats = lab_seats(channel, LAB_RX);
    end.sharing = channel->sharing;
    end.seat = seat;
    end.reliable = channel->reliable;
    end.encrypted = channel->keys.open[0] != '\0';
    *ret_end = end;
}

/* Its one end of the channel that all share. */
static void brief_share(struct briefing *briefing, const struct lab_launch_run *launch, const struct lab_party *party)
{
    const struct lab_path *path = &launch->layout.paths[0];
    Lab__Side side = LAB__SIDE__INIT;
    Lab__End **end = party->role == LAB_TX ? &side.tx : &side.rx;
    side.client = party->role == LAB_TX;
    side.peer = path->party[party->role == LAB_TX ? LAB_RX : LAB_TX];
    side.probe_slot = -1;
    *end = &briefing->ends[0];
    brief_end(briefing, launch, 0, party->role, party->seat, *end);
    briefing->sides[0] = side;
    briefing->pointers[0] = &briefing->sides[0];
    briefing->side_count = 1;
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
    brief_end(briefing, launch, client ? forward : backward, LAB_TX, 0, side.tx);
    brief_end(briefing, launch, client ? backward : forward, LAB_RX, 0, side.rx);
    briefing->sides[s] = side;
    briefing->pointers[s] = &briefing->sides[s];
}

static int brief(struct lab_launch_run *launch, const struct lab_member *member, struct manifest *manifest, struct briefing *briefing)
{
    const struct lab_layout *layout = &launch->layout;
    const struct lab_party *party = member->party;
    size_t edges = party->path_count;
    *briefing = (struct briefing){.manifest = manifest};
    briefing->sides = calloc(edges, sizeof *briefing->sides);
    briefing->pointers = calloc(edges, sizeof *briefing->pointers);
    briefing->ends = calloc(2 * edges, sizeof *briefing->ends);
    if (!briefing->sides || !briefing->pointers || !briefing->ends)
        return lab_fail(ENOMEM, "no memory for the task of a worker with %zu edges", edges);
    if (layout->shared)
        brief_share(briefing, launch, party);
    for (uint32_t p = 0; !layout->shared && p < party->path_count; p++)
        if (layout->paths[party->paths[p]].number % 2 == 0)
            brief_side(briefing, launch, member, party->paths[p]);
    Lab__Task task = LAB__TASK__INIT;
    task.cell = launch->assign->cell;
    task.party = party->index;
    task.epoch = launch->frame->launch;
    task.n_sides = briefing->side_count;
    task.sides = briefing->pointers;
    task.probe_fd = layout->probed ? hand_over(briefing, launch->probe_fd) : -1;
    task.deadline_ns = launch->deadline_ns;
    task.cpu = party->cpu;
    briefing->task = task;
    return briefing->err;
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
    member->threaded = true;
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

static int make_control(struct lab_member *member, int *ret_far_fd)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return lab_fail(errno, "no control socket for party %u", member->party->index);
    member->control_fd = pair[0];
    *ret_far_fd = pair[1];
    return 0;
}

int lab_party_start(struct lab_launch_run *launch, struct lab_member *member)
{
    int err = make_control(member, &member->far_fd);
    if (err)
        return err;
    struct briefing briefing;
    err = brief(launch, member, NULL, &briefing);
    if (!err)
        err = start_thread(member);
    if (!err)
        err = send_task(member, &briefing);
    dismiss(&briefing);
    if (!member->threaded) {
        close(member->far_fd);
        member->far_fd = -1;
    }
    return err;
}

static int spawn(const struct lab_launch_run *launch, const struct manifest *manifest, struct lab_process *process, uint32_t members,
                 const char *const *variables)
{
    const char *unit = lab_unit_name(launch->layout.unit);
    char count[16];
    snprintf(count, sizeof count, "%u", members);
    char *const argv[] = {(char *)(uintptr_t)"ipclab-worker", (char *)(uintptr_t)unit, count, NULL};
    char **envp = lab_environment_make(false, variables);
    const struct lab_child_spec spec = {
        .path = launch->worker_path, .argv = argv, .envp = envp, .fds = manifest->fds, .fd_count = manifest->count,
        /* Threads are placed one by one, by the worker. */
        .cpu = launch->layout.unit == LAB_UNIT_THREAD ? -1 : launch->members[process->first].party->cpu,
    };
    int err = envp ? lab_child_spawn(&spec, &process->child) : lab_fail(ENOMEM, "no memory for an environment");
    free(envp);
    return err;
}

/* As the rank of an MPI world, when its member is one: a process of its own. */
static int spawn_ranked(struct lab_launch_run *launch, struct briefing *briefing, struct lab_process *process, uint32_t members)
{
    char variables[LAB_PMI_VARIABLES][LAB_PMI_VARIABLE];
    const Lab__Cell *cell = launch->assign->cell;
    const char *more[LAB_PMI_VARIABLES + VARIABLES_MAX + 1] = {NULL};
    size_t count = 0;
    if (cell->n_variables > VARIABLES_MAX)
        return lab_refuse(EPROTO, "%zu variables for the environment of a worker; %d is the most", cell->n_variables, VARIABLES_MAX);
    for (size_t v = 0; v < cell->n_variables; v++)
        more[count++] = cell->variables[v];
    int rank = launch->members[process->first].party->rank, pmi_fd = -1;
    if (rank >= 0) {
        int err = lab_pmi_take_fd(launch->pmi, (uint32_t)rank, &pmi_fd);
        if (err)
            return err;
        lab_pmi_environment(launch->pmi, (uint32_t)rank, hand_over(briefing, pmi_fd), variables);
        for (int v = 0; v < LAB_PMI_VARIABLES; v++)
            more[count++] = variables[v];
    }
    int err = briefing->err ? briefing->err : spawn(launch, briefing->manifest, process, members, more);
    if (pmi_fd >= 0)
        close(pmi_fd);
    return err;
}

/* Makes control sockets and tasks for those members that are not idle; `ret_far_fds` are theirs to inherit. */
static int brief_all(struct lab_launch_run *launch, const struct lab_process *process, struct manifest *manifest, uint32_t members,
                     struct briefing *briefings, int *ret_far_fds)
{
    manifest->next = WORKER_CONTROL_FD + (int)members;
    uint32_t made = 0;
    int err = 0;
    for (uint32_t p = process->first; !err && p < process->first + process->count; p++) {
        struct lab_member *member = &launch->members[p];
        if (member->party->idle)
            continue;
        err = make_control(member, &ret_far_fds[made]);
        if (!err)
            err = hand_over_as(manifest, ret_far_fds[made], WORKER_CONTROL_FD + (int)made);
        if (!err)
            err = brief(launch, member, manifest, &briefings[made]);
        made++;
    }
    return err;
}

int lab_process_start(struct lab_launch_run *launch, struct lab_process *process)
{
    uint32_t members = 0;
    for (uint32_t p = process->first; p < process->first + process->count; p++)
        members += !launch->members[p].party->idle;
    if (!members)
        return 0;
    struct manifest manifest = {0};
    struct briefing *briefings = calloc(members, sizeof *briefings);
    int *far_fds = malloc(members * sizeof *far_fds);
    int err = briefings && far_fds ? 0 : lab_fail(ENOMEM, "no memory to start %u workers", members);
    for (uint32_t m = 0; far_fds && m < members; m++)
        far_fds[m] = -1;
    if (!err)
        err = brief_all(launch, process, &manifest, members, briefings, far_fds);
    if (!err)
        err = spawn_ranked(launch, &briefings[0], process, members);
    for (uint32_t m = 0; far_fds && m < members; m++)
        if (far_fds[m] >= 0)
            close(far_fds[m]);
    for (uint32_t p = process->first, m = 0; !err && p < process->first + process->count; p++)
        if (!launch->members[p].party->idle)
            err = send_task(&launch->members[p], &briefings[m++]);
    for (uint32_t m = 0; briefings && m < members; m++)
        dismiss(&briefings[m]);
    free(briefings);
    free(far_fds);
    free(manifest.fds);
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
