/* A duet: one channel, a sender's script and a receiver's script. Each is played by a process of its own, or where both ends are in one
 * (LAB_CAP_THREADS) by a thread; over a transport that only talks to itself (LAB_CAP_SELF) by two threads of which one runs at a time; over
 * an MPI world by its two ranks.
 * The scripts do not know which. They say what they found with NEED: cmocka's assertions belong to the parent alone. */
#ifndef LAB_TESTS_CONTRACT_DUET_H
#define LAB_TESTS_CONTRACT_DUET_H

#include "base/alarm.h"
#include "base/clock.h"
#include "base/error.h"
#include "node/lane/lane.h"
#include "node/transport.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define DUET_PATIENCE_NS (20 * LAB_NS_PER_S)

/* The two threads of a SELF duet: whoever has the turn runs. */
struct baton {
    pthread_mutex_t lock;
    pthread_cond_t passed;
    enum lab_role turn;
    bool finished[2];
    unsigned meetings[2];
    struct lab_end *end[2];
};

struct party {
    const struct lab_channel *channel;
    struct lab_wire wire;
    enum lab_role role;
    struct lab_end *end;
    int sync_fd;          /* stream socket to the other party; -1: there is a baton */
    struct baton *baton;
    uint64_t deadline_ns; /* of everything that must not fail */
};

typedef bool duet_script(struct party *party);

#define NEED(condition)                                         \
    do {                                                        \
        if (!(condition))                                       \
            return need_failed(party, #condition, __LINE__, 0); \
    } while (0)
/* ... of a call that gives `value` (an error code is shown). */
#define NEED_IS(call, value)                                     \
    do {                                                         \
        long long gave_ = (long long)(call);                     \
        if (gave_ != (long long)(value))                         \
            return need_failed(party, #call, __LINE__, gave_);   \
    } while (0)

static inline bool need_failed(const struct party *party, const char *what, int line, long long gave)
{
    fprintf(stderr, "%s: the %s, line %d: %s gave %lld (last error: %s)\n", party->channel->transport->name,
            party->role == LAB_TX ? "sender" : "receiver", line, what, gave, lab_error_last()->text);
    return false;
}

static inline bool party_is_self(const struct party *party)
{
    return party->channel->transport->caps & LAB_CAP_SELF;
}

/* ---- taking turns, and meeting ---- */

static inline void baton_pass(struct baton *baton, enum lab_role me)
{
    pthread_mutex_lock(&baton->lock);
    if (!baton->finished[!me])
        baton->turn = !me;
    pthread_cond_broadcast(&baton->passed);
    while (baton->turn != me)
        pthread_cond_wait(&baton->passed, &baton->lock);
    pthread_mutex_unlock(&baton->lock);
}

/* Who uses a library that moves messages only while it is called goes on calling it (LAB_CAP_CALLED): nothing is sent, nothing received. */
static inline void party_call(struct party *party)
{
    struct lab_end *end = party->end;
    struct lab_span span;
    if (!end || !(party->channel->transport->caps & LAB_CAP_CALLED))
        return;
    if (party->role == LAB_TX && end->ops->reserve(end, 8, 1, 0, &span) == 0)
        end->ops->commit(end, 0);
    if (party->role == LAB_RX && end->ops->borrow(end, 1, 0, &span) == 0)
        end->ops->release(end, 0);
}

/* Both parties have come this far. */
static inline bool party_meet(struct party *party)
{
    if (party->baton) {
        struct baton *baton = party->baton;
        unsigned mine = ++baton->meetings[party->role];
        while (baton->meetings[!party->role] < mine) {
            NEED(!baton->finished[!party->role] && lab_ns_until(party->deadline_ns));
            baton_pass(baton, party->role);
        }
        return true;
    }
    char token = 'm';
    NEED_IS(send(party->sync_fd, &token, 1, MSG_NOSIGNAL), 1);
    struct pollfd there = {.fd = party->sync_fd, .events = POLLIN};
    int looks = party->channel->transport->caps & LAB_CAP_CALLED ? 1 : lab_ms_until(party->deadline_ns), ready;
    while ((ready = poll(&there, 1, looks)) <= 0 && lab_ns_until(party->deadline_ns)) {
        NEED(ready == 0 || errno == EINTR);
        party_call(party);
    }
    NEED_IS(recv(party->sync_fd, &token, 1, MSG_DONTWAIT), 1);
    return true;
}

/* ---- descriptors and names that are open ---- */

static inline size_t count_entries(const char *folder)
{
    size_t count = 0;
    DIR *dir = opendir(folder);
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

/* ---- ends ---- */

static inline bool party_open(struct party *party)
{
    struct lab_end *partner = party->baton ? party->baton->end[!party->role] : NULL;
    NEED_IS(lab_end_open(party->channel, party->role, &party->wire, partner, party->deadline_ns, &party->end), 0);
    if (party->baton)
        party->baton->end[party->role] = party->end;
    return true;
}

static inline void party_close(struct party *party)
{
    lab_end_close(party->end);
    party->end = NULL;
    if (party->baton)
        party->baton->end[party->role] = NULL;
}

/* An end that carries to itself cannot wait: the other side gets its turn instead. */
static inline bool party_again(struct party *party, long long outcome)
{
    if (outcome != -EAGAIN || !party->baton || party->baton->finished[!party->role] || !lab_ns_until(party->deadline_ns))
        return false;
    baton_pass(party->baton, party->role);
    return true;
}

/* Bytes that tell which message they belong to, and where in it they are. */
static inline void message_fill(unsigned char *to, uint32_t length, uint32_t number)
{
    uint32_t state = (number + 1) * 2654435761u + length;
    for (uint32_t i = 0; i < length; i++) {
        state = state * 1664525u + 1013904223u;
        to[i] = (unsigned char)(state >> 24);
    }
}

static inline bool message_is(const unsigned char *bytes, uint32_t length, uint32_t number)
{
    uint32_t state = (number + 1) * 2654435761u + length;
    for (uint32_t i = 0; i < length; i++) {
        state = state * 1664525u + 1013904223u;
        if (bytes[i] != (unsigned char)(state >> 24))
            return false;
    }
    return true;
}

/* Sends message `number`; the outcome. */
static inline int party_try(struct party *party, uint32_t length, uint32_t number, uint64_t deadline_ns)
{
    unsigned char *bytes = malloc(length);
    message_fill(bytes, length, number);
    int err = lab_end_send(party->end, bytes, length, deadline_ns);
    free(bytes);
    return err;
}

static inline int party_say(struct party *party, uint32_t length, uint32_t number)
{
    int err;
    do
        err = party_try(party, length, number, party->deadline_ns);
    while (party_again(party, err));
    return err;
}

/* Receives a message of any length up to the channel's: its length, or the outcome; -EBADMSG when it is not `number`. */
static inline ssize_t party_hear_within(struct party *party, uint32_t number, uint64_t deadline_ns)
{
    unsigned char *bytes = malloc(party->channel->message_max);
    ssize_t got = lab_end_recv(party->end, bytes, party->channel->message_max, deadline_ns);
    if (got >= 0 && !message_is(bytes, (uint32_t)got, number))
        got = lab_refuse(EBADMSG, "a message of %zd bytes is not number %u as it was sent", got, number);
    free(bytes);
    return got;
}

static inline ssize_t party_hear(struct party *party, uint32_t number)
{
    ssize_t got;
    do
        got = party_hear_within(party, number, party->deadline_ns);
    while (party_again(party, got));
    return got;
}

/* ---- playing ---- */

/* What lies in a sender is fetched before that closes, however seldom the other party gets a core; one that died is not waited for. */
static inline void party_linger(struct party *party)
{
    if (!(party->channel->transport->caps & LAB_CAP_FRAGILE) || send(party->sync_fd, "l", 1, MSG_NOSIGNAL) != 1)
        return;
    struct pollfd there = {.fd = party->sync_fd, .events = POLLIN};
    while (poll(&there, 1, 1) <= 0 && lab_ns_until(party->deadline_ns))
        party_call(party);
    char token;
    ssize_t ignored = recv(party->sync_fd, &token, 1, MSG_DONTWAIT); /* the ranks of a world meet here again */
    (void)ignored;
}

/* Opens, plays and closes one side; whatever was opened is closed again, by library threads too. */
static inline bool party_play(struct party *party, duet_script *script)
{
    party->deadline_ns = lab_now_ns() + DUET_PATIENCE_NS;
    bool counts = !party->baton && !(party->channel->transport->caps & (LAB_CAP_WORLD | LAB_CAP_THREADS));
    size_t before = counts ? count_entries("/proc/self/fd") : 0, inherited = (party->wire.fd[party->role] >= 0) + (party->wire.has_bells ? 2 : 0);
    if (!party_open(party))
        return false;
    bool well = party_meet(party) && script(party);
    if (well)
        party_linger(party);
    party_close(party);
    if (counts && well)
        NEED_IS(count_entries("/proc/self/fd"), before - inherited);
    return well;
}

/* Both sides play in processes: forked from here, each with its half of the wire only. */
static inline pid_t party_fork(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role role,
                               const int sync_fd[2], duet_script *script)
{
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(2);
    lab_alarm_fini(); /* timers are not inherited */
    close(sync_fd[!role]);
    struct lab_wire mine = *wire;
    if (mine.fd[!role] == mine.fd[role])
        mine.fd[!role] = -1;
    lab_wire_drop(&mine, !role);
    struct party party = {.channel = channel, .wire = mine, .role = role, .sync_fd = sync_fd[role]};
    _exit(party_play(&party, script) ? 0 : 1);
}

/* Reaps both. Who fails takes the other along; whom a signal ended is reported to the living end, as a node does. */
static inline void duet_wait(const struct lab_channel *channel, const struct lab_transport_ops *ops, const struct lab_wire *wire,
                             const pid_t pid[2], int ret_status[2])
{
    struct pollfd ends[2];
    uint64_t deadline_ns = lab_now_ns() + 2 * DUET_PATIENCE_NS;
    for (int role = 0; role < 2; role++)
        ends[role] = (struct pollfd){.fd = (int)syscall(SYS_pidfd_open, pid[role], 0), .events = POLLIN};
    for (int left = 2; left;) {
        int ready = poll(ends, 2, lab_ms_until(deadline_ns));
        for (int role = 0; role < 2; role++) {
            if (ends[role].fd < 0 || (ready > 0 && !ends[role].revents))
                continue;
            if (ready == 0)
                kill(pid[role], SIGKILL);
            waitpid(pid[role], &ret_status[role], 0);
            close(ends[role].fd);
            ends[role].fd = -1;
            left--;
            if (WIFSIGNALED(ret_status[role]) && ops->hangup)
                ops->hangup(channel, wire, (enum lab_role)role);
            if (WIFEXITED(ret_status[role]) && WEXITSTATUS(ret_status[role]) && ends[!role].fd >= 0)
                kill(pid[!role], SIGKILL);
        }
    }
}

/* What became of the two sides, as of waitpid(2); nothing is left open. -errno when there was no channel to play on. */
static inline int duet_play_processes(const struct lab_channel *channel, const struct lab_transport_ops *ops, duet_script *tx,
                                      duet_script *rx, int ret_status[2])
{
    struct lab_wire wire;
    int sync_fd[2], err = ops->provision(channel, &wire);
    if (err)
        return err;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sync_fd) < 0) {
        err = lab_fail(errno, "cannot make a socket pair");
        ops->retire(channel, &wire);
        return err;
    }
    pid_t pid[2] = {
        [LAB_RX] = party_fork(channel, &wire, LAB_RX, sync_fd, rx),
        [LAB_TX] = party_fork(channel, &wire, LAB_TX, sync_fd, tx),
    };
    close(sync_fd[0]);
    close(sync_fd[1]);
    /* Where the kernel tells of a dead peer, nobody else may hold its end. */
    if (!ops->hangup)
        ops->retire(channel, &wire);
    duet_wait(channel, ops, &wire, pid, ret_status);
    if (ops->hangup)
        ops->retire(channel, &wire);
    return 0;
}

struct duet_thread {
    struct party party;
    duet_script *script;
    bool well;
};

static inline void *duet_thread_run(void *argument)
{
    struct duet_thread *thread = argument;
    struct baton *baton = thread->party.baton;
    enum lab_role me = thread->party.role;
    if (!baton) {
        thread->well = party_play(&thread->party, thread->script);
        close(thread->party.sync_fd);
        return NULL;
    }
    pthread_mutex_lock(&baton->lock);
    while (baton->turn != me)
        pthread_cond_wait(&baton->passed, &baton->lock);
    pthread_mutex_unlock(&baton->lock);
    thread->well = party_play(&thread->party, thread->script);
    pthread_mutex_lock(&baton->lock);
    baton->finished[me] = true;
    baton->turn = !me;
    pthread_cond_broadcast(&baton->passed);
    pthread_mutex_unlock(&baton->lock);
    return NULL;
}

static inline int duet_play_threads(const struct lab_channel *channel, const struct lab_transport_ops *ops, duet_script *tx,
                                 duet_script *rx, int ret_status[2])
{
    struct lab_wire wire;
    int err = ops->provision(channel, &wire);
    if (err)
        return err;
    struct baton baton = {.lock = PTHREAD_MUTEX_INITIALIZER, .passed = PTHREAD_COND_INITIALIZER, .turn = LAB_TX};
    bool by_turns = channel->transport->caps & LAB_CAP_SELF;
    int sync_fd[2] = {-1, -1};
    if (!by_turns && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sync_fd) < 0)
        abort();
    struct duet_thread side[2];
    pthread_t id[2];
    for (int role = 0; role < 2; role++) {
        side[role] = (struct duet_thread){
            .party = {.channel = channel, .wire = wire, .role = (enum lab_role)role, .sync_fd = sync_fd[role], .baton = by_turns ? &baton : NULL},
            .script = role == LAB_TX ? tx : rx,
        };
        if (pthread_create(&id[role], NULL, duet_thread_run, &side[role]))
            abort();
    }
    for (int role = 0; role < 2; role++) {
        pthread_join(id[role], NULL);
        ret_status[role] = side[role].well ? 0 : 1 << 8;
    }
    ops->retire(channel, &wire);
    return 0;
}

/* The two ranks of an MPI world are started by one process manager: they meet at an abstract socket named after it. */
static inline int duet_world_meet(int rank)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "ipclab-contract-%d", (int)getppid());
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), met = -1;
    uint64_t deadline_ns = lab_now_ns() + DUET_PATIENCE_NS;
    if (fd < 0)
        return -1;
    if (rank == 0) {
        struct pollfd caller = {.fd = fd, .events = POLLIN};
        if (bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 1) == 0 &&
            poll(&caller, 1, lab_ms_until(deadline_ns)) == 1)
            met = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        close(fd);
        return met;
    }
    while (connect(fd, (struct sockaddr *)&address, size) < 0) {
        if (lab_ns_until(deadline_ns) == 0) {
            close(fd);
            return -1;
        }
        poll(NULL, 0, 1); /* the other rank has not come so far */
    }
    return fd;
}

/* One rank's part. The receiver provisions, its address travels to the sender. */
static inline bool duet_play_world(const struct lab_channel *channel, const struct lab_transport_ops *ops, int sync_fd,
                                   enum lab_role role, duet_script *script)
{
    struct party self = {.channel = channel, .wire = {.fd = {-1, -1}}, .role = role, .sync_fd = sync_fd}, *party = &self;
    party->deadline_ns = lab_now_ns() + DUET_PATIENCE_NS;
    if (role == LAB_RX)
        NEED_IS(ops->provision(channel, &party->wire), 0);
    NEED(party_meet(party));
    if (role == LAB_RX)
        NEED_IS(send(sync_fd, party->wire.address, LAB_ADDRESS_MAX, MSG_NOSIGNAL), LAB_ADDRESS_MAX);
    else
        NEED_IS(recv(sync_fd, party->wire.address, LAB_ADDRESS_MAX, MSG_WAITALL), LAB_ADDRESS_MAX);
    bool well = party_play(party, script) && party_meet(party);
    if (role == LAB_RX)
        ops->retire(channel, &party->wire);
    return well;
}

#endif
