/* Lanes: every message is accounted for, whatever the transport does to it. The transport here is a list that the test
 * rearranges. */
#include "tests/check.h"

#include "node/lane/lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PLACES = 64, PLACE_BYTES = 256 };

static struct {
    unsigned char bytes[PLACES][PLACE_BYTES];
    size_t length[PLACES];
    uint32_t sent, received;
} list;

static int list_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    (void)end, (void)deadline_ns;
    memcpy(list.bytes[list.sent], message, length);
    list.length[list.sent++] = length;
    return 0;
}

static ssize_t list_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    (void)end, (void)deadline_ns;
    if (list.received == list.sent)
        return -EAGAIN;
    size_t length = list.length[list.received];
    if (length > room)
        return -EMSGSIZE;
    memcpy(to, list.bytes[list.received++], length);
    return (ssize_t)length;
}

static int list_open(struct lab_end *end, uint64_t deadline_ns)
{
    (void)end, (void)deadline_ns;
    return 0;
}

static void list_close(struct lab_end *end)
{
    (void)end;
}

static const struct lab_transport_ops list_ops = {
    .name = "list", .end_bytes = sizeof(struct lab_end), .open = list_open, .close = list_close, .send = list_send, .recv = list_recv,
};

static struct lab_lane tx, rx;

static struct lab_end *new_end(enum lab_role role)
{
    struct lab_end *end = aligned_alloc(128, (sizeof *end + 127) & ~(size_t)127);
    assert_non_null(end);
    *end = (struct lab_end){.ops = &list_ops, .role = role, .channel = {.batch = 1}, .wire = {.fd = {-1, -1}}};
    return end;
}

static void open_lanes(const struct lab_envelope *envelope)
{
    memset(&list, 0, sizeof list);
    lab_assert_ok(lab_lane_init(&tx, new_end(LAB_TX), 64, 1, 7, true, envelope));
    lab_assert_ok(lab_lane_init(&rx, new_end(LAB_RX), 64, 1, 7, true, envelope));
}

static void close_lanes(void)
{
    lab_lane_fini(&tx);
    lab_lane_fini(&rx);
}

static void take_all(void)
{
    uint32_t count, flags;
    while (lab_lane_take(&rx, 1, 0, &count, &flags) == 0)
        lab_lane_settle(&rx);
    lab_lane_settle(&rx);
}

static void swap(uint32_t a, uint32_t b)
{
    unsigned char kept[PLACE_BYTES];
    memcpy(kept, list.bytes[a], PLACE_BYTES);
    memcpy(list.bytes[a], list.bytes[b], PLACE_BYTES);
    memcpy(list.bytes[b], kept, PLACE_BYTES);
}

static void expect(uint64_t received, uint64_t lost, uint64_t duplicated, uint64_t reordered, uint64_t corrupt)
{
    assert_int_equal(rx.account.received, received);
    assert_int_equal(rx.account.lost, lost);
    assert_int_equal(rx.account.duplicated, duplicated);
    assert_int_equal(rx.account.reordered, reordered);
    assert_int_equal(rx.account.corrupt, corrupt);
}

static void messages_in_order_are_received_and_nothing_else(void **state)
{
    (void)state;
    open_lanes(NULL);
    lab_assert_ok(lab_lane_put(&tx, 20, LAB_FIN, 0));
    take_all();
    assert_int_equal(tx.account.sent, 20);
    expect(20, 0, 0, 0, 0);
    close_lanes();
}

static void a_lost_message_is_counted_lost(void **state)
{
    (void)state;
    open_lanes(NULL);
    lab_assert_ok(lab_lane_put(&tx, 10, 0, 0));
    list.received = 1; /* the first is gone */
    swap(4, 3);
    memmove(list.bytes[3], list.bytes[4], PLACE_BYTES * 6); /* and the fourth */
    list.sent--;
    take_all();
    expect(8, 2, 0, 0, 0);
    close_lanes();
}

static void a_message_that_comes_late_is_reordered_and_not_lost(void **state)
{
    (void)state;
    open_lanes(NULL);
    lab_assert_ok(lab_lane_put(&tx, 10, 0, 0));
    swap(2, 6);
    take_all();
    assert_int_equal(rx.account.lost, 0);
    assert_int_equal(rx.account.duplicated, 0);
    assert_int_equal(rx.account.received, 10);
    assert_true(rx.account.reordered > 0);
    close_lanes();
}

static void a_message_that_comes_twice_is_a_duplicate(void **state)
{
    (void)state;
    open_lanes(NULL);
    lab_assert_ok(lab_lane_put(&tx, 10, 0, 0));
    memcpy(list.bytes[list.sent], list.bytes[5], PLACE_BYTES);
    list.length[list.sent++] = 64;
    take_all();
    expect(10, 0, 1, 0, 0);
    close_lanes();
}

static void one_flipped_byte_is_corrupt_and_not_received(void **state)
{
    (void)state;
    open_lanes(NULL);
    lab_assert_ok(lab_lane_put(&tx, 10, 0, 0));
    list.bytes[5][40] ^= 1;
    take_all();
    expect(9, 0, 0, 0, 1);
    close_lanes();
}

static void a_message_of_another_size_is_corrupt(void **state)
{
    (void)state;
    open_lanes(NULL);
    lab_assert_ok(lab_lane_put(&tx, 3, 0, 0));
    list.length[1] = 56;
    take_all();
    expect(2, 1, 0, 0, 1); /* its number is never seen, so the next one leaves a gap as well */
    close_lanes();
}

/* What another producer of the same channel sends: as `tx` does, with another name. */
static void put_as(uint16_t sender, uint32_t count)
{
    struct lab_lane other;
    lab_assert_ok(lab_lane_init(&other, new_end(LAB_TX), 64, sender, 7, true, NULL));
    lab_assert_ok(lab_lane_put(&other, count, 0, 0));
    lab_lane_fini(&other);
}

static void a_consumer_among_several_misses_what_went_elsewhere_and_calls_nothing_lost(void **state)
{
    (void)state;
    list.sent = list.received = 0;
    struct lab_end *end = new_end(LAB_RX);
    end->channel.seats[LAB_TX] = 3;
    end->channel.seats[LAB_RX] = 2;
    lab_assert_ok(lab_lane_init(&tx, new_end(LAB_TX), 64, 1, 7, true, NULL));
    lab_assert_ok(lab_lane_init(&rx, end, 64, 0, 7, true, NULL));
    put_as(4095, 3);
    lab_assert_ok(lab_lane_put(&tx, 5, 0, 0));
    put_as(2, 4);
    list.length[4] = list.length[5]; /* the second of tx went to another consumer: what follows moves up */
    memmove(list.bytes[4], list.bytes[5], PLACE_BYTES * 7);
    list.sent--;
    swap(9, 10); /* the last two of the third producer change places */
    list.bytes[6][40] ^= 1;
    take_all();
    expect(10, 0, 0, 1, 1);
    close_lanes();
}

static void an_envelope_of_another_launch_is_refused(void **state)
{
    (void)state;
    const struct lab_envelope mine = {.run = 1, .epoch = 5, .sender = 0, .receiver = 1, .channel = 4};
    open_lanes(&mine);
    lab_assert_ok(lab_lane_put(&tx, 2, 0, 0));
    tx.head.epoch = 4;
    lab_assert_ok(lab_lane_put(&tx, 1, 0, 0));
    take_all();
    expect(2, 0, 0, 0, 1);
    close_lanes();
}

static void sampling_reads_every_label_but_not_every_sum(void **state)
{
    (void)state;
    open_lanes(NULL);
    rx.verify_all = false;
    lab_assert_ok(lab_lane_put(&tx, 10, 0, 0));
    list.bytes[5][40] ^= 1;  /* in the body */
    list.bytes[7][1] ^= 1;   /* in the label */
    take_all();
    assert_int_equal(rx.account.corrupt, 1);
    assert_int_equal(rx.account.received, 9);
    close_lanes();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_in_order_are_received_and_nothing_else),
        cmocka_unit_test(a_lost_message_is_counted_lost),
        cmocka_unit_test(a_message_that_comes_late_is_reordered_and_not_lost),
        cmocka_unit_test(a_message_that_comes_twice_is_a_duplicate),
        cmocka_unit_test(one_flipped_byte_is_corrupt_and_not_received),
        cmocka_unit_test(a_message_of_another_size_is_corrupt),
        cmocka_unit_test(a_consumer_among_several_misses_what_went_elsewhere_and_calls_nothing_lost),
        cmocka_unit_test(an_envelope_of_another_launch_is_refused),
        cmocka_unit_test(sampling_reads_every_label_but_not_every_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
