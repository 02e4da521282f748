/* Fibers: what a switch keeps, in which order they run, and what a wait does in one. */
#include "base/fiber.h"

#include "shm/wait.h"
#include "tests/check.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 1000 };

static struct lab_fibers *fibers_of(uint32_t count, void (*body)(void *), void *arguments, size_t size)
{
    struct lab_fibers *fibers;
    lab_assert_ok(lab_fibers_new(count, &fibers));
    for (uint32_t i = 0; i < count; i++)
        lab_fibers_add(fibers, body, (char *)arguments + i * size);
    return fibers;
}

/* ---- order ---- */

struct talker {
    char name;
    uint32_t times;
};

static char said[64];

static void say(void *argument)
{
    const struct talker *talker = argument;
    for (uint32_t i = 0; i < talker->times; i++) {
        strncat(said, &talker->name, 1);
        lab_fiber_yield();
    }
}

static void fibers_take_turns_in_order_until_each_has_ended(void **state)
{
    (void)state;
    struct talker talkers[] = {{'a', 3}, {'b', 1}, {'c', 5}, {'d', 0}, {'e', 2}};
    said[0] = '\0';
    struct lab_fibers *fibers = fibers_of(5, say, talkers, sizeof talkers[0]);
    lab_fibers_run(fibers);
    assert_string_equal(said, "abceaceaccc");
    lab_fibers_run(fibers); /* nobody is left */
    lab_fibers_free(fibers);
}

static void there_is_nobody_to_yield_to_outside_of_fibers_and_alone(void **state)
{
    (void)state;
    assert_false(lab_fiber_yield());
    struct talker talker = {'x', 3};
    said[0] = '\0';
    struct lab_fibers *fibers = fibers_of(1, say, &talker, 0);
    uint64_t before = lab_fiber_switches();
    lab_fibers_run(fibers);
    assert_string_equal(said, "xxx");
    assert_int_equal(lab_fiber_switches(), before);
    lab_fibers_free(fibers);
    lab_fibers_free(NULL);
}

/* ---- what a switch keeps ---- */

struct sum {
    uint64_t seed, sum;
    double real;
};

/* More values alive across the switch than there are registers that a call preserves. */
static void add_up(void *argument)
{
    struct sum *sum = argument;
    uint64_t a = sum->seed, b = a + 1, c = a + 2, d = a + 3, e = a + 4, f = a + 5, g = a + 6, h = a + 7;
    double x = (double)a, y = x / 2, z = x / 4;
    for (int i = 0; i < 1000; i++) {
        lab_fiber_yield();
        a += b, b += c, c += d, d += e, e += f, f += g, g += h, h += a;
        x += y, y += z, z += 1;
    }
    sum->sum = a ^ b ^ c ^ d ^ e ^ f ^ g ^ h;
    sum->real = x + y + z;
}

static void a_switch_keeps_what_a_call_preserves(void **state)
{
    (void)state;
    struct sum alone[7] = {0}, together[7] = {0};
    for (uint64_t i = 0; i < 7; i++) {
        alone[i].seed = together[i].seed = i * 1000003;
        add_up(&alone[i]);
    }
    struct lab_fibers *fibers = fibers_of(7, add_up, together, sizeof together[0]);
    lab_fibers_run(fibers);
    lab_fibers_free(fibers);
    assert_memory_equal(alone, together, sizeof alone);
}

static uint32_t dig(uint32_t depth)
{
    volatile unsigned char room[512];
    memset((void *)(uintptr_t)room, (int)depth, sizeof room);
    lab_fiber_yield();
    uint32_t below = depth ? dig(depth - 1) : 0;
    return below + room[depth % sizeof room];
}

static void dig_deep(void *argument)
{
    *(uint32_t *)argument = dig(100);
}

static void every_fiber_has_a_stack_of_its_own(void **state)
{
    (void)state;
    uint32_t found[3], wanted = dig(100);
    struct lab_fibers *fibers = fibers_of(3, dig_deep, found, sizeof found[0]);
    lab_fibers_run(fibers);
    lab_fibers_free(fibers);
    for (int i = 0; i < 3; i++)
        assert_int_equal(found[i], wanted);
}

static void fall(void *argument)
{
    *(uint32_t *)argument = dig(1 << 20);
}

static void a_stack_that_is_too_small_ends_the_process_and_harms_no_other(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0};
        setrlimit(RLIMIT_CORE, &none);
        close(STDERR_FILENO); /* what a sanitizer has to say of it is expected */
        uint32_t found;
        lab_fibers_run(fibers_of(1, fall, &found, 0));
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

/* ---- many, and on many threads ---- */

static uint32_t turn;

static void pass_on(void *argument)
{
    uint32_t self = *(uint32_t *)argument;
    for (uint32_t round = 0; round < 10; round++) {
        while (turn % MOST != self)
            lab_fiber_yield();
        turn++;
    }
}

static void a_thousand_pass_a_token_round(void **state)
{
    (void)state;
    static uint32_t numbers[MOST];
    for (uint32_t i = 0; i < MOST; i++)
        numbers[i] = i;
    struct lab_fibers *fibers = fibers_of(MOST, pass_on, numbers, sizeof numbers[0]);
    uint64_t before = lab_fiber_switches();
    lab_fibers_run(fibers);
    assert_int_equal(turn, 10 * MOST);
    assert_true(lab_fiber_switches() - before >= 9 * MOST); /* in the last round they end */
    lab_fibers_free(fibers);
}

static void *run_some(void *argument)
{
    struct sum sums[3] = {{.seed = 1}, {.seed = 2}, {.seed = 3}};
    struct lab_fibers *fibers = fibers_of(3, add_up, sums, sizeof sums[0]);
    lab_fibers_run(fibers);
    lab_fibers_free(fibers);
    *(uint64_t *)argument = sums[0].sum + sums[1].sum + sums[2].sum;
    return NULL;
}

static void threads_have_fibers_of_their_own(void **state)
{
    (void)state;
    pthread_t threads[4];
    uint64_t sums[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_some, &sums[i]), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 1; i < 4; i++)
        assert_int_equal(sums[i], sums[0]);
}

/* ---- waiting ---- */

struct side {
    _Atomic uint32_t *mine, *theirs;
    uint32_t wanted;
    int err;
};

static bool has_come(void *argument)
{
    const struct side *side = argument;
    return atomic_load_explicit(side->theirs, memory_order_acquire) >= side->wanted;
}

static _Atomic uint32_t gone;

static void play(void *argument)
{
    struct side *side = argument;
    struct lab_wait_plan plan = lab_wait_plan(LAB_WAIT_YIELD);
    for (uint32_t i = 1; i <= 10000 && !side->err; i++) {
        atomic_store_explicit(side->mine, i, memory_order_release);
        side->wanted = i;
        side->err = lab_wait_until(&plan, has_come, side, NULL, &gone, lab_now_ns() + 60 * LAB_NS_PER_S);
    }
}

/* On one thread: a wait that did anything but let the other run would never end. */
static void a_wait_that_yields_lets_the_next_fiber_run(void **state)
{
    (void)state;
    _Atomic uint32_t words[2] = {0};
    struct side sides[2] = {{.mine = &words[0], .theirs = &words[1]}, {.mine = &words[1], .theirs = &words[0]}};
    struct lab_fibers *fibers = fibers_of(2, play, sides, sizeof sides[0]);
    lab_fibers_run(fibers);
    lab_fibers_free(fibers);
    assert_int_equal(sides[0].err, 0);
    assert_int_equal(sides[1].err, 0);
    assert_int_equal(words[0], 10000);
    assert_int_equal(words[1], 10000);
}

static void wait_in_vain(void *argument)
{
    struct side *side = argument;
    struct lab_wait_plan plan = lab_wait_plan(LAB_WAIT_YIELD);
    side->err = lab_wait_until(&plan, has_come, side, NULL, &gone, lab_now_ns() + 20 * LAB_NS_PER_MS);
}

static void deadlines_hold_in_fibers(void **state)
{
    (void)state;
    _Atomic uint32_t word = 0;
    struct side sides[2] = {{.theirs = &word, .wanted = 1}, {.theirs = &word, .wanted = 1}};
    struct lab_fibers *fibers = fibers_of(2, wait_in_vain, sides, sizeof sides[0]);
    lab_fibers_run(fibers);
    lab_fibers_free(fibers);
    assert_int_equal(sides[0].err, -EAGAIN);
    assert_int_equal(sides[1].err, -EAGAIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fibers_take_turns_in_order_until_each_has_ended),
        cmocka_unit_test(there_is_nobody_to_yield_to_outside_of_fibers_and_alone),
        cmocka_unit_test(a_switch_keeps_what_a_call_preserves),
        cmocka_unit_test(every_fiber_has_a_stack_of_its_own),
        cmocka_unit_test(a_stack_that_is_too_small_ends_the_process_and_harms_no_other),
        cmocka_unit_test(a_thousand_pass_a_token_round),
        cmocka_unit_test(threads_have_fibers_of_their_own),
        cmocka_unit_test(a_wait_that_yields_lets_the_next_fiber_run),
        cmocka_unit_test(deadlines_hold_in_fibers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
