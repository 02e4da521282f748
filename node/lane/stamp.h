/* The innermost of a message: inlined into message.c (spans, whole buffers) and lane.c (one by one, where a call more would be
 * felt). With a size that the compiler knows each is straight-line code. */
#ifndef LAB_NODE_LANE_STAMP_H
#define LAB_NODE_LANE_STAMP_H

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

/* Words 0: the low 48 bits say what the message is, the high 16 bits confirm them. */
LAB_INLINE uint64_t seal(uint64_t low48, uint32_t length)
{
    uint64_t mixed = (low48 + length) * LAB_ODD_A;
    return low48 | (mixed ^ mixed << 16) >> 48 << 48;
}

LAB_INLINE lab_words load2(const unsigned char *at)
{
    lab_words words;
    memcpy(&words, at, sizeof words);
    return words;
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

LAB_INLINE uint64_t tail_of(const unsigned char *message, uint32_t length)
{
    uint64_t tail = 0;
    memcpy(&tail, message + (length & ~7u), length & 7);
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

    store(to, word0);
    if (size < 16) {
        memcpy(to + 8, body + 8, size - 8);
        return;
    }
    store(to + 8, sum_word(word0, stencil->base_sum + salt * stencil->salted));
    if (size <= 512) {
        uint32_t at = 16;
        for (; at + 16 <= size; at += 16) {
            lab_words salted = load2(body + at) + salt;
            memcpy(to + at, &salted, sizeof salted);
        }
        for (; at + 8 <= size; at += 8)
            store(to + at, load(body + at) + salt);
        memcpy(to + (size & ~7u), body + (size & ~7u), size & 7);
        return;
    }
    for (uint32_t at = 16; at < size; at += stencil->step * 8) {
        uint32_t rest = size - at < stencil->step * 8 ? size - at : stencil->step * 8;
        memcpy(to + at + 8, body + at + 8, rest > 8 ? rest - 8 : 0);
        if (rest >= 8)
            store(to + at, load(body + at) + salt);
        else
            memcpy(to + at, body + at, rest);
    }
}

LAB_INLINE uint64_t body_sum(const unsigned char *message, uint32_t length)
{
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
        sum += tail_of(message, length);
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

#endif
