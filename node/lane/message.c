#include "node/lane/message.h"

#include "base/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Streams run at one message in a few nanoseconds: the loops below are compiled for AVX2 as well, chosen when loaded.
 * (Sanitized builds resolve such functions before their runtime is ready.) */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define LAB_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define LAB_CLONES
#endif
#define LAB_INLINE static inline __attribute__((always_inline))

static const uint64_t odd_a = UINT64_C(0x9e3779b97f4a7c15), odd_b = UINT64_C(0xbf58476d1ce4e5b9);

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
    uint64_t mixed = (low48 + length) * odd_a;
    return low48 | (mixed ^ mixed << 16) >> 48 << 48;
}

LAB_INLINE uint64_t label_word(const struct lab_stencil *stencil, uint32_t length, uint32_t sequence, uint32_t flags)
{
    return seal((uint64_t)sequence | (uint64_t)(flags & 0xff) << 32 | (uint64_t)stencil->sender << 40, length);
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
    return body + word0 * odd_b;
}

LAB_INLINE uint64_t salt_of(uint32_t sequence)
{
    return sequence * odd_b;
}

int lab_stencil_init(struct lab_stencil *stencil, uint32_t size, uint8_t sender, uint64_t seed)
{
    size_t room = ((size_t)size + 127) & ~(size_t)63;
    unsigned char *body = aligned_alloc(64, room);
    if (!body)
        return lab_fail(ENOMEM, "no memory for a message of %u bytes", size);
    memset(body, 0, room);
    uint64_t state = seed + sender, sum = 0;
    for (uint32_t at = 16; at + 8 <= size; at += 8) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        store(body + at, state ^ state >> 29);
        sum += load(body + at);
    }
    for (uint32_t at = size > 16 ? size & ~7u : size; at < size; at++)
        body[at] = (unsigned char)(state >> (at & 7) * 8);
    if (size > 16)
        sum += tail_of(body, size);

    uint32_t step = size <= 512 ? 1 : 512, words = size / 8;
    *stencil = (struct lab_stencil){
        .size = size, .step = step, .salted = words > 2 ? (words - 2 + step - 1) / step : 0,
        .sender = sender, .base_sum = sum, .body = body,
    };
    return 0;
}

void lab_stencil_fini(struct lab_stencil *stencil)
{
    free(stencil->body);
    stencil->body = NULL;
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
        for (uint32_t at = 16; at + 8 <= size; at += 8)
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

LAB_INLINE void fill_span(const struct lab_stencil *stencil, const struct lab_span *span, uint32_t size, uint32_t first, uint32_t last_flags)
{
    unsigned char *to = span->at;
    size_t stride = span->stride;
    uint32_t last = span->count - 1;
    for (uint32_t i = 0; i < last; i++, to += stride)
        fill_one(stencil, to, size, first + i, 0);
    fill_one(stencil, to, size, first + last, last_flags);
}

LAB_CLONES void lab_message_fill(const struct lab_stencil *stencil, const struct lab_span *span, uint32_t first, uint32_t last_flags)
{
    switch (stencil->size) {
    case 8: fill_span(stencil, span, 8, first, last_flags); break;
    case 48: fill_span(stencil, span, 48, first, last_flags); break;
    case 64: fill_span(stencil, span, 64, first, last_flags); break;
    default: fill_span(stencil, span, stencil->size, first, last_flags); break;
    }
}

void lab_message_refresh(const struct lab_stencil *stencil, unsigned char *message, uint32_t sequence, uint32_t flags)
{
    uint32_t size = stencil->size;
    if (size <= 512) {
        fill_one(stencil, message, size, sequence, flags);
        return;
    }
    uint64_t word0 = label_word(stencil, size, sequence, flags), salt = salt_of(sequence);
    store(message, word0);
    store(message + 8, sum_word(word0, stencil->base_sum + salt * stencil->salted));
    for (uint32_t at = 16; at + 8 <= size; at += stencil->step * 8)
        store(message + at, load(stencil->body + at) + salt);
}

LAB_INLINE uint64_t body_sum(const unsigned char *message, uint32_t length)
{
    /* Four independent sums: one chain of additions would be the limit at memory speed. */
    uint64_t a = 0, b = 0, c = 0, d = 0;
    uint32_t at = 16;
    for (; at + 32 <= length; at += 32) {
        a += load(message + at);
        b += load(message + at + 8);
        c += load(message + at + 16);
        d += load(message + at + 24);
    }
    for (; at + 8 <= length; at += 8)
        a += load(message + at);
    if (length & 7)
        a += tail_of(message, length);
    return a + b + c + d;
}

LAB_INLINE bool read_one(const unsigned char *message, uint32_t length, bool whole, uint64_t *ret_word0)
{
    uint64_t word0 = load(message);
    *ret_word0 = word0;
    if (seal(word0 & UINT64_C(0xffffffffffff), length) != word0)
        return false;
    return length < 16 || !whole || load(message + 8) == sum_word(word0, length > 16 ? body_sum(message, length) : 0);
}

LAB_CLONES bool lab_message_read(const unsigned char *message, uint32_t length, bool whole, struct lab_label *ret_label)
{
    uint64_t word0;
    if (length < LAB_MESSAGE_MIN || !read_one(message, length, whole, &word0))
        return false;
    *ret_label = (struct lab_label){
        .sequence = (uint32_t)word0, .flags = (uint32_t)(word0 >> 32) & 0xff, .sender = (uint8_t)(word0 >> 40),
    };
    return true;
}

LAB_INLINE uint32_t check_span(const struct lab_span *span, uint32_t size, uint32_t first, uint32_t *ret_flags)
{
    const unsigned char *at = span->at;
    size_t stride = span->stride;
    uint32_t count = span->count;
    for (uint32_t i = 0; i < count; i++, at += stride) {
        uint64_t word0;
        if (!read_one(at, size, true, &word0) || (uint32_t)word0 != first + i)
            return i;
        uint32_t flags = (uint32_t)(word0 >> 32) & 0xff;
        if (flags) {
            *ret_flags = flags;
            return i + 1;
        }
    }
    return count;
}

LAB_CLONES uint32_t lab_message_check(const struct lab_stencil *stencil, const struct lab_span *span, uint32_t first, uint32_t *ret_flags)
{
    *ret_flags = 0;
    if (span->length != stencil->size)
        return 0;
    switch (stencil->size) {
    case 8: return check_span(span, 8, first, ret_flags);
    case 48: return check_span(span, 48, first, ret_flags);
    case 64: return check_span(span, 64, first, ret_flags);
    default: return check_span(span, stencil->size, first, ret_flags);
    }
}
