/* A list of hosts: read as Hydra reads it, wrong where it is wrong, and the nodes placed as Hydra places ranks. And what mpiexec prints, as
 * what it means. */
#include "tests/check.h"

#include "launcher/crew_mpiexec.h"
#include "launcher/hosts.h"
#include "launcher/reach.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static struct lab_hosts *hosts_of(const char *text)
{
    struct lab_hosts *hosts = NULL;
    lab_assert_ok(lab_hosts_parse(text, strlen(text), "hosts", &hosts));
    return hosts;
}

static void names_slots_and_comments_are_read(void **state)
{
    (void)state;
    struct lab_hosts *hosts = hosts_of("# all of them\n  one \n\ntwo:3# with a comment\n10.77.0.1:2");
    assert_int_equal(hosts->count, 3);
    assert_string_equal(hosts->items[1].name, "two");
    assert_int_equal(hosts->items[1].slots, 3);
    assert_int_equal(hosts->items[1].mark.line, 4);
    assert_int_equal(lab_hosts_slots(hosts), 6);
    lab_hosts_free(hosts);
}

static void a_mistake_is_named_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } wrong[] = {
        {"# none\n", "hosts: names no host; write one host a line, NAME or NAME:SLOTS"},
        {"one\n two:0\n", "hosts:2:6: '0' is not a number of nodes, which is 1 to 1024"},
        {"one two\n", "hosts:1:5: a line names one host, and 'two' follows it"},
        {"-oProxyCommand=x\n", "hosts:1:1: '-oProxyCommand=x' is not the name or IPv4 address of a host"},
        {"one\nONE:2\n", "hosts:2:1: the host 'one' is named twice, first in line 1; several nodes on it are written 'one:2'"},
        {"fe80::1\n", "hosts:1:1: 'fe80::1' looks like an IPv6 address, which Hydra cannot take; give the host a name"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct lab_hosts *hosts = NULL;
        lab_assert_fails(lab_hosts_parse(wrong[i].text, strlen(wrong[i].text), "hosts", &hosts), EINVAL);
        assert_string_equal(lab_error_last()->text, wrong[i].sentence);
        assert_null(hosts);
    }
}

static void as_many_nodes_are_counted_on_a_host_as_are_placed_there(void **state)
{
    (void)state;
    struct lab_hosts *hosts = hosts_of("a:2\nb\nc:3\n");
    for (uint32_t nodes = 0; nodes <= 20; nodes++) {
        uint32_t placed[3] = {0};
        for (uint32_t node = 0; node < nodes; node++)
            placed[lab_hosts_of_node(hosts, node) - hosts->items]++;
        for (size_t host = 0; host < 3; host++)
            assert_int_equal(lab_hosts_nodes_on(hosts, host, nodes), placed[host]);
    }
    lab_hosts_free(hosts);
}

/* What mpiexec printed so far. */
static bool told(const char *printed, const struct lab_hosts *hosts, uint32_t nodes, struct lab_crew_event *event)
{
    struct lab_mpiexec_output output = {.fd = -1, .used = strlen(printed)};
    memcpy(output.tail, printed, output.used);
    return lab_mpiexec_told(&output, hosts, nodes, event);
}

static void a_node_that_was_killed_is_told_by_hydras_notice(void **state)
{
    (void)state;
    struct lab_hosts *hosts = hosts_of("10.77.0.1\n10.77.0.2\n");
    struct lab_crew_event event;
    static const char notice[] = "=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES\n=   PID 7 RUNNING AT 10.77.0.2\n=   EXIT CODE: 15\n";
    assert_true(told(notice, hosts, 2, &event));
    assert_string_equal(event.text, "node 1 on host 10.77.0.2 ended by signal 15 (SIGTERM)");
    assert_int_equal(event.node, 1);
    assert_int_equal(event.status, SIGTERM);
    assert_true(told(notice, hosts, 4, &event));
    assert_string_equal(event.text, "a node on host 10.77.0.2 ended by signal 15 (SIGTERM)");
    /* Half of the notice is not yet one. */
    char half[sizeof notice] = "";
    for (size_t length = 0; length + 2 < sizeof notice; length++) {
        half[length] = notice[length];
        assert_false(told(half, hosts, 2, &event));
    }
    lab_hosts_free(hosts);
}

static void what_the_door_of_a_host_says_is_quoted(void **state)
{
    (void)state;
    struct lab_hosts *hosts = hosts_of("10.77.0.1\n10.77.0.2\n");
    struct lab_crew_event event;
    assert_true(told("Killed\nipclab-door: host 10.77.0.2: hydra_pmi_proxy ended by signal 9 (SIGKILL)\n[mpiexec@x] more\n", hosts, 2, &event));
    assert_string_equal(event.text, "host 10.77.0.2: hydra_pmi_proxy ended by signal 9 (SIGKILL)");
    assert_false(event.vague);
    lab_hosts_free(hosts);
}

static void a_complaint_of_ssh_is_that_of_the_host_it_names(void **state)
{
    (void)state;
    struct lab_hosts *hosts = hosts_of("10.77.0.1\n10.77.0.12\n");
    struct lab_crew_event event;
    assert_true(told("ssh: connect to host 10.77.0.12 port 22: Connection refused\r\n", hosts, 2, &event));
    assert_non_null(strstr(event.text, "host 10.77.0.12: it is up, but no ssh server listens"));
    /* Nodes and Hydra write of connections too. */
    assert_false(told("ipclab-node 1: Connection refused\n[proxy:0:0@x] Connection refused\n", hosts, 2, &event));
    lab_hosts_free(hosts);
}

static void the_end_of_mpiexec_alone_is_vague_unless_it_was_killed(void **state)
{
    (void)state;
    struct lab_mpiexec_output output = {.fd = -1};
    struct lab_crew_event event = {0};
    strcpy(output.tail, "last words\n[mpiexec@x] main: error\n");
    lab_mpiexec_explain(&output, 255 << 8, &event);
    assert_string_equal(event.text, "mpiexec on this host, which holds the nodes, exited with code 255: last words");
    assert_true(event.vague);
    lab_mpiexec_explain(&output, SIGKILL, &event);
    assert_false(event.vague);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_slots_and_comments_are_read),
        cmocka_unit_test(a_mistake_is_named_with_its_place),
        cmocka_unit_test(as_many_nodes_are_counted_on_a_host_as_are_placed_there),
        cmocka_unit_test(a_node_that_was_killed_is_told_by_hydras_notice),
        cmocka_unit_test(what_the_door_of_a_host_says_is_quoted),
        cmocka_unit_test(a_complaint_of_ssh_is_that_of_the_host_it_names),
        cmocka_unit_test(the_end_of_mpiexec_alone_is_vague_unless_it_was_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
