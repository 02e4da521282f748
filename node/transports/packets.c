#include "node/transports/packets.h"

#include <sys/socket.h>

/* Left uninitialised but for what the kernel looks at: in a batch of short messages filling it in is much of the work. */
struct packets {
    struct mmsghdr head[LAB_PACKETS_MOST];
    struct iovec piece[LAB_PACKETS_MOST];
};

static unsigned lay_out(struct packets *packets, unsigned char *at, size_t stride, size_t length, uint32_t count)
{
    unsigned most = count < LAB_PACKETS_MOST ? count : LAB_PACKETS_MOST;
    for (unsigned i = 0; i < most; i++) {
        packets->piece[i] = (struct iovec){at + i * stride, length};
        packets->head[i].msg_hdr = (struct msghdr){.msg_iov = &packets->piece[i], .msg_iovlen = 1};
    }
    return most;
}

int lab_packets_send(int fd, const struct lab_span *span, int flags)
{
    struct packets packets;
    return sendmmsg(fd, packets.head, lay_out(&packets, span->at, span->stride, span->length, span->count), flags);
}

int lab_packets_receive(int fd, void *to, size_t stride, uint32_t want, int flags, uint32_t *ret_lengths)
{
    struct packets packets;
    unsigned most = lay_out(&packets, to, stride, stride, want);
    int count = recvmmsg(fd, packets.head, most, flags | MSG_TRUNC | MSG_WAITFORONE, NULL), whole = 0;
    /* At its end a socket gives packets of no bytes, as many as are asked for. */
    for (; whole < count && packets.head[whole].msg_len; whole++)
        ret_lengths[whole] = packets.head[whole].msg_len;
    return count < 0 ? count : whole;
}
