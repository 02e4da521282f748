#include "launcher/schedule.h"

#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <stdlib.h>

enum {
    ROUNDS_MIN = 6,      /* what an order-statistic 95 % interval of a median needs */
    ROUNDS_MAX = 1000,
    WINDOWS = 10,        /* of a launch */
    FAILURES_MAX = 2,    /* one may be the machine's; the second is the cell's */
};
#define MEASURE_MIN_NS (3 * LAB_NS_PER_MS)
#define MEASURE_MAX_NS (500 * LAB_NS_PER_MS)
#define WARMUP_MAX_NS (200 * LAB_NS_PER_MS)

struct entry {
    double overhead_ns;  /* running mean */
    uint32_t launches, failures;
    bool finished;
};

struct lab_schedule {
    struct lab_schedule_spec spec;
    uint32_t rounds;     /* planned for every cell */
    uint32_t check_at;   /* launches after which precision is asked for */
    uint32_t round;
    struct entry *entries;
    size_t *order;
    size_t at, in_round;
    uint64_t random, began_ns;
    bool some_precise;
    const char *ended_by;
};

/* splitmix64 (Steele, Lea & Flood, OOPSLA 2014): one word of state, any seed. */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Fisher and Yates. */
static void shuffle(struct lab_schedule *schedule)
{
    schedule->in_round = 0;
    for (size_t c = 0; c < schedule->spec.cells; c++)
        if (!schedule->entries[c].finished)
            schedule->order[schedule->in_round++] = c;
    for (size_t i = schedule->in_round; i > 1; i--) {
        size_t j = draw(&schedule->random) % i, kept = schedule->order[i - 1];
        schedule->order[i - 1] = schedule->order[j];
        schedule->order[j] = kept;
    }
    schedule->at = 0;
}

int lab_schedule_new(const struct lab_schedule_spec *spec, struct lab_schedule **ret_schedule)
{
    struct lab_schedule *schedule = calloc(1, sizeof *schedule);
    size_t room = spec->cells + 1;
    if (schedule) {
        schedule->entries = calloc(room, sizeof *schedule->entries);
        schedule->order = calloc(room, sizeof *schedule->order);
    }
    if (!schedule || !schedule->entries || !schedule->order) {
        lab_schedule_free(schedule);
        return lab_fail(ENOMEM, "no memory to schedule %zu cells", spec->cells);
    }
    schedule->spec = *spec;
    schedule->random = spec->seed;
    /* With a budget for fewer launches than were asked for, an interval comes before them. */
    schedule->rounds = spec->launches ? spec->launches : ROUNDS_MIN;
    schedule->check_at = schedule->rounds;
    for (size_t c = 0; c < spec->cells; c++)
        schedule->entries[c].overhead_ns = (double)spec->overhead_ns[c];
    shuffle(schedule);
    *ret_schedule = schedule;
    return 0;
}

void lab_schedule_free(struct lab_schedule *schedule)
{
    if (!schedule)
        return;
    free(schedule->entries);
    free(schedule->order);
    free(schedule);
}

static double clamp(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}

/* Of one launch, beyond its overhead: what is left of the budget, shared by the launches that are still to come of the first
 * `rounds`. Should that be too little to measure anything in, fewer rounds are planned, down to ROUNDS_MIN. */
static double share_ns(struct lab_schedule *schedule, uint64_t now_ns)
{
    double left = (double)schedule->spec.budget_ns - (double)(now_ns - schedule->began_ns);
    for (;;) {
        double launches = 0, overhead = 0;
        for (size_t c = 0; c < schedule->spec.cells; c++) {
            const struct entry *entry = &schedule->entries[c];
            double to_come = entry->finished ? 0 : entry->launches < schedule->rounds ? schedule->rounds - entry->launches : 1;
            launches += to_come;
            overhead += to_come * entry->overhead_ns;
        }
        double share = launches > 0 ? (left - overhead) / launches : 0;
        if (share >= 3 * (double)MEASURE_MIN_NS || schedule->rounds <= ROUNDS_MIN)
            return share;
        schedule->rounds--;
    }
}

static bool begin_round(struct lab_schedule *schedule)
{
    schedule->round++;
    if (schedule->round >= schedule->check_at) {
        for (size_t c = 0; c < schedule->spec.cells; c++) {
            struct entry *entry = &schedule->entries[c];
            if (entry->finished)
                continue;
            entry->finished = schedule->spec.precise && schedule->spec.precise(schedule->spec.context, c);
            schedule->some_precise = schedule->some_precise || entry->finished;
        }
        schedule->check_at *= 2;
    }
    shuffle(schedule);
    if (schedule->in_round && schedule->round < ROUNDS_MAX)
        return true;
    schedule->ended_by = schedule->in_round ? "launches" : schedule->some_precise ? "precision" : "failed";
    return false;
}

bool lab_schedule_next(struct lab_schedule *schedule, uint64_t now_ns, struct lab_turn *ret_turn)
{
    if (!schedule->began_ns)
        schedule->began_ns = now_ns;
    if (schedule->ended_by)
        return false;
    while (schedule->at == schedule->in_round)
        if (!begin_round(schedule))
            return false;
    size_t cell = schedule->order[schedule->at++];
    double share = share_ns(schedule, now_ns);
    /* A little less than half of the share for warming up, which ends earlier when the cell is steady. */
    double measure = clamp(0.6 * share, (double)MEASURE_MIN_NS, (double)MEASURE_MAX_NS);
    double warmup = clamp(0.4 * share, (double)MEASURE_MIN_NS, (double)WARMUP_MAX_NS);
    double takes = measure + warmup / 2 + schedule->entries[cell].overhead_ns;
    if ((double)(now_ns - schedule->began_ns) + takes > (double)schedule->spec.budget_ns && schedule->round > 0) {
        schedule->ended_by = "budget";
        return false;
    }
    *ret_turn = (struct lab_turn){
        .cell = cell, .round = schedule->round, .warmup_ns = (uint64_t)warmup, .measure_ns = (uint64_t)measure,
        .window_ns = (uint64_t)(measure / WINDOWS),
    };
    return true;
}

void lab_schedule_done(struct lab_schedule *schedule, size_t cell, uint64_t overhead_ns, bool failed)
{
    struct entry *entry = &schedule->entries[cell];
    entry->launches++;
    entry->overhead_ns += ((double)overhead_ns - entry->overhead_ns) / (entry->launches < 4 ? entry->launches : 4);
    entry->failures += failed;
    entry->finished = entry->finished || entry->failures == FAILURES_MAX;
}

double lab_schedule_fraction(const struct lab_schedule *schedule, uint64_t now_ns)
{
    return schedule->began_ns ? clamp((double)(now_ns - schedule->began_ns) / (double)schedule->spec.budget_ns, 0, 1) : 0;
}

const char *lab_schedule_ended_by(const struct lab_schedule *schedule)
{
    return schedule->ended_by ? schedule->ended_by : "interrupted";
}
