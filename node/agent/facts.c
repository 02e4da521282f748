#include "node/agent/facts.h"

#include "base/error.h"
#include "base/version.h"
#include "node/transport.h"
#include "observe/host.h"
#include "observe/tuning.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { REACH_MS = 2000 };

/* A connection that the kernel of the other side accepts: nobody says anything. */
static int reach(const char *where)
{
    char address[INET_ADDRSTRLEN];
    unsigned port;
    struct sockaddr_in to = {.sin_family = AF_INET};
    if (sscanf(where, "%15[0-9.]:%u", address, &port) != 2 || port > UINT16_MAX || inet_pton(AF_INET, address, &to.sin_addr) != 1)
        return EINVAL;
    to.sin_port = htons((uint16_t)port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), code = fd < 0 ? errno : 0;
    if (!code && connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        code = errno;
    if (code == EINPROGRESS) {
        struct pollfd made = {.fd = fd, .events = POLLOUT};
        socklen_t size = sizeof code;
        if (poll(&made, 1, REACH_MS) != 1)
            code = ETIMEDOUT;
        else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0)
            code = errno;
    }
    if (fd >= 0)
        close(fd);
    return code;
}

/* What is bounded here is what `plan` would skip: the transports themselves know. */
static void print_transports(FILE *to)
{
    const struct lab_transport *transport;
    for (size_t i = 0; (transport = lab_transport_at(i)); i++) {
        const struct lab_transport_ops *ops = lab_transport_ops(transport);
        const struct lab_channel channel = {.transport = transport, .message_max = (uint32_t)transport->message_max, .window = 1, .batch = 1};
        struct lab_bound bound;
        if (!ops || (ops->usable && ops->usable()))
            fprintf(to, "unusable %s %s\n", transport->name, lab_error_last()->text);
        else if (ops->limit && ops->limit(&channel, &bound) == 0 && bound.longest < transport->message_max)
            fprintf(to, "longest %s %" PRIu64 " %s\n", transport->name, bound.longest, bound.mend);
    }
}

static const char *or_none(const char *text)
{
    return text && text[0] ? text : "-";
}

int lab_facts_print(FILE *to, const char *where)
{
    struct lab_host_facts host;
    struct lab_tuning tuning;
    struct timespec now;
    int err = lab_host_read(&host);
    if (err)
        return err;
    lab_tuning_read(&tuning);
    clock_gettime(CLOCK_REALTIME, &now);
    fprintf(to, "version %s %u\nhost %s\nclock %lld%09ld\ncpus %u %u\n", LAB_VERSION, LAB_PROTOCOL, host.name, (long long)now.tv_sec, now.tv_nsec,
            host.cores, host.cpu_count);
    fprintf(to, "shm %" PRIu64 " %" PRIu64 "\nfiles %" PRIu64 "\nports %u %u\n", host.shm_free_bytes, tuning.shm_bytes, tuning.files_max,
            tuning.port_first, tuning.port_last);
    fprintf(to, "governor %s\nucx %s\n", or_none(tuning.governor), or_none(tuning.ucx));
    if (where)
        fprintf(to, "reach %d\n", reach(where));
    print_transports(to);
    fputs("end\n", to);
    return 0;
}
