/* cma: the receiver copies a message straight out of the sender's memory (process_vm_readv(2), "cross memory attach"): one copy, by the
 * kernel, of any number of messages in one system call.
 *
 *     sender                                            receiver
 *     places in memory of its own                       places in memory of its own
 *       reserve lends them, the message is written
 *       commit announces (address, length, count) ─ring▶  borrow: process_vm_readv, and lends the copy
 *     ◀───────────────────────────────── acknowledged ─   the sender may write there again
 *
 * Shared are only the announcements, in a ring (shm/ring.h), and two words. So what was sent and not received dies with the sender
 * (LAB_CAP_FRAGILE); one that closes waits up to a second for its receiver.
 *
 * Whose memory it is: the receiver holds a pidfd of the sender, and in front of the first place of every announcement stands a stamp that
 * only this sender's memory has and that is copied along. A process that was given the number of a dead sender has no such stamp
 * there, so its memory is never taken for a message, and no system call is spent on the question.
 *
 * May it: whoever may trace a process may read its memory. Where the Yama module allows that to parents only (kernel.yama.ptrace_scope = 1)
 * the sender names its own parent, the node, and with it all that the node has started, as those that may. What does not work is found
 * out by reading one word when the two sides have opened, before any message moves. */
#include "node/transports/memory.h"

#include "base/clock.h"
#include "base/error.h"
#include "shm/ring.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LINE = 64, STAMP = sizeof(uint64_t), CLOSE_WITHIN_MS = 1000 };

/* In front of the ring. */
struct shared {
    /* The sender's, written before `opened`. */
    _Alignas(LAB_RING_LINE) _Atomic uint32_t opened;
    int32_t pid;
    uint64_t key;         /* which nobody else knows; what the stamps are made of ... */
    uint64_t key_address; /* ... and where the sender has it */
    /* The receiver's: messages copied. */
    _Alignas(LAB_RING_LINE) _Atomic uint64_t acknowledged;
};
_Static_assert(sizeof(struct shared) == 2 * LAB_RING_LINE, "a line for each side");

/* `count` messages of `length` bytes, a stride apart; the stamp is in front of the first. */
struct announcement {
    uint64_t address, stamp;
    uint32_t length, count;
};

struct cma_end {
    struct lab_end end;
    struct lab_segment segment;
    struct shared *shared;
    unsigned char *mapping, *places; /* its own: of a sender the window, of a receiver one batch */
    size_t mapped, stride;
    uint64_t key;
    uint64_t done;        /* messages committed, or borrowed for good */
    uint32_t mask;        /* places of a sender - 1, a power of two less one */
    uint32_t held, taken; /* RX: messages copied and not released; of them the first is number `taken` of its batch */
    uint32_t length;      /* of what is lent */
    int pidfd, pid;       /* RX: of the sender */
    _Alignas(64) union {
        struct lab_ring_producer producer;
        struct lab_ring_consumer consumer;
    };
};

_Static_assert((int)LAB_TX == (int)LAB_RING_PRODUCER && (int)LAB_RX == (int)LAB_RING_CONSUMER, "one numbering of roles");

static struct cma_end *cma_of(struct lab_end *end)
{
    return (struct cma_end *)end;
}

static uint32_t at_most(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Places of a sender: a window of messages, and whole batches. */
static uint32_t places_of(const struct lab_channel *channel)
{
    uint32_t places = 1;
    while (places < channel->window && places < LAB_RING_WINDOW_MAX)
        places *= 2;
    return places;
}

static uint32_t batch_of(const struct lab_channel *channel)
{
    return at_most(channel->batch, places_of(channel));
}

/* Room for every announcement, each of one message at least: the ring is never full. */
static struct lab_ring_config config_of(const struct lab_channel *channel)
{
    return (struct lab_ring_config){
        .message_max = sizeof(struct announcement), .window = places_of(channel), .batch = 1, .wait = channel->wait};
}

static void *ring_at(void *memory)
{
    return (struct shared *)memory + 1;
}

/* ---- the node's side ---- */

static int shape_of(const struct lab_channel *channel, struct lab_ring_config *ret_config, struct lab_ring_shape *ret_shape)
{
    if (channel->window > LAB_RING_WINDOW_MAX)
        return lab_refuse(EINVAL, "cma announces up to %d messages, not %u", LAB_RING_WINDOW_MAX, channel->window);
    *ret_config = config_of(channel);
    return lab_ring_shape(ret_config, ret_shape);
}

static int cma_memory(const struct lab_channel *channel, size_t *ret_bytes)
{
    struct lab_ring_config config;
    struct lab_ring_shape shape;
    int err = shape_of(channel, &config, &shape);
    if (!err)
        *ret_bytes = sizeof(struct shared) + shape.size;
    return err;
}

static int cma_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct lab_ring_config config;
    struct lab_ring_shape shape;
    struct lab_segment segment;
    int err = shape_of(channel, &config, &shape);
    if (!err)
        err = lab_memory_make(channel, "cma", sizeof(struct shared) + shape.size, &segment);
    if (err)
        return lab_while(err, "making room for the announcements of %u messages", channel->window);
    lab_ring_init(ring_at(segment.memory), &config, &shape);
    return lab_memory_hand_over(&segment, ret_wire);
}

static void cma_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead)
{
    struct lab_segment segment;
    /* Made by cma_provision: it can be mapped, or the machine has no memory left to tell anyone anything. */
    if (lab_memory_map(channel, wire, dead, 0, &segment))
        return;
    lab_ring_hangup(ring_at(segment.memory), (enum lab_ring_side)dead);
    lab_segment_fini(&segment);
}

static int cma_usable(void)
{
    int scope = 0;
    FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
    if (file && fscanf(file, "%d", &scope) != 1)
        scope = 0;
    if (file)
        fclose(file);
    if (scope >= 3 || (scope == 2 && geteuid() != 0))
        return lab_refuse(EPERM, "no process may read another's memory (kernel.yama.ptrace_scope is %d); %s", scope,
                          scope == 2 ? "as root: sysctl kernel.yama.ptrace_scope=1" : "only a reboot can change that");
    char from = 1, to = 0;
    struct iovec here = {&to, 1}, there = {&from, 1};
    if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) != 1)
        return lab_fail(errno, "no process may read another's memory: this kernel was built without CROSS_MEMORY_ATTACH, or a container "
                               "forbids it (docker run --cap-add SYS_PTRACE)");
    return 0;
}

/* ---- opening ---- */

static int make_places(struct cma_end *cma, uint32_t count)
{
    cma->stride = ((size_t)cma->end.channel.message_max + STAMP + LINE - 1) & ~(size_t)(LINE - 1);
    cma->mapped = LINE + count * cma->stride;
    void *mapping = mmap(NULL, cma->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (mapping == MAP_FAILED)
        return lab_fail(errno, "no memory for %u messages of %u bytes", count, cma->end.channel.message_max);
    cma->mapping = mapping;
    cma->places = cma->mapping + LINE;
    return 0;
}

static int open_sender(struct cma_end *cma)
{
    struct shared *shared = cma->shared;
    uint32_t places = places_of(&cma->end.channel);
    int err = make_places(cma, places);
    if (err)
        return err;
    if (getrandom(&cma->key, sizeof cma->key, 0) != sizeof cma->key)
        return lab_fail(errno, "no random number");
    /* A kernel without Yama knows no such call, and needs none. */
    prctl(PR_SET_PTRACER, (unsigned long)getppid(), 0, 0, 0);
    cma->mask = places - 1;
    shared->pid = getpid();
    shared->key = cma->key;
    shared->key_address = (uint64_t)(uintptr_t)&cma->key;
    atomic_store_explicit(&shared->opened, 1, memory_order_release);
    return 0;
}

/* The bytes of one place in another process; as process_vm_readv. */
static ssize_t read_from(pid_t pid, uint64_t address, void *to, size_t length)
{
    struct iovec here = {to, length}, there = {(void *)(uintptr_t)address, length};
    return process_vm_readv(pid, &here, 1, &there, 1, 0);
}

/* Whether the sender is who it says, and may be read. Once it has opened. */
static int meet_sender(struct cma_end *cma)
{
    uint64_t address = cma->shared->key_address, expected = cma->shared->key, key = 0;
    int pid = cma->shared->pid, pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return errno == ESRCH ? lab_refuse(EPIPE, "the sender is gone") : lab_fail(errno, "cannot watch over the sender (process %d)", pid);
    ssize_t got = read_from(pid, address, &key, sizeof key);
    int err = got == sizeof key && key == expected ? 0
              : got >= 0     ? lab_refuse(EBADMSG, "process %d is not the sender that it is said to be", pid)
              : errno == EPERM ? lab_refuse(EPERM, "the memory of process %d may not be read: as root, sysctl kernel.yama.ptrace_scope=0; in a "
                                                   "container, docker run --cap-add SYS_PTRACE", pid)
                               : lab_fail(errno, "cannot read the memory of process %d", pid);
    if (err) {
        close(pidfd);
        return err;
    }
    cma->key = expected;
    cma->pid = pid;
    cma->pidfd = pidfd;
    return 0;
}

static bool sender_has_opened(const struct cma_end *cma)
{
    return atomic_load_explicit(&cma->shared->opened, memory_order_acquire);
}

/* Does not wait for the sender either: it may be a fiber that opens next. One that has not opened yet is met when it announces something. */
static int open_receiver(struct cma_end *cma)
{
    int err = make_places(cma, batch_of(&cma->end.channel));
    return err ? err : sender_has_opened(cma) ? meet_sender(cma) : 0;
}

static void let_go(struct cma_end *cma)
{
    if (cma->mapping)
        munmap(cma->mapping, cma->mapped);
    if (cma->pidfd >= 0)
        close(cma->pidfd);
    lab_segment_fini(&cma->segment);
}

static int cma_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct cma_end *cma = cma_of(end);
    struct lab_ring_config config = config_of(&end->channel);
    cma->pidfd = -1;
    int err = lab_memory_map(&end->channel, &end->wire, end->role, deadline_ns, &cma->segment);
    if (err)
        return err;
    cma->shared = cma->segment.memory;
    void *ring = ring_at(cma->segment.memory);
    size_t size = cma->segment.size - sizeof(struct shared);
    err = end->role == LAB_TX ? lab_ring_produce(&cma->producer, ring, size, &config) : lab_ring_consume(&cma->consumer, ring, size, &config);
    if (!err)
        err = end->role == LAB_TX ? open_sender(cma) : open_receiver(cma);
    if (err)
        let_go(cma);
    else
        lab_memory_mapped(end);
    return err;
}

/* ---- sending ---- */

static bool has_room(void *subject)
{
    const struct cma_end *cma = subject;
    return cma->done - atomic_load_explicit(&cma->shared->acknowledged, memory_order_acquire) <= cma->mask;
}

static bool is_empty(void *subject)
{
    const struct cma_end *cma = subject;
    return cma->done == atomic_load_explicit(&cma->shared->acknowledged, memory_order_acquire);
}

/* The ring is never full, so nobody sleeps there for want of room in it. */
static int await_receiver(struct cma_end *cma, bool (*condition)(void *), uint64_t deadline_ns)
{
    struct lab_ring_shared *ring = cma->producer.view.shared;
    const _Atomic uint32_t *gone = &ring->gone[LAB_RING_CONSUMER];
    if (atomic_load_explicit(gone, memory_order_relaxed))
        return -EPIPE;
    return lab_wait_until(&cma->producer.view.plan, condition, cma, &ring->producer_sleeps, gone, deadline_ns);
}

static int cma_reserve(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct cma_end *cma = cma_of(end);
    if (length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %u bytes on a channel for %u", length, end->channel.message_max);
    int err = await_receiver(cma, has_room, deadline_ns);
    if (err == -EPIPE)
        return lab_refuse(EPIPE, "the receiver is gone");
    if (err)
        return err;
    uint64_t waiting = cma->done - atomic_load_explicit(&cma->shared->acknowledged, memory_order_acquire);
    if (waiting > cma->mask)
        return lab_refuse(EBADMSG, "the receiver has taken back what it had acknowledged");
    uint32_t first = (uint32_t)cma->done & cma->mask, room = cma->mask + 1 - (uint32_t)waiting;
    cma->length = length;
    *ret_span = (struct lab_span){
        .at = cma->places + first * cma->stride, .stride = cma->stride, .length = length,
        .count = at_most(at_most(want, batch_of(&end->channel)), at_most(room, cma->mask + 1 - first)),
    };
    return 0;
}

static void cma_commit(struct lab_end *end, uint32_t count)
{
    struct cma_end *cma = cma_of(end);
    struct lab_span span;
    if (count == 0)
        return;
    unsigned char *place = cma->places + ((uint32_t)cma->done & cma->mask) * cma->stride;
    struct announcement said = {
        .address = (uint64_t)(uintptr_t)place, .stamp = cma->key ^ cma->done, .length = cma->length, .count = count};
    memcpy(place - STAMP, &said.stamp, STAMP);
    /* There is room, as long as the receiver is there and honest. */
    if (lab_ring_reserve(&cma->producer, sizeof said, 1, 0, &span))
        return;
    memcpy(span.at, &said, sizeof said);
    cma->done += count;
    lab_ring_commit(&cma->producer, 1);
}

/* ---- receiving ---- */

static bool sender_is_gone(const struct cma_end *cma)
{
    struct pollfd ended = {.fd = cma->pidfd, .events = POLLIN};
    return poll(&ended, 1, 0) == 1;
}

/* All of it, with the stamp in front, into the places of this side. */
static int fetch(struct cma_end *cma, const struct announcement *said)
{
    const struct lab_channel *channel = &cma->end.channel;
    if (said->count == 0 || said->count > batch_of(channel) || said->length > channel->message_max)
        return lab_refuse(EBADMSG, "the sender announces %u messages of %u bytes", said->count, said->length);
    size_t bytes = STAMP + (said->count - 1) * cma->stride + said->length;
    uint64_t stamp;
    ssize_t got = read_from(cma->pid, said->address - STAMP, cma->places - STAMP, bytes);
    int code = errno;
    memcpy(&stamp, cma->places - STAMP, STAMP);
    if (got == (ssize_t)bytes && stamp == said->stamp && stamp == (cma->key ^ cma->done))
        return 0;
    if (sender_is_gone(cma))
        return lab_refuse(EPIPE, "the sender is gone, and what it had announced with it");
    if (got < 0)
        return lab_fail(code, "cannot read %zu bytes of the sender's memory (process %d)", bytes, cma->pid);
    return lab_refuse(EBADMSG, "the sender announced %zu bytes that are not there", bytes);
}

static int take_announcement(struct cma_end *cma, uint64_t deadline_ns)
{
    struct lab_span span;
    int err = lab_ring_borrow(&cma->consumer, 1, deadline_ns, &span);
    if (err)
        return err;
    struct announcement said;
    if (span.length != sizeof said)
        return lab_refuse(EBADMSG, "an announcement of %u bytes", span.length);
    memcpy(&said, span.at, sizeof said);
    if (cma->pidfd < 0)
        err = sender_has_opened(cma) ? meet_sender(cma) : lab_refuse(EBADMSG, "an announcement of a sender that has not opened");
    if (!err)
        err = fetch(cma, &said);
    if (err)
        return err;
    lab_ring_release(&cma->consumer, 1);
    cma->done += said.count;
    cma->held = said.count;
    cma->taken = 0;
    cma->length = said.length;
    atomic_store_explicit(&cma->shared->acknowledged, cma->done, memory_order_release);
    if (cma->consumer.view.plan.sleeps)
        lab_wait_wake(&cma->consumer.view.shared->producer_sleeps);
    return 0;
}

static int cma_borrow(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct cma_end *cma = cma_of(end);
    int err = cma->held ? 0 : take_announcement(cma, deadline_ns);
    if (err)
        return err;
    *ret_span = (struct lab_span){
        .at = cma->places + cma->taken * cma->stride, .stride = cma->stride, .length = cma->length, .count = at_most(want, cma->held)};
    return 0;
}

static void cma_release(struct lab_end *end, uint32_t count)
{
    cma_of(end)->held -= count;
    cma_of(end)->taken += count;
}

/* ---- closing ---- */

static void cma_close(struct lab_end *end)
{
    struct cma_end *cma = cma_of(end);
    if (end->role == LAB_TX)
        await_receiver(cma, is_empty, lab_now_ns() + CLOSE_WITHIN_MS * LAB_NS_PER_MS);
    lab_ring_hangup(ring_at(cma->segment.memory), (enum lab_ring_side)end->role);
    let_go(cma);
}

const struct lab_transport_ops lab_ops_cma = {
    .name = "cma",
    .end_bytes = sizeof(struct cma_end),
    .provision = cma_provision,
    .retire = lab_memory_retire,
    .hangup = cma_hangup,
    .usable = cma_usable,
    .memory = cma_memory,
    .open = cma_open,
    .close = cma_close,
    .reserve = cma_reserve,
    .commit = cma_commit,
    .borrow = cma_borrow,
    .release = cma_release,
};
