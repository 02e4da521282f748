#include "node/lane/account.h"

#include <string.h>

/* A message out of order: is it one that was counted lost (late), or one that came already? */
static void account_stray(struct lab_lane *lane, uint32_t sequence)
{
    for (uint32_t g = lane->gaps; g-- > 0;) {
        uint32_t offset = sequence - lane->gap[g].from, count = lane->gap[g].count;
        if (offset >= count)
            continue;
        lane->account.reordered++;
        lane->account.lost--;
        lane->account.received++;
        /* What remains of the gap: the part before, and the part after if there is room to remember it. */
        lane->gap[g].count = offset;
        if (offset + 1 < count && lane->gaps < LAB_GAPS_MAX) {
            lane->gap[lane->gaps].from = sequence + 1;
            lane->gap[lane->gaps].count = count - offset - 1;
            lane->gaps++;
        }
        return;
    }
    lane->account.duplicated++;
}

void lab_account_message(struct lab_lane *lane, uint16_t sender, uint32_t sequence)
{
    if (lane->due) {
        lab_account_share(lane, sender, sequence);
        return;
    }
    uint32_t ahead = sequence - lane->next;
    if (ahead > UINT32_MAX / 2) {
        account_stray(lane, sequence);
        return;
    }
    if (ahead) {
        lane->account.lost += ahead;
        if (lane->gaps == LAB_GAPS_MAX)
            memmove(&lane->gap[0], &lane->gap[1], --lane->gaps * sizeof lane->gap[0]);
        lane->gap[lane->gaps].from = lane->next;
        lane->gap[lane->gaps].count = ahead;
        lane->gaps++;
    }
    lane->account.received++;
    lane->next = sequence + 1;
}
