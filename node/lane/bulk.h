/* Long bodies, written and summed with the widest registers that the processor has: with 16 bytes a store a core writes no faster
 * than it takes bytes from the other one. Which processor it is is asked once a body, never in a loop. */
#ifndef LAB_NODE_LANE_BULK_H
#define LAB_NODE_LANE_BULK_H

#include <stdint.h>

enum { LAB_PAGE = 4096 };

/* `size` bytes at `to`: the LAB_PAGE bytes of `page` over and over, the last time as far as they are needed. What is read stays in
 * the innermost cache, so that writing is all that it costs. */
void lab_bulk_repeat(unsigned char *to, const unsigned char *page, uint32_t size);

/* What the 64-bit words of `size` bytes add up to; of a tail of fewer than 8 bytes nothing is read. */
uint64_t lab_bulk_sum(const unsigned char *from, uint32_t size);

#endif
