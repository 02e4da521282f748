/* Sleeping on an eventfd: bells by themselves, and rings in an event loop. */
#include "tests/check.h"

#include "base/clock.h"
#include "shm/ring.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static bool is_ringing(int bell)
{
    struct pollfd fd = {.fd = bell, .events = POLLIN};
    assert_true(poll(&fd, 1, 0) >= 0);
    return fd.revents & POLLIN;
}

/* ---- bells ---- */

/* Two sides of a flag: who sleeps until it is raised, and who raises it. */
struct flag {
    struct lab_bells bells[2];
    struct lab_wait_plan sleeps, wakes;
    _Atomic uint32_t raised, gone;
    struct lab_sleeper sleeper;
};

static void flag_init(struct flag *flag)
{
    *flag = (struct flag){.sleeps = lab_wait_plan(LAB_WAIT_POLL), .wakes = lab_wait_plan(LAB_WAIT_POLL)};
    lab_assert_ok(lab_bells_make(flag->bells));
    flag->sleeps.bells = flag->bells[0];
    flag->wakes.bells = flag->bells[1];
}

static void flag_fini(struct flag *flag)
{
    lab_bells_close(&flag->bells[0]);
    lab_bells_close(&flag->bells[1]);
    lab_bells_close(&flag->bells[1]);
    assert_int_equal(flag->bells[1].own, -1);
}

static bool is_raised(void *subject)
{
    return atomic_load(&((struct flag *)subject)->raised);
}

static bool arm(struct flag *flag)
{
    return lab_wait_arm(&flag->sleeper, is_raised, flag, &flag->gone);
}

static void raise_flag(struct flag *flag)
{
    atomic_store_explicit(&flag->raised, 1, memory_order_release);
    lab_wait_wake_by(&flag->wakes, &flag->sleeper);
}

static void each_side_hears_the_other_and_not_itself(void **state)
{
    (void)state;
    struct flag flag;
    flag_init(&flag);
    assert_int_equal(lab_wait_plan(LAB_WAIT_POLL).bells.own, -1);
    const struct lab_wait_plan *plans[2] = {&flag.sleeps, &flag.wakes};
    for (int side = 0; side < 2; side++) {
        lab_bell_ring(flag.bells[side].peer);
        assert_true(is_ringing(flag.bells[!side].own));
        assert_false(is_ringing(flag.bells[side].own));
        lab_wait_disarm(plans[!side], &flag.sleeper);
        assert_false(is_ringing(flag.bells[!side].own));
    }
    lab_bell_ring(-1);
    flag_fini(&flag);
}

static void a_bell_is_rung_once_and_only_for_who_sleeps(void **state)
{
    (void)state;
    struct flag flag;
    flag_init(&flag);
    lab_wait_wake_by(&flag.wakes, &flag.sleeper);
    assert_false(is_ringing(flag.bells[0].own));
    assert_true(arm(&flag));
    assert_false(is_ringing(flag.bells[0].own));
    raise_flag(&flag);
    assert_int_equal(flag.sleeper.asleep, 0);
    raise_flag(&flag);
    uint64_t times = 0;
    assert_int_equal(read(flag.bells[0].own, &times, sizeof times), sizeof times);
    assert_int_equal(times, 1);
    lab_wait_disarm(&flag.sleeps, &flag.sleeper);
    flag_fini(&flag);
}

static void nobody_sleeps_where_there_is_something_or_nobody_else(void **state)
{
    (void)state;
    struct flag flag;
    flag_init(&flag);
    flag.raised = 1;
    assert_false(arm(&flag));
    assert_int_equal(flag.sleeper.asleep, 0);
    flag.raised = 0;
    flag.gone = 1;
    assert_false(arm(&flag));
    assert_int_equal(flag.sleeper.asleep, 0);
    flag_fini(&flag);
}

/* The waker cleared the word, the sleeper woke for another reason, and only then the bell is rung. */
static void what_is_rung_late_wakes_for_nothing_and_takes_nothing_away(void **state)
{
    (void)state;
    struct flag flag;
    flag_init(&flag);
    assert_true(arm(&flag));
    lab_wait_disarm(&flag.sleeps, &flag.sleeper);
    lab_bell_ring(flag.bells[1].peer);
    assert_true(arm(&flag));
    assert_true(is_ringing(flag.bells[0].own));
    lab_wait_disarm(&flag.sleeps, &flag.sleeper);
    assert_true(arm(&flag));
    assert_false(is_ringing(flag.bells[0].own));
    raise_flag(&flag);
    assert_true(is_ringing(flag.bells[0].own));
    flag_fini(&flag);
}

/* ---- rings in an event loop ---- */

enum { RINGS = 3, MESSAGES = 20000, WITHIN_MS = 60000 };

struct channel {
    struct lab_ring_config config;
    struct lab_ring_shape shape;
    void *memory;
    struct lab_bells bells[2];
    struct lab_ring_consumer consumer;
    uint64_t received;
    int err; /* the producer's */
};

static void channel_init(struct channel *channel, uint32_t window)
{
    *channel = (struct channel){.config = {.message_max = 8, .window = window, .batch = 1, .wait = LAB_WAIT_POLL}};
    lab_assert_ok(lab_bells_make(channel->bells));
    lab_assert_ok(lab_ring_shape(&channel->config, &channel->shape));
    channel->memory = aligned_alloc(LAB_RING_LINE, channel->shape.size);
    assert_non_null(channel->memory);
    memset(channel->memory, 0, channel->shape.size);
    lab_ring_init(channel->memory, &channel->config, &channel->shape);
}

static void channel_fini(struct channel *channel)
{
    lab_bells_close(&channel->bells[0]);
    lab_bells_close(&channel->bells[1]);
    free(channel->memory);
}

static struct lab_ring_config config_for(const struct channel *channel, enum lab_ring_side side)
{
    struct lab_ring_config config = channel->config;
    config.bells = channel->bells[side];
    return config;
}

/* An event loop that sends: it sleeps until there is room. */
static int send_one(struct lab_ring_producer *producer, uint64_t number)
{
    struct lab_span span;
    int err;
    while ((err = lab_ring_reserve(producer, sizeof number, 1, 0, &span)) == -EAGAIN) {
        struct pollfd bell = {.fd = lab_ring_producer_fd(producer), .events = POLLIN};
        if (lab_ring_producer_arm(producer) && poll(&bell, 1, WITHIN_MS) != 1)
            return -ETIMEDOUT;
        lab_ring_producer_disarm(producer);
    }
    if (err)
        return err;
    memcpy(span.at, &number, sizeof number);
    lab_ring_commit(producer, 1);
    return 0;
}

static void *sends(void *subject)
{
    struct channel *channel = subject;
    struct lab_ring_config config = config_for(channel, LAB_RING_PRODUCER);
    struct lab_ring_producer producer;
    channel->err = lab_ring_produce(&producer, channel->memory, channel->shape.size, &config);
    for (uint64_t number = 0; number < MESSAGES && !channel->err; number++)
        channel->err = send_one(&producer, number);
    lab_ring_hangup(channel->memory, LAB_RING_PRODUCER);
    lab_bell_ring(channel->bells[LAB_RING_PRODUCER].peer);
    return NULL;
}

/* Takes all that is there. Whether more may come. */
static bool drain(struct channel *channel)
{
    struct lab_span span;
    int err;
    while ((err = lab_ring_borrow(&channel->consumer, 1, 0, &span)) == 0) {
        uint64_t number;
        memcpy(&number, span.at, sizeof number);
        assert_int_equal(number, channel->received);
        channel->received++;
        lab_ring_release(&channel->consumer, 1);
    }
    assert_true(err == -EAGAIN || err == -EPIPE);
    return err == -EAGAIN;
}

/* There are no slices here: a wake-up that is lost ends in a time-out. */
static void one_loop_receives_from_many_rings_and_loses_no_wake_up(void **state)
{
    (void)state;
    struct channel channels[RINGS];
    pthread_t threads[RINGS];
    struct pollfd fds[RINGS];
    for (uint32_t r = 0; r < RINGS; r++) {
        channel_init(&channels[r], r ? 1 : 128);
        struct lab_ring_config config = config_for(&channels[r], LAB_RING_CONSUMER);
        lab_assert_ok(lab_ring_consume(&channels[r].consumer, channels[r].memory, channels[r].shape.size, &config));
        fds[r] = (struct pollfd){.fd = lab_ring_consumer_fd(&channels[r].consumer), .events = POLLIN};
        assert_int_equal(pthread_create(&threads[r], NULL, sends, &channels[r]), 0);
    }
    for (uint32_t open = RINGS; open;) {
        bool armed = true;
        for (uint32_t r = 0; r < RINGS; r++)
            armed = (fds[r].fd < 0 || lab_ring_consumer_arm(&channels[r].consumer)) && armed;
        if (armed)
            assert_true(poll(fds, RINGS, WITHIN_MS) > 0);
        for (uint32_t r = 0; r < RINGS; r++) {
            if (fds[r].fd < 0)
                continue;
            lab_ring_consumer_disarm(&channels[r].consumer);
            if (!drain(&channels[r])) {
                fds[r].fd = -1;
                open--;
            }
        }
    }
    for (uint32_t r = 0; r < RINGS; r++) {
        pthread_join(threads[r], NULL);
        assert_int_equal(channels[r].err, 0);
        assert_int_equal(channels[r].received, MESSAGES);
        channel_fini(&channels[r]);
    }
}

static void a_ring_whose_sides_sleep_on_bells_has_some(void **state)
{
    (void)state;
    struct channel channel;
    channel_init(&channel, 4);
    struct lab_ring_config config = channel.config;
    config.bells = (struct lab_bells){-1, -1};
    lab_assert_fails(lab_ring_consume(&channel.consumer, channel.memory, channel.shape.size, &config), EINVAL);
    config.bells = channel.bells[LAB_RING_CONSUMER];
    lab_assert_ok(lab_ring_consume(&channel.consumer, channel.memory, channel.shape.size, &config));
    assert_int_equal(lab_ring_consumer_fd(&channel.consumer), channel.bells[LAB_RING_CONSUMER].own);
    channel_fini(&channel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_side_hears_the_other_and_not_itself),
        cmocka_unit_test(a_bell_is_rung_once_and_only_for_who_sleeps),
        cmocka_unit_test(nobody_sleeps_where_there_is_something_or_nobody_else),
        cmocka_unit_test(what_is_rung_late_wakes_for_nothing_and_takes_nothing_away),
        cmocka_unit_test(one_loop_receives_from_many_rings_and_loses_no_wake_up),
        cmocka_unit_test(a_ring_whose_sides_sleep_on_bells_has_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
