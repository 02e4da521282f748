/* Kills a process at any instruction of an operation, in a time that does not grow with what lies before it.
 *
 *     struct lab_path path;
 *     struct lab_victim victim = lab_victim_start(operate, subject, nudge);  // a child, stopped in front of operate(subject)
 *     lab_path_trace(&path, &victim);                                        // through all of it, step by step, once; reaped
 *     ...
 *     victim = lab_victim_start(operate, subject, nudge);                    // another one
 *     death = lab_victim_kill_after(&victim, &path, 17);                     // it has executed 17 instructions, and is dead and reaped
 *
 * The child is forked: memory that is mapped shared is shared with it, everything else it has to itself. A step takes 5 to 40 us, and so
 * only the first child walks: the others run to a place near the end of their way (a breakpoint, passed as often as the first one came
 * there), and walk from there. Who is killed has been where the first one was, or, where clocks and the survivors' doings decided
 * otherwise, somewhere else: it has strayed.
 *
 * An operation may sleep in the kernel. Where it does, `nudge` wakes it, and it is killed once in its sleep and then at each instruction
 * behind it; without a nudge the path ends there, in its sleep. */
#ifndef LAB_TESTS_STEPPER_H
#define LAB_TESTS_STEPPER_H

#include "tests/check.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LAB_PATH_MAX = 1 << 12, LAB_PASS_STEPS = 3 }; /* to pass a breakpoint takes as long as so many steps */

struct lab_victim {
    pid_t pid;
    void (*nudge)(void *subject); /* NULL: it is not expected to sleep, or not to be woken */
    void *subject;
    bool may_sleep, nudged;
};

/* Where a process is: the same instruction in the same depth of calls. */
struct lab_spot {
    uintptr_t code, stack;
};

struct lab_path {
    uint32_t length;                 /* instructions */
    bool sleeps;                     /* the last one never returns */
    struct lab_spot at[LAB_PATH_MAX]; /* where it is after so many instructions */
    uint32_t passes[LAB_PATH_MAX];   /* how often it was there before */
    uint32_t station[LAB_PATH_MAX];  /* of the indices up to here, the one from which one gets here fastest ... */
    uint32_t cost[LAB_PATH_MAX];     /* ... in steps */
};

#if defined(__x86_64__)
enum { LAB_BREAKPOINT = 0xcc, LAB_BREAKPOINT_MASK = 0xff };
#elif defined(__aarch64__)
enum { LAB_BREAKPOINT = (int)0xd4200000, LAB_BREAKPOINT_MASK = -1 };
#endif

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

/* With `may_sleep` the operation may sleep: it is looked at and not only waited for, which takes longer. Not inlined: all children are to
 * be on one path. */
static __attribute__((noinline)) struct lab_victim lab_victim_start(void (*operate)(void *subject), void *subject,
                                                                    void (*nudge)(void *subject), bool may_sleep)
{
    fflush(NULL);
    struct lab_victim victim = {.pid = fork(), .nudge = nudge, .subject = subject, .may_sleep = may_sleep || nudge};
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

enum lab_rest { LAB_STOPPED, LAB_ASLEEP, LAB_EXITED };

/* Until it stands still. */
static inline enum lab_rest lab_victim_await(const struct lab_victim *victim)
{
    for (;;) {
        int status = 0;
        pid_t told = waitpid(victim->pid, &status, victim->may_sleep ? WNOHANG : 0);
        if (told == 0 && lab_victim_state(victim->pid) == 'S')
            return LAB_ASLEEP;
        if (told == 0) {
            sched_yield();
            continue;
        }
        assert_int_equal(told, victim->pid);
        if (WIFSTOPPED(status)) {
            assert_int_equal(WSTOPSIG(status), SIGTRAP);
            return LAB_STOPPED;
        }
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        return LAB_EXITED;
    }
}

/* Lets it go on until it stands still for good: one that sleeps is woken. */
static inline enum lab_rest lab_victim_resume(struct lab_victim *victim, enum __ptrace_request how)
{
    assert_int_equal(ptrace(how, victim->pid, NULL, NULL), 0);
    for (;;) {
        enum lab_rest rest = lab_victim_await(victim);
        if (rest != LAB_ASLEEP || !victim->nudge)
            return rest;
        if (!victim->nudged)
            victim->nudge(victim->subject);
        victim->nudged = true;
    }
}

static inline struct lab_spot lab_victim_at(const struct lab_victim *victim)
{
    struct __ptrace_syscall_info info = {0};
    assert_true(ptrace(PTRACE_GET_SYSCALL_INFO, victim->pid, (void *)sizeof info, &info) > 0);
    return (struct lab_spot){(uintptr_t)info.instruction_pointer, (uintptr_t)info.stack_pointer};
}

static inline bool lab_same_spot(struct lab_spot a, struct lab_spot b)
{
    return a.code == b.code && a.stack == b.stack;
}

/* One instruction; one that repeats itself is stopped at after each time, and is one all the same. */
static inline enum lab_rest lab_victim_step(struct lab_victim *victim)
{
    struct lab_spot before = lab_victim_at(victim);
    enum lab_rest rest;
    do
        rest = lab_victim_resume(victim, PTRACE_SINGLESTEP);
    while (rest == LAB_STOPPED && lab_same_spot(lab_victim_at(victim), before));
    return rest;
}

static inline void lab_victim_reap(const struct lab_victim *victim)
{
    int status = 0;
    kill(victim->pid, SIGKILL);
    assert_int_equal(waitpid(victim->pid, &status, 0), victim->pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- the path ---- */

/* The kernel's code that reads the clock takes another way each time, so that having been there says nothing. */
static inline bool lab_is_kernels(uintptr_t at)
{
    enum { BYTES = 1 << 13 };
    return at - getauxval(AT_SYSINFO_EHDR) < BYTES;
}

static inline void lab_path_add(struct lab_path *path, struct lab_spot at)
{
    uint32_t i = path->length++, passes = 0, hits = 0;
    assert_true(i < LAB_PATH_MAX);
    for (uint32_t before = 0; before < i; before++) {
        passes += lab_same_spot(path->at[before], at);
        hits += path->at[before].code == at.code;
    }
    path->at[i] = at;
    path->passes[i] = passes;
    bool walk = i && (lab_is_kernels(at.code) || path->cost[i - 1] + 1 < hits * LAB_PASS_STEPS);
    path->station[i] = walk ? path->station[i - 1] : i;
    path->cost[i] = walk ? path->cost[i - 1] + 1 : hits * LAB_PASS_STEPS;
}

/* Its last instruction is the one that ends the child, or that in which it sleeps. */
static inline void lab_path_trace(struct lab_path *path, struct lab_victim *victim)
{
    path->length = 0;
    enum lab_rest rest;
    do {
        lab_path_add(path, lab_victim_at(victim));
        rest = lab_victim_step(victim);
    } while (rest == LAB_STOPPED);
    path->sleeps = rest == LAB_ASLEEP;
    if (path->sleeps)
        lab_victim_reap(victim);
}

/* ---- death ---- */

static inline long lab_victim_poke(const struct lab_victim *victim, uintptr_t at, long code)
{
    errno = 0;
    long before = ptrace(PTRACE_PEEKTEXT, victim->pid, (void *)at, NULL);
    assert_int_equal(errno, 0);
    assert_int_equal(ptrace(PTRACE_POKETEXT, victim->pid, (void *)at, (void *)code), 0);
    return before;
}

/* Runs to a place that it has not been at since it last stood still. */
static inline enum lab_rest lab_victim_run_to_next(struct lab_victim *victim, uintptr_t at)
{
    long code = lab_victim_poke(victim, at, 0);
    lab_victim_poke(victim, at, (code & ~(long)(unsigned)LAB_BREAKPOINT_MASK) | (long)(unsigned)LAB_BREAKPOINT);
    enum lab_rest rest = lab_victim_resume(victim, PTRACE_CONT);
    if (rest != LAB_STOPPED)
        return rest;
    lab_victim_poke(victim, at, code);
#if defined(__x86_64__) /* it has executed the breakpoint, and is to execute what was there */
    assert_int_equal(ptrace(PTRACE_POKEUSER, victim->pid, (void *)offsetof(struct user_regs_struct, rip), (void *)at), 0);
#endif
    return rest;
}

/* Runs there, having passed it so often. */
static inline enum lab_rest lab_victim_run_to(struct lab_victim *victim, struct lab_spot at, uint32_t passes)
{
    enum lab_rest rest = lab_victim_run_to_next(victim, at.code);
    while (rest == LAB_STOPPED && (lab_victim_at(victim).stack != at.stack || passes--)) {
        rest = lab_victim_step(victim);
        if (rest == LAB_STOPPED)
            rest = lab_victim_run_to_next(victim, at.code);
    }
    return rest;
}

/* The last step: one that sleeps counts as done, and nobody wakes it. */
static inline enum lab_rest lab_victim_last_step(struct lab_victim *victim)
{
    victim->nudge = NULL;
    return lab_victim_step(victim);
}

enum lab_death { LAB_THERE, LAB_STRAYED, LAB_THROUGH };

/* Killed where the first one was after so many instructions, or elsewhere, or not at all: it has done everything, and ended. */
static inline enum lab_death lab_victim_kill_after(struct lab_victim *victim, const struct lab_path *path, uint32_t instructions)
{
    uint32_t done = instructions ? path->station[instructions - 1] : 0;
    enum lab_rest rest = done ? lab_victim_run_to(victim, path->at[done], path->passes[done]) : LAB_STOPPED;
    for (; rest == LAB_STOPPED && done < instructions; done++)
        rest = done + 1 < instructions ? lab_victim_step(victim) : lab_victim_last_step(victim);
    if (rest == LAB_EXITED)
        return LAB_THROUGH;
    bool there = done == instructions && (rest == LAB_ASLEEP || lab_same_spot(lab_victim_at(victim), path->at[instructions]));
    lab_victim_reap(victim);
    return there ? LAB_THERE : LAB_STRAYED;
}

/* Lets it do all of it. False: it sleeps, and was killed in its sleep. */
static inline bool lab_victim_finish(struct lab_victim *victim)
{
    enum lab_rest rest = lab_victim_resume(victim, PTRACE_CONT);
    if (rest == LAB_EXITED)
        return true;
    assert_int_equal(rest, LAB_ASLEEP);
    lab_victim_reap(victim);
    return false;
}

#endif
