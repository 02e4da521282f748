#include "launcher/reach.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "base/version.h"
#include "launcher/capture.h"
#include "launcher/crew.h"
#include "launcher/door.h"
#include "launcher/route.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* What a rank takes of /dev/shm before MPI_Init succeeds (measured with MPICH 4.0.2 over UCX 1.13.1), and room beside it. */
#define SHM_PER_NODE_BYTES (UINT64_C(43) * 1024 * 1024 / 10)
#define SHM_SPARE_BYTES (UINT64_C(16) * 1024 * 1024)

enum { COMMAND_NOT_EXECUTABLE = 126, COMMAND_NOT_FOUND = 127, HERE_S = 2, MIB = 1024 * 1024 };

/* The mend is a command with the host's name between its two halves. */
static const struct complaint {
    const char *said, *cause, *mend, *mend_rest;
} complaints[] = {
    {"Could not resolve hostname", "its name has no address", "correct the name, or add it to /etc/hosts: getent hosts ", ""},
    {"REMOTE HOST IDENTIFICATION HAS CHANGED", "its ssh key is not the one known here", "if it was installed anew: ssh-keygen -R ", ""},
    {"Host key verification failed", "its ssh key is not known here", "accept it once: ssh ", " true"},
    {"Permission denied (", "it does not accept this user's ssh key", "ssh-copy-id ", ""},
    {"Too many authentication failures", "it does not accept this user's ssh keys", "ssh-copy-id ", ""},
    {"Connection refused", "it is up, but no ssh server listens", "on that host: systemctl start ssh; then here: ssh ", " true"},
    {"No route to host", "no host answers at that address", "is it up, and on this network? ping ", ""},
    {"Network is unreachable", "no route leads to its network", "ip route get ", ""},
    {"Connection timed out", "nothing answers there", "is it up, and does a firewall drop ssh? ping ", ""},
    {"Operation timed out", "nothing answers there", "is it up, and does a firewall drop ssh? ping ", ""},
    {"Connection closed by", "its ssh server closed the connection", "look at its log, and at: ssh -v ", " true"},
    {"Connection reset by", "its ssh server closed the connection", "look at its log, and at: ssh -v ", " true"},
    {"closed by remote host", "its ssh server ended the connection", "look at its log, and at: ssh -v ", " true"},
    {"not responding", "its connection was lost", "is it still up? ping ", ""},
};

int lab_reach_door(bool lab, char to[PATH_MAX])
{
    return lab_crew_program(lab ? "ipclab-lab-ssh" : "ipclab-ssh", to, PATH_MAX);
}

bool lab_reach_explain(const char *host, const char *said, char *to, size_t room)
{
    /* The doors speak as we do: their own sentence names host, cause and mend. */
    const char *sentence = strstr(said, LAB_DOOR_SAYS "host ");
    if (sentence) {
        sentence += strlen(LAB_DOOR_SAYS);
        snprintf(to, room, "%.*s", (int)strcspn(sentence, "\r\n"), sentence);
        return true;
    }
    for (size_t i = 0; i < sizeof complaints / sizeof *complaints; i++)
        if (strstr(said, complaints[i].said)) {
            snprintf(to, room, "host %s: %s; %s%s%s", host, complaints[i].cause, complaints[i].mend, host, complaints[i].mend_rest);
            return true;
        }
    return false;
}

/* Sentences are cut where they do not fit: paths may be of any length. */
static void say(char *to, size_t room, const char *format, ...) LAB_PRINTF(3, 4);
static void say(char *to, size_t room, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(to, room, format, args);
    va_end(args);
}

/* ---- lab_hosts_check ---- */

struct question {
    bool lab;
    char door[PATH_MAX], node[PATH_MAX];
    char command[PATH_MAX + 32]; /* for the shell on the other side */
    uint64_t here_deadline_ns;   /* for looking up which hosts are this machine, all together */
    uint64_t deadline_ns;
};

/* Hydra starts what is on this very machine itself, without ssh. */
static bool is_here(const char *host, uint64_t deadline_ns)
{
    struct in_addr far, near;
    return lab_route_resolve(host, deadline_ns, &far) == 0 && lab_route_source(far, &near) == 0 && far.s_addr == near.s_addr;
}

static int ask(const struct question *question, const char *host, struct lab_capture *capture)
{
    char name[LAB_HOST_NAME_MAX + 1], command[sizeof question->command], check[] = "--check", door[PATH_MAX], node[PATH_MAX];
    snprintf(name, sizeof name, "%s", host);
    memcpy(command, question->command, sizeof command);
    memcpy(door, question->door, sizeof door);
    memcpy(node, question->node, sizeof node);
    if (!question->lab && is_here(host, question->here_deadline_ns))
        return lab_capture_start(node, (char *[]){node, check, NULL}, capture);
    return lab_capture_start(door, (char *[]){door, name, command, NULL}, capture);
}

static void no_answer(const struct question *question, const char *host, struct lab_capture *capture, char *to, size_t room)
{
    if (lab_reach_explain(host, capture->output, to, room))
        return;
    int code = WIFEXITED(capture->status) ? WEXITSTATUS(capture->status) : 0;
    char how[LAB_CHILD_STATUS_TEXT];
    if (capture->timed_out)
        say(to, room, "host %s: no answer in time; is it up? ping %s", host, host);
    else if (code == COMMAND_NOT_FOUND)
        say(to, room, "host %s: the program %s is not there; install the same ipclab at the same place on every host: scp -p %s %s:%s",
                 host, question->node, question->node, host, question->node);
    else if (code == COMMAND_NOT_EXECUTABLE)
        say(to, room, "host %s: the program %s cannot be executed there; chmod +x it, and see that it is made for that machine",
                 host, question->node);
    else if (!capture->status)
        say(to, room, "host %s: what answers there is not ipclab-node ('%s'); what does its login shell do? ssh %s %s", host,
            lab_last_line(capture->output), host, question->command);
    else
        say(to, room, "host %s: %s %s: %s", host, question->lab ? "its door" : "ssh",
                 lab_child_status_text(capture->status, how), lab_last_line(capture->output));
}

static void judge(const struct question *question, const char *host, uint32_t nodes, struct lab_capture *capture,
                  struct lab_hosts_answer *state)
{
    unsigned long long shm_free;
    unsigned protocol;
    const char *line = strstr(capture->output, "ipclab-node ");
    if (capture->timed_out || capture->status || !line ||
        sscanf(line, "ipclab-node %31s protocol %u shm_free %llu", state->version, &protocol, &shm_free) != 3) {
        state->version[0] = '\0';
        no_answer(question, host, capture, state->text, sizeof state->text);
        return;
    }
    state->protocol = protocol;
    state->shm_free_bytes = shm_free;
    uint64_t needed = nodes * SHM_PER_NODE_BYTES + SHM_SPARE_BYTES;
    if (strcmp(state->version, LAB_VERSION) != 0 || protocol != LAB_PROTOCOL)
        say(state->text, sizeof state->text,
                 "host %s has ipclab %s (protocol %u), and this machine has %s (protocol %u); install the same one: scp -p %s %s:%s", host,
                 state->version, protocol, LAB_VERSION, LAB_PROTOCOL, question->node, host, question->node);
    else if (shm_free < needed)
        say(state->text, sizeof state->text,
                 "host %s has %llu MiB free in /dev/shm, and MPI needs %llu MiB for %u node%s; on that host, as root: mount -o remount,size=%lluM /dev/shm",
                 host, shm_free / MIB, (unsigned long long)(needed + MIB - 1) / MIB, nodes, nodes == 1 ? "" : "s",
                 (unsigned long long)(needed - shm_free + MIB - 1) / MIB + 64);
    else
        state->usable = true;
}

static int ask_all(const struct question *question, const struct lab_hosts *hosts, uint32_t nodes, struct lab_capture *captures,
                   struct lab_hosts_answer *states)
{
    size_t asked = 0;
    for (; asked < hosts->count; asked++) {
        states[asked] = (struct lab_hosts_answer){.usable = !lab_hosts_nodes_on(hosts, asked, nodes)};
        int err = states[asked].usable ? 0 : ask(question, hosts->items[asked].name, &captures[asked]);
        if (err) {
            lab_capture_wait(captures, asked, 0);
            return err;
        }
    }
    lab_capture_wait(captures, hosts->count, question->deadline_ns);

    const char *first = NULL;
    size_t unusable = 0;
    for (size_t i = 0; i < hosts->count; i++) {
        if (!states[i].usable)
            judge(question, hosts->items[i].name, lab_hosts_nodes_on(hosts, i, nodes), &captures[i], &states[i]);
        if (states[i].usable)
            continue;
        unusable++;
        first = first ? first : states[i].text;
    }
    if (unusable == 1)
        return lab_refuse(EHOSTUNREACH, "%s", first);
    if (unusable)
        return lab_refuse(EHOSTUNREACH, "%s (and %zu more of %zu hosts cannot be used)", first, unusable - 1, hosts->count);
    return 0;
}

int lab_hosts_check(const struct lab_hosts *hosts, uint32_t nodes, bool lab, uint64_t deadline_ns, struct lab_hosts_answer *ret_states)
{
    struct question question = {.lab = lab, .here_deadline_ns = lab_now_ns() + HERE_S * LAB_NS_PER_S, .deadline_ns = deadline_ns};
    int err = lab_reach_door(lab, question.door);
    if (!err)
        err = lab_crew_program("ipclab-node", question.node, sizeof question.node);
    if (err)
        return err;
    if (strchr(question.node, '\''))
        return lab_refuse(EINVAL, "the path %s holds a quote, which no remote shell would understand", question.node);
    snprintf(question.command, sizeof question.command, "'%s' --check", question.node);

    struct lab_capture *captures = calloc(hosts->count, sizeof *captures);
    struct lab_hosts_answer *states = calloc(hosts->count, sizeof *states);
    err = captures && states ? ask_all(&question, hosts, nodes, captures, states) : lab_fail(ENOMEM, "cannot ask the hosts");
    if (states && ret_states)
        memcpy(ret_states, states, hosts->count * sizeof *states);
    free(states);
    free(captures);
    return err;
}
