/* A party of a bounded buffer, under a robust mutex or under semaphores, is killed at every single instruction of everything that it
 * does, also of repairing what another's death has left; the others go on. */
#include "tests/bounded.h"
#include "tests/crash.h"

#include <pthread.h>

enum { WITHIN_S = 20, SEATS = 2, VICTIM = 0, OTHER = 1, LENGTH = 16 };

struct row {
    struct lab_crash crash;
    const struct bounded_kind *kind;
    enum lab_buffer_side side; /* of the victim */
    uint32_t sent;             /* messages that lie there, from the other producer */
    uint32_t count;            /* messages of the operation */
};

struct scene {
    const struct row *row;
    unsigned char *memory;
    size_t size;
    union bounded_party party[2][SEATS]; /* by side and seat */
    uint64_t next[SEATS]; /* by producer: no message before this one may come any more */
    uint64_t sent, received, expected_back;
    pthread_t survivor;
    bool survives; /* the thread runs */
    int outcome;   /* of the thread's last call */
};

static const struct lab_buffer_config config = {.message_max = LENGTH, .window = 8, .producers = SEATS, .consumers = SEATS, .batch = 4};

static uint64_t soon(void)
{
    return lab_now_ns() + WITHIN_S * LAB_NS_PER_S;
}

/* ---- messages: producer and number, at both ends ---- */

static void write_message(unsigned char *at, uint32_t seat, uint64_t number)
{
    uint64_t name = (uint64_t)(seat + 1) << 48 | number;
    memcpy(at, &name, sizeof name);
    memcpy(at + LENGTH - sizeof name, &name, sizeof name);
}

/* Whole, and newer than all that came from its producer. */
static bool account(struct scene *scene, const unsigned char *at)
{
    uint64_t name, again;
    memcpy(&name, at, sizeof name);
    memcpy(&again, at + LENGTH - sizeof again, sizeof again);
    uint64_t seat = (name >> 48) - 1, number = name & UINT64_C(0xffffffffffff);
    if (name != again || seat >= SEATS || number < scene->next[seat])
        return false;
    scene->next[seat] = number + 1;
    scene->received++;
    return true;
}

static int send_one_by(struct scene *scene, uint32_t seat, uint64_t deadline_ns)
{
    const struct bounded_kind *kind = scene->row->kind;
    union bounded_party *party = &scene->party[LAB_BUFFER_PRODUCER][seat];
    struct lab_span span = {0};
    int err = kind->reserve(party, LENGTH, 1, deadline_ns, &span);
    if (err)
        return err;
    write_message(span.at, seat, scene->sent);
    kind->commit(party, 1);
    scene->sent++;
    return 1;
}

/* -EILSEQ: not messages that may come next. */
static int receive_some(struct scene *scene, uint32_t seat, uint32_t want, uint64_t deadline_ns)
{
    const struct bounded_kind *kind = scene->row->kind;
    union bounded_party *party = &scene->party[LAB_BUFFER_CONSUMER][seat];
    struct lab_span span = {0};
    int err = kind->borrow(party, want, deadline_ns, &span);
    if (err)
        return err;
    for (uint32_t i = 0; i < span.count; i++)
        if (span.length != LENGTH || !account(scene, span.at + i * span.stride))
            return -EILSEQ;
    kind->release(party, span.count);
    return (int)span.count;
}

/* ---- the scene ---- */

static void set_up(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    const struct row *row = (const void *)crash;
    *scene = (struct scene){.row = row};
    lab_assert_ok(row->kind->size(&config, &scene->size));
    scene->memory = lab_shared_bytes(scene->size);
    row->kind->init(scene->memory, &config);
    for (int side = 0; side < 2; side++)
        for (uint32_t seat = 0; seat < SEATS; seat++)
            lab_assert_ok(row->kind->attach(&scene->party[side][seat], scene->memory, scene->size, &config,
                                            (enum lab_buffer_side)side, seat));
    for (uint32_t i = 0; i < row->sent; i++)
        assert_int_equal(send_one_by(scene, OTHER, 0), 1);
}

static void hang_up(struct scene *scene, enum lab_buffer_side side, uint32_t seat)
{
    scene->row->kind->hangup(scene->memory, &config, side, seat);
}

/* One of the other side was killed with a loan of two, and was reaped; who locks next has to mend that. */
static void set_up_with_the_dead(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    struct lab_span span;
    set_up(scene, crash);
    enum lab_buffer_side side = scene->row->side == LAB_BUFFER_PRODUCER ? LAB_BUFFER_CONSUMER : LAB_BUFFER_PRODUCER;
    union bounded_party *dead = &scene->party[side][VICTIM];
    lab_assert_ok(side == LAB_BUFFER_PRODUCER ? scene->row->kind->reserve(dead, LENGTH, 2, 0, &span)
                                              : scene->row->kind->borrow(dead, 2, 0, &span));
    scene->expected_back = side == LAB_BUFFER_CONSUMER ? span.count : 0;
    hang_up(scene, side, VICTIM);
}

/* ... somebody was killed with the mutex. */
static void set_up_with_a_dead_holder(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    set_up(scene, crash);
    struct lab_monitor_shared *shared = (void *)scene->memory;
    pid_t holder = fork();
    assert_true(holder >= 0);
    if (holder == 0)
        _exit(pthread_mutex_lock(&shared->mutex));
    int status = 0;
    assert_int_equal(waitpid(holder, &status, 0), holder);
    assert_int_equal(status, 0);
}

static void tear_down(void *subject)
{
    struct scene *scene = subject;
    munmap(scene->memory, scene->size);
}

/* ---- what the victim does ---- */

/* What is lent is not all used. */
static void send(void *subject)
{
    struct scene *scene = subject;
    union bounded_party *self = &scene->party[LAB_BUFFER_PRODUCER][VICTIM];
    struct lab_span span = {0};
    if (scene->row->kind->reserve(self, LENGTH, scene->row->count + 1, 0, &span))
        return;
    for (uint32_t i = 0; i < scene->row->count; i++)
        write_message(span.at + i * span.stride, VICTIM, i);
    scene->row->kind->commit(self, scene->row->count);
}

/* What it has borrowed it gives back in two parts. */
static void receive(void *subject)
{
    struct scene *scene = subject;
    union bounded_party *self = &scene->party[LAB_BUFFER_CONSUMER][VICTIM];
    struct lab_span span = {0};
    if (scene->row->kind->borrow(self, scene->row->count, 0, &span))
        return;
    scene->row->kind->release(self, 1);
    scene->row->kind->release(self, span.count - 1);
}

static void wait_for_room(void *subject)
{
    send_one_by(subject, VICTIM, soon());
}

static void wait_for_a_message(void *subject)
{
    receive_some(subject, VICTIM, 1, soon());
}

static void hang_up_itself(void *subject)
{
    struct scene *scene = subject;
    hang_up(scene, scene->row->side, VICTIM);
}

/* ---- who is at work meanwhile, and who wakes ---- */

static void *receive_in_time(void *subject)
{
    struct scene *scene = subject;
    scene->outcome = receive_some(scene, OTHER, 1, soon());
    return NULL;
}

static void a_consumer_waits(void *subject)
{
    struct scene *scene = subject;
    assert_int_equal(pthread_create(&scene->survivor, NULL, receive_in_time, scene), 0);
    scene->survives = true;
}

static void send_one(void *subject)
{
    assert_int_equal(send_one_by(subject, OTHER, 0), 1);
}

static void receive_one(void *subject)
{
    assert_int_equal(receive_some(subject, OTHER, 1, 0), 1);
}

/* ---- what the survivors do ---- */

static uint64_t dropped(const struct scene *scene)
{
    struct lab_buffer_shape shape;
    lab_assert_ok(lab_buffer_shape(&config, &shape));
    /* Either lock stands in front of the buffer. */
    const struct lab_buffer view = {.shared = (struct lab_buffer_shared *)(void *)(scene->memory + scene->size - shape.size)};
    return lab_buffer_dropped(&view);
}

static const char *receive_all(struct scene *scene, int outcome)
{
    int got;
    while ((got = receive_some(scene, OTHER, 4, 0)) > 0)
        continue;
    LAB_EXPECT(got == outcome);
    return NULL;
}

/* As deep as it was, and in order, more than once round. */
static const char *buffer_is_whole(struct scene *scene)
{
    for (int round = 0; round < 2; round++) {
        uint64_t before = scene->received;
        for (uint32_t i = 0; i < config.window; i++)
            LAB_EXPECT(send_one_by(scene, OTHER, 0) == 1);
        LAB_EXPECT(send_one_by(scene, OTHER, 0) == -EAGAIN);
        LAB_EXPECT_FINE(receive_all(scene, -EAGAIN));
        LAB_EXPECT(scene->received == before + config.window);
    }
    return NULL;
}

/* What came through is whole, in order, and was not there before; what did not, is counted, and was the victim's or the dead's to lose.
 * Seen of a producer are the messages that came, of a consumer those that it took, and once more those that it gave back. */
static const char *others_survive(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    enum lab_buffer_side side = scene->row->side;
    hang_up(scene, side, VICTIM);
    hang_up(scene, side, VICTIM);
    if (scene->survives) {
        LAB_EXPECT(send_one_by(scene, OTHER, soon()) == 1);
        pthread_join(scene->survivor, NULL);
        LAB_EXPECT(scene->outcome == 1);
    }
    LAB_EXPECT_FINE(receive_all(scene, -EAGAIN));
    uint64_t lost = dropped(scene);
    LAB_EXPECT(lost >= scene->expected_back && scene->next[OTHER] <= scene->sent);
    if (side == LAB_BUFFER_PRODUCER) {
        LAB_EXPECT(lost == scene->expected_back && scene->received + lost >= scene->sent);
        *ret_seen = (uint32_t)(scene->received + lost - scene->sent);
    } else {
        LAB_EXPECT(scene->received + lost <= scene->sent);
        *ret_seen = (uint32_t)(2 * (scene->sent - scene->received) - lost);
    }
    LAB_EXPECT_FINE(buffer_is_whole(scene));
    LAB_EXPECT(dropped(scene) == lost);
    for (uint32_t seat = 0; seat < SEATS; seat++)
        hang_up(scene, LAB_BUFFER_PRODUCER, seat);
    LAB_EXPECT_FINE(receive_all(scene, -EPIPE));
    return NULL;
}

/* ---- what is wrong on purpose ---- */

static struct lab_buffer *buffer_of(struct scene *scene)
{
    return &scene->party[scene->row->side][VICTIM].buffer;
}

/* The head moves over places that do not say yet whose they are: others take them for messages, or never get them back. */
static void reserve_before_owning(void *subject)
{
    struct scene *scene = subject;
    struct lab_buffer *buffer = buffer_of(scene);
    buffer->seat = LAB_BUFFER_SEATS - 1;
    struct lab_span span = {0};
    if (scene->row->kind->reserve(&scene->party[LAB_BUFFER_PRODUCER][VICTIM], LENGTH, scene->row->count, 0, &span))
        return;
    buffer->seat = VICTIM;
    for (uint32_t i = 0; i < span.count; i++) {
        write_message(span.at + i * span.stride, VICTIM, i);
        atomic_store(&buffer->words[(buffer->at + i) & buffer->mask], 1 | (uint64_t)VICTIM << 3);
    }
    scene->row->kind->commit(&scene->party[LAB_BUFFER_PRODUCER][VICTIM], span.count);
}

/* The tail moves back over what it took: whoever is next gets it again. */
static void borrow_without_moving_on(void *subject)
{
    struct scene *scene = subject;
    struct lab_buffer *buffer = buffer_of(scene);
    uint64_t tail = atomic_load(&buffer->shared->tail);
    receive(scene);
    atomic_store(&buffer->shared->tail, tail);
}

static void commit_before_writing(void *subject)
{
    struct scene *scene = subject;
    union bounded_party *self = &scene->party[LAB_BUFFER_PRODUCER][VICTIM];
    struct lab_span span = {0};
    if (scene->row->kind->reserve(self, LENGTH, 1, 0, &span))
        return;
    scene->row->kind->commit(self, 1);
    write_message(span.at, VICTIM, 0);
}

/* ---- operations ---- */

/* Each with either lock. */
#define ROW(lock, name, set_up, operate, all, nudge_, meanwhile_, side, sent, count)                                                \
    {{LAB_CRASH(#lock ": " name, set_up, operate, others_survive, all), .nudge = nudge_, .meanwhile = meanwhile_},                   \
     &lock##_kind, LAB_BUFFER_##side, sent, count}
#define BOTH(...) ROW(monitor, __VA_ARGS__), ROW(semaphore, __VA_ARGS__)

static const struct row rows[] = {
    BOTH("reserve, commit", set_up, send, 2, NULL, NULL, PRODUCER, 5, 2),
    BOTH("reserve: no room", set_up, send, 0, NULL, NULL, PRODUCER, 8, 2),
    BOTH("reserve, commit, wake", set_up, send, 2, NULL, a_consumer_waits, PRODUCER, 0, 2),
    BOTH("reserve: woken", set_up, wait_for_room, 1, receive_one, NULL, PRODUCER, 8, 1),
    BOTH("reserve, commit: mends", set_up_with_the_dead, send, 2, NULL, NULL, PRODUCER, 5, 2),
    ROW(monitor, "reserve, commit: the holder is dead", set_up_with_a_dead_holder, send, 2, NULL, NULL, PRODUCER, 5, 2),
    BOTH("borrow, release, release", set_up, receive, 6, NULL, NULL, CONSUMER, 5, 3),
    BOTH("borrow: woken", set_up, wait_for_a_message, 2, send_one, NULL, CONSUMER, 0, 1),
    BOTH("borrow, release, release: mends", set_up_with_the_dead, receive, 6, NULL, NULL, CONSUMER, 5, 3),
    BOTH("hangup", set_up, hang_up_itself, 0, NULL, NULL, CONSUMER, 5, 0),
};

static const struct row faults[] = {
    BOTH("reserves places before they are its own", set_up, reserve_before_owning, 2, NULL, NULL, PRODUCER, 5, 2),
    BOTH("commits a message before it is written", set_up, commit_before_writing, 1, NULL, NULL, PRODUCER, 5, 1),
    BOTH("borrows what it leaves to others", set_up, borrow_without_moving_on, 6, NULL, NULL, CONSUMER, 5, 3),
};

int main(void)
{
    static struct scene scene;
    return lab_crash_main("bounded buffer", LAB_CRASH_TABLE(rows), LAB_CRASH_TABLE(faults), &scene);
}
