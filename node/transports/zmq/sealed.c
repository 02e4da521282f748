#include "node/transports/zmq/sealed.h"

#include "base/clock.h"

#include <pthread.h>

enum { CANARY_S = 2 };

/* Of the process's one context. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct lab_curve_guard *guard;

static int admit(void *context, const char *key)
{
    pthread_mutex_lock(&lock);
    int err = guard ? 0 : lab_curve_guard_start(context, &key, 1, lab_now_ns() + CANARY_S * LAB_NS_PER_S, &guard);
    pthread_mutex_unlock(&lock);
    return err;
}

int lab_zmq_seal(const struct lab_channel *channel, bool binds, void *context, void *socket)
{
    const struct lab_curve_pair *keys = &channel->keys;
    if (!keys->open[0])
        return 0;
    if (!binds)
        return lab_curve_join(socket, keys, keys->open);
    int err = admit(context, keys->open);
    return err ? err : lab_curve_serve(socket, keys);
}

void lab_zmq_unseal(void)
{
    pthread_mutex_lock(&lock);
    struct lab_curve_guard *last = guard;
    guard = NULL;
    pthread_mutex_unlock(&lock);
    lab_curve_guard_end(last);
}
