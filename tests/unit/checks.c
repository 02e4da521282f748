/* What doctor makes of a machine that is described here and is nobody's: every fault has its level and its mend. */
#include "base/clock.h"
#include "base/version.h"
#include "launcher/checks.h"
#include "launcher/facts.h"

#include "tests/check.h"

#include <errno.h>
#include <string.h>

/* A host on which nothing is wrong. */
static struct lab_facts healthy(void)
{
    char text[1024];
    struct lab_facts facts;
    snprintf(text, sizeof text,
             "version %s %u\nhost lab1\nclock 5000000000\ncpus 4 4\nshm 1073741824 2147483648\nfiles 1048576\nports 32768 60999\ngovernor performance\n"
             "ucx 1.13.1\nreach 0\nlater this word is not known yet\nend\n",
             LAB_VERSION, (unsigned)LAB_PROTOCOL);
    lab_assert_ok(lab_facts_parse(text, &facts));
    facts.asked_ns = 4900 * LAB_NS_PER_MS;
    facts.heard_ns = 5100 * LAB_NS_PER_MS;
    facts.nodes = 2;
    facts.rndv_thresh = "inf";
    strcpy(facts.address, "10.77.0.254:4711");
    return facts;
}

static unsigned count(const struct lab_facts *facts, enum lab_gravity gravity)
{
    struct lab_finding finding;
    unsigned found = 0;
    for (size_t i = 0; lab_check_name(i); i++)
        for (size_t n = 0; lab_check_run(i, facts, n, &finding); n++) {
            assert_true(finding.text[0]);
            assert_true((finding.gravity == LAB_WELL) == !finding.mend[0]);
            found += finding.gravity == gravity;
        }
    return found;
}

/* The one thing that is wrong. */
static void assert_wrong(const struct lab_facts *facts, const char *check, enum lab_gravity gravity, const char *text, const char *mend)
{
    struct lab_finding finding;
    assert_int_equal(count(facts, LAB_DISTURBS) + count(facts, LAB_PREVENTS), 1);
    for (size_t i = 0; lab_check_name(i); i++)
        for (size_t n = 0; lab_check_run(i, facts, n, &finding); n++)
            if (finding.gravity != LAB_WELL) {
                assert_string_equal(lab_check_name(i), check);
                assert_int_equal(finding.gravity, gravity);
                assert_string_equal(finding.text, text);
                assert_string_equal(finding.mend, mend);
            }
}

static void nothing_is_wrong_with_a_healthy_host(void **state)
{
    (void)state;
    struct lab_facts facts = healthy();
    assert_int_equal(count(&facts, LAB_WELL), 12);
    assert_int_equal(count(&facts, LAB_DISTURBS) + count(&facts, LAB_PREVENTS), 0);
    assert_string_equal(facts.host, "lab1");
    facts.here = true;
    facts.reach = -1;
    assert_int_equal(count(&facts, LAB_WELL), 8); /* no clock, way back, slots or wire to look at */
}

static void a_clock_is_wrong_only_beyond_what_the_question_took(void **state)
{
    (void)state;
    static const char mend[] = "on that host, as root: timedatectl set-ntp true";
    struct lab_facts facts = healthy();
    facts.clock_ns = facts.heard_ns + 100 * LAB_NS_PER_MS;
    assert_int_equal(count(&facts, LAB_DISTURBS), 0);
    facts.clock_ns = facts.heard_ns + 1500 * LAB_NS_PER_MS;
    assert_wrong(&facts, "clock", LAB_DISTURBS, "its time of day is 1.5 s ahead of that of this machine: its logs and files do not fit a run's", mend);
    facts.clock_ns = facts.asked_ns - 2500 * LAB_NS_PER_MS;
    assert_wrong(&facts, "clock", LAB_DISTURBS, "its time of day is 2.5 s behind that of this machine: its logs and files do not fit a run's", mend);
}

static void another_version_and_no_way_back_prevent_a_run(void **state)
{
    (void)state;
    struct lab_facts facts = healthy();
    char text[128];
    strcpy(facts.version, "9.9.9");
    snprintf(text, sizeof text, "ipclab 9.9.9, protocol %u, and this is another", (unsigned)LAB_PROTOCOL);
    assert_wrong(&facts, "version", LAB_PREVENTS, text, "install ipclab " LAB_VERSION " there, at the same place as here");
    facts = healthy();
    facts.reach = ETIMEDOUT;
    assert_wrong(&facts, "way back", LAB_PREVENTS, "it cannot connect to this machine at 10.77.0.254:4711: Connection timed out",
                 "let it in through the firewall here, as root: nft insert rule inet filter input ip saddr lab1 tcp dport 1024-65535 accept");
}

static void shared_memory_must_hold_what_mpi_takes(void **state)
{
    (void)state;
    struct lab_facts facts = healthy();
    facts.shm_free = 5 << 20;
    facts.shm_bytes = 64 << 20;
    assert_wrong(&facts, "/dev/shm", LAB_PREVENTS, "5 of 64 MiB free in /dev/shm, too little for MPI",
                 "as root: mount -o remount,size=148M /dev/shm; what killed programs left there: ipclab clean");
    facts.shm_free = facts.shm_bytes = 0;
    assert_wrong(&facts, "/dev/shm", LAB_PREVENTS, "0 of 0 MiB free in /dev/shm, too little for MPI", "as root: mount -t tmpfs -o size=1G tmpfs /dev/shm");
    facts.here = true; /* a run here may do without MPI */
    assert_int_equal(count(&facts, LAB_PREVENTS), 0);
    assert_int_equal(count(&facts, LAB_DISTURBS), 1);
}

static void what_disturbs_has_its_mend(void **state)
{
    (void)state;
    struct lab_facts facts = healthy();
    facts.nodes = 9;
    assert_wrong(&facts, "slots", LAB_DISTURBS, "9 nodes on 4 cpus", "in the list of hosts: lab1:4");
    facts = healthy();
    facts.nodes = facts.cpus = 1;
    assert_wrong(&facts, "cores", LAB_DISTURBS, "1 of 4 cpus may be used: two processes that talk share it, and other-core cells are skipped",
                 "taskset -c 0-3 ipclab run, or give the container all cpus");
    facts = healthy();
    strcpy(facts.governor, "powersave");
    assert_wrong(&facts, "governor", LAB_DISTURBS, "the governor is powersave: clocks change while something is measured",
                 "as root: cpupower frequency-set -g performance");
    facts = healthy();
    facts.files_max = 256;
    assert_wrong(&facts, "open files", LAB_DISTURBS, "256 open files: about 42 workers a node",
                 "as root: prlimit --pid $$ --nofile=65536, then from that shell; for good: LimitNOFILE, or /etc/security/limits.conf");
    facts = healthy();
    facts.port_first = facts.port_last - 99;
    assert_wrong(&facts, "ports", LAB_DISTURBS, "100 ports to hand out (60900 to 60999)", "as root: sysctl net.ipv4.ip_local_port_range='32768 60999'");
    facts = healthy();
    facts.rndv_thresh = NULL;
    assert_wrong(&facts, "rendezvous", LAB_DISTURBS, "MPI over UCX 1.13.1 sends large messages within a host by a slow rendezvous (1 MiB: three times slower)",
                 "export UCX_RNDV_THRESH=inf");
    strcpy(facts.ucx, "-"); /* another MPI, or none */
    assert_int_equal(count(&facts, LAB_DISTURBS), 0);
}

static void transports_speak_for_themselves(void **state)
{
    (void)state;
    struct lab_facts facts = healthy(), told;
    lab_assert_ok(lab_facts_parse("longest posix-mq 8192 as root: sysctl fs.mqueue.msgsize_max=16777216\nend\n", &told));
    facts.note_count = told.note_count;
    facts.notes[0] = told.notes[0];
    assert_wrong(&facts, "transports", LAB_DISTURBS, "posix-mq carries no more than 8 KiB: longer messages are skipped",
                 "as root: sysctl fs.mqueue.msgsize_max=16777216");
    lab_assert_ok(lab_facts_parse("unusable cma its kernel does not let processes read each other: as root: sysctl kernel.yama.ptrace_scope=0\nend\n", &told));
    facts.notes[0] = told.notes[0];
    assert_wrong(&facts, "transports", LAB_DISTURBS,
                 "cma is skipped: its kernel does not let processes read each other: as root: sysctl kernel.yama.ptrace_scope=0",
                 "as root: sysctl kernel.yama.ptrace_scope=0");
}

static void facts_that_are_cut_or_nonsense_are_told_apart(void **state)
{
    (void)state;
    struct lab_facts facts;
    char many[LAB_FACTS_NOTES_MAX * 64] = "", longest[2048];
    lab_assert_fails(lab_facts_parse("", &facts), EPROTO);
    lab_assert_fails(lab_facts_parse("version 1.2.3 2\nhost x\ncpus 2", &facts), EPROTO);
    assert_string_equal(facts.version, "1.2.3");
    lab_assert_fails(lab_facts_parse("\n\n \nunusable\nlongest x\nlongest x y\ncpus x y\n", &facts), EPROTO);
    assert_int_equal(facts.note_count, 0);
    for (int i = 0; i < 2 * LAB_FACTS_NOTES_MAX; i++)
        strcat(many, "longest pipe 1 more\n");
    lab_assert_ok(lab_facts_parse(strcat(many, "end\n"), &facts));
    assert_int_equal(facts.note_count, LAB_FACTS_NOTES_MAX);
    memset(longest, 'x', sizeof longest);
    memcpy(longest, "unusable p ", 11);
    strcpy(longest + sizeof longest - 5, "\nend");
    lab_assert_ok(lab_facts_parse(longest, &facts));
    assert_int_equal(strlen(facts.notes[0].text), LAB_FACTS_NOTE - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_wrong_with_a_healthy_host),
        cmocka_unit_test(a_clock_is_wrong_only_beyond_what_the_question_took),
        cmocka_unit_test(another_version_and_no_way_back_prevent_a_run),
        cmocka_unit_test(shared_memory_must_hold_what_mpi_takes),
        cmocka_unit_test(what_disturbs_has_its_mend),
        cmocka_unit_test(transports_speak_for_themselves),
        cmocka_unit_test(facts_that_are_cut_or_nonsense_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
