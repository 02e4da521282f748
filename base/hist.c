#include "base/hist.h"

#include "base/error.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void lab_hist_free(struct lab_hist *hist)
{
    free(hist);
}

struct lab_hist *lab_hist_new(void)
{
    struct lab_hist *hist = calloc(1, sizeof *hist);
    if (hist)
        hist->least = UINT64_MAX;
    return hist;
}

/* Only the buckets in use are touched: clearing and merging happen between measuring windows, whose caches they must not
 * sweep. */
void lab_hist_clear(struct lab_hist *hist)
{
    if (hist->count) {
        uint32_t low = lab_hist_index(hist->least), high = lab_hist_index(hist->most);
        memset(&hist->bucket[low], 0, (high - low + 1) * sizeof hist->bucket[0]);
    }
    hist->count = hist->total = hist->most = 0;
    hist->least = UINT64_MAX;
}

void lab_hist_merge(struct lab_hist *into, const struct lab_hist *from)
{
    if (!from->count)
        return;
    for (uint32_t i = lab_hist_index(from->least), high = lab_hist_index(from->most); i <= high; i++)
        into->bucket[i] += from->bucket[i];
    into->count += from->count;
    into->total += from->total;
    if (from->least < into->least)
        into->least = from->least;
    if (from->most > into->most)
        into->most = from->most;
}

void lab_hist_bounds(uint32_t index, uint64_t *ret_low, uint64_t *ret_high)
{
    uint32_t shift = index < 2 * LAB_HIST_HALF ? 0 : index / LAB_HIST_HALF - 1;
    uint64_t low = (uint64_t)(index - shift * LAB_HIST_HALF) << shift;
    *ret_low = low;
    *ret_high = low + (UINT64_C(1) << shift) - 1;
}

uint64_t lab_hist_quantile(const struct lab_hist *hist, double q)
{
    if (hist->count == 0)
        return 0;
    uint64_t rank = (uint64_t)ceil(q * (double)hist->count);
    if (rank == 0)
        rank = 1;

    uint64_t seen = 0;
    for (uint32_t i = 0; i < LAB_HIST_BUCKETS; i++) {
        seen += hist->bucket[i];
        if (seen < rank)
            continue;
        uint64_t low, high;
        lab_hist_bounds(i, &low, &high);
        uint64_t middle = low + (high - low) / 2;
        return middle < hist->least ? hist->least : middle > hist->most ? hist->most : middle;
    }
    return hist->most;
}

double lab_hist_mean(const struct lab_hist *hist)
{
    return hist->count ? (double)hist->total / (double)hist->count : 0;
}

struct writer {
    unsigned char *to;
    size_t room, used;
};

static void put_varint(struct writer *w, uint64_t value)
{
    do {
        unsigned char byte = (unsigned char)(value & 0x7f) | (value > 0x7f ? 0x80 : 0);
        if (w->used < w->room)
            w->to[w->used] = byte;
        w->used++;
        value >>= 7;
    } while (value);
}

size_t lab_hist_encode(const struct lab_hist *hist, unsigned char *to, size_t room)
{
    struct writer w = {.to = to, .room = room};
    put_varint(&w, hist->count);
    put_varint(&w, hist->total);
    put_varint(&w, hist->least);
    put_varint(&w, hist->most);
    uint32_t last = 0;
    for (uint32_t i = 0; i < LAB_HIST_BUCKETS; i++) {
        if (!hist->bucket[i])
            continue;
        put_varint(&w, i - last);
        put_varint(&w, hist->bucket[i]);
        last = i;
    }
    return w.used;
}

static int get_varint(const unsigned char **at, const unsigned char *end, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        unsigned char byte = *(*at)++;
        if (shift == 63 && byte > 1)
            return -EBADMSG; /* more than 64 bits */
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret_value = value;
            return 0;
        }
    }
    return -EBADMSG;
}

/* What the head says must be what the buckets say: a figure is made from either. */
static bool is_consistent(const struct lab_hist *hist, uint64_t sum, uint64_t lowest, uint64_t highest)
{
    if (sum != hist->count)
        return false;
    if (sum == 0)
        return hist->total == 0;
    unsigned __int128 total = hist->total, count = hist->count;
    bool beyond = hist->most >> LAB_HIST_TOP_BITS; /* a sum of such values may have run over */
    return hist->least <= hist->most && lab_hist_index(hist->least) == lowest && lab_hist_index(hist->most) == highest &&
           (beyond || (total >= count * hist->least && total <= count * hist->most));
}

int lab_hist_merge_encoded(struct lab_hist *into, const unsigned char *from, size_t size)
{
    const unsigned char *at = from, *end = from + size;
    struct lab_hist *read = lab_hist_new();
    if (!read)
        return lab_fail(ENOMEM, "a histogram of %zu bytes", sizeof *read);

    int err = 0;
    uint64_t index = 0, sum = 0, lowest = LAB_HIST_BUCKETS;
    if (get_varint(&at, end, &read->count) || get_varint(&at, end, &read->total) || get_varint(&at, end, &read->least) ||
        get_varint(&at, end, &read->most))
        err = -EBADMSG;
    while (!err && at < end) {
        uint64_t gap, times;
        bool first = lowest == LAB_HIST_BUCKETS;
        /* Each bucket in use stands there once, and no other does. */
        if (get_varint(&at, end, &gap) || get_varint(&at, end, &times) || gap >= LAB_HIST_BUCKETS - index || (!gap && !first) || !times ||
            __builtin_add_overflow(sum, times, &sum)) {
            err = -EBADMSG;
            break;
        }
        index += gap;
        if (first)
            lowest = index;
        read->bucket[index] = times;
    }
    if (!err && is_consistent(read, sum, lowest, index))
        lab_hist_merge(into, read);
    else
        err = lab_refuse(EBADMSG, "%zu bytes that should be a histogram are not one", size);
    lab_hist_free(read);
    return err;
}
