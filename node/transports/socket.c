#include "node/transports/socket.h"

#include "base/error.h"

#include <errno.h>
#include <limits.h>
#include <sys/socket.h>

static int read_size(int fd, int option, int *ret_size)
{
    socklen_t length = sizeof *ret_size;
    if (getsockopt(fd, SOL_SOCKET, option, ret_size, &length) < 0)
        return lab_fail(errno, "cannot read the size of a socket's buffer");
    return 0;
}

int lab_socket_widen(int fd, int option, uint64_t wanted, uint64_t *ret_size)
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
        *ret_size = (uint64_t)size;
    return err;
}
