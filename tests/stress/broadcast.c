/* One writer, several readers and many messages, each accounted for: as processes over a segment, which is what is measured, and as threads
 * over allocated memory, which is what sanitizers can judge. */
#include "tests/check.h"
#include "tests/ledger.h"

#include "base/clock.h"
#include "shm/broadcast.h"
#include "shm/segment.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { MANY = 4000 };
#else
enum { MANY = 20000 };
#endif
enum { FEW = 500, WITHIN_S = 60, READERS_MAX = 5, LONGEST = 3000 };
#define ENDLESS UINT64_MAX

struct scene {
    struct lab_broadcast_config config;
    uint64_t messages;
    uint32_t put, take; /* messages in one loan, at most */
    bool ragged;        /* lengths change from loan to loan */
};

static const struct scene scenes[] = {
    {{.message_max = 8, .window = 2, .batch = 1, .readers = 1}, FEW, 1, 1, false},
    {{.message_max = LONGEST, .window = 1, .batch = 1, .readers = 2}, FEW, 1, 1, true},
    {{.message_max = 64, .window = 1024, .batch = 1, .readers = 3}, MANY, 1, 7, true},
    {{.message_max = 64, .window = 1024, .batch = 32, .readers = 2}, MANY, 32, 32, false},
    {{.message_max = 200, .window = 500, .batch = 20, .readers = READERS_MAX}, MANY, 13, 50, true},
    {{.message_max = 64, .window = 2, .batch = 1, .readers = 3, .overwrite = true}, MANY, 1, 1, true},
    {{.message_max = LONGEST, .window = 16, .batch = 1, .readers = 2, .overwrite = true}, MANY, 1, 1, true},
    {{.message_max = 40, .window = 300, .batch = 1, .readers = READERS_MAX, .overwrite = true}, MANY, 1, 1, true},
};
enum { SCENES = sizeof scenes / sizeof *scenes };

/* What a reader found in the end. */
struct found {
    uint64_t received, lost;
};

static uint32_t length_of(const struct scene *scene, uint64_t number)
{
    uint32_t longest = scene->config.message_max;
    return scene->ragged ? 8 + (uint32_t)(number / 5 * 2654435761u >> 7) % (longest - 7) : longest;
}

static int complain(const char *what, const struct scene *scene, uint64_t number, int err)
{
    fprintf(stderr, "%s: message %llu of %u bytes, window %u, batch %u, %u readers, %s, %s: %d %s\n", what, (unsigned long long)number,
            scene->config.message_max, scene->config.window, scene->config.batch, scene->config.readers,
            scene->config.overwrite ? "overwriting" : "lossless", lab_wait_name(scene->config.wait), err, lab_error_last()->text);
    return 1;
}

static int write_lossless(const struct scene *scene, struct lab_broadcast_writer *writer, uint64_t number, uint64_t deadline_ns, uint32_t *ret_count)
{
    /* One loan has one length: as many messages as share it. */
    uint32_t length = length_of(scene, number), want = 1;
    while (want < scene->put && number + want < scene->messages && length_of(scene, number + want) == length)
        want++;
    struct lab_span span = {0};
    int err = lab_broadcast_reserve(writer, length, want, deadline_ns, &span);
    if (err)
        return err;
    for (uint32_t i = 0; i < span.count; i++)
        lab_ledger_write(span.at + i * span.stride, length, number + i);
    lab_broadcast_commit(writer, span.count);
    *ret_count = span.count;
    return 0;
}

static int write_over(const struct scene *scene, struct lab_broadcast_writer *writer, uint64_t number)
{
    unsigned char bytes[LONGEST];
    lab_ledger_write(bytes, length_of(scene, number), number);
    return lab_broadcast_send(writer, bytes, length_of(scene, number));
}

/* Until all messages are sent, or all readers gone. */
static int write_all(const struct scene *scene, void *memory, size_t size, uint64_t deadline_ns)
{
    struct lab_broadcast_writer writer;
    int err = lab_broadcast_write(&writer, memory, size, &scene->config);
    if (err)
        return complain("attaching", scene, 0, err);
    uint32_t count = 1;
    for (uint64_t number = 0; number < scene->messages; number += count) {
        err = scene->config.overwrite ? write_over(scene, &writer, number) : write_lossless(scene, &writer, number, deadline_ns, &count);
        if (err == -EPIPE && scene->messages == ENDLESS)
            return 0;
        if (err)
            return complain("writing", scene, number, err);
    }
    lab_broadcast_hangup(memory, &scene->config, LAB_BROADCAST_WRITER, 0);
    return 0;
}

static int read_lossless(const struct scene *scene, struct lab_broadcast_reader *reader, uint64_t deadline_ns, uint64_t *received)
{
    struct lab_span span = {0};
    int err = lab_broadcast_borrow(reader, scene->take, deadline_ns, &span);
    if (err)
        return err;
    for (uint32_t i = 0; i < span.count; i++, ++*received)
        if (span.length != length_of(scene, *received) || !lab_ledger_holds(span.at + i * span.stride, span.length, *received))
            return lab_refuse(EILSEQ, "not as it was sent");
    lab_broadcast_release(reader, span.count);
    return 0;
}

static int read_over(const struct scene *scene, struct lab_broadcast_reader *reader, uint64_t deadline_ns, uint64_t *received)
{
    unsigned char bytes[LONGEST];
    uint32_t length;
    int err = lab_broadcast_receive(reader, bytes, sizeof bytes, deadline_ns, &length);
    if (err)
        return err;
    uint64_t number = reader->tail - 1;
    if (length != length_of(scene, number) || !lab_ledger_holds(bytes, length, number))
        return lab_refuse(EILSEQ, "not as it was sent");
    ++*received;
    return 0;
}

/* Until the writer has gone. */
static int read_all(const struct scene *scene, void *memory, size_t size, uint32_t seat, uint64_t deadline_ns, struct found *ret_found)
{
    struct lab_broadcast_reader reader;
    int err = lab_broadcast_read(&reader, memory, size, &scene->config, seat);
    if (err)
        return complain("attaching", scene, 0, err);
    uint64_t received = 0;
    while (!err)
        err = scene->config.overwrite ? read_over(scene, &reader, deadline_ns, &received) : read_lossless(scene, &reader, deadline_ns, &received);
    if (err != -EPIPE)
        return complain("reading", scene, reader.tail, err);
    *ret_found = (struct found){received, reader.lost};
    return 0;
}

/* ---- threads ---- */

struct reading {
    const struct scene *scene;
    void *memory;
    size_t size;
    uint32_t seat;
    uint64_t deadline_ns;
    struct found found;
};

static void *reading_thread(void *subject)
{
    struct reading *r = subject;
    if (!read_all(r->scene, r->memory, r->size, r->seat, r->deadline_ns, &r->found))
        return NULL;
    lab_broadcast_hangup(r->memory, &r->scene->config, LAB_BROADCAST_READER, r->seat);
    return subject;
}

static void check_found(const struct scene *scene, const struct found *found)
{
    assert_int_equal(found->received + found->lost, scene->messages);
    if (!scene->config.overwrite)
        assert_int_equal(found->lost, 0);
}

static void play_in_threads(const struct scene *scene)
{
    struct lab_broadcast_shape shape;
    lab_assert_ok(lab_broadcast_shape(&scene->config, &shape));
    void *memory = aligned_alloc(LAB_BROADCAST_LINE, shape.size);
    assert_non_null(memory);
    memset(memory, 0, shape.size);
    lab_broadcast_init(memory, &scene->config, &shape);

    struct reading reading[READERS_MAX] = {0};
    pthread_t thread[READERS_MAX] = {0};
    uint64_t deadline_ns = lab_now_ns() + WITHIN_S * LAB_NS_PER_S;
    for (uint32_t seat = 0; seat < scene->config.readers; seat++) {
        reading[seat] = (struct reading){scene, memory, shape.size, seat, deadline_ns, {0}};
        assert_int_equal(pthread_create(&thread[seat], NULL, reading_thread, &reading[seat]), 0);
    }
    int failed = write_all(scene, memory, shape.size, deadline_ns);
    if (failed)
        lab_broadcast_hangup(memory, &scene->config, LAB_BROADCAST_WRITER, 0);
    void *reader_failed, *any = NULL;
    for (uint32_t seat = 0; seat < scene->config.readers; seat++) {
        pthread_join(thread[seat], &reader_failed);
        any = reader_failed ? reader_failed : any;
    }
    free(memory);
    assert_int_equal(failed, 0);
    assert_null(any);
    for (uint32_t seat = 0; seat < scene->config.readers; seat++)
        check_found(scene, &reading[seat].found);
}

/* ---- processes ---- */

/* Beside the broadcast: what the readers found. */
struct stage {
    struct lab_segment segment, results;
    pid_t reader[READERS_MAX];
};

static void make_stage(const struct scene *scene, struct stage *ret_stage)
{
    struct lab_broadcast_shape shape;
    lab_assert_ok(lab_broadcast_shape(&scene->config, &shape));
    lab_assert_ok(lab_segment_create("stress", shape.size, &ret_stage->segment));
    lab_assert_ok(lab_segment_create("stress", READERS_MAX * sizeof(struct found), &ret_stage->results));
    lab_broadcast_init(ret_stage->segment.memory, &scene->config, &shape);
    lab_segment_ready(&ret_stage->segment);
}

static void clear_stage(struct stage *stage)
{
    lab_segment_fini(&stage->segment);
    lab_segment_fini(&stage->results);
}

/* In the child it maps the broadcast for itself: another address, another page table. */
static pid_t fork_into(const struct scene *scene, const struct stage *stage, struct lab_segment *ret_segment)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (lab_segment_attach(stage->segment.fd, lab_now_ns() + WITHIN_S * LAB_NS_PER_S, ret_segment))
        _exit(complain("attaching", scene, 0, 0));
    return 0;
}

static pid_t fork_reader(const struct scene *scene, struct stage *stage, uint32_t seat)
{
    struct lab_segment segment;
    pid_t pid = fork_into(scene, stage, &segment);
    if (pid)
        return pid;
    struct found *found = stage->results.memory;
    _exit(read_all(scene, segment.memory, segment.size, seat, lab_now_ns() + WITHIN_S * LAB_NS_PER_S, &found[seat]));
}

static pid_t fork_writer(const struct scene *scene, struct stage *stage)
{
    struct lab_segment segment;
    pid_t pid = fork_into(scene, stage, &segment);
    if (pid)
        return pid;
    _exit(write_all(scene, segment.memory, segment.size, lab_now_ns() + WITHIN_S * LAB_NS_PER_S));
}

/* Who fails is hung up, so that nobody waits for it. */
static void reap_readers(const struct scene *scene, struct stage *stage, uint32_t first)
{
    int status, failed = 0;
    for (uint32_t seat = first; seat < scene->config.readers; seat++) {
        assert_int_equal(waitpid(stage->reader[seat], &status, 0), stage->reader[seat]);
        lab_broadcast_hangup(stage->segment.memory, &scene->config, LAB_BROADCAST_READER, seat);
        failed += status != 0;
    }
    assert_int_equal(failed, 0);
}

static void play_in_processes(const struct scene *scene)
{
    struct stage stage;
    make_stage(scene, &stage);
    for (uint32_t seat = 0; seat < scene->config.readers; seat++)
        stage.reader[seat] = fork_reader(scene, &stage, seat);
    int failed = write_all(scene, stage.segment.memory, stage.segment.size, lab_now_ns() + WITHIN_S * LAB_NS_PER_S);
    if (failed)
        lab_broadcast_hangup(stage.segment.memory, &scene->config, LAB_BROADCAST_WRITER, 0);
    reap_readers(scene, &stage, 0);
    assert_int_equal(failed, 0);
    const struct found *found = stage.results.memory;
    for (uint32_t seat = 0; seat < scene->config.readers; seat++)
        check_found(scene, &found[seat]);
    clear_stage(&stage);
}

static void play_all(void (*play)(const struct scene *scene), enum lab_wait wait)
{
    for (int s = 0; s < SCENES; s++) {
        struct scene scene = scenes[s];
        scene.config.wait = wait;
        if (wait == LAB_WAIT_SPIN) /* more parties than cores: a hand-over may take a time slice */
            scene.messages /= 8;
        play(&scene);
    }
}

#define BOTH_WITH(wait, WAIT)                                                          \
    static void threads_account_for_every_message_by_##wait(void **state)              \
    {                                                                                  \
        (void)state;                                                                   \
        play_all(play_in_threads, WAIT);                                               \
    }                                                                                  \
    static void processes_account_for_every_message_by_##wait(void **state)            \
    {                                                                                  \
        (void)state;                                                                   \
        play_all(play_in_processes, WAIT);                                             \
    }
BOTH_WITH(spin, LAB_WAIT_SPIN)
BOTH_WITH(yield, LAB_WAIT_YIELD)
BOTH_WITH(adaptive, LAB_WAIT_ADAPTIVE)
BOTH_WITH(futex, LAB_WAIT_FUTEX)

/* ---- death ---- */

static struct scene death_scene(int i)
{
    static const int which[] = {2, 4, 5, 7};
    struct scene scene = scenes[which[i % 4]];
    scene.config.wait = (enum lab_wait)(i / 4 % LAB_WAIT_BLOCK);
    return scene;
}

enum { DEATHS = 64 };

static void kill_after(pid_t child, int i)
{
    const struct timespec pause = lab_timespec((uint64_t)i * 61 * LAB_NS_PER_US);
    nanosleep(&pause, NULL);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* All readers end with the same count of messages, received or lost. */
static void a_writer_killed_at_any_moment_leaves_whole_messages_and_an_end(void **state)
{
    (void)state;
    for (int i = 0; i < DEATHS; i++) {
        struct scene scene = death_scene(i);
        scene.messages = ENDLESS;
        struct stage stage;
        make_stage(&scene, &stage);
        for (uint32_t seat = 0; seat < scene.config.readers; seat++)
            stage.reader[seat] = fork_reader(&scene, &stage, seat);
        kill_after(fork_writer(&scene, &stage), i);
        lab_broadcast_hangup(stage.segment.memory, &scene.config, LAB_BROADCAST_WRITER, 0);
        reap_readers(&scene, &stage, 0);
        const struct found *found = stage.results.memory;
        for (uint32_t seat = 1; seat < scene.config.readers; seat++)
            assert_int_equal(found[seat].received + found[seat].lost, found[0].received + found[0].lost);
        clear_stage(&stage);
    }
}

/* One reader is killed: the others get everything. Then all are: the writer is told. */
static void a_reader_killed_at_any_moment_holds_nobody_back(void **state)
{
    (void)state;
    for (int i = 0; i < DEATHS; i++) {
        struct scene scene = death_scene(i);
        struct stage stage;
        make_stage(&scene, &stage);
        for (uint32_t seat = 0; seat < scene.config.readers; seat++)
            stage.reader[seat] = fork_reader(&scene, &stage, seat);
        pid_t writer = fork_writer(&scene, &stage);
        kill_after(stage.reader[0], i);
        lab_broadcast_hangup(stage.segment.memory, &scene.config, LAB_BROADCAST_READER, 0);
        int status;
        assert_int_equal(waitpid(writer, &status, 0), writer);
        lab_broadcast_hangup(stage.segment.memory, &scene.config, LAB_BROADCAST_WRITER, 0);
        reap_readers(&scene, &stage, 1);
        assert_int_equal(status, 0);
        const struct found *found = stage.results.memory;
        for (uint32_t seat = 1; seat < scene.config.readers; seat++)
            check_found(&scene, &found[seat]);
        clear_stage(&stage);
    }
}

static void a_writer_learns_that_all_its_readers_were_killed(void **state)
{
    (void)state;
    for (int i = 0; i < DEATHS; i++) {
        struct scene scene = death_scene(i);
        scene.messages = ENDLESS;
        struct stage stage;
        make_stage(&scene, &stage);
        for (uint32_t seat = 0; seat < scene.config.readers; seat++)
            stage.reader[seat] = fork_reader(&scene, &stage, seat);
        pid_t writer = fork_writer(&scene, &stage);
        for (uint32_t seat = 0; seat < scene.config.readers; seat++) {
            kill_after(stage.reader[seat], i / 4);
            lab_broadcast_hangup(stage.segment.memory, &scene.config, LAB_BROADCAST_READER, seat);
        }
        int status;
        assert_int_equal(waitpid(writer, &status, 0), writer);
        assert_int_equal(status, 0);
        clear_stage(&stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_account_for_every_message_by_spin),
        cmocka_unit_test(threads_account_for_every_message_by_yield),
        cmocka_unit_test(threads_account_for_every_message_by_adaptive),
        cmocka_unit_test(threads_account_for_every_message_by_futex),
        cmocka_unit_test(processes_account_for_every_message_by_spin),
        cmocka_unit_test(processes_account_for_every_message_by_yield),
        cmocka_unit_test(processes_account_for_every_message_by_adaptive),
        cmocka_unit_test(processes_account_for_every_message_by_futex),
        cmocka_unit_test(a_writer_killed_at_any_moment_leaves_whole_messages_and_an_end),
        cmocka_unit_test(a_reader_killed_at_any_moment_holds_nobody_back),
        cmocka_unit_test(a_writer_learns_that_all_its_readers_were_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
