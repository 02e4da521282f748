/* Who may connect: the handler, the canary that proves it, and the file of keys. */
#include "base/clock.h"
#include "base/error.h"
#include "proto/bus/keys.h"
#include "proto/curve/curve.h"

#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

static uint64_t in_s(uint64_t seconds)
{
    return lab_now_ns() + seconds * LAB_NS_PER_S;
}

static struct lab_curve_pair pair(void)
{
    struct lab_curve_pair made;
    lab_assert_ok(lab_curve_pair_make(&made));
    return made;
}

/* ---- a server, and clients of it ---- */

struct scene {
    void *context, *server;
    struct lab_curve_guard *guard;
    struct lab_curve_pair own, friend;
    char address[128];
};

static void open_scene(struct scene *scene)
{
    *scene = (struct scene){.context = zmq_ctx_new(), .own = pair(), .friend = pair()};
    const struct lab_curve_pair another = pair();
    const char *allowed[] = {another.open, scene->friend.open};
    lab_assert_ok(lab_curve_guard_start(scene->context, allowed, 2, in_s(10), &scene->guard));
    scene->server = zmq_socket(scene->context, ZMQ_PULL);
    lab_assert_ok(lab_curve_serve(scene->server, &scene->own));
    assert_int_equal(zmq_setsockopt(scene->server, ZMQ_RCVTIMEO, &(int){10000}, sizeof(int)), 0);
    assert_int_equal(zmq_bind(scene->server, "tcp://127.0.0.1:*"), 0);
    size_t room = sizeof scene->address;
    assert_int_equal(zmq_getsockopt(scene->server, ZMQ_LAST_ENDPOINT, scene->address, &room), 0);
}

static void close_scene(struct scene *scene)
{
    zmq_close(scene->server);
    lab_curve_guard_end(scene->guard);
    assert_int_equal(zmq_ctx_term(scene->context), 0);
}

/* Says `word` with those keys, and returns what became of the connection. NULL: in the clear. */
static int say(struct scene *scene, const struct lab_curve_pair *keys, const char *server, const char *word)
{
    void *client = zmq_socket(scene->context, ZMQ_PUSH), *monitor = zmq_socket(scene->context, ZMQ_PAIR);
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                 ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_DISCONNECTED;
    unsigned char event[6];
    char news[32];
    static int said;
    snprintf(news, sizeof news, "inproc://news-%d", said++);
    if (keys)
        lab_assert_ok(lab_curve_join(client, keys, server));
    assert_int_equal(zmq_setsockopt(client, ZMQ_LINGER, &(int){keys == &scene->friend ? 1000 : 0}, sizeof(int)), 0);
    assert_int_equal(zmq_socket_monitor(client, news, events), 0);
    assert_int_equal(zmq_setsockopt(monitor, ZMQ_RCVTIMEO, &(int){10000}, sizeof(int)), 0);
    assert_int_equal(zmq_connect(monitor, news), 0);
    assert_int_equal(zmq_connect(client, scene->address), 0);
    assert_int_equal(zmq_send(client, word, strlen(word), 0), strlen(word));
    assert_int_equal(zmq_recv(monitor, event, sizeof event, 0), sizeof event);
    zmq_socket_monitor(client, NULL, 0);
    zmq_close(monitor);
    zmq_close(client);
    return event[0] | event[1] << 8;
}

static void only_a_key_that_is_allowed_is_heard(void **state)
{
    (void)state;
    struct scene scene;
    struct lab_curve_pair stranger = pair(), deceived = pair();
    char heard[16] = "";
    open_scene(&scene);
    assert_int_equal(say(&scene, &stranger, scene.own.open, "stranger"), ZMQ_EVENT_HANDSHAKE_FAILED_AUTH);
    /* Nobody who does not know the server's key, nor the secret of the public key that he shows, nor anyone in the clear. */
    assert_int_not_equal(say(&scene, &scene.friend, deceived.open, "deceived"), ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    memcpy(stranger.open, scene.friend.open, sizeof stranger.open);
    assert_int_not_equal(say(&scene, &stranger, scene.own.open, "liar"), ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    assert_int_not_equal(say(&scene, NULL, NULL, "plain"), ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    assert_int_equal(say(&scene, &scene.friend, scene.own.open, "friend"), ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    assert_int_equal(zmq_recv(scene.server, heard, sizeof heard, 0), 6);
    assert_memory_equal(heard, "friend", 6);
    assert_int_equal(zmq_recv(scene.server, heard, sizeof heard, ZMQ_DONTWAIT), -1);
    close_scene(&scene);
}

/* ---- the canary ---- */

static void without_a_handler_nothing_may_be_bound(void **state)
{
    (void)state;
    void *context = zmq_ctx_new();
    lab_assert_fails(lab_curve_prove(context, in_s(10)), EPERM);
    assert_int_equal(zmq_ctx_term(context), 0);
}

/* A handler that answers everything with one code; "": that never answers. */
struct handler {
    void *socket;
    const char *code;
};

static void *handle(void *argument)
{
    struct handler *handler = argument;
    char part[256], number[256] = "";
    int more = 1, size = 0, numbered = 0;
    while (size >= 0) {
        for (int parts = 0; more && (size = zmq_recv(handler->socket, part, sizeof part, 0)) >= 0; parts++) {
            if (parts == 1)
                memcpy(number, part, (size_t)(numbered = size));
            zmq_getsockopt(handler->socket, ZMQ_RCVMORE, &more, &(size_t){sizeof more});
        }
        if (size >= 0 && handler->code[0]) {
            zmq_send(handler->socket, "1.0", 3, ZMQ_SNDMORE);
            zmq_send(handler->socket, number, (size_t)numbered, ZMQ_SNDMORE);
            zmq_send(handler->socket, handler->code, 3, ZMQ_SNDMORE);
            for (int empty = 0; empty < 3; empty++)
                zmq_send(handler->socket, "", 0, empty < 2 ? ZMQ_SNDMORE : 0);
        }
        more = 1;
    }
    zmq_close(handler->socket);
    return NULL;
}

static int prove_with(const char *code, uint64_t deadline_ns)
{
    void *context = zmq_ctx_new();
    struct handler handler = {zmq_socket(context, code[0] ? ZMQ_REP : ZMQ_ROUTER), code};
    pthread_t thread;
    assert_int_equal(zmq_bind(handler.socket, "inproc://zeromq.zap.01"), 0);
    assert_int_equal(pthread_create(&thread, NULL, handle, &handler), 0);
    int err = lab_curve_prove(context, deadline_ns);
    zmq_ctx_shutdown(context);
    pthread_join(thread, NULL);
    assert_int_equal(zmq_ctx_term(context), 0);
    return err;
}

static void a_handler_that_lets_strangers_in_is_found_out(void **state)
{
    (void)state;
    lab_assert_ok(prove_with("400", in_s(10)));
    lab_assert_fails(prove_with("200", in_s(10)), EPERM);
    assert_non_null(strstr(lab_error_last()->text, "was let in"));
}

static void a_handler_that_does_not_answer_is_none(void **state)
{
    (void)state;
    lab_assert_fails(prove_with("", lab_now_ns() + 50 * LAB_NS_PER_MS), EPERM);
    assert_non_null(strstr(lab_error_last()->text, "no answer in time"));
}

static void one_context_has_one_guard_and_a_list_that_is_one_of_keys(void **state)
{
    (void)state;
    void *context = zmq_ctx_new();
    struct lab_curve_pair friend = pair();
    struct lab_curve_guard *guard = NULL, *second = NULL;
    const char *allowed[] = {friend.open, "not a key"};
    lab_assert_fails(lab_curve_guard_start(context, allowed, 0, in_s(10), &guard), EINVAL);
    lab_assert_fails(lab_curve_guard_start(context, allowed, 2, in_s(10), &guard), EINVAL);
    lab_assert_ok(lab_curve_guard_start(context, allowed, 1, in_s(10), &guard));
    lab_assert_fails(lab_curve_guard_start(context, allowed, 1, in_s(10), &second), EADDRINUSE);
    assert_null(second);
    lab_curve_guard_end(NULL);
    lab_curve_guard_end(guard);
    assert_int_equal(zmq_ctx_term(context), 0);
}

/* ---- the file ---- */

struct room {
    char folder[64], path[160];
};

static int enter_room(void **state)
{
    static struct room room;
    strcpy(room.folder, "/tmp/lab-unit-keys-XXXXXX");
    if (!mkdtemp(room.folder))
        return -1;
    setenv("XDG_CONFIG_HOME", room.folder, 1);
    snprintf(room.path, sizeof room.path, "%s/ipclab/keys", room.folder);
    *state = &room;
    return 0;
}

static int leave_room(void **state)
{
    struct room *room = *state;
    char folder[128];
    snprintf(folder, sizeof folder, "%s/ipclab", room->folder);
    unlink(room->path);
    rmdir(folder);
    return rmdir(room->folder);
}

static void assert_same(const struct lab_keys *a, const struct lab_keys *b)
{
    assert_string_equal(a->launcher.open, b->launcher.open);
    assert_string_equal(a->launcher.secret, b->launcher.secret);
    assert_string_equal(a->node.open, b->node.open);
    assert_string_equal(a->node.secret, b->node.secret);
}

static void keys_are_made_once_for_their_owner_only(void **state)
{
    struct room *room = *state;
    struct lab_keys made, read;
    struct stat facts;
    bool news = false;
    char place[PATH_MAX];
    lab_assert_ok(lab_keys_place(place));
    assert_string_equal(place, room->path);
    lab_assert_fails(lab_keys_read(place, &read), ENOENT);
    lab_assert_ok(lab_keys_load(&made, &news));
    assert_true(news);
    assert_int_equal(stat(place, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
    *strrchr(place, '/') = '\0';
    assert_int_equal(stat(place, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0700);
    assert_int_equal(facts.st_nlink, 2); /* no half of a file lies beside */
    lab_assert_ok(lab_keys_load(&read, &news));
    assert_false(news);
    assert_same(&made, &read);
    assert_string_not_equal(made.launcher.secret, made.node.secret);
    lab_assert_fails(lab_keys_make(room->path, false, &read), EEXIST);
    lab_assert_ok(lab_keys_make(room->path, true, &read));
    assert_string_not_equal(made.node.secret, read.node.secret);
}

static void keys_that_others_may_read_are_refused_with_the_mend(void **state)
{
    static const mode_t wide[] = {0640, 0604, 0620, 0602, 0610, 0601};
    struct room *room = *state;
    struct lab_keys keys;
    lab_assert_ok(lab_keys_make(room->path, false, &keys));
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        assert_int_equal(chmod(room->path, wide[i]), 0);
        lab_assert_fails(lab_keys_read(room->path, &keys), EPERM);
        assert_non_null(strstr(lab_error_last()->text, "chmod 600"));
    }
    assert_int_equal(chmod(room->path, 0400), 0);
    lab_assert_ok(lab_keys_read(room->path, &keys));
}

static void what_are_no_keys_is_refused(void **state)
{
    struct room *room = *state;
    struct lab_keys keys, kept;
    char good[LAB_KEYS_TEXT] = "", bad[2 * LAB_KEYS_TEXT];
    lab_assert_ok(lab_keys_make(room->path, false, &keys));
    int fd = open(room->path, O_RDWR | O_CLOEXEC);
    ssize_t size = pread(fd, good, sizeof good - 1, 0);
    assert_true(size > 0);
    memset(&kept, 7, sizeof kept);
    keys = kept;
    for (ssize_t cut = 0; cut < size - 1; cut++) { /* the last letter is the end of a line */
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, good, (size_t)cut, 0), cut);
        lab_assert_fails(lab_keys_read(room->path, &keys), EPERM);
    }
    int longer = snprintf(bad, sizeof bad, "%sanother %s\n", good, good);
    assert_int_equal(pwrite(fd, bad, (size_t)longer, 0), longer);
    lab_assert_fails(lab_keys_read(room->path, &keys), EPERM);
    assert_memory_equal(&keys, &kept, sizeof keys);
    close(fd);
}

static void what_is_handed_on_lacks_the_launchers_secret_and_cannot_be_changed(void **state)
{
    struct room *room = *state;
    struct lab_keys keys, taken;
    char text[LAB_KEYS_TEXT];
    int fd, again;
    lab_assert_ok(lab_keys_make(room->path, false, &keys));
    lab_assert_ok(lab_keys_pass(&keys, &fd));
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    for (int reader = 0; reader < 2; reader++) { /* each of several nodes reads all of it */
        int size = lab_keys_take_text(fd, text);
        assert_true(size > 0);
        assert_null(strstr(text, keys.launcher.secret));
        lab_assert_ok(lab_keys_take(fd, &taken));
        lab_assert_ok(lab_keys_pass_text(text, (size_t)size, &again));
        lab_assert_ok(lab_keys_take(again, &taken));
        close(again);
    }
    close(fd);
    keys.launcher.secret[0] = '\0';
    assert_same(&keys, &taken);
    lab_assert_fails(lab_keys_pass_text("nonsense", 8, &fd), EPERM);
    lab_assert_fails(lab_keys_pass_text(text, sizeof text + 1, &fd), EPERM);
    lab_assert_fails(lab_keys_take(-1, &taken), EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_key_that_is_allowed_is_heard),
        cmocka_unit_test(without_a_handler_nothing_may_be_bound),
        cmocka_unit_test(a_handler_that_lets_strangers_in_is_found_out),
        cmocka_unit_test(a_handler_that_does_not_answer_is_none),
        cmocka_unit_test(one_context_has_one_guard_and_a_list_that_is_one_of_keys),
        cmocka_unit_test_setup_teardown(keys_are_made_once_for_their_owner_only, enter_room, leave_room),
        cmocka_unit_test_setup_teardown(keys_that_others_may_read_are_refused_with_the_mend, enter_room, leave_room),
        cmocka_unit_test_setup_teardown(what_are_no_keys_is_refused, enter_room, leave_room),
        cmocka_unit_test_setup_teardown(what_is_handed_on_lacks_the_launchers_secret_and_cannot_be_changed, enter_room, leave_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
