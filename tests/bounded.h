/* Both locks of the bounded buffer behind one set of functions, so that what holds for one is asked of the other. */
#ifndef LAB_TESTS_BOUNDED_H
#define LAB_TESTS_BOUNDED_H

#include "tests/check.h"

#include "base/clock.h"
#include "shm/monitor.h"
#include "shm/semaphore.h"

#include <errno.h>
#include <string.h>

/* A party of either; its view of the buffer is first in both. */
union bounded_party {
    struct lab_buffer buffer;
    struct lab_monitor monitor;
    struct lab_semaphore semaphore;
};

struct bounded_kind {
    const char *name;
    int (*size)(const struct lab_buffer_config *config, size_t *ret_size);
    void (*init)(void *memory, const struct lab_buffer_config *config);
    int (*attach)(union bounded_party *party, void *memory, size_t size, const struct lab_buffer_config *config, enum lab_buffer_side side,
                  uint32_t seat);
    int (*reserve)(union bounded_party *party, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span);
    void (*commit)(union bounded_party *party, uint32_t count);
    int (*borrow)(union bounded_party *party, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span);
    void (*release)(union bounded_party *party, uint32_t count);
    void (*hangup)(void *memory, const struct lab_buffer_config *config, enum lab_buffer_side side, uint32_t seat);
    bool (*trusted)(size_t at); /* a byte of the memory that is the C library's own */
};

#define BOUNDED_KIND(lock)                                                                                                             \
    static int lock##_size(const struct lab_buffer_config *config, size_t *ret_size)                                                   \
    {                                                                                                                                  \
        struct lab_##lock##_shape shape;                                                                                               \
        int err = lab_##lock##_shape(config, &shape);                                                                                  \
        if (!err)                                                                                                                      \
            *ret_size = shape.size;                                                                                                    \
        return err;                                                                                                                    \
    }                                                                                                                                  \
    static void lock##_init(void *memory, const struct lab_buffer_config *config)                                                      \
    {                                                                                                                                  \
        struct lab_##lock##_shape shape;                                                                                               \
        lab_assert_ok(lab_##lock##_shape(config, &shape));                                                                             \
        lab_assert_ok(lab_##lock##_init(memory, &shape));                                                                              \
    }                                                                                                                                  \
    static int lock##_attach(union bounded_party *party, void *memory, size_t size, const struct lab_buffer_config *config,            \
                             enum lab_buffer_side side, uint32_t seat)                                                                 \
    {                                                                                                                                  \
        struct lab_##lock##_shape shape;                                                                                               \
        int err = lab_##lock##_shape(config, &shape);                                                                                  \
        return err ? err : side == LAB_BUFFER_PRODUCER ? lab_##lock##_produce(&party->lock, memory, size, &shape, seat)                \
                                                       : lab_##lock##_consume(&party->lock, memory, size, &shape, seat);               \
    }                                                                                                                                  \
    static int lock##_reserve(union bounded_party *party, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *span) \
    {                                                                                                                                  \
        return lab_##lock##_reserve(&party->lock, length, want, deadline_ns, span);                                                    \
    }                                                                                                                                  \
    static void lock##_commit(union bounded_party *party, uint32_t count)                                                              \
    {                                                                                                                                  \
        lab_##lock##_commit(&party->lock, count);                                                                                      \
    }                                                                                                                                  \
    static int lock##_borrow(union bounded_party *party, uint32_t want, uint64_t deadline_ns, struct lab_span *span)                   \
    {                                                                                                                                  \
        return lab_##lock##_borrow(&party->lock, want, deadline_ns, span);                                                             \
    }                                                                                                                                  \
    static void lock##_release(union bounded_party *party, uint32_t count)                                                             \
    {                                                                                                                                  \
        lab_##lock##_release(&party->lock, count);                                                                                     \
    }                                                                                                                                  \
    static void lock##_hangup(void *memory, const struct lab_buffer_config *config, enum lab_buffer_side side, uint32_t seat)          \
    {                                                                                                                                  \
        struct lab_##lock##_shape shape;                                                                                               \
        lab_assert_ok(lab_##lock##_shape(config, &shape));                                                                             \
        lab_##lock##_hangup(memory, &shape, side, seat);                                                                               \
    }                                                                                                                                  \
    static const struct bounded_kind lock##_kind = {#lock,         lock##_size,   lock##_init,    lock##_attach, lock##_reserve,       \
                                                    lock##_commit, lock##_borrow, lock##_release, lock##_hangup, lock##_trusted};

static bool monitor_trusted(size_t at)
{
    return at < sizeof(pthread_mutex_t);
}

static bool semaphore_trusted(size_t at)
{
    size_t mutex = offsetof(struct lab_semaphore_shared, mutex);
    return at < 2 * sizeof(sem_t) || (at >= mutex && at < mutex + sizeof(sem_t));
}

BOUNDED_KIND(monitor)
BOUNDED_KIND(semaphore)

/* Every case with each of the two: `state` is the kind. */
struct bounded_case {
    const char *sentence;
    CMUnitTestFunction run;
};
#define BOUNDED_CASE(function) {#function, function}

static inline int bounded_run(const char *group, const struct bounded_case *cases, size_t count)
{
    enum { MOST = 64, KINDS = 2 };
    static const struct bounded_kind *const kinds[KINDS] = {&monitor_kind, &semaphore_kind};
    static char names[KINDS * MOST][160];
    static struct CMUnitTest tests[KINDS * MOST];
    size_t used = 0;
    for (size_t k = 0; k < KINDS; k++)
        for (size_t c = 0; c < count && used < KINDS * MOST; c++, used++) {
            snprintf(names[used], sizeof names[used], "%s: %s", kinds[k]->name, cases[c].sentence);
            tests[used] = (struct CMUnitTest){names[used], cases[c].run, NULL, NULL, (void *)(uintptr_t)kinds[k]};
        }
    return _cmocka_run_group_tests(group, tests, used, NULL, NULL);
}

#endif
