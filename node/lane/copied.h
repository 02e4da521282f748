/* The lane over a transport that copies, or whose messages travel in envelopes: messages are made and read in a buffer of the lane's own. Of
 * a lane's own files only; node/lane/lane.h says what each function does. */
#ifndef LAB_NODE_LANE_COPIED_H
#define LAB_NODE_LANE_COPIED_H

#include "node/lane/lane.h"

/* `lane` has its end and its stencil. -ENOMEM. */
int lab_copied_init(struct lab_lane *lane);
void lab_copied_fini(struct lab_lane *lane);

int lab_copied_put(struct lab_lane *lane, uint32_t count, uint32_t last_flags, uint64_t deadline_ns);
int lab_copied_take(struct lab_lane *lane, uint32_t want, uint64_t deadline_ns, uint32_t *ret_count, uint32_t *ret_flags);
void lab_copied_settle(struct lab_lane *lane);

#endif
