#include "report/json.h"

#include "base/error.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Building needs no checks on the way: json_object_set_new and json_array_append_new take NULL as a failure and give back
 * what they own, and `lost` remembers it, so that memory running out ends in an error and never in a shorter document. */
static _Thread_local bool lost;

static void put(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value))
        lost = true;
}

static void add(json_t *array, json_t *value)
{
    if (json_array_append_new(array, value))
        lost = true;
}

static json_t *text(const char *value)
{
    if (!value)
        return json_null();
    /* Names come from the kernel and from files: what is not UTF-8 is shown with '?', not refused. */
    json_t *string = json_string(value);
    if (string)
        return string;
    char *copy = strdup(value);
    if (!copy)
        return NULL;
    for (char *c = copy; *c; c++)
        if ((unsigned char)*c > 126)
            *c = '?';
    string = json_string(copy);
    free(copy);
    return string;
}

/* JSON's integers end at 2^63 here: what lies beyond is text, since a rounded seed would be another seed. */
static json_t *whole(uint64_t value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    return value <= INT64_MAX ? json_integer((json_int_t)value) : json_string(digits);
}

/* A figure that was not measured is null; whole ones are written as such. */
static json_t *number(double value)
{
    if (!isfinite(value))
        return json_null();
    if (value == floor(value) && fabs(value) < 0x1p53)
        return json_integer((json_int_t)value);
    return json_real(value);
}

static json_t *pair(double low, double high)
{
    if (isnan(low) || isnan(high))
        return json_null();
    json_t *both = json_array();
    add(both, number(low));
    add(both, number(high));
    return both;
}

/* Every key of the schema is there for every cell: what was not measured is null, in whatever depth. */
static json_t *figure(struct lab_figure of)
{
    json_t *object = json_object();
    put(object, "value", number(of.value));
    put(object, "ci95", pair(of.low, of.high));
    return object;
}

/* ---- the parts of a run ---- */

static json_t *run_head(const struct lab_run *run)
{
    json_t *head = json_object();
    put(head, "id", text(run->id));
    put(head, "started_utc", text(run->started_utc));
    put(head, "experiment", text(run->experiment));
    put(head, "question", text(run->question));
    put(head, "config_hash", text(run->config_hash));
    put(head, "seed", whole(run->seed));
    put(head, "version", text(run->version));
    put(head, "verdict", text(lab_run_verdict(run, run->verdict)));
    put(head, "ended_by", text(run->ended_by));
    put(head, "failure", text(run->failure));
    put(head, "wall_ns", run->ended_by ? whole(run->wall_ns) : json_null());
    put(head, "config", text(run->config));
    return head;
}

static json_t *environment(const struct lab_run *run)
{
    json_t *hosts = json_array(), *libraries = json_object(), *noises = json_array(), *warnings = json_array();
    for (uint32_t i = 0; i < run->host_count; i++) {
        const struct lab_host *host = &run->hosts[i];
        json_t *object = json_object();
        put(object, "name", text(host->name));
        put(object, "cpu", text(host->cpu));
        put(object, "cores", host->cores ? whole(host->cores) : json_null());
        put(object, "kernel", text(host->kernel));
        put(object, "memory_bytes", host->memory_bytes ? whole(host->memory_bytes) : json_null());
        put(object, "hypervisor", host->hypervisor && *host->hypervisor ? text(host->hypervisor) : json_null());
        add(hosts, object);
    }
    for (uint32_t i = 0; i < run->library_count; i++)
        put(libraries, run->libraries[i].name, text(run->libraries[i].version));
    for (uint32_t i = 0; i < run->noise_count; i++) {
        const struct lab_noise *noise = &run->noises[i];
        json_t *object = json_object();
        put(object, "cpu", json_integer(noise->cpu));
        put(object, "grade", text(noise->grade));
        put(object, "lost_fraction", number(noise->lost_fraction));
        put(object, "max_ns", isnan(noise->lost_fraction) ? json_null() : whole(noise->max_ns));
        add(noises, object);
    }
    for (uint32_t i = 0; i < run->warning_count; i++) {
        json_t *object = json_object();
        put(object, "code", text(run->warnings[i].code));
        put(object, "text", text(run->warnings[i].text));
        put(object, "advice", text(run->warnings[i].advice));
        add(warnings, object);
    }
    json_t *all = json_object();
    put(all, "hosts", hosts);
    put(all, "libraries", libraries);
    put(all, "noise", noises);
    put(all, "warnings", warnings);
    return all;
}

static json_t *limits(const struct lab_run *run)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < run->limit_count; i++) {
        json_t *object = json_object();
        put(object, "name", text(run->limits[i].name));
        put(object, "value", number(run->limits[i].value));
        put(object, "unit", text(run->limits[i].unit));
        add(all, object);
    }
    return all;
}

/* ---- the parts of a cell ---- */

static json_t *latency(const struct lab_cell *cell, const struct lab_summary *s)
{
    json_t *object = json_object();
    put(object, "kind", text(cell->latency_kind));
    put(object, "p50", figure(s->p50_ns));
    put(object, "p90", number(s->p90_ns));
    put(object, "p99", number(s->p99_ns));
    put(object, "p999", number(s->p999_ns));
    put(object, "max", number(s->max_ns));
    put(object, "mean", number(s->mean_ns));
    put(object, "batched", isnan(s->p50_ns.value) ? json_null() : json_boolean(s->batched));
    return object;
}

static json_t *throughput(const struct lab_summary *s)
{
    json_t *object = json_object();
    put(object, "messages_per_s", figure(s->messages_per_s));
    put(object, "bytes_per_s", figure(s->bytes_per_s));
    return object;
}

static json_t *integrity(const struct lab_summary *s)
{
    bool counted = s->launches > 0;
    json_t *object = json_object();
    put(object, "sent", counted ? whole(s->integrity.sent) : json_null());
    put(object, "received", counted ? whole(s->integrity.received) : json_null());
    put(object, "lost", counted ? whole(s->integrity.lost) : json_null());
    put(object, "duplicated", counted ? whole(s->integrity.duplicated) : json_null());
    put(object, "reordered", counted ? whole(s->integrity.reordered) : json_null());
    put(object, "corrupt", counted ? whole(s->integrity.corrupt) : json_null());
    return object;
}

static json_t *cost(const struct lab_summary *s)
{
    /* System calls and copies take a pass of their own, which a timed run does not make. */
    json_t *object = json_object();
    put(object, "syscalls_per_message", json_null());
    put(object, "context_switches_per_message", number(s->switches_per_message));
    put(object, "fiber_switches_per_message", number(s->fiber_switches_per_message));
    put(object, "page_faults_per_message", number(s->faults_per_message));
    put(object, "user_copies_per_message", json_null());
    put(object, "kernel_copies_per_message", json_null());
    put(object, "cpu_ns_per_message", number(s->cpu_ns_per_message));
    return object;
}

static json_t *startup(const struct lab_summary *s)
{
    json_t *object = json_object();
    put(object, "ready_ns", number(s->ready_ns));
    put(object, "first_message_ns", number(s->first_message_ns));
    put(object, "private_bytes_per_worker", number(s->private_bytes));
    return object;
}

static json_t *stages(const struct lab_summary *s)
{
    json_t *object = json_object();
    put(object, "encode_ns", number(s->encode_ns));
    put(object, "enqueue_ns", number(s->enqueue_ns));
    put(object, "transport_ns", number(s->transport_ns));
    put(object, "wake_ns", number(s->wake_ns));
    put(object, "decode_ns", number(s->decode_ns));
    return object;
}

static json_t *states(const struct lab_summary *s)
{
    json_t *object = json_object();
    put(object, "running", number(s->running));
    put(object, "ready", number(s->ready));
    put(object, "waiting", number(s->waiting));
    return object;
}

static json_t *proximity(const struct lab_summary *s)
{
    if (s->mode == LAB_NEAR_UNKNOWN)
        return json_null();
    json_t *object = json_object();
    put(object, "mode", text(lab_proximity_name(s->mode)));
    put(object, "handoff_ns", number(s->handoff_ns));
    put(object, "launches_in_other_modes", whole(s->other_modes));
    put(object, "windows", whole(s->windows));
    put(object, "windows_set_aside", whole(s->windows_set_aside));
    return object;
}

/* MPI sends a message with the first word of it, or asks for a place first: what was asked for is known, what it chose is not. */
static const char *protocol(const struct lab_cell *cell)
{
    char threshold[LAB_OPTION_TEXT];
    if (!lab_option_text(cell->options, "mpi_rndv", threshold))
        return NULL;
    return cell->size_bytes < strtoull(threshold, NULL, 10) ? "eager" : "rendezvous";
}

static json_t *path(const struct lab_cell *cell, const struct lab_summary *s)
{
    json_t *object = json_object();
    put(object, "interface_bytes", s->proof ? whole(s->interface_bytes) : json_null());
    put(object, "payload_bytes", s->proof ? whole(s->payload_bytes) : json_null());
    put(object, "proof", text(s->proof));
    put(object, "carrier", text(s->carrier));
    put(object, "protocol", text(protocol(cell)));
    return object;
}

static json_t *options(const char *json)
{
    json_t *object = json ? json_loads(json, 0, NULL) : NULL;
    if (json_is_object(object))
        return object;
    json_decref(object);
    return json_object();
}

/* What was set, and what became of it. */
static json_t *actual_options(const struct lab_cell *cell, const struct lab_summary *s)
{
    json_t *object = options(cell->options), *buffer = s->buffer_requested_bytes ? json_object() : NULL;
    if (!s->buffer_requested_bytes)
        return object;
    put(buffer, "requested_bytes", whole(s->buffer_requested_bytes));
    put(buffer, "actual_bytes", whole(s->buffer_actual_bytes));
    put(object, "kernel_buffer", buffer);
    return object;
}

static json_t *cell_object(const struct lab_run *run, const struct lab_cell *cell, const struct lab_summary *s)
{
    json_t *object = json_object();
    put(object, "id", whole(cell->id));
    put(object, "transport", text(cell->transport));
    put(object, "options", actual_options(cell, s));
    put(object, "wait", text(cell->wait));
    put(object, "pattern", text(cell->pattern));
    put(object, "topology", text(cell->topology));
    put(object, "workload", text(cell->workload));
    put(object, "size_bytes", whole(cell->size_bytes));
    put(object, "nodes", whole(cell->nodes));
    put(object, "workers", whole(cell->workers));
    put(object, "placement", text(cell->placement));
    put(object, "unit", text(cell->unit));
    put(object, "scope", text(cell->remote ? "remote" : "local"));
    put(object, "baseline", json_boolean(cell->baseline));
    put(object, "verdict", text(lab_run_verdict(run, s->verdict)));
    put(object, "reason", text(s->reason[0] ? s->reason : NULL));
    put(object, "launches", whole(s->launches));
    put(object, "launches_kept", whole(s->kept));
    put(object, "samples", whole(s->samples));
    put(object, "latency_ns", latency(cell, s));
    put(object, "throughput", throughput(s));
    put(object, "integrity", integrity(s));
    put(object, "cost", cost(s));
    put(object, "startup", startup(s));
    put(object, "stages", stages(s));
    put(object, "states", states(s));
    put(object, "proximity", proximity(s));
    put(object, "path", path(cell, s));
    return object;
}

/* ---- documents ---- */

/* Nine digits: more than a histogram of three or a clock of nanoseconds can tell. */
enum { COMPACT = JSON_COMPACT | JSON_REAL_PRECISION(9), PRETTY = JSON_INDENT(1) | JSON_REAL_PRECISION(9) };

/* Prints and drops; memory that ran out anywhere since the document was begun is found here. The stream keeps its own
 * error flag for the caller. */
static int finish(json_t *document, size_t flags, FILE *to)
{
    bool whole_document = document && !lost;
    if (whole_document) {
        char *printed = json_dumps(document, flags);
        whole_document = printed;
        if (printed)
            fprintf(to, "%s\n", printed);
        free(printed);
    }
    json_decref(document);
    lost = false;
    return whole_document ? 0 : lab_fail(ENOMEM, "cannot build a JSON document");
}

int lab_json_print(const struct lab_run *run, const struct lab_summary *summaries, bool lines, FILE *to)
{
    lost = false;
    json_t *document = json_object(), *cells = lines ? NULL : json_array();
    if (lines)
        put(document, "kind", json_string("run"));
    put(document, "schema", json_string("ipclab/result/1"));
    put(document, "run", run_head(run));
    put(document, "environment", environment(run));
    put(document, "limits", limits(run));
    if (!lines) {
        for (uint32_t i = 0; i < run->cell_count; i++)
            add(cells, cell_object(run, &run->cells[i], &summaries[i]));
        put(document, "cells", cells);
        return finish(document, PRETTY, to);
    }
    int err = finish(document, COMPACT, to);
    for (uint32_t i = 0; !err && i < run->cell_count; i++) {
        json_t *line = json_object();
        put(line, "kind", json_string("cell"));
        put(line, "run", text(run->id));
        json_t *cell = cell_object(run, &run->cells[i], &summaries[i]);
        if (json_object_update(line, cell))
            lost = true;
        json_decref(cell);
        err = finish(line, COMPACT, to);
    }
    return err;
}

static json_t *names(const char *list)
{
    json_t *array = json_array();
    while (list && *list) {
        size_t length = strcspn(list, ",");
        add(array, json_stringn(list, length));
        list += length + (list[length] == ',');
    }
    return array;
}

int lab_json_rows(const struct lab_column *columns, size_t column_count, size_t rows,
                  const struct lab_field *(*fields)(const void *of, size_t row), const void *of, FILE *to)
{
    lost = false;
    json_t *document = json_array();
    for (size_t i = 0; i < rows; i++) {
        const struct lab_field *row = fields(of, i);
        json_t *object = json_object();
        for (size_t j = 0; j < column_count; j++) {
            json_t *value = NULL;
            switch (columns[j].kind) {
            case LAB_COLUMN_TEXT: value = text(row[j].text); break;
            case LAB_COLUMN_NUMBER: value = number(row[j].number); break;
            case LAB_COLUMN_LIST: value = names(row[j].text); break;
            case LAB_COLUMN_BOOL: value = json_boolean(row[j].number != 0); break;
            }
            put(object, columns[j].key, value);
        }
        add(document, object);
    }
    return finish(document, PRETTY, to);
}

/* ---- options ---- */

void lab_options_read(const char *json, struct lab_options *ret_options)
{
    ret_options->count = 0;
    json_t *object = options(json), *value;
    const char *name;
    json_object_foreach(object, name, value) {
        if (ret_options->count == LAB_OPTIONS_MOST)
            break;
        struct lab_option *option = &ret_options->option[ret_options->count++];
        char *printed = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        snprintf(option->name, sizeof option->name, "%s", name);
        snprintf(option->text, sizeof option->text, "%s", printed ? printed : json_is_string(value) ? json_string_value(value) : "");
        free(printed);
    }
    json_decref(object);
}

bool lab_option_text(const char *json, const char *name, char to[LAB_OPTION_TEXT])
{
    struct lab_options all;
    lab_options_read(json, &all);
    for (size_t i = 0; i < all.count; i++) {
        if (strcmp(all.option[i].name, name) == 0) {
            memcpy(to, all.option[i].text, LAB_OPTION_TEXT);
            return true;
        }
    }
    return false;
}

const char *lab_render_library(void)
{
    return jansson_version_str();
}
