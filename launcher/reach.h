/* How this machine reaches its hosts, and what it means when it cannot. */
#ifndef LAB_LAUNCHER_REACH_H
#define LAB_LAUNCHER_REACH_H

#include "launcher/hosts.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* The program that runs a command on a host, called as `PROGRAM [-options] HOST COMMAND...` (launcher/door.h). -ENOENT with the record. */
int lab_reach_door(bool lab, char to[PATH_MAX]);

/* If `said` holds one of the complaints that ssh or a remote shell makes, writes one sentence that names the host, the cause and
 * the mend, and returns true. */
bool lab_reach_explain(const char *host, const char *said, char *to, size_t room);

#endif
