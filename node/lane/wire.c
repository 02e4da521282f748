#include "node/transport.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* -1 of -1; false: there is no descriptor left. */
static bool duplicate(int fd, int *ret_fd)
{
    *ret_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 || *ret_fd >= 0;
}

int lab_wire_half(const struct lab_wire *wire, enum lab_role role, struct lab_wire *ret_half)
{
    struct lab_wire half = *wire;
    half.fd[LAB_TX] = half.fd[LAB_RX] = -1;
    half.bells[LAB_TX] = half.bells[LAB_RX] = (struct lab_bells){-1, -1};
    half.held = NULL;
    bool whole = duplicate(wire->fd[role], &half.fd[role]);
    if (whole && wire->has_bells)
        whole = duplicate(wire->bells[role].own, &half.bells[role].own) && duplicate(wire->bells[role].peer, &half.bells[role].peer);
    if (!whole) {
        int err = lab_fail(errno, "cannot duplicate what an end of a channel inherits");
        lab_wire_drop(&half, role);
        return err;
    }
    *ret_half = half;
    return 0;
}

void lab_wire_drop(struct lab_wire *wire, enum lab_role role)
{
    if (wire->fd[role] >= 0)
        close(wire->fd[role]);
    wire->fd[role] = -1;
    if (wire->has_bells)
        lab_bells_close(&wire->bells[role]);
}

void lab_wire_retire(const struct lab_channel *channel, struct lab_wire *wire)
{
    (void)channel;
    lab_wire_drop(wire, LAB_TX);
    lab_wire_drop(wire, LAB_RX);
}
