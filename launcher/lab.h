/* Virtual hosts on this machine: Linux namespaces that share the kernel, the processors and the files, and nothing else.
 *
 * Host i is one process, the init of namespaces of its own (network, ipc, mount, uts, pid), with the address 10.77.0.i on the
 * bridge `ipclab0` (this machine is 10.77.0.254 there), the name labI, its own /dev/shm, /proc and /sys. When that process
 * ends, the kernel ends every process in it and takes its network away; nothing but the bridge and a small file under
 * /run/ipclab/lab needs care. The file holds each host's pid *and* start time, so that a recycled pid is never taken for a host.
 *
 *     err = lab_lab_up(3, 256 << 20);
 *     err = lab_lab_hosts(&hosts);                 // 10.77.0.1, 10.77.0.2, 10.77.0.3
 *     code = lab_lab_exec("lab1", (char *[]){"hostname", NULL});
 *     err = lab_lab_down(stdout);
 *
 * Needs CAP_SYS_ADMIN and CAP_NET_ADMIN (-EPERM says so) and iproute2's `ip`. Called by a process with one thread; callers in
 * different processes are kept apart by a lock file. */
#ifndef LAB_LAUNCHER_LAB_H
#define LAB_LAUNCHER_LAB_H

#include "launcher/hosts.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum { LAB_LAB_HOSTS_MAX = 64, LAB_LAB_SHM_MIB = 256 };

#define LAB_LAB_BRIDGE "ipclab0"
#define LAB_LAB_NETWORK "10.77.0"

struct lab_lab_host {
    char name[16];     /* "lab1" */
    char address[16];  /* "10.77.0.1" */
    pid_t pid;         /* its init, as seen from this machine */
    bool running;      /* false: recorded, but that process is gone */
    uint64_t shm_used_bytes, shm_size_bytes;
};

/* Makes hosts 1..count, each with `shm_bytes` of /dev/shm; returns when all can be reached. A failure halfway undoes everything.
 * -EEXIST: hosts are there already (lab_lab_list() tells how many); -EPERM; -EINVAL for a count outside 1..LAB_LAB_HOSTS_MAX;
 * -EADDRINUSE: the network 10.77.0.0/24 is somebody else's. */
int lab_lab_up(uint32_t count, uint64_t shm_bytes);

/* Removes all of it, also what a killed run left: idempotent, at most 10 s. Says on `told` what it removed (NULL: silent);
 * `ret_removed` counts hosts and interfaces. */
int lab_lab_down(FILE *told, uint32_t *ret_removed);

/* What the state says, in order, each with whether it still runs. Freed with free(); count 0 (and NULL) when there are none. */
int lab_lab_list(struct lab_lab_host **ret_hosts, size_t *ret_count);

/* The running hosts' addresses as a run takes them. -ENOENT when none is up, -EHOSTDOWN when one of them has died. */
int lab_lab_hosts(struct lab_hosts **ret_hosts);

/* Runs a command inside a host (name or address) in the current directory with this environment, signals forwarded, killed when
 * this process is. Blocks until it ends. Returns its exit code, 128+N when signal N ended it, 126 or 127 when it could not be
 * executed, or -errno when the host could not be entered, or has ended (-EHOSTDOWN). Signals stay blocked afterwards. */
int lab_lab_exec(const char *host, char *const *argv);

#endif
