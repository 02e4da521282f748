/* ipclab-node: one per host. Started by ipclab, directly or through mpiexec; see usage(). */
#include "base/error.h"
#include "base/version.h"
#include "node/agent/agent.h"
#include "node/agent/facts.h"
#include "node/agent/world.h"
#include "observe/host.h"
#include "sweep/mind.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* LAB_DOOR_KEYS_FD of launcher/door.h; exit codes of a shell. */
enum { KEYS_FD = 4, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };

static int usage(FILE *to, int code)
{
    fprintf(to,
            "ipclab-node %s is started by ipclab, not by hand:\n"
            "  ipclab-node --control ADDRESS --node I [--rank R]   serve one launcher\n"
            "  ipclab-node --control ADDRESS --world [--staying]   the same, numbered by its rank under mpiexec;\n"
            "                                                      --staying: the rank itself stays, and minds it\n"
            "      --keys FD                                       its keys are there\n"
            "  ipclab-node --carry-keys COMMAND...                 becomes that command, with its input as descriptor 4\n"
            "  ipclab-node --check                                 one line about this host\n"
            "  ipclab-node --facts [ADDRESS:PORT]                  more of them, and whether that address can be reached\n",
            LAB_VERSION);
    return code;
}

static int check(void)
{
    struct lab_host_facts facts;
    if (lab_host_read(&facts)) {
        fprintf(stderr, "ipclab-node: %s\n", lab_error_last()->text);
        return 1;
    }
    printf("ipclab-node %s protocol %u shm_free %llu\n", LAB_VERSION, LAB_PROTOCOL, (unsigned long long)facts.shm_free_bytes);
    return 0;
}

static int tell_facts(const char *reach)
{
    if (lab_facts_print(stdout, reach)) {
        fprintf(stderr, "ipclab-node: %s\n", lab_error_last()->text);
        return 1;
    }
    return 0;
}

/* Keys that came through ssh are, from now on, what those that came from parent to child are. */
static int carry_keys(char **command)
{
    char text[LAB_KEYS_TEXT];
    size_t size = 0;
    ssize_t got;
    while (size < sizeof text && (got = TEMP_FAILURE_RETRY(read(STDIN_FILENO, text + size, sizeof text - size))) > 0)
        size += (size_t)got;
    int fd, err = lab_keys_pass_text(text, size, &fd), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    explicit_bzero(text, sizeof text);
    if (!err && (null < 0 || dup2(null, STDIN_FILENO) < 0 || (fd == KEYS_FD ? fcntl(fd, F_SETFD, 0) : dup2(fd, KEYS_FD)) < 0))
        err = lab_fail(errno, "cannot hand on the keys");
    if (err) {
        fprintf(stderr, "ipclab-node: %s\n", lab_error_last()->text);
        return NOT_EXECUTABLE;
    }
    execvp(command[0], command);
    fprintf(stderr, "ipclab-node: cannot execute %s: %s\n", command[0], strerror(errno));
    return errno == ENOENT ? NOT_FOUND : NOT_EXECUTABLE;
}

static int take_keys(int fd, struct lab_keys *ret_keys)
{
    int err = lab_keys_take(fd, ret_keys);
    close(fd);
    return err;
}

/* Workers lie beside the node, in a build tree and when installed. */
static void worker_beside_us(char path[PATH_MAX])
{
    static const char worker[] = "ipclab-worker";
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - sizeof worker);
    path[length < 0 ? 0 : length] = '\0';
    char *slash = strrchr(path, '/');
    memcpy(slash ? slash + 1 : path, worker, sizeof worker);
}

/* A node holds about six descriptors for each of its workers. What the system allows is asked for at once. */
static void take_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"control", required_argument, NULL, 'c'}, {"node", required_argument, NULL, 'n'}, {"rank", required_argument, NULL, 'r'},
        {"nodes", required_argument, NULL, 'N'},   {"world", no_argument, NULL, 'w'},      {"keys", required_argument, NULL, 'y'},
        {"staying", no_argument, NULL, 's'},       {"check", no_argument, NULL, 'k'},      {"facts", no_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},          {"version", no_argument, NULL, 'v'},    {NULL, 0, NULL, 0},
    };
    char worker[PATH_MAX];
    struct lab_agent_spec spec = {.rank = -1, .worker_path = worker};
    bool world = false, staying = false;
    struct lab_keys keys;
    int letter, keys_fd = -1;
    if (argc > 2 && strcmp(argv[1], "--carry-keys") == 0)
        return carry_keys(argv + 2);
    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 'c': spec.control = optarg; break;
        case 'n': spec.node = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'r': spec.rank = (int)strtol(optarg, NULL, 10); break;
        case 'N': break; /* how many nodes there are is said in every ASSIGN; here it only helps who reads `ps` */
        case 'w': world = true; break;
        case 'y': keys_fd = (int)strtol(optarg, NULL, 10); break;
        case 's': staying = true; break;
        case 'k': return check();
        case 'f': return tell_facts(argv[optind]);
        case 'h': return usage(stdout, 0);
        case 'v': printf("ipclab-node %s\n", LAB_VERSION); return 0;
        default: return usage(stderr, 2);
        }
    }
    if (optind < argc || !spec.control)
        return usage(stderr, 2);

    take_descriptors();
    signal(SIGPIPE, SIG_IGN);
    dup2(STDERR_FILENO, STDOUT_FILENO); /* what a library prints here must not end up in the result, which shares the launcher's output */
    worker_beside_us(worker);
    int err = 0;
    if (world && !staying)
        lab_mind_proxy(); /* nobody else on this host outlives a proxy that is killed */
    if (world) {
        /* UCX warns of messages that were left when a process ends: no news here. What the user wants stands. Read when it is loaded. */
        setenv("UCX_LOG_LEVEL", "error", 0);
        err = lab_world_rank(&spec.rank);
        spec.node = (uint32_t)spec.rank;
    }
    if (!err && keys_fd >= 0) {
        err = take_keys(keys_fd, &keys);
        spec.keys = &keys;
    }
    if (!err)
        err = lab_agent_run(&spec);
    if (err)
        fprintf(stderr, "ipclab-node %u: %s\n", spec.node, lab_error_last()->code ? lab_error_last()->text : strerror(-err));
    if (err) {
        /* A thread may still be inside a library whose exit handlers would wait for it. */
        fflush(NULL);
        _exit(1);
    }
    return 0;
}
