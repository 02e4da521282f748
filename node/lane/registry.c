/* The transports there are (node/transports.def), where their functions come from, and the life of an end. */
#include "node/transport.h"

#include "base/error.h"
#include "base/version.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The short names of node/transports.def. */
enum {
    LOAN = LAB_CAP_LOAN,
    COPY = LAB_CAP_COPY,
    BATCH = LAB_CAP_BATCH,
    REMOTE = LAB_CAP_REMOTE,
    NODES = LAB_CAP_NODES,
    WORLD = LAB_CAP_WORLD,
    SELF = LAB_CAP_SELF,
    PEER_DEATH = LAB_CAP_PEER_DEATH,
    BACKING = LAB_CAP_BACKING,
    PRODUCERS = LAB_CAP_PRODUCERS,
    CONSUMERS = LAB_CAP_CONSUMERS,
    READERS = LAB_CAP_READERS,
    FRAGILE = LAB_CAP_FRAGILE,
    HUB = LAB_CAP_HUB,
    THREADS = LAB_CAP_THREADS,
    PIECES = LAB_CAP_PIECES,
    CALLED = LAB_CAP_CALLED,
    HOLDS = LAB_CAP_HOLDS,
    RELIABLE = LAB_CAP_RELIABLE,
    ENCRYPT = LAB_CAP_ENCRYPT,
    SPIN = LAB_WAIT_BIT(LAB_WAIT_SPIN),
    YIELD = LAB_WAIT_BIT(LAB_WAIT_YIELD),
    ADAPTIVE = LAB_WAIT_BIT(LAB_WAIT_ADAPTIVE),
    FUTEX = LAB_WAIT_BIT(LAB_WAIT_FUTEX),
    BLOCK = LAB_WAIT_BIT(LAB_WAIT_BLOCK),
    POLL = LAB_WAIT_BIT(LAB_WAIT_POLL),
    SEMAPHORE = LAB_WAIT_BIT(LAB_WAIT_SEMAPHORE),
    CONDVAR = LAB_WAIT_BIT(LAB_WAIT_CONDVAR),
};
#define MiB(n) (UINT64_C(n) << 20)
#define GiB(n) (UINT64_C(n) << 30)
enum { UDP_MAX = 65535 - 20 - 8 }; /* a packet of IPv4 less its header and UDP's */

struct entry {
    struct lab_transport card; /* first: a card leads to its entry */
    const struct lab_transport_ops *core; /* NULL: in the card's module */
};

#define LAB_CORE(symbol_, ...) extern const struct lab_transport_ops lab_ops_##symbol_;
#define LAB_MODULE(...)
#include "node/transports.def"
#undef LAB_CORE
#undef LAB_MODULE

#define LAB_CORE(symbol_, name_, caps_, waits_, message_max_, summary_) \
    {.card = {name_, #symbol_, NULL, NULL, caps_, waits_, message_max_, summary_}, .core = &lab_ops_##symbol_},
#define LAB_MODULE(symbol_, name_, module_, package_, caps_, waits_, message_max_, summary_) \
    {.card = {name_, #symbol_, module_, package_, caps_, waits_, message_max_, summary_}},
static const struct entry table[] = {
#include "node/transports.def"
};
enum { TRANSPORTS = sizeof table / sizeof *table };

_Atomic bool lab_ends_abandoned;

static const struct lab_transport_ops *_Atomic loaded[TRANSPORTS];
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

const struct lab_transport *lab_transport_at(size_t index)
{
    return index < TRANSPORTS ? &table[index].card : NULL;
}

const struct lab_transport *lab_transport_named(const char *name)
{
    for (size_t i = 0; i < TRANSPORTS; i++)
        if (strcmp(table[i].card.name, name) == 0)
            return &table[i].card;
    return NULL;
}

/* A build tree, and an installation's libexec folder, keep the modules beside the programs that open them. */
static int module_path(const char *module, char ret_path[PATH_MAX])
{
    char folder[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (length < 0)
        return lab_fail(errno, "cannot read /proc/self/exe");
    folder[length] = '\0';
    *strrchr(folder, '/') = '\0';

    const char *const folders[] = {folder, LAB_LIBEXEC_DIR};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        int used = snprintf(ret_path, PATH_MAX, "%s/%s.so", folders[i], module);
        if (used < PATH_MAX && access(ret_path, R_OK) == 0)
            return 0;
    }
    return lab_refuse(ENOENT, "%s.so is neither in %s nor in %s", module, folder, LAB_LIBEXEC_DIR);
}

/* Modules stay open until the process ends: MPI and ZeroMQ cannot be unloaded safely. */
static const struct lab_transport_ops *load(const struct entry *entry)
{
    const struct lab_transport *card = &entry->card;
    char path[PATH_MAX], symbol[64];
    if (module_path(card->module, path)) {
        lab_while(-ENOENT, "loading the transport '%s': install ipclab's modules; it is built where the package %s is installed", card->name, card->package);
        return NULL;
    }
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        lab_refuse(ENOPKG, "the transport '%s' cannot be loaded: %s; install the package %s", card->name, dlerror(), card->package);
        return NULL;
    }
    snprintf(symbol, sizeof symbol, "lab_ops_%s", card->symbol);
    const struct lab_transport_ops *ops = dlsym(module, symbol);
    if (!ops || strcmp(ops->name, card->name) != 0) {
        lab_refuse(ENOPKG, "%s has no transport '%s': it is of another version of ipclab", path, card->name);
        return NULL;
    }
    return ops;
}

const struct lab_transport_ops *lab_transport_ops(const struct lab_transport *transport)
{
    const struct entry *entry = (const struct entry *)transport;
    if (entry->core)
        return entry->core;

    const struct lab_transport_ops *_Atomic *slot = &loaded[entry - table];
    const struct lab_transport_ops *ops = *slot;
    if (ops)
        return ops;
    pthread_mutex_lock(&loading);
    ops = *slot;
    if (!ops)
        *slot = ops = load(entry);
    pthread_mutex_unlock(&loading);
    return ops;
}

static int check(const struct lab_channel *channel)
{
    const struct lab_transport *card = channel->transport;
    if (channel->wait >= LAB_WAITS || !(card->waits & LAB_WAIT_BIT(channel->wait))) {
        const char *name = lab_wait_name(channel->wait);
        return lab_refuse(ENOTSUP, "the transport '%s' cannot wait by '%s'", card->name, name ? name : "?");
    }
    if (channel->backing != LAB_BACKING_MEMFD && !(channel->backing < LAB_BACKINGS && card->caps & LAB_CAP_BACKING)) {
        const char *name = lab_backing_name(channel->backing);
        return lab_refuse(ENOTSUP, "the transport '%s' has no shared memory of backing '%s'", card->name, name ? name : "?");
    }
    if (channel->reliable && !(card->caps & LAB_CAP_RELIABLE))
        return lab_refuse(ENOTSUP, "the transport '%s' cannot deliver reliably beyond its connection", card->name);
    if (channel->keys.open[0] && !(card->caps & LAB_CAP_ENCRYPT))
        return lab_refuse(ENOTSUP, "the transport '%s' encrypts nothing", card->name);
    if (channel->message_max == 0 || channel->message_max > card->message_max)
        return lab_refuse(EMSGSIZE, "the transport '%s' carries messages of 1 to %llu bytes, not %u", card->name,
                          (unsigned long long)card->message_max, channel->message_max);
    uint32_t senders = lab_seats(channel, LAB_TX), receivers = lab_seats(channel, LAB_RX);
    if ((senders > 1 && !(card->caps & LAB_CAP_PRODUCERS)) ||
        (receivers > 1 && !(card->caps & (channel->sharing == LAB_TO_ALL ? LAB_CAP_READERS : LAB_CAP_CONSUMERS))) ||
        (senders > 1 && receivers > 1 && card->caps & LAB_CAP_HUB))
        return lab_refuse(ENOTSUP, "the transport '%s' joins no %u senders and %u receivers", card->name, senders, receivers);
    if (channel->window == 0 || channel->batch == 0)
        return lab_refuse(EINVAL, "channel %u: window %u, batch %u; both must be 1 or more", channel->id, channel->window, channel->batch);
    if (channel->batch > 1 && !(card->caps & LAB_CAP_BATCH))
        return lab_refuse(ENOTSUP, "the transport '%s' hands over one message at a time, not %u", card->name, channel->batch);
    return 0;
}

int lab_end_open(const struct lab_channel *channel, enum lab_role role, const struct lab_wire *wire, struct lab_end *partner,
                 uint64_t deadline_ns, struct lab_end **ret_end)
{
    int err = check(channel);
    if (err)
        return err;
    const struct lab_transport_ops *ops = lab_transport_ops(channel->transport);
    if (!ops)
        return -lab_error_last()->code;

    enum { ALIGNMENT = 128 };
    size_t room = (ops->end_bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    struct lab_end *end = aligned_alloc(ALIGNMENT, room);
    if (!end)
        return lab_fail(ENOMEM, "no memory for an end of '%s'", ops->name);
    memset(end, 0, room);
    end->ops = ops;
    end->channel = *channel;
    end->role = role;
    end->wire = *wire;
    if (channel->transport->caps & LAB_CAP_SELF)
        end->partner = partner;

    err = ops->open(end, deadline_ns);
    if (err) {
        free(end);
        return err;
    }
    if (end->partner)
        end->partner->partner = end;
    *ret_end = end;
    return 0;
}

void lab_end_close(struct lab_end *end)
{
    if (!end)
        return;
    end->ops->close(end);
    if (end->partner)
        end->partner->partner = NULL;
    free(end);
}
