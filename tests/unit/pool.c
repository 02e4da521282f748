#include "tests/check.h"

#include "base/clock.h"
#include "shm/pool.h"

#include <errno.h>
#include <string.h>

enum { PARTIES = 5 };

/* A pool in memory of this process, all its parties in one thread. */
struct rig {
    struct lab_pool_config config;
    struct lab_pool_shape shape;
    unsigned char *memory;
    struct lab_pool_end party[PARTIES];
};

static struct lab_pool_config config_of(uint32_t block_bytes, uint32_t blocks)
{
    return (struct lab_pool_config){.block_bytes = block_bytes, .blocks = blocks, .parties = PARTIES, .wait = LAB_WAIT_SPIN};
}

static void rig_init(struct rig *rig, struct lab_pool_config config)
{
    rig->config = config;
    lab_assert_ok(lab_pool_shape(&config, &rig->shape));
    rig->memory = aligned_alloc(LAB_POOL_LINE, rig->shape.size);
    assert_non_null(rig->memory);
    memset(rig->memory, 0, rig->shape.size);
    lab_pool_init(rig->memory, &config, &rig->shape);
    for (uint32_t seat = 0; seat < config.parties; seat++)
        lab_assert_ok(lab_pool_attach(&rig->party[seat], rig->memory, rig->shape.size, &config, seat));
}

static void rig_fini(struct rig *rig)
{
    free(rig->memory);
}

static uint32_t count_free(struct rig *rig)
{
    return lab_pool_count_free(rig->memory, &rig->config);
}

static uint32_t take(struct rig *rig, uint32_t seat)
{
    uint32_t block = UINT32_MAX;
    lab_assert_ok(lab_pool_take(&rig->party[seat], 0, &block));
    return block;
}

/* The whole block lies in the memory of the blocks. */
static unsigned char *check_block(struct rig *rig, uint32_t block)
{
    unsigned char *at = lab_pool_at(&rig->party[0], block);
    assert_non_null(at);
    assert_true(at >= rig->memory + rig->shape.blocks_at);
    assert_true(at + rig->config.block_bytes <= rig->memory + rig->shape.size);
    assert_int_equal((uintptr_t)at % LAB_POOL_LINE, 0);
    return at;
}

static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*state >> 33) % below);
}

static const struct {
    uint32_t bytes, blocks;
} pools[] = {{1, 1}, {8, 2}, {64, 3}, {100, LAB_POOL_APART_BLOCKS}, {128, LAB_POOL_APART_BLOCKS + 1}, {5000, 100}, {7, 3000}, {1 << 20, 4}};
enum { POOLS = sizeof pools / sizeof *pools };

/* ---- layout ---- */

static void what_a_pool_cannot_be_is_refused(void **state)
{
    (void)state;
    struct lab_pool_shape shape = {.blocks = 77};
    struct lab_pool_config config = config_of(0, 4);
    lab_assert_fails(lab_pool_shape(&config, &shape), EMSGSIZE);
    config = config_of((1u << 30) + 1, 4);
    lab_assert_fails(lab_pool_shape(&config, &shape), EMSGSIZE);
    config = config_of(64, 0);
    lab_assert_fails(lab_pool_shape(&config, &shape), EINVAL);
    config = config_of(64, LAB_POOL_BLOCKS_MAX + 1);
    lab_assert_fails(lab_pool_shape(&config, &shape), EINVAL);
    config = config_of(64, 4);
    config.parties = 0;
    lab_assert_fails(lab_pool_shape(&config, &shape), EINVAL);
    config.parties = LAB_POOL_PARTIES_MAX + 1;
    lab_assert_fails(lab_pool_shape(&config, &shape), EINVAL);
    assert_int_equal(shape.blocks, 77);
    config = config_of(1u << 30, LAB_POOL_BLOCKS_MAX);
    config.parties = LAB_POOL_PARTIES_MAX;
    lab_assert_ok(lab_pool_shape(&config, &shape));
    assert_true(shape.size >= (UINT64_C(1) << 47));
}

static void a_seat_is_attached_once_and_to_a_pool_of_its_config(void **state)
{
    (void)state;
    struct rig rig;
    struct lab_pool_end end;
    rig_init(&rig, config_of(64, 16));
    lab_assert_fails(lab_pool_attach(&end, rig.memory, rig.shape.size, &rig.config, 0), EBUSY);
    lab_assert_fails(lab_pool_attach(&end, rig.memory, rig.shape.size, &rig.config, PARTIES), EINVAL);
    lab_assert_fails(lab_pool_attach(&end, rig.memory, rig.shape.size - 1, &rig.config, 1), EBADMSG);
    struct lab_pool_config other = rig.config;
    other.block_bytes++;
    lab_assert_fails(lab_pool_attach(&end, rig.memory, rig.shape.size, &other, 1), EBADMSG);
    other = rig.config;
    other.blocks--;
    lab_assert_fails(lab_pool_attach(&end, rig.memory, rig.shape.size, &other, 1), EBADMSG);
    other = rig.config;
    other.parties--;
    lab_assert_fails(lab_pool_attach(&end, rig.memory, rig.shape.size, &other, 1), EBADMSG);
    other = rig.config;
    other.wait = LAB_WAIT_FUTEX;
    lab_assert_fails(lab_pool_attach(&end, rig.memory, rig.shape.size, &other, 1), EBADMSG);
    rig_fini(&rig);
}

static void blocks_do_not_overlap_and_every_one_can_be_had(void **state)
{
    (void)state;
    for (int p = 0; p < POOLS; p++) {
        struct rig rig;
        rig_init(&rig, config_of(pools[p].bytes, pools[p].blocks));
        assert_true(rig.shape.words_at + (size_t)rig.shape.blocks * rig.shape.word_stride <= rig.shape.givers_at);
        assert_true(rig.shape.givers_at + (size_t)rig.shape.blocks * PARTIES <= rig.shape.blocks_at);
        for (uint32_t i = 0; i < pools[p].blocks; i++) {
            uint32_t block = take(&rig, i % PARTIES);
            memset(check_block(&rig, block), (int)(block % 251), pools[p].bytes);
        }
        uint32_t block = 77;
        assert_int_equal(lab_pool_take(&rig.party[2], 0, &block), -EAGAIN);
        assert_int_equal(block, 77);
        assert_int_equal(count_free(&rig), 0);
        uint32_t wrong = 0;
        for (block = 0; block < pools[p].blocks; block++)
            for (uint32_t i = 0; i < pools[p].bytes; i++)
                wrong += check_block(&rig, block)[i] != block % 251;
        assert_int_equal(wrong, 0);
        assert_null(lab_pool_at(&rig.party[0], pools[p].blocks));
        assert_null(lab_pool_at(&rig.party[0], UINT32_MAX));
        rig_fini(&rig);
    }
}

/* ---- taking, passing, giving ---- */

static void a_block_that_was_given_back_can_be_taken_whatever_the_order(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 100));
    uint64_t seed = 3;
    for (int round = 0; round < 50; round++) {
        for (uint32_t i = 0; i < 100; i++)
            take(&rig, 0);
        for (uint32_t left = draw(&seed, 100) + 1; left; left--) {
            uint32_t block = draw(&seed, 100), again = UINT32_MAX;
            lab_assert_ok(lab_pool_give(&rig.party[0], block));
            lab_assert_ok(lab_pool_take(&rig.party[1], 0, &again));
            assert_int_equal(again, block);
            lab_assert_ok(lab_pool_give(&rig.party[1], block));
            lab_assert_ok(lab_pool_take(&rig.party[0], 0, &again));
            assert_int_equal(again, block);
        }
        for (uint32_t block = 0; block < 100; block++)
            lab_assert_ok(lab_pool_give(&rig.party[0], block));
        assert_int_equal(count_free(&rig), 100);
    }
    rig_fini(&rig);
}

static void a_block_that_is_passed_changes_hands(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 4));
    uint32_t block = take(&rig, 0);
    lab_assert_fails(lab_pool_accept(&rig.party[1], block), EBADMSG);
    lab_assert_ok(lab_pool_pass(&rig.party[0], block, 1));
    lab_assert_fails(lab_pool_give(&rig.party[0], block), EBADMSG);
    lab_assert_fails(lab_pool_pass(&rig.party[0], block, 2), EBADMSG);
    lab_assert_fails(lab_pool_give(&rig.party[2], block), EBADMSG);
    lab_assert_fails(lab_pool_accept(&rig.party[2], block), EBADMSG);
    lab_assert_ok(lab_pool_accept(&rig.party[1], block));
    lab_assert_fails(lab_pool_accept(&rig.party[1], block), EBADMSG);
    lab_assert_ok(lab_pool_pass(&rig.party[1], block, 2));
    lab_assert_ok(lab_pool_accept(&rig.party[2], block));
    assert_int_equal(count_free(&rig), 3);
    lab_assert_ok(lab_pool_give(&rig.party[2], block));
    lab_assert_fails(lab_pool_give(&rig.party[2], block), EBADMSG);
    assert_int_equal(count_free(&rig), 4);
    rig_fini(&rig);
}

static void a_block_of_several_readers_is_free_after_the_last(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 1));
    for (uint32_t round = 0; round < 24; round++) {
        uint32_t block = take(&rig, 0), order[4], unused;
        lab_assert_ok(lab_pool_share(&rig.party[0], block, 0x1e));
        lab_assert_fails(lab_pool_share(&rig.party[0], block, 0x04), EEXIST);
        lab_assert_fails(lab_pool_pass(&rig.party[0], block, 3), EEXIST);
        /* One of the 24 orders in which four can give it back. */
        for (uint32_t i = 0, left = round, items[] = {1, 2, 3, 4}; i < 4; i++) {
            uint32_t at = left % (4 - i);
            left /= 4 - i;
            order[i] = items[at];
            memmove(items + at, items + at + 1, (3 - i - at) * sizeof *items);
        }
        lab_assert_ok(lab_pool_give(&rig.party[0], block));
        for (uint32_t i = 0; i < 4; i++) {
            assert_int_equal(lab_pool_take(&rig.party[0], 0, &unused), -EAGAIN);
            lab_assert_ok(lab_pool_accept(&rig.party[order[i]], block));
            lab_assert_fails(lab_pool_share(&rig.party[order[i]], block, UINT32_C(1) << order[i]), EEXIST);
            lab_assert_ok(lab_pool_give(&rig.party[order[i]], block));
        }
        assert_int_equal(count_free(&rig), 1);
    }
    rig_fini(&rig);
}

static void numbers_and_seats_that_are_not_there_are_refused(void **state)
{
    (void)state;
    static const uint32_t numbers[] = {4, 5, 1u << 20, 1u << 31, UINT32_MAX};
    struct rig rig;
    rig_init(&rig, config_of(64, 4));
    uint32_t block = take(&rig, 0);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        lab_assert_fails(lab_pool_accept(&rig.party[0], numbers[i]), EBADMSG);
        lab_assert_fails(lab_pool_give(&rig.party[0], numbers[i]), EBADMSG);
        lab_assert_fails(lab_pool_pass(&rig.party[0], numbers[i], 1), EBADMSG);
        lab_assert_fails(lab_pool_share(&rig.party[0], numbers[i], 2), EBADMSG);
        lab_assert_fails(lab_pool_pass(&rig.party[0], block, numbers[i] | 8), EINVAL);
    }
    lab_assert_fails(lab_pool_share(&rig.party[0], block, 0), EINVAL);
    lab_assert_fails(lab_pool_share(&rig.party[0], block, 1 << PARTIES), EINVAL);
    lab_assert_ok(lab_pool_give(&rig.party[0], block));
    assert_int_equal(count_free(&rig), 4);
    rig_fini(&rig);
}

static void waiting_for_a_block_ends_at_the_deadline(void **state)
{
    (void)state;
    for (enum lab_wait wait = LAB_WAIT_SPIN; wait <= LAB_WAIT_FUTEX; wait++) {
        struct rig rig;
        struct lab_pool_config config = config_of(64, 2);
        config.wait = wait;
        rig_init(&rig, config);
        uint32_t block = take(&rig, 0);
        take(&rig, 1);
        uint64_t deadline_ns = lab_now_ns() + 2 * LAB_NS_PER_MS;
        uint32_t unused = 77;
        assert_int_equal(lab_pool_take(&rig.party[2], deadline_ns, &unused), -EAGAIN);
        assert_true(lab_now_ns() >= deadline_ns);
        assert_int_equal(unused, 77);
        lab_assert_ok(lab_pool_give(&rig.party[0], block));
        assert_int_equal(take(&rig, 2), block);
        rig_fini(&rig);
    }
}

/* ---- a model ---- */

/* What each party should have of each block. */
enum { NOTHING, PROMISED, HELD };
struct model {
    unsigned char has[PARTIES][100];
};

static bool model_is_free(const struct model *model, uint32_t block)
{
    for (int seat = 0; seat < PARTIES; seat++)
        if (model->has[seat][block] != NOTHING)
            return false;
    return true;
}

static uint32_t model_count_free(const struct model *model, uint32_t blocks)
{
    uint32_t count = 0;
    for (uint32_t block = 0; block < blocks; block++)
        count += model_is_free(model, block);
    return count;
}

static int model_share(struct model *model, uint32_t seat, uint32_t block, uint32_t readers, bool keep)
{
    if (model->has[seat][block] != HELD)
        return -EBADMSG;
    for (uint32_t to = 0; to < PARTIES; to++)
        if (readers >> to & 1 && model->has[to][block] != NOTHING && (keep || to != seat))
            return -EEXIST;
    if (!keep)
        model->has[seat][block] = NOTHING;
    for (uint32_t to = 0; to < PARTIES; to++)
        if (readers >> to & 1)
            model->has[to][block] = PROMISED;
    return 0;
}

static void step(struct rig *rig, struct model *model, uint64_t *seed)
{
    uint32_t seat = draw(seed, PARTIES), block = draw(seed, rig->config.blocks), readers = draw(seed, 31) + 1;
    struct lab_pool_end *end = &rig->party[seat];
    unsigned char *has = &model->has[seat][block];
    switch (draw(seed, 5)) {
    case 0: {
        int err = lab_pool_take(end, 0, &block);
        assert_int_equal(err, model_count_free(model, rig->config.blocks) ? 0 : -EAGAIN);
        if (err == 0) {
            assert_true(model_is_free(model, block));
            model->has[seat][block] = HELD;
        }
        break;
    }
    case 1: assert_int_equal(lab_pool_share(end, block, readers), model_share(model, seat, block, readers, true)); break;
    case 2: {
        uint32_t to = draw(seed, PARTIES);
        assert_int_equal(lab_pool_pass(end, block, to), model_share(model, seat, block, UINT32_C(1) << to, false));
        break;
    }
    case 3:
        assert_int_equal(lab_pool_accept(end, block), *has == PROMISED ? 0 : -EBADMSG);
        if (*has == PROMISED)
            *has = HELD;
        break;
    default:
        assert_int_equal(lab_pool_give(end, block), *has == NOTHING ? -EBADMSG : 0);
        *has = NOTHING;
    }
}

static void random_operations_agree_with_a_model(void **state)
{
    (void)state;
    static const uint32_t blocks[] = {1, 2, 7, LAB_POOL_APART_BLOCKS, 100};
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
        struct rig rig;
        static struct model model;
        rig_init(&rig, config_of(16, blocks[b]));
        memset(&model, 0, sizeof model);
        uint64_t seed = b;
        for (int i = 0; i < 50000; i++) {
            step(&rig, &model, &seed);
            if (i % 100 == 0)
                assert_int_equal(count_free(&rig), model_count_free(&model, blocks[b]));
        }
        rig_fini(&rig);
    }
}

/* ---- parties that are gone ---- */

static void what_a_dead_party_had_comes_back(void **state)
{
    (void)state;
    for (enum lab_wait wait = LAB_WAIT_SPIN; wait <= LAB_WAIT_FUTEX; wait++) {
        struct rig rig;
        struct lab_pool_config config = config_of(64, 10);
        config.wait = wait;
        rig_init(&rig, config);
        uint32_t held = take(&rig, 1), promised = take(&rig, 0), shared = take(&rig, 0);
        lab_assert_ok(lab_pool_pass(&rig.party[0], promised, 1));
        lab_assert_ok(lab_pool_share(&rig.party[0], shared, 0x6));
        lab_assert_ok(lab_pool_accept(&rig.party[1], shared));
        lab_pool_hangup(rig.memory, &config, 1);
        lab_pool_hangup(rig.memory, &config, 1);
        assert_int_equal(count_free(&rig), 9);
        lab_assert_fails(lab_pool_pass(&rig.party[0], shared, 1), EPIPE);
        lab_assert_fails(lab_pool_share(&rig.party[0], shared, 0xa), EPIPE);
        lab_assert_ok(lab_pool_accept(&rig.party[2], shared));
        lab_assert_ok(lab_pool_give(&rig.party[2], shared));
        lab_assert_ok(lab_pool_give(&rig.party[0], shared));
        assert_int_equal(count_free(&rig), 10);
        assert_true(held != promised);
        rig_fini(&rig);
    }
}

/* The other side went between the look whether it is there and the store. */
static void what_was_passed_to_a_party_that_had_just_gone_is_found_when_it_is_needed(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 2));
    uint32_t block = take(&rig, 0);
    lab_assert_ok(lab_pool_pass(&rig.party[0], block, 1));
    uint64_t word = atomic_load(lab_pool_word(&rig.party[0], block));
    lab_pool_hangup(rig.memory, &rig.config, 1);
    atomic_store(lab_pool_word(&rig.party[0], block), word);
    assert_int_equal(count_free(&rig), 1);
    take(&rig, 0);
    assert_int_equal(take(&rig, 0), block);
    rig_fini(&rig);
}

static void what_was_promised_and_never_sent_is_settled(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 10));
    /* Sent and received; sent by another; passed and not sent. */
    uint32_t received = take(&rig, 0), other = take(&rig, 2), last = take(&rig, 0);
    lab_assert_ok(lab_pool_pass(&rig.party[0], received, 1));
    lab_assert_ok(lab_pool_accept(&rig.party[1], received));
    lab_assert_ok(lab_pool_pass(&rig.party[2], other, 1));
    lab_assert_ok(lab_pool_share(&rig.party[0], last, 0x12));
    lab_pool_hangup(rig.memory, &rig.config, 0);
    assert_int_equal(count_free(&rig), 7);
    lab_pool_settle(&rig.party[1], 0);
    assert_int_equal(count_free(&rig), 7);
    lab_pool_settle(&rig.party[3], 0);
    assert_int_equal(count_free(&rig), 7);
    lab_pool_settle(&rig.party[4], 0);
    assert_int_equal(count_free(&rig), 8);
    lab_assert_ok(lab_pool_accept(&rig.party[1], other));
    lab_assert_ok(lab_pool_give(&rig.party[1], other));
    lab_assert_ok(lab_pool_give(&rig.party[1], received));
    assert_int_equal(count_free(&rig), 10);
    rig_fini(&rig);
}

static void a_block_that_came_is_not_taken_away_by_settling(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 2));
    uint32_t block = take(&rig, 0);
    lab_assert_ok(lab_pool_pass(&rig.party[0], block, 1));
    lab_assert_ok(lab_pool_accept(&rig.party[1], block));
    lab_pool_hangup(rig.memory, &rig.config, 0);
    lab_pool_settle(&rig.party[1], 0);
    assert_int_equal(count_free(&rig), 1);
    lab_assert_ok(lab_pool_give(&rig.party[1], block));
    rig_fini(&rig);
}

/* The block had been passed by the dead one long ago; now it is on its way from another. */
static void a_promise_of_a_living_party_is_not_taken_away_by_settling(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 1));
    uint32_t block = take(&rig, 0);
    lab_assert_ok(lab_pool_pass(&rig.party[0], block, 1));
    lab_assert_ok(lab_pool_accept(&rig.party[1], block));
    lab_assert_ok(lab_pool_give(&rig.party[1], block));
    assert_int_equal(take(&rig, 2), block);
    lab_assert_ok(lab_pool_pass(&rig.party[2], block, 1));
    lab_pool_hangup(rig.memory, &rig.config, 0);
    lab_pool_settle(&rig.party[1], 0);
    lab_assert_ok(lab_pool_accept(&rig.party[1], block));
    rig_fini(&rig);
}

static void the_last_party_does_not_wait_for_others(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, config_of(64, 2));
    take(&rig, 0);
    uint32_t mine = take(&rig, 0), block;
    for (uint32_t seat = 1; seat < PARTIES - 1; seat++)
        lab_pool_hangup(rig.memory, &rig.config, seat);
    assert_int_equal(lab_pool_take(&rig.party[0], 0, &block), -EAGAIN);
    lab_pool_hangup(rig.memory, &rig.config, PARTIES - 1);
    lab_assert_fails(lab_pool_take(&rig.party[0], 0, &block), EPIPE);
    lab_assert_fails(lab_pool_take(&rig.party[0], lab_now_ns() + 3600 * LAB_NS_PER_S, &block), EPIPE);
    lab_assert_ok(lab_pool_give(&rig.party[0], mine));
    lab_assert_ok(lab_pool_take(&rig.party[0], 0, &block));
    rig_fini(&rig);
}

/* ---- a party that writes what cannot be ---- */

static void whatever_is_written_no_memory_outside_is_lent(void **state)
{
    (void)state;
    enum { TIMES = 100000 };
    struct rig rig;
    struct lab_pool_config config = config_of(64, 70);
    config.wait = LAB_WAIT_FUTEX;
    rig_init(&rig, config);
    uint64_t seed = 1, *words = (uint64_t *)(void *)rig.memory;
    uint32_t lent = 0, refused = 0;
    for (int i = 0; i < TIMES; i++) {
        /* Everything but the blocks, which no party relies on. */
        uint64_t value = (uint64_t)draw(&seed, UINT32_MAX) << 32 | draw(&seed, UINT32_MAX);
        words[draw(&seed, (uint32_t)(rig.shape.blocks_at / 8))] = draw(&seed, 3) ? value : draw(&seed, 2) ? value & 0x1f0000001f : 0;
        struct lab_pool_end *end = &rig.party[draw(&seed, PARTIES)];
        uint32_t block = draw(&seed, 4) ? draw(&seed, 70) : draw(&seed, UINT32_MAX);
        int err = 0;
        switch (draw(&seed, 6)) {
        case 0: err = lab_pool_take(end, 0, &block); break;
        case 1: err = lab_pool_pass(end, block, draw(&seed, PARTIES)); break;
        case 2: err = lab_pool_share(end, block, draw(&seed, 32)); break;
        case 3: err = lab_pool_accept(end, block); break;
        case 4: err = lab_pool_give(end, block); break;
        default: lab_pool_settle(end, draw(&seed, PARTIES)); continue;
        }
        if (err == 0) {
            memset(check_block(&rig, block), 1, rig.config.block_bytes);
            lent++;
        } else {
            assert_true(err == -EBADMSG || err == -EAGAIN || err == -EINVAL || err == -EPIPE || err == -EEXIST);
            refused++;
        }
        if (i % 1000 == 0)
            lab_pool_hangup(rig.memory, &rig.config, draw(&seed, PARTIES));
    }
    assert_true(lent > 100 && refused > 100);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_pool_cannot_be_is_refused),
        cmocka_unit_test(a_seat_is_attached_once_and_to_a_pool_of_its_config),
        cmocka_unit_test(blocks_do_not_overlap_and_every_one_can_be_had),
        cmocka_unit_test(a_block_that_was_given_back_can_be_taken_whatever_the_order),
        cmocka_unit_test(a_block_that_is_passed_changes_hands),
        cmocka_unit_test(a_block_of_several_readers_is_free_after_the_last),
        cmocka_unit_test(numbers_and_seats_that_are_not_there_are_refused),
        cmocka_unit_test(waiting_for_a_block_ends_at_the_deadline),
        cmocka_unit_test(random_operations_agree_with_a_model),
        cmocka_unit_test(what_a_dead_party_had_comes_back),
        cmocka_unit_test(what_was_passed_to_a_party_that_had_just_gone_is_found_when_it_is_needed),
        cmocka_unit_test(what_was_promised_and_never_sent_is_settled),
        cmocka_unit_test(a_block_that_came_is_not_taken_away_by_settling),
        cmocka_unit_test(a_promise_of_a_living_party_is_not_taken_away_by_settling),
        cmocka_unit_test(the_last_party_does_not_wait_for_others),
        cmocka_unit_test(whatever_is_written_no_memory_outside_is_lent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
