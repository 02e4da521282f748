#include "node/lane/message.h"

#include "base/error.h"
#include "node/lane/stamp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int lab_stencil_init(struct lab_stencil *stencil, uint32_t size, uint16_t sender, uint64_t seed)
{
    unsigned char *body = aligned_alloc(64, LAB_PAGE);
    if (!body)
        return lab_fail(ENOMEM, "no memory for a message of %u bytes", size);
    uint64_t state = seed + sender, sum = 0;
    for (uint32_t at = 0; at < LAB_PAGE; at += 8) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        store(body + at, state ^ state >> 29);
    }
    for (uint32_t at = 16; at + 8 <= size; at += 8)
        sum += load(body + at % LAB_PAGE);
    if (size > 16)
        sum += tail_of(body + (size & ~7u) % LAB_PAGE, size & 7);

    uint32_t step = size <= LAB_SHORT ? 8 : LAB_PAGE;
    *stencil = (struct lab_stencil){
        .size = size, .salted = size < 24 ? 0 : ((size & ~7u) - 16 + step - 1) / step, .sender = sender, .base_sum = sum, .body = body,
    };
    return 0;
}

void lab_stencil_fini(struct lab_stencil *stencil)
{
    free(stencil->body);
    stencil->body = NULL;
}

void lab_message_fill(const struct lab_stencil *stencil, const struct lab_span *span, uint32_t first, uint32_t last_flags)
{
    switch (stencil->size) {
    case 8: fill_span(stencil, span, 8, first, last_flags, NULL); break;
    case 48: fill_span(stencil, span, 48, first, last_flags, NULL); break;
    case 64: fill_span(stencil, span, 64, first, last_flags, NULL); break;
    default: fill_span(stencil, span, stencil->size, first, last_flags, NULL); break;
    }
}

void lab_message_refresh(const struct lab_stencil *stencil, unsigned char *message, uint32_t sequence, uint32_t flags)
{
    uint32_t size = stencil->size;
    if (size <= LAB_SHORT) {
        fill_one(stencil, message, size, sequence, flags);
        return;
    }
    uint64_t word0 = label_word(stencil, size, sequence, flags), salt = salt_of(sequence);
    store(message, word0);
    store(message + 8, sum_word(word0, stencil->base_sum + salt * stencil->salted));
    for (uint32_t at = 16; at + 8 <= size; at += LAB_PAGE)
        store(message + at, load(stencil->body + 16) + salt);
}

bool lab_message_read(const unsigned char *message, uint32_t length, bool whole, struct lab_label *ret_label)
{
    uint64_t word0;
    if (length < LAB_MESSAGE_MIN || !read_one(message, length, whole, &word0))
        return false;
    *ret_label = (struct lab_label){
        .sequence = (uint32_t)word0, .flags = flags_of(word0), .sender = sender_of(word0),
    };
    return true;
}

uint32_t lab_message_check(const struct lab_stencil *stencil, const struct lab_span *span, uint32_t first, uint32_t *ret_flags)
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
