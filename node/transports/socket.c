#include "node/transports/socket.h"

#include "base/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int read_size(int fd, int option, int *ret_size)
{
    socklen_t length = sizeof *ret_size;
    if (getsockopt(fd, SOL_SOCKET, option, ret_size, &length) < 0)
        return lab_fail(errno, "cannot read the size of a socket's buffer");
    return 0;
}

int lab_socket_widen(int fd, int option, uint64_t wanted, struct lab_kernel_buffer *ret_buffer)
{
    int value = wanted < INT_MAX / 2 ? (int)wanted : INT_MAX / 2, size = 0;
    int err = read_size(fd, option, &size);
    if (err)
        return err;
    /* The kernel sets twice what it is asked for: half of it is for its overhead. */
    if (value > size / 2 &&
        setsockopt(fd, SOL_SOCKET, option == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE, &value, sizeof value) < 0)
        setsockopt(fd, SOL_SOCKET, option, &value, sizeof value);
    err = read_size(fd, option, &size);
    if (!err)
        *ret_buffer = (struct lab_kernel_buffer){.requested = wanted, .actual = (uint64_t)size};
    return err;
}

static int resolve(const char *host, struct sockaddr_in *ret_name)
{
    const struct addrinfo wanted = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int code = getaddrinfo(host, "0", &wanted, &found);
    if (code)
        return lab_refuse(EHOSTUNREACH, "this host's own name '%s' cannot be resolved: %s", host, gai_strerror(code));
    memcpy(ret_name, found->ai_addr, sizeof *ret_name);
    freeaddrinfo(found);
    return 0;
}

int lab_socket_listen(const struct lab_channel *channel, char place[LAB_SOCKET_PLACE])
{
    enum { BACKLOG = 16 };
    const char *host = channel->crosses_hosts && channel->host ? channel->host : "127.0.0.1";
    struct sockaddr_in name = {0};
    socklen_t size = sizeof name;
    char text[INET_ADDRSTRLEN];
    int err = resolve(host, &name);
    if (err)
        return err;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, size) < 0 || listen(fd, BACKLOG) < 0 || getsockname(fd, (struct sockaddr *)&name, &size) < 0) {
        err = lab_fail(errno, "cannot listen on %s", host);
        if (fd >= 0)
            close(fd);
        return err;
    }
    inet_ntop(AF_INET, &name.sin_addr, text, sizeof text);
    snprintf(place, LAB_SOCKET_PLACE, "%s:%u", text, ntohs(name.sin_port));
    return fd;
}
