/* The patterns there are: each is one file of this folder and one row of table.c. */
#ifndef LAB_NODE_PATTERNS_PATTERNS_H
#define LAB_NODE_PATTERNS_PATTERNS_H

#include "node/lane/edge.h"
#include "node/pattern.h"

extern const struct lab_pattern lab_pattern_pingpong, lab_pattern_stream, lab_pattern_barrier, lab_pattern_producer_consumer, lab_pattern_fan_in,
    lab_pattern_fan_out, lab_pattern_broadcast;

#endif
