#include "launcher/axis.h"

#include "base/clock.h"
#include "base/text.h"
#include "launcher/plan.h"
#include "node/pattern.h"
#include "node/transport.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

enum kind { NAME, COUNT, SIZE, TIME, RATE, TEXT };

struct row {
    const char *name;
    enum kind kind;
    const char *const *choices; /* NAME */
    uint64_t least, most;       /* COUNT, SIZE and TIME (ns) */
};

#define TRANSPORTS                                                                                                       \
    NAMES("null", "shm-ring", "shm-queue", "shm-pool", "shm-broadcast", "shm-monitor", "shm-semaphore", "pipe", "fifo",     \
          "unix-stream", "unix-seqpacket", "unix-dgram", "tcp", "udp", "posix-mq", "sysv-mq", "cma", "zmq-inproc",           \
          "zmq-ipc", "zmq-tcp", "mpi", "mpi-rma", "mpi-shared", "ck-ring", "ck-ring-mpmc", "nng-ipc", "nng-tcp", "ucx",      \
          "iceoryx")

static const struct row rows[LAB_AXES] = {
    [LAB_AXIS_TRANSPORT] = {"transport", NAME, TRANSPORTS, 0, 0},
    [LAB_AXIS_WAIT] = {"wait", NAME, NAMES("spin", "yield", "adaptive", "futex", "semaphore", "condvar", "block", "poll"), 0, 0},
    [LAB_AXIS_PATTERN] = {"pattern", NAME,
                          NAMES("pingpong", "stream", "open-loop", "producer-consumer", "rpc", "fan-out", "fan-in", "pipeline",
                                "barrier", "broadcast", "reduce", "allreduce", "alltoall", "halo"), 0, 0},
    [LAB_AXIS_TOPOLOGY] = {"topology", NAME,
                           NAMES("pair", "pairs", "star", "ring", "line", "tree", "grid", "torus", "hypercube", "mesh", "file"),
                           0, 0},
    [LAB_AXIS_SIZE] = {"size", SIZE, NULL, LAB_MESSAGE_MIN, UINT64_MAX},
    [LAB_AXIS_PLACEMENT] = {"placement", NAME, NAMES("same-core", "other-core", "any"), 0, 0},
    [LAB_AXIS_NODES] = {"nodes", COUNT, NULL, 1, 256},
    [LAB_AXIS_WORKERS] = {"workers", COUNT, NULL, 0, LAB_PLAN_PARTIES_MAX},
    [LAB_AXIS_WINDOW] = {"window", COUNT, NULL, 1, 1 << 20},
    [LAB_AXIS_BATCH] = {"batch", COUNT, NULL, 1, 1 << 20},
    [LAB_AXIS_LINK] = {"link", NAME, TRANSPORTS, 0, 0},
    [LAB_AXIS_VERIFY] = {"verify", NAME, NAMES("all", "sample"), 0, 0},
    [LAB_AXIS_BACKING] = {"backing", NAME, NAMES("memfd", "posix", "file", "sysv", "hugepage"), 0, 0},
    [LAB_AXIS_ENCRYPTION] = {"encryption", NAME, NAMES("on", "off"), 0, 0},
    [LAB_AXIS_UNIT] = {"unit", NAME, NAMES("process", "thread", "fiber"), 0, 0},
    [LAB_AXIS_RATE] = {"rate", RATE, NULL, 0, 0},
    [LAB_AXIS_ARRIVALS] = {"arrivals", NAME, NAMES("fixed", "poisson"), 0, 0},
    [LAB_AXIS_DELIVERY] = {"delivery", NAME, NAMES("best-effort", "reliable"), 0, 0},
    [LAB_AXIS_WORKLOAD] = {"workload", NAME, NAMES("heat", "wordcount", "mandelbrot", "sort"), 0, 0},
    [LAB_AXIS_INPUT] = {"input", TEXT, NULL, 0, 0},
    [LAB_AXIS_TEMPERATURE] = {"temperature", NAME, NAMES("warm", "cold"), 0, 0},
    [LAB_AXIS_SPIN_LIMIT] = {"spin_limit", TIME, NULL, 1, LAB_NS_PER_S},
    [LAB_AXIS_MPI_PATH] = {"mpi_path", NAME, NAMES("default", "shm", "cma", "tcp"), 0, 0},
    [LAB_AXIS_MPI_RNDV] = {"mpi_rndv", SIZE, NULL, LAB_MESSAGE_MIN, UINT64_MAX},
};

const char *lab_axis_name(enum lab_axis axis)
{
    return axis < LAB_AXES ? rows[axis].name : NULL;
}

bool lab_axis_named(const char *name, enum lab_axis *ret_axis)
{
    for (enum lab_axis axis = 0; axis < LAB_AXES; axis++) {
        if (strcmp(rows[axis].name, name) == 0) {
            *ret_axis = axis;
            return true;
        }
    }
    return false;
}

const char *const *lab_axis_choices(enum lab_axis axis)
{
    return rows[axis].choices;
}

bool lab_axis_numeric(enum lab_axis axis)
{
    return rows[axis].kind == COUNT || rows[axis].kind == SIZE || rows[axis].kind == TIME;
}

void lab_values_free(struct lab_values *values)
{
    for (size_t i = 0; i < values->count; i++)
        free(values->items[i].text);
    free(values->items);
    *values = (struct lab_values){0};
}

int lab_values_add(struct lab_values *values, const char *text, uint64_t number, const struct lab_mark *mark)
{
    struct lab_value *grown = realloc(values->items, (values->count + 1) * sizeof *grown);
    char *copy = strdup(text);
    if (grown)
        values->items = grown;
    if (!grown || !copy) {
        free(copy);
        return lab_fail(ENOMEM, "cannot keep the value '%.40s'", text);
    }
    values->items[values->count++] = (struct lab_value){.text = copy, .number = number, .mark = *mark};
    return 0;
}

/* The sentence of base/text.h, put where the value stands. */
static int refuse_as_said(const struct lab_mark *mark)
{
    return lab_mark_refuse(mark, "%s", lab_error_last()->text);
}

/* The i-th that is built in; NULL beyond the last, and for axes of which nothing can be added. */
static const char *built_in(enum lab_axis axis, size_t index)
{
    if (axis == LAB_AXIS_TRANSPORT || axis == LAB_AXIS_LINK) {
        const struct lab_transport *transport = lab_transport_at(index);
        return transport ? transport->name : NULL;
    }
    if (axis == LAB_AXIS_PATTERN) {
        const struct lab_pattern *pattern = lab_pattern_at(index);
        return pattern ? pattern->name : NULL;
    }
    const struct lab_topology *topology = axis == LAB_AXIS_TOPOLOGY ? lab_topology_at(index) : NULL;
    return topology ? topology->name : NULL;
}

static bool listed(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* The names that files may use, of this version or of another, and whatever else has been built in. */
enum { NAMES_MOST = 128 };
static size_t names_of(enum lab_axis axis, const char *names[NAMES_MOST])
{
    size_t count = 0, published;
    for (; rows[axis].choices[count]; count++)
        names[count] = rows[axis].choices[count];
    published = count;
    const char *name;
    for (size_t i = 0; count < NAMES_MOST && (name = built_in(axis, i)); i++)
        if (!listed(names, published, name))
            names[count++] = name;
    return count;
}

static int add_name(const struct row *row, const char *text, const struct lab_mark *mark, struct lab_values *values)
{
    const char *names[NAMES_MOST];
    size_t count = names_of((enum lab_axis)(row - rows), names);
    if (listed(names, count, text))
        return lab_values_add(values, text, 0, mark);

    char hint[LAB_HINT_TEXT], known[512] = "";
    const char *nearest = lab_nearest_of(text, names, count);
    if (nearest)
        return lab_mark_refuse(mark, "unknown %s '%s'%s", row->name, text, lab_hint(nearest, hint));
    for (size_t i = 0, used = 0; i < count && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", names[i]);
    return lab_mark_refuse(mark, "unknown %s '%s'; it is one of %s", row->name, text, known);
}

static int add_count(const struct row *row, const char *text, const struct lab_mark *mark, struct lab_values *values)
{
    uint64_t number;
    if (lab_parse_count(text, &number))
        return refuse_as_said(mark);
    if (number < row->least || number > row->most)
        return lab_mark_refuse(mark, "'%s' is out of range: %s is %llu to %llu", text, row->name,
                               (unsigned long long)row->least, (unsigned long long)row->most);
    char canonical[LAB_TEXT_NUMBER];
    snprintf(canonical, sizeof canonical, "%llu", (unsigned long long)number);
    return lab_values_add(values, canonical, number, mark);
}

/* In the largest unit that leaves it whole: "50us" for 0.05ms. */
static char *canonical_time(uint64_t ns, char to[LAB_TEXT_NUMBER])
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"s", LAB_NS_PER_S}, {"ms", LAB_NS_PER_MS}, {"us", LAB_NS_PER_US}, {"ns", 1}};
    size_t unit = 0;
    while (ns % units[unit].ns)
        unit++;
    snprintf(to, LAB_TEXT_NUMBER, "%llu%s", (unsigned long long)(ns / units[unit].ns), units[unit].name);
    return to;
}

static int add_time(const struct row *row, const char *text, const struct lab_mark *mark, struct lab_values *values)
{
    uint64_t ns;
    char canonical[LAB_TEXT_NUMBER], least[LAB_TEXT_NUMBER], most[LAB_TEXT_NUMBER];
    if (lab_parse_time(text, &ns))
        return refuse_as_said(mark);
    if (ns < row->least || ns > row->most)
        return lab_mark_refuse(mark, "'%s' is out of range: %s is %s to %s", text, row->name, canonical_time(row->least, least),
                               canonical_time(row->most, most));
    return lab_values_add(values, canonical_time(ns, canonical), ns, mark);
}

static int add_sizes(const struct row *row, const char *text, const struct lab_mark *mark, struct lab_values *values)
{
    uint64_t found[64];
    size_t count = 1;
    if (strstr(text, "..") ? lab_parse_sizes(text, found, sizeof found / sizeof *found, &count) : lab_parse_size(text, found))
        return refuse_as_said(mark);
    for (size_t i = 0; i < count; i++) {
        if (found[i] < row->least)
            return lab_mark_refuse(mark, "'%s' is too small: the least message has %llu bytes, its head", text,
                                   (unsigned long long)row->least);
        /* "1 KiB" without its blank, "64 B" as 64: what a person would have written. */
        char canonical[LAB_TEXT_NUMBER];
        char *blank = strchr(lab_format_size(found[i], canonical), ' ');
        if (strcmp(blank, " B") == 0)
            *blank = '\0';
        else
            memmove(blank, blank + 1, strlen(blank));
        int err = lab_values_add(values, canonical, found[i], mark);
        if (err)
            return err;
    }
    return 0;
}

int lab_axis_add(enum lab_axis axis, const char *text, const struct lab_mark *mark, struct lab_values *values)
{
    const struct row *row = &rows[axis];
    char quoted[LAB_QUOTE_TEXT];
    if (!text[0])
        return lab_mark_refuse(mark, "'%s' has no value", row->name);
    if (strcmp(lab_quote(text, quoted), text) != 0 && row->kind != TEXT)
        return lab_mark_refuse(mark, "'%s' is not a value of %s", quoted, row->name);
    if (values->count >= LAB_AXIS_VALUES)
        return lab_mark_refuse(mark, "more than %d values of %s are too many", LAB_AXIS_VALUES, row->name);
    double rate;
    switch (row->kind) {
    case NAME:
        return add_name(row, text, mark, values);
    case COUNT:
        return add_count(row, text, mark, values);
    case SIZE:
        return add_sizes(row, text, mark, values);
    case TIME:
        return add_time(row, text, mark, values);
    case RATE:
        if (lab_parse_rate(text, &rate))
            return refuse_as_said(mark);
        if (!(rate > 0))
            return lab_mark_refuse(mark, "'%s' is out of range: a rate is above 0", text);
        return lab_values_add(values, text, 0, mark);
    case TEXT:
        break;
    }
    return lab_values_add(values, text, 0, mark);
}
