/* Several packets of a socket that keeps boundaries in one system call: sendmmsg(2), recvmmsg(2). Each message is one packet. */
#ifndef LAB_NODE_TRANSPORTS_PACKETS_H
#define LAB_NODE_TRANSPORTS_PACKETS_H

#include "shm/span.h"

#include <stddef.h>
#include <stdint.h>

enum { LAB_PACKETS_MOST = 64 }; /* in one call */

/* Sends the first messages of the span: how many, or -1 with errno as sendmmsg leaves it. */
int lab_packets_send(int fd, const struct lab_span *span, int flags);

/* Waits for one packet, unless the flags forbid it, and takes at most `want` that are there, `stride` bytes apart: how many, with their whole
 * lengths, 0 at the end of the socket, or -1 with errno as recvmmsg leaves it. */
int lab_packets_receive(int fd, void *to, size_t stride, uint32_t want, int flags, uint32_t *ret_lengths);

#endif
