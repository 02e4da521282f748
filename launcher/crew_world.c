/* Where a crew lives: in whose MPI world, and at which address of ours its nodes find the control connection. */
#include "launcher/crew_world.h"

#include "base/clock.h"
#include "base/error.h"
#include "launcher/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { RESOLVE_S = 5 };

/* ---- a user's mpirun ---- */

static int read_number(const char *name, uint32_t *ret_number)
{
    const char *text = getenv(name);
    char *end = NULL;
    unsigned long number = text && text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    if (!end || *end || number > LAB_CREW_NODES_MAX)
        return lab_refuse(EINVAL, "%s=%.40s in the environment is not a number up to %d", name, text ? text : "(not set)", LAB_CREW_NODES_MAX);
    *ret_number = (uint32_t)number;
    return 0;
}

int lab_crew_world(bool *ret_inside, uint32_t *ret_rank, uint32_t *ret_size)
{
    *ret_inside = false;
    if (!getenv("PMI_RANK"))
        return 0;
    uint32_t rank = 0, size = 0;
    int err = read_number("PMI_RANK", &rank);
    if (!err)
        err = read_number("PMI_SIZE", &size);
    if (err)
        return err;
    if (rank >= size)
        return lab_refuse(EINVAL, "PMI_RANK=%u is not below PMI_SIZE=%u in the environment", rank, size);
    *ret_inside = true;
    *ret_rank = rank;
    *ret_size = size;
    return 0;
}

int lab_crew_pmi_fd(int *ret_fd)
{
    const char *number = getenv("PMI_FD");
    if (!number)
        return lab_refuse(EINVAL, "PMI_RANK is set in the environment, and PMI_FD is not: this is not a world of Hydra's mpiexec");
    char *end;
    long fd = strtol(number, &end, 10);
    if (end == number || *end || fd < 3 || fd > INT_MAX || fcntl((int)fd, F_GETFD) < 0)
        return lab_refuse(EINVAL, "PMI_FD=%.40s in the environment is not an open descriptor: this is not a world of mpirun", number);
    *ret_fd = (int)fd;
    return 0;
}

/* ---- addresses ---- */

/* One address of ours that every host can reach. A host that is this machine (loopback) can reach any. */
static int near_hosts(const struct lab_hosts *hosts, uint32_t nodes, struct in_addr *ret_near)
{
    const char *chosen = NULL;
    struct in_addr near = {0};
    for (size_t i = 0; i < hosts->count && lab_hosts_nodes_on(hosts, i, nodes); i++) {
        const char *host = hosts->items[i].name;
        struct in_addr far, source;
        int err = lab_route_resolve(host, lab_now_ns() + RESOLVE_S * LAB_NS_PER_S, &far);
        if (err)
            return err;
        err = lab_route_source(far, &source);
        if (err)
            return lab_fail(-err, "host %s: no route leads to %s; look at `ip route get %s`", host, inet_ntoa(far), inet_ntoa(far));
        if (!chosen || lab_route_is_loopback(near)) {
            chosen = host;
            near = source;
        } else if (!lab_route_is_loopback(source) && source.s_addr != near.s_addr) {
            char one[INET_ADDRSTRLEN], other[INET_ADDRSTRLEN];
            return lab_refuse(EHOSTUNREACH, "this machine reaches host %s from %s and host %s from %s: one address must serve both; "
                              "name the hosts by addresses of one network",
                              chosen, inet_ntop(AF_INET, &near, one, sizeof one), host, inet_ntop(AF_INET, &source, other, sizeof other));
        }
    }
    *ret_near = near;
    return 0;
}

bool lab_crew_apart(void)
{
    bool inside;
    uint32_t rank, size = 0, local = 0;
    if (lab_crew_world(&inside, &rank, &size) || !inside)
        return false;
    return !getenv("MPI_LOCALNRANKS") || read_number("MPI_LOCALNRANKS", &local) || local != size;
}

int lab_crew_endpoint(const struct lab_crew_spec *spec, char to[LAB_CREW_ENDPOINT])
{
    if (spec->world ? !lab_crew_apart() : !spec->hosts) {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            return lab_fail(errno, "cannot name the control socket");
        snprintf(to, LAB_CREW_ENDPOINT, "ipc://@ipclab-%d-%016" PRIx64, (int)getpid(), random);
        return 0;
    }
    struct in_addr near;
    int err = spec->world ? lab_route_default(&near) : near_hosts(spec->hosts, spec->nodes, &near);
    char text[INET_ADDRSTRLEN];
    if (!err)
        snprintf(to, LAB_CREW_ENDPOINT, "tcp://%s:*", inet_ntop(AF_INET, &near, text, sizeof text));
    return err;
}
