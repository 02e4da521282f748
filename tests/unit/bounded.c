/* The bounded buffer, under a monitor's lock and under semaphores: what it does, and what is left when a party is gone. */
#include "tests/bounded.h"

#include "shm/wait.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEATS = 3 };

/* A buffer in memory of this process, and all its parties: one thread. */
struct rig {
    const struct bounded_kind *kind;
    struct lab_buffer_config config;
    unsigned char *memory;
    size_t size;
    union bounded_party producer[SEATS], consumer[SEATS];
};

static struct lab_buffer_config config_of(uint32_t message_max, uint32_t window, uint32_t batch)
{
    return (struct lab_buffer_config){.message_max = message_max, .window = window, .producers = SEATS, .consumers = SEATS, .batch = batch};
}

static void rig_init(struct rig *rig, void **state, struct lab_buffer_config config)
{
    *rig = (struct rig){.kind = *state, .config = config};
    lab_assert_ok(rig->kind->size(&config, &rig->size));
    rig->memory = mmap(NULL, rig->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(rig->memory != MAP_FAILED);
    rig->kind->init(rig->memory, &config);
    for (uint32_t seat = 0; seat < config.producers; seat++)
        lab_assert_ok(rig->kind->attach(&rig->producer[seat], rig->memory, rig->size, &config, LAB_BUFFER_PRODUCER, seat));
    for (uint32_t seat = 0; seat < config.consumers; seat++)
        lab_assert_ok(rig->kind->attach(&rig->consumer[seat], rig->memory, rig->size, &config, LAB_BUFFER_CONSUMER, seat));
}

static void rig_fini(struct rig *rig)
{
    munmap(rig->memory, rig->size);
}

static unsigned char byte_of(uint64_t number, uint32_t at)
{
    return (unsigned char)(number * 131 + at * 7 + (number >> 8));
}

static void fill(const struct lab_span *span, uint64_t from)
{
    for (uint32_t m = 0; m < span->count; m++)
        for (uint32_t i = 0; i < span->length; i++)
            span->at[m * span->stride + i] = byte_of(from + m, i);
}

static void compare(const struct lab_span *span, uint64_t from)
{
    uint32_t wrong = 0;
    for (uint32_t m = 0; m < span->count; m++)
        for (uint32_t i = 0; i < span->length; i++)
            wrong += span->at[m * span->stride + i] != byte_of(from + m, i);
    assert_int_equal(wrong, 0);
}

/* Every byte of a span lies in the memory, behind everything that is kept about it. */
static void check_span(const struct rig *rig, const struct lab_span *span)
{
    assert_true(span->count >= 1 && span->length <= rig->config.message_max && span->stride >= span->length);
    assert_true(span->at >= rig->memory + 4 * LAB_BUFFER_LINE);
    assert_true(span->at + (span->count - 1) * span->stride + span->length <= rig->memory + rig->size);
}

static int try_send(struct rig *rig, uint32_t seat, uint64_t number, uint32_t length)
{
    struct lab_span span = {0};
    int err = rig->kind->reserve(&rig->producer[seat], length, 1, 0, &span);
    if (err)
        return err;
    check_span(rig, &span);
    fill(&span, number);
    rig->kind->commit(&rig->producer[seat], 1);
    return 0;
}

/* The length, after every byte was compared. */
static int try_receive(struct rig *rig, uint32_t seat, uint64_t number)
{
    struct lab_span span = {0};
    int err = rig->kind->borrow(&rig->consumer[seat], 1, 0, &span);
    if (err)
        return err;
    check_span(rig, &span);
    assert_int_equal(span.count, 1);
    compare(&span, number);
    rig->kind->release(&rig->consumer[seat], 1);
    return (int)span.length;
}

static const uint32_t sizes[] = {1, 8, 63, 64, 65, 1000, 70000};
static const uint32_t windows[] = {1, 2, 3, 16, 100, 1024};
static const uint32_t batches[] = {1, 5, 100000};
#define COUNT_OF(table) (sizeof(table) / sizeof *(table))

static void for_each_config(void **state, void (*check)(struct rig *rig))
{
    for (size_t s = 0; s < COUNT_OF(sizes); s++)
        for (size_t w = 0; w < COUNT_OF(windows); w++)
            for (size_t b = 0; b < COUNT_OF(batches); b++) {
                if ((uint64_t)sizes[s] * windows[w] > 2 << 20)
                    continue;
                struct rig rig;
                rig_init(&rig, state, config_of(sizes[s], windows[w], batches[b]));
                check(&rig);
                rig_fini(&rig);
            }
}

/* ---- what there can be ---- */

static void what_a_buffer_cannot_be_is_refused(void **state)
{
    const struct bounded_kind *kind = *state;
    size_t size = 77;
    struct lab_buffer_config config = config_of(0, 1, 1);
    lab_assert_fails(kind->size(&config, &size), EMSGSIZE);
    config = config_of((1u << 30) + 1, 1, 1);
    lab_assert_fails(kind->size(&config, &size), EMSGSIZE);
    config = config_of(8, 0, 1);
    lab_assert_fails(kind->size(&config, &size), EINVAL);
    config = config_of(8, LAB_BUFFER_WINDOW_MAX + 1, 1);
    lab_assert_fails(kind->size(&config, &size), EINVAL);
    config = config_of(8, 1, 0);
    lab_assert_fails(kind->size(&config, &size), EINVAL);
    config = config_of(8, 1, 1);
    config.consumers = 0;
    lab_assert_fails(kind->size(&config, &size), EINVAL);
    config.consumers = LAB_BUFFER_SEATS + 1;
    lab_assert_fails(kind->size(&config, &size), EINVAL);
    assert_int_equal(size, 77);
}

static void a_seat_is_taken_once_and_in_a_buffer_of_its_config(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 16, 1));
    union bounded_party party;
    struct lab_buffer_config other = rig.config;
    lab_assert_fails(rig.kind->attach(&party, rig.memory, rig.size, &other, LAB_BUFFER_PRODUCER, 0), EBUSY);
    lab_assert_fails(rig.kind->attach(&party, rig.memory, rig.size, &other, LAB_BUFFER_CONSUMER, SEATS - 1), EBUSY);
    lab_assert_fails(rig.kind->attach(&party, rig.memory, rig.size, &other, LAB_BUFFER_CONSUMER, SEATS), EINVAL);
    lab_assert_fails(rig.kind->attach(&party, rig.memory, rig.size - 1, &other, LAB_BUFFER_CONSUMER, 0), EBADMSG);
    other.message_max--;
    lab_assert_fails(rig.kind->attach(&party, rig.memory, rig.size, &other, LAB_BUFFER_CONSUMER, 0), EBADMSG);
    other = rig.config;
    other.producers--;
    lab_assert_fails(rig.kind->attach(&party, rig.memory, rig.size, &other, LAB_BUFFER_CONSUMER, 0), EBADMSG);
    other = rig.config;
    other.batch = 2;
    lab_assert_fails(rig.kind->attach(&party, rig.memory, rig.size, &other, LAB_BUFFER_CONSUMER, 0), EBADMSG);
    rig.kind->hangup(rig.memory, &rig.config, LAB_BUFFER_CONSUMER, SEATS); /* ignored */
    lab_assert_ok(try_send(&rig, 0, 0, 64));
    rig_fini(&rig);
}

/* ---- sending and receiving ---- */

static void check_order(struct rig *rig)
{
    for (uint64_t i = 0; i < 3 * (uint64_t)rig->config.window + 20; i++) {
        uint32_t length = (uint32_t)(i * 37 % rig->config.message_max) % 300;
        lab_assert_ok(try_send(rig, (uint32_t)i % SEATS, i, length));
        assert_int_equal(try_receive(rig, (uint32_t)i / 2 % SEATS, i), length);
        assert_int_equal(try_receive(rig, (uint32_t)i % SEATS, i), -EAGAIN);
    }
}

static void messages_come_whole_and_in_order_whoever_sends_and_receives(void **state)
{
    for_each_config(state, check_order);
}

static void check_full(struct rig *rig)
{
    uint32_t sent = 0;
    while (try_send(rig, sent % SEATS, sent, 1) == 0)
        sent++;
    assert_true(sent >= rig->config.window);
    for (uint32_t round = 0; round < 3; round++) {
        assert_int_equal(try_send(rig, 0, sent, 1), -EAGAIN);
        for (uint32_t i = 0; i < sent; i++)
            assert_int_equal(try_receive(rig, i % SEATS, round * sent + i), 1);
        assert_int_equal(try_receive(rig, 0, 0), -EAGAIN);
        for (uint32_t i = 0; i < sent; i++)
            lab_assert_ok(try_send(rig, i % SEATS, (round + 1) * sent + i, 1));
    }
}

static void a_window_always_fits_and_a_full_buffer_and_an_empty_one_say_so(void **state)
{
    for_each_config(state, check_full);
}

static void a_message_that_is_too_long_is_refused_and_nothing_is_lent(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 2, 1));
    struct lab_span span = {.count = 99};
    for (int i = 0; i < 5; i++)
        lab_assert_fails(rig.kind->reserve(&rig.producer[0], 65, 1, 0, &span), EMSGSIZE);
    assert_int_equal(span.count, 99);
    lab_assert_ok(try_send(&rig, 0, 0, 64));
    lab_assert_ok(try_send(&rig, 0, 1, 0));
    assert_int_equal(try_receive(&rig, 0, 0), 64);
    assert_int_equal(try_receive(&rig, 0, 1), 0);
    rig_fini(&rig);
}

static void waiting_ends_at_the_deadline(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 2, 1));
    struct lab_span span;
    uint64_t deadline_ns = lab_now_ns() + 2 * LAB_NS_PER_MS;
    assert_int_equal(rig.kind->borrow(&rig.consumer[0], 1, deadline_ns, &span), -EAGAIN);
    assert_true(lab_now_ns() >= deadline_ns);
    lab_assert_ok(try_send(&rig, 0, 0, 8));
    lab_assert_ok(try_send(&rig, 0, 1, 8));
    /* Longer than a slice: whoever sleeps looks in between, and goes on sleeping. */
    deadline_ns = lab_now_ns() + LAB_WAIT_SLICE_NS + 2 * LAB_NS_PER_MS;
    assert_int_equal(rig.kind->reserve(&rig.producer[1], 8, 1, deadline_ns, &span), -EAGAIN);
    assert_true(lab_now_ns() >= deadline_ns);
    assert_int_equal(try_receive(&rig, 0, 0), 8);
    lab_assert_ok(try_send(&rig, 1, 2, 8));
    rig_fini(&rig);
}

/* ---- loans ---- */

static void what_is_lent_and_not_committed_can_be_lent_again(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 8, 4));
    struct lab_span span;
    for (int i = 0; i < 50; i++) {
        lab_assert_ok(rig.kind->reserve(&rig.producer[0], 40, 4, 0, &span));
        assert_int_equal(span.count, 4);
        rig.kind->commit(&rig.producer[0], 0);
    }
    assert_int_equal(try_receive(&rig, 0, 0), -EAGAIN);
    for (uint64_t i = 0; i < 50; i++) {
        lab_assert_ok(rig.kind->reserve(&rig.producer[0], 40, 3, 0, &span));
        fill(&span, i);
        rig.kind->commit(&rig.producer[0], 1);
        assert_int_equal(try_receive(&rig, 0, i), 40);
        assert_int_equal(try_receive(&rig, 0, i), -EAGAIN);
    }
    rig_fini(&rig);
}

/* Two producers have reserved; the first one gives up, behind the second one's back: its places are void. */
static void what_is_given_up_in_the_middle_is_passed_over(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 8, 4));
    struct lab_span first, second;
    for (uint64_t i = 0; i < 100; i++) {
        lab_assert_ok(rig.kind->reserve(&rig.producer[0], 8, 2, 0, &first));
        lab_assert_ok(rig.kind->reserve(&rig.producer[1], 40, 2, 0, &second));
        fill(&second, i);
        rig.kind->commit(&rig.producer[1], 1);
        assert_int_equal(try_receive(&rig, 0, i), -EAGAIN); /* it comes after one that is not decided yet */
        rig.kind->commit(&rig.producer[0], 0);
        assert_int_equal(try_receive(&rig, i % SEATS, i), 40);
        assert_int_equal(try_receive(&rig, 0, i), -EAGAIN);
    }
    rig_fini(&rig);
}

static void what_is_not_released_is_borrowed_again_by_the_same_consumer(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 8, 4));
    struct lab_span span;
    lab_assert_ok(rig.kind->reserve(&rig.producer[0], 40, 4, 0, &span));
    fill(&span, 0);
    rig.kind->commit(&rig.producer[0], 4);
    lab_assert_ok(rig.kind->borrow(&rig.consumer[0], 3, 0, &span));
    assert_int_equal(span.count, 3);
    compare(&span, 0);
    rig.kind->release(&rig.consumer[0], 0);
    rig.kind->release(&rig.consumer[0], 1);
    assert_int_equal(try_receive(&rig, 1, 3), 40);
    lab_assert_ok(rig.kind->borrow(&rig.consumer[0], 4, 0, &span));
    assert_int_equal(span.count, 2);
    compare(&span, 1);
    rig.kind->release(&rig.consumer[0], 2);
    assert_int_equal(try_receive(&rig, 1, 0), -EAGAIN);
    rig_fini(&rig);
}

static void one_loan_holds_messages_of_one_length(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 8, 8));
    static const uint32_t lengths[] = {8, 8, 8, 16, 16, 8};
    for (uint32_t i = 0; i < COUNT_OF(lengths); i++)
        lab_assert_ok(try_send(&rig, 0, i, lengths[i]));
    static const uint32_t runs[] = {3, 2, 1};
    uint64_t number = 0;
    for (uint32_t i = 0; i < COUNT_OF(runs); i++) {
        struct lab_span span;
        lab_assert_ok(rig.kind->borrow(&rig.consumer[0], 100, 0, &span));
        assert_int_equal(span.count, runs[i]);
        compare(&span, number);
        number += span.count;
        rig.kind->release(&rig.consumer[0], span.count);
    }
    rig_fini(&rig);
}

/* ---- those that are gone ---- */

static void the_end_comes_after_everything_that_was_sent_and_when_all_are_gone(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 8, 1));
    for (uint32_t seat = 0; seat < SEATS; seat++) {
        lab_assert_ok(try_send(&rig, seat, seat, 8));
        assert_int_equal(try_receive(&rig, 0, seat), 8);
        lab_assert_ok(try_send(&rig, seat, 10 + seat, 8));
        rig.kind->hangup(rig.memory, &rig.config, LAB_BUFFER_PRODUCER, seat);
        assert_int_equal(try_receive(&rig, 1, 10 + seat), 8);
    }
    struct lab_span span;
    for (int i = 0; i < 10; i++) {
        lab_assert_fails(rig.kind->borrow(&rig.consumer[i % SEATS], 1, 0, &span), EPIPE);
        lab_assert_fails(rig.kind->borrow(&rig.consumer[i % SEATS], 1, lab_now_ns() + LAB_NS_PER_S, &span), EPIPE);
    }
    rig_fini(&rig);
}

static void a_producer_is_told_when_the_last_consumer_is_gone(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 2, 1));
    struct lab_span span;
    for (uint32_t seat = 0; seat < SEATS; seat++) {
        assert_int_equal(try_send(&rig, 0, seat, 8), seat < 2 ? 0 : -EAGAIN);
        for (int twice = 0; twice < 2; twice++)
            rig.kind->hangup(rig.memory, &rig.config, LAB_BUFFER_CONSUMER, seat);
    }
    for (int i = 0; i < 5; i++)
        lab_assert_fails(rig.kind->reserve(&rig.producer[i % SEATS], 8, 1, lab_now_ns() + LAB_NS_PER_S, &span), EPIPE);
    rig_fini(&rig);
}

static void what_a_dead_producer_had_reserved_comes_back_and_what_it_had_committed_is_received(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 4, 4));
    struct lab_span span;
    lab_assert_ok(try_send(&rig, 0, 0, 8));
    lab_assert_ok(rig.kind->reserve(&rig.producer[0], 8, 2, 0, &span));
    lab_assert_ok(try_send(&rig, 1, 1, 8));
    assert_int_equal(try_send(&rig, 1, 2, 8), -EAGAIN);
    assert_int_equal(try_receive(&rig, 0, 0), 8);
    assert_int_equal(try_receive(&rig, 0, 1), -EAGAIN);
    rig.kind->hangup(rig.memory, &rig.config, LAB_BUFFER_PRODUCER, 0);
    assert_int_equal(try_receive(&rig, 0, 1), 8);
    for (uint64_t i = 2; i < 6; i++)
        lab_assert_ok(try_send(&rig, 1, i, 8));
    assert_int_equal(try_send(&rig, 2, 6, 8), -EAGAIN);
    for (uint64_t i = 2; i < 6; i++)
        assert_int_equal(try_receive(&rig, 1, i), 8);
    rig_fini(&rig);
}

static void what_a_dead_consumer_had_borrowed_is_freed_counted_and_not_given_to_another(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 4, 4));
    struct lab_span span;
    for (uint64_t i = 0; i < 4; i++)
        lab_assert_ok(try_send(&rig, 0, i, 8));
    lab_assert_ok(rig.kind->borrow(&rig.consumer[0], 3, 0, &span));
    rig.kind->release(&rig.consumer[0], 1);
    lab_assert_ok(try_send(&rig, 0, 4, 8));
    assert_int_equal(try_send(&rig, 0, 5, 8), -EAGAIN);
    rig.kind->hangup(rig.memory, &rig.config, LAB_BUFFER_CONSUMER, 0);
    assert_int_equal(try_receive(&rig, 1, 3), 8);
    assert_int_equal(lab_buffer_dropped(&rig.producer[0].buffer), 2);
    assert_int_equal(try_receive(&rig, 1, 4), 8);
    for (uint64_t i = 5; i < 9; i++)
        lab_assert_ok(try_send(&rig, 0, i, 8));
    for (uint64_t i = 5; i < 9; i++)
        assert_int_equal(try_receive(&rig, 2, i), 8);
    rig_fini(&rig);
}

/* ---- waking ---- */

struct sleeper {
    struct rig *rig;
    uint32_t seat;
    bool sends;
    int outcome;
};

static void *sleeper_run(void *subject)
{
    struct sleeper *s = subject;
    struct lab_span span;
    uint64_t deadline_ns = lab_now_ns() + 60 * LAB_NS_PER_S;
    s->outcome = s->sends ? s->rig->kind->reserve(&s->rig->producer[s->seat], 8, 1, deadline_ns, &span)
                          : s->rig->kind->borrow(&s->rig->consumer[s->seat], 1, deadline_ns, &span);
    return NULL;
}

static void everyone_who_waits_is_told_of_the_end(void **state)
{
    for (int sends = 0; sends < 2; sends++) {
        struct rig rig;
        rig_init(&rig, state, config_of(64, 1, 1));
        if (sends)
            lab_assert_ok(try_send(&rig, 0, 0, 8));
        struct sleeper sleeper[SEATS];
        pthread_t thread[SEATS];
        for (uint32_t seat = 0; seat < SEATS; seat++) {
            sleeper[seat] = (struct sleeper){&rig, seat, sends, 0};
            assert_int_equal(pthread_create(&thread[seat], NULL, sleeper_run, &sleeper[seat]), 0);
        }
        for (uint32_t seat = 0; seat < SEATS; seat++)
            rig.kind->hangup(rig.memory, &rig.config, sends ? LAB_BUFFER_CONSUMER : LAB_BUFFER_PRODUCER, seat);
        for (uint32_t seat = 0; seat < SEATS; seat++) {
            pthread_join(thread[seat], NULL);
            assert_int_equal(sleeper[seat].outcome, -EPIPE);
        }
        rig_fini(&rig);
    }
}

/* ---- the lock ---- */

static void take_the_lock(const struct rig *rig, union bounded_party *party)
{
    if (rig->kind == &monitor_kind) {
        pthread_mutex_lock(&party->monitor.shared->mutex);
    } else {
        atomic_store(&party->buffer.own->note, 1);
        sem_wait(&party->semaphore.shared->mutex);
        atomic_store(&party->semaphore.shared->holder, party->semaphore.me);
    }
}

/* A child takes the lock, says so, and is killed. */
static pid_t killed_with_the_lock(struct rig *rig, union bounded_party *party)
{
    int told[2];
    assert_int_equal(pipe(told), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        take_the_lock(rig, party);
        if (write(told[1], "", 1) == 1)
            pause();
        _exit(1);
    }
    char byte;
    assert_int_equal(read(told[0], &byte, 1), 1);
    close(told[0]);
    close(told[1]);
    return child;
}

static void end(pid_t child)
{
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void a_lock_whose_holder_was_killed_is_had_again(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 4, 1));
    for (uint32_t seat = 0; seat < SEATS - 1; seat++) {
        pid_t child = killed_with_the_lock(&rig, &rig.consumer[seat]);
        assert_int_equal(try_send(&rig, 0, seat, 8), -EAGAIN); /* it lives, and has it */
        end(child);
        if (rig.kind == &semaphore_kind)
            assert_int_equal(try_send(&rig, 0, seat, 8), -EAGAIN); /* nobody has said that it is dead */
        for (int often = 0; often < 3; often++)
            rig.kind->hangup(rig.memory, &rig.config, LAB_BUFFER_CONSUMER, seat);
        lab_assert_ok(try_send(&rig, 0, seat, 8));
        assert_int_equal(try_receive(&rig, SEATS - 1, seat), 8);
    }
    /* Once, and not three times. */
    take_the_lock(&rig, &rig.consumer[SEATS - 1]);
    assert_int_equal(try_send(&rig, 0, 9, 8), -EAGAIN);
    rig_fini(&rig);
}

static void a_stopped_holder_keeps_the_lock_and_what_others_have_they_can_give_back(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 4, 1));
    struct lab_span span;
    lab_assert_ok(try_send(&rig, 0, 0, 8));
    lab_assert_ok(rig.kind->borrow(&rig.consumer[1], 1, 0, &span));
    lab_assert_ok(rig.kind->reserve(&rig.producer[0], 8, 1, 0, &span));
    fill(&span, 1);
    pid_t child = killed_with_the_lock(&rig, &rig.consumer[0]);
    kill(child, SIGSTOP);
    uint64_t deadline_ns = lab_now_ns() + 2 * LAB_NS_PER_MS;
    assert_int_equal(rig.kind->reserve(&rig.producer[1], 8, 1, deadline_ns, &span), -EAGAIN);
    assert_true(lab_now_ns() >= deadline_ns);
    rig.kind->commit(&rig.producer[0], 1);
    rig.kind->release(&rig.consumer[1], 1);
    end(child);
    rig.kind->hangup(rig.memory, &rig.config, LAB_BUFFER_CONSUMER, 0);
    assert_int_equal(try_receive(&rig, 2, 1), 8);
    for (uint64_t i = 2; i < 6; i++)
        lab_assert_ok(try_send(&rig, 2, i, 8));
    assert_int_equal(lab_buffer_dropped(&rig.producer[0].buffer), 0);
    rig_fini(&rig);
}

/* ---- what others may write ---- */

static uint32_t garbage(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Permissions that nobody was to have, or too few. */
static void spoil_counts(struct lab_semaphore_shared *shared, uint32_t *random)
{
    sem_t *const all[] = {&shared->counted[0], &shared->counted[1], &shared->mutex};
    for (size_t s = 0; s < COUNT_OF(all); s++)
        for (uint32_t i = garbage(random) % 5; i; i--)
            if (garbage(random) % 2)
                sem_post(all[s]);
            else
                sem_trywait(all[s]);
}

/* Garbage in every byte, in ever other places, with ever other values; small ones are the more dangerous. */
static void nothing_that_others_write_makes_a_party_crash_or_reach_beyond_the_memory(void **state)
{
    struct rig rig;
    rig_init(&rig, state, config_of(64, 8, 4));
    uint32_t random = 1;
    for (int round = 0; round < 3000; round++) {
        rig.kind->init(rig.memory, &rig.config);
        for (uint32_t seat = 0; seat < SEATS; seat++)
            rig.producer[seat].buffer.held = rig.consumer[seat].buffer.held = 0;
        for (uint64_t i = 0; i < 3; i++)
            try_send(&rig, 0, i, 8);
        uint32_t hits = round % 3 == 0 ? 400 : 1 + garbage(&random) % 5;
        for (uint32_t i = 0; i < hits; i++) {
            size_t at = garbage(&random) % rig.size;
            if (!rig.kind->trusted(at))
                rig.memory[at] = (unsigned char)(round % 2 ? garbage(&random) % 6 : garbage(&random));
        }
        if (rig.kind == &semaphore_kind)
            spoil_counts((struct lab_semaphore_shared *)(void *)rig.memory, &random);
        for (uint32_t i = 0; i < 20; i++) {
            union bounded_party *party = i % 2 ? &rig.consumer[i % SEATS] : &rig.producer[i % SEATS];
            struct lab_span span = {0};
            uint64_t deadline_ns = i % 10 == 9 ? lab_now_ns() + 20 * LAB_NS_PER_US : 0;
            int err = i % 2 ? rig.kind->borrow(party, 4, deadline_ns, &span) : rig.kind->reserve(party, 64, 4, deadline_ns, &span);
            assert_true(err == 0 || err == -EAGAIN || err == -EPIPE || err == -EBADMSG);
            if (err)
                continue;
            check_span(&rig, &span);
            if (i % 2)
                rig.kind->release(party, span.count);
            else
                rig.kind->commit(party, span.count);
        }
    }
    rig_fini(&rig);
}

int main(void)
{
    const struct bounded_case cases[] = {
        BOUNDED_CASE(what_a_buffer_cannot_be_is_refused),
        BOUNDED_CASE(a_seat_is_taken_once_and_in_a_buffer_of_its_config),
        BOUNDED_CASE(messages_come_whole_and_in_order_whoever_sends_and_receives),
        BOUNDED_CASE(a_window_always_fits_and_a_full_buffer_and_an_empty_one_say_so),
        BOUNDED_CASE(a_message_that_is_too_long_is_refused_and_nothing_is_lent),
        BOUNDED_CASE(waiting_ends_at_the_deadline),
        BOUNDED_CASE(what_is_lent_and_not_committed_can_be_lent_again),
        BOUNDED_CASE(what_is_given_up_in_the_middle_is_passed_over),
        BOUNDED_CASE(what_is_not_released_is_borrowed_again_by_the_same_consumer),
        BOUNDED_CASE(one_loan_holds_messages_of_one_length),
        BOUNDED_CASE(the_end_comes_after_everything_that_was_sent_and_when_all_are_gone),
        BOUNDED_CASE(a_producer_is_told_when_the_last_consumer_is_gone),
        BOUNDED_CASE(what_a_dead_producer_had_reserved_comes_back_and_what_it_had_committed_is_received),
        BOUNDED_CASE(what_a_dead_consumer_had_borrowed_is_freed_counted_and_not_given_to_another),
        BOUNDED_CASE(everyone_who_waits_is_told_of_the_end),
        BOUNDED_CASE(a_lock_whose_holder_was_killed_is_had_again),
        BOUNDED_CASE(a_stopped_holder_keeps_the_lock_and_what_others_have_they_can_give_back),
        BOUNDED_CASE(nothing_that_others_write_makes_a_party_crash_or_reach_beyond_the_memory),
    };
    return bounded_run("unit.bounded", cases, COUNT_OF(cases));
}
