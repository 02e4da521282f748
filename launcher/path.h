/* Which way the messages of a launch went, told by the interfaces of its hosts and not by whoever carried them: a library may take
 * shared memory between two hosts that are namespaces of one machine, and say nothing.
 *
 * Of the messages between hosts at least the bodies must have come over an interface. Within a host next to nothing must: less than was
 * carried, or at most LAB_PATH_STRAY, for the interfaces count what everybody sends. */
#ifndef LAB_LAUNCHER_PATH_H
#define LAB_LAUNCHER_PATH_H

#include "launcher/collect.h"

enum { LAB_PATH_STRAY = 1 << 20, LAB_PATH_REASON = 256 };

/* Fills in proof, interface_bytes and payload_bytes of the launch; `reason` becomes a sentence where they refute what the launch is about,
 * else "". -EBADMSG, recorded, when a node did not tell. */
int lab_path_prove(const struct lab_collect *collect, struct lab_launch *launch, char reason[LAB_PATH_REASON]);

#endif
