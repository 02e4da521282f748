/* The account of what a lane received: every sequence number is received, lost, duplicated or reordered. Of a lane's own files only. */
#ifndef LAB_NODE_LANE_ACCOUNT_H
#define LAB_NODE_LANE_ACCOUNT_H

#include "node/lane/lane.h"

enum { LAB_SAMPLE_EVERY = 64 };

/* A message that is one. Of the only sender, whose every message comes here, or of one of those who share a channel. */
void lab_account_message(struct lab_lane *lane, uint16_t sender, uint32_t sequence);

/* Of a shared channel: what each sender sends must at least come in order. */
static inline void lab_account_share(struct lab_lane *lane, uint16_t sender, uint32_t sequence)
{
    uint32_t *due = &lane->due[sender];
    lane->account.received++;
    if (sequence - *due > UINT32_MAX / 2)
        lane->account.reordered++;
    else
        *due = sequence + 1;
}

/* Whether every byte of the message after those received so far is to be verified. */
static inline bool lab_account_due_for_sum(const struct lab_lane *lane)
{
    return lane->verify_all || lane->account.received % LAB_SAMPLE_EVERY == 0;
}

#endif
