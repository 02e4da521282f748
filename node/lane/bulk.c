#include "node/lane/bulk.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Everything here is compiled twice: for any processor, with registers of 16 bytes, and for those that have 32. */
typedef uint64_t narrow __attribute__((vector_size(16)));
typedef uint64_t wide __attribute__((vector_size(32)));

#define COPY_ONE(words, at)                        \
    do {                                           \
        words held;                                \
        memcpy(&held, from + (at), sizeof held);   \
        memcpy(to + (at), &held, sizeof held);     \
    } while (0)

#define ADD_ONE(words, to_sum, at)                 \
    do {                                           \
        words held;                                \
        memcpy(&held, from + (at), sizeof held);   \
        (to_sum) += held;                          \
    } while (0)

/* Several independent sums: one chain of additions would be the limit at memory speed. What is to be read a page later is fetched:
 * the processor itself looks no further than to the end of a page, and then has to wait for the other core again. */
#define SUM(words)                                                              \
    words a = {0}, b = {0}, c = {0}, d = {0};                                   \
    for (; at + 4 * sizeof a <= size; at += 4 * (uint32_t)sizeof a) {           \
        if (at + LAB_PAGE < size) {                                             \
            __builtin_prefetch(from + at + LAB_PAGE);                           \
            __builtin_prefetch(from + at + LAB_PAGE + 2 * sizeof a);            \
        }                                                                       \
        ADD_ONE(words, a, at);                                                  \
        ADD_ONE(words, b, at + sizeof a);                                       \
        ADD_ONE(words, c, at + 2 * sizeof a);                                   \
        ADD_ONE(words, d, at + 3 * sizeof a);                                   \
    }                                                                           \
    a += b + c + d;                                                             \
    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++)                         \
        all += a[i]

INLINE void copy(bool is_wide, unsigned char *to, const unsigned char *from, uint32_t size)
{
    uint32_t at = 0;
    for (; at + 64 <= size; at += 64)
        if (is_wide) {
            COPY_ONE(wide, at);
            COPY_ONE(wide, at + 32);
        } else {
            COPY_ONE(narrow, at);
            COPY_ONE(narrow, at + 16);
            COPY_ONE(narrow, at + 32);
            COPY_ONE(narrow, at + 48);
        }
    memcpy(to + at, from + at, size - at);
}

INLINE void repeat(bool is_wide, unsigned char *to, const unsigned char *page, uint32_t size)
{
    for (; size > LAB_PAGE; size -= LAB_PAGE, to += LAB_PAGE)
        copy(is_wide, to, page, LAB_PAGE);
    copy(is_wide, to, page, size);
}

INLINE uint64_t sum(bool is_wide, const unsigned char *from, uint32_t size)
{
    uint64_t all = 0, word;
    uint32_t at = 0;
    if (is_wide) {
        SUM(wide);
    } else {
        SUM(narrow);
    }
    for (; at + sizeof word <= size; at += sizeof word) {
        memcpy(&word, from + at, sizeof word);
        all += word;
    }
    return all;
}

#ifdef __x86_64__
#define HAS_WIDE __builtin_cpu_supports("avx2")
#define FOR_WIDE __attribute__((target("avx2")))
#else
#define HAS_WIDE false
#define FOR_WIDE
#endif

FOR_WIDE static void repeat_wide(unsigned char *to, const unsigned char *page, uint32_t size)
{
    repeat(true, to, page, size);
}

FOR_WIDE static uint64_t sum_wide(const unsigned char *from, uint32_t size)
{
    return sum(true, from, size);
}

void lab_bulk_repeat(unsigned char *to, const unsigned char *page, uint32_t size)
{
    if (HAS_WIDE)
        repeat_wide(to, page, size);
    else
        repeat(false, to, page, size);
}

uint64_t lab_bulk_sum(const unsigned char *from, uint32_t size)
{
    return HAS_WIDE ? sum_wide(from, size) : sum(false, from, size);
}
