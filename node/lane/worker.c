#include "node/lane/worker.h"

#include "base/alarm.h"
#include "base/error.h"
#include "node/lane/measure.h"
#include "observe/memory.h"
#include "proto/codec.h"
#include "proto/control.pb-c.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TASK_WITHIN_S = 10, START_WITHIN_S = 60, RESULT_WITHIN_S = 5 };

struct lab_worker {
    int control_fd;
    struct lab_company company;
    Lab__Note *note;            /* owned: the task is in it */
    const Lab__Task *task;
    const struct lab_pattern *pattern;
    struct lab_edge_side *sides;
    uint32_t opened;            /* sides whose two lanes are open */
    uint32_t tried;             /* ... whose descriptors were taken, by an end or on its failure */
    void *probes;               /* mapping of the probe page, NULL: none */
    size_t probe_bytes;
    struct lab_measure measure;
    int cpu_begin, cpu_end;     /* where it measured */
    int err;                    /* of the step that failed */
};

static int send_note(int fd, Lab__Note *note, uint64_t within_s)
{
    return lab_codec_send(fd, note, lab_now_ns() + within_s * LAB_NS_PER_S);
}

static int send_fault(int fd, int err, int32_t party)
{
    const struct lab_error *error = lab_error_last();
    char where[160], text[LAB_ERROR_TEXT];
    snprintf(where, sizeof where, "%s:%d", error->file ? error->file : "?", error->line);
    snprintf(text, sizeof text, "%s", err == -EAGAIN ? "the deadline passed before all messages had moved"
                                      : error->code  ? error->text : strerror(-err));
    Lab__Fault fault = LAB__FAULT__INIT;
    fault.error = -err;
    fault.text = text;
    fault.party = party;
    fault.where = where;
    Lab__Note note = LAB__NOTE__INIT;
    note.body_case = LAB__NOTE__BODY_FAULT;
    note.fault = &fault;
    return send_note(fd, &note, RESULT_WITHIN_S);
}

static int receive(int fd, Lab__Note__BodyCase wanted, uint64_t within_s, Lab__Note **ret_note)
{
    Lab__Note *note;
    int err = lab_codec_receive(fd, &lab__note__descriptor, lab_now_ns() + within_s * LAB_NS_PER_S, &note);
    if (err)
        return err;
    if (note->body_case != wanted) {
        err = lab_refuse(EPROTO, "the node sent note %d where %d was due", (int)note->body_case, (int)wanted);
        lab_codec_free(note);
        return err;
    }
    *ret_note = note;
    return 0;
}

/* ---- opening ---- */

static struct lab_wire wire_of(const Lab__End *told, enum lab_role role)
{
    struct lab_wire wire = {.fd = {-1, -1}, .seat = told->seat, .has_bells = told->own_bell >= 0, .bells = {{-1, -1}, {-1, -1}}};
    wire.fd[role] = told->fd;
    wire.bells[role] = (struct lab_bells){told->own_bell, told->peer_bell};
    snprintf(wire.address, sizeof wire.address, "%s", told->address);
    return wire;
}

static void drop_end(const Lab__End *told)
{
    if (!told)
        return;
    struct lab_wire wire = wire_of(told, LAB_TX);
    lab_wire_drop(&wire, LAB_TX);
}

/* Takes the descriptor over, also when it fails: a thread of a node would keep it until the run ends. */
static int open_end(const Lab__End *told, const Lab__KeyPair *keys, uint32_t epoch, enum lab_role role, struct lab_end *partner, uint64_t deadline_ns, struct lab_end **ret_end)
{
    const struct lab_transport *transport = lab_transport_named(told->transport);
    struct lab_channel channel = {
        .transport = transport, .id = told->channel, .epoch = epoch, .message_max = told->message_max, .window = told->window,
        .batch = told->batch, .crosses_nodes = told->crosses_nodes, .crosses_hosts = told->crosses_hosts,
        .rank = {told->tx_rank, told->rx_rank}, .seats = {told->tx_seats, told->rx_seats}, .sharing = (enum lab_sharing)told->sharing,
        .spin_ns = told->spin_ns, .reliable = told->reliable,
    };
    if (told->encrypted && keys) {
        snprintf(channel.keys.open, sizeof channel.keys.open, "%s", keys->open);
        snprintf(channel.keys.secret, sizeof channel.keys.secret, "%s", keys->secret);
    }
    int err = transport ? lab_wait_named(told->wait, &channel.wait) : lab_refuse(EPROTO, "there is no transport named '%s' here", told->transport);
    if (!err)
        err = lab_backing_named(told->backing, &channel.backing);
    if (err) {
        drop_end(told);
        return err;
    }
    struct lab_wire wire = wire_of(told, role);
    err = lab_end_open(&channel, role, &wire, partner, deadline_ns, ret_end);
    if (!err)
        return 0;
    drop_end(told);
    return lab_while(err, "opening the %s end of channel %u (%s)", role == LAB_TX ? "sending" : "receiving", channel.id, transport->name);
}

/* `partner`: the sending end, for a party that talks to itself. */
static int open_lane(const struct lab_worker *worker, const Lab__Side *side, enum lab_role role, struct lab_end *partner,
                     struct lab_lane *ret_lane)
{
    const Lab__Task *task = worker->task;
    const Lab__End *told = role == LAB_TX ? side->tx : side->rx;
    bool forward = partner || worker->pattern->sharing || side->client == (role == LAB_TX);
    uint32_t size = (uint32_t)task->cell->size_bytes;
    if (!forward)
        size = worker->pattern->reply_bytes(size);
    uint32_t sender = role == LAB_TX ? task->party : side->peer;
    struct lab_envelope envelope = {
        .run = task->cell->run, .epoch = task->epoch, .sender = sender,
        .receiver = role == LAB_TX ? side->peer : task->party, .channel = told->channel,
    };
    struct lab_end *end;
    int err = open_end(told, task->cell->link_keys, task->epoch, role, partner, task->deadline_ns, &end);
    if (err)
        return err;
    err = lab_lane_init(ret_lane, end, size, (uint16_t)sender, task->cell->seed, task->cell->verify_all, side->envelope ? &envelope : NULL);
    if (err)
        lab_end_close(end);
    return err;
}

/* The channel with the lower number first, as the other side does: an end that has to meet the other one to open (a window of MPI) does,
 * and no circle of workers waits for each other, since all go through their edges in one order. */
static int open_both(const struct lab_worker *worker, const Lab__Side *told, struct lab_edge_side *side)
{
    bool receives_first = told->rx->channel < told->tx->channel;
    side->self = told->tx->channel == told->rx->channel;
    int err = receives_first ? open_lane(worker, told, LAB_RX, NULL, &side->rx) : open_lane(worker, told, LAB_TX, NULL, &side->tx);
    if (err) {
        drop_end(receives_first ? told->tx : told->rx);
        return err;
    }
    if (receives_first)
        err = open_lane(worker, told, LAB_TX, NULL, &side->tx);
    else
        err = open_lane(worker, told, LAB_RX, side->self ? side->tx.end : NULL, &side->rx);
    if (err)
        lab_lane_fini(receives_first ? &side->rx : &side->tx);
    return err;
}

static int open_side(struct lab_worker *worker, uint32_t i)
{
    const Lab__Side *told = worker->task->sides[i];
    struct lab_edge_side *side = &worker->sides[i];
    bool shared = worker->pattern->sharing != LAB_NOT_SHARED;
    if (shared ? !told->tx == !told->rx : !told->tx || !told->rx) {
        drop_end(told->tx);
        drop_end(told->rx);
        return lab_refuse(EPROTO, "edge %u came without its ends", told->edge);
    }
    side->edge = told->edge;
    side->client = told->client;
    side->window = worker->task->cell->window;
    if (told->probe_slot >= 0 && worker->probes) {
        if (((size_t)told->probe_slot + 1) * sizeof(struct lab_probe) > worker->probe_bytes) {
            drop_end(told->tx);
            drop_end(told->rx);
            return lab_refuse(EPROTO, "probe slot %d lies outside the page", told->probe_slot);
        }
        side->probe = (struct lab_probe *)worker->probes + told->probe_slot;
    }
    if (shared)
        return told->tx ? open_lane(worker, told, LAB_TX, NULL, &side->tx) : open_lane(worker, told, LAB_RX, NULL, &side->rx);
    return open_both(worker, told, side);
}

static int open_all(struct lab_worker *worker)
{
    const Lab__Task *task = worker->task;
    if (!task->cell || !(worker->pattern = lab_pattern_named(task->cell->pattern)))
        return lab_refuse(EPROTO, "there is no pattern named '%s' here", task->cell ? task->cell->pattern : "");
    if (task->cell->size_bytes < LAB_MESSAGE_MIN || task->cell->size_bytes > INT32_MAX || !task->cell->window)
        return lab_refuse(EPROTO, "messages of %llu bytes, %u in flight: not possible", (unsigned long long)task->cell->size_bytes,
                          task->cell->window);
    worker->sides = calloc(task->n_sides ? task->n_sides : 1, sizeof *worker->sides);
    if (!worker->sides)
        return lab_fail(ENOMEM, "no memory for %zu edges", task->n_sides);
    if (task->probe_fd >= 0) {
        worker->probe_bytes = (size_t)sysconf(_SC_PAGESIZE);
        worker->probes = mmap(NULL, worker->probe_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, task->probe_fd, 0);
        if (worker->probes == MAP_FAILED) {
            worker->probes = NULL;
            return lab_fail(errno, "cannot map the page of the proximity probe");
        }
    }
    for (; worker->opened < task->n_sides; worker->opened++) {
        worker->tried++;
        int err = open_side(worker, worker->opened);
        if (err)
            return err;
    }
    return 0;
}

void lab_worker_free(struct lab_worker *worker)
{
    if (!worker)
        return;
    lab_measure_fini(&worker->measure);
    for (uint32_t i = 0; i < worker->opened; i++) {
        lab_lane_fini(&worker->sides[i].tx);
        lab_lane_fini(&worker->sides[i].rx);
    }
    for (size_t i = worker->tried; i < worker->task->n_sides; i++) {
        drop_end(worker->task->sides[i]->tx);
        drop_end(worker->task->sides[i]->rx);
    }
    free(worker->sides);
    if (worker->probes)
        munmap(worker->probes, worker->probe_bytes);
    lab_alarm_fini();
    lab_codec_free(worker->note);
    free(worker);
}

/* ---- reporting ---- */

struct edge_report {
    Lab__EdgeOutcome outcome;
    Lab__EdgeOutcome *pointer;
};

/* A message for everyone is sent as often as it is to arrive. */
static uint64_t deliveries(const struct lab_pattern *pattern, const struct lab_lane *tx)
{
    uint32_t receivers = pattern->sharing == LAB_TO_ALL && tx->end ? lab_seats(&tx->end->channel, LAB_RX) : 1;
    return tx->account.sent * receivers;
}

static int describe_edge(const struct lab_pattern *pattern, const struct lab_edge_side *side, const struct lab_edge_result *result,
                         Lab__EdgeOutcome *ret_outcome)
{
    Lab__EdgeOutcome o = LAB__EDGE_OUTCOME__INIT;
    o.edge = side->edge;
    o.client = side->client;
    o.messages = result->messages;
    o.bytes = result->messages * (side->client ? side->tx : side->rx).stencil.size;
    o.elapsed_ns = result->elapsed_ns;
    o.windows = result->windows;
    o.set_aside = result->set_aside;
    o.handoff_ns = result->handoff_ns;
    o.batched = result->batched;
    o.first_message_ns = result->first_message_ns;
    o.warmup_ns = result->warmup_ns;
    o.depth_max = side->depth_max;
    o.sent = deliveries(pattern, &side->tx);
    o.received = side->rx.account.received;
    o.lost = side->rx.account.lost;
    o.duplicated = side->rx.account.duplicated;
    o.reordered = side->rx.account.reordered;
    o.corrupt = side->rx.account.corrupt;
    if (side->client) {
        o.encode_ns = lab_stages_median(side->tx.stages, LAB_STAGE_ENCODE, side->clock_overhead_ns);
        o.enqueue_ns = lab_stages_median(side->tx.stages, LAB_STAGE_ENQUEUE, side->clock_overhead_ns);
    } else {
        o.one_way_ns = lab_stages_median(side->rx.stages, LAB_STAGE_ONE_WAY, 0);
        o.decode_ns = lab_stages_median(side->rx.stages, LAB_STAGE_DECODE, side->clock_overhead_ns);
    }
    if (result->latency && result->latency->count) {
        o.latency.len = lab_hist_encode(result->latency, NULL, 0);
        o.latency.data = malloc(o.latency.len);
        if (!o.latency.data)
            return lab_fail(ENOMEM, "no memory for a result of %zu bytes", o.latency.len);
        lab_hist_encode(result->latency, o.latency.data, o.latency.len);
    }
    *ret_outcome = o;
    return 0;
}

/* All its sides have the same. A side may have one lane only. NULL: it has opened none. */
static const struct lab_transport_ops *transport_of(const struct lab_worker *worker)
{
    const struct lab_edge_side *side = worker->opened ? &worker->sides[0] : NULL;
    const struct lab_end *end = side && side->tx.end ? side->tx.end : side ? side->rx.end : NULL;
    return end ? end->ops : NULL;
}

static void name_library(const struct lab_worker *worker, char to[LAB_LIBRARY_TEXT])
{
    const struct lab_transport_ops *ops = transport_of(worker);
    if (ops && ops->library)
        ops->library(to);
}

static void name_carrier(const struct lab_worker *worker, char to[LAB_CARRIER_TEXT])
{
    const struct lab_transport_ops *ops = transport_of(worker);
    if (ops && ops->carrier)
        ops->carrier(to);
}

static int send_result(const struct lab_worker *worker)
{
    const struct lab_measure *measure = &worker->measure;
    int32_t cpu = worker->task->cpu;
    Lab__Usage usage = LAB__USAGE__INIT;
    usage.wall_ns = measure->usage.wall_ns;
    /* The kernel knows of no fibers: what their process used is counted once. */
    bool fiber = worker->company.unit == LAB_UNIT_FIBER;
    if (!fiber || worker->company.place == 0) {
        usage.cpu_ns = measure->usage.cpu_ns;
        usage.run_delay_ns = measure->usage.run_delay_ns;
        usage.voluntary_switches = measure->usage.voluntary_switches;
        usage.involuntary_switches = measure->usage.involuntary_switches;
        usage.minor_faults = measure->usage.minor_faults;
        usage.major_faults = measure->usage.major_faults;
    }

    Lab__Outcome outcome = LAB__OUTCOME__INIT;
    outcome.party = worker->task->party;
    outcome.usage = &usage;
    outcome.steady = measure->steady;
    outcome.migrated = cpu >= 0 && (worker->cpu_begin != cpu || worker->cpu_end != cpu);
    outcome.cpu_begin = worker->cpu_begin;
    outcome.cpu_end = worker->cpu_end;
    outcome.pid = (int32_t)getpid();
    outcome.private_bytes = lab_memory_private() / worker->company.count;
    if (fiber && worker->company.place == 0)
        outcome.fiber_switches = measure->fiber_switches;
    char library[LAB_LIBRARY_TEXT] = "";
    name_library(worker, library);
    outcome.library = library;

    Lab__EdgeOutcome *edges = calloc(worker->opened ? worker->opened : 1, sizeof *edges);
    Lab__EdgeOutcome **pointers = calloc(worker->opened ? worker->opened : 1, sizeof *pointers);
    int err = edges && pointers ? 0 : lab_fail(ENOMEM, "no memory for %u results", worker->opened);
    char carrier[LAB_CARRIER_TEXT] = "";
    name_carrier(worker, carrier);
    for (uint32_t i = 0; !err && i < worker->opened; i++) {
        err = describe_edge(worker->pattern, &worker->sides[i], &measure->results[i], &edges[i]);
        edges[i].carrier = carrier;
        pointers[i] = &edges[i];
    }
    if (!err) {
        outcome.n_edges = worker->opened;
        outcome.edges = pointers;
        Lab__Note note = LAB__NOTE__INIT;
        note.body_case = LAB__NOTE__BODY_RESULT;
        note.result = &outcome;
        err = send_note(worker->control_fd, &note, RESULT_WITHIN_S);
    }
    for (uint32_t i = 0; edges && i < worker->opened; i++)
        free(edges[i].latency.data);
    free(edges);
    free(pointers);
    return err;
}

/* ---- the steps ---- */

int lab_worker_hire(int control_fd, struct lab_company company, struct lab_worker **ret_worker)
{
    struct lab_worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return lab_fail(ENOMEM, "no memory for a worker");
    *worker = (struct lab_worker){.control_fd = control_fd, .company = company};
    int err = receive(control_fd, LAB__NOTE__BODY_TASK, TASK_WITHIN_S, &worker->note);
    if (err) {
        free(worker);
        return err;
    }
    worker->task = worker->note->task;
    *ret_worker = worker;
    return 0;
}

int32_t lab_worker_cpu(const struct lab_worker *worker)
{
    return worker->task->cpu;
}

/* A failure is told at once: the record of why is the thread's, and the next party may run on the same. */
static int ended(struct lab_worker *worker, int err)
{
    if (err)
        send_fault(worker->control_fd, err, (int32_t)worker->task->party);
    worker->err = err;
    return err;
}

static int announce(int fd)
{
    Lab__Opened opened = LAB__OPENED__INIT;
    Lab__Note note = LAB__NOTE__INIT;
    note.body_case = LAB__NOTE__BODY_OPENED;
    note.opened = &opened;
    return send_note(fd, &note, RESULT_WITHIN_S);
}

int lab_worker_open(struct lab_worker *worker)
{
    const Lab__Task *task = worker->task;
    int err = open_all(worker);
    if (!err) {
        worker->measure = (struct lab_measure){
            .pattern = worker->pattern, .sides = worker->sides, .side_count = worker->opened, .deadline_ns = task->deadline_ns,
            .warmup_ns = task->cell->warmup_ns, .together = task->cell->together, .measure_ns = task->cell->measure_ns,
            .window_ns = task->cell->window_ns,
            .scope = worker->company.unit == LAB_UNIT_THREAD ? LAB_USAGE_THREAD : LAB_USAGE_PROCESS,
        };
        err = lab_measure_init(&worker->measure);
    }
    return ended(worker, err ? err : announce(worker->control_fd));
}

int lab_worker_await(struct lab_worker *worker)
{
    if (worker->err)
        return worker->err;
    Lab__Note *start = NULL;
    int err = receive(worker->control_fd, LAB__NOTE__BODY_START, START_WITHIN_S, &start);
    if (!err)
        lab_codec_free(start);
    return ended(worker, err);
}

int lab_worker_measure(struct lab_worker *worker)
{
    if (worker->err)
        return worker->err;
    worker->cpu_begin = sched_getcpu();
    int err = lab_measure_run(&worker->measure);
    worker->cpu_end = sched_getcpu();
    return ended(worker, err);
}

int lab_worker_report(struct lab_worker *worker)
{
    return worker->err ? worker->err : ended(worker, send_result(worker));
}

int lab_worker_run(int control_fd)
{
    struct lab_worker *worker;
    int err = lab_worker_hire(control_fd, (struct lab_company){LAB_UNIT_PROCESS, 0, 1}, &worker);
    if (err)
        return err;
    lab_worker_open(worker);
    lab_worker_await(worker);
    lab_worker_measure(worker);
    err = lab_worker_report(worker);
    lab_worker_free(worker);
    return err;
}
