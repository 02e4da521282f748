/* Host names to IPv4 addresses, and the addresses of ours that lie on the way to them. */
#ifndef LAB_LAUNCHER_ROUTE_H
#define LAB_LAUNCHER_ROUTE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

/* The address of a name (or of an address written out). Blocks until the deadline at most. -EHOSTUNREACH with a sentence that
 * names the host and the mend; -ENOENT: `getent` is not installed. */
int lab_route_resolve(const char *host, uint64_t deadline_ns, struct in_addr *ret_address);

/* The address of ours that packets to `far` leave with; `far` itself when that is this machine. -errno, no record. */
int lab_route_source(struct in_addr far, struct in_addr *ret_near);

/* The address of the default route, else of the first interface that is up and not loopback: where hosts that nobody has named
 * may find us. -ENETUNREACH with the record. */
int lab_route_default(struct in_addr *ret_near);

bool lab_route_is_loopback(struct in_addr address);

#endif
