/* A deadline for calls that have none of their own (read and write on a pipe), at no system call per message.
 *
 * One timer per thread interrupts the thread at the deadline and then every 20 ms, so that a call entered just after the
 * first signal is interrupted too. Arming with the deadline that is already armed costs one comparison: a pattern uses one
 * deadline for millions of operations. The signal (SIGRTMIN+2) has an empty handler without SA_RESTART: the call returns
 * EINTR, and its owner looks at the clock.
 *
 *     lab_alarm_at(deadline_ns);
 *     while ((n = read(fd, buffer, size)) < 0 && errno == EINTR)
 *         if (lab_now_ns() >= deadline_ns)
 *             return -EAGAIN;
 */
#ifndef LAB_BASE_ALARM_H
#define LAB_BASE_ALARM_H

#include <stdint.h>

extern _Thread_local uint64_t lab_alarm_armed_ns;

int lab_alarm_arm(uint64_t deadline_ns);

/* 0, or -errno when the timer cannot be made. */
static inline int lab_alarm_at(uint64_t deadline_ns)
{
    return deadline_ns == lab_alarm_armed_ns ? 0 : lab_alarm_arm(deadline_ns);
}

/* Deletes this thread's timer; called by a thread that used one before it ends. */
void lab_alarm_fini(void);

#endif
