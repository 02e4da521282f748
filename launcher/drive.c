#include "launcher/drive.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/version.h"
#include "launcher/collect.h"
#include "launcher/schedule.h"
#include "observe/noise.h"
#include "report/statistics.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_GUESS_NS (8 * LAB_NS_PER_MS)
#define FIRST_GUESS_MPI_NS (60 * LAB_NS_PER_MS)

struct drive {
    const struct lab_drive_spec *spec;
    struct lab_conversation *talk;
    struct lab_schedule *schedule;
    size_t *cell_of;             /* of the schedule's cells, which of the plan's */
    size_t runnable;
    bool limits_known, world_entered;
    uint64_t launched;
    struct lab_curve_pair pair;  /* for this run's encrypted links, and no longer */
    Lab__KeyPair link_keys;
};

/* ---- one launch ---- */

struct order {
    Lab__Assign assign;
    Lab__Cell cell;
    Lab__Edge *edges, **edge_pointers;
    Lab__Place *places, **place_pointers;
    char **hosts;
    char variable[LAB_PLAN_VARIABLES][LAB_PLAN_VARIABLE], *variables[LAB_PLAN_VARIABLES];
};

static void order_fini(struct order *order)
{
    free(order->edges);
    free(order->edge_pointers);
    free(order->places);
    free(order->place_pointers);
    free(order->hosts);
}

static char *text_of(const char *text)
{
    return (char *)(uintptr_t)text; /* protobuf-c's strings are not const; packing changes none */
}

static int make_link_keys(struct drive *drive)
{
    bool wanted = false;
    for (size_t c = 0; c < drive->spec->plan->cell_count; c++)
        wanted = wanted || (!drive->spec->plan->cells[c].skip && drive->spec->plan->cells[c].encrypted);
    drive->link_keys = (Lab__KeyPair)LAB__KEY_PAIR__INIT;
    drive->link_keys.open = drive->pair.open;
    drive->link_keys.secret = drive->pair.secret;
    return wanted ? lab_curve_pair_make(&drive->pair) : 0;
}

static void order_cell(struct drive *drive, const struct lab_plan_cell *cell, const struct lab_turn *turn, Lab__Cell *to)
{
    *to = (Lab__Cell)LAB__CELL__INIT;
    to->transport = text_of(cell->transport->name);
    to->wait = text_of(lab_wait_name(cell->wait));
    to->pattern = text_of(cell->pattern->name);
    to->backing = text_of(lab_backing_name(cell->backing));
    to->spin_ns = cell->spin_ns;
    to->reliable = cell->reliable;
    to->link_keys = cell->encrypted ? &drive->link_keys : NULL;
    to->link = text_of(cell->link ? cell->link->name : "");
    to->size_bytes = cell->size_bytes;
    to->window = cell->window;
    to->batch = cell->batch;
    to->unit = text_of(lab_unit_name(cell->unit));
    to->verify_all = cell->verify_all;
    to->warmup_ns = turn->warmup_ns;
    to->measure_ns = turn->measure_ns;
    to->window_ns = turn->window_ns;
    to->seed = drive->spec->run->seed;
    to->run = lab_conversation_run(drive->talk);
}

/* Three times what was asked for is a machine in trouble, unless more processes than cpus take turns; setting up is the rest. */
static uint64_t deadline_of(const struct drive *drive, const struct lab_plan_cell *cell, const struct lab_turn *turn)
{
    uint32_t processes = cell->parties + (cell->workers && cell->nodes > 1 ? cell->nodes : 0);
    bool crowded = processes > drive->spec->machine->cpu_count;
    return 3 * (turn->warmup_ns + turn->measure_ns) + (crowded ? 15 : 2) * LAB_NS_PER_S + cell->parties * LAB_START_WITHIN_NS;
}

static int order_make(struct drive *drive, const struct lab_plan_cell *cell, const struct lab_turn *turn, struct order *order)
{
    size_t edges = cell->topology->edge_count(cell->parties);
    struct lab_edge *joined = calloc(edges + 1, sizeof *joined);
    *order = (struct order){
        .assign = LAB__ASSIGN__INIT,
        .edges = calloc(edges + 1, sizeof *order->edges), .edge_pointers = calloc(edges + 1, sizeof *order->edge_pointers),
        .places = calloc(cell->parties, sizeof *order->places), .place_pointers = calloc(cell->parties, sizeof *order->place_pointers),
        .hosts = calloc(cell->nodes, sizeof *order->hosts),
    };
    if (!joined || !order->edges || !order->edge_pointers || !order->places || !order->place_pointers || !order->hosts) {
        free(joined);
        order_fini(order);
        return lab_fail(ENOMEM, "no memory for a launch of %u parties", cell->parties);
    }
    cell->topology->edges(cell->parties, joined);
    for (size_t e = 0; e < edges; e++) {
        order->edges[e] = (Lab__Edge)LAB__EDGE__INIT;
        order->edges[e].client = joined[e].client;
        order->edges[e].server = joined[e].server;
        order->edge_pointers[e] = &order->edges[e];
    }
    free(joined);
    for (uint32_t p = 0; p < cell->parties; p++) {
        uint32_t node = cell->workers ? p / cell->workers : p;
        order->places[p] = (Lab__Place)LAB__PLACE__INIT;
        order->places[p].node = node;
        order->places[p].cpu = lab_conversation_cpu(drive->talk, node, lab_plan_cpu(cell, drive->spec->machine, p));
        order->place_pointers[p] = &order->places[p];
    }
    for (uint32_t n = 0; n < cell->nodes; n++)
        order->hosts[n] = text_of(lab_conversation_host(drive->talk, n));
    order_cell(drive, cell, turn, &order->cell);
    order->assign.cell = &order->cell;
    order->assign.nodes = cell->nodes;
    order->assign.workers_per_node = cell->workers;
    order->assign.n_edges = edges;
    order->cell.together = edges > 1;
    order->cell.n_variables = (size_t)lab_plan_mpi_variables(cell, order->variable);
    for (size_t v = 0; v < order->cell.n_variables; v++)
        order->variables[v] = order->variable[v];
    order->cell.variables = order->variables;
    order->assign.edges = order->edge_pointers;
    order->assign.n_places = cell->parties;
    order->assign.places = order->place_pointers;
    order->assign.n_hosts = cell->nodes;
    order->assign.hosts = order->hosts;
    order->assign.deadline_ns = deadline_of(drive, cell, turn);
    return 0;
}

/* Whether nodes talk to each other over MPI in this cell. */
static bool needs_world(const struct lab_plan_cell *cell)
{
    const struct lab_transport *between = cell->workers ? cell->link : cell->transport;
    return cell->nodes > 1 && between && between->caps & LAB_CAP_WORLD;
}

static bool uses_mpi(const struct lab_plan *plan)
{
    for (size_t c = 0; c < plan->cell_count; c++) {
        const struct lab_plan_cell *cell = &plan->cells[c];
        if (!cell->skip && (cell->transport->caps & LAB_CAP_WORLD || needs_world(cell)))
            return true;
    }
    return false;
}

static bool crosses_nodes(const struct lab_plan_cell *cell)
{
    return cell->nodes > 1;
}

/* What the launch came to, as a row of the result. `err` is that of the conversation, its sentence is in the record. */
static int note_launch(struct drive *drive, size_t planned, const struct lab_turn *turn, const Lab__Assign *assign, int err, uint64_t began_ns)
{
    struct lab_run *run = drive->spec->run;
    struct lab_cell *cell = &run->cells[planned];
    struct lab_launch *launch = lab_cell_add_launch(cell);
    if (!launch)
        return lab_fail(ENOMEM, "no memory for a launch");
    launch->round = turn->round;
    if (!err) {
        struct lab_collect collect = {
            .assign = assign, .done = lab_conversation_done(drive->talk), .nodes = drive->spec->plan->cells[planned].nodes,
            .same_clock = !lab_conversation_remote(drive->talk), .began_ns = began_ns, .ended_ns = lab_now_ns(),
            .ready_ns = lab_conversation_ready_ns(drive->talk),
        };
        err = lab_collect_launch(&collect, run, launch);
    }
    if (err) {
        launch->verdict = LAB_FAILED;
        launch->reason = lab_run_string(run, lab_error_last()->text);
        launch->overhead_ns = lab_now_ns() - began_ns;
    }
    return lab_store_launch(drive->spec->store, run, cell, launch);
}

static int launch(struct drive *drive, const struct lab_turn *turn)
{
    size_t planned = drive->cell_of[turn->cell];
    const struct lab_plan_cell *cell = &drive->spec->plan->cells[planned];
    struct order order;
    int err = order_make(drive, cell, turn, &order);
    if (err)
        return err;
    if (needs_world(cell) && !drive->world_entered)
        err = lab_conversation_world(drive->talk);
    drive->world_entered = drive->world_entered || needs_world(cell);
    uint64_t began_ns = lab_now_ns();
    if (!err)
        err = lab_conversation_launch(drive->talk, &order.assign, crosses_nodes(cell), cell->transport->caps & LAB_CAP_WORLD);
    /* A launch that fails by itself is a row of its cell; what ends the conversation ends the run, and says nothing of the cell. */
    if (!err || !lab_conversation_over(drive->talk))
        err = note_launch(drive, planned, turn, &order.assign, err, began_ns);
    order_fini(&order);
    if (err)
        return err;
    const struct lab_cell *result = &drive->spec->run->cells[planned];
    const struct lab_launch *launched = &result->launches[result->launch_count - 1];
    lab_schedule_done(drive->schedule, turn->cell, launched->overhead_ns, launched->verdict == LAB_FAILED);
    if (drive->launched++ == 0 && launched->verdict != LAB_FAILED) {
        if (launched->setup_ns)
            lab_conversation_tell(drive->talk, "the first launch is done; its first message was answered %.1f ms after its ASSIGN",
                                  (double)launched->setup_ns / 1e6);
        else /* on another host's clock */
            lab_conversation_tell(drive->talk, "the first launch is done");
    }
    return 0;
}

/* ---- the run ---- */

static bool precise(void *context, size_t scheduled)
{
    enum { PER_MILLE_LATENCY = 20 };
    const struct drive *drive = context;
    const struct lab_run *run = drive->spec->run;
    const struct lab_cell *cell = &run->cells[drive->cell_of[scheduled]];
    struct lab_summary summary;
    if (lab_cell_summary(run, cell, &summary))
        return false;
    double precision = lab_figure_precision(cell->latency_kind ? summary.p50_ns : summary.messages_per_s);
    return !isnan(precision) && precision <= PER_MILLE_LATENCY / 1000.0;
}

static int make_schedule(struct drive *drive)
{
    const struct lab_plan *plan = drive->spec->plan;
    uint64_t *guess = calloc(plan->cell_count + 1, sizeof *guess);
    drive->cell_of = calloc(plan->cell_count + 1, sizeof *drive->cell_of);
    if (!guess || !drive->cell_of) {
        free(guess);
        return lab_fail(ENOMEM, "no memory to schedule %zu cells", plan->cell_count);
    }
    for (size_t c = 0; c < plan->cell_count; c++) {
        const struct lab_plan_cell *cell = &plan->cells[c];
        if (cell->skip)
            continue;
        guess[drive->runnable] = cell->transport->caps & LAB_CAP_WORLD && cell->workers ? FIRST_GUESS_MPI_NS : FIRST_GUESS_NS;
        drive->cell_of[drive->runnable++] = c;
    }
    const struct lab_schedule_spec spec = {
        .cells = drive->runnable, .overhead_ns = guess, .launches = plan->experiment->launches,
        .budget_ns = plan->experiment->budget_ns, .seed = plan->experiment->seed, .precise = precise, .context = drive,
    };
    int err = lab_schedule_new(&spec, &drive->schedule);
    free(guess);
    return err;
}

/* Limits that could not be measured, on a machine that is too busy for instance, are missing beside the figures; no launch is worth less. */
static int go_without_limits(struct drive *drive, int err)
{
    if (lab_conversation_over(drive->talk))
        return err;
    struct lab_warning *warning = lab_run_add_warning(drive->spec->run);
    if (!warning)
        return lab_fail(ENOMEM, "no memory for a warning");
    char text[LAB_ERROR_TEXT + 64];
    snprintf(text, sizeof text, "the limits of the machine could not be measured: %s", lab_error_last()->text);
    warning->code = "limits";
    warning->text = lab_run_string(drive->spec->run, text);
    return warning->text ? 0 : lab_fail(ENOMEM, "no memory for a warning");
}

static int take_limits(struct drive *drive)
{
    struct lab_run *run = drive->spec->run;
    const Lab__Limits *limits;
    drive->limits_known = true;
    int err = lab_conversation_limits(drive->talk, &limits);
    if (err)
        return go_without_limits(drive, err);
    for (size_t i = 0; i < limits->n_limit; i++) {
        struct lab_limit *limit = lab_run_add_limit(run);
        if (!limit)
            return lab_fail(ENOMEM, "no memory for limits");
        limit->name = lab_run_string(run, limits->limit[i]->name);
        limit->value = limits->limit[i]->value;
        limit->unit = lab_run_string(run, limits->limit[i]->unit);
    }
    for (size_t i = 0; i < limits->n_noise; i++) {
        struct lab_noise *noise = lab_run_add_noise(run);
        if (!noise)
            return lab_fail(ENOMEM, "no memory for noise grades");
        noise->cpu = limits->noise[i]->cpu;
        noise->lost_fraction = limits->noise[i]->lost_fraction;
        noise->max_ns = limits->noise[i]->max_ns;
        noise->grade = lab_noise_grade(noise->lost_fraction, noise->max_ns);
    }
    return 0;
}

static void show_progress(struct drive *drive, const struct lab_turn *turn)
{
    const struct lab_cell *cell = &drive->spec->run->cells[drive->cell_of[turn->cell]];
    char what[96];
    snprintf(what, sizeof what, "%s %s %s, launch %u", cell->pattern, cell->transport, cell->wait, turn->round + 1);
    lab_progress_update(drive->spec->progress, lab_schedule_fraction(drive->schedule, lab_now_ns()), what);
}

static int run_all(struct drive *drive)
{
    struct lab_turn turn;
    int err = 0;
    while (!err && lab_schedule_next(drive->schedule, lab_now_ns(), &turn)) {
        /* The limits are measured amid the launches that they stand beside, not before the first of them. */
        if (turn.round == 1 && !drive->limits_known)
            err = take_limits(drive);
        show_progress(drive, &turn);
        if (!err)
            err = launch(drive, &turn);
    }
    if (!err && !drive->limits_known && drive->runnable)
        err = take_limits(drive);
    return err;
}

static enum lab_drive_end ending_of(const struct drive *drive, int err, int *ret_signal)
{
    if (!err)
        return LAB_DRIVE_COMPLETE;
    *ret_signal = lab_conversation_signal(drive->talk);
    if (*ret_signal)
        return LAB_DRIVE_SIGNAL;
    return drive->launched ? LAB_DRIVE_FAILED : lab_conversation_greeted(drive->talk) ? LAB_DRIVE_FAILED : LAB_DRIVE_REFUSED;
}

int lab_drive(const struct lab_drive_spec *spec, enum lab_drive_end *ret_end, int *ret_signal, struct lab_conversation **ret_talk)
{
    struct drive drive = {.spec = spec};
    struct lab_run *run = spec->run;
    *ret_signal = 0;
    *ret_talk = NULL;
    int err = make_schedule(&drive);
    if (!err)
        err = make_link_keys(&drive);
    if (!err && !drive.runnable) {
        run->ended_by = "launches";
        *ret_end = LAB_DRIVE_COMPLETE;
    } else if (!err) {
        struct lab_conversation_spec talk = {
            .nodes = spec->plan->nodes_max, .crew = spec->crew, .run = run, .verbose = spec->verbose, .progress = spec->progress,
        };
        talk.crew.ranks = uses_mpi(spec->plan);
        err = lab_conversation_begin(&talk, &drive.talk);
        if (!err)
            err = run_all(&drive);
        *ret_end = ending_of(&drive, err, ret_signal);
        run->ended_by = *ret_end == LAB_DRIVE_COMPLETE ? lab_schedule_ended_by(drive.schedule)
                        : *ret_end == LAB_DRIVE_SIGNAL ? "interrupted" : "failed";
        if (err)
            run->failure = lab_run_string(run, lab_error_last()->text);
        err = 0;
    }
    explicit_bzero(&drive.pair, sizeof drive.pair);
    *ret_talk = drive.talk;
    lab_schedule_free(drive.schedule);
    free(drive.cell_of);
    return err;
}
