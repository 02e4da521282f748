/* pipe(2), and the fifo, which is a pipe that was opened by a name: messages in a stream of bytes (node/transports/stream.h).
 *
 * A fifo has its name in /dev/shm for as long as it takes to make and open it, three system calls. What a SIGKILL between them leaves is
 * removed by whoever cleans up after the run, as a file there that nobody has opened (sweep/clean.h). */
#include "node/transports/stream.h"

#include "base/error.h"
#include "base/leftover.h"
#include "node/transports/figure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PREFIX = sizeof(uint32_t), OWNER_ONLY = 0600, ATTEMPTS = 16 };

/* ---- the buffer ---- */

/* What a full window occupies. The kernel keeps pages: small messages share one, but none of them is split. */
static uint64_t size_for(const struct lab_channel *channel)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), framed = (uint64_t)channel->message_max + PREFIX, window = channel->window;
    if (framed > page)
        return window * ((framed + page - 1) / page) * page;
    uint64_t per_page = page / framed;
    return (window + per_page - 1) / per_page * page;
}

/* A pipe may stay smaller than the window (the administrator's limits); the sender then waits in writev. */
static struct lab_kernel_buffer widen(int fd, const struct lab_channel *channel)
{
    uint64_t wanted = size_for(channel), most = lab_figure_read("/proc/sys/fs/pipe-max-size"), fits = wanted < most ? wanted : most;
    int size = fcntl(fd, F_GETPIPE_SZ);
    if (size > 0 && fits > (uint64_t)size)
        fcntl(fd, F_SETPIPE_SZ, (int)fits);
    size = fcntl(fd, F_GETPIPE_SZ);
    return (struct lab_kernel_buffer){.requested = wanted, .actual = size > 0 ? (uint64_t)size : 0};
}

/* ---- provisioning ---- */

static int pipe_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    int fd[2];
    if (pipe2(fd, O_CLOEXEC) < 0)
        return lab_fail(errno, "cannot make a pipe for channel %u", channel->id);
    *ret_wire = (struct lab_wire){.fd = {[LAB_TX] = fd[1], [LAB_RX] = fd[0]}, .buffer = widen(fd[1], channel)};
    return 0;
}

/* One that is open at both sides, and has no name any more. Somebody who cleans up may remove a name before it is opened: then again. */
static int make_fifo(const struct lab_channel *channel, int *ret_fd)
{
    char path[64];
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
            return lab_fail(errno, "no random name for a fifo");
        snprintf(path, sizeof path, "/dev/shm/" LAB_LEFTOVER_FIFO "%016llx", (unsigned long long)random);
        if (mkfifo(path, OWNER_ONLY) < 0)
            return lab_fail(errno, "cannot make the fifo of channel %u, %s", channel->id, path);
        int fd = open(path, O_RDWR | O_CLOEXEC), code = errno;
        unlink(path);
        if (fd >= 0) {
            *ret_fd = fd;
            return 0;
        }
        if (code != ENOENT)
            return lab_fail(code, "cannot open the fifo of channel %u, %s", channel->id, path);
    }
    return lab_refuse(ENOENT, "the fifo of channel %u was removed before it could be opened, %d times", channel->id, ATTEMPTS);
}

/* A fifo that is open is opened once more through its descriptor, whose "name" outlives its own. */
static int open_side(int fd, int flags)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

static int fifo_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    int both, err = make_fifo(channel, &both);
    if (err)
        return err;
    struct lab_wire wire = {.fd = {-1, -1}};
    wire.fd[LAB_TX] = open_side(both, O_WRONLY);
    wire.fd[LAB_RX] = wire.fd[LAB_TX] < 0 ? -1 : open_side(both, O_RDONLY);
    int code = errno;
    close(both);
    if (wire.fd[LAB_RX] < 0) {
        lab_wire_retire(channel, &wire);
        return lab_fail(code, "cannot open both sides of the fifo of channel %u", channel->id);
    }
    wire.buffer = widen(wire.fd[LAB_TX], channel);
    *ret_wire = wire;
    return 0;
}

const struct lab_transport_ops lab_ops_pipe = {
    .name = "pipe", .end_bytes = sizeof(struct lab_stream), .provision = pipe_provision, .retire = lab_wire_retire,
    .open = lab_stream_open, .close = lab_stream_close, .send = lab_stream_send, .recv = lab_stream_recv,
    .send_many = lab_stream_send_many, .recv_many = lab_stream_recv_many,
};

const struct lab_transport_ops lab_ops_fifo = {
    .name = "fifo", .end_bytes = sizeof(struct lab_stream), .provision = fifo_provision, .retire = lab_wire_retire,
    .open = lab_stream_open, .close = lab_stream_close, .send = lab_stream_send, .recv = lab_stream_recv,
    .send_many = lab_stream_send_many, .recv_many = lab_stream_recv_many,
};
