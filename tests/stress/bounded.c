/* Several producers and consumers of a bounded buffer and many messages, each accounted for: as processes over shared memory and as
 * threads, which sanitizers can judge; with parties killed at any time (tests/fault/crash_bounded.c kills them at every instruction). */
#include "tests/bounded.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { MANY = 3000, DEATHS = 10 };
#else
enum { MANY = 20000, DEATHS = 40 };
#endif
enum { SEATS_MAX = 3, WITHIN_S = 60 };

struct scene {
    struct lab_buffer_config config;
    uint32_t take; /* messages in one loan, at most */
    bool ragged;   /* lengths change from loan to loan */
};

static const struct scene scenes[] = {
    {{.message_max = 16, .window = 1, .producers = 1, .consumers = 1, .batch = 1}, 1, false},
    {{.message_max = 64, .window = 16, .producers = 1, .consumers = 1, .batch = 4}, 4, true},
    {{.message_max = 64, .window = 4, .producers = 2, .consumers = 2, .batch = 1}, 1, true},
    {{.message_max = 200, .window = 32, .producers = 3, .consumers = 1, .batch = 5}, 7, true},
    {{.message_max = 48, .window = 8, .producers = 1, .consumers = 3, .batch = 3}, 2, false},
    {{.message_max = 64, .window = 128, .producers = 3, .consumers = 3, .batch = 32}, 32, true},
};
enum { SCENES = sizeof scenes / sizeof *scenes };

/* ---- the ledger ---- */

/* How often each message of each producer was received. Shared by everyone. */
struct ledger {
    _Atomic uint32_t wrong; /* messages that were not as they were sent, or not in order */
    _Atomic uint8_t seen[SEATS_MAX][MANY];
};

static uint32_t length_of(const struct scene *scene, uint32_t seat, uint32_t number)
{
    uint32_t longest = scene->config.message_max;
    return scene->ragged ? 8 + (uint32_t)((number / 5 + seat) * 2654435761u >> 7) % (longest - 7) : longest;
}

static void write_message(unsigned char *at, uint32_t length, uint32_t seat, uint32_t number)
{
    memcpy(at, &seat, 4);
    memcpy(at + 4, &number, 4);
    for (uint32_t i = 8; i < length; i++)
        at[i] = (unsigned char)(number * 31 + seat * 7 + i);
}

/* Marks it, if it is what its sender wrote and newer than the last one of that sender that this consumer has had. */
static void account(const struct scene *scene, struct ledger *ledger, const unsigned char *at, uint32_t length, int64_t last[SEATS_MAX])
{
    uint32_t seat, number;
    memcpy(&seat, at, 4);
    memcpy(&number, at + 4, 4);
    bool whole = seat < scene->config.producers && number < MANY && length == length_of(scene, seat, number) && number > last[seat];
    for (uint32_t i = 8; whole && i < length; i++)
        whole = at[i] == (unsigned char)(number * 31 + seat * 7 + i);
    if (!whole) {
        ledger->wrong++;
        return;
    }
    last[seat] = number;
    ledger->seen[seat][number]++;
}

static int complain(const char *what, const struct bounded_kind *kind, uint32_t seat, int err)
{
    fprintf(stderr, "%s: seat %u, %s: %d %s\n", kind->name, seat, what, err, lab_error_last()->text);
    return 1;
}

/* ---- parties ---- */

struct stage {
    const struct bounded_kind *kind;
    const struct scene *scene;
    struct ledger *ledger;
    unsigned char *memory;
    size_t size;
    uint64_t deadline_ns;
};

/* Sends everything, or until there is nobody left to send to. */
static int produce(const struct stage *stage, uint32_t seat)
{
    const struct scene *scene = stage->scene;
    union bounded_party party;
    int err = stage->kind->attach(&party, stage->memory, stage->size, &scene->config, LAB_BUFFER_PRODUCER, seat);
    if (err)
        return complain("attaching", stage->kind, seat, err);
    for (uint32_t number = 0; number < MANY;) {
        uint32_t length = length_of(scene, seat, number), want = 1;
        while (want < scene->config.batch && number + want < MANY && length_of(scene, seat, number + want) == length)
            want++;
        struct lab_span span = {0};
        err = stage->kind->reserve(&party, length, want, stage->deadline_ns, &span);
        if (err == -EPIPE)
            return 0;
        if (err)
            return complain("reserving", stage->kind, seat, err);
        /* Now and then fewer than were lent, and none. */
        uint32_t count = number % 11 == 3 && span.count > 1 ? span.count - 1 : span.count;
        if (number % 17 == 5 && span.count == want) {
            stage->kind->commit(&party, 0);
            err = stage->kind->reserve(&party, length, 1, stage->deadline_ns, &span);
            if (err)
                return err == -EPIPE ? 0 : complain("reserving again", stage->kind, seat, err);
            count = 1;
        }
        for (uint32_t i = 0; i < count; i++)
            write_message(span.at + i * span.stride, length, seat, number + i);
        stage->kind->commit(&party, count);
        number += count;
    }
    stage->kind->hangup(stage->memory, &scene->config, LAB_BUFFER_PRODUCER, seat);
    return 0;
}

/* Receives until every producer is gone. */
static int consume(const struct stage *stage, uint32_t seat)
{
    const struct scene *scene = stage->scene;
    union bounded_party party;
    int64_t last[SEATS_MAX] = {-1, -1, -1};
    int err = stage->kind->attach(&party, stage->memory, stage->size, &scene->config, LAB_BUFFER_CONSUMER, seat);
    if (err)
        return complain("attaching", stage->kind, seat, err);
    for (;;) {
        struct lab_span span = {0};
        err = stage->kind->borrow(&party, scene->take, stage->deadline_ns, &span);
        if (err == -EPIPE)
            break;
        if (err)
            return complain("borrowing", stage->kind, seat, err);
        for (uint32_t i = 0; i < span.count; i++)
            account(scene, stage->ledger, span.at + i * span.stride, span.length, last);
        stage->kind->release(&party, span.count);
    }
    stage->kind->hangup(stage->memory, &scene->config, LAB_BUFFER_CONSUMER, seat);
    return 0;
}

static int play_seat(const struct stage *stage, uint32_t party)
{
    uint32_t producers = stage->scene->config.producers;
    return party < producers ? produce(stage, party) : consume(stage, party - producers);
}

/* ---- setting up ---- */

static void *shared_bytes(size_t size)
{
    void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(bytes != MAP_FAILED);
    return bytes;
}

static struct stage stage_init(const struct bounded_kind *kind, const struct scene *scene)
{
    struct stage stage = {.kind = kind, .scene = scene, .ledger = shared_bytes(sizeof(struct ledger)),
                          .deadline_ns = lab_now_ns() + WITHIN_S * LAB_NS_PER_S};
    lab_assert_ok(kind->size(&scene->config, &stage.size));
    stage.memory = shared_bytes(stage.size);
    kind->init(stage.memory, &scene->config);
    return stage;
}

static void stage_fini(struct stage *stage)
{
    munmap(stage->memory, stage->size);
    munmap(stage->ledger, sizeof *stage->ledger);
}

static uint64_t dropped(const struct stage *stage)
{
    struct lab_buffer_shape shape;
    lab_assert_ok(lab_buffer_shape(&stage->scene->config, &shape));
    /* Either lock stands in front of the buffer. */
    const struct lab_buffer view = {.shared = (struct lab_buffer_shared *)(void *)(stage->memory + stage->size - shape.size)};
    return lab_buffer_dropped(&view);
}

/* Every message once; those of a producer that was killed, up to the last one that came through; of a consumer that was killed those may
 * be missing that were counted as dropped, and no others. `killed` is a party, -1: none. */
static void check_ledger(const struct stage *stage, int killed)
{
    const struct lab_buffer_config *config = &stage->scene->config;
    uint64_t missing = 0, lost_with_it = dropped(stage);
    assert_int_equal(stage->ledger->wrong, 0);
    for (uint32_t seat = 0; seat < config->producers; seat++) {
        uint32_t sent = MANY;
        while ((int)seat == killed && sent && !stage->ledger->seen[seat][sent - 1])
            sent--;
        for (uint32_t number = 0; number < sent; number++) {
            assert_true(stage->ledger->seen[seat][number] <= 1);
            missing += stage->ledger->seen[seat][number] == 0;
        }
    }
    bool consumer = killed >= (int)config->producers;
    if (missing > lost_with_it || lost_with_it > (consumer ? config->batch : 0))
        fail_msg("%s: %llu messages are missing, %llu were dropped, party %d was killed", stage->kind->name, (unsigned long long)missing,
                 (unsigned long long)lost_with_it, killed);
}

/* ---- threads ---- */

struct playing {
    const struct stage *stage;
    uint32_t party;
    int failed;
};

static void *playing_thread(void *subject)
{
    struct playing *playing = subject;
    playing->failed = play_seat(playing->stage, playing->party);
    return NULL;
}

static void threads_lose_and_repeat_no_message(void **state)
{
    for (size_t s = 0; s < SCENES; s++) {
        struct stage stage = stage_init(*state, &scenes[s]);
        uint32_t parties = scenes[s].config.producers + scenes[s].config.consumers;
        struct playing playing[2 * SEATS_MAX];
        pthread_t thread[2 * SEATS_MAX];
        for (uint32_t p = 0; p < parties; p++) {
            playing[p] = (struct playing){&stage, p, 0};
            assert_int_equal(pthread_create(&thread[p], NULL, playing_thread, &playing[p]), 0);
        }
        for (uint32_t p = 0; p < parties; p++) {
            pthread_join(thread[p], NULL);
            assert_int_equal(playing[p].failed, 0);
        }
        check_ledger(&stage, -1);
        stage_fini(&stage);
    }
}

/* ---- processes ---- */

static pid_t fork_party(const struct stage *stage, uint32_t party)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(play_seat(stage, party));
}

static void processes_lose_and_repeat_no_message(void **state)
{
    for (size_t s = 0; s < SCENES; s++) {
        struct stage stage = stage_init(*state, &scenes[s]);
        uint32_t parties = scenes[s].config.producers + scenes[s].config.consumers;
        pid_t child[2 * SEATS_MAX] = {0};
        for (uint32_t p = 0; p < parties; p++)
            child[p] = fork_party(&stage, p);
        for (uint32_t p = 0; p < parties; p++) {
            int status = -1;
            assert_int_equal(waitpid(child[p], &status, 0), child[p]);
            assert_int_equal(status, 0);
        }
        check_ledger(&stage, -1);
        stage_fini(&stage);
    }
}

/* ---- death ---- */

/* Reaps a party that was killed, and says so as a supervisor does, now and then more than once. */
static void bury(const struct stage *stage, pid_t child, uint32_t party, int times)
{
    const struct lab_buffer_config *config = &stage->scene->config;
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    bool producer = party < config->producers;
    for (int i = 0; i < times; i++)
        stage->kind->hangup(stage->memory, config, producer ? LAB_BUFFER_PRODUCER : LAB_BUFFER_CONSUMER,
                            producer ? party : party - config->producers);
}

/* Those with more than one seat on each side: the others have something left to do. */
static const struct scene *peopled(int round)
{
    static const size_t which[] = {2, 5};
    return &scenes[which[round % 2]];
}

static void a_party_killed_at_any_time_takes_nothing_along(void **state)
{
    for (int round = 0; round < DEATHS; round++) {
        const struct scene *scene = peopled(round);
        struct stage stage = stage_init(*state, scene);
        uint32_t parties = scene->config.producers + scene->config.consumers, victim = (uint32_t)round / 2 % parties;
        pid_t child[2 * SEATS_MAX] = {0};
        for (uint32_t p = 0; p < parties; p++)
            child[p] = fork_party(&stage, p);
        lab_spin_for((uint64_t)round * 97 * LAB_NS_PER_US);
        bury(&stage, child[victim], victim, 1 + round % 3);
        /* The others end by themselves, whatever it was doing. */
        for (uint32_t p = 0; p < parties; p++) {
            int status = -1;
            if (p == victim)
                continue;
            assert_int_equal(waitpid(child[p], &status, 0), child[p]);
            assert_int_equal(status, 0);
        }
        check_ledger(&stage, (int)victim);
        stage_fini(&stage);
    }
}

int main(void)
{
    const struct bounded_case cases[] = {
        BOUNDED_CASE(threads_lose_and_repeat_no_message),
        BOUNDED_CASE(processes_lose_and_repeat_no_message),
        BOUNDED_CASE(a_party_killed_at_any_time_takes_nothing_along),
    };
    return bounded_run("stress.bounded", cases, sizeof cases / sizeof *cases);
}
