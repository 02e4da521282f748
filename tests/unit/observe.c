/* What the kernel says of this process, of one that is asleep, stopped or dead, and of this host. Truths, never times. */
#include "base/child.h"
#include "base/clock.h"
#include "observe/host.h"
#include "observe/interface.h"
#include "observe/limits.h"
#include "observe/noise.h"
#include "observe/pcb.h"
#include "observe/usage.h"

#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- usage ---- */

static struct lab_usage used_by(void (*work)(void), enum lab_usage_scope scope)
{
    struct lab_usage before, after;
    lab_usage_read(scope, &before);
    work();
    lab_usage_read(scope, &after);
    return lab_usage_delta(&before, &after);
}

static void spin(void)
{
    struct timespec now;
    uint64_t until = 0;
    do {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        uint64_t cpu_ns = (uint64_t)now.tv_sec * LAB_NS_PER_S + (uint64_t)now.tv_nsec;
        until = until ? until : cpu_ns + 2 * LAB_NS_PER_MS;
        if (cpu_ns >= until)
            return;
    } while (true);
}

enum { PAGES = 64 };

static void touch_new_pages(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = PAGES * page;
    unsigned char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    madvise(memory, size, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < size; at += page)
        ((volatile unsigned char *)memory)[at] = 1;
    munmap(memory, size);
}

static void sleep_ten_times(void)
{
    for (int i = 0; i < 10; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL);
}

static void *spin_thread(void *unused)
{
    spin();
    return unused;
}

static void let_another_thread_spin(void)
{
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, spin_thread, NULL), 0);
    pthread_join(other, NULL);
}

static void spinning_costs_cpu_time(void **state)
{
    (void)state;
    struct lab_usage used = used_by(spin, LAB_USAGE_THREAD);
    assert_true(used.cpu_ns >= 2 * LAB_NS_PER_MS);
    assert_true(used.wall_ns >= 2 * LAB_NS_PER_MS);
}

static void every_new_page_is_a_fault(void **state)
{
    (void)state;
    assert_true(used_by(touch_new_pages, LAB_USAGE_THREAD).minor_faults >= PAGES);
    assert_true(used_by(touch_new_pages, LAB_USAGE_PROCESS).minor_faults >= PAGES);
}

static void every_sleep_is_a_voluntary_switch(void **state)
{
    (void)state;
    assert_true(used_by(sleep_ten_times, LAB_USAGE_THREAD).voluntary_switches >= 10);
}

static void another_thread_counts_in_the_process_and_not_in_this_thread(void **state)
{
    (void)state;
    assert_true(used_by(let_another_thread_spin, LAB_USAGE_PROCESS).cpu_ns >= 2 * LAB_NS_PER_MS);
    struct lab_usage mine = used_by(let_another_thread_spin, LAB_USAGE_THREAD);
    assert_true(mine.cpu_ns < mine.wall_ns);
}

static void a_difference_is_never_below_zero(void **state)
{
    (void)state;
    struct lab_usage less = {.run_delay_ns = 5, .cpu_ns = 1}, more = {.run_delay_ns = 9, .cpu_ns = 4};
    struct lab_usage forward = lab_usage_delta(&less, &more), backward = lab_usage_delta(&more, &less);
    assert_int_equal(forward.run_delay_ns, 4);
    assert_int_equal(forward.cpu_ns, 3);
    assert_int_equal(backward.run_delay_ns, 0);
    assert_int_equal(backward.cpu_ns, 0);
}

/* ---- process control blocks ---- */

static void this_process_knows_itself(void **state)
{
    (void)state;
    char name[LAB_PCB_NAME] = {0};
    struct lab_pcb pcb;
    prctl(PR_GET_NAME, name);
    lab_assert_ok(lab_pcb_read(getpid(), &pcb));
    assert_int_equal(pcb.pid, getpid());
    assert_int_equal(pcb.parent, getppid());
    assert_string_equal(pcb.name, name);
    assert_int_equal(pcb.state, 'R');
    assert_int_equal(pcb.threads, 1);
    assert_int_equal(pcb.policy, sched_getscheduler(0));
    assert_true(pcb.resident_bytes > 0 && pcb.resident_bytes <= pcb.virtual_bytes);
    assert_true(pcb.cpu >= 0 && pcb.cpus_allowed[0]);
    assert_true(pcb.started_ns > 0 && pcb.minor_faults > 0);
}

static void a_descriptor_more_is_an_open_file_more(void **state)
{
    (void)state;
    struct lab_pcb before, after;
    lab_assert_ok(lab_pcb_read(getpid(), &before));
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    lab_assert_ok(lab_pcb_read(getpid(), &after));
    close(fd);
    assert_true(before.files_known);
    assert_int_equal(after.open_files, before.open_files + 1);
}

static void switches_are_those_that_getrusage_counts(void **state)
{
    (void)state;
    struct lab_usage before, after;
    struct lab_pcb pcb;
    lab_usage_read(LAB_USAGE_THREAD, &before);
    lab_assert_ok(lab_pcb_read(getpid(), &pcb));
    lab_usage_read(LAB_USAGE_THREAD, &after);
    assert_in_range(pcb.voluntary_switches, before.voluntary_switches, after.voluntary_switches);
    assert_in_range(pcb.involuntary_switches, before.involuntary_switches, after.involuntary_switches);
}

/* Until the state is the one awaited, for ten seconds at most. */
static struct lab_pcb await_state(pid_t pid, char awaited)
{
    struct lab_pcb pcb = {0};
    uint64_t deadline_ns = lab_now_ns() + 10 * LAB_NS_PER_S;
    do
        lab_assert_ok(lab_pcb_read(pid, &pcb));
    while (pcb.state != awaited && lab_now_ns() < deadline_ns);
    assert_int_equal(pcb.state, awaited);
    return pcb;
}

static void a_child_is_seen_asleep_stopped_dead_and_gone(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        /* A name as hostile as a name can be. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "a) R 1 (b");
        for (;;)
            pause();
    }
    assert_true(pid > 0);
    struct lab_pcb pcb;
    uint64_t deadline_ns = lab_now_ns() + 10 * LAB_NS_PER_S;
    do
        pcb = await_state(pid, 'S');
    while ((strcmp(pcb.name, "a) R 1 (b") != 0 || (pcb.place_known && pcb.system_call != SYS_pause)) && lab_now_ns() < deadline_ns);
    assert_string_equal(pcb.name, "a) R 1 (b");
    assert_int_equal(pcb.parent, getpid());
    if (pcb.place_known) {
        assert_int_equal(pcb.system_call, SYS_pause);
        assert_true(pcb.program_counter && pcb.stack_pointer);
    }
    kill(pid, SIGSTOP);
    await_state(pid, 'T');
    kill(pid, SIGKILL);
    pcb = await_state(pid, 'Z');
    assert_int_equal(pcb.resident_bytes, 0);
    assert_false(pcb.place_known);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    pcb.pid = 99;
    lab_assert_fails(lab_pcb_read(pid, &pcb), ESRCH);
    assert_int_equal(pcb.pid, 99);
}

static void numbers_that_are_no_process_are_refused(void **state)
{
    (void)state;
    struct lab_pcb pcb;
    lab_assert_fails(lab_pcb_read(0, &pcb), ESRCH);
    lab_assert_fails(lab_pcb_read(-1, &pcb), ESRCH);
}

/* ---- the host ---- */

static void the_host_is_described_as_the_kernel_describes_it(void **state)
{
    (void)state;
    struct lab_host_facts facts;
    char name[LAB_HOST_TEXT];
    cpu_set_t allowed;
    lab_assert_ok(lab_host_read(&facts));
    assert_null(strstr(facts.hypervisor, "KVMKVM")); /* the signature of cpuid repeats itself */
    assert_int_equal(gethostname(name, sizeof name), 0);
    assert_string_equal(facts.name, name);
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    assert_int_equal(facts.cpu_count, CPU_COUNT(&allowed));
    for (uint32_t i = 0; i < facts.cpu_count; i++)
        assert_true(CPU_ISSET((size_t)facts.cpus[i], &allowed));
    assert_int_equal(facts.cores, sysconf(_SC_NPROCESSORS_ONLN));
    assert_true(facts.memory_bytes > 0 && facts.cpu[0] && facts.kernel[0]);
    assert_int_equal(strlen(facts.boot_id), 36);
}

static void the_cpus_are_those_that_this_process_may_use(void **state)
{
    (void)state;
    struct lab_host_facts facts, pinned;
    cpu_set_t before, one;
    lab_assert_ok(lab_host_read(&facts));
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    CPU_SET((size_t)facts.cpus[facts.cpu_count - 1], &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    int err = lab_host_read(&pinned);
    sched_setaffinity(0, sizeof before, &before);
    lab_assert_ok(err);
    assert_int_equal(pinned.cpu_count, 1);
    assert_int_equal(pinned.cpus[0], facts.cpus[facts.cpu_count - 1]);
}

/* ---- noise and limits ---- */

static struct lab_interfaces parsed(const char *text)
{
    struct lab_interfaces sum = {0, 0};
    FILE *file = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    assert_non_null(file);
    lab_assert_ok(lab_interfaces_parse(file, &sum));
    fclose(file);
    return sum;
}

#define HEADING \
    "Inter-|   Receive                                                |  Transmit\n" \
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"

static void bytes_of_all_interfaces_but_the_loopback_add_up(void **state)
{
    (void)state;
    struct lab_interfaces sum = parsed(HEADING "    lo: 77 1 0 0 0 0 0 0 77 1 0 0 0 0 0 0\n"
                                               "  eth0:18446744073709 9 0 0 0 0 0 3 5000 7 0 0 0 0 0 0\nlocal0: 1 9 0 0 0 0 0 3 2 7 0 0 0 0 0 0\n");
    assert_int_equal(sum.received_bytes, UINT64_C(18446744073710));
    assert_int_equal(sum.sent_bytes, 5002);
    sum = parsed(HEADING "    lo: 77 1 0 0 0 0 0 0 77 1 0 0 0 0 0 0\n");
    assert_int_equal(sum.received_bytes, 0);
}

static void a_count_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"\n", HEADING, HEADING "eth0: many\n", HEADING "eth0: 1 2 3\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct lab_interfaces sum = {4, 5};
        FILE *file = fmemopen((void *)(uintptr_t)texts[i], strlen(texts[i]), "r");
        assert_non_null(file);
        lab_assert_fails(lab_interfaces_parse(file, &sum), EBADMSG);
        assert_int_equal(sum.received_bytes, 4);
        fclose(file);
    }
}

static void two_networks_have_two_names(void **state)
{
    (void)state;
    char here[LAB_NETWORK_TEXT], again[LAB_NETWORK_TEXT], elsewhere[LAB_NETWORK_TEXT];
    struct lab_interfaces some;
    lab_assert_ok(lab_interfaces_read(&some));
    lab_assert_ok(lab_network_name("a", here));
    lab_assert_ok(lab_network_name("a", again));
    lab_assert_ok(lab_network_name("b", elsewhere));
    assert_string_equal(here, again);
    assert_string_not_equal(here, elsewhere);
}

static void noise_is_a_fraction_and_its_longest_detour_part_of_it(void **state)
{
    (void)state;
    for (uint64_t duration_ns = 0; duration_ns <= 2 * LAB_NS_PER_MS; duration_ns += LAB_NS_PER_MS) {
        struct lab_noise_probe noise = lab_noise_measure(duration_ns);
        assert_true(noise.lost_fraction >= 0 && noise.lost_fraction <= 1);
        assert_true((noise.lost_fraction > 0) == (noise.max_ns > 0));
    }
}

static void grades_are_bounded_by_both_figures(void **state)
{
    (void)state;
    assert_string_equal(lab_noise_grade(0, 0), "A");
    assert_string_equal(lab_noise_grade(0.0049, 99999), "A");
    assert_string_equal(lab_noise_grade(0.005, 0), "B");
    assert_string_equal(lab_noise_grade(0, 100000), "B");
    assert_string_equal(lab_noise_grade(0.0199, 999999), "B");
    assert_string_equal(lab_noise_grade(0.02, 0), "C");
    assert_string_equal(lab_noise_grade(0, 1000000), "C");
}

static void every_limit_is_above_zero(void **state)
{
    (void)state;
    double rate = 0;
    assert_true(lab_limit_clock_ns() > 0);
    assert_true(lab_limit_syscall_ns() > 0);
    for (size_t size = 1; size <= 1 << 20; size <<= 10) {
        lab_assert_ok(lab_limit_memcpy(size, &rate));
        assert_true(rate > 0);
    }
}

static void two_threads_pass_a_futex_and_leave_the_affinity_as_it_was(void **state)
{
    (void)state;
    struct lab_host_facts facts;
    cpu_set_t before, after;
    lab_assert_ok(lab_host_read(&facts));
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    for (uint32_t i = 0; i < facts.cpu_count && i < 2; i++) {
        double one_way_ns = 0;
        lab_assert_ok(lab_limit_futex_ns(facts.cpus[0], facts.cpus[i], LAB_NS_PER_MS, &one_way_ns));
        assert_true(one_way_ns > 0);
        assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
        assert_true(CPU_EQUAL(&before, &after));
    }
}

static void a_cpu_that_does_not_exist_is_refused_on_either_side(void **state)
{
    (void)state;
    struct lab_host_facts facts;
    double one_way_ns = -1;
    lab_assert_ok(lab_host_read(&facts));
    lab_assert_fails(lab_limit_futex_ns(CPU_SETSIZE - 1, facts.cpus[0], LAB_NS_PER_MS, &one_way_ns), EINVAL);
    lab_assert_fails(lab_limit_futex_ns(facts.cpus[0], CPU_SETSIZE - 1, LAB_NS_PER_MS, &one_way_ns), EINVAL);
    assert_true(one_way_ns < 0);
}

static void caches_grow_with_their_level(void **state)
{
    (void)state;
    size_t caches[3], last = 0;
    lab_assert_ok(lab_limit_caches(caches));
    for (int level = 0; level < 3; level++)
        if (caches[level]) {
            assert_true(caches[level] >= last);
            last = caches[level];
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spinning_costs_cpu_time),
        cmocka_unit_test(every_new_page_is_a_fault),
        cmocka_unit_test(every_sleep_is_a_voluntary_switch),
        cmocka_unit_test(another_thread_counts_in_the_process_and_not_in_this_thread),
        cmocka_unit_test(a_difference_is_never_below_zero),
        cmocka_unit_test(this_process_knows_itself),
        cmocka_unit_test(a_descriptor_more_is_an_open_file_more),
        cmocka_unit_test(switches_are_those_that_getrusage_counts),
        cmocka_unit_test(a_child_is_seen_asleep_stopped_dead_and_gone),
        cmocka_unit_test(numbers_that_are_no_process_are_refused),
        cmocka_unit_test(the_host_is_described_as_the_kernel_describes_it),
        cmocka_unit_test(the_cpus_are_those_that_this_process_may_use),
        cmocka_unit_test(bytes_of_all_interfaces_but_the_loopback_add_up),
        cmocka_unit_test(a_count_that_is_none_is_refused),
        cmocka_unit_test(two_networks_have_two_names),
        cmocka_unit_test(noise_is_a_fraction_and_its_longest_detour_part_of_it),
        cmocka_unit_test(grades_are_bounded_by_both_figures),
        cmocka_unit_test(every_limit_is_above_zero),
        cmocka_unit_test(two_threads_pass_a_futex_and_leave_the_affinity_as_it_was),
        cmocka_unit_test(a_cpu_that_does_not_exist_is_refused_on_either_side),
        cmocka_unit_test(caches_grow_with_their_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
