#include "node/patterns/patterns.h"

#include <string.h>

static const struct lab_pattern *const patterns[] = {
    &lab_pattern_pingpong,
    &lab_pattern_stream,
    &lab_pattern_barrier,
    &lab_pattern_producer_consumer,
    &lab_pattern_fan_in,
    &lab_pattern_fan_out,
    &lab_pattern_broadcast,
};

const struct lab_pattern *lab_pattern_at(size_t index)
{
    return index < sizeof patterns / sizeof *patterns ? patterns[index] : NULL;
}

const struct lab_pattern *lab_pattern_named(const char *name)
{
    const struct lab_pattern *pattern;
    for (size_t i = 0; (pattern = lab_pattern_at(i)); i++)
        if (strcmp(pattern->name, name) == 0)
            return pattern;
    return NULL;
}

const char *lab_latency_kind_name(enum lab_latency_kind kind)
{
    static const char *const names[] = {
        [LAB_ROUND_TRIP] = "round-trip",
        [LAB_HALF_ROUND_TRIP] = "half-round-trip",
        [LAB_ONE_WAY] = "one-way",
        [LAB_OPEN_LOOP] = "open-loop",
        [LAB_BARRIER] = "barrier",
    };
    return kind < LAB_NO_LATENCY ? names[kind] : NULL;
}
