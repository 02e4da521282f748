/* A record of several words is written by one process while another one reads it. Each word is read whole, for it is one access of
 * the processor; the record is not, for it is several. The guard is a sequence lock: the writer makes a number odd while it writes, and
 * whoever has seen an odd number or two different ones reads again (Lameter, Effective synchronization on Linux/NUMA systems, 2005; the
 * fences as in Boehm, Can seqlocks get along with programming language memory models?, 2012). */
#include "node/hazards/box.h"
#include "node/hazards/hazards.h"
#include "shm/wait.h"

#include <math.h>

enum { WORDS = 16, READS_MAX = 10000000, BETWEEN_CLOCKS = 1024, REST = 32 };

struct record {
    _Atomic uint32_t arrived, guarded, over;
    _Alignas(128) _Atomic uint64_t sequence;
    _Atomic uint64_t words[WORDS];
    _Alignas(128) uint64_t reads, torn;
};

static void write_words(struct record *record, uint64_t value)
{
    for (int i = 0; i < WORDS; i++)
        atomic_store_explicit(&record->words[i], value, memory_order_relaxed);
}

static void write_guarded(struct record *record, uint64_t value)
{
    atomic_store_explicit(&record->sequence, 2 * value - 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    write_words(record, value);
    atomic_store_explicit(&record->sequence, 2 * value, memory_order_release);
}

static void writer(void *memory, uint32_t number, uint64_t deadline_ns)
{
    (void)number;
    struct record *record = memory;
    bool guarded = atomic_load(&record->guarded);
    lab_box_meet(&record->arrived, 2, deadline_ns);
    for (uint64_t value = 1; !atomic_load_explicit(&record->over, memory_order_relaxed); value++) {
        if (guarded)
            write_guarded(record, value);
        else
            write_words(record, value);
        /* A writer that never rests leaves a reader who has to read again no time to do so. */
        for (int i = 0; i < REST; i++)
            lab_wait_pause();
        if (value % BETWEEN_CLOCKS == 0 && lab_now_ns() >= deadline_ns)
            return;
    }
}

static void read_words(struct record *record, uint64_t to[WORDS])
{
    for (int i = 0; i < WORDS; i++)
        to[i] = atomic_load_explicit(&record->words[i], memory_order_relaxed);
}

static bool try_to_read_guarded(struct record *record, uint64_t to[WORDS])
{
    uint64_t before = atomic_load_explicit(&record->sequence, memory_order_acquire);
    read_words(record, to);
    atomic_thread_fence(memory_order_acquire);
    return before % 2 == 0 && atomic_load_explicit(&record->sequence, memory_order_relaxed) == before;
}

static bool is_torn(const uint64_t words[WORDS])
{
    bool torn = false;
    for (int i = 1; i < WORDS; i++)
        torn = torn || words[i] != words[0];
    return torn;
}

static void reader(void *memory, uint32_t number, uint64_t deadline_ns)
{
    (void)number;
    struct record *record = memory;
    bool guarded = atomic_load(&record->guarded);
    uint64_t words[WORDS], looks = 0;
    lab_box_meet(&record->arrived, 2, deadline_ns);
    while (record->reads < READS_MAX && (looks++ % BETWEEN_CLOCKS || lab_now_ns() < deadline_ns)) {
        if (!guarded)
            read_words(record, words);
        else if (!try_to_read_guarded(record, words))
            continue;
        record->reads++;
        record->torn += is_torn(words);
    }
    atomic_store(&record->over, 1);
}

static int show(bool guarded, uint64_t budget_ns, struct lab_hazard_seen *ret_seen)
{
    struct lab_box box;
    int err = lab_box_open(&box, sizeof(struct record), budget_ns);
    if (err)
        return err;
    struct record *record = box.segment.memory;
    atomic_store(&record->guarded, guarded);
    uint64_t began_ns = lab_now_ns();
    err = lab_box_start(&box, writer);
    if (!err)
        err = lab_box_start(&box, reader);
    if (!err)
        err = lab_box_join(&box);
    if (!err)
        *ret_seen = (struct lab_hazard_seen){record->reads, record->torn, lab_now_ns() - began_ns, (double)NAN, (double)NAN};
    lab_box_close(&box);
    return err;
}

const struct lab_hazard lab_hazard_torn_read = {
    .name = "torn-read", .question = "What does one process read while another one writes a record of 128 bytes?",
    .tried = "reads", .wrong = "torn",
    .guard = {"none", "sequence lock"},
    .expected = {"some reads are half of one record and half of the next", "no read is torn: what changed meanwhile is read again"},
    .show = show,
};
