/* What `ipclab doctor` asks a host: `ipclab-node --facts [ADDRESS:PORT]` prints it, one fact a line, for launcher/facts.h to read. */
#ifndef LAB_NODE_AGENT_FACTS_H
#define LAB_NODE_AGENT_FACTS_H

#include <stdio.h>

/*     version 0.1.0 1                       of ipclab, of the protocol
 *     host lab1
 *     clock 1764061234567890123             CLOCK_REALTIME, ns
 *     cpus 2 2                              online, and that may be used
 *     shm 268435456 1073741824              of /dev/shm: free, all
 *     files 1048576
 *     ports 32768 60999
 *     governor powersave                    "-": the kernel sets no clocks
 *     ucx 1.13.1                            that MPI would load; "-": none
 *     reach 0                               errno of a connection to ADDRESS:PORT (an IPv4 address)
 *     unusable cma TEXT                     a transport that does not work there, and the mend
 *     longest posix-mq 8192 MEND            ... whose messages are bounded there, and what would raise it
 *     end
 *
 * Blocks for two seconds at most, on the connection. -errno with the record: the kernel does not tell even its name. */
int lab_facts_print(FILE *to, const char *reach);

#endif
