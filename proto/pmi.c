#include "proto/pmi.h"

#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* What get_maxes tells clients; a line holds a put of the longest of each, with room for its words. */
enum { KVS_MAX = 256, KEY_MAX = 64, VALUE_MAX = 1024, LINE_MAX_BYTES = 2048, PAIRS_PER_RANK = 64 };

struct client {
    int fd, far_fd;             /* ours; the one to be taken; -1 */
    bool in_barrier;
    size_t used;
    char line[LINE_MAX_BYTES];
};

struct pair {
    char key[KEY_MAX + 1], value[VALUE_MAX + 1];
};

struct lab_pmi {
    int epoll_fd;
    uint32_t ranks, waiting;    /* in the barrier */
    uint32_t pair_count, pair_room;
    struct pair *pairs;
    char kvs[32];
    struct client clients[];
};

int lab_pmi_new(uint32_t ranks, struct lab_pmi **ret_pmi)
{
    if (!ranks || ranks > LAB_PMI_RANKS_MAX)
        return lab_refuse(EINVAL, "an MPI world of %u ranks; 1 to %d are possible", ranks, LAB_PMI_RANKS_MAX);
    struct lab_pmi *pmi = calloc(1, sizeof *pmi + ranks * sizeof pmi->clients[0]);
    if (!pmi)
        return lab_fail(ENOMEM, "no memory for an MPI world of %u ranks", ranks);
    pmi->ranks = ranks;
    snprintf(pmi->kvs, sizeof pmi->kvs, "kvs_%d", (int)getpid());
    for (uint32_t r = 0; r < ranks; r++)
        pmi->clients[r].fd = pmi->clients[r].far_fd = -1;
    pmi->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int err = pmi->epoll_fd < 0 ? lab_fail(errno, "no epoll descriptor for an MPI world") : 0;
    for (uint32_t r = 0; !err && r < ranks; r++) {
        int pair[2];
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = r};
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
            err = lab_fail(errno, "no connection for rank %u of an MPI world", r);
            break;
        }
        pmi->clients[r].fd = pair[0];
        pmi->clients[r].far_fd = pair[1];
        if (epoll_ctl(pmi->epoll_fd, EPOLL_CTL_ADD, pair[0], &event) < 0)
            err = lab_fail(errno, "cannot watch rank %u of an MPI world", r);
    }
    if (err) {
        lab_pmi_free(pmi);
        return err;
    }
    *ret_pmi = pmi;
    return 0;
}

static void drop(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

void lab_pmi_free(struct lab_pmi *pmi)
{
    if (!pmi)
        return;
    for (uint32_t r = 0; r < pmi->ranks; r++) {
        drop(&pmi->clients[r]);
        if (pmi->clients[r].far_fd >= 0)
            close(pmi->clients[r].far_fd);
    }
    if (pmi->epoll_fd >= 0)
        close(pmi->epoll_fd);
    free(pmi->pairs);
    free(pmi);
}

int lab_pmi_take_fd(struct lab_pmi *pmi, uint32_t rank, int *ret_fd)
{
    if (rank >= pmi->ranks || pmi->clients[rank].far_fd < 0)
        return lab_refuse(EINVAL, "rank %u of %u has no connection to give", rank, pmi->ranks);
    *ret_fd = pmi->clients[rank].far_fd;
    pmi->clients[rank].far_fd = -1;
    return 0;
}

void lab_pmi_environment(const struct lab_pmi *pmi, uint32_t rank, int fd_in_child, char ret_variables[LAB_PMI_VARIABLES][LAB_PMI_VARIABLE])
{
    snprintf(ret_variables[0], LAB_PMI_VARIABLE, "PMI_FD=%d", fd_in_child);
    snprintf(ret_variables[1], LAB_PMI_VARIABLE, "PMI_RANK=%u", rank);
    snprintf(ret_variables[2], LAB_PMI_VARIABLE, "PMI_SIZE=%u", pmi->ranks);
    snprintf(ret_variables[3], LAB_PMI_VARIABLE, "MPI_LOCALNRANKS=%u", pmi->ranks);
    /* UCX warns of messages that were left when a process ends: no news here. What the user wants stands. */
    const char *level = getenv("UCX_LOG_LEVEL");
    snprintf(ret_variables[5], LAB_PMI_VARIABLE, "UCX_LOG_LEVEL=%s", level ? level : "error");
    snprintf(ret_variables[4], LAB_PMI_VARIABLE, "MPI_LOCALRANKID=%u", rank);
}

int lab_pmi_fd(const struct lab_pmi *pmi)
{
    return pmi->epoll_fd;
}

/* ---- the store ---- */

static struct pair *find(struct lab_pmi *pmi, const char *key)
{
    for (uint32_t i = 0; i < pmi->pair_count; i++)
        if (strcmp(pmi->pairs[i].key, key) == 0)
            return &pmi->pairs[i];
    return NULL;
}

static struct pair *add(struct lab_pmi *pmi, const char *key)
{
    if (pmi->pair_count == pmi->ranks * PAIRS_PER_RANK)
        return NULL;
    if (pmi->pair_count == pmi->pair_room) {
        uint32_t room = pmi->pair_room ? 2 * pmi->pair_room : 16;
        struct pair *pairs = realloc(pmi->pairs, room * sizeof *pairs);
        if (!pairs)
            return NULL;
        pmi->pairs = pairs;
        pmi->pair_room = room;
    }
    struct pair *pair = &pmi->pairs[pmi->pair_count++];
    snprintf(pair->key, sizeof pair->key, "%s", key);
    return pair;
}

/* ---- the protocol ---- */

static void LAB_PRINTF(2, 3) answer(struct client *client, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    /* Answers are short and clients wait for each: a socket that cannot take one belongs to a client that broke the protocol. */
    if (client->fd >= 0 && send(client->fd, line, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL) != size)
        drop(client);
}

/* The value of `name` in a line of name=value words; false when it is not there or too long. The value of the last word
 * of a put may contain anything but a newline. */
static bool word(const char *line, const char *name, char *to, size_t room)
{
    size_t length = strlen(name);
    for (const char *at = line; at; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (strncmp(at, name, length) != 0 || at[length] != '=')
            continue;
        const char *value = at + length + 1;
        size_t size = strcmp(name, "value") == 0 ? strlen(value) : strcspn(value, " ");
        if (size >= room)
            return false;
        memcpy(to, value, size);
        to[size] = '\0';
        return true;
    }
    return false;
}

static void leave_barrier(struct lab_pmi *pmi)
{
    pmi->waiting = 0;
    for (uint32_t r = 0; r < pmi->ranks; r++) {
        struct client *client = &pmi->clients[r];
        if (client->in_barrier)
            answer(client, "cmd=barrier_out\n");
        client->in_barrier = false;
    }
}

static void put(struct lab_pmi *pmi, struct client *client, const char *line)
{
    char key[KEY_MAX + 1], value[VALUE_MAX + 1];
    struct pair *pair = NULL;
    if (word(line, "key", key, sizeof key) && word(line, "value", value, sizeof value) && ((pair = find(pmi, key)) || (pair = add(pmi, key))))
        memcpy(pair->value, value, strlen(value) + 1);
    if (pair)
        answer(client, "cmd=put_result rc=0 msg=success\n");
    else
        answer(client, "cmd=put_result rc=-1 msg=refused\n");
}

static void get(struct lab_pmi *pmi, struct client *client, const char *line)
{
    char key[KEY_MAX + 1];
    const struct pair *pair = NULL;
    if (!word(line, "key", key, sizeof key))
        answer(client, "cmd=get_result rc=-1 msg=no_key value=unknown\n");
    else if (strcmp(key, "PMI_process_mapping") == 0) /* blocks of (first node, nodes, ranks on each): all on one */
        answer(client, "cmd=get_result rc=0 msg=success value=(vector,(0,1,%u))\n", pmi->ranks);
    else if ((pair = find(pmi, key)))
        answer(client, "cmd=get_result rc=0 msg=success value=%s\n", pair->value);
    else
        answer(client, "cmd=get_result rc=-1 msg=key_%s_not_found value=unknown\n", key);
}

static void obey(struct lab_pmi *pmi, struct client *client, const char *line)
{
    char command[32];
    if (!word(line, "cmd", command, sizeof command))
        drop(client);
    else if (strcmp(command, "init") == 0)
        answer(client, "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n");
    else if (strcmp(command, "get_maxes") == 0)
        answer(client, "cmd=maxes kvsname_max=%d keylen_max=%d vallen_max=%d\n", KVS_MAX, KEY_MAX, VALUE_MAX);
    else if (strcmp(command, "get_appnum") == 0)
        answer(client, "cmd=appnum appnum=0\n");
    else if (strcmp(command, "get_my_kvsname") == 0)
        answer(client, "cmd=my_kvsname kvsname=%s\n", pmi->kvs);
    else if (strcmp(command, "get_universe_size") == 0)
        answer(client, "cmd=universe_size size=%u\n", pmi->ranks);
    else if (strcmp(command, "put") == 0)
        put(pmi, client, line);
    else if (strcmp(command, "get") == 0)
        get(pmi, client, line);
    else if (strcmp(command, "barrier_in") == 0) {
        pmi->waiting += !client->in_barrier;
        client->in_barrier = true;
        if (pmi->waiting == pmi->ranks)
            leave_barrier(pmi);
    } else if (strcmp(command, "finalize") == 0)
        answer(client, "cmd=finalize_ack\n");
    else if (strcmp(command, "abort") != 0) /* the rank ends itself next */
        drop(client);
}

static void hear(struct lab_pmi *pmi, struct client *client)
{
    ssize_t got = recv(client->fd, client->line + client->used, sizeof client->line - client->used, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        drop(client);
        return;
    }
    client->used += (size_t)got;
    char *end;
    while (client->fd >= 0 && (end = memchr(client->line, '\n', client->used))) {
        size_t size = (size_t)(end - client->line) + 1;
        *end = '\0';
        obey(pmi, client, client->line);
        client->used -= size;
        memmove(client->line, client->line + size, client->used);
    }
    if (client->used == sizeof client->line)
        drop(client); /* a line without an end */
}

void lab_pmi_serve(struct lab_pmi *pmi)
{
    enum { EVENTS = 32 };
    struct epoll_event events[EVENTS];
    int count = epoll_wait(pmi->epoll_fd, events, EVENTS, 0);
    for (int i = 0; i < count; i++)
        if (pmi->clients[events[i].data.u32].fd >= 0)
            hear(pmi, &pmi->clients[events[i].data.u32]);
}

/* ---- the client ---- */

static int ask(int fd, const char *line)
{
    size_t size = strlen(line);
    ssize_t sent = send(fd, line, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0)
        return lab_fail(errno, "cannot speak to mpiexec");
    return (size_t)sent == size ? 0 : lab_refuse(EPROTO, "mpiexec does not take what it is told");
}

/* Until mpiexec says `wanted`, whole in `line`. A rank that was killed while it spoke here may have left answers of its own before it. */
static int await_answer(int fd, const char *wanted, uint64_t deadline_ns, char line[LINE_MAX_BYTES])
{
    char command[32], *end;
    size_t used = 0;
    while (used < LINE_MAX_BYTES) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (lab_ns_until(deadline_ns) == 0)
            return lab_refuse(ETIMEDOUT, "mpiexec has not answered in time (PMI-1: %s)", wanted);
        if (poll(&ready, 1, lab_ms_until(deadline_ns)) <= 0)
            continue;
        ssize_t got = recv(fd, line + used, LINE_MAX_BYTES - used, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (got < 0)
            return lab_fail(errno, "cannot hear mpiexec");
        if (got == 0)
            return lab_refuse(EPIPE, "mpiexec has closed the connection");
        used += (size_t)got;
        while ((end = memchr(line, '\n', used))) {
            size_t size = (size_t)(end - line) + 1;
            *end = '\0';
            if (word(line, "cmd", command, sizeof command) && strcmp(command, wanted) == 0)
                return 0;
            used -= size;
            memmove(line, line + size, used);
        }
    }
    return lab_refuse(EPROTO, "mpiexec answered with a line without an end");
}

/* The answer to a question, which must not be a refusal. */
static int converse(int fd, const char *question, const char *wanted, uint64_t deadline_ns, char line[LINE_MAX_BYTES])
{
    char rc[8];
    int err = ask(fd, question);
    if (!err)
        err = await_answer(fd, wanted, deadline_ns, line);
    if (!err && word(line, "rc", rc, sizeof rc) && strcmp(rc, "0") != 0)
        err = lab_refuse(EPROTO, "mpiexec refuses: '%.80s'", line);
    return err;
}

/* Hydra learns from the greeting which version of the protocol is spoken, and obeys nothing before it. */
static int greet(int fd, uint64_t deadline_ns, char line[LINE_MAX_BYTES])
{
    char rc[8];
    int err = converse(fd, "cmd=init pmi_version=1 pmi_subversion=1\n", "response_to_init", deadline_ns, line);
    if (!err && !word(line, "rc", rc, sizeof rc))
        err = lab_refuse(EPROTO, "mpiexec speaks another PMI: '%.80s'", line);
    return err;
}

static int meet(int fd, uint64_t deadline_ns, char line[LINE_MAX_BYTES])
{
    return converse(fd, "cmd=barrier_in\n", "barrier_out", deadline_ns, line);
}

static int find_store(int fd, uint64_t deadline_ns, char kvs[KVS_MAX + 1], char line[LINE_MAX_BYTES])
{
    int err = converse(fd, "cmd=get_my_kvsname\n", "my_kvsname", deadline_ns, line);
    if (!err && !word(line, "kvsname", kvs, KVS_MAX + 1))
        err = lab_refuse(EPROTO, "mpiexec does not name its store: '%.80s'", line);
    return err;
}

int lab_pmi_publish(int fd, const char *key, const char *value, uint64_t deadline_ns)
{
    char line[LINE_MAX_BYTES], question[LINE_MAX_BYTES], kvs[KVS_MAX + 1];
    int err = greet(fd, deadline_ns, line);
    if (!err)
        err = find_store(fd, deadline_ns, kvs, line);
    if (err)
        return err;
    snprintf(question, sizeof question, "cmd=put kvsname=%s key=%.64s value=%.1024s\n", kvs, key, value);
    err = converse(fd, question, "put_result", deadline_ns, line);
    return err ? err : meet(fd, deadline_ns, line);
}

int lab_pmi_learn(int fd, const char *key, uint64_t deadline_ns, char *to, size_t room)
{
    char line[LINE_MAX_BYTES], question[LINE_MAX_BYTES], kvs[KVS_MAX + 1];
    int err = greet(fd, deadline_ns, line);
    if (!err)
        err = find_store(fd, deadline_ns, kvs, line);
    if (!err)
        err = meet(fd, deadline_ns, line);
    if (err)
        return err;
    snprintf(question, sizeof question, "cmd=get kvsname=%s key=%.64s\n", kvs, key);
    err = converse(fd, question, "get_result", deadline_ns, line);
    if (!err && !word(line, "value", to, room))
        err = lab_refuse(ERANGE, "what rank 0 has published as %s is longer than %zu bytes", key, room - 1);
    return err;
}

int lab_pmi_leave(int fd, uint64_t deadline_ns)
{
    char line[LINE_MAX_BYTES];
    return converse(fd, "cmd=finalize\n", "finalize_ack", deadline_ns, line);
}

int lab_pmi_abort(int fd, int exit_code, uint64_t deadline_ns)
{
    char line[LINE_MAX_BYTES];
    int err = greet(fd, deadline_ns, line);
    if (err)
        return err;
    snprintf(line, sizeof line, "cmd=abort exitcode=%d\n", exit_code);
    return ask(fd, line);
}
