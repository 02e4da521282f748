/* The memory of a channel whose two ends share it (shm/segment.h): made by the node, of the backing that the channel asks for, and
 * mapped by each end. What lies in it is the transport's affair.
 *
 *     static int mine_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
 *     {
 *         struct lab_segment segment;
 *         int err = lab_memory_make(channel, "mine", bytes, &segment);
 *         if (err)
 *             return err;
 *         my_structure_init(segment.memory, ...);
 *         return lab_memory_hand_over(&segment, ret_wire);
 *     }
 *     ... .retire = lab_memory_retire ...
 *
 *     static int mine_open(struct lab_end *end, uint64_t deadline_ns)
 *     {
 *         int err = lab_memory_map(&end->channel, &end->wire, end->role, deadline_ns, &segment);
 *         ...                                 // what else may fail; on failure lab_segment_fini(&segment)
 *         lab_memory_mapped(end);
 *     }
 *
 * Each role inherits a descriptor of its own; a System V segment has none, and its number is in the address. */
#ifndef LAB_NODE_TRANSPORTS_MEMORY_H
#define LAB_NODE_TRANSPORTS_MEMORY_H

#include "node/transport.h"
#include "shm/segment.h"

/* `what` and the channel's number name it in /proc/PID/maps. The segment is the caller's until it is handed over. */
int lab_memory_make(const struct lab_channel *channel, const char *what, size_t size, struct lab_segment *ret_segment);

/* The structure is complete: ends may map it. Takes the segment over, on failure too. */
int lab_memory_hand_over(struct lab_segment *segment, struct lab_wire *ret_wire);

/* Last, where ends sleep on bells (LAB_WAIT_POLL); on failure the channel is retired. */
int lab_memory_add_bells(const struct lab_channel *channel, struct lab_wire *wire);

/* Of lab_transport_ops: gives back what the node has of it. */
void lab_memory_retire(const struct lab_channel *channel, struct lab_wire *wire);

/* As lab_segment_attach; the descriptor stays where it is. For an end, and for the node's hangup. */
int lab_memory_map(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role role, uint64_t deadline_ns,
                   struct lab_segment *ret_segment);

/* The last step of `open`: the mapping is all that is needed, the descriptor is this end's and has done its work. Bells stay: whoever
 * closes the end tells the other side that it is gone, rings, and closes them. */
void lab_memory_mapped(struct lab_end *end);

#endif
