#include "launcher/rank.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"
#include "launcher/crew_world.h"
#include "launcher/verbs.h"
#include "proto/bus/bus.h"
#include "proto/pmi.h"
#include "sweep/clean.h"
#include "sweep/mind.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LEARN_S = 60, ANSWER_S = 2, RESULT_S = 10, SETTLE_S = 3, UNMAP_S = 1 };

/* What launcher and rank both see. */
static struct ledger {
    char control[LAB_CREW_ENDPOINT]; /* "": no rank knows it yet */
    bool default_database;
    char database[PATH_MAX];
    char run[64];                    /* "": nothing is stored yet */
} *ledger;

struct rank {
    uint32_t number;
    int pmi_fd, signal_fd, proxy_fd; /* the last: a pidfd */
    int near_fd, far_fd;             /* the child's PMI_FD is the far end: what it says to mpiexec passes through us */
    size_t used;
    char said[2048];                 /* by the child, up to the end of a line */
    pid_t proxy;
    time_t began;
    sigset_t passed, before;
    struct lab_child child;
};

void lab_rank_published(const char *control)
{
    if (ledger)
        snprintf(ledger->control, sizeof ledger->control, "%s", control);
}

void lab_rank_stored(const char *database, const char *run)
{
    if (!ledger)
        return;
    ledger->default_database = !database;
    snprintf(ledger->database, sizeof ledger->database, "%s", database ? database : "");
    snprintf(ledger->run, sizeof ledger->run, "%s", run);
}

static uint64_t in_s(uint64_t seconds)
{
    return lab_now_ns() + seconds * LAB_NS_PER_S;
}

static int open_rank(uint32_t number, struct rank *ret_rank)
{
    struct rank rank = {.number = number, .proxy = getppid(), .began = time(NULL)};
    int err = lab_crew_pmi_fd(&rank.pmi_fd);
    if (err)
        return err;
    sigemptyset(&rank.passed);
    sigaddset(&rank.passed, SIGINT);
    sigaddset(&rank.passed, SIGTERM);
    sigaddset(&rank.passed, SIGHUP);
    sigprocmask(SIG_BLOCK, &rank.passed, &rank.before);
    rank.signal_fd = signalfd(-1, &rank.passed, SFD_CLOEXEC | SFD_NONBLOCK);
    rank.proxy_fd = (int)syscall(SYS_pidfd_open, rank.proxy, 0);
    int ends[2] = {-1, -1};
    bool connected = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0;
    rank.near_fd = ends[0];
    rank.far_fd = ends[1];
    void *shared = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!connected || rank.signal_fd < 0 || rank.proxy_fd < 0 || shared == MAP_FAILED)
        return lab_fail(errno, "rank %u cannot watch over what it starts", number);
    ledger = shared;
    *ret_rank = rank;
    return 0;
}

/* ---- attending ---- */

static void pass_on(const struct rank *rank)
{
    struct signalfd_siginfo info;
    while (read(rank->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        if (rank->number == 0)
            syscall(SYS_pidfd_send_signal, rank->child.pidfd, (int)info.ssi_signo, NULL, 0);
}

/* A rank whose MPI fails, because another was killed for instance, would have mpiexec end all of them at once: that is not passed on. It
 * ends by itself then. */
static void pass_line(const struct rank *rank, const char *line, size_t size)
{
    static const char abort_all[] = "cmd=abort";
    if (strncmp(line, abort_all, sizeof abort_all - 1) != 0)
        send(rank->pmi_fd, line, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool hear_child(struct rank *rank)
{
    ssize_t got = recv(rank->near_fd, rank->said + rank->used, sizeof rank->said - rank->used, MSG_DONTWAIT);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    rank->used += (size_t)got;
    for (char *end; (end = memchr(rank->said, '\n', rank->used));) {
        size_t size = (size_t)(end - rank->said) + 1;
        pass_line(rank, rank->said, size);
        rank->used -= size;
        memmove(rank->said, rank->said + size, rank->used);
    }
    return rank->used < sizeof rank->said;
}

/* False at its end: its proxy has closed after MPI_Finalize, or has died, which is seen elsewhere. */
static bool hear_mpiexec(const struct rank *rank)
{
    char some[sizeof rank->said];
    ssize_t got = recv(rank->pmi_fd, some, sizeof some, MSG_DONTWAIT);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    send(rank->near_fd, some, (size_t)got, MSG_DONTWAIT | MSG_NOSIGNAL);
    return true;
}

/* Until the child has ended (true), or the proxy has (once), or the deadline has passed. */
static bool attend(struct rank *rank, uint64_t deadline_ns, int *ret_status)
{
    enum { CHILD, SIGNAL, PROXY, NEAR, PMI, POLLS };
    struct pollfd polls[POLLS] = {
        [CHILD] = {.fd = rank->child.pidfd, .events = POLLIN}, [SIGNAL] = {.fd = rank->signal_fd, .events = POLLIN},
        [PROXY] = {.fd = rank->proxy_fd, .events = POLLIN},    [NEAR] = {.fd = rank->near_fd, .events = POLLIN},
        [PMI] = {.fd = rank->pmi_fd, .events = POLLIN},
    };
    while (lab_ns_until(deadline_ns)) {
        if (poll(polls, POLLS, lab_ms_until(deadline_ns)) < 0 && errno != EINTR)
            break;
        if (polls[SIGNAL].revents)
            pass_on(rank);
        if (polls[NEAR].revents && !hear_child(rank))
            polls[NEAR].fd = -1;
        if (polls[PMI].revents && !hear_mpiexec(rank))
            polls[PMI].fd = -1;
        if (polls[CHILD].revents)
            return lab_child_reap(&rank->child, 0, ret_status) == 0;
        if (polls[PROXY].revents) {
            close(rank->proxy_fd);
            rank->proxy_fd = -1;
            break;
        }
    }
    return false;
}

/* ---- what the launcher is told ---- */

/* Those of this host's user. Only the launcher makes any: two hosts that each made their own would not hear each other. -ENODATA: the address is
 * one within this host, which needs none. */
static int own_keys(struct lab_keys *ret_keys)
{
    char path[PATH_MAX];
    if (strncmp(ledger->control, "tcp:", 4) != 0)
        return -ENODATA;
    int err = lab_keys_place(path);
    if (!err)
        err = lab_keys_read(path, ret_keys);
    return err == -ENOENT ? lab_refuse(EPERM, "this host has no keys: as they are on the host where the launcher is, rank 0, they must be at %s, "
                                              "by scp -p for instance", path)
                          : err;
}

static struct lab_bus *testify(const struct rank *rank, Lab__Frame *frame)
{
    struct lab_keys keys;
    struct lab_bus *bus = NULL;
    bool has_keys = own_keys(&keys) == 0;
    if (lab_bus_testify(ledger->control, rank->number, has_keys ? &keys : NULL, &bus) == 0)
        lab_bus_send(bus, 0, frame);
    lab_keys_forget(&keys);
    return bus;
}

static struct lab_bus *tell_end(const struct rank *rank, int status)
{
    Lab__Ended ended = LAB__ENDED__INIT;
    Lab__Frame frame = LAB__FRAME__INIT;
    ended.status = (uint32_t)status;
    frame.body_case = LAB__FRAME__BODY_ENDED;
    frame.ended = &ended;
    return testify(rank, &frame);
}

static struct lab_bus *tell_proxy_gone(const struct rank *rank)
{
    char text[128];
    Lab__Fault fault = LAB__FAULT__INIT;
    Lab__Frame frame = LAB__FRAME__INIT;
    snprintf(text, sizeof text, "hydra_pmi_proxy (process %d), which had started rank %u, has ended", (int)rank->proxy, rank->number);
    fault.error = ECHILD;
    fault.text = text;
    fault.party = -1;
    frame.body_case = LAB__FRAME__BODY_FAULT;
    frame.fault = &fault;
    return testify(rank, &frame);
}

/* Without a proxy nobody else ends what this rank has started; it may have been about to make files that the minder has not seen. */
static _Noreturn void go_down(struct rank *rank, struct lab_bus *bus)
{
    lab_child_kill(&rank->child);
    lab_bus_close(bus);
    lab_clean_shm_until(LAB_CLEAN_SHM, rank->began, in_s(UNMAP_S));
    _exit(LAB_EXIT_FAILED);
}

/* ---- rank 0 ---- */

/* What the launcher cannot say any more is said, and stored. */
static int mourn(const struct rank *rank, pid_t pid, int status)
{
    char how[LAB_CHILD_STATUS_TEXT], text[160];
    int number = WTERMSIG(status);
    if (!ledger->run[0] && sigismember(&rank->passed, number))
        return LAB_EXIT_SIGNAL + number;
    snprintf(text, sizeof text, "the launcher, rank 0 (process %d), %s", (int)pid, lab_child_status_text(status, how));
    fprintf(stderr, "ipclab: %s\n", text);
    return ledger->run[0] ? lab_run_bury(ledger->default_database ? NULL : ledger->database, ledger->run, text) : LAB_EXIT_FAILED;
}

static _Noreturn void stay_with_launcher(struct rank *rank)
{
    pid_t pid = rank->child.pid;
    int status = 0;
    bool ended = attend(rank, UINT64_MAX, &status);
    if (!ended) { /* nobody reads what we print, but the run is brought to its end */
        struct lab_bus *bus = tell_proxy_gone(rank);
        attend(rank, in_s(SETTLE_S), &status);
        go_down(rank, bus);
    }
    int code = WIFSIGNALED(status) ? mourn(rank, pid, status) : WEXITSTATUS(status);
    /* Where no rank has learnt the address the others would wait for it for ever. */
    if (code || !ledger->control[0])
        lab_pmi_abort(rank->pmi_fd, code, in_s(ANSWER_S));
    else
        lab_pmi_leave(rank->pmi_fd, in_s(ANSWER_S));
    exit(code);
}

static int begin_launcher(struct rank *rank)
{
    pid_t stays = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return lab_fail(errno, "cannot start the launcher");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != stays)
            _exit(LAB_EXIT_FAILED);
        setpgid(0, 0); /* signals come to it once: through us */
        close(rank->signal_fd);
        close(rank->proxy_fd);
        close(rank->near_fd);
        if (dup2(rank->far_fd, rank->pmi_fd) < 0)
            _exit(LAB_EXIT_FAILED);
        close(rank->far_fd);
        sigprocmask(SIG_SETMASK, &rank->before, NULL);
        return 0;
    }
    close(rank->far_fd);
    rank->child = (struct lab_child){.pid = pid, .pidfd = (int)syscall(SYS_pidfd_open, pid, 0)};
    stay_with_launcher(rank);
}

/* ---- the others ---- */

static int begin_node(struct rank *rank)
{
    char program[PATH_MAX], name[] = "ipclab-node", world[] = "--world", staying[] = "--staying", control[] = "--control", keys[] = "--keys", number[16];
    int err = lab_crew_program(name, program, sizeof program);
    if (err)
        return err;
    err = lab_pmi_learn(rank->pmi_fd, LAB_CREW_KEY, in_s(LEARN_S), ledger->control, sizeof ledger->control);
    if (err == -EPIPE || err == -ECONNRESET)
        _exit(LAB_EXIT_FAILED); /* rank 0 has ended the world, and said why */
    if (err)
        return err;
    struct lab_child_fd fds[2] = {{rank->far_fd, rank->pmi_fd}, {-1, rank->pmi_fd + 1}};
    struct lab_keys own;
    err = own_keys(&own);
    bool has_keys = !err;
    if (has_keys)
        err = lab_keys_pass(&own, &fds[1].from);
    lab_keys_forget(&own);
    if (err && err != -ENODATA)
        return err;
    snprintf(number, sizeof number, "%d", fds[1].to);
    char *argv[] = {name, control, ledger->control, world, staying, has_keys ? keys : NULL, number, NULL};
    err = lab_child_spawn(&(struct lab_child_spec){.path = program, .argv = argv, .fds = fds, .fd_count = has_keys ? 2 : 1, .cpu = -1, .own_group = true},
                          &rank->child);
    close(rank->far_fd);
    if (has_keys)
        close(fds[1].from);
    return err;
}

static _Noreturn void stay_with_node(struct rank *rank)
{
    int status = 0;
    bool ended = attend(rank, UINT64_MAX, &status);
    if (ended && !status) {
        lab_pmi_leave(rank->pmi_fd, in_s(ANSWER_S));
        exit(LAB_EXIT_OK);
    }
    if (!ended)
        go_down(rank, tell_proxy_gone(rank));
    /* The launcher ends the world when it has said and stored what became of the run. */
    struct lab_bus *bus = tell_end(rank, status);
    struct pollfd proxy = {.fd = rank->proxy_fd, .events = POLLIN};
    for (uint64_t deadline_ns = in_s(RESULT_S); lab_ns_until(deadline_ns) && poll(&proxy, 1, lab_ms_until(deadline_ns)) <= 0;)
        ;
    lab_bus_close(bus);
    lab_pmi_abort(rank->pmi_fd, LAB_EXIT_FAILED, in_s(ANSWER_S));
    exit(LAB_EXIT_FAILED);
}

int lab_rank_begin(uint32_t number)
{
    struct rank rank;
    int err = open_rank(number, &rank);
    if (err)
        return err;
    lab_mind_proxy();
    if (number == 0)
        return begin_launcher(&rank);
    err = begin_node(&rank);
    if (err)
        return err;
    stay_with_node(&rank);
}
