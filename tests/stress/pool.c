/* Parties that take, pass, share and give back blocks, each message accounted for: as processes over a segment, which is what is measured, and
 * as threads over allocated memory, which is what sanitizers can judge. Numbers of blocks go through a ring from each party to each other. */
#include "tests/check.h"
#include "tests/ledger.h"

#include "base/clock.h"
#include "shm/pool.h"
#include "shm/ring.h"
#include "shm/segment.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { MANY = 1500 };
#else
enum { MANY = 6000 };
#endif
enum { FEW = 200, WITHIN_S = 60, PARTIES_MAX = 4, BLOCKS_MAX = 100 };
#define ENDLESS UINT64_MAX

struct scene {
    struct lab_pool_config pool;
    uint64_t messages; /* that each party sends */
    uint32_t loans;    /* blocks that a party keeps at once before it gives one back */
    bool pauses;       /* between passing a block and sending its number: time to be killed in */
};

/* What goes through the rings. */
struct note {
    uint32_t block, length;
    uint64_t number; /* of the sender's messages */
};

static const struct scene scenes[] = {
    {{.block_bytes = 64, .blocks = 8, .parties = 2}, FEW, 1, false},
    {{.block_bytes = 5000, .blocks = 20, .parties = 3}, FEW, 3, false},
    {{.block_bytes = 100, .blocks = BLOCKS_MAX, .parties = PARTIES_MAX}, MANY, 10, false},
};
enum { SCENES = sizeof scenes / sizeof *scenes };

static struct lab_ring_config ring_config(const struct scene *scene)
{
    return (struct lab_ring_config){.message_max = sizeof(struct note), .window = scene->pool.blocks, .batch = 1, .wait = scene->pool.wait};
}

/* Where things are: | pool | rings, by sender and receiver | numbers sent, by party |. */
struct layout {
    struct lab_pool_shape pool;
    struct lab_ring_shape ring;
    size_t rings_at, size;
};

static struct layout layout_of(const struct scene *scene)
{
    struct layout layout;
    struct lab_ring_config ring = ring_config(scene);
    int err = lab_pool_shape(&scene->pool, &layout.pool);
    if (!err)
        err = lab_ring_shape(&ring, &layout.ring);
    if (err)
        abort();
    layout.rings_at = layout.pool.size;
    layout.size = layout.rings_at + scene->pool.parties * scene->pool.parties * layout.ring.size;
    return layout;
}

static unsigned char *ring_at(const struct scene *scene, unsigned char *memory, uint32_t from, uint32_t to)
{
    struct layout layout = layout_of(scene);
    return memory + layout.rings_at + (from * scene->pool.parties + to) * layout.ring.size;
}

static void make(const struct scene *scene, unsigned char *memory)
{
    struct layout layout = layout_of(scene);
    struct lab_ring_config ring = ring_config(scene);
    lab_pool_init(memory, &scene->pool, &layout.pool);
    for (uint32_t from = 0; from < scene->pool.parties; from++)
        for (uint32_t to = 0; to < scene->pool.parties; to++)
            lab_ring_init(ring_at(scene, memory, from, to), &ring, &layout.ring);
}

/* What a supervisor says of a party that has ended. */
static void hang_up(const struct scene *scene, unsigned char *memory, uint32_t seat)
{
    lab_pool_hangup(memory, &scene->pool, seat);
    for (uint32_t other = 0; other < scene->pool.parties; other++) {
        lab_ring_hangup(ring_at(scene, memory, seat, other), LAB_RING_PRODUCER);
        lab_ring_hangup(ring_at(scene, memory, other, seat), LAB_RING_CONSUMER);
    }
}

/* ---- one party ---- */

struct party {
    const struct scene *scene;
    unsigned char *memory;
    uint32_t seat;
    uint64_t deadline_ns, seed;
    struct lab_pool_end pool;
    struct lab_ring_producer to[PARTIES_MAX];
    struct lab_ring_consumer from[PARTIES_MAX];
    uint32_t open, living; /* a bit per party: may still send to us; may still be sent to */
    uint64_t sent, received[PARTIES_MAX]; /* the last number of each other party, plus one */
    uint32_t loan[BLOCKS_MAX], loans;
};

static uint32_t draw(struct party *p, uint32_t below)
{
    p->seed = p->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((p->seed >> 33) % below);
}

static int complain(const struct party *p, const char *what, uint64_t number, int err)
{
    fprintf(stderr, "%s: party %u of %u, message %llu, %u blocks of %u bytes, %s: %d %s\n", what, p->seat, p->scene->pool.parties,
            (unsigned long long)number, p->scene->pool.blocks, p->scene->pool.block_bytes, lab_wait_name(p->scene->pool.wait), err,
            lab_error_last()->text);
    return 1;
}

static int join(struct party *p)
{
    struct layout layout = layout_of(p->scene);
    struct lab_ring_config ring = ring_config(p->scene);
    int err = lab_pool_attach(&p->pool, p->memory, layout.pool.size, &p->scene->pool, p->seat);
    for (uint32_t other = 0; other < p->scene->pool.parties && !err; other++) {
        if (other == p->seat)
            continue;
        err = lab_ring_produce(&p->to[other], ring_at(p->scene, p->memory, p->seat, other), layout.ring.size, &ring);
        if (!err)
            err = lab_ring_consume(&p->from[other], ring_at(p->scene, p->memory, other, p->seat), layout.ring.size, &ring);
        p->open |= 1u << other;
    }
    p->living = p->open;
    return err ? complain(p, "attaching", 0, err) : 0;
}

/* The number of a message as the ledger has it: whose it is, and which. */
static uint64_t entry(uint32_t from, uint64_t number)
{
    return (uint64_t)from << 56 | number;
}

static int give_one(struct party *p)
{
    uint32_t at = draw(p, p->loans);
    int err = lab_pool_give(&p->pool, p->loan[at]);
    if (err)
        return complain(p, "giving back", 0, err);
    p->loan[at] = p->loan[--p->loans];
    return 0;
}

/* Looks once for a message of `other`. */
static int receive(struct party *p, uint32_t other, uint64_t deadline_ns)
{
    struct lab_span span;
    int err = lab_ring_borrow(&p->from[other], 1, deadline_ns, &span);
    if (err == -EAGAIN)
        return 0;
    if (err == -EPIPE) {
        lab_pool_settle(&p->pool, other);
        p->open &= ~(1u << other);
        return 0;
    }
    if (err)
        return complain(p, "receiving", 0, err);
    struct note note;
    memcpy(&note, span.at, sizeof note);
    lab_ring_release(&p->from[other], 1);
    err = lab_pool_accept(&p->pool, note.block);
    if (err)
        return complain(p, "accepting", note.number, err);
    const unsigned char *at = lab_pool_at(&p->pool, note.block);
    if (!at || note.number < p->received[other] || !lab_ledger_holds(at, note.length, entry(other, note.number)))
        return complain(p, "not as it was sent", note.number, 0);
    p->received[other] = note.number + 1;
    p->loan[p->loans++] = note.block;
    return p->loans > p->scene->loans ? give_one(p) : 0;
}

/* 0, also when the other party is gone. */
static int tell(struct party *p, uint32_t other, const struct note *note)
{
    struct lab_span span;
    int err = lab_ring_reserve(&p->to[other], sizeof *note, 1, p->deadline_ns, &span);
    if (err == -EPIPE)
        return 0;
    if (err)
        return complain(p, "telling", note->number, err);
    memcpy(span.at, note, sizeof *note);
    lab_ring_commit(&p->to[other], 1);
    return 0;
}

/* Passes the block to one other, or shares it among several; all of them are told. */
static int publish(struct party *p, const struct note *note)
{
    uint32_t readers = (draw(p, 1u << p->scene->pool.parties)) & p->living, first = p->living & -p->living;
    readers = readers ? readers : first;
    bool one = !(readers & (readers - 1)), passed = one && draw(p, 2);
    int err = passed ? lab_pool_pass(&p->pool, note->block, (uint32_t)__builtin_ctz(readers)) : lab_pool_share(&p->pool, note->block, readers);
    if (err == -EPIPE) { /* one of them is gone: nobody has it */
        p->living &= ~atomic_load(&p->pool.shared->gone);
        return lab_pool_give(&p->pool, note->block) ? complain(p, "giving back", note->number, 0) : 0;
    }
    if (err)
        return complain(p, "sharing", note->number, err);
    if (p->scene->pauses && draw(p, 8) == 0)
        lab_spin_for(20 * LAB_NS_PER_US);
    for (uint32_t other = 0; other < p->scene->pool.parties; other++)
        if (readers >> other & 1 && tell(p, other, note))
            return 1;
    p->sent++;
    return !passed && lab_pool_give(&p->pool, note->block) ? complain(p, "giving back", note->number, 0) : 0;
}

/* Sends one message, unless no block is to be had for a while: others may wait for this party to receive. */
static int send_one(struct party *p)
{
    struct note note = {.number = p->sent};
    int err = lab_pool_take(&p->pool, lab_now_ns() + draw(p, 2) * 200 * LAB_NS_PER_US, &note.block);
    if (err == -EAGAIN || err == -EPIPE)
        return 0;
    unsigned char *at = err ? NULL : lab_pool_at(&p->pool, note.block);
    if (!at)
        return complain(p, "taking", p->sent, err);
    note.length = 8 + draw(p, p->scene->pool.block_bytes - 7);
    lab_ledger_write(at, note.length, entry(p->seat, p->sent));
    return publish(p, &note);
}

static int play(struct party *p)
{
    if (join(p))
        return 1;
    for (bool sending = true; sending || p->open;) {
        if (lab_now_ns() >= p->deadline_ns)
            return complain(p, "too late", p->sent, 0);
        if (sending && send_one(p))
            return 1;
        if (sending && (p->sent == p->scene->messages || !p->living)) {
            sending = false;
            for (uint32_t other = 0; other < p->scene->pool.parties; other++)
                lab_ring_hangup(ring_at(p->scene, p->memory, p->seat, other), LAB_RING_PRODUCER);
        }
        for (uint32_t other = 0; other < p->scene->pool.parties; other++)
            if (p->open >> other & 1 && receive(p, other, sending ? 0 : lab_now_ns() + LAB_NS_PER_MS))
                return 1;
    }
    while (p->loans)
        if (give_one(p))
            return 1;
    return 0;
}

static struct party party_of(const struct scene *scene, void *memory, uint32_t seat)
{
    return (struct party){.scene = scene, .memory = memory, .seat = seat, .seed = seat + 1, .deadline_ns = lab_now_ns() + WITHIN_S * LAB_NS_PER_S};
}

/* ---- threads ---- */

static void *playing_thread(void *subject)
{
    struct party *p = subject;
    if (!play(p))
        return NULL;
    hang_up(p->scene, p->memory, p->seat);
    return subject;
}

static void play_in_threads(const struct scene *scene)
{
    struct layout layout = layout_of(scene);
    unsigned char *memory = aligned_alloc(LAB_POOL_LINE, layout.size);
    assert_non_null(memory);
    memset(memory, 0, layout.size);
    make(scene, memory);
    static struct party party[PARTIES_MAX];
    pthread_t thread[PARTIES_MAX] = {0};
    for (uint32_t seat = 0; seat < scene->pool.parties; seat++) {
        party[seat] = party_of(scene, memory, seat);
        assert_int_equal(pthread_create(&thread[seat], NULL, playing_thread, &party[seat]), 0);
    }
    void *failed, *any = NULL;
    for (uint32_t seat = 0; seat < scene->pool.parties; seat++) {
        pthread_join(thread[seat], &failed);
        any = failed ? failed : any;
    }
    assert_null(any);
    assert_int_equal(lab_pool_count_free(memory, &scene->pool), scene->pool.blocks);
    for (uint32_t seat = 0; seat < scene->pool.parties; seat++)
        assert_int_equal(party[seat].sent, scene->messages);
    free(memory);
}

/* ---- processes ---- */

static pid_t fork_party(const struct scene *scene, const struct lab_segment *made, uint32_t seat)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct lab_segment segment;
    if (lab_segment_attach(made->fd, lab_now_ns() + WITHIN_S * LAB_NS_PER_S, &segment))
        _exit(1);
    static struct party party;
    party = party_of(scene, segment.memory, seat);
    int failed = play(&party);
    if (failed)
        hang_up(scene, segment.memory, seat);
    _exit(failed);
}

/* Kills those of `victims`, one after the other, and hangs up for them. Afterwards every block is free, though nobody has hung up for the
 * survivors: they have given back what they had. */
static void play_in_processes(const struct scene *scene, uint32_t victims, uint64_t pause_ns)
{
    struct lab_segment segment;
    lab_assert_ok(lab_segment_create("stress", layout_of(scene).size, &segment));
    make(scene, segment.memory);
    lab_segment_ready(&segment);
    pid_t child[PARTIES_MAX] = {0};
    for (uint32_t seat = 0; seat < scene->pool.parties; seat++)
        child[seat] = fork_party(scene, &segment, seat);
    for (uint32_t seat = 0; seat < scene->pool.parties; seat++) {
        if (!(victims >> seat & 1))
            continue;
        const struct timespec pause = lab_timespec(pause_ns);
        nanosleep(&pause, NULL);
        kill(child[seat], SIGKILL);
        waitpid(child[seat], NULL, 0);
        hang_up(scene, segment.memory, seat);
    }
    int status, failed = 0;
    for (uint32_t seat = 0; seat < scene->pool.parties; seat++)
        if (!(victims >> seat & 1)) {
            assert_int_equal(waitpid(child[seat], &status, 0), child[seat]);
            failed += status != 0;
        }
    assert_int_equal(failed, 0);
    /* What was passed to a victim in the moment in which it was hung up. */
    for (uint32_t seat = 0; seat < scene->pool.parties; seat++)
        if (victims >> seat & 1)
            lab_pool_hangup(segment.memory, &scene->pool, seat);
    assert_int_equal(lab_pool_count_free(segment.memory, &scene->pool), scene->pool.blocks);
    lab_segment_fini(&segment);
}

static struct scene scene_with(int which, enum lab_wait wait)
{
    struct scene scene = scenes[which];
    scene.pool.wait = wait;
    if (wait == LAB_WAIT_SPIN) /* more parties than cores: a hand-over may take a time slice */
        scene.messages /= 8;
    return scene;
}

#define BOTH_WITH(wait_, WAIT)                                                      \
    static void threads_account_for_every_message_by_##wait_(void **state)          \
    {                                                                               \
        (void)state;                                                                \
        for (int s = 0; s < SCENES; s++) {                                          \
            struct scene scene = scene_with(s, WAIT);                               \
            play_in_threads(&scene);                                                \
        }                                                                           \
    }                                                                               \
    static void processes_account_for_every_message_by_##wait_(void **state)        \
    {                                                                               \
        (void)state;                                                                \
        for (int s = 0; s < SCENES; s++) {                                          \
            struct scene scene = scene_with(s, WAIT);                               \
            play_in_processes(&scene, 0, 0);                                        \
        }                                                                           \
    }
BOTH_WITH(spin, LAB_WAIT_SPIN)
BOTH_WITH(yield, LAB_WAIT_YIELD)
BOTH_WITH(adaptive, LAB_WAIT_ADAPTIVE)
BOTH_WITH(futex, LAB_WAIT_FUTEX)

/* ---- death ---- */

enum { DEATHS = 48 };

static void whoever_is_killed_whenever_all_blocks_come_back(void **state)
{
    (void)state;
    for (int i = 0; i < DEATHS; i++) {
        struct scene scene = scenes[i % SCENES];
        scene.messages = scene.pool.parties > 2 ? 2 * FEW : ENDLESS;
        scene.pauses = true;
        scene.pool.wait = (enum lab_wait)(i / SCENES % LAB_WAIT_BLOCK);
        /* One at least is left. */
        uint32_t victims = scene.pool.parties == 2 ? 1 : 1u << i / 4 % 3 | (i % 2 && scene.pool.parties > 3 ? 4 : 0);
        play_in_processes(&scene, victims, (uint64_t)i * 41 * LAB_NS_PER_US);
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
        cmocka_unit_test(whoever_is_killed_whenever_all_blocks_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
