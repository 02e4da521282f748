/* What transports in shared memory have in common: one segment (shm/segment.h) of which each role inherits a descriptor of its own,
 * which it closes itself even when both are in one process.
 *
 *     node:    lab_segment_create, init, lab_segment_ready; lab_inherited_hand_out; later lab_inherited_retire
 *     worker:  lab_segment_attach(end->wire.fd[end->role], ...), attach; lab_inherited_attached */
#ifndef LAB_NODE_TRANSPORTS_INHERITED_H
#define LAB_NODE_TRANSPORTS_INHERITED_H

#include "node/transport.h"

#include "base/error.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Ends the segment as far as this process goes, whatever comes of it. */
static inline int lab_inherited_hand_out(struct lab_segment *segment, const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    int err = 0, other = fcntl(segment->fd, F_DUPFD_CLOEXEC, 0);
    if (other < 0)
        err = lab_fail(errno, "cannot duplicate the descriptor of channel %u", channel->id);
    else
        *ret_wire = (struct lab_wire){.fd = {[LAB_TX] = lab_segment_take_fd(segment), [LAB_RX] = other}};
    lab_segment_fini(segment);
    return err;
}

static inline void lab_inherited_retire(const struct lab_channel *channel, struct lab_wire *wire)
{
    (void)channel;
    for (int role = 0; role < 2; role++) {
        if (wire->fd[role] >= 0)
            close(wire->fd[role]);
        wire->fd[role] = -1;
    }
}

/* The mapping is all that an end needs from here on; the descriptor is its own and has done its work. */
static inline void lab_inherited_attached(struct lab_end *end)
{
    close(end->wire.fd[end->role]);
    end->wire.fd[end->role] = -1;
}

#endif
