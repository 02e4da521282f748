#include "base/alarm.h"

#include "base/clock.h"
#include "tests/check.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

struct pipe_pair {
    int in, out;
};

static struct pipe_pair empty_pipe(void)
{
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    return (struct pipe_pair){fd[0], fd[1]};
}

/* Blocks in read() on an empty pipe until the deadline; whether it returned because of it. */
static int blocked_read(int fd, uint64_t deadline_ns)
{
    int err = lab_alarm_at(deadline_ns);
    char byte;
    while (!err && read(fd, &byte, 1) < 0) {
        if (errno != EINTR)
            return -errno;
        if (lab_now_ns() >= deadline_ns)
            return -EAGAIN;
    }
    return err;
}

static void a_blocked_call_returns_once_its_deadline_has_passed(void **state)
{
    (void)state;
    struct pipe_pair p = empty_pipe();
    uint64_t deadline_ns = lab_now_ns() + 5 * LAB_NS_PER_MS;
    assert_int_equal(blocked_read(p.in, deadline_ns), -EAGAIN);
    assert_true(lab_now_ns() >= deadline_ns);
    close(p.in);
    close(p.out);
}

static void a_call_entered_after_its_deadline_returns_too(void **state)
{
    (void)state;
    struct pipe_pair p = empty_pipe();
    uint64_t deadline_ns = lab_now_ns() + LAB_NS_PER_MS;
    assert_int_equal(lab_alarm_at(deadline_ns), 0);
    while (lab_now_ns() < deadline_ns + LAB_NS_PER_MS)
        ; /* the first signal is gone */
    assert_int_equal(blocked_read(p.in, deadline_ns), -EAGAIN);
    assert_int_equal(blocked_read(p.in, deadline_ns), -EAGAIN);
    assert_int_equal(blocked_read(p.in, 1), -EAGAIN); /* never in the future at all */
    close(p.in);
    close(p.out);
}

static void a_deadline_may_be_moved_to_earlier_and_to_later(void **state)
{
    (void)state;
    struct pipe_pair p = empty_pipe();
    uint64_t now = lab_now_ns();
    lab_assert_ok(lab_alarm_at(now + 1000 * LAB_NS_PER_S));
    assert_int_equal(blocked_read(p.in, now + 2 * LAB_NS_PER_MS), -EAGAIN);
    lab_assert_ok(lab_alarm_at(now + 1000 * LAB_NS_PER_S));
    assert_true(lab_alarm_armed_ns == now + 1000 * LAB_NS_PER_S);
    assert_int_equal(write(p.out, "x", 1), 1);
    assert_int_equal(blocked_read(p.in, now + 1000 * LAB_NS_PER_S), 0);
    close(p.in);
    close(p.out);
}

struct waiter {
    struct pipe_pair pipe;
    int outcome;
};

static void *wait_in_thread(void *argument)
{
    struct waiter *waiter = argument;
    waiter->outcome = blocked_read(waiter->pipe.in, lab_now_ns() + 5 * LAB_NS_PER_MS);
    lab_alarm_fini();
    return NULL;
}

/* The timer of one thread must reach that thread and no other. */
static void each_thread_has_an_alarm_of_its_own(void **state)
{
    (void)state;
    enum { THREADS = 8 };
    struct waiter waiters[THREADS];
    pthread_t threads[THREADS];
    lab_assert_ok(lab_alarm_at(lab_now_ns() + 1000 * LAB_NS_PER_S));
    uint64_t armed = lab_alarm_armed_ns;
    for (int i = 0; i < THREADS; i++) {
        waiters[i] = (struct waiter){.pipe = empty_pipe(), .outcome = 1};
        assert_int_equal(pthread_create(&threads[i], NULL, wait_in_thread, &waiters[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(waiters[i].outcome, -EAGAIN);
        close(waiters[i].pipe.in);
        close(waiters[i].pipe.out);
    }
    assert_true(lab_alarm_armed_ns == armed);
}

static void an_alarm_that_ended_can_be_made_again(void **state)
{
    (void)state;
    struct pipe_pair p = empty_pipe();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(blocked_read(p.in, lab_now_ns() + LAB_NS_PER_MS), -EAGAIN);
        lab_alarm_fini();
        lab_alarm_fini();
        assert_true(lab_alarm_armed_ns == 0);
    }
    close(p.in);
    close(p.out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_blocked_call_returns_once_its_deadline_has_passed),
        cmocka_unit_test(a_call_entered_after_its_deadline_returns_too),
        cmocka_unit_test(a_deadline_may_be_moved_to_earlier_and_to_later),
        cmocka_unit_test(each_thread_has_an_alarm_of_its_own),
        cmocka_unit_test(an_alarm_that_ended_can_be_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
