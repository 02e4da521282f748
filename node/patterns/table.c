#include "node/patterns/patterns.h"

#include <string.h>

enum { IN_FLIGHT_BYTES = 4 << 20, WINDOW_MIN = 2, WINDOW_MAX = 1024 };

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

uint32_t lab_window_of_two(uint64_t size_bytes)
{
    (void)size_bytes;
    return 2;
}

uint32_t lab_window_of_bytes(uint64_t size_bytes)
{
    uint64_t window = IN_FLIGHT_BYTES / size_bytes;
    return window < WINDOW_MIN ? WINDOW_MIN : window > WINDOW_MAX ? WINDOW_MAX : (uint32_t)window;
}

uint32_t lab_half_window(uint32_t window)
{
    return window > 1 ? window / 2 : 1;
}

uint32_t lab_the_same(uint32_t value)
{
    return value;
}

uint32_t lab_just_one(uint32_t ignored)
{
    (void)ignored;
    return 1;
}

uint32_t lab_none_at_all(uint32_t ignored)
{
    (void)ignored;
    return 0;
}
