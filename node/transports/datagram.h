/* Datagrams within one host, each of them one message, as it stands: the kernel keeps the boundaries, and no header of ours is needed.
 *
 * A pair of datagram sockets tells neither side that the other is gone. So both ends hold *one* socket, bound and connected to
 * itself: what one sends to it the other receives from it, nobody else's datagrams are let in, and shutdown(2) by either, or by the node
 * for one that was killed, is heard by both. Who receives gets what is queued and then the end, who sends is refused, who sleeps is
 * woken, and nothing of it costs a message anything.
 *
 * A transport makes the socket, gives it a buffer, and takes the rest from here. */
#ifndef LAB_NODE_TRANSPORTS_DATAGRAM_H
#define LAB_NODE_TRANSPORTS_DATAGRAM_H

#include "node/transport.h"

#include <sys/socket.h>

struct lab_datagram {
    struct lab_end end;
    int fd;
    uint32_t credit; /* TX of a socket whose receive buffer is counted: so many more fit without another look */
};

static inline struct lab_datagram *lab_datagram_of(struct lab_end *end)
{
    return (struct lab_datagram *)end;
}

/* Binds a new socket, of that buffer, to `address` (the kernel completes it) and connects it to itself. Takes `fd` over, on failure too. */
int lab_datagram_join(const struct lab_channel *channel, int fd, const struct sockaddr *address, socklen_t size,
                      const struct lab_kernel_buffer *buffer, struct lab_wire *ret_wire);

/* Of lab_transport_ops. */
void lab_datagram_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead);
int lab_datagram_open(struct lab_end *end, uint64_t deadline_ns);
void lab_datagram_close(struct lab_end *end);
int lab_datagram_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns);
ssize_t lab_datagram_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns);
int lab_datagram_send_many(struct lab_end *end, const struct lab_span *span, uint64_t deadline_ns);
int lab_datagram_recv_many(struct lab_end *end, void *to, size_t stride, uint32_t want, uint64_t deadline_ns, uint32_t *ret_lengths);

#endif
