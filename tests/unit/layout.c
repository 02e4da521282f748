/* From an ASSIGN every node derives the same picture: who talks to whom, over what, and through which relay. */
#include "tests/check.h"

#include "node/agent/layout.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PARTIES = 8 };

static Lab__Assign assign;
static Lab__Cell cell;
static Lab__Edge edges[4];
static Lab__Edge *edge_pointers[4];
static Lab__Place places[PARTIES];
static Lab__Place *place_pointers[PARTIES];
static char *hosts[PARTIES];
static char here[] = "", transport[32], link_name[32], wait_name[32], pattern[] = "pingpong", shared[] = "producer-consumer", unit[] = "process", thread[] = "thread", fiber[] = "fiber";

static void ask(const char *of, const char *wait, uint32_t nodes, uint32_t workers, uint32_t edge_count, const uint32_t (*joins)[2])
{
    cell = (Lab__Cell)LAB__CELL__INIT;
    snprintf(transport, sizeof transport, "%s", of);
    snprintf(wait_name, sizeof wait_name, "%s", wait);
    snprintf(link_name, sizeof link_name, "zmq-tcp");
    cell.transport = transport;
    cell.wait = wait_name;
    cell.pattern = pattern;
    cell.link = link_name;
    cell.size_bytes = 64;
    cell.window = 2;
    cell.batch = 1;
    cell.unit = unit;
    assign = (Lab__Assign)LAB__ASSIGN__INIT;
    assign.cell = &cell;
    assign.nodes = nodes;
    assign.workers_per_node = workers;
    for (uint32_t e = 0; e < edge_count; e++) {
        edges[e] = (Lab__Edge)LAB__EDGE__INIT;
        edges[e].client = joins[e][0];
        edges[e].server = joins[e][1];
        edge_pointers[e] = &edges[e];
    }
    assign.n_edges = edge_count;
    assign.edges = edge_pointers;
    assign.n_places = nodes * (workers ? workers : 1);
    for (uint32_t p = 0; p < assign.n_places; p++) {
        places[p] = (Lab__Place)LAB__PLACE__INIT;
        places[p].cpu = (int32_t)p % 2;
        place_pointers[p] = &places[p];
    }
    assign.places = place_pointers;
    assign.n_hosts = nodes;
    for (uint32_t n = 0; n < nodes; n++)
        hosts[n] = here;
    assign.hosts = hosts;
}

static void two_workers_of_one_node_share_two_local_channels(void **state)
{
    (void)state;
    struct lab_layout layout;
    ask("pipe", "block", 1, 2, 1, (const uint32_t[][2]){{0, 1}});
    lab_assert_ok(lab_layout_make(&assign, 1, 0, &layout));
    assert_int_equal(layout.path_count, 2);
    assert_false(layout.crosses);
    assert_true(layout.probed);
    assert_true(layout.paths[0].has[LAB_HOP_LOCAL] && !layout.paths[0].has[LAB_HOP_LINK]);
    assert_string_equal(layout.paths[0].channel[LAB_HOP_LOCAL].transport->name, "pipe");
    assert_int_equal(layout.paths[1].party[LAB_TX], 1);
    assert_int_equal(layout.paths[1].channel[LAB_HOP_LOCAL].id, 1);
    lab_layout_fini(&layout);
}

static void parties_know_their_paths_whatever_they_are(void **state)
{
    (void)state;
    struct lab_layout layout;
    ask("shm-ring", "yield", 2, 4, 4, (const uint32_t[][2]){{4, 5}, {5, 6}, {1, 5}, {0, 1}});
    cell.unit = fiber;
    lab_assert_ok(lab_layout_make(&assign, 1, 1, &layout)); /* of parties 4 to 7 */
    assert_int_equal(layout.unit, LAB_UNIT_FIBER);
    static const struct { uint32_t count, number[6]; } has[4] = {
        {2, {0, 1}}, {6, {0, 1, 2, 3, 4, 5}}, {2, {2, 3}}, {0, {0}},
    };
    for (uint32_t p = 0; p < 4; p++) {
        const struct lab_party *party = lab_layout_party(&layout, 4 + p);
        assert_ptr_equal(party, &layout.parties[p]);
        assert_int_equal(party->idle, !has[p].count);
        assert_int_equal(party->path_count, has[p].count);
        for (uint32_t i = 0; i < has[p].count; i++)
            assert_int_equal(layout.paths[party->paths[i]].number, has[p].number[i]);
    }
    assert_null(lab_layout_party(&layout, 3));
    assert_null(lab_layout_party(&layout, 8));
    lab_layout_fini(&layout);
}

static void what_has_no_threads_is_refused_with_them(void **state)
{
    (void)state;
    struct lab_layout layout;
    ask("zmq-tcp", "block", 2, 0, 1, (const uint32_t[][2]){{0, 1}});
    cell.unit = thread; /* the nodes themselves talk */
    lab_assert_fails(lab_layout_make(&assign, 1, 0, &layout), EPROTO);
    ask("mpi", "spin", 1, 2, 1, (const uint32_t[][2]){{0, 1}});
    cell.unit = thread; /* a rank is a process */
    lab_assert_fails(lab_layout_make(&assign, 1, 0, &layout), EPROTO);
    ask("pipe", "block", 1, 2, 1, (const uint32_t[][2]){{0, 1}});
    cell.unit = pattern;
    lab_assert_fails(lab_layout_make(&assign, 1, 0, &layout), EINVAL);
}

static void workers_that_share_a_channel_have_one_end_of_it_each_and_a_seat(void **state)
{
    (void)state;
    struct lab_layout layout;
    ask("shm-queue", "futex", 1, 5, 2, (const uint32_t[][2]){{3, 1}, {0, 4}});
    cell.pattern = shared;
    lab_assert_ok(lab_layout_make(&assign, 1, 0, &layout));
    assert_true(layout.shared);
    assert_false(layout.probed);
    assert_int_equal(layout.path_count, 1);
    const struct lab_channel *channel = &layout.paths[0].channel[LAB_HOP_LOCAL];
    assert_int_equal(lab_seats(channel, LAB_TX), 2);
    assert_int_equal(lab_seats(channel, LAB_RX), 2);
    static const struct { bool idle; enum lab_role role; uint32_t seat; } is[] = {
        {false, LAB_TX, 0}, {false, LAB_RX, 0}, {.idle = true}, {false, LAB_TX, 1}, {false, LAB_RX, 1},
    };
    for (uint32_t p = 0; p < 5; p++) {
        assert_int_equal(layout.parties[p].idle, is[p].idle);
        assert_int_equal(layout.parties[p].path_count, !is[p].idle);
        assert_int_equal(layout.parties[p].role, is[p].role);
        assert_int_equal(layout.parties[p].seat, is[p].seat);
    }
    lab_layout_fini(&layout);
}

static void who_would_both_send_and_receive_cannot_share_a_channel(void **state)
{
    (void)state;
    struct lab_layout layout;
    ask("shm-queue", "futex", 1, 3, 2, (const uint32_t[][2]){{0, 1}, {1, 2}});
    cell.pattern = shared;
    lab_assert_fails(lab_layout_make(&assign, 1, 0, &layout), EPROTO);
    ask("shm-queue", "futex", 2, 1, 1, (const uint32_t[][2]){{0, 1}});
    cell.pattern = shared;
    lab_assert_fails(lab_layout_make(&assign, 1, 0, &layout), EPROTO);
}

static void a_worker_on_another_node_is_reached_by_leg_link_and_leg(void **state)
{
    (void)state;
    struct lab_layout layout;
    for (uint32_t node = 0; node < 2; node++) {
        ask("shm-ring", "spin", 2, 1, 1, (const uint32_t[][2]){{0, 1}});
        lab_assert_ok(lab_layout_make(&assign, 1, node, &layout));
        assert_true(layout.crosses);
        assert_false(layout.probed);
        assert_int_equal(layout.path_count, 2);
        for (int i = 0; i < 2; i++) {
            assert_true(layout.paths[i].has[LAB_HOP_LOCAL] && layout.paths[i].has[LAB_HOP_LINK]);
            assert_string_equal(layout.paths[i].channel[LAB_HOP_LOCAL].transport->name, "shm-ring");
            assert_string_equal(layout.paths[i].channel[LAB_HOP_LINK].transport->name, "zmq-tcp");
            assert_int_equal(layout.paths[i].channel[LAB_HOP_LINK].message_max, 64 + 64);
            assert_int_equal(layout.paths[i].channel[LAB_HOP_LINK].wait, LAB_WAIT_BLOCK);
        }
        assert_int_equal(layout.paths[0].here[LAB_TX], node == 0);
        lab_layout_fini(&layout);
    }
}

static void a_transport_between_hosts_has_legs_of_shared_memory(void **state)
{
    (void)state;
    struct lab_layout layout;
    ask("zmq-tcp", "block", 2, 1, 1, (const uint32_t[][2]){{0, 1}});
    lab_assert_ok(lab_layout_make(&assign, 1, 1, &layout));
    assert_string_equal(layout.paths[0].channel[LAB_HOP_LOCAL].transport->name, "shm-ring");
    assert_int_equal(layout.paths[0].channel[LAB_HOP_LOCAL].wait, LAB_WAIT_FUTEX);
    lab_layout_fini(&layout);
}

static void nodes_that_talk_themselves_have_links_only(void **state)
{
    (void)state;
    struct lab_layout layout;
    ask("mpi", "spin", 2, 0, 1, (const uint32_t[][2]){{0, 1}});
    lab_assert_ok(lab_layout_make(&assign, 1, 1, &layout));
    assert_true(layout.nodes_talk);
    assert_false(layout.paths[0].has[LAB_HOP_LOCAL]);
    assert_string_equal(layout.paths[0].channel[LAB_HOP_LINK].transport->name, "mpi");
    assert_int_equal(layout.paths[1].channel[LAB_HOP_LINK].rank[LAB_TX], 1);
    lab_layout_fini(&layout);
}

static void only_workers_with_an_mpi_channel_are_ranks(void **state)
{
    (void)state;
    struct lab_layout layout;
    ask("mpi", "spin", 1, 3, 1, (const uint32_t[][2]){{0, 2}});
    lab_assert_ok(lab_layout_make(&assign, 1, 0, &layout));
    assert_int_equal(layout.ranks, 2);
    assert_int_equal(layout.parties[0].rank, 0);
    assert_int_equal(layout.parties[1].rank, -1);
    assert_true(layout.parties[1].idle);
    assert_int_equal(layout.parties[2].rank, 1);
    assert_int_equal(layout.paths[0].channel[LAB_HOP_LOCAL].rank[LAB_RX], 1);
    lab_layout_fini(&layout);
}

static void who_talks_to_itself_has_one_channel(void **state)
{
    (void)state;
    struct lab_layout layout;
    ask("null", "spin", 1, 1, 1, (const uint32_t[][2]){{0, 0}});
    lab_assert_ok(lab_layout_make(&assign, 1, 0, &layout));
    assert_int_equal(layout.path_count, 1);
    assert_false(layout.probed);
    lab_layout_fini(&layout);
}

static void an_assign_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    struct lab_layout layout;
    const uint32_t pair[][2] = {{0, 1}}, wild[][2] = {{0, 9}};
    ask("no-such", "spin", 1, 2, 1, pair);
    lab_assert_fails(lab_layout_make(&assign, 1, 0, &layout), EPROTO);
    ask("pipe", "spin", 1, 2, 1, wild);
    lab_assert_fails(lab_layout_make(&assign, 1, 0, &layout), EPROTO);
    ask("pipe", "block", 1, 2, 1, pair);
    lab_assert_fails(lab_layout_make(&assign, 1, 1, &layout), EPROTO);
    ask("pipe", "block", 1, 2, 1, pair);
    cell.window = 0;
    lab_assert_fails(lab_layout_make(&assign, 1, 0, &layout), EPROTO);
    ask("pipe", "block", 1, 2, 1, pair);
    assign.n_places = 1;
    lab_assert_fails(lab_layout_make(&assign, 1, 0, &layout), EPROTO);
    ask("mpi", "spin", 2, 0, 1, (const uint32_t[][2]){{1, 1}});
    lab_assert_fails(lab_layout_make(&assign, 1, 1, &layout), EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_workers_of_one_node_share_two_local_channels),
        cmocka_unit_test(parties_know_their_paths_whatever_they_are),
        cmocka_unit_test(what_has_no_threads_is_refused_with_them),
        cmocka_unit_test(workers_that_share_a_channel_have_one_end_of_it_each_and_a_seat),
        cmocka_unit_test(who_would_both_send_and_receive_cannot_share_a_channel),
        cmocka_unit_test(a_worker_on_another_node_is_reached_by_leg_link_and_leg),
        cmocka_unit_test(a_transport_between_hosts_has_legs_of_shared_memory),
        cmocka_unit_test(nodes_that_talk_themselves_have_links_only),
        cmocka_unit_test(only_workers_with_an_mpi_channel_are_ranks),
        cmocka_unit_test(who_talks_to_itself_has_one_channel),
        cmocka_unit_test(an_assign_that_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
