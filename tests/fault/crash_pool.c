/* A party of a pool is killed at every single instruction of everything that it does; the others go on, and every block comes back. */
#include "tests/crash.h"

#include "base/clock.h"
#include "shm/pool.h"

#include <pthread.h>
#include <string.h>

enum { WITHIN_S = 20, PARTIES = 4, BLOCKS = 4, VICTIM = 0, READER = 1, OTHER = 2, DEAD = 3, NUMBERS = 8 };

struct row {
    struct lab_crash crash;
    uint32_t loans; /* blocks that the other has, from the beginning to the end */
    enum lab_wait wait;
};

/* Numbers of blocks on their way, from one party to one reader. */
struct post {
    _Atomic uint32_t sent;
    uint32_t number[NUMBERS];
};

struct scene {
    const struct row *row;
    struct lab_pool_config config;
    struct lab_pool_shape shape;
    void *memory;
    struct post *posts; /* by reader */
    struct lab_pool_end party[PARTIES];
    uint32_t loan[BLOCKS]; /* the other's */
    uint32_t block;        /* of the operation, where it begins with one */
    pthread_t survivor;
    bool survives; /* the thread runs */
    int outcome;   /* of the thread's last call */
    uint32_t got;  /* block, by the thread */
};

static uint64_t soon(void)
{
    return lab_now_ns() + WITHIN_S * LAB_NS_PER_S;
}

/* ---- blocks and their numbers ---- */

static void write_block(struct lab_pool_end *end, uint32_t block)
{
    memset(lab_pool_at(end, block), (int)block + 1, end->block_stride);
}

static bool is_written(struct lab_pool_end *end, uint32_t block)
{
    const unsigned char *at = lab_pool_at(end, block);
    return at && at[0] == block + 1 && memcmp(at, at + 1, end->block_stride - 1) == 0;
}

static void post_number(struct scene *scene, uint32_t reader, uint32_t block)
{
    struct post *post = &scene->posts[reader];
    uint32_t sent = atomic_load(&post->sent);
    post->number[sent] = block;
    atomic_store(&post->sent, sent + 1);
}

/* ---- the scene ---- */

static void make(struct scene *scene, const struct lab_crash *crash)
{
    const struct row *row = (const void *)crash;
    *scene = (struct scene){.row = row, .config = {.block_bytes = 64, .blocks = BLOCKS, .parties = PARTIES, .wait = row->wait}};
    lab_assert_ok(lab_pool_shape(&scene->config, &scene->shape));
    scene->memory = lab_shared_bytes(scene->shape.size);
    scene->posts = lab_shared_bytes(PARTIES * sizeof *scene->posts);
    lab_pool_init(scene->memory, &scene->config, &scene->shape);
}

static int attach_at(struct scene *scene, struct lab_pool_end *end, uint32_t seat)
{
    return lab_pool_attach(end, scene->memory, scene->shape.size, &scene->config, seat);
}

static void set_up_unattached(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    make(scene, crash);
    for (uint32_t seat = READER; seat < PARTIES; seat++)
        lab_assert_ok(attach_at(scene, &scene->party[seat], seat));
}

static void set_up(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    set_up_unattached(scene, crash);
    lab_assert_ok(attach_at(scene, &scene->party[VICTIM], VICTIM));
    for (uint32_t i = 0; i < scene->row->loans; i++) {
        lab_assert_ok(lab_pool_take(&scene->party[OTHER], 0, &scene->loan[i]));
        write_block(&scene->party[OTHER], scene->loan[i]);
    }
}

/* The victim has a block that it has written. */
static void set_up_holding(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    set_up(scene, crash);
    lab_assert_ok(lab_pool_take(&scene->party[VICTIM], 0, &scene->block));
    write_block(&scene->party[VICTIM], scene->block);
}

/* The reader has passed the victim a block. */
static void set_up_promised(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    set_up(scene, crash);
    lab_assert_ok(lab_pool_take(&scene->party[READER], 0, &scene->block));
    write_block(&scene->party[READER], scene->block);
    lab_assert_ok(lab_pool_pass(&scene->party[READER], scene->block, VICTIM));
}

/* The other has shared its block with the victim and with the reader. */
static void set_up_shared(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    set_up(scene, crash);
    scene->block = scene->loan[0];
    lab_assert_ok(lab_pool_share(&scene->party[OTHER], scene->block, 1 << VICTIM | 1 << READER));
    post_number(scene, READER, scene->block);
}

/* A fourth party was killed with a block, having promised the victim another one; nobody has hung up for it yet. */
static void set_up_with_a_death(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    set_up(scene, crash);
    lab_assert_ok(lab_pool_take(&scene->party[DEAD], 0, &scene->block));
    lab_assert_ok(lab_pool_pass(&scene->party[DEAD], scene->block, VICTIM));
    lab_assert_ok(lab_pool_take(&scene->party[DEAD], 0, &scene->block));
}

/* ... and its hangup has passed just before all that is free was passed to it. */
static void set_up_with_a_late_promise(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    set_up_with_a_death(scene, crash);
    lab_pool_hangup(scene->memory, &scene->config, DEAD);
    for (uint32_t block = 0; block < BLOCKS; block++) {
        uint64_t nobody = 0;
        atomic_compare_exchange_strong(lab_pool_word(&scene->party[READER], block), &nobody, lab_pool_promised(DEAD));
    }
}

static void tear_down(void *subject)
{
    struct scene *scene = subject;
    munmap(scene->memory, scene->shape.size);
    munmap(scene->posts, PARTIES * sizeof *scene->posts);
}

/* ---- what the victim does ---- */

static void take(void *subject)
{
    struct scene *scene = subject;
    lab_pool_take(&scene->party[VICTIM], 0, &scene->block);
}

static void wait_for_a_block(void *subject)
{
    struct scene *scene = subject;
    lab_pool_take(&scene->party[VICTIM], soon(), &scene->block);
}

static void take_and_pass(void *subject)
{
    struct scene *scene = subject;
    struct lab_pool_end *end = &scene->party[VICTIM];
    if (lab_pool_take(end, 0, &scene->block))
        return;
    write_block(end, scene->block);
    if (lab_pool_pass(end, scene->block, READER) == 0)
        post_number(scene, READER, scene->block);
}

static void share(void *subject)
{
    struct scene *scene = subject;
    if (lab_pool_share(&scene->party[VICTIM], scene->block, 1 << READER | 1 << OTHER))
        return;
    post_number(scene, READER, scene->block);
    post_number(scene, OTHER, scene->block);
}

static void pass_on(void *subject)
{
    struct scene *scene = subject;
    if (lab_pool_accept(&scene->party[VICTIM], scene->block) == 0 && lab_pool_pass(&scene->party[VICTIM], scene->block, OTHER) == 0)
        post_number(scene, OTHER, scene->block);
}

static void accept_and_give(void *subject)
{
    struct scene *scene = subject;
    if (lab_pool_accept(&scene->party[VICTIM], scene->block) == 0)
        lab_pool_give(&scene->party[VICTIM], scene->block);
}

static void give(void *subject)
{
    struct scene *scene = subject;
    lab_pool_give(&scene->party[VICTIM], scene->block);
}

static void settle(void *subject)
{
    struct scene *scene = subject;
    lab_pool_settle(&scene->party[VICTIM], DEAD);
}

static void hang_up_for_the_dead(void *subject)
{
    struct scene *scene = subject;
    lab_pool_hangup(scene->memory, &scene->config, DEAD);
}

static void say_the_last_word(void *subject)
{
    struct scene *scene = subject;
    lab_pool_hangup(scene->memory, &scene->config, VICTIM);
}

static void attach(void *subject)
{
    struct scene *scene = subject;
    attach_at(scene, &scene->party[VICTIM], VICTIM);
}

/* ---- who is at work meanwhile, and who wakes ---- */

static void *take_in_time(void *subject)
{
    struct scene *scene = subject;
    scene->outcome = lab_pool_take(&scene->party[READER], soon(), &scene->got);
    return NULL;
}

static void a_taker_sleeps(void *subject)
{
    struct scene *scene = subject;
    const struct lab_pool_shared *shared = scene->memory;
    assert_int_equal(pthread_create(&scene->survivor, NULL, take_in_time, scene), 0);
    scene->survives = true;
    while (!atomic_load(&shared->seats[READER].sleeps.asleep))
        sched_yield();
}

static void give_one(void *subject)
{
    struct scene *scene = subject;
    lab_assert_ok(lab_pool_give(&scene->party[OTHER], scene->loan[0]));
    scene->loan[0] = UINT32_MAX;
}

/* ---- what the survivors do ---- */

/* Reads and gives back what came. */
static const char *receive(struct scene *scene, uint32_t reader, uint32_t *ret_received)
{
    struct post *post = &scene->posts[reader];
    *ret_received = atomic_load(&post->sent);
    for (uint32_t i = 0; i < *ret_received; i++) {
        LAB_EXPECT(lab_pool_accept(&scene->party[reader], post->number[i]) == 0);
        LAB_EXPECT(is_written(&scene->party[reader], post->number[i]));
        LAB_EXPECT(lab_pool_give(&scene->party[reader], post->number[i]) == 0);
    }
    return NULL;
}

/* Each block is there once, for whoever takes it. */
static const char *every_block_is_there(struct scene *scene, uint32_t parties)
{
    LAB_EXPECT(lab_pool_count_free(scene->memory, &scene->config) == BLOCKS);
    for (uint32_t seat = READER; seat < parties; seat++) {
        uint32_t block, taken = 0;
        for (uint32_t i = 0; i < BLOCKS; i++) {
            LAB_EXPECT(lab_pool_take(&scene->party[seat], 0, &block) == 0);
            taken |= 1u << block;
        }
        LAB_EXPECT(taken == (1u << BLOCKS) - 1);
        LAB_EXPECT(lab_pool_take(&scene->party[seat], 0, &block) == -EAGAIN);
        for (block = 0; block < BLOCKS; block++)
            LAB_EXPECT(lab_pool_give(&scene->party[seat], block) == 0);
    }
    return NULL;
}

/* What a stopped party has stays its own: without a hangup only free blocks are taken. */
static const char *nothing_is_robbed(struct scene *scene)
{
    const struct lab_pool_shared *shared = scene->memory;
    if (scene->survives || atomic_load(&shared->gone))
        return NULL;
    uint32_t block[BLOCKS], count = 0, most = lab_pool_count_free(scene->memory, &scene->config);
    while (count < BLOCKS && lab_pool_take(&scene->party[READER], 0, &block[count]) == 0)
        count++;
    LAB_EXPECT(count == most);
    while (count--)
        LAB_EXPECT(lab_pool_give(&scene->party[READER], block[count]) == 0);
    return NULL;
}

static const char *give_loans_back(struct scene *scene)
{
    for (uint32_t i = 0; i < scene->row->loans; i++)
        if (scene->loan[i] != UINT32_MAX) {
            LAB_EXPECT(is_written(&scene->party[OTHER], scene->loan[i]));
            LAB_EXPECT(lab_pool_give(&scene->party[OTHER], scene->loan[i]) == 0);
        }
    return NULL;
}

/* Seen are the numbers that came. */
static const char *all_blocks_come_back(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    uint32_t to_reader, to_other;
    LAB_EXPECT_FINE(nothing_is_robbed(scene));
    lab_pool_hangup(scene->memory, &scene->config, VICTIM);
    lab_pool_hangup(scene->memory, &scene->config, DEAD);
    if (scene->survives) {
        pthread_join(scene->survivor, NULL);
        LAB_EXPECT(scene->outcome == 0 && lab_pool_give(&scene->party[READER], scene->got) == 0);
    }
    LAB_EXPECT_FINE(receive(scene, READER, &to_reader));
    LAB_EXPECT_FINE(receive(scene, OTHER, &to_other));
    for (uint32_t seat = READER; seat <= OTHER; seat++) {
        lab_pool_settle(&scene->party[seat], VICTIM);
        lab_pool_settle(&scene->party[seat], DEAD);
    }
    LAB_EXPECT_FINE(give_loans_back(scene));
    LAB_EXPECT_FINE(every_block_is_there(scene, DEAD));
    LAB_EXPECT(attach_at(scene, &scene->party[VICTIM], VICTIM) == -EBUSY);
    lab_pool_hangup(scene->memory, &scene->config, OTHER);
    uint32_t block;
    for (uint32_t i = 0; i < BLOCKS; i++)
        LAB_EXPECT(lab_pool_take(&scene->party[READER], 0, &block) == 0);
    LAB_EXPECT(lab_pool_take(&scene->party[READER], soon(), &block) == -EPIPE);
    *ret_seen = to_reader + to_other;
    return NULL;
}

/* The seat of one that was killed while it took it is free or taken. */
static const char *a_fresh_one_is_refused_or_works(void *subject, uint32_t *ret_seen)
{
    struct scene *scene = subject;
    int err = attach_at(scene, &scene->party[VICTIM], VICTIM);
    uint32_t block;
    LAB_EXPECT(err == 0 ? lab_pool_take(&scene->party[VICTIM], 0, &block) == 0 : err == -EBUSY);
    lab_pool_hangup(scene->memory, &scene->config, VICTIM);
    LAB_EXPECT_FINE(every_block_is_there(scene, PARTIES));
    *ret_seen = err != 0;
    return NULL;
}

/* ---- what is wrong on purpose ---- */

/* The block is out of the pool, and then it is written down whose it is: what a list of free blocks does. */
static void take_before_owning(void *subject)
{
    struct scene *scene = subject;
    struct lab_pool_end *end = &scene->party[VICTIM];
    end->seat = LAB_POOL_PARTIES_MAX - 1;
    if (lab_pool_take(end, 0, &scene->block))
        return;
    end->seat = VICTIM;
    atomic_store(lab_pool_word(end, scene->block), lab_pool_held(VICTIM));
}

/* The promise is made, and then it is noted by whom. */
static void pass_before_noting(void *subject)
{
    struct scene *scene = subject;
    struct lab_pool_end *end = &scene->party[VICTIM];
    atomic_store(lab_pool_word(end, scene->block), lab_pool_promised(READER));
    lab_pool_note(end, scene->block, READER);
    post_number(scene, READER, scene->block);
}

static void pass_before_writing(void *subject)
{
    struct scene *scene = subject;
    struct lab_pool_end *end = &scene->party[VICTIM];
    if (lab_pool_take(end, 0, &scene->block) || lab_pool_pass(end, scene->block, READER))
        return;
    post_number(scene, READER, scene->block);
    write_block(end, scene->block);
}

/* ... the block was passed to the victim by the reader before, so that an old note is there. */
static void set_up_with_an_old_note(void *subject, const struct lab_crash *crash)
{
    struct scene *scene = subject;
    set_up_holding(scene, crash);
    atomic_store(lab_pool_giver(&scene->party[OTHER], scene->block, READER), OTHER);
}

/* ---- operations ---- */

#define SPIN LAB_WAIT_SPIN
#define SLEEP LAB_WAIT_FUTEX

static const struct row rows[] = {
    {{LAB_CRASH("take", set_up, take, all_blocks_come_back, 0)}, 1, SPIN},
    {{LAB_CRASH("take: none is free", set_up, take, all_blocks_come_back, 0)}, BLOCKS, SPIN},
    {{LAB_CRASH("take: what was promised to the dead", set_up_with_a_late_promise, take, all_blocks_come_back, 0)}, 1, SLEEP},
    {{LAB_CRASH("take: asleep at an empty pool", set_up, wait_for_a_block, all_blocks_come_back, 0), .sleeps = true}, BLOCKS, SLEEP},
    {{LAB_CRASH("take: woken at an empty pool", set_up, wait_for_a_block, all_blocks_come_back, 0), .nudge = give_one}, BLOCKS, SLEEP},
    {{LAB_CRASH("take, write, pass", set_up, take_and_pass, all_blocks_come_back, 1)}, 1, SPIN},
    {{LAB_CRASH("share with two readers", set_up_holding, share, all_blocks_come_back, 2)}, 0, SPIN},
    {{LAB_CRASH("accept, pass on", set_up_promised, pass_on, all_blocks_come_back, 1)}, 1, SPIN},
    {{LAB_CRASH("accept, give", set_up_promised, accept_and_give, all_blocks_come_back, 0)}, 1, SPIN},
    {{LAB_CRASH("give: not accepted", set_up_promised, give, all_blocks_come_back, 0)}, 1, SPIN},
    {{LAB_CRASH("accept, give: one of several readers", set_up_shared, accept_and_give, all_blocks_come_back, 1)}, 1, SPIN},
    {{LAB_CRASH("give, wake", set_up_holding, give, all_blocks_come_back, 0), .meanwhile = a_taker_sleeps}, BLOCKS - 1, SLEEP},
    {{LAB_CRASH("settle what the dead promised", set_up_with_a_death, settle, all_blocks_come_back, 0)}, 1, SLEEP},
    {{LAB_CRASH("hangup of the dead", set_up_with_a_death, hang_up_for_the_dead, all_blocks_come_back, 0)}, 1, SLEEP},
    {{LAB_CRASH("hangup of its own", set_up_holding, say_the_last_word, all_blocks_come_back, 0)}, 1, SPIN},
    {{LAB_CRASH("attach", set_up_unattached, attach, a_fresh_one_is_refused_or_works, 1)}, 0, SPIN},
};

static const struct row faults[] = {
    {{LAB_CRASH("takes a block before it is its own", set_up, take_before_owning, all_blocks_come_back, 0)}, 1, SPIN},
    {{LAB_CRASH("passes before it notes who", set_up_with_an_old_note, pass_before_noting, all_blocks_come_back, 1)}, 0, SPIN},
    {{LAB_CRASH("passes before it writes", set_up, pass_before_writing, all_blocks_come_back, 1)}, 1, SPIN},
};

int main(void)
{
    static struct scene scene;
    return lab_crash_main("pool", LAB_CRASH_TABLE(rows), LAB_CRASH_TABLE(faults), &scene);
}
