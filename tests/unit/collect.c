/* From what the parties of a launch reported to one row of the result. */
#include "base/clock.h"
#include "launcher/collect.h"
#include "launcher/path.h"
#include "tests/check.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum { SAMPLES = 1000, LATENCY_NS = 500, PARTIES = 4, SIZE = 64, RECEIVED = 3 * SAMPLES };

/* One launch of two edges, 0 to 1 and 2 to 3, ordered and reported; all on one host. A test changes what it is about. */
struct report {
    Lab__Usage usage[PARTIES];
    Lab__EdgeOutcome edge[PARTIES], *edge_pointer[PARTIES];
    Lab__Outcome outcome[PARTIES], *outcome_pointer[PARTIES];
    unsigned char encoded[256];
    Lab__Done done[2];
    const Lab__Done *done_pointer[2];
    Lab__Moved moved[2];
    Lab__Cell ordered;
    Lab__Edge order[2], *order_pointer[2];
    char *hosts[2];
    Lab__Assign assign;
    struct lab_run *run;
    struct lab_cell *cell;
};

static char *written(const char *text)
{
    return (char *)(uintptr_t)text;
}

static void order(struct report *r, uint32_t parties, uint32_t nodes)
{
    r->ordered = (Lab__Cell)LAB__CELL__INIT;
    r->ordered.pattern = written("pingpong");
    r->ordered.size_bytes = SIZE;
    r->assign = (Lab__Assign)LAB__ASSIGN__INIT;
    r->assign.cell = &r->ordered;
    r->assign.nodes = nodes;
    r->assign.workers_per_node = parties / nodes;
    r->assign.edges = r->order_pointer;
    r->assign.n_edges = parties / 2;
    r->assign.hosts = r->hosts;
    r->assign.n_hosts = nodes;
    for (uint32_t e = 0; e < parties / 2; e++) {
        r->order[e] = (Lab__Edge)LAB__EDGE__INIT;
        r->order[e].client = 2 * e;
        r->order[e].server = 2 * e + 1;
        r->order_pointer[e] = &r->order[e];
    }
    for (uint32_t n = 0; n < nodes; n++) {
        r->hosts[n] = written("");
        r->moved[n] = (Lab__Moved)LAB__MOVED__INIT;
        r->moved[n].network = written("boot/1");
        r->done[n].moved = &r->moved[n];
    }
}

static void set_up(struct report *r, uint32_t parties, uint32_t nodes)
{
    memset(r, 0, sizeof *r);
    struct lab_hist *hist = lab_hist_new();
    lab_hist_record_n(hist, LATENCY_NS, SAMPLES);
    size_t size = lab_hist_encode(hist, r->encoded, sizeof r->encoded);
    assert_true(size <= sizeof r->encoded);
    lab_hist_free(hist);
    for (uint32_t p = 0; p < parties; p++) {
        bool client = p % 2 == 0;
        r->edge[p] = (Lab__EdgeOutcome)LAB__EDGE_OUTCOME__INIT;
        r->edge[p].edge = p / 2;
        r->edge[p].client = client;
        r->edge[p].sent = r->edge[p].received = RECEIVED;
        if (client) {
            r->edge[p].messages = 2 * SAMPLES;
            r->edge[p].bytes = 2 * SAMPLES * 64;
            r->edge[p].elapsed_ns = 10 * LAB_NS_PER_MS;
            r->edge[p].warmup_ns = 4 * LAB_NS_PER_MS;
            r->edge[p].windows = 10;
            r->edge[p].latency.data = r->encoded;
            r->edge[p].latency.len = size;
            r->edge[p].first_message_ns = 102 * LAB_NS_PER_MS + p * LAB_NS_PER_MS;
        }
        r->edge_pointer[p] = &r->edge[p];
        r->usage[p] = (Lab__Usage)LAB__USAGE__INIT;
        r->usage[p].wall_ns = 10 * LAB_NS_PER_MS;
        r->usage[p].cpu_ns = 9 * LAB_NS_PER_MS;
        r->usage[p].run_delay_ns = LAB_NS_PER_US;
        r->usage[p].voluntary_switches = 5;
        r->usage[p].involuntary_switches = 2;
        r->usage[p].minor_faults = 3;
        r->usage[p].major_faults = 1;
        r->outcome[p] = (Lab__Outcome)LAB__OUTCOME__INIT;
        r->outcome[p].party = p;
        r->outcome[p].usage = &r->usage[p];
        r->outcome[p].steady = true;
        r->outcome[p].n_edges = 1;
        r->outcome[p].edges = &r->edge_pointer[p];
        r->outcome_pointer[p] = &r->outcome[p];
    }
    for (uint32_t n = 0; n < nodes; n++) {
        r->done[n] = (Lab__Done)LAB__DONE__INIT;
        r->done[n].n_outcomes = parties / nodes;
        r->done[n].outcomes = &r->outcome_pointer[n * (parties / nodes)];
        r->done_pointer[n] = &r->done[n];
    }
    order(r, parties, nodes);
    r->run = lab_run_new();
    r->cell = lab_run_add_cell(r->run);
}

static int collect(struct report *r, uint32_t nodes, bool same_clock, struct lab_launch **ret_launch)
{
    const struct lab_collect collect = {
        .assign = &r->assign, .done = r->done_pointer, .nodes = nodes, .same_clock = same_clock, .began_ns = 100 * LAB_NS_PER_MS, .ended_ns = 122 * LAB_NS_PER_MS,
    };
    *ret_launch = lab_cell_add_launch(r->cell);
    assert_non_null(*ret_launch);
    return lab_collect_launch(&collect, r->run, *ret_launch);
}

static struct lab_launch *collected(struct report *r)
{
    struct lab_launch *launch;
    lab_assert_ok(collect(r, 1, true, &launch));
    return launch;
}

static void what_one_edge_measured_is_the_launch(void **state)
{
    (void)state;
    struct report r;
    set_up(&r, 2, 1);
    r.edge[0].handoff_ns = 61.5;
    r.edge[0].set_aside = 2;
    r.edge[0].batched = true;
    const struct lab_launch *launch = collected(&r);
    assert_int_equal(launch->verdict, LAB_OK);
    assert_null(launch->reason);
    assert_int_equal(launch->latency->count, SAMPLES);
    assert_int_equal(lab_hist_quantile(launch->latency, 0.5), LATENCY_NS);
    assert_true(launch->batched);
    assert_true(fabs(launch->messages_per_s - 200000) < 1e-6);
    assert_true(fabs(launch->bytes_per_s - 200000 * 64) < 1e-6);
    assert_int_equal(launch->messages, 2 * SAMPLES);
    assert_int_equal(launch->elapsed_ns, 10 * LAB_NS_PER_MS);
    assert_true(fabs(launch->handoff_ns - 61.5) < 1e-9);
    assert_int_equal(launch->windows, 10);
    assert_int_equal(launch->set_aside, 2);
    assert_int_equal(launch->integrity.sent, 6 * SAMPLES);
    assert_int_equal(launch->integrity.received, 6 * SAMPLES);
    lab_run_free(r.run);
}

static void costs_are_sums_over_the_parties(void **state)
{
    (void)state;
    struct report r;
    set_up(&r, 2, 1);
    const struct lab_launch *launch = collected(&r);
    assert_int_equal(launch->wall_ns, 20 * LAB_NS_PER_MS);
    assert_int_equal(launch->cpu_ns, 18 * LAB_NS_PER_MS);
    assert_int_equal(launch->run_delay_ns, 2 * LAB_NS_PER_US);
    assert_int_equal(launch->switches, 14);
    assert_int_equal(launch->faults, 8);
    lab_run_free(r.run);
}

static void rates_of_edges_add_up_and_their_latencies_lie_together(void **state)
{
    (void)state;
    struct report r;
    set_up(&r, 4, 1);
    r.edge[2].elapsed_ns = 20 * LAB_NS_PER_MS;
    const struct lab_launch *launch = collected(&r);
    assert_true(fabs(launch->messages_per_s - 300000) < 1e-6);
    assert_int_equal(launch->messages, 4 * SAMPLES);
    assert_int_equal(launch->elapsed_ns, 20 * LAB_NS_PER_MS);
    assert_int_equal(launch->latency->count, 2 * SAMPLES);
    lab_run_free(r.run);
}

static void the_parties_of_all_nodes_count(void **state)
{
    (void)state;
    struct report r;
    struct lab_launch *launch;
    set_up(&r, 4, 2);
    lab_assert_ok(collect(&r, 2, true, &launch));
    assert_int_equal(launch->integrity.sent, 12 * SAMPLES);
    assert_int_equal(launch->cpu_ns, 36 * LAB_NS_PER_MS);
    lab_run_free(r.run);
}

static void set_up_is_timed_on_one_clock_and_left_out_on_several(void **state)
{
    (void)state;
    struct report r;
    struct lab_launch *launch;
    set_up(&r, 4, 1);
    lab_assert_ok(collect(&r, 1, true, &launch));
    assert_int_equal(launch->setup_ns, 2 * LAB_NS_PER_MS);
    /* 22 ms in all, of which 4 warmed up and 10 measured. */
    assert_int_equal(launch->overhead_ns, 8 * LAB_NS_PER_MS);
    lab_assert_ok(collect(&r, 1, false, &launch));
    assert_int_equal(launch->setup_ns, 0);
    lab_run_free(r.run);
}

static void a_pattern_without_latency_has_no_histogram(void **state)
{
    (void)state;
    struct report r;
    set_up(&r, 2, 1);
    r.edge[0].latency.len = 0;
    const struct lab_launch *launch = collected(&r);
    assert_int_equal(launch->verdict, LAB_OK);
    assert_null(launch->latency);
    assert_true(isnan(launch->handoff_ns));
    lab_run_free(r.run);
}

static void check_invalid(const struct lab_launch *launch, const char *because)
{
    assert_int_equal(launch->verdict, LAB_INVALID);
    assert_non_null(launch->reason);
    if (!strstr(launch->reason, because))
        print_error("'%s' is not in '%s'\n", because, launch->reason);
    assert_non_null(strstr(launch->reason, because));
}

static void messages_that_do_not_add_up_make_a_launch_invalid(void **state)
{
    (void)state;
    const struct { size_t offset; const char *because; } counts[] = {
        {offsetof(Lab__EdgeOutcome, lost), "7 lost"},
        {offsetof(Lab__EdgeOutcome, duplicated), "7 twice"},
        {offsetof(Lab__EdgeOutcome, reordered), "7 out of order"},
        {offsetof(Lab__EdgeOutcome, corrupt), "7 corrupt"},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct report r;
        set_up(&r, 2, 1);
        *(uint64_t *)(void *)((char *)&r.edge[1] + counts[i].offset) = 7;
        check_invalid(collected(&r), counts[i].because);
        lab_run_free(r.run);
    }
}

static void a_message_that_nobody_counted_as_lost_is_missed(void **state)
{
    (void)state;
    struct report r;
    set_up(&r, 2, 1);
    r.edge[1].received -= 1;
    check_invalid(collected(&r), "of 6000 messages 5999 arrived");
    lab_run_free(r.run);
}

static void a_party_that_moved_away_makes_a_pinned_launch_invalid(void **state)
{
    (void)state;
    struct report r;
    set_up(&r, 2, 1);
    r.outcome[1].migrated = true;
    check_invalid(collected(&r), "party 1 did not stay");
    lab_run_free(r.run);
}

static void a_launch_of_which_no_window_was_kept_is_invalid(void **state)
{
    (void)state;
    struct report r;
    set_up(&r, 2, 1);
    r.edge[0].windows = 0;
    r.edge[0].set_aside = 10;
    r.edge[0].elapsed_ns = r.edge[0].messages = r.edge[0].bytes = r.edge[0].latency.len = 0;
    const struct lab_launch *launch = collected(&r);
    check_invalid(launch, "no window could be kept");
    assert_true(isnan(launch->messages_per_s));
    lab_run_free(r.run);
}

static void one_party_that_was_not_steady_makes_a_launch_transient(void **state)
{
    (void)state;
    struct report r;
    set_up(&r, 2, 1);
    r.outcome[0].steady = false;
    const struct lab_launch *launch = collected(&r);
    assert_int_equal(launch->verdict, LAB_TRANSIENT);
    assert_non_null(launch->reason);
    lab_run_free(r.run);
}

static void a_launch_that_nobody_reported_of_is_no_measurement(void **state)
{
    (void)state;
    struct report r;
    struct lab_launch *launch;
    set_up(&r, 2, 1);
    r.done[0].n_outcomes = 0;
    lab_assert_fails(collect(&r, 1, true, &launch), EBADMSG);
    lab_run_free(r.run);
}

static void a_histogram_that_is_none_is_refused(void **state)
{
    (void)state;
    struct report r;
    struct lab_launch *launch;
    set_up(&r, 2, 1);
    r.edge[0].latency.len = 3;
    lab_assert_fails(collect(&r, 1, true, &launch), EBADMSG);
    lab_run_free(r.run);
}

/* ---- the way that messages took ---- */

/* Parties 0 and 1 here, 2 and 3 on the other host: edge 0 from here to there, edge 1 within the other. */
static void set_up_apart(struct report *r, uint64_t here_bytes, uint64_t there_bytes)
{
    set_up(r, 4, 2);
    r->order[0].server = 2;
    r->order[1].client = 3;
    r->order[1].server = 2;
    r->hosts[0] = written("10.0.0.1");
    r->hosts[1] = written("10.0.0.2");
    r->moved[1].network = written("boot/2");
    r->moved[0].received_bytes = here_bytes;
    r->moved[1].received_bytes = there_bytes;
}

static const struct lab_launch *collected_apart(struct report *r)
{
    struct lab_launch *launch;
    lab_assert_ok(collect(r, 2, false, &launch));
    return launch;
}

static void messages_between_hosts_came_over_an_interface(void **state)
{
    (void)state;
    struct report r;
    set_up_apart(&r, RECEIVED * SIZE, RECEIVED * SIZE);
    const struct lab_launch *launch = collected_apart(&r);
    assert_int_equal(launch->verdict, LAB_OK);
    assert_string_equal(launch->proof, lab_proof_name(LAB_PROOF_INTERFACE));
    assert_int_equal(launch->payload_bytes, 2 * RECEIVED * SIZE); /* there and back; those of edge 1 stayed where they were */
    assert_int_equal(launch->interface_bytes, 2 * RECEIVED * SIZE);
    lab_run_free(r.run);
}

static void confirmations_count_as_short_as_they_are(void **state)
{
    (void)state;
    struct report r;
    set_up_apart(&r, RECEIVED * 8, RECEIVED * SIZE);
    r.ordered.pattern = written("stream");
    const struct lab_launch *launch = collected_apart(&r);
    assert_int_equal(launch->payload_bytes, RECEIVED * (SIZE + 8));
    assert_string_equal(launch->proof, lab_proof_name(LAB_PROOF_INTERFACE));
    lab_run_free(r.run);
}

static void messages_between_hosts_that_no_interface_saw_make_a_launch_invalid(void **state)
{
    (void)state;
    struct report r;
    set_up_apart(&r, RECEIVED * SIZE - 1, RECEIVED * SIZE);
    const struct lab_launch *launch = collected_apart(&r);
    check_invalid(launch, "384000 bytes arrived from other hosts, and 383999 over an interface");
    assert_string_equal(launch->proof, lab_proof_name(LAB_PROOF_REFUTED));
    lab_run_free(r.run);
}

/* Two nodes that look at the same interfaces count each packet twice, and would prove what is not so. */
static void one_host_by_two_names_proves_nothing(void **state)
{
    (void)state;
    struct report r;
    set_up_apart(&r, RECEIVED * SIZE, RECEIVED * SIZE);
    r.moved[1].network = r.moved[0].network;
    const struct lab_launch *launch = collected_apart(&r);
    check_invalid(launch, "these hosts are one");
    assert_int_equal(launch->interface_bytes, RECEIVED * SIZE);
    lab_run_free(r.run);
}

static void messages_within_a_host_leave_it_alone(void **state)
{
    (void)state;
    struct report r;
    set_up(&r, 2, 1);
    r.edge[0].sent = r.edge[0].received = r.edge[1].sent = r.edge[1].received = LAB_PATH_STRAY / SIZE;
    r.moved[0].received_bytes = 2 * LAB_PATH_STRAY - 1; /* somebody else's */
    const struct lab_launch *launch = collected(&r);
    assert_int_equal(launch->verdict, LAB_OK);
    assert_string_equal(launch->proof, lab_proof_name(LAB_PROOF_HOST));
    r.moved[0].received_bytes++;
    launch = collected(&r);
    check_invalid(launch, "the messages left it, or others use its network");
    assert_string_equal(launch->proof, lab_proof_name(LAB_PROOF_REFUTED));
    lab_run_free(r.run);
}

/* Few messages prove nothing: whoever sits at the machine moves more over its interfaces. */
static void what_others_move_is_no_refutation_while_it_is_little(void **state)
{
    (void)state;
    struct report r;
    set_up(&r, 2, 1);
    r.moved[0].received_bytes = LAB_PATH_STRAY;
    assert_int_equal(collected(&r)->verdict, LAB_OK);
    lab_run_free(r.run);
}

static void a_node_that_does_not_tell_what_moved_is_refused(void **state)
{
    (void)state;
    struct report r;
    struct lab_launch *launch;
    set_up(&r, 2, 1);
    r.done[0].moved = NULL;
    lab_assert_fails(collect(&r, 1, true, &launch), EBADMSG);
    r.done[0].moved = &r.moved[0];
    r.edge[1].edge = 1;
    lab_assert_fails(collect(&r, 1, true, &launch), EBADMSG); /* of one edge */
    lab_run_free(r.run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_edge_measured_is_the_launch),
        cmocka_unit_test(costs_are_sums_over_the_parties),
        cmocka_unit_test(rates_of_edges_add_up_and_their_latencies_lie_together),
        cmocka_unit_test(the_parties_of_all_nodes_count),
        cmocka_unit_test(set_up_is_timed_on_one_clock_and_left_out_on_several),
        cmocka_unit_test(a_pattern_without_latency_has_no_histogram),
        cmocka_unit_test(messages_that_do_not_add_up_make_a_launch_invalid),
        cmocka_unit_test(a_message_that_nobody_counted_as_lost_is_missed),
        cmocka_unit_test(a_party_that_moved_away_makes_a_pinned_launch_invalid),
        cmocka_unit_test(a_launch_of_which_no_window_was_kept_is_invalid),
        cmocka_unit_test(one_party_that_was_not_steady_makes_a_launch_transient),
        cmocka_unit_test(a_launch_that_nobody_reported_of_is_no_measurement),
        cmocka_unit_test(a_histogram_that_is_none_is_refused),
        cmocka_unit_test(messages_between_hosts_came_over_an_interface),
        cmocka_unit_test(confirmations_count_as_short_as_they_are),
        cmocka_unit_test(messages_between_hosts_that_no_interface_saw_make_a_launch_invalid),
        cmocka_unit_test(one_host_by_two_names_proves_nothing),
        cmocka_unit_test(messages_within_a_host_leave_it_alone),
        cmocka_unit_test(what_others_move_is_no_refutation_while_it_is_little),
        cmocka_unit_test(a_node_that_does_not_tell_what_moved_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
