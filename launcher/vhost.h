/* One virtual host: the process that is its init, and its network. Used by lab.c only. */
#ifndef LAB_LAUNCHER_VHOST_H
#define LAB_LAUNCHER_VHOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A host that is being made: its init ends by itself, and everything with it, unless lab_vhost_release() says that all is well. */
struct lab_vhost_birth {
    pid_t pid;
    int fd; /* the maker's end of their conversation */
};

/* Starts the init of a host: namespaces of its own, private mounts, /dev/shm, /proc, /sys, the name, `names_file` over /etc/hosts.
 * Returns when it stands, without network. */
int lab_vhost_start(const char *name, uint64_t shm_bytes, const char *names_file, uint64_t deadline_ns, struct lab_vhost_birth *ret_birth);

/* Gives it the veth `interface` here, on the bridge, and eth0 with the address there. */
int lab_vhost_connect(const struct lab_vhost_birth *birth, const char *interface, const char *address, uint64_t deadline_ns);

/* It lives on without its maker. */
int lab_vhost_release(struct lab_vhost_birth *birth);

/* Ends it; harmless on one that was released or never started. */
void lab_vhost_abandon(struct lab_vhost_birth *birth);

/* Whether a process of the host `pid` gets an answer from the address (a refused TCP connection is one). */
bool lab_vhost_reaches(pid_t pid, const char *address, uint64_t deadline_ns);

/* Runs `ip` in the network namespace of that process, or in this one (0). The words of the format are its arguments. */
int lab_vhost_ip(pid_t pid, uint64_t deadline_ns, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
