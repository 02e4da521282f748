#include "launcher/crew_mpiexec.h"

#include "base/error.h"
#include "launcher/capture.h"
#include "launcher/door.h"
#include "launcher/reach.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HOST_TEXT = LAB_HOST_NAME_MAX + 16 };

/* Debian's `mpiexec` may be another MPI's: Hydra's own name first. */
int lab_mpiexec_find(char to[PATH_MAX])
{
    static const char *const names[] = {"mpiexec.hydra", "mpiexec.mpich", "mpiexec"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (lab_program_find(names[i], to) == 0)
            return 0;
    return lab_refuse(ENOENT, "nodes on other hosts need Hydra's mpiexec, which is not in PATH: apt install mpich");
}

/* "a:2,b:1"; free() it. */
static char *host_list(const struct lab_hosts *hosts, uint32_t nodes)
{
    char *list = calloc(hosts->count, HOST_TEXT);
    size_t used = 0;
    for (size_t i = 0; list && i < hosts->count && lab_hosts_nodes_on(hosts, i, nodes); i++)
        used += (size_t)snprintf(list + used, HOST_TEXT, "%s%s:%u", i ? "," : "", hosts->items[i].name, hosts->items[i].slots);
    return list;
}

static int spawn(const char *mpiexec, char *const *argv, char **envp, int keys, struct lab_child *ret_child, struct lab_mpiexec_output *output)
{
    int ends[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0)
        return lab_fail(errno, "cannot open /dev/null");
    if (pipe2(ends, O_CLOEXEC) < 0) {
        close(null);
        return lab_fail(errno, "cannot make a pipe for mpiexec");
    }
    /* What mpiexec starts inherits the last ones: it can be heard when mpiexec passes nothing on any more, and has the keys, which mpiexec's own
     * connections would show to everybody on the network. */
    const struct lab_child_fd fds[] = {{null, 0}, {ends[1], 1}, {ends[1], 2}, {ends[1], LAB_DOOR_FD}, {keys, LAB_DOOR_KEYS_FD}};
    const struct lab_child_spec spec = {
        .path = mpiexec, .argv = argv, .envp = envp, .fds = fds, .fd_count = 5, .cpu = -1, .own_group = true};
    int err = lab_child_spawn(&spec, ret_child);
    close(null);
    close(ends[1]);
    if (err) {
        close(ends[0]);
        return err;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    output->fd = ends[0];
    return 0;
}

int lab_mpiexec_start(const struct lab_crew_spec *spec, char **envp, struct lab_child *ret_child, struct lab_mpiexec_output *ret_output)
{
    char mpiexec[PATH_MAX], door[PATH_MAX], node[PATH_MAX], count[16], control[LAB_CREW_ENDPOINT], near[LAB_CREW_ENDPOINT];
    int err = lab_mpiexec_find(mpiexec);
    if (!err)
        err = lab_reach_door(spec->lab, door);
    if (!err)
        err = lab_crew_program("ipclab-node", node, sizeof node);
    if (err)
        return err;
    snprintf(count, sizeof count, "%u", spec->nodes);
    snprintf(control, sizeof control, "%s", spec->control);
    /* Hydra's proxies are to reach mpiexec the way the nodes reach us. */
    if (sscanf(control, "tcp://%95[^:]", near) != 1)
        return lab_refuse(EINVAL, "nodes on other hosts cannot reach the control address %s", control);

    char *hosts = host_list(spec->hosts, spec->nodes);
    const char *extra = LAB_DOOR_VARIABLE "=1";
    char **environment = NULL;
    size_t variables = 0;
    while (envp[variables])
        variables++;
    if (hosts)
        environment = calloc(variables + 2, sizeof(char *));
    if (!environment) {
        free(hosts);
        return lab_fail(ENOMEM, "cannot start mpiexec");
    }
    memcpy(environment, envp, variables * sizeof *envp);
    memcpy(&environment[variables], &extra, sizeof extra); /* execve(2) changes no variable */

    char a_launcher[] = "-launcher", a_ssh[] = "ssh", a_exec[] = "-launcher-exec", a_localhost[] = "-localhost", a_hosts[] = "-hosts",
         a_n[] = "-n", a_control[] = "--control", a_keys[] = "--keys", a_world[] = "--world", keys_fd[16];
    char *const argv[] = {mpiexec, a_launcher, a_ssh, a_exec, door, a_localhost, near, a_hosts, hosts,
                          a_n,     count,      node,  a_control, control, a_keys, keys_fd, a_world, NULL};
    int keys = -1;
    snprintf(keys_fd, sizeof keys_fd, "%d", LAB_DOOR_KEYS_FD);

    *ret_output = (struct lab_mpiexec_output){.fd = -1, .echo = spec->verbose};
    err = lab_keys_pass(spec->keys, &keys);
    if (!err)
        err = spawn(mpiexec, argv, environment, keys, ret_child, ret_output);
    if (keys >= 0)
        close(keys);
    free(environment);
    free(hosts);
    return err;
}

bool lab_mpiexec_read(struct lab_mpiexec_output *output)
{
    char some[2048];
    for (;;) {
        ssize_t got = read(output->fd, some, sizeof some);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == EAGAIN;
        if (got == 0)
            return false;
        if (output->echo)
            fwrite(some, 1, (size_t)got, stderr);
        size_t size = (size_t)got, room = LAB_MPIEXEC_TAIL - output->used;
        if (size > room) {
            memmove(output->tail, output->tail + (size - room), output->used - (size - room));
            output->used -= size - room;
        }
        for (size_t i = 0; i < size; i++) /* no NUL inside: the tail is searched as text */
            output->tail[output->used++] = some[i] ? some[i] : '?';
        output->tail[output->used] = '\0';
    }
}

void lab_mpiexec_close(struct lab_mpiexec_output *output)
{
    if (output->fd >= 0)
        close(output->fd);
    output->fd = -1;
}

/* ---- what it said ---- */

/* The node on a host when there is exactly one, else -1. */
static int32_t only_node(const struct lab_hosts *hosts, uint32_t nodes, const char *host)
{
    int32_t found = -1;
    for (uint32_t i = 0; i < nodes; i++)
        if (strcmp(lab_hosts_of_node(hosts, i)->name, host) == 0) {
            if (found >= 0)
                return -1;
            found = (int32_t)i;
        }
    return found;
}

/* Hydra's notice of a rank that ended badly: "PID 123 RUNNING AT host", "EXIT CODE: n". It gives none of ranks that only exited;
 * n is the status as waitpid(2) gave it, the number of the signal. */
static bool explain_rank(const char *tail, const struct lab_hosts *hosts, uint32_t nodes, struct lab_crew_event *event)
{
    const char *notice = strstr(tail, "BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES");
    const char *running = notice ? strstr(notice, " RUNNING AT ") : NULL;
    const char *code = running ? strstr(running, "EXIT CODE: ") : NULL;
    char host[LAB_HOST_NAME_MAX + 1];
    int number = 0;
    if (!code || !strchr(code, '\n') || sscanf(running, " RUNNING AT %253[^ \r\n]", host) != 1 || sscanf(code, "EXIT CODE: %d", &number) != 1)
        return false;
    event->status = WIFSIGNALED(number) ? number : (number & 0xff) << 8;
    event->node = only_node(hosts, nodes, host);
    char how[LAB_CHILD_STATUS_TEXT];
    lab_child_status_text(event->status, how);
    if (event->node >= 0)
        snprintf(event->text, sizeof event->text, "node %d on host %s %s", (int)event->node, host, how);
    else
        snprintf(event->text, sizeof event->text, "a node on host %s %s", host, how);
    return true;
}

/* `host` as a word of its own: 10.77.0.1 is not in 10.77.0.12. */
static bool mentions(const char *line, const char *host)
{
    size_t length = strlen(host);
    for (const char *at = line; (at = strstr(at, host)); at++) {
        bool begins = at == line || !(isalnum((unsigned char)at[-1]) || at[-1] == '.' || at[-1] == '-');
        bool ends = !(isalnum((unsigned char)at[length]) || at[length] == '-' || (at[length] == '.' && isalnum((unsigned char)at[length + 1])));
        if (begins && ends)
            return true;
    }
    return false;
}

/* Which host a line is about; all of them when it names none ("Host key verification failed."). */
static void host_of(const char *line, const struct lab_hosts *hosts, char *to, size_t room)
{
    size_t used = 0;
    for (size_t i = 0; i < hosts->count; i++)
        if (mentions(line, hosts->items[i].name)) {
            snprintf(to, room, "%s", hosts->items[i].name);
            return;
        }
    for (size_t i = 0; i < hosts->count && used < room; i++)
        used += (size_t)snprintf(to + used, room - used, "%s%s", i ? " or " : "", hosts->items[i].name);
}

/* Nodes and Hydra write about connections too, in lines that begin with their names. */
static bool is_of_shell(const char *line)
{
    return strncmp(line, "ipclab-node", 11) != 0 && line[0] != '[' && line[0] != '=';
}

static bool unreachable(const struct lab_mpiexec_output *output, const struct lab_hosts *hosts, char *to, size_t room)
{
    for (const char *line = output->tail; *line;) {
        size_t length = strcspn(line, "\r\n");
        char text[LAB_CREW_TEXT], host[LAB_HOST_NAME_MAX + 1];
        snprintf(text, sizeof text, "%.*s", (int)length, line);
        host_of(text, hosts, host, sizeof host);
        if (is_of_shell(text) && lab_reach_explain(host, text, to, room))
            return true;
        line += length;
        line += strspn(line, "\r\n");
    }
    return false;
}

bool lab_mpiexec_told(const struct lab_mpiexec_output *output, const struct lab_hosts *hosts, uint32_t nodes, struct lab_crew_event *ret_event)
{
    struct lab_crew_event event = {.node = -1, .status = SIGKILL};
    /* A node first: what becomes of the connections after its death is no news. */
    if (!explain_rank(output->tail, hosts, nodes, &event) && !unreachable(output, hosts, event.text, sizeof event.text))
        return false;
    *ret_event = event;
    return true;
}

/* The last line that is not Hydra's own banner. */
static void last_words(const char *tail, char *to, size_t room)
{
    to[0] = '\0';
    for (const char *line = tail; *line;) {
        size_t length = strcspn(line, "\r\n");
        if (length && line[0] != '=' && strncmp(line, "[mpiexec@", 9) != 0 && strncmp(line, "[proxy:", 7) != 0)
            snprintf(to, room, "%.*s", (int)length, line);
        line += length;
        line += strspn(line, "\r\n");
    }
}

void lab_mpiexec_explain(const struct lab_mpiexec_output *output, int status, struct lab_crew_event *ret_event)
{
    char how[LAB_CHILD_STATUS_TEXT], words[256];
    last_words(output->tail, words, sizeof words);
    ret_event->node = -1;
    ret_event->status = status;
    /* It writes to proxies, and dies of one that was killed. */
    int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    ret_event->vague = !number || number == SIGPIPE || number == SIGABRT;
    snprintf(ret_event->text, sizeof ret_event->text, "mpiexec on this host, which holds the nodes, %s%s%s", lab_child_status_text(status, how),
             words[0] ? ": " : "", words);
}
