/* Reliable channels over ZeroMQ while their ends are killed and started anew, and, played by two programs on two hosts (tests/fault/
 * cut.sh), while the link between them is cut.
 *
 *     fault.reliable                                        kills
 *     fault.reliable --receive HOST FILE DELIVERY           makes a channel, writes its address to FILE, and receives until it is told the
 *                                                           end, or nothing has come for a while; says what came
 *     fault.reliable --send HOST FILE DELIVERY              sends until SIGTERM, then closes; says how many */
#include "base/clock.h"
#include "node/transport.h"
#include "proto/reliable.h"

#include "tests/check.h"
#include "tests/ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MESSAGE = 200, WINDOW = 64, MESSAGES = 20000, KILLS = 24, PATIENCE_S = 60 };

/* What outlives the two: their memories, and the receiver's books. A message is entered by one store, so that a kill finds it entered or not. */
struct page {
    struct lab_reliable_memory memory[2];
    _Atomic uint64_t entered; /* messages: the next one that is due */
    _Atomic uint64_t wrong;   /* 1 + the number of one that came twice, or too early; 0: none */
    _Atomic uint64_t damaged;
};

struct scene {
    struct lab_channel channel;
    const struct lab_transport_ops *ops;
    struct lab_wire wire;
    struct page *page;
    bool forgets; /* the receiver has no memory but its books, of which a new life knows nothing */
    pid_t child[2];
};

static struct lab_channel channel_over(const char *name, bool reliable)
{
    return (struct lab_channel){.transport = lab_transport_named(name), .wait = LAB_WAIT_BLOCK, .id = 1, .epoch = 1, .message_max = MESSAGE,
                                .window = WINDOW, .batch = 1, .reliable = reliable};
}

static uint64_t patience(void)
{
    return lab_now_ns() + PATIENCE_S * LAB_NS_PER_S;
}

static struct lab_end *open_end(struct scene *scene, enum lab_role role, bool remembers)
{
    struct lab_channel channel = scene->channel;
    struct lab_end *end = NULL;
    channel.memory = remembers ? &scene->page->memory[role] : NULL;
    if (lab_end_open(&channel, role, &scene->wire, NULL, patience(), &end))
        fprintf(stderr, "an end: %s\n", lab_error_last()->text);
    return end;
}

/* ---- the two that are killed ---- */

/* Sends what its memory says was not acknowledged, and all after it. */
static int sender(struct scene *scene)
{
    unsigned char message[MESSAGE];
    uint64_t next = lab_reliable_recall(&scene->page->memory[LAB_TX]).from;
    struct lab_end *end = open_end(scene, LAB_TX, true);
    int err = end ? 0 : -1;
    for (; !err && next < MESSAGES; next++) {
        lab_ledger_write(message, MESSAGE, next);
        err = end->ops->send(end, message, MESSAGE, patience());
    }
    lab_end_close(end);
    return err ? 1 : 0;
}

static void enter(struct page *page, uint64_t number, bool *first, bool forgets)
{
    uint64_t due = page->entered;
    /* A life that knows nothing may be given once more what had not been acknowledged, in order. */
    if (forgets && *first && number < due && number >= lab_reliable_recall(&page->memory[LAB_TX]).from)
        page->entered = due = number;
    *first = false;
    if (number != due && !page->wrong)
        page->wrong = number + 1;
    page->entered = number + 1;
}

/* Its books are what it goes on from: they are ahead of what the transport knows to be taken by the message that it works on. */
static int receiver(struct scene *scene)
{
    struct page *page = scene->page;
    struct lab_reliable_past past = lab_reliable_recall(&page->memory[LAB_RX]);
    past.from = page->entered;
    if (!scene->forgets)
        lab_reliable_remember(&page->memory[LAB_RX], &past);
    struct lab_end *end = open_end(scene, LAB_RX, !scene->forgets);
    unsigned char message[MESSAGE];
    bool first = true;
    ssize_t got = end ? 0 : -1;
    while (got >= 0) {
        got = end->ops->recv(end, message, sizeof message, patience());
        uint64_t number;
        memcpy(&number, message, sizeof number);
        if (got < 0)
            break;
        if (got != MESSAGE || !lab_ledger_holds(message, MESSAGE, number))
            page->damaged++;
        else
            enter(page, number, &first, scene->forgets);
    }
    lab_end_close(end);
    return got == -EPIPE ? 0 : 1;
}

/* ---- who starts and kills them ---- */

static void start(struct scene *scene, enum lab_role role)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(role == LAB_TX ? sender(scene) : receiver(scene));
    }
    scene->child[role] = pid;
}

static void kill_and_start(struct scene *scene, enum lab_role role)
{
    kill(scene->child[role], SIGKILL);
    waitpid(scene->child[role], NULL, 0);
    start(scene, role);
}

/* Until so many have been entered; false: in vain. */
static bool await(const struct page *page, uint64_t entered)
{
    uint64_t deadline_ns = patience();
    while (page->entered < entered && lab_ns_until(deadline_ns))
        usleep(200);
    return page->entered >= entered;
}

static void play(const char *transport, bool forgets)
{
    struct scene scene = {.channel = channel_over(transport, true), .forgets = forgets};
    scene.ops = lab_transport_ops(scene.channel.transport);
    if (!scene.ops)
        lab_test_skip(lab_error_last()->text);
    scene.page = mmap(NULL, sizeof *scene.page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    lab_assert_ok(scene.ops->provision(&scene.channel, &scene.wire));
    struct page *page = scene.page;
    start(&scene, LAB_RX);
    start(&scene, LAB_TX);
    unsigned random = 7;
    for (uint64_t k = 0; k < KILLS; k++) {
        /* At any point of a message: how far the books are says only about when. */
        assert_true(await(page, (k + 1) * (MESSAGES / 2) / KILLS));
        random = random * 1103515245 + 12345;
        lab_spin_for(random / 65536 % 300 * LAB_NS_PER_US);
        unsigned who = random / 8 % 4;
        if (who != 1)
            kill_and_start(&scene, LAB_RX);
        if (who == 1 || who == 2)
            kill_and_start(&scene, LAB_TX);
    }
    assert_true(await(page, MESSAGES));
    int status[2] = {-1, -1};
    for (int role = 0; role < 2; role++)
        waitpid(scene.child[role], &status[role], 0);
    scene.ops->retire(&scene.channel, &scene.wire);
    if (page->wrong)
        print_error("message %" PRIu64 " came when it was not due\n", page->wrong - 1);
    assert_int_equal(page->wrong, 0);
    assert_int_equal(page->damaged, 0);
    assert_int_equal(page->entered, MESSAGES);
    assert_int_equal(status[LAB_TX], 0);
    assert_int_equal(status[LAB_RX], 0); /* it was told the end */
    munmap(page, sizeof *page);
}

static void ends_that_are_killed_over_tcp_lose_and_repeat_nothing(void **state)
{
    (void)state;
    play("zmq-tcp", false);
}

static void ends_that_are_killed_over_ipc_lose_and_repeat_nothing(void **state)
{
    (void)state;
    play("zmq-ipc", false);
}

static void a_receiver_that_forgets_is_given_again_what_was_not_acknowledged_and_nothing_else(void **state)
{
    (void)state;
    play("zmq-tcp", true);
}

/* ---- the two that are cut off from each other ---- */

static volatile sig_atomic_t told;

static void on_term(int number)
{
    told = number;
}

enum { SILENCE_S = 45, PACE_US = 200 };

static int receive(const char *host, const char *file, bool reliable)
{
    struct scene scene = {.channel = channel_over("zmq-tcp", reliable)};
    scene.channel.crosses_nodes = scene.channel.crosses_hosts = true;
    scene.channel.host = host;
    scene.ops = lab_transport_ops(scene.channel.transport);
    if (!scene.ops || scene.ops->provision(&scene.channel, &scene.wire)) {
        fprintf(stderr, "%s\n", lab_error_last()->text);
        return 1;
    }
    struct lab_end *end = open_end(&scene, LAB_RX, false);
    FILE *to = fopen(file, "w");
    if (!end || !to || fprintf(to, "%s\n", scene.wire.address) < 0 || fclose(to))
        return 1;
    unsigned char message[MESSAGE];
    uint64_t received = 0, left_out = 0, twice = 0, due = 0, number;
    ssize_t got;
    while ((got = end->ops->recv(end, message, sizeof message, lab_now_ns() + SILENCE_S * LAB_NS_PER_S)) == MESSAGE) {
        memcpy(&number, message, sizeof number);
        received++;
        left_out += number > due ? number - due : 0;
        twice += number < due;
        due = number >= due ? number + 1 : due;
    }
    printf("received %" PRIu64 ", left out %" PRIu64 ", twice %" PRIu64 ", %s\n", received, left_out, twice,
           got == -EPIPE ? "told the end" : got == -EAGAIN ? "then silence" : strerror((int)-got));
    lab_end_close(end);
    return 0;
}

static int send_until_told(const char *file, bool reliable)
{
    struct scene scene = {.channel = channel_over("zmq-tcp", reliable), .wire = {.fd = {-1, -1}}};
    scene.channel.crosses_nodes = scene.channel.crosses_hosts = true;
    FILE *from = fopen(file, "r");
    if (!from || !fgets(scene.wire.address, sizeof scene.wire.address, from))
        return 1;
    fclose(from);
    scene.wire.address[strcspn(scene.wire.address, "\n")] = '\0';
    signal(SIGTERM, on_term);
    struct lab_end *end = open_end(&scene, LAB_TX, false);
    unsigned char message[MESSAGE];
    uint64_t sent = 0;
    int err = end ? 0 : -1;
    while (!err && !told) {
        lab_ledger_write(message, MESSAGE, sent);
        err = end->ops->send(end, message, MESSAGE, patience());
        sent += !err;
        usleep(PACE_US);
    }
    printf("sent %" PRIu64 ", %s\n", sent, err ? strerror(-err) : "all");
    lab_end_close(end);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--receive") == 0)
        return receive(argv[2], argv[3], strcmp(argv[4], "reliable") == 0);
    if (argc == 5 && strcmp(argv[1], "--send") == 0)
        return send_until_told(argv[3], strcmp(argv[4], "reliable") == 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_that_are_killed_over_tcp_lose_and_repeat_nothing),
        cmocka_unit_test(ends_that_are_killed_over_ipc_lose_and_repeat_nothing),
        cmocka_unit_test(a_receiver_that_forgets_is_given_again_what_was_not_acknowledged_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
