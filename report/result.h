/* The result of a run, as the launcher collects it, the store keeps it and renderers print it: shapes only.
 * Units are in the names; a figure that was not measured is NaN (double) or has count 0 (histogram), never 0.
 * Strings are owned by the run (lab_run_string) and live as long as it does. */
#ifndef LAB_REPORT_RESULT_H
#define LAB_REPORT_RESULT_H

#include "base/hist.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lab_verdict { LAB_OK, LAB_NOISY, LAB_TRANSIENT, LAB_INVALID, LAB_SKIPPED, LAB_FAILED, LAB_VERDICTS };
const char *lab_verdict_name(enum lab_verdict verdict); /* "ok", "noisy", ... */

/* What the counters of the hosts' interfaces say of the way that messages took. */
enum lab_proof {
    LAB_PROOF_INTERFACE, /* at least what messages between hosts carried came over an interface */
    LAB_PROOF_HOST,      /* messages within a host: next to nothing came over one */
    LAB_PROOF_REFUTED,   /* they did not go the way that the cell is about */
    LAB_PROOFS,
};
const char *lab_proof_name(enum lab_proof proof); /* "over-interface", "within-host", "refuted" */

struct lab_integrity {
    uint64_t sent, received, lost, duplicated, reordered, corrupt;
};

/* One launch of one cell: the unit of statistics. Everything is of the measured phase, except integrity (whole launch). */
struct lab_launch {
    uint32_t round;             /* interleaving round, from 0 */
    enum lab_verdict verdict;   /* LAB_OK, LAB_TRANSIENT, LAB_INVALID or LAB_FAILED */
    const char *reason;         /* NULL when ok */
    struct lab_hist *latency;   /* owned; NULL: none. Of all edges, of the windows kept */
    bool batched;               /* its latencies are means of batches */
    double messages_per_s;      /* sum over edges; NaN: not measured */
    double bytes_per_s;
    uint64_t messages;
    uint64_t elapsed_ns;
    double handoff_ns;          /* cache-line hand-off of the proximity probes; NaN: not probed */
    uint32_t windows, set_aside;
    struct lab_integrity integrity;
    /* cost, summed over parties */
    uint64_t cpu_ns, wall_ns, run_delay_ns; /* wall summed too: running = cpu / wall */
    uint64_t switches, faults;
    uint64_t fiber_switches;    /* from one fiber to the next, of which the kernel knows nothing */
    uint64_t ready_ns;          /* from the order to launch until all parties had opened their ends; 0: unknown */
    uint64_t private_bytes;     /* memory that a party's process shares with no other, the largest; 0: unknown */
    uint64_t buffer_requested_bytes, buffer_actual_bytes; /* of the kernel for a channel, asked for and given; 0: nothing was asked for */
    /* which way its messages went; proof NULL: it was not looked at */
    const char *proof;          /* one of lab_proof_name's */
    uint64_t interface_bytes;   /* that arrived over interfaces of the hosts, the loopback aside: of everybody, headers included */
    uint64_t payload_bytes;     /* that arrived at parties: of messages between hosts, or of all where all are on one */
    /* of messages in an envelope, the means of edges' medians; NaN: not measured */
    double encode_ns, enqueue_ns, decode_ns, one_way_ns; /* one way: from the sender's stamp until the receiver has it */
    const char *carrier;        /* which way a library that chooses by itself took, "shared memory (sysv), cma"; NULL: unknown, or no choice */
    uint64_t setup_ns;          /* from the order to launch to the first message */
    uint64_t overhead_ns;       /* duration of the launch beyond warming up and measuring */
};

struct lab_cell {
    uint32_t id;                /* position in the plan, from 0 */
    const char *transport, *wait, *pattern, *topology, *workload /* NULL */, *placement, *unit;
    const char *options;        /* JSON object text, "{}" when none: window, batch, link, ... */
    uint64_t size_bytes;
    uint32_t nodes, workers;    /* workers per node */
    bool remote;                /* scope: its nodes were on more than one host */
    bool baseline;              /* the cell others of its group are compared with */
    const char *latency_kind;   /* NULL: the pattern has no latency */
    enum lab_verdict verdict;
    const char *reason;         /* NULL when ok; a complete sentence else */
    struct lab_launch *launches; /* owned array */
    uint32_t launch_count;
};

struct lab_limit { const char *name; double value; const char *unit; };
struct lab_noise { int cpu; const char *grade; double lost_fraction; uint64_t max_ns; };
struct lab_warning { const char *code, *text, *advice; };
struct lab_library { const char *name, *version; };
struct lab_host {
    const char *name, *cpu, *kernel, *hypervisor;
    uint32_t cores;
    uint64_t memory_bytes;
};

struct lab_run {
    const char *id;             /* "20261123-150102-3f9a" */
    const char *started_utc;    /* ISO 8601 */
    const char *experiment, *question; /* question may be NULL */
    const char *config_hash;
    const char *config;         /* the experiment file's text as run, overrides applied */
    const char *version;
    const char *ended_by;       /* "budget", "precision", "launches", "interrupted", "failed" */
    const char *failure;        /* sentence; NULL when the run ended well */
    enum lab_verdict verdict;
    bool planned;               /* it is a plan: nothing has been run, and only what is skipped has a verdict */
    uint64_t seed;
    uint64_t wall_ns;           /* of the whole run */
    struct lab_host *hosts;         uint32_t host_count;
    struct lab_library *libraries;  uint32_t library_count;
    struct lab_noise *noises;       uint32_t noise_count;
    struct lab_warning *warnings;   uint32_t warning_count;
    struct lab_limit *limits;       uint32_t limit_count;
    struct lab_cell *cells;         uint32_t cell_count;
    void *strings;              /* arena behind lab_run_string */
};

struct lab_run *lab_run_new(void);   /* NULL when out of memory */
void lab_run_free(struct lab_run *run);
const char *lab_run_verdict(const struct lab_run *run, enum lab_verdict verdict); /* its name; NULL where a plan has none */
const char *lab_run_string(struct lab_run *run, const char *text); /* a copy owned by the run; NULL for NULL or no memory */

/* Append a zeroed element (NaN where that means "not measured"); the pointer is valid until the next append of its kind.
 * NULL when out of memory. */
struct lab_host *lab_run_add_host(struct lab_run *run);
struct lab_library *lab_run_add_library(struct lab_run *run);
struct lab_noise *lab_run_add_noise(struct lab_run *run);
struct lab_warning *lab_run_add_warning(struct lab_run *run);
struct lab_limit *lab_run_add_limit(struct lab_run *run);
struct lab_cell *lab_run_add_cell(struct lab_run *run);
struct lab_launch *lab_cell_add_launch(struct lab_cell *cell);

#endif
