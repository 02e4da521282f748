#include "node/lane/stages.h"

#include <stdlib.h>

struct lab_stages *lab_stages_new(void)
{
    struct lab_stages *stages = calloc(1, sizeof *stages);
    bool whole = stages;
    for (int stage = 0; whole && stage < LAB_STAGES; stage++)
        whole = (stages->ns[stage] = lab_hist_new());
    if (!whole) {
        lab_stages_free(stages);
        return NULL;
    }
    return stages;
}

void lab_stages_free(struct lab_stages *stages)
{
    for (int stage = 0; stages && stage < LAB_STAGES; stage++)
        lab_hist_free(stages->ns[stage]);
    free(stages);
}

double lab_stages_median(const struct lab_stages *stages, enum lab_stage stage, double clock_ns)
{
    if (!stages || !stages->ns[stage]->count)
        return 0;
    double whole = (double)lab_hist_quantile(stages->ns[stage], 0.5) - clock_ns;
    double each = stage == LAB_STAGE_ENCODE || stage == LAB_STAGE_DECODE ? whole / LAB_STAGES_BATCH : whole;
    return each > 0 ? each : 0;
}
