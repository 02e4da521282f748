#include "base/child.h"

#include "base/clock.h"
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_NS (20 * LAB_NS_PER_S)

static struct lab_child spawn(const char *script, struct lab_child_spec spec)
{
    char *const argv[] = {(char[]){"sh"}, (char[]){"-c"}, strdup(script), NULL};
    struct lab_child child;
    spec.path = "/bin/sh";
    spec.argv = argv;
    lab_assert_ok(lab_child_spawn(&spec, &child));
    free(argv[2]);
    return child;
}

/* The shell script's exit code, its process reaped. */
static int run(const char *script, struct lab_child_spec spec)
{
    struct lab_child child = spawn(script, spec);
    int status;
    lab_assert_ok(lab_child_reap(&child, lab_now_ns() + PATIENCE_NS, &status));
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_child_runs_and_its_status_comes_back(void **state)
{
    (void)state;
    struct lab_child child = spawn("exit 7", (struct lab_child_spec){.cpu = -1});
    assert_true(child.pid > 0 && child.pidfd >= 0);
    int status = 0;
    lab_assert_ok(lab_child_reap(&child, lab_now_ns() + PATIENCE_NS, &status));
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(child.pid, 0);
    assert_int_equal(child.pidfd, -1);
    lab_assert_fails(lab_child_reap(&child, 0, &status), ECHILD);
    lab_child_kill(&child);
    lab_child_kill(NULL);
}

static void a_missing_program_is_reported_by_the_call_that_starts_it(void **state)
{
    (void)state;
    char *const argv[] = {(char[]){"none"}, NULL};
    struct lab_child child = {.pid = 77};
    lab_assert_fails(lab_child_spawn(&(struct lab_child_spec){.path = "/no/such/program", .argv = argv, .cpu = -1}, &child), ENOENT);
    assert_int_equal(child.pid, 77);
    assert_non_null(strstr(lab_error_last()->text, "/no/such/program"));
    /* Nothing is left to reap. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void a_descriptor_that_is_not_open_is_reported(void **state)
{
    (void)state;
    char *const argv[] = {(char[]){"true"}, NULL};
    struct lab_child child;
    const struct lab_child_fd fds[] = {{.from = 999, .to = 3}};
    lab_assert_fails(lab_child_spawn(&(struct lab_child_spec){.path = "/bin/true", .argv = argv, .cpu = -1, .fds = fds, .fd_count = 1}, &child), EBADF);
}

/* Even descriptors without FD_CLOEXEC stay here. */
static void nothing_is_inherited_that_was_not_named(void **state)
{
    (void)state;
    int stray = open("/dev/null", O_RDONLY), far = fcntl(stray, F_DUPFD, 200);
    assert_true(stray >= 0 && far >= 200);
    /* The shell's own listing holds 0, 1, 2 and the folder being read. */
    assert_int_equal(run("set -- $(ls /proc/self/fd); exit $#", (struct lab_child_spec){.cpu = -1}), 4);
    close(stray);
    close(far);
}

static void named_descriptors_arrive_under_their_numbers_even_crosswise(void **state)
{
    (void)state;
    int fd[2][2];
    assert_int_equal(pipe2(fd[0], O_CLOEXEC), 0);
    assert_int_equal(pipe2(fd[1], O_CLOEXEC), 0);
    /* Each one's number is the other one's target. */
    const struct lab_child_fd fds[] = {{.from = fd[0][1], .to = fd[1][1]}, {.from = fd[1][1], .to = fd[0][1]}};
    char script[128];
    snprintf(script, sizeof script, "printf first >&%d; printf other >&%d", fd[1][1], fd[0][1]);
    assert_true(fd[0][1] <= 9 && fd[1][1] <= 9); /* the shell redirects to one digit */
    assert_int_equal(run(script, (struct lab_child_spec){.cpu = -1, .fds = fds, .fd_count = 2}), 0);
    char text[6] = "";
    assert_int_equal(read(fd[0][0], text, 5), 5);
    assert_string_equal(text, "first");
    assert_int_equal(read(fd[1][0], text, 5), 5);
    assert_string_equal(text, "other");
    for (int i = 0; i < 2; i++) {
        close(fd[i][0]);
        close(fd[i][1]);
    }
}

/* The centre of a star of hundreds inherits as many ends. */
static void a_child_may_inherit_hundreds_and_gets_no_other(void **state)
{
    (void)state;
    enum { MANY = 700 };
    static struct lab_child_fd fds[MANY];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), other = open("/dev/null", O_RDWR);
    assert_true(null >= 0 && other >= 0);
    for (int i = 0; i < MANY; i++)
        fds[i] = (struct lab_child_fd){.from = null, .to = 3 + 2 * i}; /* what lies between is closed */
    char script[160];
    snprintf(script, sizeof script, "set -- /proc/$$/fd/*; count=$#; [ -e /proc/$$/fd/%d ] && [ ! -e /proc/$$/fd/4 ] && [ $count -ge %d ] && [ $count -le %d ]",
             3 + 2 * (MANY - 1), MANY + 3, MANY + 5);
    struct rlimit limit, raised;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    raised = limit;
    raised.rlim_cur = raised.rlim_max;
    setrlimit(RLIMIT_NOFILE, &raised);
    int code = run(script, (struct lab_child_spec){.cpu = -1, .fds = fds, .fd_count = MANY});
    setrlimit(RLIMIT_NOFILE, &limit);
    assert_int_equal(code, 0);
    close(null);
    close(other);
}

static void signals_are_as_in_a_fresh_login(void **state)
{
    (void)state;
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    signal(SIGPIPE, SIG_IGN);
    /* Neither blocked nor ignored: masks of zeros. */
    int code = run("while read key mask; do case $key in SigBlk:|SigIgn:) case $mask in *[!0]*) exit 1;; esac;; esac; done < /proc/self/status",
                   (struct lab_child_spec){.cpu = -1});
    signal(SIGPIPE, SIG_DFL);
    sigset_t after;
    sigprocmask(SIG_SETMASK, &before, &after);
    assert_int_equal(code, 0);
    assert_int_equal(sigismember(&after, SIGTERM), 1); /* ours was kept */
}

static void a_child_is_pinned_from_its_first_instruction(void **state)
{
    (void)state;
    cpu_set_t allowed;
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET((size_t)cpu, &allowed))
            continue;
        char script[160];
        snprintf(script, sizeof script, "while read key list; do [ $key != Cpus_allowed_list: ] || [ \"$list\" = %d ] || exit 1; done < /proc/self/status", cpu);
        assert_int_equal(run(script, (struct lab_child_spec){.cpu = cpu}), 0);
    }
    char *const argv[] = {(char[]){"true"}, NULL};
    struct lab_child child;
    lab_assert_fails(lab_child_spawn(&(struct lab_child_spec){.path = "/bin/true", .argv = argv, .cpu = CPU_SETSIZE - 1}, &child), EINVAL);
}

static void a_child_of_its_own_group_leads_it(void **state)
{
    (void)state;
    assert_int_equal(run("set -- $(cat /proc/self/stat); [ $5 = $$ ]", (struct lab_child_spec){.cpu = -1, .own_group = true}), 0);
    assert_int_equal(run("set -- $(cat /proc/self/stat); [ $5 != $$ ]", (struct lab_child_spec){.cpu = -1}), 0);
}

static void the_environment_is_the_callers_or_the_given_one(void **state)
{
    (void)state;
    char *const envp[] = {(char[]){"ONLY=this"}, NULL};
    setenv("LAB_CHILD_TEST", "here", 1);
    assert_int_equal(run("[ \"$LAB_CHILD_TEST\" = here ]", (struct lab_child_spec){.cpu = -1}), 0);
    assert_int_equal(run("[ -z \"$LAB_CHILD_TEST\" ] && [ \"$ONLY\" = this ]", (struct lab_child_spec){.cpu = -1, .envp = envp}), 0);
}

static void a_child_that_runs_on_is_waited_for_until_the_deadline_only(void **state)
{
    (void)state;
    struct lab_child child = spawn("kill -STOP $$", (struct lab_child_spec){.cpu = -1});
    uint64_t deadline_ns = lab_now_ns() + 5 * LAB_NS_PER_MS;
    assert_int_equal(lab_child_reap(&child, 0, NULL), -EAGAIN);
    assert_int_equal(lab_child_reap(&child, deadline_ns, NULL), -EAGAIN);
    assert_true(lab_now_ns() >= deadline_ns);
    pid_t pid = child.pid;
    lab_child_kill(&child);
    assert_int_equal(child.pid, 0);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* The grandchild's life-line is a pipe: it ends when the grandchild does. */
static void a_child_does_not_outlive_the_one_who_started_it(void **state)
{
    (void)state;
    int line[2];
    assert_int_equal(pipe2(line, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t middle = fork();
    if (middle == 0) {
        char *const argv[] = {(char[]){"sh"}, (char[]){"-c"}, (char[]){"kill -STOP $$"}, NULL};
        const struct lab_child_fd fds[] = {{.from = line[1], .to = 3}};
        struct lab_child child;
        _exit(lab_child_spawn(&(struct lab_child_spec){.path = "/bin/sh", .argv = argv, .cpu = -1, .fds = fds, .fd_count = 1}, &child) ? 1 : 0);
    }
    close(line[1]);
    int status;
    assert_int_equal(waitpid(middle, &status, 0), middle);
    assert_int_equal(status, 0);
    struct pollfd gone = {.fd = line[0], .events = POLLIN};
    assert_int_equal(poll(&gone, 1, lab_ms_until(lab_now_ns() + PATIENCE_NS)), 1);
    assert_true(gone.revents & POLLHUP);
    close(line[0]);
}

static void a_status_is_told_in_words(void **state)
{
    (void)state;
    char text[LAB_CHILD_STATUS_TEXT];
    struct lab_child child = spawn("kill -9 $$", (struct lab_child_spec){.cpu = -1});
    int status;
    lab_assert_ok(lab_child_reap(&child, lab_now_ns() + PATIENCE_NS, &status));
    assert_string_equal(lab_child_status_text(status, text), "ended by signal 9 (SIGKILL)");
    assert_string_equal(lab_child_status_text(3 << 8, text), "exited with code 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_runs_and_its_status_comes_back),
        cmocka_unit_test(a_missing_program_is_reported_by_the_call_that_starts_it),
        cmocka_unit_test(a_descriptor_that_is_not_open_is_reported),
        cmocka_unit_test(nothing_is_inherited_that_was_not_named),
        cmocka_unit_test(named_descriptors_arrive_under_their_numbers_even_crosswise),
        cmocka_unit_test(a_child_may_inherit_hundreds_and_gets_no_other),
        cmocka_unit_test(signals_are_as_in_a_fresh_login),
        cmocka_unit_test(a_child_is_pinned_from_its_first_instruction),
        cmocka_unit_test(a_child_of_its_own_group_leads_it),
        cmocka_unit_test(the_environment_is_the_callers_or_the_given_one),
        cmocka_unit_test(a_child_that_runs_on_is_waited_for_until_the_deadline_only),
        cmocka_unit_test(a_child_does_not_outlive_the_one_who_started_it),
        cmocka_unit_test(a_status_is_told_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
