/* A log-linear histogram of nanoseconds: three significant digits from 1 ns to over 100 s.
 *
 * Values below 2048 have a bucket each; above, every power of two is divided into 1024 buckets, so that a recorded value
 * is known to better than 0.1 %. The scheme is that of HdrHistogram (Gil Tene). Recording is a few instructions and never
 * fails: a value beyond the range counts in the last bucket. Not thread-safe: one recorder, merged afterwards.
 *
 *     struct lab_hist *hist = lab_hist_new();
 *     lab_hist_record(hist, elapsed_ns);
 *     uint64_t p50 = lab_hist_quantile(hist, 0.5);
 *     lab_hist_free(hist);
 */
#ifndef LAB_BASE_HIST_H
#define LAB_BASE_HIST_H

#include <stddef.h>
#include <stdint.h>

enum {
    LAB_HIST_LINEAR_BITS = 11,
    LAB_HIST_TOP_BITS = 38, /* 2^38 ns = 275 s */
    LAB_HIST_HALF = 1 << (LAB_HIST_LINEAR_BITS - 1),
    LAB_HIST_BUCKETS = (LAB_HIST_TOP_BITS - LAB_HIST_LINEAR_BITS + 2) * LAB_HIST_HALF,
};

struct lab_hist {
    uint64_t count;
    uint64_t total; /* sum of the recorded values, for the mean */
    uint64_t least; /* UINT64_MAX while empty */
    uint64_t most;
    uint64_t bucket[LAB_HIST_BUCKETS];
};

struct lab_hist *lab_hist_new(void); /* NULL when out of memory */
void lab_hist_free(struct lab_hist *hist);
void lab_hist_clear(struct lab_hist *hist);

static inline uint32_t lab_hist_index(uint64_t value)
{
    if (value >> LAB_HIST_TOP_BITS)
        return LAB_HIST_BUCKETS - 1;
    if (value >> LAB_HIST_LINEAR_BITS == 0)
        return (uint32_t)value;
    uint32_t shift = (uint32_t)(63 - __builtin_clzll(value)) - (LAB_HIST_LINEAR_BITS - 1);
    return shift * LAB_HIST_HALF + (uint32_t)(value >> shift);
}

/* `times` observations of one value (a batch timed as a whole counts once for each of its operations). */
static inline void lab_hist_record_n(struct lab_hist *hist, uint64_t value, uint64_t times)
{
    hist->bucket[lab_hist_index(value)] += times;
    hist->count += times;
    hist->total += value * times;
    if (value < hist->least)
        hist->least = value;
    if (value > hist->most)
        hist->most = value;
}

static inline void lab_hist_record(struct lab_hist *hist, uint64_t value)
{
    lab_hist_record_n(hist, value, 1);
}

void lab_hist_merge(struct lab_hist *into, const struct lab_hist *from);

/* The value at quantile q in [0, 1], as the middle of its bucket, never outside [least, most]; 0 when empty. */
uint64_t lab_hist_quantile(const struct lab_hist *hist, double q);
double lab_hist_mean(const struct lab_hist *hist); /* 0 when empty */

/* Whole and exact, as pairs of varints (gap to the previous used bucket, count) after a head of four varints
 * (count, total, least, most). Returns the bytes needed; writes them only when they fit in `room`. */
size_t lab_hist_encode(const struct lab_hist *hist, unsigned char *to, size_t room);

/* Merges an encoded histogram into `into`; -EBADMSG (nothing merged) when the bytes are not one. */
int lab_hist_merge_encoded(struct lab_hist *into, const unsigned char *from, size_t size);

/* The lowest and the highest value that fall into a bucket: for export and drawing. */
void lab_hist_bounds(uint32_t index, uint64_t *ret_low, uint64_t *ret_high);

#endif
