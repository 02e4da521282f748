#include "report/result.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const verdicts[LAB_VERDICTS] = {
    [LAB_OK] = "ok",           [LAB_NOISY] = "noisy",     [LAB_TRANSIENT] = "transient",
    [LAB_INVALID] = "invalid", [LAB_SKIPPED] = "skipped", [LAB_FAILED] = "failed",
};

const char *lab_verdict_name(enum lab_verdict verdict)
{
    return (unsigned)verdict < LAB_VERDICTS ? verdicts[verdict] : NULL;
}

const char *lab_proof_name(enum lab_proof proof)
{
    static const char *const names[LAB_PROOFS] = {
        [LAB_PROOF_INTERFACE] = "over-interface", [LAB_PROOF_HOST] = "within-host", [LAB_PROOF_REFUTED] = "refuted",
    };
    return (unsigned)proof < LAB_PROOFS ? names[proof] : NULL;
}

/* Strings live in a list of blocks that only grows: a run is freed as a whole. */
struct block {
    struct block *next;
    size_t used, room;
    char text[];
};
enum { BLOCK_BYTES = 16 * 1024 };

struct lab_run *lab_run_new(void)
{
    return calloc(1, sizeof(struct lab_run));
}

void lab_run_free(struct lab_run *run)
{
    if (!run)
        return;
    for (uint32_t i = 0; i < run->cell_count; i++) {
        for (uint32_t j = 0; j < run->cells[i].launch_count; j++)
            lab_hist_free(run->cells[i].launches[j].latency);
        free(run->cells[i].launches);
    }
    for (struct block *block = run->strings, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    free(run->hosts);
    free(run->libraries);
    free(run->noises);
    free(run->warnings);
    free(run->limits);
    free(run->cells);
    free(run);
}

const char *lab_run_verdict(const struct lab_run *run, enum lab_verdict verdict)
{
    return run->planned && verdict != LAB_SKIPPED ? NULL : lab_verdict_name(verdict);
}

const char *lab_run_string(struct lab_run *run, const char *text)
{
    if (!text)
        return NULL;
    size_t size = strlen(text) + 1;
    struct block *block = run->strings;
    if (!block || block->room - block->used < size) {
        size_t room = size > BLOCK_BYTES ? size : BLOCK_BYTES;
        block = malloc(sizeof *block + room);
        if (!block)
            return NULL;
        *block = (struct block){.next = run->strings, .room = room};
        run->strings = block;
    }
    char *copy = block->text + block->used;
    memcpy(copy, text, size);
    block->used += size;
    return copy;
}

/* The array with room for one element more, the new one zeroed. Capacities are powers of two, so that the count alone
 * tells when it is full. On failure NULL, and the array is as it was. */
static void *grown(void *array, uint32_t count, size_t size)
{
    if ((count & (count - 1)) == 0) {
        size_t capacity = count ? 2 * (size_t)count : 1;
        array = reallocarray(array, capacity, size);
        if (!array)
            return NULL;
    }
    memset((char *)array + count * size, 0, size);
    return array;
}

/* Names of types and members cannot stand in parentheses. NOLINTBEGIN(bugprone-macro-parentheses) */
#define DEFINE_APPEND(function, owner, type, array, count)                                                             \
    struct type *function(struct owner *owner)                                                                         \
    {                                                                                                                  \
        struct type *items = grown(owner->array, owner->count, sizeof *items);                                         \
        if (!items)                                                                                                    \
            return NULL;                                                                                               \
        owner->array = items;                                                                                          \
        return &items[owner->count++];                                                                                 \
    }
/* NOLINTEND(bugprone-macro-parentheses) */

static DEFINE_APPEND(add_noise, lab_run, lab_noise, noises, noise_count)
static DEFINE_APPEND(add_limit, lab_run, lab_limit, limits, limit_count)
static DEFINE_APPEND(add_launch, lab_cell, lab_launch, launches, launch_count)
DEFINE_APPEND(lab_run_add_host, lab_run, lab_host, hosts, host_count)
DEFINE_APPEND(lab_run_add_library, lab_run, lab_library, libraries, library_count)
DEFINE_APPEND(lab_run_add_warning, lab_run, lab_warning, warnings, warning_count)
DEFINE_APPEND(lab_run_add_cell, lab_run, lab_cell, cells, cell_count)

struct lab_noise *lab_run_add_noise(struct lab_run *run)
{
    struct lab_noise *noise = add_noise(run);
    if (noise)
        noise->lost_fraction = (double)NAN;
    return noise;
}

struct lab_limit *lab_run_add_limit(struct lab_run *run)
{
    struct lab_limit *limit = add_limit(run);
    if (limit)
        limit->value = (double)NAN;
    return limit;
}

struct lab_launch *lab_cell_add_launch(struct lab_cell *cell)
{
    struct lab_launch *launch = add_launch(cell);
    if (launch) {
        launch->messages_per_s = launch->bytes_per_s = launch->handoff_ns = (double)NAN;
        launch->encode_ns = launch->enqueue_ns = launch->decode_ns = launch->one_way_ns = (double)NAN;
    }
    return launch;
}
