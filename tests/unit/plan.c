/* From an experiment to cells: what the golden files (tests/plan/) cannot show for every number of parties and cpus. */
#include "launcher/plan.h"
#include "report/result.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/ipclab-plan-XXXXXX";

#define EVERY_TOPOLOGY "  topology: [pair, pairs, star, ring, line, tree, grid, torus, hypercube, mesh]\n"

struct planned {
    struct lab_experiment *experiment;
    struct lab_machine machine;
    struct lab_plan *plan;
};

static int try_plan(const char *text, const char *cpus, struct planned *ret)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    *ret = (struct planned){0};
    lab_assert_ok(lab_machine_parse(cpus, &ret->machine));
    lab_assert_ok(lab_experiment_read(path, NULL, 0, &ret->experiment));
    return lab_plan_make(ret->experiment, &ret->machine, &ret->plan);
}

static struct planned plan_of(const char *text, const char *cpus)
{
    struct planned planned;
    lab_assert_ok(try_plan(text, cpus, &planned));
    return planned;
}

static void forget(struct planned *planned)
{
    lab_plan_free(planned->plan);
    lab_experiment_free(planned->experiment);
}

static struct lab_edge *edges_of(const struct lab_topology *topology, uint32_t parties, size_t *ret_count)
{
    *ret_count = topology->edge_count(parties);
    struct lab_edge *edges = calloc(*ret_count + 1, sizeof *edges);
    assert_non_null(edges);
    edges[*ret_count] = (struct lab_edge){UINT32_MAX, UINT32_MAX};
    topology->edges(parties, edges);
    assert_int_equal(edges[*ret_count].client, UINT32_MAX);
    return edges;
}

static void every_topology_joins_different_parties_once_each(void **state)
{
    (void)state;
    const struct lab_topology *topology;
    for (size_t i = 0; (topology = lab_topology_at(i)); i++) {
        assert_ptr_equal(lab_topology_named(topology->name), topology);
        for (uint32_t parties = topology->parties_min; parties <= 17; parties++) {
            size_t count;
            struct lab_edge *edges = edges_of(topology, parties, &count);
            assert_true(count > 0);
            for (size_t a = 0; a < count; a++) {
                assert_true(edges[a].client < parties && edges[a].server < parties);
                assert_int_not_equal(edges[a].client, edges[a].server);
                for (size_t b = 0; b < a; b++)
                    assert_false((edges[a].client == edges[b].client && edges[a].server == edges[b].server) ||
                                 (edges[a].client == edges[b].server && edges[a].server == edges[b].client));
            }
            free(edges);
        }
    }
    assert_null(lab_topology_named("file"));
}

/* What a barrier relies on: from the leaves to one root, and whoever asks has been asked before. */
static void a_topology_gathers_when_it_is_a_tree_in_the_order_of_its_edges(void **state)
{
    (void)state;
    const struct lab_topology *topology;
    for (size_t i = 0; (topology = lab_topology_at(i)); i++) {
        bool gathers = true;
        for (uint32_t parties = 4; parties <= 17; parties++) {
            size_t count;
            struct lab_edge *edges = edges_of(topology, parties, &count);
            bool asked[17] = {false}, touched[17] = {false};
            uint32_t roots = 0;
            for (size_t e = 0; e < count; e++) {
                gathers = gathers && !asked[edges[e].client] && !asked[edges[e].server];
                asked[edges[e].client] = touched[edges[e].client] = touched[edges[e].server] = true;
            }
            for (uint32_t party = 0; party < parties; party++)
                roots += touched[party] && !asked[party];
            gathers = gathers && roots == 1;
            free(edges);
        }
        if (gathers != topology->gathers)
            fail_msg("%s: %d", topology->name, gathers);
    }
}

static void a_rectangle_has_the_edges_of_its_rows_and_columns(void **state)
{
    (void)state;
    const struct lab_topology *grid = lab_topology_named("grid"), *torus = lab_topology_named("torus");
    assert_int_equal(grid->edge_count(12), 3 * 3 + 2 * 4); /* 3 rows of 4 */
    assert_int_equal(torus->edge_count(12), 2 * 12);
    assert_int_equal(torus->edge_count(8), 2 * 4 + 4); /* 2 rows of 4: a column of two has one edge */
    assert_int_equal(grid->edge_count(13), 12);
    assert_int_equal(torus->edge_count(13), 13);
    assert_int_equal(lab_topology_named("hypercube")->edge_count(16), 4 * 8);
    assert_int_equal(lab_topology_named("pairs")->edge_count(7), 3);
}

static void a_pair_is_the_first_and_the_last_party(void **state)
{
    (void)state;
    size_t count;
    struct lab_edge *edges = edges_of(lab_topology_named("pair"), 7, &count);
    assert_int_equal(count, 1);
    assert_int_equal(edges[0].client, 0);
    assert_int_equal(edges[0].server, 6);
    free(edges);
}

static void other_core_keeps_the_sides_of_every_edge_apart_or_skips_the_cell(void **state)
{
    (void)state;
    static const char *const machines[] = {"5", "0,1", "2-4", "0-7"};
    uint32_t run = 0, skipped = 0;
    for (size_t m = 0; m < sizeof machines / sizeof *machines; m++) {
        struct planned planned = plan_of("transport: shm-ring\nplacement: other-core\nmatrix:\n" EVERY_TOPOLOGY
                                         "  workers: [2, 3, 4, 5, 6, 7, 8, 9]\n", machines[m]);
        for (size_t i = 0; i < planned.plan->cell_count; i++) {
            const struct lab_plan_cell *cell = &planned.plan->cells[i];
            skipped += cell->skip != NULL;
            if (cell->skip)
                continue;
            run++;
            size_t count;
            struct lab_edge *edges = edges_of(cell->topology, cell->parties, &count);
            for (size_t e = 0; e < count; e++) {
                int32_t client = lab_plan_cpu(cell, &planned.machine, edges[e].client);
                int32_t server = lab_plan_cpu(cell, &planned.machine, edges[e].server);
                assert_true(client >= 0 && server >= 0);
                assert_int_not_equal(client, server);
            }
            free(edges);
        }
        forget(&planned);
    }
    assert_true(run > 0 && skipped > 0);
}

static void whoever_asks_for_no_placement_gets_a_run_of_every_topology(void **state)
{
    (void)state;
    static const char *const machines[] = {"5", "0,1", "2-4", "0-7"};
    uint32_t apart = 0, anywhere = 0;
    for (size_t m = 0; m < sizeof machines / sizeof *machines; m++) {
        struct planned planned = plan_of("transport: shm-ring\nmatrix:\n" EVERY_TOPOLOGY "  workers: [3, 4, 5, 6]\n", machines[m]);
        assert_int_equal(planned.plan->cell_count, 40);
        for (size_t i = 0; i < planned.plan->cell_count; i++) {
            const struct lab_plan_cell *cell = &planned.plan->cells[i];
            assert_null(cell->skip);
            bool any = strcmp(cell->placement, "any") == 0;
            assert_true(any == !cell->slots);
            assert_int_equal(any, cell->note && strstr(cell->note, "placement is any"));
            anywhere += any;
            apart += !any;
        }
        forget(&planned);
    }
    assert_true(apart > 0 && anywhere > 0);
}

static void parties_on_different_hosts_are_apart_wherever_they_run(void **state)
{
    (void)state;
    struct planned planned = plan_of("transport: mpi\nhosts: [one, other, third]\nworkers: 0\ntopology: mesh\nplacement: other-core\n"
                                     "nodes: [3, 6, 7]\n", "8,9");
    static const int32_t wanted[] = {8, 8, 8, 9, 9, 9}; /* Hydra goes round the hosts again */
    assert_int_equal(planned.plan->cell_count, 3);
    for (size_t i = 0; i < 2; i++) {
        const struct lab_plan_cell *cell = &planned.plan->cells[i];
        assert_null(cell->skip);
        for (uint32_t party = 0; party < cell->parties; party++)
            assert_int_equal(lab_plan_cpu(cell, &planned.machine, party), wanted[party]);
    }
    assert_non_null(planned.plan->cells[2].skip);
    forget(&planned);
}

static void virtual_hosts_share_the_cpus_of_this_machine(void **state)
{
    (void)state;
    struct planned planned = plan_of("transport: mpi\nlab: true\nworkers: 0\ntopology: mesh\nnodes: 3\nplacement: [other-core, any]\n", "0,1");
    assert_non_null(planned.plan->cells[0].skip);
    assert_null(planned.plan->cells[1].skip);
    assert_non_null(strstr(planned.plan->cells[1].note, "take turns"));
    forget(&planned);
}

static void same_core_is_one_cpu_and_any_is_none(void **state)
{
    (void)state;
    struct planned planned = plan_of("transport: pipe\ntopology: mesh\nworkers: 3\nplacement: [same-core, any]\n", "4,6");
    assert_int_equal(planned.plan->cell_count, 2);
    for (uint32_t party = 0; party < 3; party++) {
        assert_int_equal(lab_plan_cpu(&planned.plan->cells[0], &planned.machine, party), 4);
        assert_int_equal(lab_plan_cpu(&planned.plan->cells[1], &planned.machine, party), -1);
    }
    forget(&planned);
}

static void a_host_with_fewer_cpus_has_its_parties_share_them(void **state)
{
    (void)state;
    struct planned planned = plan_of("transport: pipe\ntopology: mesh\nworkers: 4\n", "0-3");
    struct lab_machine smaller;
    lab_assert_ok(lab_machine_parse("9", &smaller));
    assert_null(planned.plan->cells[0].skip);
    for (uint32_t party = 0; party < 4; party++)
        assert_int_equal(lab_plan_cpu(&planned.plan->cells[0], &smaller, party), 9);
    forget(&planned);
}

static void a_cell_that_runs_asks_nothing_of_a_transport_that_it_cannot_do(void **state)
{
    (void)state;
    struct planned planned = plan_of("transport: [null, shm-ring, pipe, unix-seqpacket, zmq-ipc, zmq-tcp, mpi]\nmatrix:\n"
                                     "  wait: [spin, yield, adaptive, futex, block]\n  nodes: [1, 2]\n  workers: [0, 1, 2]\n"
                                     "  batch: [1, 8]\n  pattern: [pingpong, stream]\n  topology: [pair, star]\n", "0,1");
    size_t skipped = 0;
    for (size_t i = 0; i < planned.plan->cell_count; i++) {
        const struct lab_plan_cell *cell = &planned.plan->cells[i];
        assert_int_equal(cell->id, i);
        if (cell->skip) {
            assert_true(strlen(cell->skip) > 10);
            skipped++;
            continue;
        }
        bool self = cell->transport->caps & LAB_CAP_SELF;
        assert_true(cell->transport->waits & LAB_WAIT_BIT(cell->wait));
        assert_true(cell->batch == 1 || cell->transport->caps & LAB_CAP_BATCH);
        assert_true(cell->batch <= cell->window);
        assert_int_equal(cell->parties, cell->workers ? cell->nodes * cell->workers : cell->nodes);
        assert_true(cell->parties >= (self ? 1 : cell->topology->parties_min));
        assert_true(!self || (cell->parties == 1 && cell->nodes == 1));
        if (cell->nodes > 1 && cell->workers)
            assert_true(cell->link && cell->link->caps & (LAB_CAP_NODES | LAB_CAP_REMOTE));
        else
            assert_null(cell->link);
        if (!cell->workers)
            assert_true(cell->transport->caps & (LAB_CAP_NODES | LAB_CAP_REMOTE));
    }
    assert_int_equal(skipped, planned.plan->skip_count);
    assert_true(skipped > 0 && skipped < planned.plan->cell_count);
    assert_int_equal(planned.plan->nodes_max, 2);
    forget(&planned);
}

static void every_combination_is_a_cell_or_counted_away(void **state)
{
    (void)state;
    struct planned planned = plan_of("transport: [pipe, shm-ring, pipe]\nsize: [64, 128, 64]\nworkers: [2, 3]\n"
                                     "exclude: [{transport: pipe, workers: 3}]\n", "0,1");
    assert_int_equal(planned.plan->excluded, 6);
    assert_int_equal(planned.plan->cell_count, 6);
    assert_int_equal(planned.plan->merged, 6);
    forget(&planned);
}

static void defaults_match_filters_as_if_they_had_been_written(void **state)
{
    (void)state;
    struct planned planned = plan_of("transport: [pipe, shm-ring]\nbaseline: {wait: block, pattern: pingpong, workers: 2, size: 64}\n",
                                     "0,1");
    assert_true(planned.plan->cells[0].baseline);
    assert_false(planned.plan->cells[1].baseline);
    forget(&planned);
}

static void a_plan_becomes_a_run_cell_by_cell(void **state)
{
    (void)state;
    struct planned planned = plan_of("experiment: e\nquestion: q\ntransport: [pipe, zmq-inproc]\npattern: stream\nbaseline: {transport: pipe}\n",
                                     "0,1");
    struct lab_run *run = lab_run_new();
    assert_non_null(run);
    lab_assert_ok(lab_plan_to_run(planned.plan, run));
    assert_string_equal(run->config, planned.experiment->text);
    assert_string_equal(run->config_hash, planned.experiment->hash);
    forget(&planned);
    assert_string_equal(run->experiment, "e");
    assert_string_equal(run->question, "q");
    assert_int_equal(run->cell_count, 2);
    assert_string_equal(run->cells[0].transport, "pipe");
    assert_string_equal(run->cells[0].wait, "block");
    assert_string_equal(run->cells[0].options, "{\"window\": 1024, \"batch\": 1}");
    assert_null(run->cells[0].latency_kind);
    assert_true(run->cells[0].baseline);
    assert_int_not_equal(run->cells[0].verdict, LAB_SKIPPED);
    assert_string_equal(run->cells[1].transport, "zmq-inproc");
    assert_int_equal(run->cells[1].verdict, LAB_SKIPPED);
    assert_string_equal(run->cells[1].reason, "zmq-inproc joins threads of one process: it takes unit: thread");
    lab_run_free(run);
}

static void excludes_that_leave_nothing_are_refused(void **state)
{
    (void)state;
    struct planned planned;
    lab_assert_fails(try_plan("transport: pipe\nexclude: [{size: 64}]\n", "0,1", &planned), EINVAL);
    forget(&planned);
}

static void cpus_are_read_from_lists_and_ranges(void **state)
{
    (void)state;
    struct lab_machine machine;
    lab_assert_ok(lab_machine_parse("7,0-2,1023", &machine));
    static const int wanted[] = {7, 0, 1, 2, 1023};
    assert_int_equal(machine.cpu_count, sizeof wanted / sizeof *wanted);
    assert_memory_equal(machine.cpus, wanted, sizeof wanted);
    static const char *const wrong[] = {"", ",", "0,", "3-1", "1024", "a", "0 1", "-1", "1-"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        lab_assert_fails(lab_machine_parse(wrong[i], &machine), EINVAL);
    lab_machine_read(&machine);
    assert_true(machine.cpu_count > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_topology_joins_different_parties_once_each),
        cmocka_unit_test(a_topology_gathers_when_it_is_a_tree_in_the_order_of_its_edges),
        cmocka_unit_test(a_rectangle_has_the_edges_of_its_rows_and_columns),
        cmocka_unit_test(a_pair_is_the_first_and_the_last_party),
        cmocka_unit_test(other_core_keeps_the_sides_of_every_edge_apart_or_skips_the_cell),
        cmocka_unit_test(whoever_asks_for_no_placement_gets_a_run_of_every_topology),
        cmocka_unit_test(parties_on_different_hosts_are_apart_wherever_they_run),
        cmocka_unit_test(virtual_hosts_share_the_cpus_of_this_machine),
        cmocka_unit_test(same_core_is_one_cpu_and_any_is_none),
        cmocka_unit_test(a_host_with_fewer_cpus_has_its_parties_share_them),
        cmocka_unit_test(a_cell_that_runs_asks_nothing_of_a_transport_that_it_cannot_do),
        cmocka_unit_test(every_combination_is_a_cell_or_counted_away),
        cmocka_unit_test(defaults_match_filters_as_if_they_had_been_written),
        cmocka_unit_test(a_plan_becomes_a_run_cell_by_cell),
        cmocka_unit_test(excludes_that_leave_nothing_are_refused),
        cmocka_unit_test(cpus_are_read_from_lists_and_ranges),
    };
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
