/* What becomes of a message's time where it travels in an envelope, stage by stage. One in LAB_STAGES_EVERY is looked at: the others pay a
 * comparison.
 *
 *     encode     stamping it and writing its envelope; of a batch of LAB_STAGES_BATCH, for one takes less than reading the clock. They are written
 *                when the message has left, so that nobody waits for them
 *     enqueue    the transport's `send`: until the message is the library's, and as long as that has no room
 *     one way    from the stamp until `recv` has returned; of nodes on one host, which have one clock
 *     decode     reading its envelope; of a batch, when the answer has left
 *
 * One thread each: a sending lane has the first two, a receiving one the others. */
#ifndef LAB_NODE_LANE_STAGES_H
#define LAB_NODE_LANE_STAGES_H

#include "base/hist.h"

#include <stdbool.h>
#include <stdint.h>

enum { LAB_STAGES_EVERY = 256, LAB_STAGES_BATCH = 64 };
enum lab_stage { LAB_STAGE_ENCODE, LAB_STAGE_ENQUEUE, LAB_STAGE_ONE_WAY, LAB_STAGE_DECODE, LAB_STAGES };

struct lab_stages {
    struct lab_hist *ns[LAB_STAGES]; /* of a whole batch, of what is timed in batches */
    uint64_t arrived_ns;             /* RX: of the message that is looked at, 0: of none */
};

struct lab_stages *lab_stages_new(void); /* NULL when out of memory */
void lab_stages_free(struct lab_stages *stages); /* NULL is harmless */

static inline bool lab_stages_due(const struct lab_stages *stages, uint32_t sequence)
{
    return stages && sequence % LAB_STAGES_EVERY == 0;
}

/* The median of a message, without what reading the clock costs; 0: not measured. NULL is harmless. */
double lab_stages_median(const struct lab_stages *stages, enum lab_stage stage, double clock_ns);

#endif
