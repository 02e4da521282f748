/* The innermost of a message: inlined into message.c (spans, whole buffers) and lane.c (one by one, where a call more would be
 * felt). With a size that the compiler knows each is straight-line code. */
#ifndef LAB_NODE_LANE_STAMP_H
#define LAB_NODE_LANE_STAMP_H

#include "node/lane/bulk.h"
#include "node/lane/message.h"

#include <string.h>

#define LAB_INLINE static inline __attribute__((always_inline))

#define LAB_ODD_A UINT64_C(0x9e3779b97f4a7c15)
#define LAB_ODD_B UINT64_C(0xbf58476d1ce4e5b9)

/* Two words in one register: every x86-64 and ARMv8 has it, so that nothing has to be chosen at run time. */
typedef uint64_t lab_words __attribute__((vector_size(16)));

LAB_INLINE uint64_t load(const unsigned char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

LAB_INLINE void store(unsigned char *at, uint64_t word)
{
    memcpy(at, &word, sizeof word);
}

/* Words 0: the low 48 bits say what the message is, the high 16 bits confirm them: a number of the length and a weighted sum of
 * the three parts of 16 bits. Weights are odd, so that no single bit flips unseen; the number is odd, so that zeroed memory is no
 * message. What makes it a sum: messages of one *run*, whose sequences have their upper half in common, differ by the same number
 * from one to the next, and so do all their other words (fill_run, is_run). */
enum { LAB_RUN = 1 << 16, LAB_WEIGHT_LOW = 0x9e37, LAB_WEIGHT_MIDDLE = 0x85eb, LAB_WEIGHT_HIGH = 0xc2b3 };
#define LAB_NEXT_LABEL (UINT64_C(1) + ((uint64_t)LAB_WEIGHT_LOW << 48))

LAB_INLINE uint64_t seal(uint64_t low48, uint32_t length)
{
    uint64_t number = length * UINT32_C(0x9e3779b1) >> 16 | 1;
    uint64_t check = number + low48 * LAB_WEIGHT_LOW + (low48 >> 16) * LAB_WEIGHT_MIDDLE + (low48 >> 32) * LAB_WEIGHT_HIGH;
    return low48 | check << 48;
}

/* From a sequence on, the messages of one run. */
LAB_INLINE uint32_t in_one_run(uint32_t sequence, uint32_t count)
{
    uint32_t left = LAB_RUN - sequence % LAB_RUN;
    return count < left ? count : left;
}

LAB_INLINE lab_words load2(const unsigned char *at)
{
    lab_words words;
    memcpy(&words, at, sizeof words);
    return words;
}

LAB_INLINE void store2(unsigned char *at, lab_words words)
{
    memcpy(at, &words, sizeof words);
}

LAB_INLINE uint64_t label_word(const struct lab_stencil *stencil, uint32_t length, uint32_t sequence, uint32_t flags)
{
    return seal((uint64_t)sequence | (uint64_t)(flags & 0xf) << 32 | (uint64_t)stencil->sender << 36, length);
}

LAB_INLINE uint32_t flags_of(uint64_t word0)
{
    return (uint32_t)(word0 >> 32) & 0xf;
}

LAB_INLINE uint16_t sender_of(uint64_t word0)
{
    return (word0 >> 36) & (LAB_SENDERS - 1);
}

/* Fewer than 8 bytes as a word. */
LAB_INLINE uint64_t tail_of(const unsigned char *at, uint32_t length)
{
    uint64_t tail = 0;
    memcpy(&tail, at, length);
    return tail;
}

/* The sum that word 1 carries for a message whose body words add up to `body`. */
LAB_INLINE uint64_t sum_word(uint64_t word0, uint64_t body)
{
    return body + word0 * LAB_ODD_B;
}

LAB_INLINE uint64_t salt_of(uint32_t sequence)
{
    return sequence * LAB_ODD_B;
}

/* One message; `size` is a constant where the caller knows it, so that small messages are straight-line code. */
LAB_INLINE void fill_one(const struct lab_stencil *stencil, unsigned char *to, uint32_t size, uint32_t sequence, uint32_t flags)
{
    uint64_t word0 = label_word(stencil, size, sequence, flags), salt = salt_of(sequence);
    const unsigned char *body = stencil->body;

    if (size > LAB_SHORT) {
        /* What differs is stored over it: few words, of lines that are at hand. */
        if (size <= LAB_PAGE)
            memcpy(to, body, size);
        else
            lab_bulk_repeat(to, body, size);
        for (uint32_t at = 16; at + 8 <= size; at += LAB_PAGE)
            store(to + at, load(body + 16) + salt);
    }
    store(to, word0);
    if (size < 16) {
        memcpy(to + 8, body + 8, size - 8);
        return;
    }
    store(to + 8, sum_word(word0, stencil->base_sum + salt * stencil->salted));
    if (size > LAB_SHORT)
        return;
    uint32_t at = 16;
    for (; at + 16 <= size; at += 16)
        store2(to + at, load2(body + at) + salt);
    for (; at + 8 <= size; at += 8)
        store(to + at, load(body + at) + salt);
    memcpy(to + (size & ~7u), body + (size & ~7u), size & 7);
}

/* Sizes for which the words of a message are so few that they stay in registers from one message to the next. */
LAB_INLINE bool is_small(uint32_t size)
{
    return size == 8 || (size <= 64 && size % 16 == 0);
}

LAB_INLINE void tell(struct lab_tally *tally)
{
    if (tally)
        lab_tally_one(tally);
}

/* Messages of one run without flags, of a small size that the compiler knows; each is sent as it is done where there is a tally. */
LAB_INLINE void fill_run(const struct lab_stencil *stencil, unsigned char *to, size_t stride, uint32_t size, uint32_t first, uint32_t count,
                         struct lab_tally *tally)
{
    if (size == 8) {
        uint64_t label = label_word(stencil, size, first, 0);
        for (; count; count--, to += stride, label += LAB_NEXT_LABEL) {
            store(to, label);
            tell(tally);
        }
        return;
    }
    unsigned char message[64];
    fill_one(stencil, message, size, first, 0);
    lab_words words[4], label_step = {LAB_NEXT_LABEL, (LAB_NEXT_LABEL + stencil->salted) * LAB_ODD_B}, step = {LAB_ODD_B, LAB_ODD_B};
    for (uint32_t w = 0; w < size / 16; w++)
        words[w] = load2(message + w * 16);
    for (; count; count--, to += stride) {
        for (uint32_t w = 0; w < size / 16; w++) {
            store2(to + w * 16, words[w]);
            words[w] += w ? step : label_step;
        }
        tell(tally);
    }
}

LAB_INLINE void fill_span(const struct lab_stencil *stencil, const struct lab_span *span, uint32_t size, uint32_t first, uint32_t last_flags,
                          struct lab_tally *tally)
{
    unsigned char *to = span->at;
    size_t stride = span->stride;
    uint32_t last = first + span->count - 1;
    while (first != last) {
        uint32_t count = is_small(size) ? in_one_run(first, last - first) : 1;
        if (is_small(size)) {
            fill_run(stencil, to, stride, size, first, count, tally);
        } else {
            fill_one(stencil, to, size, first, 0);
            tell(tally);
        }
        first += count;
        to += count * stride;
    }
    fill_one(stencil, to, size, last, last_flags);
    tell(tally);
}

/* Whether these are, word by word, the messages of one run without flags of which the first one's word 0 is `label`. */
LAB_INLINE bool is_run(const unsigned char *at, size_t stride, uint32_t size, uint64_t label, uint32_t count)
{
    if (size == 8) {
        uint64_t wrong = 0;
        for (; count; count--, at += stride, label += LAB_NEXT_LABEL)
            wrong |= load(at) ^ label;
        return !wrong;
    }
    const lab_words step = {LAB_NEXT_LABEL, LAB_NEXT_LABEL * LAB_ODD_B}, upper = {0, UINT64_MAX};
    lab_words wrong = {0}, due = {label, sum_word(label, 0)};
    for (; count; count--, at += stride, due += step) {
        lab_words sum = {0};
        for (uint32_t w = 1; w < size / 16; w++)
            sum += load2(at + w * 16);
        sum += __builtin_shufflevector(sum, sum, 1, 0);
        wrong |= load2(at) ^ (due + (sum & upper));
    }
    return !(wrong[0] | wrong[1]);
}

LAB_INLINE uint64_t body_sum(const unsigned char *message, uint32_t length)
{
    if (length > LAB_PAGE)
        return lab_bulk_sum(message + 16, length - 16) + tail_of(message + (length & ~7u), length & 7);
    /* Several independent sums: one chain of additions would be the limit at memory speed. */
    lab_words a = {0}, b = {0}, c = {0}, d = {0};
    uint64_t sum = 0;
    uint32_t at = 16;
    for (; at + 64 <= length; at += 64) {
        a += load2(message + at);
        b += load2(message + at + 16);
        c += load2(message + at + 32);
        d += load2(message + at + 48);
    }
    for (; at + 16 <= length; at += 16)
        a += load2(message + at);
    for (; at + 8 <= length; at += 8)
        sum += load(message + at);
    if (length & 7)
        sum += tail_of(message + (length & ~7u), length & 7);
    a += b + c + d;
    return sum + a[0] + a[1];
}

LAB_INLINE bool read_one(const unsigned char *message, uint32_t length, bool whole, uint64_t *ret_word0)
{
    uint64_t word0 = load(message);
    *ret_word0 = word0;
    if (seal(word0 & UINT64_C(0xffffffffffff), length) != word0)
        return false;
    return length < 16 || !whole || load(message + 8) == sum_word(word0, length > 16 ? body_sum(message, length) : 0);
}

/* How many of the messages, up to `count`, are as they should be without looking at them one by one. The first one says who sends;
 * whatever is not exactly what follows from it, be it the flags of the last one, has to be looked at. */
LAB_INLINE uint32_t check_run(const unsigned char *at, size_t stride, uint32_t size, uint32_t first, uint32_t count)
{
    uint64_t label;
    if (!is_small(size) || count < 2 || !read_one(at, size, true, &label) || (uint32_t)label != first || flags_of(label))
        return 0;
    uint32_t run = in_one_run(first, count - 1);
    return is_run(at, stride, size, label, run) ? run : 0;
}

LAB_INLINE uint32_t check_span(const struct lab_span *span, uint32_t size, uint32_t first, uint32_t *ret_flags)
{
    const unsigned char *at = span->at;
    size_t stride = span->stride;
    uint32_t count = span->count, read = check_run(at, stride, size, first, count);
    for (at += read * stride; read < count; read++, at += stride) {
        uint64_t word0;
        if (!read_one(at, size, true, &word0) || (uint32_t)word0 != first + read)
            return read;
        uint32_t flags = flags_of(word0);
        if (flags) {
            *ret_flags = flags;
            return read + 1;
        }
    }
    return count;
}

#endif
