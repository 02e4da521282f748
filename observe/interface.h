/* What the network interfaces of this host have carried: the proof that messages went over one, or did not.
 *
 *     struct lab_interfaces before, after;
 *     lab_interfaces_read(&before);
 *     ...
 *     lab_interfaces_read(&after);
 *     uint64_t arrived = after.received_bytes - before.received_bytes;
 *
 * Sums over all interfaces of this process's network namespace but the loopback, as /proc/net/dev has them: whole packets, of everybody. One
 * that is made of others (bridge, bond, VLAN) counts beside them. A small file is read: between measuring phases, never inside one.
 * Thread-safe. */
#ifndef LAB_OBSERVE_INTERFACE_H
#define LAB_OBSERVE_INTERFACE_H

#include <stdint.h>
#include <stdio.h>

struct lab_interfaces {
    uint64_t received_bytes, sent_bytes;
};

/* -errno, recorded, where the kernel does not tell. */
int lab_interfaces_read(struct lab_interfaces *ret_interfaces);

/* The same from a text in the form of /proc/net/dev. -EBADMSG, recorded. */
int lab_interfaces_parse(FILE *from, struct lab_interfaces *ret_interfaces);

/* Names what those sums are of: equal for two processes if and only if they see the same interfaces. `boot_id` is that of their host
 * (observe/host.h): the number of a namespace is unique on its kernel only. -errno, recorded. */
enum { LAB_NETWORK_TEXT = 192 };
int lab_network_name(const char *boot_id, char to[LAB_NETWORK_TEXT]);

#endif
