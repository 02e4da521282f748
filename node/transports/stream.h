/* Messages over a descriptor that carries a stream of bytes, whatever made it: a pipe, a fifo, a Unix or a TCP socket. Each message is
 * preceded by its length: 4 bytes, the least significant first.
 *
 * A message costs one system call at each side, as in a bare loop: length and message are written together, and a read takes a length and as
 * many bytes as the message before had. From a pipe it takes the length of the *next* message too, which in a stream is there already and in a
 * ping-pong is not; a socket keeps what was written at once in one piece, and a read that touches two of them costs more.
 * Pieces of up to PIPE_BUF bytes are gathered in a buffer of ours, for copying so little is cheaper than a vectored call
 * (64 bytes through writev and readv: 1.4 times the bare loop; through the buffer: as the bare loop). Larger ones go straight
 * from and to the caller's memory by writev and readv. With LAB_WAIT_POLL the descriptor does not block, and poll(2) comes before each call.
 *
 * On a channel with a batch, messages of up to an eighth of TOGETHER are gathered until that is full, and written at once; a receiver
 * reads as much at once, and hands over the whole ones. Gathering costs less than a vectored call with two pieces a message.
 *
 * What was read and not handed over (a message cut by its deadline, or more bytes than the message turned out to have) is
 * kept in `stash` and comes first the next time: a receiver loses nothing by a deadline. A sender that has written part of a
 * message must finish it; it does so for up to LAB_BLOCKING_GRACE_NS after its deadline, then the end is broken.
 *
 * A transport provisions the descriptors, one of each role, and takes the rest from here:
 *
 *     .end_bytes = sizeof(struct lab_stream), .provision = mine_provision, .retire = lab_wire_retire,
 *     .open = lab_stream_open, .close = lab_stream_close, .send = lab_stream_send, .recv = lab_stream_recv,
 *     .send_many = lab_stream_send_many, .recv_many = lab_stream_recv_many,
 */
#ifndef LAB_NODE_TRANSPORTS_STREAM_H
#define LAB_NODE_TRANSPORTS_STREAM_H

#include "node/transport.h"

struct lab_stream {
    struct lab_end end;
    int fd;
    size_t atomic;         /* TX: so many bytes are written as a whole or not at all */
    bool broken;           /* TX: a message was cut */
    uint32_t ahead;        /* RX: bytes of the next message that are read along: its length, or nothing */
    uint32_t expect;       /* RX: length of the message before, the most likely one of the next */
    uint64_t skip;         /* RX: bytes still to come of a message that was too long */
    size_t begin, stashed; /* RX: the stash's unread bytes are stash[begin .. begin + stashed) */
    unsigned char *stash;  /* RX: room for a length, a message and a length, or for what is read together; TX: what is written together */
    size_t together;       /* room in it for several messages, with their lengths; 0: they come and go one by one */
};

/* Of lab_transport_ops, as node/transport.h has them. */
int lab_stream_open(struct lab_end *end, uint64_t deadline_ns);
void lab_stream_close(struct lab_end *end);
int lab_stream_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns);
ssize_t lab_stream_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns);
int lab_stream_send_many(struct lab_end *end, const struct lab_span *span, uint64_t deadline_ns);
int lab_stream_recv_many(struct lab_end *end, void *to, size_t stride, uint32_t want, uint64_t deadline_ns, uint32_t *ret_lengths);

#endif
