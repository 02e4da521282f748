/* Names that a process has to give for a moment to what it makes, known to who makes it and to who cleans up: it may be killed in that
 * moment. (The keys of System V: shm/backing.h.) */
#ifndef LAB_BASE_LEFTOVER_H
#define LAB_BASE_LEFTOVER_H

#include <stdio.h>
#include <unistd.h>

/* A fifo, in /dev/shm, until it is open. */
#define LAB_LEFTOVER_FIFO "ipclab-fifo-"

/* A POSIX message queue until its maker has it open: one name for all of a user. Who finds it taken removes it, for its maker has its queue or is no
 * more, and makes another. So there is never more than one, whoever is killed, and removing it does nobody any harm. */
enum { LAB_LEFTOVER_QUEUE_NAME = 32 };
static inline const char *lab_leftover_queue(char to[LAB_LEFTOVER_QUEUE_NAME])
{
    snprintf(to, LAB_LEFTOVER_QUEUE_NAME, "/ipclab-%u", (unsigned)geteuid());
    return to;
}

#endif
