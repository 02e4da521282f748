/* The buffer that the kernel keeps for a socket, and where other nodes find one. */
#ifndef LAB_NODE_TRANSPORTS_SOCKET_H
#define LAB_NODE_TRANSPORTS_SOCKET_H

#include "node/transport.h"

#include <stdint.h>

/* Of a small packet, of which the kernel counts more than its bytes (struct sk_buff, and what it lies in is rounded up). */
enum { LAB_SOCKET_OVERHEAD = 512 };

/* Makes SO_SNDBUF or SO_RCVBUF hold `wanted` bytes, beyond net.core.wmem_max or rmem_max where this process may do that (CAP_NET_ADMIN).
 * It may stay smaller, and never becomes smaller than it was. `ret_buffer`: what was wanted, and what it is, of the kernel's own count, which
 * includes its overhead. -errno, recorded, where the socket does not tell. */
int lab_socket_widen(int fd, int option, uint64_t wanted, struct lab_kernel_buffer *ret_buffer);

/* Listens for TCP connections where the channel's other node reaches this one, at a port that was free: the descriptor, which is the
 * caller's, or -errno, recorded; `place` is "10.0.0.1:40123". */
enum { LAB_SOCKET_PLACE = 24 };
int lab_socket_listen(const struct lab_channel *channel, char place[LAB_SOCKET_PLACE]);

#endif
