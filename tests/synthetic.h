/* Runs made of known figures, for tests of the report. Deterministic: the same call gives the same run. */
#ifndef LAB_TESTS_SYNTHETIC_H
#define LAB_TESTS_SYNTHETIC_H

#include "report/result.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A value in [-1, 1) that depends on `seed` alone. */
static inline double lab_synthetic_noise(uint64_t seed)
{
    uint64_t z = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (double)(z >> 11) / 0x1p52 - 1;
}

static inline struct lab_run *lab_synthetic_run(void)
{
    struct lab_run *run = lab_run_new();
    run->id = "20261123-150102-3f9a";
    run->started_utc = "2026-11-23T15:01:02Z";
    run->experiment = "compare";
    run->question = "Which mechanism is the fastest here, and what does it cost?";
    run->config_hash = "8e4d1c";
    run->config = "experiment: compare\n";
    run->version = "0.1.0";
    run->ended_by = "precision";
    run->seed = UINT64_C(0xfedcba9876543210);
    run->wall_ns = UINT64_C(61200000000);
    *lab_run_add_host(run) = (struct lab_host){"lab1", "AMD EPYC 9R14", "Linux 6.18.0", "kvm", 2, UINT64_C(8) << 30};
    *lab_run_add_library(run) = (struct lab_library){"libzmq", "4.3.4"};
    *lab_run_add_noise(run) = (struct lab_noise){0, "A", 0.0021, 61000};
    *lab_run_add_noise(run) = (struct lab_noise){1, "B", 0.0113, 420000};
    *lab_run_add_limit(run) = (struct lab_limit){"cacheline-handoff", 54.2, "ns"};
    *lab_run_add_limit(run) = (struct lab_limit){"memcpy", 12.4e9, "bytes/s"};
    *lab_run_add_limit(run) = (struct lab_limit){"syscall", 127, "ns"};
    *lab_run_add_limit(run) = (struct lab_limit){"futex-wake", (double)NAN, "ns"};
    return run;
}

/* A cell of two workers on one node; the caller changes what differs. */
static inline struct lab_cell *lab_synthetic_cell(struct lab_run *run, const char *transport, const char *wait,
                                                  const char *pattern, uint64_t size_bytes)
{
    struct lab_cell *cell = lab_run_add_cell(run);
    bool timed = strcmp(pattern, "pingpong") == 0;
    *cell = (struct lab_cell){
        .id = run->cell_count - 1, .transport = transport, .wait = wait, .pattern = pattern, .topology = "pair",
        .placement = "other-core", .unit = "process", .options = timed ? "{\"window\":1}" : "{\"window\":64}",
        .size_bytes = size_bytes, .nodes = 1, .workers = 2, .latency_kind = timed ? "half-round-trip" : NULL,
    };
    return cell;
}

/* A launch whose median latency is `ns` (a rate of 1/ns), both sides busy for `share` of their time. */
static inline struct lab_launch *lab_synthetic_launch(struct lab_cell *cell, double ns, double share, double handoff_ns)
{
    enum { SAMPLES = 20000 };
    struct lab_launch *launch = lab_cell_add_launch(cell);
    launch->round = cell->launch_count - 1;
    launch->messages = SAMPLES;
    launch->elapsed_ns = 200000000;
    launch->messages_per_s = 1e9 / ns;
    launch->bytes_per_s = 1e9 / ns * (double)cell->size_bytes;
    launch->handoff_ns = handoff_ns;
    launch->windows = 20;
    launch->integrity = (struct lab_integrity){.sent = 2 * SAMPLES, .received = 2 * SAMPLES};
    launch->proof = lab_proof_name(LAB_PROOF_HOST);
    launch->interface_bytes = 4200;
    launch->payload_bytes = launch->integrity.received * cell->size_bytes;
    if (strcmp(cell->transport, "pipe") == 0) {
        launch->buffer_requested_bytes = 1 << 21;
        launch->buffer_actual_bytes = 1 << 20;
    }
    launch->wall_ns = 2 * launch->elapsed_ns;
    launch->cpu_ns = (uint64_t)(share * (double)launch->wall_ns);
    launch->run_delay_ns = launch->wall_ns / 100;
    launch->switches = share < 0.9 ? SAMPLES : 3;
    launch->faults = 7;
    if (cell->latency_kind) {
        launch->latency = lab_hist_new();
        for (uint64_t i = 0; i < SAMPLES; i++) {
            /* Half below, half above the median, with a tail. */
            double off = lab_synthetic_noise(i);
            double value = off < 0 ? ns * (1 + 0.1 * off) : ns * (1 + 0.1 * off + (off > 0.99 ? 3 : 0));
            lab_hist_record(launch->latency, (uint64_t)llround(value));
        }
    }
    return launch;
}

/* `count` launches around `ns`, each off by at most `spread` of it. */
static inline void lab_synthetic_launches(struct lab_cell *cell, uint32_t count, double ns, double spread, double share,
                                          double handoff_ns)
{
    for (uint32_t i = 0; i < count; i++)
        lab_synthetic_launch(cell, ns * (1 + spread * lab_synthetic_noise(1000 * cell->id + i)), share, handoff_ns);
}

/* The comparison as a person would run it: some 170 cells, with every kind of verdict among them. */
static inline struct lab_run *lab_synthetic_comparison(uint32_t launches)
{
    static const struct { const char *transport, *wait; double base_ns, bytes_per_ns, share; bool baseline; } rows[] = {
        {"null", "spin", 9, 60, 0.5, false},
        {"shm-ring", "spin", 55, 24, 1.0, false},      {"shm-ring", "yield", 61, 23, 1.0, false},
        {"shm-ring", "adaptive", 70, 22, 0.9, false},  {"shm-ring", "futex", 21000, 18, 0.35, false},
        {"pipe", "block", 26500, 2.9, 0.31, true},     {"unix-seqpacket", "block", 29800, 3.4, 0.30, false},
        {"zmq-ipc", "block", 51000, 5.1, 0.62, false}, {"zmq-tcp", "block", 57000, 4.2, 0.66, false},
        {"mpi", "spin", 148, 30, 1.0, false},
    };
    static const uint64_t sizes[] = {8, 64, 1024, 8192, 65536, 1048576};
    static const char *const patterns[] = {"pingpong", "stream"}, *const placements[] = {"other-core", "same-core"};
    struct lab_run *run = lab_synthetic_run();
    for (size_t placement = 0; placement < 2; placement++) {
        for (size_t pattern = 0; pattern < 2; pattern++) {
            for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
                for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
                    struct lab_cell *cell = lab_synthetic_cell(run, rows[r].transport, rows[r].wait, patterns[pattern], sizes[s]);
                    cell->placement = placements[placement];
                    cell->baseline = rows[r].baseline;
                    if (placement && strcmp(rows[r].wait, "spin") == 0) {
                        cell->verdict = LAB_SKIPPED;
                        cell->reason = "two parties that spin on one CPU only make progress when the scheduler preempts them";
                        continue;
                    }
                    double ns = rows[r].base_ns * (placement ? 0.1 : 1) + (double)sizes[s] / rows[r].bytes_per_ns;
                    lab_synthetic_launches(cell, launches, pattern ? ns / 8 : ns, 0.015, rows[r].share,
                                           placement || r == 0 ? (double)NAN : 56);
                }
            }
        }
    }
    return run;
}

#endif
