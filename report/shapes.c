#include "report/shapes.h"

#define FIELD(type, member, kind) {#member, LAB_TYPE_##kind, offsetof(struct type, member)}
#define INTEGRITY(member) {#member, LAB_TYPE_U64, offsetof(struct lab_launch, integrity.member)}
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* A shape whose objects are an array of the run. */
#define PART(name, text, array, array_count)                                                                           \
    static const void *name##_item(const struct lab_run *of, uint32_t index)                                           \
    {                                                                                                                  \
        return index < of->array_count ? &of->array[index] : NULL;                                                     \
    }                                                                                                                  \
    static void *name##_add(struct lab_run *to)                                                                        \
    {                                                                                                                  \
        return lab_run_add_##name(to);                                                                                 \
    }                                                                                                                  \
    static const struct lab_shape part_##name = {text, name, COUNT(name), name##_item, name##_add}

static const struct lab_shape_field run[] = {
    FIELD(lab_run, id, TEXT),         FIELD(lab_run, started_utc, TEXT), FIELD(lab_run, experiment, TEXT),
    FIELD(lab_run, question, TEXT),   FIELD(lab_run, config_hash, TEXT), FIELD(lab_run, config, TEXT),
    FIELD(lab_run, version, TEXT),    FIELD(lab_run, ended_by, TEXT),    FIELD(lab_run, failure, TEXT),
    FIELD(lab_run, verdict, VERDICT), FIELD(lab_run, seed, U64),         FIELD(lab_run, wall_ns, U64),
};
const struct lab_shape lab_shape_run = {"runs", run, COUNT(run), NULL, NULL};

static const struct lab_shape_field host[] = {
    FIELD(lab_host, name, TEXT),       FIELD(lab_host, cpu, TEXT),  FIELD(lab_host, kernel, TEXT),
    FIELD(lab_host, hypervisor, TEXT), FIELD(lab_host, cores, U32), FIELD(lab_host, memory_bytes, U64),
};
PART(host, "hosts", hosts, host_count);

static const struct lab_shape_field library[] = {FIELD(lab_library, name, TEXT), FIELD(lab_library, version, TEXT)};
PART(library, "libraries", libraries, library_count);

static const struct lab_shape_field noise[] = {
    FIELD(lab_noise, cpu, I32), FIELD(lab_noise, grade, TEXT), FIELD(lab_noise, lost_fraction, REAL),
    FIELD(lab_noise, max_ns, U64),
};
PART(noise, "noises", noises, noise_count);

static const struct lab_shape_field warning[] = {
    FIELD(lab_warning, code, TEXT), FIELD(lab_warning, text, TEXT), FIELD(lab_warning, advice, TEXT),
};
PART(warning, "warnings", warnings, warning_count);

static const struct lab_shape_field limit[] = {
    FIELD(lab_limit, name, TEXT), FIELD(lab_limit, value, REAL), FIELD(lab_limit, unit, TEXT),
};
PART(limit, "limits", limits, limit_count);

static const struct lab_shape_field cell[] = {
    FIELD(lab_cell, id, U32),           FIELD(lab_cell, transport, TEXT), FIELD(lab_cell, wait, TEXT),
    FIELD(lab_cell, pattern, TEXT),     FIELD(lab_cell, topology, TEXT),  FIELD(lab_cell, workload, TEXT),
    FIELD(lab_cell, placement, TEXT),   FIELD(lab_cell, unit, TEXT),      FIELD(lab_cell, options, TEXT),
    FIELD(lab_cell, size_bytes, U64),   FIELD(lab_cell, nodes, U32),      FIELD(lab_cell, workers, U32),
    FIELD(lab_cell, remote, BOOL),      FIELD(lab_cell, baseline, BOOL),  FIELD(lab_cell, latency_kind, TEXT),
    FIELD(lab_cell, verdict, VERDICT),  FIELD(lab_cell, reason, TEXT),
};
PART(cell, "cells", cells, cell_count);

static const struct lab_shape_field launch[] = {
    FIELD(lab_launch, round, U32),          FIELD(lab_launch, verdict, VERDICT),  FIELD(lab_launch, reason, TEXT),
    FIELD(lab_launch, latency, HIST),       FIELD(lab_launch, batched, BOOL),     FIELD(lab_launch, messages_per_s, REAL),
    FIELD(lab_launch, bytes_per_s, REAL),   FIELD(lab_launch, messages, U64),     FIELD(lab_launch, elapsed_ns, U64),
    FIELD(lab_launch, handoff_ns, REAL),    FIELD(lab_launch, windows, U32),      FIELD(lab_launch, set_aside, U32),
    INTEGRITY(sent), INTEGRITY(received), INTEGRITY(lost), INTEGRITY(duplicated), INTEGRITY(reordered), INTEGRITY(corrupt),
    FIELD(lab_launch, cpu_ns, U64),         FIELD(lab_launch, wall_ns, U64),      FIELD(lab_launch, run_delay_ns, U64),
    FIELD(lab_launch, switches, U64),       FIELD(lab_launch, faults, U64),       FIELD(lab_launch, setup_ns, U64),
    FIELD(lab_launch, overhead_ns, U64),    FIELD(lab_launch, fiber_switches, U64), FIELD(lab_launch, ready_ns, U64),
    FIELD(lab_launch, private_bytes, U64),  FIELD(lab_launch, proof, TEXT),       FIELD(lab_launch, interface_bytes, U64),
    FIELD(lab_launch, payload_bytes, U64),  FIELD(lab_launch, buffer_requested_bytes, U64), FIELD(lab_launch, buffer_actual_bytes, U64),
    FIELD(lab_launch, encode_ns, REAL),     FIELD(lab_launch, enqueue_ns, REAL),  FIELD(lab_launch, decode_ns, REAL),
    FIELD(lab_launch, one_way_ns, REAL),    FIELD(lab_launch, carrier, TEXT),
};
const struct lab_shape lab_shape_launch = {"launches", launch, COUNT(launch), NULL, NULL};

const struct lab_shape *const lab_shape_parts[LAB_SHAPE_PARTS] = {
    &part_host, &part_library, &part_noise, &part_warning, &part_limit, &part_cell,
};
