/* An operation of a shared structure, whose party is killed at every single instruction of it, and what the others have to say then.
 *
 *     static const struct row rows[] = {{{.name = "reserve, commit", .set_up = ..., .operate = ..., .survive = ..., .all = 1}, ...}, ...};
 *     static const struct row faults[] = {{{.name = "publishes what is not written", ...}, ...}};
 *
 *     int main(void)
 *     {
 *         static struct scene scene;
 *         return lab_crash_main("ring", LAB_CRASH_TABLE(rows), LAB_CRASH_TABLE(faults), &scene);
 *     }
 *
 * Faults are operations made wrong on purpose, which the same survivors must not put up with: what finds nothing in them would find
 * nothing anywhere. */
#ifndef LAB_TESTS_CRASH_H
#define LAB_TESTS_CRASH_H

#include "tests/stepper.h"

#include <sys/mman.h>

/* One operation of one structure. `scene` is the caller's; what victim and survivors share in it is mapped shared. */
struct lab_crash {
    const char *name;
    void (*set_up)(void *scene, const struct lab_crash *row); /* afresh for each death: the structure, as the operation is to find it */
    void (*operate)(void *scene);                             /* the victim, in its child */
    void (*meanwhile)(void *scene); /* who is to be at work while it dies, or NULL; begun before its first step */
    void (*nudge)(void *scene);     /* wakes the victim, which sleeps; NULL: it does not, or for ever (`sleeps`) */
    /* Hangs up for the victim, and looks whether all others can do what they may expect: NULL, or what they cannot.
     * `ret_seen`: how much of the operation they have seen, which never becomes less as more of it was executed. */
    const char *(*survive)(void *scene, uint32_t *ret_seen);
    void (*tear_down)(void *scene);
    uint32_t all; /* so much is seen of an operation that was not disturbed, or sleeps */
    bool sleeps;
};

/* A row; `tear_down` is the file's own. */
#define LAB_CRASH(name_, set_up_, operate_, survive_, all_) \
    .name = name_, .set_up = set_up_, .operate = operate_, .survive = survive_, .tear_down = tear_down, .all = all_

/* In `survive`: what is not so is the verdict. */
#define LAB_EXPECT(condition)                        \
    do {                                             \
        if (!(condition))                            \
            return "it does not hold: " #condition;  \
    } while (0)

/* Someone else's verdict. */
#define LAB_EXPECT_FINE(call)         \
    do {                              \
        const char *wrong_ = (call);  \
        if (wrong_)                   \
            return wrong_;            \
    } while (0)

static inline void *lab_shared_bytes(size_t size)
{
    void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(bytes != MAP_FAILED);
    return bytes;
}

/* What came of an operation that was killed everywhere, or up to where something was wrong. */
struct lab_verdict {
    const char *wrong;     /* NULL: nothing */
    uint32_t instructions; /* executed when it was killed; if nothing is wrong, all of them */
    uint32_t seen, changes;
    uint32_t missed;       /* instructions at which nobody was killed, for all strayed: while the clock was read, mostly */
};
enum { LAB_TRIES = 4 };

static inline struct lab_victim lab_crash_begin(const struct lab_crash *crash, void *scene)
{
    crash->set_up(scene, crash);
    struct lab_victim victim = lab_victim_start(crash->operate, scene, crash->nudge, crash->sleeps);
    if (crash->meanwhile)
        crash->meanwhile(scene);
    return victim;
}

/* Kills the victim after that many instructions, or, when they are all, not at all. Where it was killed elsewhere, only what the others
 * have to say counts. */
static inline enum lab_death lab_crash_once(const struct lab_crash *crash, void *scene, const struct lab_path *path, uint32_t instructions,
                                            struct lab_verdict *verdict)
{
    uint32_t seen = 0;
    enum lab_death death;
    struct lab_victim victim = lab_crash_begin(crash, scene);
    bool last = instructions == path->length;
    if (last)
        death = lab_victim_finish(&victim) || crash->sleeps ? LAB_THROUGH : LAB_STRAYED;
    else
        death = lab_victim_kill_after(&victim, path, instructions);
    verdict->instructions = instructions;
    verdict->wrong = crash->survive(scene, &seen);
    crash->tear_down(scene);
    if (!verdict->wrong && death == LAB_THROUGH && seen != crash->all)
        verdict->wrong = "not all of it is seen though it was whole";
    if (death != LAB_THERE && !last)
        return death;
    if (!verdict->wrong && seen < verdict->seen)
        verdict->wrong = "less of it is seen than before";
    verdict->changes += seen != verdict->seen;
    verdict->seen = seen;
    return death;
}

static inline void lab_crash_trace(const struct lab_crash *crash, void *scene, struct lab_path *path)
{
    uint32_t ignored = 0;
    struct lab_victim victim = lab_crash_begin(crash, scene);
    lab_path_trace(path, &victim);
    crash->survive(scene, &ignored);
    crash->tear_down(scene);
}

/* Kills the victim after 0, 1, 2, ... instructions, and lets it end, until something is wrong. */
static inline struct lab_verdict lab_crash_everywhere(const struct lab_crash *crash, void *scene, struct lab_path *path)
{
    struct lab_verdict verdict = {0};
    lab_crash_trace(crash, scene, path);
    for (uint32_t instructions = 0; instructions <= path->length && !verdict.wrong; instructions++) {
        enum lab_death death = LAB_STRAYED;
        for (int i = 0; i < LAB_TRIES && death != LAB_THERE && !verdict.wrong; i++)
            death = lab_crash_once(crash, scene, path, instructions, &verdict);
        verdict.missed += death != LAB_THERE && instructions < path->length;
    }
    return verdict;
}

/* ---- a table of them ---- */

struct lab_crash_table {
    const struct lab_crash *first; /* in front of each row */
    size_t rows, row_size;
};
#define LAB_CRASH_TABLE(table) ((struct lab_crash_table){&(table)[0].crash, sizeof(table) / sizeof *(table), sizeof *(table)})

static struct {
    const char *structure;
    struct lab_crash_table rows, faults;
    void *scene;
    struct lab_path path;
} lab_crash_set;

static inline const struct lab_crash *lab_crash_row(const struct lab_crash_table *table, size_t row)
{
    return (const void *)((const unsigned char *)table->first + row * table->row_size);
}

static void survivors_go_on_wherever_a_party_is_killed(void **state)
{
    (void)state;
    uint32_t instructions = 0;
    for (size_t i = 0; i < lab_crash_set.rows.rows; i++) {
        const struct lab_crash *crash = lab_crash_row(&lab_crash_set.rows, i);
        struct lab_verdict verdict = lab_crash_everywhere(crash, lab_crash_set.scene, &lab_crash_set.path);
        if (verdict.wrong)
            fail_msg("%s: killed after %u of %u instructions, with %u of %u seen: %s", crash->name, verdict.instructions,
                     lab_crash_set.path.length, verdict.seen, crash->all, verdict.wrong);
        if (verdict.missed > verdict.instructions / 2)
            fail_msg("%s: %u of %u victims took another way", crash->name, verdict.missed, verdict.instructions);
        print_message("%s: killed at each of %u instructions%s, %u made a difference, %u missed\n", crash->name, verdict.instructions,
                      lab_crash_set.path.sleeps ? " and in its sleep" : "", verdict.changes, verdict.missed);
        instructions += verdict.instructions - verdict.missed;
    }
    print_message("%s: %zu operations, %u instructions, each of them somebody's last\n", lab_crash_set.structure, lab_crash_set.rows.rows,
                  instructions);
}

static void survivors_do_not_put_up_with_faults(void **state)
{
    (void)state;
    for (size_t i = 0; i < lab_crash_set.faults.rows; i++) {
        const struct lab_crash *crash = lab_crash_row(&lab_crash_set.faults, i);
        struct lab_verdict verdict = lab_crash_everywhere(crash, lab_crash_set.scene, &lab_crash_set.path);
        if (!verdict.wrong)
            fail_msg("%s: nobody noticed", crash->name);
        print_message("%s: caught after %u of %u instructions: %s\n", crash->name, verdict.instructions, lab_crash_set.path.length,
                      verdict.wrong ? verdict.wrong : "");
    }
}

/* Parent and child on one cpu: the steps then wait for no other to be woken. */
static inline void lab_stay_on_this_cpu(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
}

static inline int lab_crash_main(const char *structure, struct lab_crash_table rows, struct lab_crash_table faults, void *scene)
{
    const char *why_not = lab_why_not_step();
    if (why_not)
        lab_test_skip_all(why_not);
    lab_crash_set.structure = structure;
    lab_crash_set.rows = rows;
    lab_crash_set.faults = faults;
    lab_crash_set.scene = scene;
    lab_stay_on_this_cpu();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survivors_go_on_wherever_a_party_is_killed),
        cmocka_unit_test(survivors_do_not_put_up_with_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
