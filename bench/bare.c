#include "bench/bare.h"

#include "base/error.h"
#include "base/text.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECONDS_MAX = 600, BEGIN_WITHIN_S = 20, COUNT_WITHIN_S = 120, ALIGNMENT = 64 };

_Noreturn void bare_fail(const struct bare *bare, const char *what)
{
    fprintf(stderr, "%s: %s%s%s\n", bare->name, what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static _Noreturn void usage(const struct bare *bare)
{
    fprintf(stderr, "usage: %s [--pattern pingpong%s] [--size BYTES] [--window N] [--seconds S | --count N] [--cpus A,B] [--bytes kept|new]", bare->name,
            bare->pingpong_only ? "" : "|stream");
    for (size_t i = 0; bare->over && bare->over[i]; i++)
        fprintf(stderr, "%s%s", i ? "|" : " [--over ", bare->over[i]);
    fprintf(stderr, "%s\n", bare->over ? "]" : "");
    exit(2);
}

static bool read_pattern(struct bare *bare, const char *text)
{
    bare->stream = strcmp(text, "stream") == 0;
    return bare->stream ? !bare->pingpong_only : strcmp(text, "pingpong") == 0;
}

static bool read_over(struct bare *bare, const char *text)
{
    for (size_t i = 0; bare->over && bare->over[i]; i++)
        if (strcmp(text, bare->over[i]) == 0)
            bare->kind = bare->over[i];
    return bare->kind && strcmp(bare->kind, text) == 0;
}

static bool read_size(struct bare *bare, const char *text)
{
    uint64_t size = 0;
    bool read = lab_parse_size(text, &size) == 0 && size >= BARE_SIZE_MIN && size <= INT32_MAX;
    bare->size = read ? (size_t)size : bare->size;
    return read;
}

static bool read_window(struct bare *bare, const char *text)
{
    uint64_t window = 0;
    bool read = lab_parse_count(text, &window) == 0 && window >= 1 && window <= 1 << 20;
    bare->window = read ? (uint32_t)window : bare->window;
    return read;
}

static bool read_seconds(struct bare *bare, const char *text)
{
    char *end;
    bare->seconds = strtod(text, &end);
    return end != text && !*end && bare->seconds > 0 && bare->seconds <= SECONDS_MAX;
}

static bool read_bytes(struct bare *bare, const char *text)
{
    bare->renew = strcmp(text, "new") == 0;
    return bare->renew || strcmp(text, "kept") == 0;
}

static bool read_cpus(struct bare *bare, const char *text)
{
    char rest;
    return sscanf(text, "%d,%d%c", &bare->cpu[0], &bare->cpu[1], &rest) == 2 && bare->cpu[0] >= -1 && bare->cpu[1] >= -1;
}

void bare_options(struct bare *bare, int argc, char **argv)
{
    errno = 0;
    static const struct option options[] = {
        {"pattern", required_argument, NULL, 'p'}, {"over", required_argument, NULL, 'o'},  {"size", required_argument, NULL, 's'},
        {"window", required_argument, NULL, 'w'},  {"count", required_argument, NULL, 'c'}, {"seconds", required_argument, NULL, 't'},
        {"cpus", required_argument, NULL, 'u'},    {"bytes", required_argument, NULL, 'b'}, {NULL, 0, NULL, 0},
    };
    bare->kind = bare->over ? bare->over[0] : NULL;
    bare->size = 64;
    bare->window = 1024;
    bare->seconds = 1;
    bare->cpu[1] = 1;
    int letter;
    bool read = true;
    while (read && (letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 'p': read = read_pattern(bare, optarg); break;
        case 'o': read = read_over(bare, optarg); break;
        case 's': read = read_size(bare, optarg); break;
        case 'w': read = read_window(bare, optarg); break;
        case 'c': read = lab_parse_count(optarg, &bare->count) == 0; break;
        case 't': read = read_seconds(bare, optarg); break;
        case 'u': read = read_cpus(bare, optarg); break;
        case 'b': read = read_bytes(bare, optarg); break;
        default: usage(bare);
        }
        if (!read)
            fprintf(stderr, "%s: '%s' is not possible here\n", bare->name, optarg);
    }
    if (!read || optind < argc)
        usage(bare);
}

void bare_join(struct bare *bare, bool client)
{
    cpu_set_t set;
    int cpu = bare->cpu[!client];
    bare->client = client;
    bare->token_fd = -1;
    CPU_ZERO(&set);
    if (cpu >= 0) {
        CPU_SET(cpu, &set);
        if (sched_setaffinity(0, sizeof set, &set) < 0)
            bare_fail(bare, "cannot run on a cpu that --cpus names");
    }
    alarm(BEGIN_WITHIN_S + (bare->count ? COUNT_WITHIN_S : 2 * (unsigned)(bare->seconds + 1)));
    bare->latency = lab_hist_new();
    if (!bare->latency)
        bare_fail(bare, "no memory");
}

void bare_fork(struct bare *bare)
{
    int pair[2];
    pid_t parent = getpid(), child;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || (child = fork()) < 0)
        bare_fail(bare, "cannot start a second process");
    bool client = child != 0;
    if (!client) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
    }
    close(pair[client]);
    bare_join(bare, client);
    bare->token_fd = pair[!client];
    bare->child = child;
}

void bare_meet(struct bare *bare, void *from_server, size_t size)
{
    char token = 't';
    bool met = bare->client ? recv(bare->token_fd, from_server, size, MSG_WAITALL) == (ssize_t)size && send(bare->token_fd, &token, 1, 0) == 1
                            : send(bare->token_fd, from_server, size, 0) == (ssize_t)size && recv(bare->token_fd, &token, 1, 0) == 1;
    if (!met)
        bare_fail(bare, "the other process did not come");
}

unsigned char *bare_buffer(const struct bare *bare)
{
    unsigned char *bytes = aligned_alloc(ALIGNMENT, (BARE_HEAD + bare->size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1));
    if (!bytes)
        bare_fail(bare, "no memory for a message");
    memset(bytes, 0, BARE_HEAD + bare->size);
    return bytes + BARE_HEAD;
}

static void print(const struct bare *bare)
{
    printf("{\"bench\": \"%s\", \"over\": ", bare->name);
    printf(bare->kind ? "\"%s\"" : "null", bare->kind);
    printf(", \"pattern\": \"%s\", \"size_bytes\": %zu, \"bytes\": \"%s\", \"window\": %u, \"cpus\": [%d, %d]", bare->stream ? "stream" : "pingpong", bare->size, bare->renew ? "new" : "kept",
           bare->stream ? bare->window : 1, bare->cpu[0], bare->cpu[1]);
    if (bare->latency->count)
        printf(", \"half_round_trip_ns\": {\"p50\": %llu, \"p99\": %llu}", (unsigned long long)lab_hist_quantile(bare->latency, 0.5),
               (unsigned long long)lab_hist_quantile(bare->latency, 0.99));
    else
        printf(", \"half_round_trip_ns\": null");
    printf(", \"messages\": %llu, \"messages_per_s\": %.0f}\n", (unsigned long long)bare->messages,
           (double)bare->messages * 1e9 / (double)(bare->elapsed_ns ? bare->elapsed_ns : 1));
}

int bare_end(struct bare *bare)
{
    int status = 0;
    if (bare->client)
        print(bare);
    lab_hist_free(bare->latency);
    if (bare->token_fd < 0)
        return 0;
    close(bare->token_fd);
    if (!bare->client)
        _exit(0);
    if (waitpid(bare->child, &status, 0) < 0 || status != 0)
        bare_fail(bare, "the server did not end well");
    return 0;
}
