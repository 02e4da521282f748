/* Two pipes: write(2) here, read(2) there, messages of one size and so without a header. */
#include "bench/bare.h"

#include <unistd.h>

struct pipes {
    const struct bare *bare;
    int from, to;
};

static void send_one(void *channel, const void *bytes, size_t size)
{
    const struct pipes *pipes = channel;
    const unsigned char *at = bytes;
    while (size) {
        ssize_t n = write(pipes->to, at, size);
        if (n <= 0)
            bare_fail(pipes->bare, "write");
        at += n;
        size -= (size_t)n;
    }
}

static void recv_one(void *channel, void *bytes, size_t size)
{
    const struct pipes *pipes = channel;
    unsigned char *at = bytes;
    while (size) {
        ssize_t n = read(pipes->from, at, size);
        if (n <= 0)
            bare_fail(pipes->bare, "read");
        at += n;
        size -= (size_t)n;
    }
}

int main(int argc, char **argv)
{
    struct bare bare = {.name = "bare-pipe"};
    int forth[2], back[2];
    bare_options(&bare, argc, argv);
    if (pipe(forth) < 0 || pipe(back) < 0)
        bare_fail(&bare, "cannot make a pipe");
    bare_fork(&bare);
    struct pipes pipes = {&bare, bare.client ? back[0] : forth[0], bare.client ? forth[1] : back[1]};
    close(bare.client ? back[1] : forth[1]);
    close(bare.client ? forth[0] : back[0]);
    bare_run(&bare, send_one, recv_one, &pipes);
    return bare_end(&bare);
}
