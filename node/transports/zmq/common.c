#include "node/transports/zmq/zmq.h"

#include "base/error.h"
#include "node/transports/socket.h"
#include "node/transports/zmq/sealed.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

int lab_zmq_failed(const char *what, const char *address)
{
    int code = zmq_errno();
    return lab_refuse(code < ZMQ_HAUSNUMERO ? code : EIO, "%s %s: %s", what, address, zmq_strerror(code));
}

/* ---- the context ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *context;
static unsigned users;

void *lab_zmq_hold(void)
{
    pthread_mutex_lock(&lock);
    if (!context)
        context = zmq_ctx_new();
    if (context)
        users++;
    else
        lab_zmq_failed("cannot start", "ZeroMQ");
    void *held = context;
    pthread_mutex_unlock(&lock);
    return held;
}

void lab_zmq_release(void)
{
    pthread_mutex_lock(&lock);
    void *last = --users == 0 ? context : NULL;
    if (last)
        context = NULL;
    pthread_mutex_unlock(&lock);
    if (last)
        lab_zmq_unseal();
    if (last)
        zmq_ctx_term(last); /* at most as long as the sockets linger */
}

/* ---- addresses ---- */

static int random_name(char to[48])
{
    uint64_t random;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return lab_fail(errno, "no random name for a socket");
    snprintf(to, 48, "ipclab-%d-%016llx", (int)getpid(), (unsigned long long)random);
    return 0;
}

int lab_zmq_inproc_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    char name[48];
    (void)channel;
    int err = random_name(name);
    if (err)
        return err;
    *ret_wire = (struct lab_wire){.fd = {-1, -1}};
    snprintf(ret_wire->address, sizeof ret_wire->address, "inproc://%s", name);
    return 0;
}

static int listen_on(int fd, const struct sockaddr *name, socklen_t size, const char *what)
{
    if (fd < 0 || bind(fd, name, size) < 0 || listen(fd, 16) < 0) {
        int code = errno;
        if (fd >= 0)
            close(fd);
        return lab_fail(code, "cannot listen on %s", what);
    }
    return 0;
}

int lab_zmq_ipc_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int err = random_name(name.sun_path + 1);
    if (err)
        return err;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    err = listen_on(fd, (struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name.sun_path + 1)),
                    "an abstract Unix address");
    if (err)
        return err;
    *ret_wire = (struct lab_wire){.fd = {-1, -1}};
    ret_wire->fd[lab_zmq_binder(channel)] = fd;
    snprintf(ret_wire->address, sizeof ret_wire->address, "ipc://@%s", name.sun_path + 1);
    return 0;
}

int lab_zmq_tcp_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    char place[LAB_SOCKET_PLACE];
    int fd = lab_socket_listen(channel, place);
    if (fd < 0)
        return fd;
    *ret_wire = (struct lab_wire){.fd = {-1, -1}};
    ret_wire->fd[lab_zmq_binder(channel)] = fd;
    snprintf(ret_wire->address, sizeof ret_wire->address, "tcp://%s", place);
    return 0;
}
