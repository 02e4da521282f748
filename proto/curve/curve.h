/* Who may connect: CURVE (CurveZMQ, rfc.zeromq.org/spec/26), which encrypts what two sockets of ZeroMQ say to each other and proves to each
 * which key the other has, and the handler that says which keys are heard (ZAP, rfc.zeromq.org/spec/27).
 *
 * The library asks its handler about the key of each client, and where there is no handler it lets every key in. So the handler comes first, a
 * canary proves that it works, and only then a server is bound:
 *
 *     struct lab_curve_guard *guard;
 *     err = lab_curve_guard_start(context, &allowed, 1, lab_now_ns() + LAB_NS_PER_S, &guard);
 *     if (!err && lab_curve_serve(socket, &own) == 0)
 *         zmq_bind(socket, "tcp://10.77.0.1:*");
 *     ...
 *     zmq_close(socket);
 *     lab_curve_guard_end(guard);
 *     zmq_ctx_term(context);
 *
 * The control connection and the transports over ZeroMQ have this file in common. Nothing here is kept between calls: any thread. */
#ifndef LAB_PROTO_CURVE_H
#define LAB_PROTO_CURVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAB_CURVE_KEY = 41, LAB_CURVE_ALLOWED_MAX = 16 };

/* As Z85 text, 40 characters and a NUL. A pair of which only the public half is known has an empty secret. */
struct lab_curve_pair {
    char open[LAB_CURVE_KEY];
    char secret[LAB_CURVE_KEY];
};

/* A new pair. -ENOTSUP: this libzmq was built without CURVE. */
int lab_curve_pair_make(struct lab_curve_pair *ret_pair);

/* Whether it is a key: 40 characters of Z85, which stand for 32 bytes. */
bool lab_curve_is_key(const char *text);

struct lab_curve_guard;

/* Answers, from a thread of its own, for every server of the context: clients with one of the public keys in `allowed` are heard, and nobody
 * else. To be called before any socket of the context is bound. -EPERM: a client with another key was not turned away before the deadline, and
 * nothing may be bound; -ENOTSUP; -EADDRINUSE: the context has a handler. */
int lab_curve_guard_start(void *context, const char *const *allowed, size_t count, uint64_t deadline_ns, struct lab_curve_guard **ret_guard);

/* After the last socket of the context was closed: it cannot be used any more, only be ended. NULL is harmless. */
void lab_curve_guard_end(struct lab_curve_guard *guard);

/* The canary: whether servers of the context turn a client away that has a key which nobody knows; what they say to him must be the answer of a
 * handler. 0, or -EPERM with what happened instead. lab_curve_guard_start() has done it. */
int lab_curve_prove(void *context, uint64_t deadline_ns);

/* What makes a socket a server, and a client of the server with that public key; before it is bound or connected. -errno, recorded. */
int lab_curve_serve(void *socket, const struct lab_curve_pair *own);
int lab_curve_join(void *socket, const struct lab_curve_pair *own, const char *server);

#endif
