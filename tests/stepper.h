/* Kills a party after any number of its instructions.
 *
 *     struct lab_victim victim = lab_victim_start(operate, subject);       // a child, stopped in front of operate(subject)
 *     bool finished = lab_victim_kill_after(&victim, 17);                  // it has executed 17 instructions, and is dead and reaped
 *
 * The child is forked: memory that is mapped shared is shared with it, everything else it has to itself. It is traced and single-stepped;
 * a step takes 5 to 30 us, so that all of an operation of n instructions, each time run anew, take n * n / 2 of them. An instruction
 * that enters the kernel and sleeps there is a step as well, and the last one ends in the middle of its sleep. */
#ifndef LAB_TESTS_STEPPER_H
#define LAB_TESTS_STEPPER_H

#include "tests/check.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct lab_victim {
    pid_t pid;
};

/* Whether a child may be traced here; not under some supervisors and in some containers, and what the sanitizers add to every access
 * is not what is to be looked at. */
static inline const char *lab_why_not_step(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return "what a sanitizer adds to an operation is not to be stepped through";
#else
    pid_t pid = fork();
    if (pid == 0)
        _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) ? errno : 0);
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return "no child could be forked";
    return WEXITSTATUS(status) ? "ptrace is not permitted here" : NULL;
#endif
}

static inline struct lab_victim lab_victim_start(void (*operate)(void *subject), void *subject)
{
    fflush(NULL);
    struct lab_victim victim = {.pid = fork()};
    assert_true(victim.pid >= 0);
    if (victim.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(errno);
        syscall(SYS_kill, getpid(), SIGSTOP);
        operate(subject);
        syscall(SYS_exit_group, 0);
    }
    int status = 0;
    assert_int_equal(waitpid(victim.pid, &status, 0), victim.pid);
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    return victim;
}

/* R, S, t, ... as in /proc/PID/stat, behind the name. */
static inline char lab_victim_state(pid_t pid)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *stat = fopen(path, "re");
    if (stat) {
        size_t got = fread(text, 1, sizeof text - 1, stat);
        text[got] = 0;
        fclose(stat);
    }
    const char *name_end = strrchr(text, ')');
    return name_end ? name_end[2] : '?';
}

/* One instruction. False: the child has exited. With `to_sleep` one that sleeps in the kernel counts as done. */
static inline bool lab_victim_step(const struct lab_victim *victim, bool to_sleep)
{
    assert_int_equal(ptrace(PTRACE_SINGLESTEP, victim->pid, NULL, NULL), 0);
    for (;;) {
        int status = 0;
        pid_t told = waitpid(victim->pid, &status, to_sleep ? WNOHANG : 0);
        if (told == 0 && lab_victim_state(victim->pid) != 'S')
            continue;
        if (told == 0)
            return true;
        assert_int_equal(told, victim->pid);
        if (WIFSTOPPED(status)) {
            assert_int_equal(WSTOPSIG(status), SIGTRAP);
            return true;
        }
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        return false;
    }
}

/* True: the operation was over before so many instructions. */
static inline bool lab_victim_kill_after(struct lab_victim *victim, uint32_t instructions)
{
    for (uint32_t i = 0; i < instructions; i++)
        if (!lab_victim_step(victim, i + 1 == instructions))
            return true;
    kill(victim->pid, SIGKILL);
    int status = 0;
    assert_int_equal(waitpid(victim->pid, &status, 0), victim->pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return false;
}

/* ---- an operation, killed at every instruction ---- */

/* One operation of one structure. `scene` is the caller's; what victim and survivors share in it is mapped shared. */
struct lab_crash {
    const char *name;
    void (*set_up)(void *scene);      /* afresh for each death: the structure, attached, as the operation is to find it */
    void (*operate)(void *scene);     /* the victim, in its child */
    void (*meanwhile)(void *scene);   /* who is to be at work while it dies, or NULL; begun before its first step */
    uint32_t (*survive)(void *scene); /* hangs up for the victim, and looks whether all others can do what they may expect; how much of
                                         the operation they have seen */
    void (*tear_down)(void *scene);
    uint32_t all;                     /* so much is seen of an operation that was not disturbed */
};

/* Parent and child on one cpu: the steps then wait for no other to be woken. */
static inline void lab_stay_on_this_cpu(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
}

/* Kills the victim after 0, 1, 2, ... instructions, until it is through. What is seen of an operation never becomes less as more of it was
 * executed. Returns the number of instructions. */
static inline uint32_t lab_crash_at_every_instruction(const struct lab_crash *crash, void *scene)
{
    uint32_t seen = 0, changes = 0;
    for (uint32_t instructions = 0;; instructions++) {
        crash->set_up(scene);
        struct lab_victim victim = lab_victim_start(crash->operate, scene);
        if (crash->meanwhile)
            crash->meanwhile(scene);
        bool finished = lab_victim_kill_after(&victim, instructions);
        uint32_t now = crash->survive(scene);
        crash->tear_down(scene);
        if (now < seen || (finished && now != crash->all))
            fail_msg("%s: killed after %u instructions, %u of %u were seen where there had been %u", crash->name, instructions, now,
                     crash->all, seen);
        changes += now != seen;
        seen = now;
        if (!finished)
            continue;
        print_message("%s: killed at each of %u instructions, of which %u made a difference\n", crash->name, instructions, changes);
        return instructions;
    }
}

#endif
