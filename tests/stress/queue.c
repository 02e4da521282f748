/* Many parties and many messages, each accounted for in one ledger: as processes over a segment, which is what is measured, some
 * of them killed; and as threads over allocated memory, which is what sanitizers can judge. */
#include "tests/check.h"

#include "base/clock.h"
#include "shm/queue.h"
#include "shm/segment.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { MANY = 2000 };
#else
enum { MANY = 10000 };
#endif
enum { FEW = 500, SIDE_MAX = 16, WITHIN_S = 60 };

struct scene {
    struct lab_queue_config config;
    uint32_t messages;  /* of each producer */
    uint32_t put, take; /* messages in one loan, at most */
    bool ragged;        /* lengths change from loan to loan */
};

static const struct scene scenes[] = {
    {{.message_max = 16, .window = 2, .producers = 1, .consumers = 2, .batch = 1}, FEW, 1, 1, false},
    {{.message_max = 64, .window = 1, .producers = 2, .consumers = 2, .batch = 1}, FEW, 1, 1, true},
    {{.message_max = 48, .window = 60, .producers = 3, .consumers = 1, .batch = 1}, MANY, 1, 1, true},
    {{.message_max = 16, .window = 60, .producers = 1, .consumers = 4, .batch = 1}, MANY, 1, 1, true},
    {{.message_max = 64, .window = 1024, .producers = 2, .consumers = 2, .batch = 1}, MANY, 1, 1, false},
    {{.message_max = 64, .window = 1024, .producers = 2, .consumers = 3, .batch = 32}, MANY, 32, 7, false},
    {{.message_max = 200, .window = 500, .producers = 3, .consumers = 2, .batch = 20}, MANY, 13, 50, true},
    {{.message_max = 3000, .window = 10, .producers = 2, .consumers = 4, .batch = 4}, FEW, 4, 4, true},
    {{.message_max = 64, .window = 4, .producers = SIDE_MAX, .consumers = SIDE_MAX, .batch = 1}, FEW, 1, 1, true},
};
enum { SCENES = sizeof scenes / sizeof *scenes };

/* What everyone writes down, in memory of its own. A producer notes a message before it commits it and again afterwards, so that what
 * one that was killed had sent is known up to its last loan. */
struct ledger {
    _Atomic uint32_t may_have_sent[SIDE_MAX], has_sent[SIDE_MAX];
    _Atomic unsigned char received[SIDE_MAX][MANY]; /* how often */
};

/* A message names itself, and is all that can be told from its name. */
struct label {
    uint32_t sender, number;
};

static uint32_t length_of(const struct scene *scene, uint32_t number)
{
    uint32_t shortest = sizeof(struct label), longest = scene->config.message_max;
    return scene->ragged ? shortest + (uint32_t)(number / 5 * UINT64_C(2654435761) >> 7) % (longest - shortest + 1) : longest;
}

static unsigned char byte_of(struct label label, uint32_t at)
{
    return (unsigned char)(label.number * 31 + label.sender * 7 + at);
}

static void write_message(unsigned char *to, uint32_t length, struct label label)
{
    memcpy(to, &label, sizeof label);
    for (uint32_t i = sizeof label; i < length; i++)
        to[i] = byte_of(label, i);
}

static bool is_message(const struct scene *scene, const unsigned char *from, uint32_t length, struct label label)
{
    if (label.sender >= scene->config.producers || label.number >= scene->messages || length != length_of(scene, label.number))
        return false;
    bool whole = true;
    for (uint32_t i = sizeof label; i < length; i++)
        whole = whole && from[i] == byte_of(label, i);
    return whole;
}

/* One seat of a scene that is played. */
struct part {
    const struct scene *scene;
    struct ledger *ledger;
    void *memory;
    size_t size;
    uint32_t seat;
    uint64_t deadline_ns;
};

static int complain(const char *what, const struct part *part, uint32_t number, int err)
{
    const struct lab_queue_config *config = &part->scene->config;
    fprintf(stderr, "%s: seat %u, message %u of %u bytes, window %u, %u to %u, batch %u, %s: %d %s\n", what, part->seat, number,
            config->message_max, config->window, config->producers, config->consumers, config->batch, lab_wait_name(config->wait), err,
            lab_error_last()->text);
    return 1;
}

static int produce(const struct part *part)
{
    const struct scene *scene = part->scene;
    struct lab_queue_producer producer;
    int err = lab_queue_produce(&producer, part->memory, part->size, &scene->config, part->seat);
    if (err)
        return complain("attaching", part, 0, err);
    for (uint32_t number = 0; number < scene->messages;) {
        /* One loan has one length: as many messages as share it. */
        uint32_t length = length_of(scene, number), want = 1;
        while (want < scene->put && number + want < scene->messages && length_of(scene, number + want) == length)
            want++;
        struct lab_span span = {0};
        err = lab_queue_reserve(&producer, length, want, part->deadline_ns, &span);
        if (err)
            return complain("reserving", part, number, err);
        if (number % 7 == 0) {
            lab_queue_commit(&producer, 0);
            err = lab_queue_reserve(&producer, length, want, part->deadline_ns, &span);
            if (err)
                return complain("reserving again", part, number, err);
        }
        for (uint32_t i = 0; i < span.count; i++)
            write_message(span.at + i * span.stride, length, (struct label){part->seat, number + i});
        number += span.count;
        atomic_store(&part->ledger->may_have_sent[part->seat], number);
        lab_queue_commit(&producer, span.count);
        atomic_store(&part->ledger->has_sent[part->seat], number);
    }
    lab_queue_hangup(part->memory, &scene->config, LAB_QUEUE_PRODUCER, part->seat);
    return 0;
}

/* Notes what is lent, and whether each message is whole and later than the one before it of its sender. */
static int note(const struct part *part, const struct lab_span *span, uint32_t *next)
{
    for (uint32_t i = 0; i < span->count; i++) {
        struct label label;
        memcpy(&label, span->at + i * span->stride, sizeof label);
        if (!is_message(part->scene, span->at + i * span->stride, span->length, label))
            return complain("not as it was sent", part, label.number, 0);
        if (label.number < next[label.sender])
            return complain("out of order", part, label.number, 0);
        next[label.sender] = label.number + 1;
        if (atomic_fetch_add(&part->ledger->received[label.sender][label.number], 1))
            return complain("received twice", part, label.number, 0);
    }
    return 0;
}

static int consume(const struct part *part)
{
    const struct scene *scene = part->scene;
    struct lab_queue_consumer consumer;
    uint32_t next[SIDE_MAX] = {0}, round = 0;
    int err = lab_queue_consume(&consumer, part->memory, part->size, &scene->config, part->seat);
    if (err)
        return complain("attaching", part, 0, err);
    for (;; round++) {
        struct lab_span span = {0};
        err = lab_queue_borrow(&consumer, scene->take, part->deadline_ns, &span);
        if (err == -EPIPE)
            break;
        if (err)
            return complain("borrowing", part, round, err);
        /* Now and then it gives back less than it has borrowed. */
        if (round % 5 == 0)
            span.count = (span.count + 1) / 2;
        if (note(part, &span, next))
            return 1;
        lab_queue_release(&consumer, span.count);
    }
    lab_queue_hangup(part->memory, &scene->config, LAB_QUEUE_CONSUMER, part->seat);
    return 0;
}

/* Nothing was read twice; what was sent for sure was read, but for messages that consumers died with. */
static void audit(const struct scene *scene, const struct ledger *ledger, uint64_t dropped, uint32_t dead_consumers)
{
    uint64_t lost = 0;
    for (uint32_t sender = 0; sender < scene->config.producers; sender++) {
        uint32_t least = atomic_load(&ledger->has_sent[sender]), most = atomic_load(&ledger->may_have_sent[sender]);
        for (uint32_t number = 0; number < MANY; number++) {
            uint32_t times = atomic_load(&ledger->received[sender][number]);
            assert_true(times <= 1);
            assert_true(times == 0 || number < most);
            lost += times == 0 && number < least;
        }
    }
    assert_true(lost <= dropped);
    assert_true(dropped <= (uint64_t)dead_consumers * scene->take);
}

static struct ledger *new_ledger(void)
{
    struct ledger *ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(ledger != MAP_FAILED);
    return ledger;
}

/* ---- threads ---- */

static void *producing_thread(void *part)
{
    return produce(part) ? part : NULL;
}

static void *consuming_thread(void *part)
{
    return consume(part) ? part : NULL;
}

static void play_in_threads(const struct scene *scene)
{
    struct lab_queue_shape shape;
    lab_assert_ok(lab_queue_shape(&scene->config, &shape));
    void *memory = aligned_alloc(LAB_RING_LINE, shape.size);
    assert_non_null(memory);
    memset(memory, 0, shape.size);
    lab_queue_init(memory, &scene->config, &shape);
    struct ledger *ledger = new_ledger();
    uint32_t producers = scene->config.producers, parties = producers + scene->config.consumers;
    struct part parts[2 * SIDE_MAX];
    pthread_t threads[2 * SIDE_MAX];
    for (uint32_t i = 0; i < parties; i++) {
        uint32_t seat = i < producers ? i : i - producers;
        parts[i] = (struct part){scene, ledger, memory, shape.size, seat, lab_now_ns() + WITHIN_S * LAB_NS_PER_S};
        assert_int_equal(pthread_create(&threads[i], NULL, i < producers ? producing_thread : consuming_thread, &parts[i]), 0);
    }
    uint32_t failed = 0;
    for (uint32_t i = 0; i < parties; i++) {
        void *failure;
        pthread_join(threads[i], &failure);
        failed += failure != NULL;
    }
    assert_int_equal(failed, 0);
    for (uint32_t sender = 0; sender < producers; sender++)
        assert_int_equal(atomic_load(&ledger->has_sent[sender]), scene->messages);
    audit(scene, ledger, lab_queue_dropped(memory, &scene->config), 0);
    munmap(ledger, sizeof *ledger);
    free(memory);
}

/* ---- processes ---- */

/* The child maps the queue for itself: another address, another page table. */
static pid_t fork_part(const struct part *part, bool produces, int fd)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct lab_segment segment;
    if (lab_segment_attach(fd, part->deadline_ns, &segment))
        _exit(complain("mapping", part, 0, 0));
    struct part mine = *part;
    mine.memory = segment.memory;
    mine.size = segment.size;
    int failed = produces ? produce(&mine) : consume(&mine);
    lab_segment_fini(&segment);
    _exit(failed);
}

/* The supervisor's book of its children. */
struct children {
    const struct scene *scene;
    void *memory;
    pid_t pid[2 * SIDE_MAX]; /* producers first; 0: reaped */
    bool killed[2 * SIDE_MAX];
    uint32_t count, dead_consumers, failed;
};

static void bury(struct children *c, pid_t pid, int status)
{
    uint32_t i = 0;
    while (c->pid[i] != pid)
        i++;
    c->pid[i] = 0;
    uint32_t producers = c->scene->config.producers;
    if (i < producers)
        lab_queue_hangup(c->memory, &c->scene->config, LAB_QUEUE_PRODUCER, i);
    else
        lab_queue_hangup(c->memory, &c->scene->config, LAB_QUEUE_CONSUMER, i - producers);
    bool fell = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && c->killed[i];
    c->dead_consumers += fell && i >= producers;
    c->failed += !fell && status != 0;
}

/* Every child is gone in the end. `kills` of them are killed, at any moment, but never the last consumer. */
static void supervise(struct children *c, uint32_t kills, uint64_t *seed)
{
    uint32_t producers = c->scene->config.producers, left = c->count;
    int status;
    while (left) {
        pid_t pid = waitpid(-1, &status, kills ? WNOHANG : 0);
        assert_true(pid >= 0);
        if (pid) {
            bury(c, pid, status);
            left--;
            continue;
        }
        *seed = *seed * UINT64_C(6364136223846793005) + 1;
        const struct timespec pause = lab_timespec((*seed >> 33) % 2000 * LAB_NS_PER_US);
        nanosleep(&pause, NULL);
        uint32_t victim = (uint32_t)(*seed >> 40) % c->count;
        if (victim != producers && c->pid[victim]) {
            c->killed[victim] = true;
            kill(c->pid[victim], SIGKILL);
        }
        kills--;
    }
}

static void play_with_kills(const struct scene *scene, uint32_t kills, uint64_t *seed)
{
    struct lab_queue_shape shape;
    struct lab_segment segment;
    lab_assert_ok(lab_queue_shape(&scene->config, &shape));
    lab_assert_ok(lab_segment_create("stress", shape.size, &segment));
    lab_queue_init(segment.memory, &scene->config, &shape);
    lab_segment_ready(&segment);
    struct ledger *ledger = new_ledger();
    uint32_t producers = scene->config.producers;
    struct children children = {.scene = scene, .memory = segment.memory, .count = producers + scene->config.consumers};
    uint64_t deadline_ns = lab_now_ns() + WITHIN_S * LAB_NS_PER_S;
    for (uint32_t i = 0; i < children.count; i++) {
        struct part part = {scene, ledger, NULL, 0, i < producers ? i : i - producers, deadline_ns};
        children.pid[i] = fork_part(&part, i < producers, segment.fd);
    }
    supervise(&children, kills, seed);
    assert_int_equal(children.failed, 0);
    audit(scene, ledger, lab_queue_dropped(segment.memory, &scene->config), children.dead_consumers);
    for (uint32_t sender = 0; sender < producers && kills == 0; sender++)
        assert_int_equal(atomic_load(&ledger->has_sent[sender]), scene->messages);
    munmap(ledger, sizeof *ledger);
    lab_segment_fini(&segment);
}

static void play_in_processes(const struct scene *scene)
{
    uint64_t seed = 0;
    play_with_kills(scene, 0, &seed);
}

/* Parties that spin, and are more than there are cores, pass a message or two in a time slice. */
static struct scene scene_with(int number, enum lab_wait wait)
{
    struct scene scene = scenes[number];
    scene.config.wait = wait;
    if (wait == LAB_WAIT_SPIN)
        scene.messages /= 10;
    return scene;
}

static void play_all(void (*play)(const struct scene *scene), enum lab_wait wait)
{
    for (int s = 0; s < SCENES; s++) {
        struct scene scene = scene_with(s, wait);
        play(&scene);
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

static void whoever_is_killed_the_others_lose_and_repeat_nothing(void **state)
{
    (void)state;
    enum { TIMES = 20 };
    uint64_t seed = 1;
    for (int i = 0; i < TIMES * LAB_WAIT_BLOCK; i++) {
        struct scene scene = scene_with(i / LAB_WAIT_BLOCK % SCENES, (enum lab_wait)(i % LAB_WAIT_BLOCK));
        play_with_kills(&scene, 1 + (uint32_t)i % (scene.config.producers + scene.config.consumers), &seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_lose_and_repeat_no_message_by_spin),
        cmocka_unit_test(threads_lose_and_repeat_no_message_by_yield),
        cmocka_unit_test(threads_lose_and_repeat_no_message_by_adaptive),
        cmocka_unit_test(threads_lose_and_repeat_no_message_by_futex),
        cmocka_unit_test(processes_lose_and_repeat_no_message_by_spin),
        cmocka_unit_test(processes_lose_and_repeat_no_message_by_yield),
        cmocka_unit_test(processes_lose_and_repeat_no_message_by_adaptive),
        cmocka_unit_test(processes_lose_and_repeat_no_message_by_futex),
        cmocka_unit_test(whoever_is_killed_the_others_lose_and_repeat_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
