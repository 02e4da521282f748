/* System calls are counted, one by one: a child is stopped by ptrace(2) at each that it makes between two marks, while it passes
 * messages through a ring with a partner that runs freely. What must be none is none, and what must be one is one. */
#include "tests/check.h"

#include "base/clock.h"
#include "shm/ring.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MESSAGES = 5000, WITHIN_S = 60, MARK = SYS_getppid };

/* ---- counting ---- */

typedef bool part(void *subject);

static _Noreturn void be_traced(part *play, void *subject)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(2);
    raise(SIGSTOP);
    syscall(MARK);
    bool well = play(subject);
    syscall(MARK);
    _exit(well ? 0 : 1);
}

/* The number of the system call that a stopped child is about to make; -1: it stopped for another reason. */
static long long call_of(pid_t pid, int status)
{
    struct __ptrace_syscall_info info;
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80) ||
        ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) < 0 || info.op != PTRACE_SYSCALL_INFO_ENTRY)
        return -1;
    return (long long)info.entry.nr;
}

/* System calls that `play` made. Fails the test if it did not end well; -1: this process may trace nobody. */
static long count_calls(part *play, void *subject)
{
    fflush(NULL);
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        be_traced(play, subject);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
        return -1;
    assert_int_equal(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), 0);
    long count = 0;
    for (int marks = 0; !WIFEXITED(status) && !WIFSIGNALED(status);) {
        assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        long long call = call_of(pid, status);
        marks += call == MARK;
        count += call >= 0 && call != MARK && marks == 1;
    }
    assert_int_equal(status, 0);
    return count;
}

static bool asks_who_it_is(void *subject)
{
    for (int i = 0; i < *(int *)subject; i++)
        syscall(SYS_getuid);
    return true;
}

static bool reads_the_clock(void *subject)
{
    (void)subject;
    return lab_now_ns() != 0;
}

static void what_is_counted_is_what_was_called(void **state)
{
    (void)state;
    for (int calls = 0; calls < 8; calls += 7)
        assert_int_equal(count_calls(asks_who_it_is, &calls), calls);
}

/* ---- a ring ---- */

struct stage {
    struct lab_ring_config config;
    struct lab_ring_shape shape;
    void *memory;
    struct lab_bells bells[2];
    bool sleepless; /* nobody waits in the ring: who finds nothing asks again */
    uint64_t deadline_ns;
};

static void stage_init(struct stage *stage, enum lab_wait wait, uint32_t window, bool sleepless)
{
    *stage = (struct stage){.config = {.message_max = 64, .window = window, .batch = 1, .wait = wait}, .sleepless = sleepless};
    lab_assert_ok(lab_bells_make(stage->bells));
    lab_assert_ok(lab_ring_shape(&stage->config, &stage->shape));
    stage->memory = mmap(NULL, stage->shape.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    assert_true(stage->memory != MAP_FAILED);
    lab_ring_init(stage->memory, &stage->config, &stage->shape);
    stage->deadline_ns = lab_now_ns() + WITHIN_S * LAB_NS_PER_S;
}

static void stage_fini(struct stage *stage)
{
    munmap(stage->memory, stage->shape.size);
    lab_bells_close(&stage->bells[0]);
    lab_bells_close(&stage->bells[1]);
}

static bool attach(const struct stage *stage, struct lab_ring_producer *producer, struct lab_ring_consumer *consumer)
{
    struct lab_ring_config config = stage->config;
    config.bells = stage->bells[LAB_RING_PRODUCER];
    if (producer && lab_ring_produce(producer, stage->memory, stage->shape.size, &config))
        return false;
    config.bells = stage->bells[LAB_RING_CONSUMER];
    return !consumer || !lab_ring_consume(consumer, stage->memory, stage->shape.size, &config);
}

static bool again(const struct stage *stage, int err)
{
    return err == -EAGAIN && stage->sleepless && lab_now_ns() < stage->deadline_ns;
}

static bool put(const struct stage *stage, struct lab_ring_producer *producer, uint64_t number)
{
    struct lab_span span;
    int err;
    while (again(stage, err = lab_ring_reserve(producer, 64, 1, stage->sleepless ? 0 : stage->deadline_ns, &span)))
        lab_wait_pause();
    if (err)
        return false;
    memcpy(span.at, &number, sizeof number);
    lab_ring_commit(producer, 1);
    return true;
}

static bool take(const struct stage *stage, struct lab_ring_consumer *consumer, uint64_t number)
{
    struct lab_span span;
    uint64_t found;
    int err;
    while (again(stage, err = lab_ring_borrow(consumer, 1, stage->sleepless ? 0 : stage->deadline_ns, &span)))
        lab_wait_pause();
    if (err)
        return false;
    memcpy(&found, span.at, sizeof found);
    lab_ring_release(consumer, 1);
    return found == number;
}

static bool produces(void *subject)
{
    const struct stage *stage = subject;
    struct lab_ring_producer producer;
    bool well = attach(stage, &producer, NULL);
    for (uint64_t number = 0; well && number < MESSAGES; number++)
        well = put(stage, &producer, number);
    return well;
}

static bool consumes(void *subject)
{
    const struct stage *stage = subject;
    struct lab_ring_consumer consumer;
    bool well = attach(stage, NULL, &consumer);
    for (uint64_t number = 0; well && number < MESSAGES; number++)
        well = take(stage, &consumer, number);
    return well;
}

/* What the traced one calls while a partner plays the other part. */
static long calls_of(part *traced, part *partner, struct stage *stage)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(partner(stage) ? 0 : 1);
    }
    long count = count_calls(traced, stage);
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return count;
}

static void nobody_calls(enum lab_wait wait, bool sleepless)
{
    static const uint32_t windows[] = {1, 16, 1024}; /* marked and counted rings */
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
        for (int side = 0; side < 2; side++) {
            struct stage stage;
            stage_init(&stage, wait, windows[w], sleepless);
            assert_int_equal(calls_of(side ? consumes : produces, side ? produces : consumes, &stage), 0);
            stage_fini(&stage);
        }
}

static void a_ring_that_spins_makes_no_system_call(void **state)
{
    (void)state;
    nobody_calls(LAB_WAIT_SPIN, false);
}

static void a_ring_makes_no_system_call_while_neither_side_sleeps(void **state)
{
    (void)state;
    static const enum lab_wait sleeping[] = {LAB_WAIT_FUTEX, LAB_WAIT_ADAPTIVE, LAB_WAIT_POLL};
    for (size_t s = 0; s < sizeof sleeping / sizeof *sleeping; s++)
        nobody_calls(sleeping[s], true);
}

/* ---- a sleeper ---- */

static bool sends_three_to_who_sleeps_once(void *subject)
{
    const struct stage *stage = subject;
    struct lab_ring_shared *shared = stage->memory;
    struct lab_ring_producer producer;
    if (!attach(stage, &producer, NULL))
        return false;
    atomic_store(&shared->consumer_sleeps.asleep, 1);
    return put(stage, &producer, 0) && put(stage, &producer, 1) && put(stage, &producer, 2);
}

static void a_sleeper_costs_the_waker_one_system_call(void **state)
{
    (void)state;
    static const enum lab_wait sleeping[] = {LAB_WAIT_FUTEX, LAB_WAIT_ADAPTIVE, LAB_WAIT_POLL};
    for (size_t s = 0; s < sizeof sleeping / sizeof *sleeping; s++) {
        struct stage stage;
        stage_init(&stage, sleeping[s], 16, false);
        assert_int_equal(count_calls(sends_three_to_who_sleeps_once, &stage), 1);
        stage_fini(&stage);
    }
}

static bool sleeps_until_a_deadline_that_has_passed(void *subject)
{
    struct stage *stage = subject;
    struct lab_ring_consumer consumer;
    if (!attach(stage, NULL, &consumer) || !lab_ring_consumer_arm(&consumer))
        return false;
    lab_wait_sleep(&consumer.view.plan, &consumer.view.shared->consumer_sleeps, 1);
    return true;
}

/* To sleep is one call; on a bell a second quiets it. */
static void a_sleep_is_one_system_call(void **state)
{
    (void)state;
    struct stage stage;
    stage_init(&stage, LAB_WAIT_FUTEX, 16, false);
    assert_int_equal(count_calls(sleeps_until_a_deadline_that_has_passed, &stage), 1);
    stage_fini(&stage);
    stage_init(&stage, LAB_WAIT_POLL, 16, false);
    assert_int_equal(count_calls(sleeps_until_a_deadline_that_has_passed, &stage), 2);
    stage_fini(&stage);
}

int main(void)
{
    long calls = count_calls(reads_the_clock, NULL);
    if (calls)
        lab_test_skip_all(calls < 0 ? "this process may trace nobody" : "to read the clock is a system call here");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_counted_is_what_was_called),
        cmocka_unit_test(a_ring_that_spins_makes_no_system_call),
        cmocka_unit_test(a_ring_makes_no_system_call_while_neither_side_sleeps),
        cmocka_unit_test(a_sleeper_costs_the_waker_one_system_call),
        cmocka_unit_test(a_sleep_is_one_system_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
