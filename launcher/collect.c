#include "launcher/collect.h"

#include "base/error.h"
#include "launcher/path.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sums {
    uint64_t first_ns;  /* the first message anywhere */
    uint64_t warmup_ns; /* the longest */
    double encode_ns, enqueue_ns, decode_ns, one_way_ns;
    uint32_t encoded, decoded, came; /* edges that have those: the first two, the third, the last */
    bool steady, migrated, clients;
    uint32_t migrated_party;
    char carrier[200];  /* which way a library took, of all pairs; "": unknown, or it has no choice */
    char astray[LAB_PATH_REASON]; /* "": the messages went the way that the launch is about */
};

static void add_usage(struct lab_launch *launch, const Lab__Usage *usage)
{
    if (!usage)
        return;
    launch->cpu_ns += usage->cpu_ns;
    launch->wall_ns += usage->wall_ns;
    launch->run_delay_ns += usage->run_delay_ns;
    launch->switches += usage->voluntary_switches + usage->involuntary_switches;
    launch->faults += usage->minor_faults + usage->major_faults;
}

static int add_client(struct lab_launch *launch, struct sums *sums, const Lab__EdgeOutcome *edge)
{
    sums->clients = true;
    if (edge->elapsed_ns) {
        double rate = (double)edge->messages * 1e9 / (double)edge->elapsed_ns;
        launch->messages_per_s = (isnan(launch->messages_per_s) ? 0 : launch->messages_per_s) + rate;
        double bytes = (double)edge->bytes * 1e9 / (double)edge->elapsed_ns;
        launch->bytes_per_s = (isnan(launch->bytes_per_s) ? 0 : launch->bytes_per_s) + bytes;
    }
    launch->messages += edge->messages;
    launch->elapsed_ns = edge->elapsed_ns > launch->elapsed_ns ? edge->elapsed_ns : launch->elapsed_ns;
    sums->warmup_ns = edge->warmup_ns > sums->warmup_ns ? edge->warmup_ns : sums->warmup_ns;
    launch->windows += edge->windows;
    launch->set_aside += edge->set_aside;
    launch->batched = launch->batched || edge->batched;
    if (edge->handoff_ns > 0)
        launch->handoff_ns = edge->handoff_ns;
    if (edge->first_message_ns && (!sums->first_ns || edge->first_message_ns < sums->first_ns))
        sums->first_ns = edge->first_message_ns;
    if (!edge->latency.len)
        return 0;
    if (!launch->latency && !(launch->latency = lab_hist_new()))
        return lab_fail(ENOMEM, "no memory for a histogram");
    return lab_hist_merge_encoded(launch->latency, edge->latency.data, edge->latency.len);
}

/* Of each the side that has it. */
static void add_stages(struct sums *sums, const Lab__EdgeOutcome *edge)
{
    sums->encoded += edge->encode_ns > 0;
    sums->decoded += edge->decode_ns > 0;
    sums->came += edge->one_way_ns > 0;
    sums->encode_ns += edge->encode_ns;
    sums->enqueue_ns += edge->enqueue_ns;
    sums->decode_ns += edge->decode_ns;
    sums->one_way_ns += edge->one_way_ns;
}

static void tell_stages(const struct sums *sums, struct lab_launch *launch)
{
    if (sums->encoded) {
        launch->encode_ns = sums->encode_ns / sums->encoded;
        launch->enqueue_ns = sums->enqueue_ns / sums->encoded;
    }
    if (sums->decoded)
        launch->decode_ns = sums->decode_ns / sums->decoded;
    if (sums->came)
        launch->one_way_ns = sums->one_way_ns / sums->came;
}

/* Of all pairs, once each. */
static void add_carrier(struct sums *sums, const char *carrier)
{
    size_t used = strlen(sums->carrier);
    if (carrier[0] && !strstr(sums->carrier, carrier) && used < sizeof sums->carrier)
        snprintf(sums->carrier + used, sizeof sums->carrier - used, "%s%s", used ? "; " : "", carrier);
}

static int add_outcome(struct lab_launch *launch, struct sums *sums, const Lab__Outcome *outcome)
{
    add_usage(launch, outcome->usage);
    launch->fiber_switches += outcome->fiber_switches;
    launch->private_bytes = outcome->private_bytes > launch->private_bytes ? outcome->private_bytes : launch->private_bytes;
    sums->steady = sums->steady && outcome->steady;
    if (outcome->migrated && !sums->migrated) {
        sums->migrated = true;
        sums->migrated_party = outcome->party;
    }
    for (size_t e = 0; e < outcome->n_edges; e++) {
        const Lab__EdgeOutcome *edge = outcome->edges[e];
        launch->integrity.sent += edge->sent;
        launch->integrity.received += edge->received;
        launch->integrity.lost += edge->lost;
        launch->integrity.duplicated += edge->duplicated;
        launch->integrity.reordered += edge->reordered;
        launch->integrity.corrupt += edge->corrupt;
        add_stages(sums, edge);
        add_carrier(sums, edge->carrier);
        int err = edge->client ? add_client(launch, sums, edge) : 0;
        if (err)
            return err;
    }
    return 0;
}

static void judge(const struct sums *sums, struct lab_run *run, struct lab_launch *launch)
{
    const struct lab_integrity *i = &launch->integrity;
    char reason[LAB_PATH_REASON] = "";
    launch->verdict = LAB_OK;
    if (i->lost || i->duplicated || i->reordered || i->corrupt || i->sent != i->received) {
        launch->verdict = LAB_INVALID;
        snprintf(reason, sizeof reason, "of %llu messages %llu arrived: %llu lost, %llu twice, %llu out of order, %llu corrupt",
                 (unsigned long long)i->sent, (unsigned long long)i->received, (unsigned long long)i->lost,
                 (unsigned long long)i->duplicated, (unsigned long long)i->reordered, (unsigned long long)i->corrupt);
    } else if (sums->migrated) {
        launch->verdict = LAB_INVALID;
        snprintf(reason, sizeof reason, "party %u did not stay on the cpu that it was placed on", sums->migrated_party);
    } else if (sums->astray[0]) {
        launch->verdict = LAB_INVALID;
        snprintf(reason, sizeof reason, "%s", sums->astray);
    } else if (!launch->windows) {
        launch->verdict = LAB_INVALID;
        snprintf(reason, sizeof reason, "no window could be kept: the distance of the two cores changed within each, or another edge ended in it");
    } else if (!sums->steady) {
        launch->verdict = LAB_TRANSIENT;
        snprintf(reason, sizeof reason, "the rate had not become steady when measuring ended");
    }
    launch->reason = reason[0] ? lab_run_string(run, reason) : NULL;
}

/* Once each. Without memory it is missing beside the figures. */
static void note_library(struct lab_run *run, const char *named)
{
    char name[64];
    int length = 0;
    if (sscanf(named, "%63s %n", name, &length) != 1 || !named[length])
        return;
    for (uint32_t i = 0; i < run->library_count; i++)
        if (strcmp(run->libraries[i].name, name) == 0)
            return;
    const char *kept = lab_run_string(run, name), *version = lab_run_string(run, named + length);
    struct lab_library *library = kept && version ? lab_run_add_library(run) : NULL;
    if (library)
        *library = (struct lab_library){.name = kept, .version = version};
}

/* What nobody asked for and nobody would guess: said once beside the figures, or, without memory, not at all. */
static void note_carrier(struct lab_run *run, const Lab__Cell *cell, const char *carrier)
{
    char text[320];
    snprintf(text, sizeof text, "%s found its way from rank to rank by itself: %s", cell->transport, carrier);
    for (uint32_t w = 0; w < run->warning_count; w++)
        if (strcmp(run->warnings[w].text, text) == 0)
            return;
    const char *kept = lab_run_string(run, text);
    struct lab_warning *warning = kept ? lab_run_add_warning(run) : NULL;
    if (warning)
        *warning = (struct lab_warning){.code = "carrier", .text = kept};
}

int lab_collect_launch(const struct lab_collect *collect, struct lab_run *run, struct lab_launch *launch)
{
    struct sums sums = {.steady = true};
    for (size_t n = 0; n < collect->nodes; n++) {
        for (size_t o = 0; o < collect->done[n]->n_outcomes; o++) {
            int err = add_outcome(launch, &sums, collect->done[n]->outcomes[o]);
            if (err)
                return lab_while(err, "reading the outcome of node %zu", n);
            note_library(run, collect->done[n]->outcomes[o]->library);
        }
    }
    launch->buffer_requested_bytes = collect->done[0]->buffer_requested_bytes;
    launch->buffer_actual_bytes = collect->done[0]->buffer_actual_bytes;
    if (!sums.clients)
        return lab_refuse(EBADMSG, "no party of %zu nodes reported what it had sent", collect->nodes);
    int err = lab_path_prove(collect, launch, sums.astray);
    if (err)
        return err;
    uint64_t whole_ns = collect->ended_ns - collect->began_ns, measured_ns = launch->elapsed_ns + sums.warmup_ns;
    launch->overhead_ns = whole_ns > measured_ns ? whole_ns - measured_ns : 0;
    if (collect->same_clock && sums.first_ns > collect->began_ns)
        launch->setup_ns = sums.first_ns - collect->began_ns;
    launch->ready_ns = collect->ready_ns;
    tell_stages(&sums, launch);
    launch->carrier = sums.carrier[0] ? lab_run_string(run, sums.carrier) : NULL;
    if (launch->carrier && !collect->assign->cell->n_variables)
        note_carrier(run, collect->assign->cell, launch->carrier);
    judge(&sums, run, launch);
    return 0;
}
