#include "node/transports/memory.h"

#include "base/error.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int lab_memory_make(const struct lab_channel *channel, const char *what, size_t size, struct lab_segment *ret_segment)
{
    char name[32];
    snprintf(name, sizeof name, "%s-%u", what, channel->id);
    return lab_segment_create_on(channel->backing, name, size, ret_segment);
}

/* Both roles own and close their own descriptor, even when they are in one process. */
static int hand_over_descriptors(struct lab_segment *segment, struct lab_wire *ret_wire)
{
    int other = fcntl(segment->fd, F_DUPFD_CLOEXEC, 0);
    if (other < 0)
        return lab_fail(errno, "cannot duplicate the descriptor of a channel's memory");
    *ret_wire = (struct lab_wire){.fd = {[LAB_TX] = lab_segment_take_fd(segment), [LAB_RX] = other}};
    lab_segment_fini(segment);
    return 0;
}

/* It is marked for removal already, and lives as long as someone holds it: the node does until it retires the channel. */
static int hand_over_number(struct lab_segment *segment, struct lab_wire *ret_wire)
{
    struct lab_segment *held = malloc(sizeof *held);
    if (!held)
        return lab_fail(ENOMEM, "no memory for a channel");
    *held = *segment;
    *ret_wire = (struct lab_wire){.fd = {-1, -1}, .held = held};
    snprintf(ret_wire->address, sizeof ret_wire->address, "%d", segment->id);
    return 0;
}

int lab_memory_hand_over(struct lab_segment *segment, struct lab_wire *ret_wire)
{
    lab_segment_ready(segment);
    int err = segment->backing == LAB_BACKING_SYSV ? hand_over_number(segment, ret_wire) : hand_over_descriptors(segment, ret_wire);
    if (err)
        lab_segment_fini(segment);
    return err;
}

int lab_memory_add_bells(const struct lab_channel *channel, struct lab_wire *wire)
{
    int err = lab_bells_make(wire->bells);
    wire->has_bells = !err;
    if (err)
        lab_memory_retire(channel, wire);
    return err;
}

void lab_memory_retire(const struct lab_channel *channel, struct lab_wire *wire)
{
    (void)channel;
    lab_wire_drop(wire, LAB_TX);
    lab_wire_drop(wire, LAB_RX);
    if (wire->held)
        lab_segment_fini(wire->held);
    free(wire->held);
    wire->held = NULL;
}

int lab_memory_map(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role role, uint64_t deadline_ns,
                   struct lab_segment *ret_segment)
{
    if (channel->backing != LAB_BACKING_SYSV)
        return lab_segment_attach_on(channel->backing, wire->fd[role], deadline_ns, ret_segment);
    uint64_t id;
    if (lab_parse_count(wire->address, &id) || id > INT_MAX)
        return lab_refuse(EPROTO, "'%s' is not the number of a System V segment", wire->address);
    return lab_segment_attach_on(LAB_BACKING_SYSV, (int)id, deadline_ns, ret_segment);
}

void lab_memory_mapped(struct lab_end *end)
{
    if (end->wire.fd[end->role] >= 0)
        close(end->wire.fd[end->role]);
    end->wire.fd[end->role] = -1;
}
