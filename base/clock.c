#include "base/clock.h"

#include <limits.h>
#include <stdlib.h>

uint64_t lab_ns_until(uint64_t deadline_ns)
{
    uint64_t now = lab_now_ns();
    return deadline_ns > now ? deadline_ns - now : 0;
}

int lab_ms_until(uint64_t deadline_ns)
{
    uint64_t ms = (lab_ns_until(deadline_ns) + LAB_NS_PER_MS - 1) / LAB_NS_PER_MS;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct lab_clock_facts lab_clock_measure(void)
{
    enum { BATCHES = 63, READINGS = 100 };
    double batch[BATCHES];
    uint64_t smallest = UINT64_MAX;

    for (int b = 0; b < BATCHES; b++) {
        uint64_t begin = lab_now_ns(), last = begin;
        for (int r = 0; r < READINGS; r++) {
            uint64_t now = lab_now_ns();
            if (now != last && now - last < smallest)
                smallest = now - last;
            last = now;
        }
        batch[b] = (double)(last - begin) / READINGS;
    }
    qsort(batch, BATCHES, sizeof *batch, ascending);
    return (struct lab_clock_facts){.overhead_ns = batch[BATCHES / 2], .resolution_ns = (double)smallest};
}

void lab_spin_for(uint64_t ns)
{
    uint64_t until = lab_now_ns() + ns;
    while (lab_now_ns() < until)
        ;
}
