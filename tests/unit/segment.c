#include "tests/check.h"

#include "base/clock.h"
#include "sweep/clean.h"
#include "shm/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

/* ---- the kinds ---- */

static int handle_of(const struct lab_segment *segment)
{
    return segment->backing == LAB_BACKING_SYSV ? segment->id : segment->fd;
}

/* What this machine has not got is passed over, and said. */
static void for_each_backing(void (*check)(enum lab_backing backing))
{
    struct lab_huge_pages pages;
    lab_huge_pages_read(&pages);
    for (enum lab_backing backing = 0; backing < LAB_BACKINGS; backing++) {
        char mend[LAB_HUGE_PAGES_TEXT];
        bool lacking = backing == LAB_BACKING_HUGEPAGE && pages.free < 2;
        if (lab_backing_usable(backing) || lacking)
            print_message("not checked: %s\n", lacking ? lab_huge_pages_mend(&pages, 2, mend) : lab_error_last()->text);
        else
            check(backing);
    }
}

/* The line of /proc/self/maps for an address. */
static char *mapping_of(const void *address, char line[512])
{
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    unsigned long begin = 0;
    while (fgets(line, 512, maps) && !(sscanf(line, "%lx-", &begin) == 1 && begin == (unsigned long)address))
        ;
    fclose(maps);
    assert_int_equal(begin, (unsigned long)address);
    return line;
}

static void check_kind(enum lab_backing backing)
{
    static const char *const path[LAB_BACKINGS] = {
        [LAB_BACKING_MEMFD] = "/memfd:ipclab-kind (deleted)", [LAB_BACKING_POSIX] = "/dev/shm/#",
        [LAB_BACKING_FILE] = "/ipclab-room-",                 [LAB_BACKING_SYSV] = "/SYSV1ab",
        [LAB_BACKING_HUGEPAGE] = "/memfd:ipclab-kind (deleted)",
    };
    struct lab_segment made, seen;
    char line[512];
    lab_assert_ok(lab_segment_create_on(backing, "kind", 5000, &made));
    assert_true(made.size >= 5000 && (uintptr_t)made.memory % 128 == 0);
    if (!strstr(mapping_of(made.mapping, line), path[backing]))
        fail_msg("%s is mapped as %s", lab_backing_name(backing), line);
    memcpy(made.memory, "here", sizeof "here");
    lab_segment_ready(&made);
    lab_assert_ok(lab_segment_attach_on(backing, handle_of(&made), soon(), &seen));
    assert_ptr_not_equal(seen.memory, made.memory);
    assert_int_equal(seen.size, made.size);
    assert_string_equal(seen.memory, "here");
    lab_segment_fini(&made);
    memset(seen.memory, 7, seen.size);
    lab_segment_fini(&seen);
}

static void each_backing_is_a_mapping_of_its_kind_that_two_share(void **state)
{
    (void)state;
    for_each_backing(check_kind);
}

static void check_allocated(enum lab_backing backing)
{
    enum { PAGES = 64 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char there[PAGES];
    struct lab_segment made;
    lab_assert_ok(lab_segment_create_on(backing, "test", PAGES * page - LAB_SEGMENT_HEAD, &made));
    assert_int_equal(mincore(made.mapping, PAGES * page, there), 0);
    for (size_t i = 0; i < PAGES; i++)
        assert_true(there[i] & 1);
    for (size_t i = 0; i < made.size; i++)
        assert_int_equal(((unsigned char *)made.memory)[i], 0);
    lab_segment_fini(&made);
}

static void every_page_is_there_and_zero_before_it_is_touched(void **state)
{
    (void)state;
    for_each_backing(check_allocated);
}

static void check_size(enum lab_backing backing)
{
    struct lab_segment made;
    lab_assert_ok(lab_segment_create_on(backing, "test", 100, &made));
    bool sealed = backing == LAB_BACKING_MEMFD || backing == LAB_BACKING_HUGEPAGE;
    if (backing != LAB_BACKING_SYSV)
        assert_int_equal(ftruncate(made.fd, 0), sealed ? -1 : 0);
    lab_segment_fini(&made);
}

/* Who shares memory of the other kinds is at the mercy of whom it shares it with, as segment.h says. */
static void only_what_is_sealed_keeps_its_size_against_a_hostile_peer(void **state)
{
    (void)state;
    for_each_backing(check_size);
}

static void check_too_much(enum lab_backing backing)
{
    struct lab_segment made = {.fd = 99};
    int before = open_descriptors();
    assert_true(lab_segment_create_on(backing, "huge", (size_t)1 << 46, &made) < 0);
    assert_true(strlen(lab_error_last()->text) > 20);
    assert_int_equal(made.fd, 99);
    assert_int_equal(open_descriptors(), before);
}

static void too_much_of_any_kind_is_refused_in_words(void **state)
{
    (void)state;
    for_each_backing(check_too_much);
}

static void too_few_huge_pages_are_told_with_their_mend(void **state)
{
    (void)state;
    const struct lab_huge_pages some = {.size = 2 << 20, .reserved = 10, .free = 3}, none = {0};
    char mend[LAB_HUGE_PAGES_TEXT];
    assert_string_equal(lab_huge_pages_mend(&some, 5, mend),
                        "3 huge pages of 2 MiB are free, and 5 are needed; as root: sysctl vm.nr_hugepages=12");
    assert_string_equal(lab_huge_pages_mend(&none, 5, mend), "this kernel was built without huge pages");
    struct lab_huge_pages pages;
    lab_huge_pages_read(&pages);
    if (pages.size == 0 || pages.free)
        lab_test_skip("huge pages are there, or there can be none");
    struct lab_segment made;
    assert_true(lab_segment_create_on(LAB_BACKING_HUGEPAGE, "test", 100, &made) < 0);
    assert_non_null(strstr(lab_error_last()->text, "sysctl vm.nr_hugepages="));
}

/* ---- names ---- */

static int entries(const char *path)
{
    DIR *directory = opendir(path);
    assert_non_null(directory);
    int count = 0;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static char room[] = "/tmp/ipclab-room-XXXXXX";

static void check_killed(enum lab_backing backing)
{
    enum { KILLS = 50 };
    for (int i = 0; i < KILLS; i++) {
        int told[2];
        assert_int_equal(pipe(told), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (char began = 'b';; began = 0) {
                struct lab_segment made;
                if (began && write(told[1], &began, 1) != 1)
                    _exit(1);
                if (lab_segment_create_on(backing, "test", 5000, &made))
                    _exit(1);
                lab_segment_fini(&made);
            }
        }
        char began;
        assert_int_equal(read(told[0], &began, 1), 1);
        lab_spin_for((uint64_t)i * 7 * LAB_NS_PER_US);
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        close(told[0]);
        close(told[1]);
    }
    assert_int_equal(entries(room), 2);
}

/* What a maker of System V segments can leave is the next test's. Others use /dev/shm too: it is e2e's to look there. */
static void a_maker_that_is_killed_at_any_moment_leaves_no_name(void **state)
{
    (void)state;
    for_each_backing(check_killed);
    lab_clean_sysv(NULL, false);
}

static bool is_there(int id)
{
    struct shmid_ds facts;
    return shmctl(id, IPC_STAT, &facts) == 0;
}

/* A child stands where a node is that was killed between two system calls. */
static void a_system_v_segment_whose_maker_was_killed_is_swept_and_no_other(void **state)
{
    (void)state;
    int told[2], left, foreign;
    assert_int_equal(pipe(told), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int made[2] = {shmget((key_t)(LAB_SYSV_KEY | 0x5a5a5), 4096, IPC_CREAT | IPC_EXCL | 0600), shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600)};
        if (write(told[1], made, sizeof made) != sizeof made)
            _exit(1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(told[0], &left, sizeof left), sizeof left);
    assert_int_equal(read(told[0], &foreign, sizeof foreign), sizeof foreign);
    close(told[0]);
    close(told[1]);
    struct lab_segment attached;
    lab_assert_ok(lab_segment_create_on(LAB_BACKING_SYSV, "test", 100, &attached));

    lab_clean_sysv(NULL, false);
    assert_true(is_there(left)); /* its maker lives */
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_true(lab_clean_sysv(NULL, true) >= 1);
    assert_true(is_there(left)); /* it only looked */
    assert_true(lab_clean_sysv(NULL, false) >= 1);
    assert_false(is_there(left));
    assert_true(is_there(foreign));
    assert_true(is_there(attached.id));
    shmctl(foreign, IPC_RMID, NULL);
    int id = attached.id;
    lab_segment_fini(&attached);
    assert_false(is_there(id));
}

static void backings_have_names_and_nothing_else_has(void **state)
{
    (void)state;
    enum lab_backing found = LAB_BACKINGS;
    for (enum lab_backing backing = 0; backing < LAB_BACKINGS; backing++) {
        lab_assert_ok(lab_backing_named(lab_backing_name(backing), &found));
        assert_int_equal(found, backing);
    }
    lab_assert_ok(lab_backing_named("", &found));
    assert_int_equal(found, LAB_BACKING_MEMFD);
    assert_null(lab_backing_name(LAB_BACKINGS));
    lab_assert_fails(lab_backing_named("paper", &found), EINVAL);
    int fd;
    lab_assert_fails(lab_backing_open(LAB_BACKING_SYSV, "test", &fd), EINVAL);
}

static void a_directory_that_cannot_have_the_file_is_named(void **state)
{
    (void)state;
    setenv("TMPDIR", "/proc", 1);
    assert_true(lab_backing_usable(LAB_BACKING_FILE) < 0);
    assert_non_null(strstr(lab_error_last()->text, "in /proc: set TMPDIR"));
    setenv("TMPDIR", room, 1);
    lab_assert_ok(lab_backing_usable(LAB_BACKING_FILE));
}

int main(void)
{
    if (!mkdtemp(room) || setenv("TMPDIR", room, 1))
        return 1;
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
        cmocka_unit_test(each_backing_is_a_mapping_of_its_kind_that_two_share),
        cmocka_unit_test(every_page_is_there_and_zero_before_it_is_touched),
        cmocka_unit_test(only_what_is_sealed_keeps_its_size_against_a_hostile_peer),
        cmocka_unit_test(too_much_of_any_kind_is_refused_in_words),
        cmocka_unit_test(too_few_huge_pages_are_told_with_their_mend),
        cmocka_unit_test(a_maker_that_is_killed_at_any_moment_leaves_no_name),
        cmocka_unit_test(a_system_v_segment_whose_maker_was_killed_is_swept_and_no_other),
        cmocka_unit_test(backings_have_names_and_nothing_else_has),
        cmocka_unit_test(a_directory_that_cannot_have_the_file_is_named),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(room);
    return failed;
}
