/* The client's side of PMI-1; the server is what every MPI cell of contract.transports and e2e.run begins with. */
#include "base/clock.h"
#include "proto/pmi.h"
#include "tests/check.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define GREETING "cmd=init pmi_version=1 pmi_subversion=1\n"

struct line {
    int ours, mpiexecs;
};

/* What mpiexec will answer lies ready before it is asked. */
static struct line line_to(const char *answer)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(write(ends[1], answer, strlen(answer)), strlen(answer));
    return (struct line){ends[0], ends[1]};
}

static int leave(struct line *line, int code)
{
    return lab_pmi_abort(line->ours, code, lab_now_ns() + 20 * LAB_NS_PER_MS);
}

static void assert_said(struct line *line, const char *wanted)
{
    char said[256] = "";
    size_t used = 0;
    ssize_t got;
    close(line->ours);
    while ((got = read(line->mpiexecs, said + used, sizeof said - 1 - used)) > 0)
        used += (size_t)got;
    assert_string_equal(said, wanted);
    close(line->mpiexecs);
}

static void a_rank_that_leaves_greets_and_gives_its_code(void **state)
{
    (void)state;
    struct line line = line_to("cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n");
    lab_assert_ok(leave(&line, 77));
    assert_said(&line, GREETING "cmd=abort exitcode=77\n");
}

static void answers_left_by_a_rank_that_was_killed_are_skipped(void **state)
{
    (void)state;
    struct line line = line_to("cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024\ncmd=barrier_out\n"
                               "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n");
    lab_assert_ok(leave(&line, 0));
    assert_said(&line, GREETING "cmd=abort exitcode=0\n");
}

static void another_version_hears_no_more_than_the_greeting(void **state)
{
    (void)state;
    struct line line = line_to("cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=-1\n");
    lab_assert_fails(leave(&line, 1), EPROTO);
    assert_said(&line, GREETING);
}

static void a_server_that_is_silent_or_gone_is_not_waited_for(void **state)
{
    (void)state;
    struct line line = line_to("hello\ncmd=response_to_init");
    lab_assert_fails(leave(&line, 1), ETIMEDOUT);
    assert_said(&line, GREETING);

    line = line_to("");
    close(line.mpiexecs);
    lab_assert_fails(leave(&line, 1), EPIPE);
    close(line.ours);
}

static void an_answer_without_an_end_is_bounded(void **state)
{
    (void)state;
    char endless[5000];
    memset(endless, 'x', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    struct line line = line_to(endless);
    lab_assert_fails(leave(&line, 1), EPROTO);
    close(line.ours);
    close(line.mpiexecs);
}

/* ---- with a server ---- */

struct learner {
    int fd, err;
    size_t room;
    char learnt[64];
};

static void *learn(void *argument)
{
    struct learner *learner = argument;
    learner->err = lab_pmi_learn(learner->fd, "where", lab_now_ns() + 5 * LAB_NS_PER_S, learner->learnt, learner->room);
    return NULL;
}

struct server {
    struct lab_pmi *pmi;
    int stop; /* readable: enough */
};

static void *serve(void *argument)
{
    const struct server *server = argument;
    struct pollfd ready[] = {{.fd = lab_pmi_fd(server->pmi), .events = POLLIN}, {.fd = server->stop, .events = POLLIN}};
    while (poll(ready, 2, -1) > 0 && !ready[1].revents)
        lab_pmi_serve(server->pmi);
    return NULL;
}

static void publish_to(size_t room, int wanted)
{
    struct server server;
    struct learner learner = {.room = room, .learnt = "before"};
    int lead;
    pthread_t serving, other;
    lab_assert_ok(lab_pmi_new(2, &server.pmi));
    lab_assert_ok(lab_pmi_take_fd(server.pmi, 0, &lead));
    lab_assert_ok(lab_pmi_take_fd(server.pmi, 1, &learner.fd));
    assert_true((server.stop = eventfd(0, EFD_CLOEXEC)) >= 0);
    assert_int_equal(pthread_create(&serving, NULL, serve, &server), 0);
    assert_int_equal(pthread_create(&other, NULL, learn, &learner), 0);
    lab_assert_ok(lab_pmi_publish(lead, "where", "tcp://10.77.0.1:40000", lab_now_ns() + 5 * LAB_NS_PER_S));
    pthread_join(other, NULL);
    assert_int_equal(learner.err, wanted);
    assert_string_equal(learner.learnt, wanted ? "before" : "tcp://10.77.0.1:40000");
    lab_assert_ok(lab_pmi_leave(lead, lab_now_ns() + 5 * LAB_NS_PER_S));
    assert_int_equal(eventfd_write(server.stop, 1), 0);
    pthread_join(serving, NULL);
    close(server.stop);
    close(lead);
    close(learner.fd);
    lab_pmi_free(server.pmi);
}

static void what_rank_0_publishes_the_others_learn(void **state)
{
    (void)state;
    publish_to(sizeof((struct learner *)0)->learnt, 0);
    publish_to(8, -ERANGE);
}

static void a_refusal_is_told(void **state)
{
    (void)state;
    struct line line = line_to("cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=-1\n");
    lab_assert_fails(lab_pmi_publish(line.ours, "where", "here", lab_now_ns() + 20 * LAB_NS_PER_MS), EPROTO);
    assert_said(&line, GREETING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_that_leaves_greets_and_gives_its_code),
        cmocka_unit_test(answers_left_by_a_rank_that_was_killed_are_skipped),
        cmocka_unit_test(another_version_hears_no_more_than_the_greeting),
        cmocka_unit_test(a_server_that_is_silent_or_gone_is_not_waited_for),
        cmocka_unit_test(an_answer_without_an_end_is_bounded),
        cmocka_unit_test(what_rank_0_publishes_the_others_learn),
        cmocka_unit_test(a_refusal_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
