/* A monitor: the bounded buffer (shm/buffer.h) under one lock, with a condition variable for "there is room" and one for "there is a
 * message". Many producers and consumers, each with a seat, used by one thread of any process that shares the memory. It never allocates,
 * maps or logs.
 *
 *     struct lab_buffer_config config = {.message_max = 64, .window = 16, .producers = 2, .consumers = 1, .batch = 1};
 *     struct lab_monitor_shape shape;
 *     err = lab_monitor_shape(&config, &shape);                            // shape.size: bytes it needs, 128-byte aligned
 *     err = lab_monitor_init(memory, &shape);                              // once
 *     err = lab_monitor_produce(&producer, memory, size, &shape, 1);       // in one process: the second producer
 *     err = lab_monitor_consume(&consumer, memory, size, &shape, 0);       // in another
 *
 *     err = lab_monitor_reserve(&producer, 64, 1, deadline_ns, &span);     // writes span.at[0..63], then
 *     lab_monitor_commit(&producer, 1);
 *     err = lab_monitor_borrow(&consumer, 1, deadline_ns, &span);          // reads span.at[0..63], then
 *     lab_monitor_release(&consumer, 1);
 *
 * Layout: | mutex | not full, not empty | buffer ... |
 *
 * The mutex is a *robust* one of POSIX: when the process that has it is killed, the kernel lets the next one have it and tells it so
 * (EOWNERDEAD). What it finds is whole, for the buffer is at every instruction; the mutex is declared consistent and work goes on. What the dead
 * party had taken comes back when its supervisor says that it is dead (lab_monitor_hangup). A party that is *stopped* with the mutex
 * holds up the others until it goes on or is declared dead, as in every monitor; meanwhile they keep their deadlines, and what they have
 * taken they can still commit and release, which then takes a slice (LAB_WAIT_SLICE_NS) each.
 *
 * The condition variables are those of shm/condition.h and not of POSIX; the reason stands there.
 *
 * What is trusted: a pthread_mutex_t holds pointers into the process that has it, and the library follows them. A peer that writes
 * garbage into the mutex can crash the others; what it writes into everything else is checked. Among parties that do not trust each other
 * shm/ring.h or shm/queue.h are to be used. */
#ifndef LAB_SHM_MONITOR_H
#define LAB_SHM_MONITOR_H

#include "shm/buffer.h"
#include "shm/condition.h"

#include <pthread.h>

struct lab_monitor_shared {
    _Alignas(LAB_BUFFER_LINE) pthread_mutex_t mutex;
    _Alignas(LAB_BUFFER_LINE) struct lab_condition changed[2]; /* by the side that waits: there is room, there is a message */
};
_Static_assert(sizeof(struct lab_monitor_shared) == 2 * LAB_BUFFER_LINE, "the mutex has a line of its own");

struct lab_monitor_shape {
    struct lab_buffer_shape buffer;
    size_t size;
};

/* A party. */
struct lab_monitor {
    struct lab_buffer buffer;
    struct lab_monitor_shared *shared;
};

/* As lab_buffer_shape. */
int lab_monitor_shape(const struct lab_buffer_config *config, struct lab_monitor_shape *ret_shape);

/* Makes an empty one in `shape->size` bytes of zeroed memory aligned to LAB_BUFFER_LINE. -errno of pthread_mutex_init, recorded. */
int lab_monitor_init(void *memory, const struct lab_monitor_shape *shape);

/* As lab_buffer_attach; -EBADMSG also when `size`, that of the memory, is too small. */
int lab_monitor_produce(struct lab_monitor *producer, void *memory, size_t size, const struct lab_monitor_shape *shape, uint32_t seat);
int lab_monitor_consume(struct lab_monitor *consumer, void *memory, size_t size, const struct lab_monitor_shape *shape, uint32_t seat);

/* Lends 1..want places for messages of `length` bytes, or 1..want messages of one length. 0; -EAGAIN at the deadline (0: without waiting
 * for the lock either); -EPIPE: everyone on the other side is gone, and for a consumer everything was received; -EMSGSIZE; -EBADMSG:
 * what somebody wrote is impossible. All but -EAGAIN are recorded; nothing is lent on failure. */
int lab_monitor_reserve(struct lab_monitor *producer, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span);
int lab_monitor_borrow(struct lab_monitor *consumer, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span);

/* Sends the first `count` of the messages that are lent and takes the other places back; gives back the first `count` of those
 * that are borrowed, the others will be borrowed again. Waits for the lock, for a slice at most. */
void lab_monitor_commit(struct lab_monitor *producer, uint32_t count);
void lab_monitor_release(struct lab_monitor *consumer, uint32_t count);

/* The party in that seat is gone: its own last word, or that of whoever has reaped it. Any number of times; takes no lock; a seat that does
 * not exist is ignored. */
void lab_monitor_hangup(void *memory, const struct lab_monitor_shape *shape, enum lab_buffer_side side, uint32_t seat);

#endif
