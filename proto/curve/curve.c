#include "proto/curve/curve.h"

#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <zmq.h>

#define HANDLER "inproc://zeromq.zap.01" /* ZAP: where the library looks for it */
#define DOMAIN "ipclab"
enum { KEY_BYTES = 32, EVENT_BYTES = 6, ZAP_ENFORCE_DOMAIN = 93 /* zmq.h shows it with drafts only; the library always has it */ };

static int failed(const char *what)
{
    int code = zmq_errno();
    return lab_refuse(code < ZMQ_HAUSNUMERO ? code : EIO, "%s: %s", what, zmq_strerror(code));
}

/* ---- keys ---- */

static int supported(void)
{
    return zmq_has("curve") ? 0 : lab_refuse(ENOTSUP, "this libzmq was built without CURVE, and connections to other hosts need it: apt install libzmq5");
}

int lab_curve_pair_make(struct lab_curve_pair *ret_pair)
{
    struct lab_curve_pair pair;
    int err = supported();
    if (!err && zmq_curve_keypair(pair.open, pair.secret))
        err = failed("cannot make a pair of keys");
    if (!err)
        *ret_pair = pair;
    explicit_bzero(&pair, sizeof pair);
    return err;
}

bool lab_curve_is_key(const char *text)
{
    uint8_t key[KEY_BYTES];
    bool is_key = strlen(text) == LAB_CURVE_KEY - 1 && zmq_z85_decode(key, text);
    explicit_bzero(key, sizeof key);
    return is_key;
}

static bool set(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

int lab_curve_serve(void *socket, const struct lab_curve_pair *own)
{
    /* Should the handler be lost, the last of them keeps everybody out. */
    bool ok = set(socket, ZMQ_CURVE_SERVER, 1) && zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, own->secret, LAB_CURVE_KEY) == 0 &&
              zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, DOMAIN, strlen(DOMAIN)) == 0 && set(socket, ZAP_ENFORCE_DOMAIN, 1);
    return ok ? 0 : failed("cannot encrypt what a socket says");
}

int lab_curve_join(void *socket, const struct lab_curve_pair *own, const char *server)
{
    bool ok = zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, server, LAB_CURVE_KEY) == 0 &&
              zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, own->open, LAB_CURVE_KEY) == 0 &&
              zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, own->secret, LAB_CURVE_KEY) == 0;
    return ok ? 0 : failed("cannot encrypt what a socket says");
}

/* ---- the handler ---- */

struct lab_curve_guard {
    void *context, *socket;
    pthread_t thread;
    size_t count;
    uint8_t allowed[LAB_CURVE_ALLOWED_MAX][KEY_BYTES];
};

/* The parts of a question, in order (ZAP 1.0); all but the key are shorter than 256 bytes. */
enum part { VERSION, NUMBER, WHERE, ADDRESS, IDENTITY, MECHANISM, KEY, PARTS, PART_BYTES = 256 };

struct question {
    int parts; /* any more than PARTS is none of ours */
    int size[PARTS];
    uint8_t part[PARTS][PART_BYTES];
};

/* False: the context is being ended. */
static bool hear(void *socket, struct question *question)
{
    int more = 1;
    question->parts = 0;
    while (more) {
        uint8_t ignored[PART_BYTES];
        bool kept = question->parts < PARTS;
        int size = TEMP_FAILURE_RETRY(zmq_recv(socket, kept ? question->part[question->parts] : ignored, PART_BYTES, 0));
        if (size < 0)
            return false;
        if (kept)
            question->size[question->parts] = size < PART_BYTES ? size : PART_BYTES;
        question->parts += question->parts <= PARTS;
        size_t length = sizeof more;
        zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &length);
    }
    return true;
}

static bool is_text(const struct question *question, enum part part, const char *text)
{
    return question->size[part] == (int)strlen(text) && memcmp(question->part[part], text, strlen(text)) == 0;
}

static bool may_enter(const struct lab_curve_guard *guard, const struct question *question)
{
    if (question->parts != PARTS || !is_text(question, WHERE, DOMAIN) || !is_text(question, MECHANISM, "CURVE") || question->size[KEY] != KEY_BYTES)
        return false;
    for (size_t i = 0; i < guard->count; i++)
        if (memcmp(guard->allowed[i], question->part[KEY], KEY_BYTES) == 0)
            return true;
    return false;
}

static bool say(void *socket, const void *part, int size, int more)
{
    return TEMP_FAILURE_RETRY(zmq_send(socket, part, (size_t)size, more)) >= 0;
}

static bool answer(void *socket, const struct question *question, bool enter)
{
    int numbered = question->parts > NUMBER ? question->size[NUMBER] : 0;
    return say(socket, "1.0", 3, ZMQ_SNDMORE) && say(socket, question->part[NUMBER], numbered, ZMQ_SNDMORE) &&
           say(socket, enter ? "200" : "400", 3, ZMQ_SNDMORE) && say(socket, enter ? "OK" : "unknown key", enter ? 2 : 11, ZMQ_SNDMORE) &&
           say(socket, "", 0, ZMQ_SNDMORE) && say(socket, "", 0, 0);
}

/* Waits for as long as the context is there: its end ends every call. */
static void *stand_guard(void *argument)
{
    struct lab_curve_guard *guard = argument;
    struct question question = {0};
    while (hear(guard->socket, &question) && answer(guard->socket, &question, may_enter(guard, &question)))
        ;
    zmq_close(guard->socket);
    return NULL;
}

/* Signals are for those who wait for them. */
static int begin(struct lab_curve_guard *guard)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&guard->thread, NULL, stand_guard, guard);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code ? lab_fail(code, "no thread that looks at keys") : 0;
}

static int open_handler(struct lab_curve_guard *guard)
{
    guard->socket = zmq_socket(guard->context, ZMQ_REP);
    int err = !guard->socket || !set(guard->socket, ZMQ_LINGER, 0) || zmq_bind(guard->socket, HANDLER) ? failed("cannot look at keys") : 0;
    if (!err)
        err = begin(guard);
    if (err && guard->socket)
        zmq_close(guard->socket);
    return err;
}

int lab_curve_guard_start(void *context, const char *const *allowed, size_t count, uint64_t deadline_ns, struct lab_curve_guard **ret_guard)
{
    int err = supported();
    if (err)
        return err;
    if (!count || count > LAB_CURVE_ALLOWED_MAX)
        return lab_refuse(EINVAL, "%zu keys that are heard: 1 to %d are possible", count, LAB_CURVE_ALLOWED_MAX);
    struct lab_curve_guard *guard = calloc(1, sizeof *guard);
    if (!guard)
        return lab_fail(ENOMEM, "no memory to look at keys");
    guard->context = context;
    guard->count = count;
    for (size_t i = 0; !err && i < count; i++)
        err = lab_curve_is_key(allowed[i]) && zmq_z85_decode(guard->allowed[i], allowed[i]) ? 0 : lab_refuse(EINVAL, "what is allowed is not a key");
    if (!err)
        err = open_handler(guard);
    if (err) {
        free(guard);
        return err;
    }
    err = lab_curve_prove(context, deadline_ns);
    if (err)
        lab_curve_guard_end(guard);
    else
        *ret_guard = guard;
    return err;
}

void lab_curve_guard_end(struct lab_curve_guard *guard)
{
    if (!guard)
        return;
    zmq_ctx_shutdown(guard->context);
    pthread_join(guard->thread, NULL);
    free(guard);
}

/* ---- the canary ---- */

struct canary {
    void *server, *client, *monitor;
};

static void release(struct canary *canary)
{
    if (canary->monitor) {
        zmq_socket_monitor(canary->client, NULL, 0);
        zmq_close(canary->monitor);
    }
    if (canary->client)
        zmq_close(canary->client);
    if (canary->server)
        zmq_close(canary->server);
}

/* On an address that nobody else knows, with keys made for this alone: nobody on earth allows that of the client. */
static int send_out(void *context, struct canary *canary)
{
    char address[64], news[64];
    uint64_t random;
    struct lab_curve_pair server = {0}, stranger = {0};
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return lab_fail(errno, "no random name for a socket");
    snprintf(address, sizeof address, "ipc://@ipclab-canary-%d-%016" PRIx64, (int)getpid(), random);
    snprintf(news, sizeof news, "inproc://canary-%016" PRIx64, random);
    int err = lab_curve_pair_make(&server);
    if (!err)
        err = lab_curve_pair_make(&stranger);
    if (err)
        return err;
    canary->server = zmq_socket(context, ZMQ_PULL);
    canary->client = zmq_socket(context, ZMQ_PUSH);
    canary->monitor = zmq_socket(context, ZMQ_PAIR);
    if (!canary->server || !canary->client || !canary->monitor)
        return failed("no sockets for a canary");
    err = lab_curve_serve(canary->server, &server);
    if (!err)
        err = lab_curve_join(canary->client, &stranger, server.open);
    if (err)
        return err;
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                 ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_DISCONNECTED;
    bool ok = set(canary->server, ZMQ_LINGER, 0) && set(canary->client, ZMQ_LINGER, 0) && set(canary->client, ZMQ_RECONNECT_IVL, -1) &&
              zmq_socket_monitor(canary->client, news, events) == 0 && zmq_connect(canary->monitor, news) == 0 &&
              zmq_bind(canary->server, address) == 0 && zmq_connect(canary->client, address) == 0;
    return ok ? 0 : failed("cannot send out a canary");
}

static int judge(const struct canary *canary, uint64_t deadline_ns)
{
    zmq_pollitem_t news = {.socket = canary->monitor, .events = ZMQ_POLLIN};
    int ready;
    do {
        ready = zmq_poll(&news, 1, lab_ms_until(deadline_ns));
    } while (ready < 0 && zmq_errno() == EINTR && lab_ns_until(deadline_ns));
    uint8_t event[EVENT_BYTES];
    if (ready != 1 || TEMP_FAILURE_RETRY(zmq_recv(canary->monitor, event, sizeof event, 0)) != sizeof event)
        return lab_refuse(EPERM, "nothing is bound: a client with an unknown key was given no answer in time");
    int number = event[0] | event[1] << 8;
    if (number == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
        return lab_refuse(EPERM, "nothing is bound: a client with an unknown key was let in");
    return number == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH ? 0 : lab_refuse(EPERM, "nothing is bound: nobody answers for the keys of clients (event %d)", number);
}

int lab_curve_prove(void *context, uint64_t deadline_ns)
{
    struct canary canary = {0};
    int err = send_out(context, &canary);
    if (!err)
        err = judge(&canary, deadline_ns);
    release(&canary);
    return err;
}
