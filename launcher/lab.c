#include "launcher/lab.h"

#include "base/clock.h"
#include "base/error.h"
#include "launcher/lab_state.h"
#include "launcher/vhost.h"
#include "sweep/process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define INTERFACE_PREFIX "ipclab-lab"
#define MACHINE_ADDRESS LAB_LAB_NETWORK ".254"

enum { UP_S = 20, DOWN_S = 10, REACH_S = 5 };

static bool is_ours(const char *interface)
{
    return strcmp(interface, LAB_LAB_BRIDGE) == 0 || strncmp(interface, INTERFACE_PREFIX, strlen(INTERFACE_PREFIX)) == 0;
}

/* ---- down ---- */

static int remove_interfaces(FILE *told, uint64_t deadline_ns, uint32_t *removed)
{
    struct if_nameindex *all = if_nameindex();
    if (!all)
        return lab_fail(errno, "cannot list the network interfaces");
    int err = 0;
    for (struct if_nameindex *at = all; at->if_index; at++) {
        if (!is_ours(at->if_name))
            continue;
        int failed = lab_vhost_ip(0, deadline_ns, "link del %s", at->if_name);
        if (failed && if_nametoindex(at->if_name)) { /* it may have gone with its host meanwhile */
            err = failed;
            continue;
        }
        (*removed)++;
        if (told)
            fprintf(told, "removed the network interface %s\n", at->if_name);
    }
    if_freenameindex(all);
    return err;
}

static int end_hosts(FILE *told, uint64_t deadline_ns, uint32_t *removed)
{
    struct lab_state state;
    int err = lab_state_read(&state);
    for (uint32_t i = 0; !err && i < state.count; i++) {
        int failed = lab_process_kill(&state.hosts[i].init, deadline_ns);
        if (failed && failed != -ESRCH) {
            err = lab_fail(-failed, "host %s (process %d) does not end", state.hosts[i].name, (int)state.hosts[i].init.pid);
            continue;
        }
        (*removed)++;
        if (told)
            fprintf(told, "%s host %s (process %d)\n", failed ? "forgot the dead" : "ended", state.hosts[i].name,
                    (int)state.hosts[i].init.pid);
    }
    return err;
}

/* With the lock held. */
static int take_down(FILE *told, uint32_t *removed)
{
    uint64_t deadline_ns = lab_now_ns() + DOWN_S * LAB_NS_PER_S;
    int err = end_hosts(told, deadline_ns, removed);
    int failed = remove_interfaces(told, deadline_ns, removed);
    return err ? err : failed ? failed : lab_state_remove();
}

int lab_lab_down(FILE *told, uint32_t *ret_removed)
{
    int lock;
    *ret_removed = 0;
    int err = lab_state_lock(&lock);
    if (err)
        return err;
    err = take_down(told, ret_removed);
    lab_state_unlock(lock);
    return err;
}

/* ---- up ---- */

static int refuse_taken_network(void)
{
    struct ifaddrs *all;
    if (getifaddrs(&all) < 0)
        return lab_fail(errno, "cannot list the network interfaces");
    struct in_addr ours;
    inet_pton(AF_INET, MACHINE_ADDRESS, &ours);
    int err = 0;
    for (struct ifaddrs *at = all; at && !err; at = at->ifa_next) {
        struct sockaddr_in address;
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET || is_ours(at->ifa_name))
            continue;
        memcpy(&address, at->ifa_addr, sizeof address);
        if (ntohl(address.sin_addr.s_addr) >> 8 == ntohl(ours.s_addr) >> 8)
            err = lab_refuse(EADDRINUSE, "the network " LAB_LAB_NETWORK ".0/24 of the virtual hosts is already that of interface %s", at->ifa_name);
    }
    freeifaddrs(all);
    return err;
}

/* A signal that arrived while it was blocked: the work is undone before it takes effect. */
static bool interrupted(void)
{
    sigset_t pending;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGHUP) == 1);
}

static int make_bridge(uint64_t deadline_ns)
{
    int err = lab_vhost_ip(0, deadline_ns, "link add " LAB_LAB_BRIDGE " type bridge");
    if (!err)
        err = lab_vhost_ip(0, deadline_ns, "addr add " MACHINE_ADDRESS "/24 dev " LAB_LAB_BRIDGE);
    if (!err)
        err = lab_vhost_ip(0, deadline_ns, "link set " LAB_LAB_BRIDGE " up");
    return err;
}

/* The host is written down before it has a network: a maker that is killed leaves nothing that `down` would not find. */
static int make_host(uint32_t number, uint64_t shm_bytes, uint64_t deadline_ns, struct lab_state *state, struct lab_vhost_birth *births)
{
    struct lab_state_host *host = &state->hosts[number - 1];
    char interface[IFNAMSIZ];
    snprintf(host->name, sizeof host->name, "lab%u", number);
    snprintf(host->address, sizeof host->address, LAB_LAB_NETWORK ".%u", number);
    snprintf(interface, sizeof interface, INTERFACE_PREFIX "%u", number);
    struct lab_vhost_birth *birth = &births[number - 1];
    int err = lab_vhost_start(host->name, shm_bytes, lab_state_names_file(), deadline_ns, birth);
    if (err)
        return err;
    if (lab_process_read(birth->pid, &host->init))
        return lab_refuse(EIO, "host %s ended while it was made", host->name);
    state->count = number;
    err = lab_state_write(state);
    return err ? err : lab_vhost_connect(birth, interface, host->address, deadline_ns);
}

/* Every host reaches this machine, and its neighbour: what a firewall between bridge ports would prevent. */
static int try_network(const struct lab_state *state, uint64_t deadline_ns)
{
    for (uint32_t i = 0; i < state->count; i++) {
        const struct lab_state_host *host = &state->hosts[i], *next = &state->hosts[(i + 1) % state->count];
        const char *const peers[] = {MACHINE_ADDRESS, next->address};
        for (int peer = 0; peer < 2; peer++)
            if (!lab_vhost_reaches(host->init.pid, peers[peer], deadline_ns))
                return lab_refuse(EHOSTUNREACH, "host %s gets no answer from %s over the bridge " LAB_LAB_BRIDGE "; does a firewall drop it? "
                                  "nft list ruleset; sysctl net.bridge.bridge-nf-call-iptables=0", host->name, peers[peer]);
    }
    return 0;
}

static int make_all(uint32_t count, uint64_t shm_bytes, struct lab_state *state, struct lab_vhost_birth *births)
{
    uint64_t deadline_ns = lab_now_ns() + UP_S * LAB_NS_PER_S;
    int err = lab_state_write_names(count, LAB_LAB_NETWORK, MACHINE_ADDRESS);
    if (!err)
        err = make_bridge(deadline_ns);
    for (uint32_t number = 1; !err && number <= count; number++)
        err = interrupted() ? lab_refuse(EINTR, "interrupted") : make_host(number, shm_bytes, deadline_ns, state, births);
    if (!err)
        err = try_network(state, lab_now_ns() + REACH_S * LAB_NS_PER_S);
    if (!err && interrupted())
        err = lab_refuse(EINTR, "interrupted");
    for (uint32_t i = 0; !err && i < count; i++)
        err = lab_vhost_release(&births[i]);
    state->complete = !err;
    return err ? err : lab_state_write(state);
}

/* With the lock held. */
static int put_up(uint32_t count, uint64_t shm_bytes)
{
    struct lab_state state;
    uint32_t removed = 0;
    int err = lab_state_read(&state);
    for (uint32_t i = 0; !err && state.complete && i < state.count; i++)
        if (lab_process_alive(&state.hosts[i].init))
            return lab_refuse(EEXIST, "%u virtual host%s up already (ipclab lab status; ipclab lab down removes them)", state.count,
                              state.count == 1 ? " is" : "s are");
    if (!err)
        err = refuse_taken_network();
    if (!err)
        err = take_down(NULL, &removed); /* what a killed run may have left */
    if (err)
        return err;

    struct lab_vhost_birth births[LAB_LAB_HOSTS_MAX] = {0};
    state = (struct lab_state){0};
    err = make_all(count, shm_bytes, &state, births);
    if (err) {
        struct lab_error why = *lab_error_last();
        for (uint32_t i = 0; i < count; i++)
            lab_vhost_abandon(&births[i]);
        take_down(NULL, &removed);
        return lab_refuse_at(why.file, why.line, why.code, "%s", why.text);
    }
    return 0;
}

int lab_lab_up(uint32_t count, uint64_t shm_bytes)
{
    if (count < 1 || count > LAB_LAB_HOSTS_MAX)
        return lab_refuse(EINVAL, "%u virtual hosts: 1 to %d are possible", count, LAB_LAB_HOSTS_MAX);
    sigset_t later, before;
    sigemptyset(&later);
    sigaddset(&later, SIGINT);
    sigaddset(&later, SIGTERM);
    sigaddset(&later, SIGHUP);
    sigprocmask(SIG_BLOCK, &later, &before);
    int lock;
    int err = lab_state_lock(&lock);
    if (!err) {
        err = put_up(count, shm_bytes);
        lab_state_unlock(lock);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return err;
}

/* ---- what there is ---- */

int lab_lab_list(struct lab_lab_host **ret_hosts, size_t *ret_count)
{
    struct lab_state state;
    int err = lab_state_read(&state);
    if (err)
        return err;
    struct lab_lab_host *hosts = NULL;
    if (state.count && !(hosts = calloc(state.count, sizeof *hosts)))
        return lab_fail(ENOMEM, "cannot list the virtual hosts");
    for (uint32_t i = 0; i < state.count; i++) {
        struct lab_lab_host *host = &hosts[i];
        memcpy(host->name, state.hosts[i].name, sizeof host->name);
        memcpy(host->address, state.hosts[i].address, sizeof host->address);
        host->pid = state.hosts[i].init.pid;
        host->running = lab_process_alive(&state.hosts[i].init);
        char path[64];
        struct statvfs facts;
        snprintf(path, sizeof path, "/proc/%d/root/dev/shm", (int)host->pid);
        if (host->running && statvfs(path, &facts) == 0) {
            host->shm_size_bytes = (uint64_t)facts.f_blocks * facts.f_frsize;
            host->shm_used_bytes = (uint64_t)(facts.f_blocks - facts.f_bfree) * facts.f_frsize;
        }
    }
    *ret_hosts = hosts;
    *ret_count = state.count;
    return 0;
}

int lab_lab_hosts(struct lab_hosts **ret_hosts)
{
    struct lab_lab_host *hosts = NULL;
    size_t count = 0, used = 0;
    int err = lab_lab_list(&hosts, &count);
    if (err)
        return err;
    if (!count)
        return lab_refuse(ENOENT, "no virtual hosts are up: sudo ipclab lab up 2");
    char text[LAB_LAB_HOSTS_MAX * sizeof hosts->address + 1];
    for (size_t i = 0; i < count && !err; i++) {
        if (!hosts[i].running)
            err = lab_refuse(EHOSTDOWN, "the virtual host %s has ended: sudo ipclab lab down, then up again", hosts[i].name);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s\n", hosts[i].address);
    }
    free(hosts);
    return err ? err : lab_hosts_parse(text, used, "ipclab lab", ret_hosts);
}
