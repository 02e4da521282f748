#include "node/agent/relay.h"

#include "base/alarm.h"
#include "base/clock.h"
#include "base/error.h"
#include "node/lane/lane.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { DIRECTIONS = 2, POLLS_HOT = 2000, POLLS_YIELDING = 20000, NAP_US = 50, BUSY_ROUNDS = 256, STOP_WITHIN_S = 1 };
#define SLICE_NS (5 * LAB_NS_PER_MS) /* how long one channel is waited for before `stop` is looked at */

struct pump {
    const struct lab_path *path;
    struct lab_wire wire[LAB_HOPS];
    struct lab_end *from, *to;
    struct lab_envelope head;   /* of what leaves, or what must arrive */
    unsigned char *buffer;      /* one message in its envelope */
    size_t room;
    const unsigned char *held;  /* of it, what is to be sent on, ... */
    size_t held_bytes;          /* ... 0: nothing is */
    bool drained;               /* the sender has closed, and everything was carried */
};

struct direction {
    struct lab_relay *relay;
    bool outward;               /* from the legs to the links */
    struct pump *pumps;
    uint32_t count;
    pthread_t thread;
    bool started;
};

struct lab_relay {
    struct direction direction[DIRECTIONS];
    uint64_t run, deadline_ns;
    uint32_t epoch;
    int event_fd;
    _Atomic int opened;         /* directions with all ends open */
    _Atomic int emptied;        /* ... that have carried everything, and closed them */
    _Atomic bool stop, failed;
    pthread_mutex_t lock;       /* over `error` */
    struct lab_error error;
};

static void fail(struct lab_relay *relay, int err)
{
    pthread_mutex_lock(&relay->lock);
    if (!relay->error.code) {
        relay->error = *lab_error_last();
        relay->error.code = -err;
    }
    pthread_mutex_unlock(&relay->lock);
    atomic_store(&relay->failed, true);
}

static void tell(struct lab_relay *relay)
{
    eventfd_write(relay->event_fd, 1);
}

/* ---- one message ---- */

static int take_out(struct pump *pump, uint64_t until_ns)
{
    ssize_t length = lab_end_recv(pump->from, pump->buffer + LAB_ENVELOPE_HEAD, pump->room - LAB_ENVELOPE_HEAD, until_ns);
    if (length < 0)
        return (int)length;
    pump->head.stamp_ns = lab_now_ns();
    lab_envelope_write(&pump->head, (size_t)length, pump->buffer);
    pump->head.sequence++;
    pump->held = pump->buffer;
    pump->held_bytes = (size_t)length + LAB_ENVELOPE_HEAD;
    return 0;
}

static int take_in(struct pump *pump, uint64_t until_ns)
{
    ssize_t length = lab_end_recv(pump->from, pump->buffer, pump->room, until_ns);
    if (length < 0)
        return (int)length;
    struct lab_envelope head;
    const unsigned char *payload;
    size_t size;
    int err = lab_envelope_read(pump->buffer, (size_t)length, &head, &payload, &size);
    if (err)
        return err;
    if (head.run != pump->head.run || head.epoch != pump->head.epoch || head.channel != pump->head.channel ||
        head.sequence != pump->head.sequence)
        return lab_refuse(EBADMSG, "message %llu of channel %u, epoch %u arrived where message %llu of channel %u, epoch %u was due",
                          (unsigned long long)head.sequence, head.channel, head.epoch, (unsigned long long)pump->head.sequence,
                          pump->head.channel, pump->head.epoch);
    pump->head.sequence++;
    pump->held = payload;
    pump->held_bytes = size;
    return 0;
}

/* Takes a message unless one is held, and sends it on. 0: one has gone on; -EAGAIN: none could, one may be held now. */
static int carry_one(const struct direction *way, struct pump *pump, uint64_t until_ns)
{
    int err = pump->held_bytes ? 0 : way->outward ? take_out(pump, until_ns) : take_in(pump, until_ns);
    if (err)
        return err;
    bool begun = pump->to->channel.transport->caps & LAB_CAP_PIECES;
    err = lab_end_send(pump->to, pump->held, (uint32_t)pump->held_bytes, begun ? way->relay->deadline_ns : until_ns);
    if (!err)
        pump->held_bytes = 0;
    return err;
}

/* ---- a thread ---- */

/* What an end that was never opened would have owned. */
static void drop(struct lab_wire *wire)
{
    lab_wire_drop(wire, LAB_TX);
    lab_wire_drop(wire, LAB_RX);
}

static void close_pump(const struct direction *way, struct pump *pump)
{
    enum lab_hop in = way->outward ? LAB_HOP_LOCAL : LAB_HOP_LINK, out = way->outward ? LAB_HOP_LINK : LAB_HOP_LOCAL;
    if (!pump->to)
        drop(&pump->wire[out]);
    if (!pump->from)
        drop(&pump->wire[in]);
    lab_end_close(pump->to);
    lab_end_close(pump->from);
    free(pump->buffer);
}

static int open_pump(const struct direction *way, struct pump *pump)
{
    enum lab_hop in = way->outward ? LAB_HOP_LOCAL : LAB_HOP_LINK, out = way->outward ? LAB_HOP_LINK : LAB_HOP_LOCAL;
    const struct lab_path *path = pump->path;
    pump->head = (struct lab_envelope){
        .run = way->relay->run, .epoch = way->relay->epoch, .sender = path->party[LAB_TX], .receiver = path->party[LAB_RX],
        .channel = path->number,
    };
    pump->room = path->channel[LAB_HOP_LINK].message_max;
    pump->buffer = aligned_alloc(64, (pump->room + 63) & ~(size_t)63);
    if (!pump->buffer)
        return lab_fail(ENOMEM, "no memory for a message of %zu bytes", pump->room);
    int err = lab_end_open(&path->channel[in], LAB_RX, &pump->wire[in], NULL, way->relay->deadline_ns, &pump->from);
    if (!err)
        err = lab_end_open(&path->channel[out], LAB_TX, &pump->wire[out], NULL, way->relay->deadline_ns, &pump->to);
    return err ? lab_while(err, "opening the relay of channel %u", path->number) : 0;
}

static void rest(uint32_t *idle)
{
    if (++*idle < POLLS_HOT)
        return;
    if (*idle < POLLS_YIELDING)
        sched_yield();
    else
        usleep(NAP_US);
}

/* A message that has been taken must go on: for it a deadline is a failure, not "nothing happened". */
static int check_deadline(const struct direction *way)
{
    for (uint32_t i = 0; lab_now_ns() > way->relay->deadline_ns && i < way->count; i++)
        if (way->pumps[i].held_bytes)
            return lab_refuse(ETIMEDOUT, "the relay could not pass a message of channel %u on before the deadline", way->pumps[i].path->number);
    return 0;
}

/* What their ends have to do by themselves, while no message moves. */
static void tend(struct direction *way)
{
    for (uint32_t i = 0; i < way->count; i++) {
        struct lab_end *ends[] = {way->pumps[i].from, way->pumps[i].to};
        for (int e = 0; e < 2; e++)
            if (ends[e]->ops->tend)
                ends[e]->ops->tend(ends[e]);
    }
}

/* Until it is told to stop, or until every sender has closed and all that they sent has been carried. */
static int carry(struct direction *way)
{
    uint32_t idle = 0, busy = 0, left = way->count;
    while (left && !atomic_load_explicit(&way->relay->stop, memory_order_relaxed)) {
        bool moved = false;
        /* A single channel is waited for as its transport does it; several are looked at in turn. */
        uint64_t until_ns = way->count == 1 ? lab_now_ns() + SLICE_NS : 0;
        for (uint32_t i = 0; i < way->count; i++) {
            struct pump *pump = &way->pumps[i];
            if (pump->drained)
                continue;
            int err = carry_one(way, pump, until_ns);
            if (err == -EPIPE) {
                pump->drained = true;
                left--;
            } else if (err == 0)
                moved = true;
            else if (err != -EAGAIN)
                return lab_while(err, "relaying channel %u", pump->path->number);
        }
        if (!moved || ++busy % BUSY_ROUNDS == 0)
            tend(way);
        int err = moved ? 0 : check_deadline(way);
        if (err)
            return err;
        if (moved || until_ns)
            idle = 0;
        else
            rest(&idle);
    }
    return 0;
}

static void *direction_main(void *argument)
{
    struct direction *way = argument;
    struct lab_relay *relay = way->relay;
    int err = 0;
    for (uint32_t i = 0; !err && i < way->count; i++)
        err = open_pump(way, &way->pumps[i]);
    if (!err) {
        atomic_fetch_add(&relay->opened, 1);
        tell(relay);
        err = carry(way);
    }
    if (err) {
        fail(relay, err);
        tell(relay);
    }
    for (uint32_t i = 0; i < way->count; i++)
        close_pump(way, &way->pumps[i]);
    if (!err) {
        atomic_fetch_add(&relay->emptied, 1);
        tell(relay);
    }
    lab_alarm_fini();
    return NULL;
}

/* ---- life ---- */

static int assign_pumps(struct lab_relay *relay, const struct lab_relay_path *paths, uint32_t count)
{
    for (int d = 0; d < DIRECTIONS; d++) {
        struct direction *way = &relay->direction[d];
        *way = (struct direction){.relay = relay, .outward = d == 0, .pumps = calloc(count + 1, sizeof *way->pumps)};
        if (!way->pumps)
            return lab_fail(ENOMEM, "no memory for a relay of %u channels", count);
        for (uint32_t i = 0; i < count; i++) {
            if (paths[i].path->here[LAB_TX] != way->outward)
                continue;
            struct pump *pump = &way->pumps[way->count++];
            pump->path = paths[i].path;
            memcpy(pump->wire, paths[i].wire, sizeof pump->wire);
        }
    }
    return 0;
}

int lab_relay_start(const struct lab_relay_path *paths, uint32_t count, uint64_t run, uint32_t epoch, uint64_t deadline_ns,
                    struct lab_relay **ret_relay)
{
    struct lab_relay *relay = calloc(1, sizeof *relay);
    if (!relay)
        return lab_fail(ENOMEM, "no memory for a relay");
    relay->run = run;
    relay->epoch = epoch;
    relay->deadline_ns = deadline_ns;
    pthread_mutex_init(&relay->lock, NULL);
    relay->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int err = relay->event_fd < 0 ? lab_fail(errno, "no event descriptor for a relay") : assign_pumps(relay, paths, count);
    for (int d = 0; !err && d < DIRECTIONS; d++) {
        err = pthread_create(&relay->direction[d].thread, NULL, direction_main, &relay->direction[d]);
        if (err)
            err = lab_fail(err, "cannot start a relay thread");
        else
            relay->direction[d].started = true;
    }
    if (err) {
        lab_relay_stop(relay);
        return err;
    }
    *ret_relay = relay;
    return 0;
}

int lab_relay_fd(const struct lab_relay *relay)
{
    return relay->event_fd;
}

int lab_relay_state(struct lab_relay *relay)
{
    eventfd_t ignored;
    eventfd_read(relay->event_fd, &ignored);
    if (!atomic_load(&relay->failed))
        return atomic_load(&relay->opened) < DIRECTIONS ? LAB_RELAY_OPENING : atomic_load(&relay->emptied) == DIRECTIONS ? LAB_RELAY_EMPTIED : LAB_RELAY_OPEN;
    pthread_mutex_lock(&relay->lock);
    int err = lab_refuse(relay->error.code, "%s", relay->error.text);
    pthread_mutex_unlock(&relay->lock);
    return err;
}

int lab_relay_stop(struct lab_relay *relay)
{
    if (!relay)
        return 0;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STOP_WITHIN_S;
    atomic_store(&relay->stop, true);
    for (int d = 0; d < DIRECTIONS; d++) {
        if (relay->direction[d].started && pthread_timedjoin_np(relay->direction[d].thread, NULL, &until))
            return lab_refuse(ETIMEDOUT, "a thread of the relay did not end");
        for (uint32_t i = 0; !relay->direction[d].started && i < relay->direction[d].count; i++)
            close_pump(&relay->direction[d], &relay->direction[d].pumps[i]); /* no thread did */
        relay->direction[d].started = false;
        free(relay->direction[d].pumps);
        relay->direction[d].pumps = NULL;
    }
    if (relay->event_fd >= 0)
        close(relay->event_fd);
    pthread_mutex_destroy(&relay->lock);
    free(relay);
    return 0;
}
