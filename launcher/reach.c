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
#include <time.h>

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

uint64_t lab_reach_shm_bytes(uint32_t nodes)
{
    return nodes * SHM_PER_NODE_BYTES + SHM_SPARE_BYTES;
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
    char option[16], operand[64]; /* of the node program; the second may be "" */
    char command[PATH_MAX + 96];  /* the same for the shell on the other side */
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
    char name[LAB_HOST_NAME_MAX + 1], command[sizeof question->command], option[sizeof question->option],
        operand[sizeof question->operand], door[PATH_MAX], node[PATH_MAX];
    snprintf(name, sizeof name, "%s", host);
    memcpy(command, question->command, sizeof command);
    memcpy(option, question->option, sizeof option);
    memcpy(operand, question->operand, sizeof operand);
    memcpy(door, question->door, sizeof door);
    memcpy(node, question->node, sizeof node);
    if (!question->lab && is_here(host, question->here_deadline_ns))
        return lab_capture_start(node, (char *[]){node, option, operand[0] ? operand : NULL, NULL}, capture);
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
    uint64_t needed = lab_reach_shm_bytes(nodes);
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

static int put(bool lab, const char *option, const char *operand, uint64_t deadline_ns, struct question *ret_question)
{
    *ret_question = (struct question){.lab = lab, .here_deadline_ns = lab_now_ns() + HERE_S * LAB_NS_PER_S, .deadline_ns = deadline_ns};
    int err = lab_reach_door(lab, ret_question->door);
    if (!err)
        err = lab_crew_program("ipclab-node", ret_question->node, sizeof ret_question->node);
    if (err)
        return err;
    if (strchr(ret_question->node, '\''))
        return lab_refuse(EINVAL, "the path %s holds a quote, which no remote shell would understand", ret_question->node);
    snprintf(ret_question->option, sizeof ret_question->option, "%s", option);
    snprintf(ret_question->operand, sizeof ret_question->operand, "%s", operand);
    snprintf(ret_question->command, sizeof ret_question->command, "'%s' %s%s%s", ret_question->node, option, operand[0] ? " " : "", operand);
    return 0;
}

int lab_hosts_check(const struct lab_hosts *hosts, uint32_t nodes, bool lab, uint64_t deadline_ns, struct lab_hosts_answer *ret_states)
{
    struct question question;
    int err = put(lab, "--check", "", deadline_ns, &question);
    if (err)
        return err;
    struct lab_capture *captures = calloc(hosts->count, sizeof *captures);
    struct lab_hosts_answer *states = calloc(hosts->count, sizeof *states);
    err = captures && states ? ask_all(&question, hosts, nodes, captures, states) : lab_fail(ENOMEM, "cannot ask the hosts");
    if (states && ret_states)
        memcpy(ret_states, states, hosts->count * sizeof *states);
    free(states);
    free(captures);
    return err;
}

/* ---- facts ---- */

static uint64_t time_of_day_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * LAB_NS_PER_S + (uint64_t)now.tv_nsec;
}

static void read_answer(const struct lab_capture *capture, uint64_t asked_ns, struct lab_facts *facts)
{
    const char *begin = strstr(capture->output, "version "); /* a login shell may say something of its own before */
    if (capture->timed_out || capture->status || !begin || lab_facts_parse(begin, facts))
        *facts = (struct lab_facts){.reach = -1};
    facts->asked_ns = asked_ns;
    facts->heard_ns = time_of_day_ns();
}

int lab_reach_facts(const struct lab_hosts *hosts, const struct lab_hosts_answer *answers, bool lab, const char *back, uint64_t deadline_ns,
                    struct lab_facts *ret_facts)
{
    struct question question;
    int err = put(lab, "--facts", back, deadline_ns, &question);
    struct lab_capture *captures = err ? NULL : calloc(hosts->count, sizeof *captures);
    if (!captures)
        return err ? err : lab_fail(ENOMEM, "cannot ask the hosts");
    uint64_t asked_ns = time_of_day_ns();
    for (size_t i = 0; !err && i < hosts->count; i++)
        err = answers[i].usable ? ask(&question, hosts->items[i].name, &captures[i]) : 0;
    lab_capture_wait(captures, hosts->count, err ? 0 : deadline_ns);
    for (size_t i = 0; !err && i < hosts->count; i++) {
        read_answer(&captures[i], asked_ns, &ret_facts[i]);
        snprintf(ret_facts[i].host, sizeof ret_facts[i].host, "%s", hosts->items[i].name);
        snprintf(ret_facts[i].address, sizeof ret_facts[i].address, "%s", back);
    }
    free(captures);
    return err;
}

int lab_reach_own_facts(uint64_t deadline_ns, struct lab_facts *ret_facts)
{
    char node[PATH_MAX], option[] = "--facts";
    int err = lab_crew_program("ipclab-node", node, sizeof node);
    struct lab_capture *capture = err ? NULL : calloc(1, sizeof *capture);
    if (!capture)
        return err ? err : lab_fail(ENOMEM, "cannot look at this machine");
    uint64_t asked_ns = time_of_day_ns();
    err = lab_capture_run(node, (char *[]){node, option, NULL}, deadline_ns, capture);
    if (!err)
        read_answer(capture, asked_ns, ret_facts);
    free(capture);
    return err;
}
