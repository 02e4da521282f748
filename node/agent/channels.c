/* The channels of a launch: made before the workers, given up when they have theirs, told of deaths, taken down. */
#include "node/agent/launch_state.h"

#include <unistd.h>

static int provision(struct lab_launch_run *launch, uint32_t i, enum lab_hop hop)
{
    const struct lab_channel *channel = &launch->layout.paths[i].channel[hop];
    const struct lab_transport_ops *ops = lab_transport_ops(channel->transport);
    if (!ops)
        return -lab_error_last()->code;
    struct lab_wire *wire = &launch->wired[i].wire[hop];
    int err = ops->provision(channel, wire);
    if (err)
        return lab_while(err, "making channel %u (%s)", channel->id, channel->transport->name);
    launch->wired[i].provisioned[hop] = true;
    if (!launch->buffer.requested)
        launch->buffer = wire->buffer;
    return 0;
}

int lab_channels_provision(struct lab_launch_run *launch)
{
    for (uint32_t i = 0; i < launch->layout.path_count; i++) {
        const struct lab_path *path = &launch->layout.paths[i];
        int err = path->has[LAB_HOP_LOCAL] ? provision(launch, i, LAB_HOP_LOCAL) : 0;
        if (!err && path->has[LAB_HOP_LINK] && path->here[LAB_RX]) {
            err = provision(launch, i, LAB_HOP_LINK);
            Lab__Endpoint *endpoint = &launch->endpoints[launch->endpoint_count];
            *endpoint = (Lab__Endpoint)LAB__ENDPOINT__INIT;
            endpoint->channel = path->number;
            endpoint->address = launch->wired[i].wire[LAB_HOP_LINK].address;
            launch->endpoint_count += !err;
        }
        if (err)
            return err;
    }
    return 0;
}

void lab_channels_retire(struct lab_launch_run *launch)
{
    for (uint32_t i = 0; launch->wired && i < launch->layout.path_count; i++) {
        for (int hop = 0; hop < LAB_HOPS; hop++) {
            const struct lab_channel *channel = &launch->layout.paths[i].channel[hop];
            if (!launch->wired[i].provisioned[hop])
                continue;
            const struct lab_transport_ops *ops = lab_transport_ops(channel->transport);
            if (ops)
                ops->retire(channel, &launch->wired[i].wire[hop]);
            launch->wired[i].provisioned[hop] = false;
        }
    }
}

void lab_channels_let_go(struct lab_launch_run *launch)
{
    for (uint32_t i = 0; i < launch->layout.path_count; i++) {
        for (int hop = 0; hop < LAB_HOPS; hop++) {
            if (!launch->wired[i].provisioned[hop] || lab_transport_ops(launch->layout.paths[i].channel[hop].transport)->hangup)
                continue;
            struct lab_wire *wire = &launch->wired[i].wire[hop];
            for (int role = 0; role < 2; role++) {
                int fd = wire->fd[role];
                if (fd >= 0)
                    close(fd);
                if (wire->fd[1 - role] == fd)
                    wire->fd[1 - role] = -1;
                wire->fd[role] = -1;
            }
        }
    }
}

void lab_channels_hang_up(struct lab_launch_run *launch, const struct lab_member *dead)
{
    for (uint32_t p = 0; p < dead->party->path_count; p++) {
        uint32_t i = dead->party->paths[p];
        const struct lab_path *path = &launch->layout.paths[i];
        if (!launch->wired[i].provisioned[LAB_HOP_LOCAL])
            continue;
        const struct lab_transport_ops *ops = lab_transport_ops(path->channel[LAB_HOP_LOCAL].transport);
        struct lab_wire wire = launch->wired[i].wire[LAB_HOP_LOCAL];
        wire.seat = dead->party->seat;
        for (int role = 0; ops && ops->hangup && role < 2; role++)
            if (launch->layout.shared ? (int)dead->party->role == role : path->party[role] == dead->party->index)
                ops->hangup(&path->channel[LAB_HOP_LOCAL], &wire, (enum lab_role)role);
    }
}
