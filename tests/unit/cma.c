/* Reading another process's memory: whose it is, whether one may, and what a hostile sender can announce. What every transport promises is
 * in contract.transports. */
#include "tests/check.h"

#include "base/clock.h"
#include "node/transport.h"
#include "shm/segment.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODY = 65534, LONGEST = 1000 };

struct rig {
    struct lab_channel channel;
    const struct lab_transport_ops *ops;
    struct lab_wire wire;
    struct lab_end *tx, *rx;
    struct lab_segment words; /* what a hostile sender could write to */
};

static uint64_t soon(void)
{
    return lab_now_ns() + 5 * LAB_NS_PER_S;
}

/* Both ends in this process: it may read itself. */
static void rig_init(struct rig *rig)
{
    *rig = (struct rig){.channel = {.transport = lab_transport_named("cma"), .wait = LAB_WAIT_SPIN, .message_max = LONGEST, .window = 8, .batch = 4}};
    rig->ops = lab_transport_ops(rig->channel.transport);
    if (rig->ops->usable())
        lab_test_skip(lab_error_last()->text);
    lab_assert_ok(rig->ops->provision(&rig->channel, &rig->wire));
    lab_assert_ok(lab_segment_attach(rig->wire.fd[LAB_TX], 0, &rig->words));
    lab_assert_ok(lab_end_open(&rig->channel, LAB_TX, &rig->wire, NULL, soon(), &rig->tx));
    rig->wire.fd[LAB_TX] = -1;
    lab_assert_ok(lab_end_open(&rig->channel, LAB_RX, &rig->wire, NULL, soon(), &rig->rx));
    rig->wire.fd[LAB_RX] = -1;
}

static void rig_fini(struct rig *rig)
{
    lab_end_close(rig->rx);
    lab_end_close(rig->tx);
    lab_segment_fini(&rig->words);
    rig->ops->retire(&rig->channel, &rig->wire);
}

static struct lab_span commit(struct rig *rig, uint32_t length, uint32_t want)
{
    struct lab_span span;
    lab_assert_ok(rig->ops->reserve(rig->tx, length, want, 0, &span));
    for (uint32_t i = 0; i < span.count; i++)
        memset(span.at + i * span.stride, (int)(i + 1), length);
    rig->ops->commit(rig->tx, span.count);
    return span;
}

static void several_messages_come_by_one_read_and_their_places_are_free_at_once(void **state)
{
    (void)state;
    struct rig rig;
    struct lab_span span;
    rig_init(&rig);
    for (int round = 0; round < 50; round++) {
        assert_int_equal(commit(&rig, 100, 4).count, 4);
        assert_int_equal(commit(&rig, LONGEST, 4).count, 4);
        assert_int_equal(rig.ops->reserve(rig.tx, 1, 1, 0, &span), -EAGAIN);
        for (uint32_t batch = 0; batch < 2; batch++) {
            lab_assert_ok(rig.ops->borrow(rig.rx, 3, 0, &span));
            assert_int_equal(span.count, 3);
            assert_int_equal(span.length, batch ? LONGEST : 100);
            assert_true(span.at[0] == 1 && span.at[2 * span.stride + span.length - 1] == 3);
            rig.ops->release(rig.rx, 3);
            lab_assert_ok(rig.ops->borrow(rig.rx, 3, 0, &span));
            assert_true(span.count == 1 && span.at[0] == 4);
            rig.ops->release(rig.rx, 1);
        }
    }
    rig_fini(&rig);
}

/* As if the sender had died, and its number had gone to a process that happens to have memory there. */
static void memory_without_the_senders_stamp_is_not_taken_for_a_message(void **state)
{
    (void)state;
    struct rig rig;
    struct lab_span span;
    rig_init(&rig);
    struct lab_span sent = commit(&rig, 64, 1);
    sent.at[-1] ^= 1;
    lab_assert_fails(rig.ops->borrow(rig.rx, 1, 0, &span), EBADMSG);
    sent.at[-1] ^= 1;
    lab_assert_ok(rig.ops->borrow(rig.rx, 1, 0, &span));
    assert_int_equal(span.at[63], 1);
    rig.ops->release(rig.rx, 1);
    rig_fini(&rig);
}

static void who_may_not_read_the_sender_is_told_before_anything_moves(void **state)
{
    (void)state;
    if (geteuid() != 0)
        lab_test_skip("only root can be somebody else");
    struct rig rig;
    rig_init(&rig);
    struct lab_wire wire;
    struct lab_end *end, *forbidden;
    struct lab_channel channel = rig.channel;
    lab_assert_ok(rig.ops->provision(&channel, &wire));
    lab_assert_ok(lab_end_open(&channel, LAB_TX, &wire, NULL, soon(), &end));
    wire.fd[LAB_TX] = -1;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool told = setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0 &&
                    lab_end_open(&channel, LAB_RX, &wire, NULL, soon(), &forbidden) == -EPERM &&
                    strstr(lab_error_last()->text, "sysctl kernel.yama.ptrace_scope=0") != NULL;
        _exit(told ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    rig.ops->hangup(&channel, &wire, LAB_RX);
    lab_end_close(end);
    rig.ops->retire(&channel, &wire);
    rig_fini(&rig);
}

static void a_receiver_may_open_first_and_learns_of_a_sender_that_never_came(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    struct lab_wire wire;
    struct lab_end *tx, *rx;
    struct lab_span span;
    for (int comes = 0; comes < 2; comes++) {
        lab_assert_ok(rig.ops->provision(&rig.channel, &wire));
        lab_assert_ok(lab_end_open(&rig.channel, LAB_RX, &wire, NULL, soon(), &rx));
        wire.fd[LAB_RX] = -1;
        assert_int_equal(rig.ops->borrow(rx, 1, lab_now_ns() + LAB_NS_PER_MS, &span), -EAGAIN);
        if (comes) {
            lab_assert_ok(lab_end_open(&rig.channel, LAB_TX, &wire, NULL, soon(), &tx));
            wire.fd[LAB_TX] = -1;
            lab_assert_ok(rig.ops->reserve(tx, 8, 1, 0, &span));
            memcpy(span.at, "message", 8);
            rig.ops->commit(tx, 1);
            lab_assert_ok(rig.ops->borrow(rx, 1, soon(), &span));
            assert_string_equal(span.at, "message");
            rig.ops->release(rx, 1);
            lab_end_close(tx);
        } else {
            rig.ops->hangup(&rig.channel, &wire, LAB_TX);
        }
        lab_assert_fails(rig.ops->borrow(rx, 1, soon(), &span), EPIPE);
        lab_end_close(rx);
        rig.ops->retire(&rig.channel, &wire);
    }
    rig_fini(&rig);
}

static void nothing_that_is_announced_makes_the_receiver_crash(void **state)
{
    (void)state;
    uint32_t random = 1, received = 0;
    for (int round = 0; round < 400; round++) {
        struct rig rig;
        rig_init(&rig);
        for (int i = 0; i < 2; i++)
            commit(&rig, 100, 4);
        for (int hits = 1 + round % 40; hits; hits--) {
            random = random * 1664525u + 1013904223u;
            ((unsigned char *)rig.words.memory)[(random >> 8) % rig.words.size] = (unsigned char)(random >> 3);
        }
        for (int i = 0; i < 20; i++) {
            struct lab_span span;
            int err = rig.ops->borrow(rig.rx, 4, 0, &span);
            assert_true(err == 0 || err == -EAGAIN || err == -EPIPE || err == -EBADMSG || err == -EFAULT);
            if (err)
                continue;
            for (uint32_t m = 0; m < span.count; m++)
                received += span.at[m * span.stride] + span.at[m * span.stride + span.length - (span.length > 0)] > 0;
            rig.ops->release(rig.rx, span.count);
        }
        rig_fini(&rig);
    }
    assert_true(received > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_messages_come_by_one_read_and_their_places_are_free_at_once),
        cmocka_unit_test(memory_without_the_senders_stamp_is_not_taken_for_a_message),
        cmocka_unit_test(who_may_not_read_the_sender_is_told_before_anything_moves),
        cmocka_unit_test(a_receiver_may_open_first_and_learns_of_a_sender_that_never_came),
        cmocka_unit_test(nothing_that_is_announced_makes_the_receiver_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
