/* What node/transport.h promises, played over every row of node/transports.def with each of its waits. A new transport needs
 * nothing here.
 *
 *     contract.transports [NAME]                 every transport, or one
 *     mpiexec -n 2 contract.transports mpi       one whose ends are ranks of an MPI world
 */
#include "tests/contract/scenarios.h"

#include "tests/check.h"

#include <sched.h>
#include <sys/mount.h>

struct scene {
    const struct scenario *scenario;
    const struct lab_transport *transport;
    enum lab_wait wait;
    enum lab_backing backing;
};

static int world_rank = -1, world_fd = -1; /* set where we are one rank of two */
/* /dev/shm, $TMPDIR and the IPC namespace are ours alone: what appears in them, a transport has left there. */
static bool own_shm;
static char room[] = "/tmp/ipclab-contract-XXXXXX";

/* Others on this machine use them too. A user who may not have one of his own goes without that check. */
static bool make_own_shm(void)
{
    return (unshare(CLONE_NEWNS | CLONE_NEWIPC) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC) == 0) &&
           mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount("none", "/dev/shm", "tmpfs", 0, NULL) == 0;
}

static size_t count_lines(const char *path)
{
    size_t lines = 0;
    FILE *list = fopen(path, "re");
    for (int c; list && (c = getc(list)) != EOF;)
        lines += c == '\n';
    if (list)
        fclose(list);
    return lines;
}

static size_t count_left(void)
{
    return count_lines("/proc/sysvipc/shm") + count_lines("/proc/sysvipc/msg") + count_entries("/dev/shm") + count_entries(room);
}

/* Of all channels, when the contract is that of what is encrypted. */
static struct lab_curve_pair keys;

static struct lab_channel channel_of(const struct scene *scene)
{
    static uint32_t id;
    return (struct lab_channel){
        .transport = scene->transport,
        .wait = scene->wait,
        .backing = scene->backing,
        .id = ++id,
        .message_max = scene->scenario->message_max,
        .window = scene->scenario->window,
        .batch = scene->scenario->batch,
        .crosses_nodes = scene->transport->caps & LAB_CAP_NODES,
        .keys = keys,
        .rank = {[LAB_TX] = 0, [LAB_RX] = 1},
    };
}

/* As long as the scenario's, or the longest that it carries here. */
static void clip(struct lab_channel *channel, const struct lab_transport_ops *ops)
{
    struct lab_bound bound = {.longest = channel->transport->message_max};
    if (channel->message_max > bound.longest)
        channel->message_max = (uint32_t)bound.longest;
    if (ops->limit)
        lab_assert_ok(ops->limit(channel, &bound));
    if (channel->message_max > bound.longest)
        channel->message_max = (uint32_t)bound.longest;
}

/* Whether this machine has what the channel is to be made of; the reason is recorded if not. */
static int lacking(const struct lab_channel *channel, const struct lab_transport_ops *ops)
{
    struct lab_huge_pages pages;
    char mend[LAB_HUGE_PAGES_TEXT];
    size_t bytes = 0;
    int err = lab_backing_usable(channel->backing);
    if (err || channel->backing != LAB_BACKING_HUGEPAGE)
        return err;
    lab_assert_ok(ops->memory(channel, &bytes));
    uint64_t wanted = lab_backing_bytes(LAB_BACKING_HUGEPAGE, bytes);
    lab_huge_pages_read(&pages);
    wanted /= pages.size ? pages.size : 1;
    return wanted > pages.free ? lab_refuse(ENOMEM, "%s", lab_huge_pages_mend(&pages, wanted, mend)) : 0;
}

static void play(void **state)
{
    const struct scene *scene = *state;
    const struct scenario *scenario = scene->scenario;
    struct lab_channel channel = channel_of(scene);
    const struct lab_transport_ops *ops = lab_transport_ops(scene->transport);
    if (!ops) {
        fail_msg("%s", lab_error_last()->text);
        return;
    }
    bool world = scene->transport->caps & LAB_CAP_WORLD;
    clip(&channel, ops);
    if (lacking(&channel, ops))
        lab_test_skip(lab_error_last()->text);
    if (scene->transport->caps & scenario->without)
        lab_test_skip(world ? "MPI can neither take back a send that has begun nor tell of a peer that is gone"
                            : "both ends are in one process: there is no peer to kill");
    if (world && world_rank < 0)
        lab_test_skip("its ends are ranks of an MPI world; the test contract.mpi runs this");
    if (world) {
        enum lab_role role = world_rank == 0 ? LAB_TX : LAB_RX;
        /* The other rank cannot go on without this one: end the job. */
        if (!duet_play_world(&channel, ops, world_fd, role, role == LAB_TX ? scenario->tx : scenario->rx))
            _exit(1);
        return;
    }

    int status[2] = {0};
    size_t descriptors = count_entries("/proc/self/fd"), left = count_left();
    if (scene->transport->caps & (LAB_CAP_SELF | LAB_CAP_THREADS))
        lab_assert_ok(duet_play_threads(&channel, ops, scenario->tx, scenario->rx, status));
    else
        lab_assert_ok(duet_play_processes(&channel, ops, scenario->tx, scenario->rx, status));
    for (int role = 0; role < 2; role++) {
        if (role == scenario->killed)
            assert_true(WIFSIGNALED(status[role]) && WTERMSIG(status[role]) == SIGKILL);
        else
            assert_true(WIFEXITED(status[role]) && WEXITSTATUS(status[role]) == 0);
    }
    assert_int_equal(count_entries("/proc/self/fd"), descriptors);
    if (own_shm)
        assert_int_equal(count_left(), left);
}

static void the_card_says_what_the_functions_do(void **state)
{
    const struct scene *scene = *state;
    const struct lab_transport *card = scene->transport;
    const struct lab_transport_ops *ops = lab_transport_ops(card);
    if (!ops) {
        fail_msg("%s", lab_error_last()->text);
        return;
    }
    assert_string_equal(card->name, ops->name);
    assert_ptr_equal(lab_transport_named(card->name), card);
    assert_true(card->summary && card->summary[0] && card->message_max > 0);
    assert_true(card->waits && card->waits >> LAB_WAITS == 0);
    assert_true(ops->end_bytes >= sizeof(struct lab_end));
    assert_true(ops->provision && ops->retire && ops->open && ops->close);

    bool loan = card->caps & LAB_CAP_LOAN, copy = card->caps & LAB_CAP_COPY;
    assert_true(loan != copy);
    assert_int_equal(loan, ops->reserve != NULL);
    assert_int_equal(loan, ops->commit != NULL);
    assert_int_equal(loan, ops->borrow != NULL);
    assert_int_equal(loan, ops->release != NULL);
    assert_int_equal(copy, ops->send != NULL);
    assert_int_equal(copy, ops->recv != NULL);
    assert_true(ops->memory || !(card->caps & LAB_CAP_BACKING));
    /* What lends has batches in its spans; what copies needs functions for them. */
    bool copies_many = copy && card->caps & LAB_CAP_BATCH;
    assert_int_equal(copies_many, ops->send_many != NULL);
    assert_int_equal(copies_many, ops->recv_many != NULL);
    /* Where the mechanism tells of a dead peer, the node has nothing to tell. */
    assert_true(!ops->hangup || !(card->caps & LAB_CAP_PEER_DEATH));
    assert_true(!(card->caps & LAB_CAP_REMOTE) || card->caps & LAB_CAP_NODES);
}

static void names_are_told_apart(void **state)
{
    (void)state;
    const struct lab_transport *card, *other;
    for (size_t i = 0; (card = lab_transport_at(i)); i++) {
        for (size_t j = 0; j < i && (other = lab_transport_at(j)); j++) {
            assert_string_not_equal(card->name, other->name);
            assert_string_not_equal(card->symbol, other->symbol);
        }
    }
    assert_null(lab_transport_named("no-such-transport"));
    assert_null(lab_transport_named(""));
}

static void what_a_transport_cannot_do_is_refused(void **state)
{
    (void)state;
    struct lab_channel channel = {.transport = lab_transport_named("pipe"), .wait = LAB_WAIT_BLOCK, .message_max = 64, .window = 1, .batch = 1};
    struct lab_wire wire;
    struct lab_end *end;
    lab_assert_ok(channel.transport ? 0 : -1);
    lab_assert_ok(lab_transport_ops(channel.transport)->provision(&channel, &wire));
    struct lab_channel bad = channel;
    bad.wait = LAB_WAIT_FUTEX;
    lab_assert_fails(lab_end_open(&bad, LAB_TX, &wire, NULL, 0, &end), ENOTSUP);
    bad = channel;
    bad.transport = lab_transport_named("posix-mq");
    bad.batch = 2;
    lab_assert_fails(lab_end_open(&bad, LAB_TX, &wire, NULL, 0, &end), ENOTSUP);
    bad = channel;
    bad.backing = LAB_BACKING_POSIX;
    lab_assert_fails(lab_end_open(&bad, LAB_TX, &wire, NULL, 0, &end), ENOTSUP);
    bad = channel;
    bad.window = 0;
    lab_assert_fails(lab_end_open(&bad, LAB_TX, &wire, NULL, 0, &end), EINVAL);
    bad = channel;
    bad.message_max = 0;
    lab_assert_fails(lab_end_open(&bad, LAB_TX, &wire, NULL, 0, &end), EMSGSIZE);
    lab_transport_ops(channel.transport)->retire(&channel, &wire);
    lab_end_close(NULL);
}

/* ---- every scenario over every transport and wait; over every backing those that say most of memory ---- */

enum { TESTS_MAX = 4096 };
static struct CMUnitTest tests[TESTS_MAX];
static struct scene scenes[TESTS_MAX];
static char names[TESTS_MAX][160];
static size_t count;

static void add(const struct scenario *scenario, const struct lab_transport *transport, enum lab_wait wait, enum lab_backing backing)
{
    if (count == TESTS_MAX)
        abort();
    scenes[count] = (struct scene){scenario, transport, wait, backing};
    const char *kind = backing ? lab_backing_name(backing) : "";
    snprintf(names[count], sizeof names[count], "%s (%s%s%s): %s", transport->name, scenario ? lab_wait_name(wait) : "card", backing ? ", " : "",
             kind, scenario ? scenario->sentence : "the card says what the functions do");
    tests[count] = (struct CMUnitTest){names[count], scenario ? play : the_card_says_what_the_functions_do, NULL, NULL, &scenes[count]};
    count++;
}

int main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : NULL, *rank = getenv("PMI_RANK");
    bool seam = only && strcmp(only, "seam") == 0; /* what is no transport's own */
    if (argc > 2 && strcmp(argv[2], "encrypted") == 0)
        lab_assert_ok(lab_curve_pair_make(&keys));
    if (only && !seam && !lab_transport_named(only)) {
        fprintf(stderr, "there is no transport '%s'\n", only);
        return 2;
    }
    const struct lab_transport *alone = only && !seam ? lab_transport_named(only) : NULL;
    if (alone && !lab_transport_ops(alone) && lab_error_last()->code == ENOENT)
        lab_test_skip_all(lab_error_last()->text); /* built without it */
    if (rank) {
        world_rank = atoi(rank);
        world_fd = duet_world_meet(world_rank);
        if (world_fd < 0) {
            fprintf(stderr, "rank %d did not meet the other one: run with mpiexec -n 2\n", world_rank);
            return 1;
        }
    }
    if (!mkdtemp(room) || setenv("TMPDIR", room, 1))
        return 1;
    if (!rank && !(own_shm = make_own_shm()))
        print_message("no /dev/shm of its own: names left there are not looked for\n");
    if (!only || seam) {
        tests[count++] = (struct CMUnitTest)cmocka_unit_test(names_are_told_apart);
        tests[count++] = (struct CMUnitTest)cmocka_unit_test(what_a_transport_cannot_do_is_refused);
    }
    const struct lab_transport *transport;
    for (size_t t = 0; (transport = lab_transport_at(t)); t++) {
        if (only && strcmp(only, transport->name) != 0)
            continue;
        add(NULL, transport, LAB_WAIT_SPIN, LAB_BACKING_MEMFD);
        for (int wait = 0; wait < LAB_WAITS; wait++)
            for (size_t s = 0; s < SCENARIOS && transport->waits & LAB_WAIT_BIT(wait); s++)
                if ((transport->caps & scenarios[s].needs) == scenarios[s].needs)
                    add(&scenarios[s], transport, (enum lab_wait)wait, LAB_BACKING_MEMFD);
        for (enum lab_backing backing = LAB_BACKING_MEMFD + 1; backing < LAB_BACKINGS && transport->caps & LAB_CAP_BACKING; backing++)
            for (size_t s = 0; s < SCENARIOS; s++)
                if (scenarios[s].killed >= 0 || scenarios[s].tx == tx_sizes)
                    add(&scenarios[s], transport, (enum lab_wait)__builtin_ctz(transport->waits), backing);
    }
    int failed = _cmocka_run_group_tests("contract.transports", tests, count, NULL, NULL);
    rmdir(room);
    return failed;
}
