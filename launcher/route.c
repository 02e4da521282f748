#include "launcher/route.h"

#include "base/error.h"
#include "launcher/capture.h"
#include "launcher/hosts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* getaddrinfo(3) has no deadline; a process that asks for us can be killed at one. */
int lab_route_resolve(const char *host, uint64_t deadline_ns, struct in_addr *ret_address)
{
    if (inet_pton(AF_INET, host, ret_address) == 1)
        return 0;
    char program[] = "getent", database[] = "ahostsv4", name[LAB_HOST_NAME_MAX + 1];
    snprintf(name, sizeof name, "%s", host);
    struct lab_capture *got = calloc(1, sizeof *got);
    if (!got)
        return lab_fail(ENOMEM, "cannot look up host %s", host);
    int err = lab_capture_run(program, (char *[]){program, database, name, NULL}, deadline_ns, got);
    if (!err) {
        got->output[strcspn(got->output, " \t\n")] = '\0';
        err = inet_pton(AF_INET, got->output, ret_address) == 1 ? 0 : -EIO;
    }
    free(got);
    if (err == -ENOENT)
        return err;
    return err ? lab_refuse(EHOSTUNREACH, "host %s: its name has no address; correct it, or add it to /etc/hosts or to the DNS", host) : 0;
}

/* A connected datagram socket asks the routing table, and sends nothing. */
int lab_route_source(struct in_addr far, struct in_addr *ret_near)
{
    const struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = far};
    struct sockaddr_in from = {0};
    socklen_t size = sizeof from;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int err = fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof to) < 0 ||
                      getsockname(fd, (struct sockaddr *)&from, &size) < 0
                  ? -errno
                  : 0;
    if (fd >= 0)
        close(fd);
    if (!err)
        *ret_near = from.sin_addr;
    return err;
}

bool lab_route_is_loopback(struct in_addr address)
{
    return ntohl(address.s_addr) >> 24 == IN_LOOPBACKNET;
}

int lab_route_default(struct in_addr *ret_near)
{
    struct in_addr elsewhere;
    inet_pton(AF_INET, "192.0.2.1", &elsewhere); /* set aside for documentation (RFC 5737): never routed but by default */
    if (lab_route_source(elsewhere, ret_near) == 0)
        return 0;
    struct ifaddrs *all;
    if (getifaddrs(&all) < 0)
        return lab_fail(errno, "cannot list the network interfaces");
    bool found = false;
    for (struct ifaddrs *at = all; at && !found; at = at->ifa_next) {
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET || !(at->ifa_flags & IFF_UP) || at->ifa_flags & IFF_LOOPBACK)
            continue;
        struct sockaddr_in address;
        memcpy(&address, at->ifa_addr, sizeof address);
        *ret_near = address.sin_addr;
        found = true;
    }
    freeifaddrs(all);
    return found ? 0 : lab_refuse(ENETUNREACH, "this machine has no network interface but loopback that is up and has an IPv4 address");
}
