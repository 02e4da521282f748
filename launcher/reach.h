/* How this machine reaches its hosts, and what it means when it cannot. */
#ifndef LAB_LAUNCHER_REACH_H
#define LAB_LAUNCHER_REACH_H

#include "launcher/facts.h"
#include "launcher/hosts.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The program that runs a command on a host, called as `PROGRAM [-options] HOST COMMAND...` (launcher/door.h). -ENOENT with the record. */
int lab_reach_door(bool lab, char to[PATH_MAX]);

/* What so many nodes must find free in /dev/shm of their host, for MPI. */
uint64_t lab_reach_shm_bytes(uint32_t nodes);

/* Asks every usable host at once, by the same door, for its facts; `back` ("10.77.0.254:4711") is where each is to connect to. A host that does not
 * answer in time, or with something else, has no version ("") in its facts. -errno, recorded: nobody could be asked. */
int lab_reach_facts(const struct lab_hosts *hosts, const struct lab_hosts_answer *answers, bool lab, const char *back, uint64_t deadline_ns,
                    struct lab_facts *ret_facts);

/* The same of this machine. */
int lab_reach_own_facts(uint64_t deadline_ns, struct lab_facts *ret_facts);

/* If `said` holds one of the complaints that ssh or a remote shell makes, writes one sentence that names the host, the cause and
 * the mend, and returns true. */
bool lab_reach_explain(const char *host, const char *said, char *to, size_t room);

#endif
