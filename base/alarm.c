#include "base/alarm.h"

#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

_Thread_local uint64_t lab_alarm_armed_ns;
static _Thread_local timer_t timer;
static _Thread_local int made;

static void wake(int signal_number)
{
    (void)signal_number;
}

static int make(void)
{
    struct sigaction action = {.sa_handler = wake};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 2};
    event.sigev_notify_thread_id = gettid();
    if (sigaction(SIGRTMIN + 2, &action, NULL) < 0 || timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
        return lab_fail(errno, "cannot make this thread's deadline timer");
    made = 1;
    return 0;
}

int lab_alarm_arm(uint64_t deadline_ns)
{
    int err = made ? 0 : make();
    if (err)
        return err;
    struct itimerspec when = {
        .it_value = lab_timespec(deadline_ns ? deadline_ns : 1),
        .it_interval = lab_timespec(20 * LAB_NS_PER_MS),
    };
    if (timer_settime(timer, TIMER_ABSTIME, &when, NULL) < 0)
        return lab_fail(errno, "cannot arm this thread's deadline timer");
    lab_alarm_armed_ns = deadline_ns;
    return 0;
}

void lab_alarm_fini(void)
{
    if (made)
        timer_delete(timer);
    made = 0;
    lab_alarm_armed_ns = 0;
}
