/* How long a cache line takes from CPU 0 to CPU 1: the limit of everything that goes through shared memory.
 *
 *     handoff [SECONDS]       one line per 100 ms; the clusters of these figures are the proximity modes of the two CPUs */
#include "bench/pair.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 2;
    uint32_t lines = seconds > 0 && seconds < LAB_PAIR_WITHIN_S / 2.0 ? (uint32_t)(seconds * 10) : 1;
    struct lab_pair pair;
    if (lab_pair_start(&pair)) {
        fprintf(stderr, "%s\n", lab_error_last()->text);
        return 1;
    }
    for (uint32_t line = 0; line < lines; line++) {
        enum { SAMPLES = 100 };
        double sample[SAMPLES];
        for (int i = 0; i < SAMPLES; i++) {
            sample[i] = lab_pair_meet(&pair);
            uint64_t until = lab_now_ns() + LAB_NS_PER_MS;
            while (lab_now_ns() < until)
                ;
        }
        if (!pair.leads)
            continue;
        double p50 = lab_pair_median(sample, SAMPLES);
        printf("hand-off %6.1f ns (%s), least %.1f, most %.1f\n", p50, lab_pair_mode(p50), sample[0], sample[SAMPLES - 1]);
    }
    return lab_pair_end(&pair);
}
