/* Which cell is launched next, and for how long it measures: interleaved rounds within a budget.
 *
 * A round launches every unfinished cell once, in an order drawn from the seed; a machine that drifts so drifts for all of them.
 * What a launch may take follows from the budget, the number of cells and what launches have cost beyond measuring so far.
 * When each cell has its launches, those whose figure is not yet precise go on, until the budget ends.
 *
 *     struct lab_schedule *schedule;
 *     lab_schedule_new(&spec, &schedule);
 *     while (lab_schedule_next(schedule, lab_now_ns(), &turn)) {
 *         ... launch turn.cell, measuring for turn.measure_ns ...
 *         lab_schedule_done(schedule, turn.cell, overhead_ns);
 *     }
 *     lab_schedule_ended_by(schedule);   // "budget", "precision", "launches"; "failed": every cell did
 *
 * No clock of its own: the caller passes the time. */
#ifndef LAB_LAUNCHER_SCHEDULE_H
#define LAB_LAUNCHER_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lab_schedule;

struct lab_schedule_spec {
    size_t cells;
    const uint64_t *overhead_ns; /* of each cell: first guess of what a launch costs beyond measuring */
    uint32_t launches;           /* of each cell at least, where the budget allows */
    uint64_t budget_ns;          /* from the first launch */
    uint64_t seed;
    /* Asked after LAUNCHES, twice, four times as many ...: is the cell's figure precise enough to stop? */
    bool (*precise)(void *context, size_t cell);
    void *context;
};

struct lab_turn {
    size_t cell;
    uint32_t round;
    uint64_t warmup_ns;  /* at most */
    uint64_t measure_ns;
    uint64_t window_ns;
};

int lab_schedule_new(const struct lab_schedule_spec *spec, struct lab_schedule **ret_schedule); /* -ENOMEM */
void lab_schedule_free(struct lab_schedule *schedule);

/* false: it is over. */
bool lab_schedule_next(struct lab_schedule *schedule, uint64_t now_ns, struct lab_turn *ret_turn);

/* The launch ended; `overhead_ns` is what it took beyond warming up and measuring. `failed`: a second time, and the cell is not
 * launched again. */
void lab_schedule_done(struct lab_schedule *schedule, size_t cell, uint64_t overhead_ns, bool failed);

/* How far it is, in [0, 1]. */
double lab_schedule_fraction(const struct lab_schedule *schedule, uint64_t now_ns);
const char *lab_schedule_ended_by(const struct lab_schedule *schedule);

#endif
