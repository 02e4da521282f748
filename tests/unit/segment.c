#include "tests/check.h"

#include "base/clock.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t soon(void)
{
    return lab_now_ns() + 5 * LAB_NS_PER_S;
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void what_one_mapping_writes_another_reads(void **state)
{
    (void)state;
    struct lab_segment made, seen;
    lab_assert_ok(lab_segment_create("test", 5000, &made));
    assert_true(made.size >= 5000);
    assert_int_equal((uintptr_t)made.memory % 128, 0);
    for (size_t i = 0; i < made.size; i++)
        assert_int_equal(((unsigned char *)made.memory)[i], 0);
    memcpy(made.memory, "here", sizeof "here");
    lab_segment_ready(&made);
    lab_assert_ok(lab_segment_attach(made.fd, soon(), &seen));
    assert_ptr_not_equal(seen.memory, made.memory);
    assert_int_equal(seen.size, made.size);
    assert_string_equal(seen.memory, "here");
    assert_int_equal(seen.fd, -1);
    lab_segment_fini(&seen);
    lab_segment_fini(&made);
    lab_segment_fini(&made);
}

static void the_memory_outlives_its_descriptor_and_its_maker(void **state)
{
    (void)state;
    struct lab_segment made, seen;
    lab_assert_ok(lab_segment_create("test", 100, &made));
    lab_segment_ready(&made);
    int fd = lab_segment_take_fd(&made);
    lab_assert_ok(lab_segment_attach(fd, soon(), &seen));
    lab_segment_fini(&made);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    close(fd);
    memset(seen.memory, 7, seen.size);
    lab_segment_fini(&seen);
}

static void it_can_neither_shrink_nor_grow_nor_be_unsealed(void **state)
{
    (void)state;
    struct lab_segment made;
    lab_assert_ok(lab_segment_create("test", 100000, &made));
    assert_int_equal(ftruncate(made.fd, 4096), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(made.fd, 1 << 20), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(fcntl(made.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    struct stat stat;
    assert_int_equal(fstat(made.fd, &stat), 0);
    assert_true(stat.st_blocks * 512 >= stat.st_size);
    assert_true(fcntl(made.fd, F_GETFD) & FD_CLOEXEC);
    lab_segment_fini(&made);
}

static void a_segment_that_never_becomes_ready_is_waited_for_until_the_deadline(void **state)
{
    (void)state;
    struct lab_segment made, seen = {.fd = 99};
    lab_assert_ok(lab_segment_create("test", 100, &made));
    uint64_t deadline_ns = lab_now_ns() + 5 * LAB_NS_PER_MS;
    assert_int_equal(lab_segment_attach(made.fd, deadline_ns, &seen), -EAGAIN);
    assert_true(lab_now_ns() >= deadline_ns);
    assert_int_equal(lab_segment_attach(made.fd, 0, &seen), -EAGAIN);
    assert_int_equal(seen.fd, 99);
    lab_segment_fini(&made);
}

static void *becomes_ready(void *segment)
{
    lab_segment_ready(segment);
    return NULL;
}

static void attaching_waits_for_a_maker_that_is_still_building(void **state)
{
    (void)state;
    struct lab_segment made, seen;
    lab_assert_ok(lab_segment_create("test", 100, &made));
    pthread_t maker;
    assert_int_equal(pthread_create(&maker, NULL, becomes_ready, &made), 0);
    lab_assert_ok(lab_segment_attach(made.fd, soon(), &seen));
    pthread_join(maker, NULL);
    lab_segment_fini(&seen);
    lab_segment_fini(&made);
}

static int memfd_of(size_t size, unsigned seals)
{
    int fd = memfd_create("foreign", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void memory_that_is_no_segment_is_refused(void **state)
{
    (void)state;
    const unsigned all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    struct lab_segment seen;
    int foreign = memfd_of(8192, all), unsealed = memfd_of(8192, F_SEAL_GROW), tiny = memfd_of(64, all), empty = memfd_of(0, all);
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    lab_assert_fails(lab_segment_attach(foreign, soon(), &seen), EBADMSG);
    lab_assert_fails(lab_segment_attach(unsealed, soon(), &seen), EBADMSG);
    lab_assert_fails(lab_segment_attach(tiny, soon(), &seen), EBADMSG);
    lab_assert_fails(lab_segment_attach(empty, soon(), &seen), EBADMSG);
    lab_assert_fails(lab_segment_attach(pipes[0], soon(), &seen), EBADMSG);
    lab_assert_fails(lab_segment_attach(-1, soon(), &seen), EBADF);
    close(foreign);
    close(unsealed);
    close(tiny);
    close(empty);
    close(pipes[0]);
    close(pipes[1]);
}

/* Each 4-byte word of the head in turn, flipped: attach has to see it, whichever it is. */
static void a_head_that_was_overwritten_is_refused(void **state)
{
    (void)state;
    struct lab_segment made, seen;
    lab_assert_ok(lab_segment_create("test", 100, &made));
    lab_segment_ready(&made);
    static const unsigned words[] = {0, 1, 2, 4, 5, 6};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        uint32_t *word = (uint32_t *)made.mapping + words[i];
        *word ^= 0x40000000u;
        lab_assert_fails(lab_segment_attach(made.fd, soon(), &seen), EBADMSG);
        *word ^= 0x40000000u;
    }
    lab_assert_ok(lab_segment_attach(made.fd, soon(), &seen));
    lab_segment_fini(&seen);
    lab_segment_fini(&made);
}

static void what_the_machine_cannot_give_is_refused_before_it_is_taken(void **state)
{
    (void)state;
    struct lab_segment made = {.fd = 99};
    int before = open_descriptors();
    lab_assert_fails(lab_segment_create("huge", (size_t)1 << 46, &made), ENOMEM);
    assert_non_null(strstr(lab_error_last()->text, "MiB"));
    lab_assert_fails(lab_segment_create("absurd", SIZE_MAX - 5, &made), ENOMEM);
    assert_int_equal(made.fd, 99);
    assert_int_equal(open_descriptors(), before);
}

static void nothing_stays_open(void **state)
{
    (void)state;
    int before = open_descriptors();
    for (int i = 0; i < 10; i++) {
        struct lab_segment made, seen;
        lab_assert_ok(lab_segment_create("test", 100, &made));
        assert_int_equal(lab_segment_attach(made.fd, 0, &seen), -EAGAIN);
        lab_segment_ready(&made);
        lab_assert_ok(lab_segment_attach(made.fd, soon(), &seen));
        lab_segment_fini(&seen);
        lab_segment_fini(&made);
    }
    assert_int_equal(open_descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_mapping_writes_another_reads),
        cmocka_unit_test(the_memory_outlives_its_descriptor_and_its_maker),
        cmocka_unit_test(it_can_neither_shrink_nor_grow_nor_be_unsealed),
        cmocka_unit_test(a_segment_that_never_becomes_ready_is_waited_for_until_the_deadline),
        cmocka_unit_test(attaching_waits_for_a_maker_that_is_still_building),
        cmocka_unit_test(memory_that_is_no_segment_is_refused),
        cmocka_unit_test(a_head_that_was_overwritten_is_refused),
        cmocka_unit_test(what_the_machine_cannot_give_is_refused_before_it_is_taken),
        cmocka_unit_test(nothing_stays_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
