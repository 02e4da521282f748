/* The patterns there are: each is one file of this folder and one row of table.c. */
#ifndef LAB_NODE_PATTERNS_PATTERNS_H
#define LAB_NODE_PATTERNS_PATTERNS_H

#include "node/lane/edge.h"
#include "node/pattern.h"

/* What several of them answer. */
uint32_t lab_window_of_two(uint64_t size_bytes);  /* one message there, one back */
uint32_t lab_window_of_bytes(uint64_t size_bytes); /* some megabytes in flight, in 2 to 1024 messages */
uint32_t lab_half_window(uint32_t window);
uint32_t lab_the_same(uint32_t value);
uint32_t lab_just_one(uint32_t ignored);
uint32_t lab_none_at_all(uint32_t ignored);

extern const struct lab_pattern lab_pattern_pingpong, lab_pattern_stream, lab_pattern_barrier, lab_pattern_producer_consumer, lab_pattern_fan_in,
    lab_pattern_fan_out, lab_pattern_broadcast;

#endif
