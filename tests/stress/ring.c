/* Two parties and many messages, each accounted for: as processes over a segment, which is what is measured, and as threads
 * over allocated memory, which is what sanitizers can judge. */
#include "tests/check.h"
#include "tests/ledger.h"

#include "base/clock.h"
#include "shm/ring.h"
#include "shm/segment.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { MANY = 20000 };
#else
enum { MANY = 100000 };
#endif
enum { FEW = 2000, WITHIN_S = 60 };

struct scene {
    struct lab_ring_config config;
    uint32_t messages;
    uint32_t put, take; /* messages in one loan, at most */
    bool ragged;        /* lengths change from loan to loan */
    struct lab_bells bells[2];
};

static const enum lab_wait waits[] = {LAB_WAIT_SPIN, LAB_WAIT_YIELD, LAB_WAIT_ADAPTIVE, LAB_WAIT_FUTEX, LAB_WAIT_POLL};
enum { WAITS = sizeof waits / sizeof *waits };

static const struct scene scenes[] = {
    {.config = {.message_max = 8, .window = 2, .batch = 1}, .messages = FEW, .put = 1, .take = 1},
    {.config = {.message_max = 64, .window = 2, .batch = 1}, .messages = FEW, .put = 1, .take = 1, .ragged = true},
    {.config = {.message_max = 3000, .window = 1, .batch = 1}, .messages = FEW, .put = 1, .take = 1, .ragged = true},
    {.config = {.message_max = 48, .window = 1024, .batch = 1}, .messages = MANY, .put = 1, .take = 1, .ragged = true},
    {.config = {.message_max = 64, .window = 1024, .batch = 1}, .messages = MANY, .put = 1, .take = 1},
    {.config = {.message_max = 64, .window = 1024, .batch = 1}, .messages = MANY, .put = 1, .take = 7, .ragged = true},
    {.config = {.message_max = 64, .window = 1024, .batch = 32}, .messages = MANY, .put = 32, .take = 32},
    {.config = {.message_max = 200, .window = 500, .batch = 20}, .messages = MANY, .put = 13, .take = 50, .ragged = true},
    {.config = {.message_max = 9, .window = 100, .batch = 1000}, .messages = MANY, .put = 1000, .take = 1, .ragged = true},
};
enum { SCENES = sizeof scenes / sizeof *scenes };

/* Of one side. */
static struct lab_ring_config config_of(const struct scene *scene, enum lab_ring_side side)
{
    struct lab_ring_config config = scene->config;
    config.bells = scene->bells[side];
    return config;
}

/* As whoever knows of the end of a side does. */
static void hang_up(const struct scene *scene, void *memory, enum lab_ring_side side)
{
    lab_ring_hangup(memory, side);
    lab_bell_ring(scene->bells[side].peer);
}

static void scene_init(struct scene *scene, const struct scene *from, enum lab_wait wait)
{
    *scene = *from;
    scene->config.wait = wait;
    lab_assert_ok(lab_bells_make(scene->bells));
}

static void scene_fini(struct scene *scene)
{
    lab_bells_close(&scene->bells[0]);
    lab_bells_close(&scene->bells[1]);
}

static uint32_t length_of(const struct scene *scene, uint64_t number)
{
    uint32_t longest = scene->config.message_max;
    return scene->ragged ? 8 + (uint32_t)(number / 5 * 2654435761u >> 7) % (longest - 7) : longest;
}

static int complain(const char *what, const struct scene *scene, uint64_t number, int err)
{
    fprintf(stderr, "%s: message %llu of %u bytes, window %u, batch %u, %s: %d %s\n", what, (unsigned long long)number,
            scene->config.message_max, scene->config.window, scene->config.batch, lab_wait_name(scene->config.wait), err,
            lab_error_last()->text);
    return 1;
}

static int produce(const struct scene *scene, void *memory, size_t size, uint64_t messages, uint64_t deadline_ns)
{
    struct lab_ring_producer producer;
    struct lab_ring_config config = config_of(scene, LAB_RING_PRODUCER);
    int err = lab_ring_produce(&producer, memory, size, &config);
    if (err)
        return complain("attaching", scene, 0, err);
    for (uint64_t number = 0; number < messages;) {
        /* One loan has one length: as many messages as share it. */
        uint32_t length = length_of(scene, number), want = 1;
        while (want < scene->put && number + want < messages && length_of(scene, number + want) == length)
            want++;
        struct lab_span span = {0};
        err = lab_ring_reserve(&producer, length, want, deadline_ns, &span);
        if (err == -EPIPE && messages == UINT64_MAX)
            return 0;
        if (err)
            return complain("reserving", scene, number, err);
        for (uint32_t i = 0; i < span.count; i++)
            lab_ledger_write(span.at + i * span.stride, length, number + i);
        lab_ring_commit(&producer, span.count);
        number += span.count;
    }
    hang_up(scene, memory, LAB_RING_PRODUCER);
    return 0;
}

/* Until the producer has gone; `*ret_received` messages were received, whole and in order. */
static int consume(const struct scene *scene, void *memory, size_t size, uint64_t deadline_ns, uint64_t *ret_received)
{
    struct lab_ring_consumer consumer;
    struct lab_ring_config config = config_of(scene, LAB_RING_CONSUMER);
    int err = lab_ring_consume(&consumer, memory, size, &config);
    if (err)
        return complain("attaching", scene, 0, err);
    uint64_t number = 0;
    for (;;) {
        struct lab_span span = {0};
        err = lab_ring_borrow(&consumer, scene->take, deadline_ns, &span);
        if (err == -EPIPE)
            break;
        if (err)
            return complain("borrowing", scene, number, err);
        for (uint32_t i = 0; i < span.count; i++)
            if (span.length != length_of(scene, number + i) || !lab_ledger_holds(span.at + i * span.stride, span.length, number + i))
                return complain("not as it was sent", scene, number + i, 0);
        lab_ring_release(&consumer, span.count);
        number += span.count;
    }
    *ret_received = number;
    return 0;
}

/* ---- threads ---- */

struct producing {
    const struct scene *scene;
    void *memory;
    size_t size;
    uint64_t deadline_ns;
};

static void *producing_thread(void *subject)
{
    const struct producing *p = subject;
    return produce(p->scene, p->memory, p->size, p->scene->messages, p->deadline_ns) ? subject : NULL;
}

static void play_in_threads(const struct scene *scene)
{
    struct lab_ring_shape shape;
    lab_assert_ok(lab_ring_shape(&scene->config, &shape));
    void *memory = aligned_alloc(LAB_RING_LINE, shape.size);
    assert_non_null(memory);
    memset(memory, 0, shape.size);
    lab_ring_init(memory, &scene->config, &shape);

    struct producing producing = {scene, memory, shape.size, lab_now_ns() + WITHIN_S * LAB_NS_PER_S};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, producing_thread, &producing), 0);
    uint64_t received = 0;
    int failed = consume(scene, memory, shape.size, producing.deadline_ns, &received);
    if (failed)
        hang_up(scene, memory, LAB_RING_CONSUMER);
    void *producer_failed;
    pthread_join(thread, &producer_failed);
    free(memory);
    assert_int_equal(failed, 0);
    assert_null(producer_failed);
    assert_int_equal(received, scene->messages);
}

/* ---- processes ---- */

static void make_ring(const struct scene *scene, struct lab_segment *ret_segment)
{
    struct lab_ring_shape shape;
    lab_assert_ok(lab_ring_shape(&scene->config, &shape));
    lab_assert_ok(lab_segment_create("stress", shape.size, ret_segment));
    lab_ring_init(ret_segment->memory, &scene->config, &shape);
    lab_segment_ready(ret_segment);
}

/* The child maps the ring for itself: another address, another page table. */
static pid_t fork_producer(const struct scene *scene, const struct lab_segment *made, uint64_t messages)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct lab_segment segment;
    uint64_t deadline_ns = lab_now_ns() + WITHIN_S * LAB_NS_PER_S;
    if (lab_segment_attach(made->fd, deadline_ns, &segment))
        _exit(complain("attaching", scene, 0, 0));
    int failed = produce(scene, segment.memory, segment.size, messages, deadline_ns);
    lab_segment_fini(&segment);
    _exit(failed);
}

static void play_in_processes(const struct scene *scene)
{
    struct lab_segment segment;
    make_ring(scene, &segment);
    pid_t child = fork_producer(scene, &segment, scene->messages);
    uint64_t received = 0;
    int failed = consume(scene, segment.memory, segment.size, lab_now_ns() + WITHIN_S * LAB_NS_PER_S, &received), status = -1;
    if (failed)
        kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    lab_segment_fini(&segment);
    assert_int_equal(failed, 0);
    assert_int_equal(status, 0);
    assert_int_equal(received, scene->messages);
}

static void play_all(void (*play)(const struct scene *scene), enum lab_wait wait)
{
    for (int s = 0; s < SCENES; s++) {
        struct scene scene;
        scene_init(&scene, &scenes[s], wait);
        play(&scene);
        scene_fini(&scene);
    }
}

#define BOTH_WITH(wait, WAIT)                                                       \
    static void threads_lose_and_repeat_no_message_by_##wait(void **state)          \
    {                                                                               \
        (void)state;                                                                \
        play_all(play_in_threads, WAIT);                                            \
    }                                                                               \
    static void processes_lose_and_repeat_no_message_by_##wait(void **state)        \
    {                                                                               \
        (void)state;                                                                \
        play_all(play_in_processes, WAIT);                                          \
    }
BOTH_WITH(spin, LAB_WAIT_SPIN)
BOTH_WITH(yield, LAB_WAIT_YIELD)
BOTH_WITH(adaptive, LAB_WAIT_ADAPTIVE)
BOTH_WITH(futex, LAB_WAIT_FUTEX)
BOTH_WITH(poll, LAB_WAIT_POLL)

/* ---- death ---- */

/* What a supervisor does: waits for the end of the child, then hangs up for it. */
struct supervising {
    const struct scene *scene;
    pid_t child;
    void *memory;
    enum lab_ring_side side;
    uint64_t kill_after_ns;
};

static void *supervise(void *subject)
{
    const struct supervising *s = subject;
    const struct timespec pause = lab_timespec(s->kill_after_ns);
    nanosleep(&pause, NULL);
    kill(s->child, SIGKILL);
    waitpid(s->child, NULL, 0);
    hang_up(s->scene, s->memory, s->side);
    return NULL;
}

enum { DEATHS = 20 };

static void a_producer_killed_at_any_moment_leaves_whole_messages_and_an_end(void **state)
{
    (void)state;
    for (int i = 0; i < DEATHS * WAITS; i++) {
        struct scene scene;
        scene_init(&scene, &scenes[3 + i % (SCENES - 3)], waits[i % WAITS]);
        struct lab_segment segment;
        make_ring(&scene, &segment);
        struct supervising supervising = {
            &scene, fork_producer(&scene, &segment, UINT64_MAX), segment.memory, LAB_RING_PRODUCER, (uint64_t)i * 37 * LAB_NS_PER_US,
        };
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, supervise, &supervising), 0);
        uint64_t received;
        int failed = consume(&scene, segment.memory, segment.size, lab_now_ns() + WITHIN_S * LAB_NS_PER_S, &received);
        pthread_join(thread, NULL);
        lab_segment_fini(&segment);
        scene_fini(&scene);
        assert_int_equal(failed, 0);
    }
}

static pid_t fork_consumer(const struct scene *scene, const struct lab_segment *made)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    uint64_t received;
    _exit(consume(scene, made->memory, made->size, lab_now_ns() + WITHIN_S * LAB_NS_PER_S, &received));
}

static void a_producer_learns_that_its_consumer_was_killed(void **state)
{
    (void)state;
    for (int i = 0; i < DEATHS * WAITS; i++) {
        struct scene scene;
        scene_init(&scene, &scenes[i % SCENES], waits[i % WAITS]);
        struct lab_segment segment;
        make_ring(&scene, &segment);
        struct supervising supervising = {
            &scene, fork_consumer(&scene, &segment), segment.memory, LAB_RING_CONSUMER, (uint64_t)i * 37 * LAB_NS_PER_US,
        };
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, supervise, &supervising), 0);
        int failed = produce(&scene, segment.memory, segment.size, UINT64_MAX, lab_now_ns() + WITHIN_S * LAB_NS_PER_S);
        pthread_join(thread, NULL);
        lab_segment_fini(&segment);
        scene_fini(&scene);
        assert_int_equal(failed, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_lose_and_repeat_no_message_by_spin),
        cmocka_unit_test(threads_lose_and_repeat_no_message_by_yield),
        cmocka_unit_test(threads_lose_and_repeat_no_message_by_adaptive),
        cmocka_unit_test(threads_lose_and_repeat_no_message_by_futex),
        cmocka_unit_test(threads_lose_and_repeat_no_message_by_poll),
        cmocka_unit_test(processes_lose_and_repeat_no_message_by_spin),
        cmocka_unit_test(processes_lose_and_repeat_no_message_by_yield),
        cmocka_unit_test(processes_lose_and_repeat_no_message_by_adaptive),
        cmocka_unit_test(processes_lose_and_repeat_no_message_by_futex),
        cmocka_unit_test(processes_lose_and_repeat_no_message_by_poll),
        cmocka_unit_test(a_producer_killed_at_any_moment_leaves_whole_messages_and_an_end),
        cmocka_unit_test(a_producer_learns_that_its_consumer_was_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
