/* Which cell comes next, and for how long: on a clock of our own, so that every second of a budget is simulated. */
#include "base/clock.h"
#include "launcher/schedule.h"
#include "tests/check.h"

#include <string.h>

enum { CELLS_MAX = 200 };

/* A machine whose launches take what they were given and this much beyond. */
struct world {
    struct lab_schedule *schedule;
    uint64_t overhead_ns[CELLS_MAX], real_overhead_ns, now_ns, began_ns;
    uint32_t launches[CELLS_MAX], asked[CELLS_MAX];
    size_t cells, turns;
    bool is_precise[CELLS_MAX];
};

static bool is_precise(void *context, size_t cell)
{
    struct world *world = context;
    world->asked[cell]++;
    return world->is_precise[cell];
}

static void begin(struct world *world, size_t cells, uint32_t launches, uint64_t budget_ns, uint64_t seed)
{
    *world = (struct world){.cells = cells, .now_ns = 5 * LAB_NS_PER_S, .began_ns = 5 * LAB_NS_PER_S, .real_overhead_ns = 8 * LAB_NS_PER_MS};
    for (size_t i = 0; i < cells; i++)
        world->overhead_ns[i] = 8 * LAB_NS_PER_MS;
    const struct lab_schedule_spec spec = {
        .cells = cells, .overhead_ns = world->overhead_ns, .launches = launches, .budget_ns = budget_ns, .seed = seed,
        .precise = is_precise, .context = world,
    };
    lab_assert_ok(lab_schedule_new(&spec, &world->schedule));
}

static bool step(struct world *world, struct lab_turn *ret_turn)
{
    if (!lab_schedule_next(world->schedule, world->now_ns, ret_turn))
        return false;
    assert_true(ret_turn->cell < world->cells);
    world->launches[ret_turn->cell]++;
    world->turns++;
    world->now_ns += ret_turn->warmup_ns + ret_turn->measure_ns + world->real_overhead_ns;
    lab_schedule_done(world->schedule, ret_turn->cell, world->real_overhead_ns, false);
    return true;
}

static void run_to_the_end(struct world *world)
{
    enum { ENDLESS = 1000 * 1000 };
    struct lab_turn turn;
    while (step(world, &turn))
        assert_true(world->turns < ENDLESS);
}

static uint64_t taken_ns(const struct world *world)
{
    return world->now_ns - world->began_ns;
}

static void every_round_launches_every_cell_once(void **state)
{
    (void)state;
    enum { CELLS = 13, ROUNDS = 9 };
    struct world world;
    begin(&world, CELLS, 10, 60 * LAB_NS_PER_S, 7);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        bool seen[CELLS] = {false};
        for (size_t i = 0; i < CELLS; i++) {
            struct lab_turn turn;
            assert_true(step(&world, &turn));
            assert_int_equal(turn.round, round);
            assert_false(seen[turn.cell]);
            seen[turn.cell] = true;
        }
    }
    lab_schedule_free(world.schedule);
}

static void write_order(uint64_t seed, size_t to[64])
{
    struct world world;
    begin(&world, 16, 10, 60 * LAB_NS_PER_S, seed);
    for (size_t i = 0; i < 64; i++) {
        struct lab_turn turn;
        assert_true(step(&world, &turn));
        to[i] = turn.cell;
    }
    lab_schedule_free(world.schedule);
}

static void the_order_follows_from_the_seed_and_differs_from_round_to_round(void **state)
{
    (void)state;
    size_t once[64], again[64], other[64];
    write_order(1, once);
    write_order(1, again);
    write_order(2, other);
    assert_memory_equal(once, again, sizeof once);
    assert_memory_not_equal(once, other, sizeof once);
    assert_memory_not_equal(once, once + 16, 16 * sizeof *once);
    assert_memory_not_equal(once + 16, once + 32, 16 * sizeof *once);
}

static void a_budget_is_not_overrun(void **state)
{
    (void)state;
    const uint64_t budgets_s[] = {5, 20, 60, 120};
    for (size_t b = 0; b < sizeof budgets_s / sizeof *budgets_s; b++) {
        struct world world;
        uint64_t budget_ns = budgets_s[b] * LAB_NS_PER_S;
        begin(&world, 110, 10, budget_ns, 3);
        run_to_the_end(&world);
        assert_string_equal(lab_schedule_ended_by(world.schedule), "budget");
        /* The last launch may warm up for longer than the half that is expected of it. */
        assert_true(taken_ns(&world) < budget_ns + budget_ns / 50);
        lab_schedule_free(world.schedule);
    }
}

static void the_launches_asked_for_fit_into_the_budget(void **state)
{
    (void)state;
    struct world world;
    begin(&world, 110, 10, 60 * LAB_NS_PER_S, 3);
    run_to_the_end(&world);
    for (size_t i = 0; i < world.cells; i++)
        assert_true(world.launches[i] >= 10);
    lab_schedule_free(world.schedule);
}

static void launches_that_cost_more_than_guessed_are_made_shorter(void **state)
{
    (void)state;
    struct world world;
    begin(&world, 50, 10, 60 * LAB_NS_PER_S, 3);
    world.real_overhead_ns = 60 * LAB_NS_PER_MS;
    struct lab_turn first, turn = {0};
    assert_true(step(&world, &first));
    for (size_t i = 1; i < 5 * world.cells; i++)
        assert_true(step(&world, &turn));
    assert_true(turn.measure_ns < first.measure_ns);
    run_to_the_end(&world);
    for (size_t i = 0; i < world.cells; i++)
        assert_true(world.launches[i] >= 10);
    assert_true(taken_ns(&world) < 62 * LAB_NS_PER_S);
    lab_schedule_free(world.schedule);
}

static void a_budget_too_small_for_all_launches_still_gives_every_cell_one(void **state)
{
    (void)state;
    struct world world;
    begin(&world, 110, 10, LAB_NS_PER_S, 3);
    run_to_the_end(&world);
    for (size_t i = 0; i < world.cells; i++)
        assert_int_equal(world.launches[i], 1);
    assert_string_equal(lab_schedule_ended_by(world.schedule), "budget");
    lab_schedule_free(world.schedule);
}

static void a_launch_measures_within_bounds_and_in_ten_windows(void **state)
{
    (void)state;
    const struct { size_t cells; uint64_t budget_ns; } cases[] = {
        {1, 600 * LAB_NS_PER_S}, {1, LAB_NS_PER_MS}, {30, 10 * LAB_NS_PER_S}, {200, LAB_NS_PER_S},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct world world;
        begin(&world, cases[c].cells, 10, cases[c].budget_ns, 3);
        struct lab_turn turn;
        for (size_t i = 0; i < cases[c].cells && step(&world, &turn); i++) {
            assert_in_range(turn.measure_ns, 3 * LAB_NS_PER_MS, 500 * LAB_NS_PER_MS);
            assert_in_range(turn.warmup_ns, LAB_NS_PER_MS, 200 * LAB_NS_PER_MS);
            assert_int_equal(turn.window_ns, turn.measure_ns / 10);
        }
        assert_true(world.turns > 0);
        lab_schedule_free(world.schedule);
    }
}

static void cells_that_are_precise_stop_at_the_launches_asked_for_and_the_others_go_on(void **state)
{
    (void)state;
    struct world world;
    begin(&world, 4, 10, 120 * LAB_NS_PER_S, 3);
    world.is_precise[0] = world.is_precise[1] = world.is_precise[2] = true;
    run_to_the_end(&world);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(world.launches[i], 10);
        assert_int_equal(world.asked[i], 1);
    }
    assert_true(world.launches[3] > 40);
    /* 10, 20, 40, ...: a figure that is looked at after every launch until it pleases is no honest figure. */
    assert_in_range(world.asked[3], 3, 8);
    assert_string_equal(lab_schedule_ended_by(world.schedule), "budget");
    lab_schedule_free(world.schedule);
}

static void a_run_ends_when_all_cells_are_precise(void **state)
{
    (void)state;
    struct world world;
    begin(&world, 4, 10, 120 * LAB_NS_PER_S, 3);
    memset(world.is_precise, true, sizeof world.is_precise);
    run_to_the_end(&world);
    assert_int_equal(world.turns, 40);
    assert_string_equal(lab_schedule_ended_by(world.schedule), "precision");
    struct lab_turn turn;
    assert_false(lab_schedule_next(world.schedule, world.now_ns, &turn));
    lab_schedule_free(world.schedule);
}

/* One failure may be the machine's; a second one is the cell's. */
static void a_cell_that_failed_twice_is_not_launched_again(void **state)
{
    (void)state;
    struct world world;
    begin(&world, 5, 10, 20 * LAB_NS_PER_S, 3);
    const size_t broken = 2, shaken = 4;
    uint32_t launches[5] = {0};
    struct lab_turn turn;
    while (lab_schedule_next(world.schedule, world.now_ns, &turn)) {
        bool failed = turn.cell == broken || (turn.cell == shaken && launches[shaken] == 0);
        launches[turn.cell]++;
        world.now_ns += turn.measure_ns + LAB_NS_PER_MS;
        lab_schedule_done(world.schedule, turn.cell, LAB_NS_PER_MS, failed);
    }
    for (size_t i = 0; i < 5; i++)
        assert_true(i == broken ? launches[i] == 2 : launches[i] >= 10);
    assert_int_equal(world.asked[broken], 0);
    lab_schedule_free(world.schedule);
}

static void a_run_whose_cells_all_failed_ends(void **state)
{
    (void)state;
    struct world world;
    begin(&world, 3, 10, 20 * LAB_NS_PER_S, 3);
    struct lab_turn turn;
    for (int i = 0; i < 6; i++) {
        assert_true(lab_schedule_next(world.schedule, world.now_ns, &turn));
        lab_schedule_done(world.schedule, turn.cell, LAB_NS_PER_MS, true);
    }
    assert_false(lab_schedule_next(world.schedule, world.now_ns, &turn));
    assert_string_equal(lab_schedule_ended_by(world.schedule), "failed");
    lab_schedule_free(world.schedule);
}

static void the_fraction_grows_from_nothing_to_all(void **state)
{
    (void)state;
    struct world world;
    begin(&world, 20, 10, 10 * LAB_NS_PER_S, 3);
    assert_true(lab_schedule_fraction(world.schedule, world.now_ns) <= 0);
    struct lab_turn turn;
    double before = 0;
    while (step(&world, &turn)) {
        double fraction = lab_schedule_fraction(world.schedule, world.now_ns);
        assert_true(fraction >= before && fraction <= 1);
        before = fraction;
    }
    assert_true(before > 0.9);
    lab_schedule_free(world.schedule);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_round_launches_every_cell_once),
        cmocka_unit_test(the_order_follows_from_the_seed_and_differs_from_round_to_round),
        cmocka_unit_test(a_budget_is_not_overrun),
        cmocka_unit_test(the_launches_asked_for_fit_into_the_budget),
        cmocka_unit_test(launches_that_cost_more_than_guessed_are_made_shorter),
        cmocka_unit_test(a_budget_too_small_for_all_launches_still_gives_every_cell_one),
        cmocka_unit_test(a_launch_measures_within_bounds_and_in_ten_windows),
        cmocka_unit_test(cells_that_are_precise_stop_at_the_launches_asked_for_and_the_others_go_on),
        cmocka_unit_test(a_run_ends_when_all_cells_are_precise),
        cmocka_unit_test(a_cell_that_failed_twice_is_not_launched_again),
        cmocka_unit_test(a_run_whose_cells_all_failed_ends),
        cmocka_unit_test(the_fraction_grows_from_nothing_to_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
