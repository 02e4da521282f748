#include "tests/check.h"

#include "base/clock.h"
#include "shm/probe.h"
#include "shm/wait.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

/* A word that one side raises and the other waits for. */
struct flagpole {
    _Alignas(128) _Atomic uint64_t raised;
    _Alignas(128) struct lab_sleeper sleeper;
    _Alignas(128) _Atomic uint32_t gone;
    uint64_t wanted;
    uint64_t looks;
};

static const enum lab_wait kinds[] = {LAB_WAIT_SPIN, LAB_WAIT_YIELD, LAB_WAIT_ADAPTIVE, LAB_WAIT_FUTEX, LAB_WAIT_POLL};
enum { KINDS = sizeof kinds / sizeof *kinds };

static bool is_raised(void *subject)
{
    struct flagpole *pole = subject;
    pole->looks++;
    return atomic_load_explicit(&pole->raised, memory_order_acquire) >= pole->wanted;
}

/* Of either side, for LAB_WAIT_POLL. */
static struct lab_bells bells[2];

static struct lab_wait_plan plan_of(enum lab_wait wait, int side)
{
    struct lab_wait_plan plan = lab_wait_plan(wait);
    plan.bells = bells[side];
    return plan;
}

static int await_as(int side, struct flagpole *pole, enum lab_wait wait, uint64_t deadline_ns)
{
    struct lab_wait_plan plan = plan_of(wait, side);
    return lab_wait_until(&plan, is_raised, pole, &pole->sleeper, &pole->gone, deadline_ns);
}

static int await(struct flagpole *pole, enum lab_wait wait, uint64_t deadline_ns)
{
    return await_as(0, pole, wait, deadline_ns);
}

static void every_wait_has_a_name_that_finds_it(void **state)
{
    (void)state;
    for (enum lab_wait wait = 0; wait < LAB_WAITS; wait++) {
        enum lab_wait found = LAB_WAITS;
        lab_assert_ok(lab_wait_named(lab_wait_name(wait), &found));
        assert_int_equal(found, wait);
        assert_true(strlen(lab_wait_summary(wait)) > 10);
    }
    assert_null(lab_wait_name(LAB_WAITS));
    assert_null(lab_wait_summary(LAB_WAITS));
    enum lab_wait untouched = LAB_WAIT_FUTEX;
    lab_assert_fails(lab_wait_named("spinn", &untouched), EINVAL);
    assert_int_equal(untouched, LAB_WAIT_FUTEX);
}

static void only_those_that_may_sleep_ask_to_be_woken(void **state)
{
    (void)state;
    assert_false(lab_wait_plan(LAB_WAIT_SPIN).sleeps);
    assert_false(lab_wait_plan(LAB_WAIT_YIELD).sleeps);
    assert_true(lab_wait_plan(LAB_WAIT_ADAPTIVE).sleeps);
    assert_true(lab_wait_plan(LAB_WAIT_FUTEX).sleeps);
    assert_true(lab_wait_plan(LAB_WAIT_POLL).sleeps);
}

static void a_condition_that_holds_is_not_waited_for(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct flagpole pole = {.raised = 1, .wanted = 1};
        assert_int_equal(await(&pole, kinds[k], 0), 0);
        assert_int_equal(pole.looks, 1);
        pole.gone = 1;
        assert_int_equal(await(&pole, kinds[k], 0), 0);
    }
}

static void a_deadline_of_nought_is_one_try(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct flagpole pole = {.wanted = 1};
        assert_int_equal(await(&pole, kinds[k], 0), -EAGAIN);
        assert_int_equal(pole.looks, 1);
        assert_int_equal(pole.sleeper.asleep, 0);
    }
}

static void the_deadline_ends_a_wait_and_never_before_its_time(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct flagpole pole = {.wanted = 1};
        uint64_t deadline_ns = lab_now_ns() + 3 * LAB_NS_PER_MS;
        assert_int_equal(await(&pole, kinds[k], deadline_ns), -EAGAIN);
        assert_true(lab_now_ns() >= deadline_ns);
        assert_int_equal(pole.sleeper.asleep, 0);
    }
}

static void who_polls_looks_many_times_between_two_readings_of_the_clock(void **state)
{
    (void)state;
    struct flagpole pole = {.wanted = 1};
    struct lab_wait_plan plan = lab_wait_plan(LAB_WAIT_SPIN);
    /* The deadline has passed already: what was looked at until it was noticed is one reading's worth. */
    assert_int_equal(lab_wait_until(&plan, is_raised, &pole, NULL, &pole.gone, 1), -EAGAIN);
    assert_int_equal(pole.looks, LAB_WAIT_POLLS);
}

static void a_peer_that_is_gone_ends_a_wait(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct flagpole pole = {.wanted = 1, .gone = 1};
        assert_int_equal(await(&pole, kinds[k], lab_now_ns() + 10 * LAB_NS_PER_S), -EPIPE);
        assert_int_equal(pole.sleeper.asleep, 0);
    }
}

/* The peer raises the flag and goes, between the waiter's look and its look at `gone`. */
static bool raised_by_then(void *subject)
{
    struct flagpole *pole = subject;
    return ++pole->looks > pole->wanted;
}

static void what_the_peer_did_before_it_went_is_seen(void **state)
{
    (void)state;
    struct flagpole pole = {.wanted = 1, .gone = 1};
    struct lab_wait_plan plan = lab_wait_plan(LAB_WAIT_YIELD);
    assert_int_equal(lab_wait_until(&plan, raised_by_then, &pole, NULL, &pole.gone, lab_now_ns() + LAB_NS_PER_S), 0);
    assert_int_equal(pole.looks, 2);
}

/* ---- two threads: no wake-up is lost ---- */

enum { ROUNDS = 20000 };

struct pair {
    struct flagpole there, back;
    enum lab_wait wait;
    uint64_t deadline_ns;
    int err;
};

static void raise_flag(int side, struct flagpole *pole, enum lab_wait wait, uint64_t to)
{
    struct lab_wait_plan plan = plan_of(wait, side);
    atomic_store_explicit(&pole->raised, to, memory_order_release);
    lab_wait_wake_by(&plan, &pole->sleeper);
}

static void *answers(void *subject)
{
    struct pair *pair = subject;
    for (uint64_t i = 1; i <= ROUNDS && !pair->err; i++) {
        pair->there.wanted = i;
        pair->err = await_as(1, &pair->there, pair->wait, pair->deadline_ns);
        raise_flag(1, &pair->back, pair->wait, i);
    }
    return NULL;
}

/* One lost wake-up costs a slice of sleep; with 20,000 exchanges inside the deadline there can be only few. */
static void no_wake_up_is_lost(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct pair pair = {.wait = kinds[k], .deadline_ns = lab_now_ns() + 60 * LAB_NS_PER_S};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, answers, &pair), 0);
        int err = 0;
        for (uint64_t i = 1; i <= ROUNDS && !err; i++) {
            raise_flag(0, &pair.there, pair.wait, i);
            pair.back.wanted = i;
            err = await(&pair.back, pair.wait, pair.deadline_ns);
        }
        pthread_join(thread, NULL);
        assert_int_equal(err, 0);
        assert_int_equal(pair.err, 0);
    }
}

/* A waker that died before it could wake: the condition is true, nobody will call. */
static void *raises_without_waking(void *subject)
{
    struct flagpole *pole = subject;
    while (!atomic_load_explicit(&pole->sleeper.asleep, memory_order_relaxed))
        lab_wait_pause();
    atomic_store_explicit(&pole->raised, 1, memory_order_release);
    return NULL;
}

static void a_waker_that_died_costs_a_slice_and_not_the_deadline(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct flagpole pole = {.wanted = 1};
        pthread_t thread;
        if (!lab_wait_plan(kinds[k]).sleeps)
            continue;
        assert_int_equal(pthread_create(&thread, NULL, raises_without_waking, &pole), 0);
        assert_int_equal(await(&pole, kinds[k], lab_now_ns() + 3600 * LAB_NS_PER_S), 0);
        pthread_join(thread, NULL);
    }
}

/* ---- adaptive ---- */

static int pin_to_one_cpu(cpu_set_t *ret_before)
{
    int cpu = sched_getcpu();
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one);
    assert_int_equal(sched_getaffinity(0, sizeof *ret_before, ret_before), 0);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    return cpu;
}

/* The deadline has passed: what was looked at until it was noticed is all that was polled. */
static uint64_t looks_of(struct flagpole *pole, const struct lab_wait_plan *plan)
{
    pole->looks = 0;
    assert_int_equal(lab_wait_until(plan, is_raised, pole, &pole->sleeper, &pole->gone, 1), -EAGAIN);
    return pole->looks;
}

static void who_was_woken_from_its_own_cpu_does_not_poll(void **state)
{
    (void)state;
    cpu_set_t before;
    int cpu = pin_to_one_cpu(&before);
    struct flagpole pole = {.wanted = 1};
    struct lab_wait_plan plan = plan_of(LAB_WAIT_ADAPTIVE, 0);
    assert_int_equal(looks_of(&pole, &plan), plan.polls);
    assert_true(lab_wait_arm(&pole.sleeper, is_raised, &pole, &pole.gone));
    lab_wait_wake(&pole.sleeper);
    assert_int_equal(pole.sleeper.woken_from, cpu + 1);
    assert_int_equal(looks_of(&pole, &plan), 1);
    pole.sleeper.woken_from = (uint32_t)cpu + 2; /* another cpu */
    assert_int_equal(looks_of(&pole, &plan), plan.polls);
    pole.sleeper.woken_from = UINT32_MAX; /* nonsense of a hostile peer */
    assert_int_equal(looks_of(&pole, &plan), plan.polls);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

/* Belief has an end, so that a peer that went to another cpu is not yielded to for ever. */
static void where_it_was_woken_from_is_found_out_anew_now_and_then(void **state)
{
    (void)state;
    cpu_set_t before;
    struct flagpole pole = {.wanted = 1};
    struct lab_wait_plan plan = plan_of(LAB_WAIT_ADAPTIVE, 0);
    pole.sleeper.woken_from = (uint32_t)pin_to_one_cpu(&before) + 1;
    uint32_t believed = 0;
    while (looks_of(&pole, &plan) == 1 && believed < 100000)
        believed++;
    assert_true(believed < 100000);
    assert_int_equal(pole.sleeper.woken_from, 0);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void thresholds_of_ones_own_are_kept(void **state)
{
    (void)state;
    struct flagpole pole = {.wanted = 1};
    struct lab_wait_plan plan = plan_of(LAB_WAIT_FUTEX, 0);
    plan.polls = 7;
    assert_int_equal(looks_of(&pole, &plan), 7);
    struct lab_wait_state steps = {.polls = plan.polls};
    plan.yields = 2;
    uint64_t later = lab_now_ns() + 3600 * LAB_NS_PER_S;
    assert_int_equal(lab_wait_step(&plan, &steps, &pole.sleeper, later), 0);
    assert_int_equal(lab_wait_step(&plan, &steps, &pole.sleeper, later), 0);
    assert_int_equal(lab_wait_step(&plan, &steps, &pole.sleeper, later), 1);
}

static int make_bells(void **state)
{
    (void)state;
    return lab_bells_make(bells);
}

static int close_bells(void **state)
{
    (void)state;
    lab_bells_close(&bells[0]);
    lab_bells_close(&bells[1]);
    return 0;
}

/* ---- the probe ---- */

static void *follows(void *probe)
{
    for (int i = 0; i < 3; i++)
        if (lab_probe_follow(probe, 33, lab_now_ns() + 20 * LAB_NS_PER_S))
            return probe;
    return NULL;
}

static void a_probe_can_be_used_again_and_again(void **state)
{
    (void)state;
    struct lab_probe probe = {0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, follows, &probe), 0);
    for (int i = 0; i < 3; i++) {
        double handoff_ns = -1;
        lab_assert_ok(lab_probe_lead(&probe, 33, lab_now_ns() + 20 * LAB_NS_PER_S, &handoff_ns));
        assert_true(handoff_ns >= 0);
    }
    void *failed;
    pthread_join(thread, &failed);
    assert_null(failed);
}

static void a_probe_without_a_partner_ends_at_its_deadline(void **state)
{
    (void)state;
    struct lab_probe leading = {0}, following = {0};
    double handoff_ns = -1;
    assert_int_equal(lab_probe_lead(&leading, 4, lab_now_ns() + LAB_NS_PER_MS, &handoff_ns), -EAGAIN);
    assert_true(handoff_ns < 0);
    assert_int_equal(lab_probe_follow(&following, 4, lab_now_ns() + LAB_NS_PER_MS), -EAGAIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_wait_has_a_name_that_finds_it),
        cmocka_unit_test(only_those_that_may_sleep_ask_to_be_woken),
        cmocka_unit_test(a_condition_that_holds_is_not_waited_for),
        cmocka_unit_test(a_deadline_of_nought_is_one_try),
        cmocka_unit_test(the_deadline_ends_a_wait_and_never_before_its_time),
        cmocka_unit_test(who_polls_looks_many_times_between_two_readings_of_the_clock),
        cmocka_unit_test(a_peer_that_is_gone_ends_a_wait),
        cmocka_unit_test(what_the_peer_did_before_it_went_is_seen),
        cmocka_unit_test(no_wake_up_is_lost),
        cmocka_unit_test(a_waker_that_died_costs_a_slice_and_not_the_deadline),
        cmocka_unit_test(who_was_woken_from_its_own_cpu_does_not_poll),
        cmocka_unit_test(where_it_was_woken_from_is_found_out_anew_now_and_then),
        cmocka_unit_test(thresholds_of_ones_own_are_kept),
        cmocka_unit_test(a_probe_can_be_used_again_and_again),
        cmocka_unit_test(a_probe_without_a_partner_ends_at_its_deadline),
    };
    return cmocka_run_group_tests(tests, make_bells, close_bells);
}
