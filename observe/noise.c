#include "observe/noise.h"

#include "base/clock.h"

struct lab_noise_probe lab_noise_measure(uint64_t duration_ns)
{
    enum { DETOUR_NS = 1000 };
    uint64_t begin = lab_now_ns(), last = begin, lost = 0, most = 0;
    do {
        uint64_t now = lab_now_ns(), gap = now - last;
        if (gap > DETOUR_NS) {
            lost += gap;
            most = gap > most ? gap : most;
        }
        last = now;
    } while (last - begin < duration_ns || last == begin);
    return (struct lab_noise_probe){.lost_fraction = (double)lost / (double)(last - begin), .max_ns = most};
}

const char *lab_noise_grade(double lost_fraction, uint64_t max_ns)
{
    if (lost_fraction < 0.005 && max_ns < 100 * LAB_NS_PER_US)
        return "A";
    return lost_fraction < 0.02 && max_ns < LAB_NS_PER_MS ? "B" : "C";
}
