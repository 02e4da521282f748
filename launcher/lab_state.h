/* What is known about the virtual hosts between two commands: one small file, and a lock. Used by the lab only. */
#ifndef LAB_LAUNCHER_LAB_STATE_H
#define LAB_LAUNCHER_LAB_STATE_H

#include "launcher/lab.h"
#include "sweep/process.h"

#include <stdint.h>

struct lab_state_host {
    char name[16];
    char address[16];
    struct lab_process init;
};

struct lab_state {
    bool complete; /* all stand by themselves; else their maker is at work, or was killed at it */
    uint32_t count;
    struct lab_state_host hosts[LAB_LAB_HOSTS_MAX];
};

/* One command at a time: an abstract socket's name, which the kernel takes back from whoever dies. -EBUSY after ten seconds;
 * -EPERM: this process may not make virtual hosts. */
int lab_state_lock(int *ret_lock);
void lab_state_unlock(int lock);

/* None is no failure: count 0. -EINVAL: the file is not one of ours. */
int lab_state_read(struct lab_state *ret_state);
int lab_state_write(const struct lab_state *state);

/* What the hosts see as /etc/hosts: their own names, this machine's, and what this machine's file says. */
const char *lab_state_names_file(void);
int lab_state_write_names(uint32_t count, const char *network, const char *machine_address);

/* The folder that holds both. Hosts get an empty one: the virtual hosts are this machine's affair. */
const char *lab_state_folder(void);

int lab_state_remove(void);

/* Has this process CAP_SYS_ADMIN and CAP_NET_ADMIN? -EPERM with the command that has. */
int lab_state_permitted(void);

#endif
