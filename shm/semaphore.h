/* The bounded buffer with three semaphores, as Dijkstra has it (Cooperating sequential processes, 1965): `empty` counts places, `full`
 * counts messages, `mutex` is the lock of the buffer (shm/buffer.h). Many producers and consumers, each with a seat, used by one thread of
 * any process that shares the memory. It never allocates, maps or logs.
 *
 *     producer:  wait(empty); wait(mutex); ...; post(mutex); post(full)
 *     consumer:  wait(full);  wait(mutex); ...; post(mutex); post(empty)
 *
 *     struct lab_buffer_config config = {.message_max = 64, .window = 16, .producers = 2, .consumers = 1, .batch = 1};
 *     struct lab_semaphore_shape shape;
 *     err = lab_semaphore_shape(&config, &shape);                            // shape.size: bytes it needs, 128-byte aligned
 *     err = lab_semaphore_init(memory, &shape);                              // once
 *     err = lab_semaphore_produce(&producer, memory, size, &shape, 1);       // in one process: the second producer
 *     err = lab_semaphore_consume(&consumer, memory, size, &shape, 0);       // in another
 *     ... reserve, commit, borrow, release, hangup as in shm/monitor.h ...
 *
 * Layout: | empty, full | mutex, holder | buffer ... |
 *
 * Death. A semaphore does not know who has taken what from it, so a party that is killed takes along what it had: a place, a message, or
 * the lock, and then all stand still. Here a semaphore is therefore *permission to look*, and what is true stands beside it: in the
 * buffer, and for the lock in the word `holder`, which is taken by one compare-and-swap from nobody to the seat. One permission too many costs
 * whoever gets it one look in vain, after which it is gone; only one too few would do harm. So nothing has to be known about a
 * death but that it may have taken a permission along, and that one is put back, once: that of the lock when the party's seat says that it
 * had it or was about to take it, those of places and messages by whoever has the lock next, who sees how many there are.
 *
 * A party that is *stopped* with the lock holds up the others until it goes on or is declared dead; meanwhile they keep their deadlines,
 * and what they have taken they can still commit and release, which then takes a slice (LAB_WAIT_SLICE_NS) each.
 *
 * Every wait is cut into slices, after each of which a party looks without permission: whoever should have posted may have been killed
 * before it could.
 *
 * What is trusted: what a sem_t holds beside its count. The C library hands a flag in it to the kernel as it finds it, and ends the process
 * when that makes no sense. The counts are not trusted, and nothing else is. Among parties that do not trust each other shm/ring.h or
 * shm/queue.h are to be used. */
#ifndef LAB_SHM_SEMAPHORE_H
#define LAB_SHM_SEMAPHORE_H

#include "shm/buffer.h"

#include <semaphore.h>

struct lab_semaphore_shared {
    _Alignas(LAB_BUFFER_LINE) sem_t counted[2]; /* by the side that waits: empty, full */
    _Alignas(LAB_BUFFER_LINE) sem_t mutex;
    _Atomic uint32_t holder;                    /* of the lock: 0 nobody, else its seat + 1, producers first */
};
_Static_assert(sizeof(struct lab_semaphore_shared) == 2 * LAB_BUFFER_LINE, "the lock has a line of its own");

struct lab_semaphore_shape {
    struct lab_buffer_shape buffer;
    size_t size;
};

/* A party. */
struct lab_semaphore {
    struct lab_buffer buffer;
    struct lab_semaphore_shared *shared;
    uint32_t me; /* as in `holder` */
};

/* As lab_buffer_shape. */
int lab_semaphore_shape(const struct lab_buffer_config *config, struct lab_semaphore_shape *ret_shape);

/* Makes an empty one in `shape->size` bytes of zeroed memory aligned to LAB_BUFFER_LINE. -errno of sem_init, recorded. */
int lab_semaphore_init(void *memory, const struct lab_semaphore_shape *shape);

/* As lab_buffer_attach; -EBADMSG also when `size`, that of the memory, is too small. */
int lab_semaphore_produce(struct lab_semaphore *producer, void *memory, size_t size, const struct lab_semaphore_shape *shape, uint32_t seat);
int lab_semaphore_consume(struct lab_semaphore *consumer, void *memory, size_t size, const struct lab_semaphore_shape *shape, uint32_t seat);

/* As lab_monitor_reserve, _borrow, _commit, _release and _hangup. */
int lab_semaphore_reserve(struct lab_semaphore *producer, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span);
int lab_semaphore_borrow(struct lab_semaphore *consumer, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span);
void lab_semaphore_commit(struct lab_semaphore *producer, uint32_t count);
void lab_semaphore_release(struct lab_semaphore *consumer, uint32_t count);
void lab_semaphore_hangup(void *memory, const struct lab_semaphore_shape *shape, enum lab_buffer_side side, uint32_t seat);

#endif
