/* The box in which a hazard plays: processes that share a piece of memory, with an end.
 *
 *     struct lab_box box;
 *     err = lab_box_open(&box, sizeof(struct mine), budget_ns);
 *     struct mine *mine = box.segment.memory;                  // zeroed
 *     err = lab_box_start(&box, writer);                       // party 0: writer(mine, 0, deadline_ns) in a child
 *     err = lab_box_start(&box, reader);                       // party 1
 *     err = lab_box_join(&box);
 *     lab_box_close(&box);
 *
 * A party gets a cpu of its own as long as there are any, and SIGKILL with the thread that started it. Parties keep the deadline
 * themselves; who is still there LAB_BOX_GRACE_NS later, on a machine that is that busy, is killed. */
#ifndef LAB_NODE_HAZARDS_BOX_H
#define LAB_NODE_HAZARDS_BOX_H

#include "base/clock.h"
#include "shm/segment.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

enum { LAB_BOX_PARTIES = 4 };
#define LAB_BOX_GRACE_NS (5 * LAB_NS_PER_S)

struct lab_box {
    struct lab_segment segment;
    pid_t pids[LAB_BOX_PARTIES]; /* 0: reaped */
    uint32_t parties;
    uint64_t deadline_ns;
};

typedef void lab_box_party(void *memory, uint32_t number, uint64_t deadline_ns);

/* Both 0 or -errno, recorded. A box that could not be opened needs no closing. */
int lab_box_open(struct lab_box *box, size_t bytes, uint64_t budget_ns);
int lab_box_start(struct lab_box *box, lab_box_party *party);

/* Kills one party, and reaps it. */
void lab_box_kill(struct lab_box *box, uint32_t number);

/* Waits until all have ended that were not killed. -ETIME, recorded: one had to be killed long behind the deadline, or came to another end
 * than a party's, so that what it counted is not to be trusted. */
int lab_box_join(struct lab_box *box);

void lab_box_close(struct lab_box *box);

/* In a party: returns when all of `parties` have called it, or at the deadline. `arrived` is in the memory, zero at the beginning. */
void lab_box_meet(_Atomic uint32_t *arrived, uint32_t parties, uint64_t deadline_ns);

/* Gives the cpu away for a millisecond: for whoever watches. */
void lab_box_rest(void);

/* A mutex between processes in the memory; `robust`: it tells the next one that its holder was killed. 0 or -errno, recorded. */
int lab_box_mutex(pthread_mutex_t *mutex, bool robust);

#endif
