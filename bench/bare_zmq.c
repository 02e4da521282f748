/* One connected pair of PAIR sockets, over a Unix-domain socket or TCP, with every option at its default: zmq_send from one
 * buffer, zmq_recv into one. Its context is made after the pinning, so that the I/O thread shares the process's cpu, as in a
 * measured worker. */
#include "bench/bare.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

struct sockets {
    const struct bare *bare;
    void *socket;
};

static void send_one(void *channel, const void *bytes, size_t size)
{
    const struct sockets *sockets = channel;
    if (zmq_send(sockets->socket, bytes, size, 0) < 0)
        bare_fail(sockets->bare, "zmq_send");
}

static void recv_one(void *channel, void *bytes, size_t size)
{
    const struct sockets *sockets = channel;
    if (zmq_recv(sockets->socket, bytes, size, 0) < 0)
        bare_fail(sockets->bare, "zmq_recv");
}

int main(int argc, char **argv)
{
    static const char *const over[] = {"ipc", "tcp", NULL};
    struct bare bare = {.name = "bare-zmq", .over = over};
    char endpoint[128] = "tcp://127.0.0.1:*";
    bare_options(&bare, argc, argv);
    bare_fork(&bare);
    void *context = zmq_ctx_new(), *socket = context ? zmq_socket(context, ZMQ_PAIR) : NULL;
    if (!socket)
        bare_fail(&bare, "cannot make a socket");
    if (!bare.client) {
        size_t room = sizeof endpoint;
        if (strcmp(bare.kind, "ipc") == 0)
            snprintf(endpoint, sizeof endpoint, "ipc://@bare-zmq-%d", (int)getpid());
        if (zmq_bind(socket, endpoint) < 0 || zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &room) < 0)
            bare_fail(&bare, "cannot listen");
    }
    bare_meet(&bare, endpoint, sizeof endpoint);
    if (bare.client && zmq_connect(socket, endpoint) < 0)
        bare_fail(&bare, "cannot connect");
    struct sockets sockets = {&bare, socket};
    bare_run(&bare, send_one, recv_one, &sockets);
    zmq_close(socket);
    zmq_ctx_term(context);
    return bare_end(&bare);
}
