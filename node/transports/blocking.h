/* Deadlines for transports that wait in a blocking system call (pipes, sockets, queues): the call itself is the wait, the thread's
 * alarm (base/alarm.h) ends it. A message that does not have to wait longer costs the system call of a bare loop. With LAB_WAIT_POLL
 * the descriptor is non-blocking, and poll(2) is the wait: two system calls a message.
 *
 *     int err = lab_blocking_begin(fd, POLLIN, wait, deadline_ns);
 *     while (!err) {
 *         ssize_t n = readv(fd, ...);
 *         if (n >= 0)
 *             return n;
 *         err = lab_blocking_again(fd, POLLIN, wait, deadline_ns);
 *     }
 *     return err;
 */
#ifndef LAB_NODE_TRANSPORTS_BLOCKING_H
#define LAB_NODE_TRANSPORTS_BLOCKING_H

#include "base/alarm.h"
#include "base/clock.h"
#include "node/transport.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>

/* A message of which a part has left must be finished, or the channel is lost: it has this much longer than its deadline. */
#define LAB_BLOCKING_GRACE_NS LAB_NS_PER_S

/* So often a call that waits looks whether its launch was given up (lab_ends_abandoned). */
enum { LAB_BLOCKING_SLICE_MS = 50 };

/* 0: it has not, -EAGAIN: the deadline has passed, -ECANCELED: there is nothing more to wait for. */
static inline int lab_blocking_waits(uint64_t deadline_ns)
{
    if (!deadline_ns || !lab_ns_until(deadline_ns))
        return -EAGAIN;
    return lab_ends_abandoned ? -ECANCELED : 0;
}

/* 0 when the descriptor is ready, -EAGAIN at the deadline, or -errno. */
static inline int lab_blocking_poll(int fd, short events, uint64_t deadline_ns)
{
    struct pollfd ready = {.fd = fd, .events = events};
    int count, err = 0, left_ms = deadline_ns ? lab_ms_until(deadline_ns) : 0;
    while (!err && (count = poll(&ready, 1, left_ms < LAB_BLOCKING_SLICE_MS ? left_ms : LAB_BLOCKING_SLICE_MS)) <= 0) {
        err = count < 0 && errno != EINTR ? -errno : lab_blocking_waits(deadline_ns);
        left_ms = lab_ms_until(deadline_ns);
    }
    return err;
}

/* Before the call: 0, it may be made, and block until the deadline; or -EAGAIN for a deadline of 0 where it would block; or -errno. */
static inline int lab_blocking_begin(int fd, short events, enum lab_wait wait, uint64_t deadline_ns)
{
    return deadline_ns && wait == LAB_WAIT_BLOCK ? lab_alarm_at(deadline_ns) : lab_blocking_poll(fd, events, deadline_ns);
}

/* After a call that blocks has failed: 0 to call again, -EAGAIN at the deadline, -EPIPE when the other side is gone, else -errno. */
static inline int lab_blocking_interrupted(uint64_t deadline_ns)
{
    /* EAGAIN: a socket whose calls block for a slice only, or that must not block now. */
    if (errno == EINTR || errno == EAGAIN)
        return lab_blocking_waits(deadline_ns);
    /* A Unix socket whose other side closed with messages unread says ECONNRESET. */
    return errno == ECONNRESET ? -EPIPE : -errno;
}

/* The same after a call on a descriptor that does not block with LAB_WAIT_POLL. */
static inline int lab_blocking_again(int fd, short events, enum lab_wait wait, uint64_t deadline_ns)
{
    return errno == EAGAIN && wait == LAB_WAIT_POLL ? lab_blocking_poll(fd, events, deadline_ns) : lab_blocking_interrupted(deadline_ns);
}

/* The deadline of the rest of a message. */
static inline uint64_t lab_blocking_grace(uint64_t deadline_ns)
{
    uint64_t now = lab_now_ns();
    return (deadline_ns > now ? deadline_ns : now) + LAB_BLOCKING_GRACE_NS;
}

#endif
