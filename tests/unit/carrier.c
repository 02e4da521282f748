/* What UCX's log says of the way to another rank, in words (node/transports/mpi/carrier.h). The function is in the module. */
#include "node/transport.h"

#include "tests/check.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool (*carrier_of)(const char *line, char to[LAB_CARRIER_TEXT]);

static void assert_is(const char *line, const char *words)
{
    char found[LAB_CARRIER_TEXT] = "";
    assert_true(carrier_of(line, found));
    assert_string_equal(found, words);
}

static void ways_to_another_rank_are_told_in_words(void **state)
{
    (void)state;
    assert_is("  ep_cfg[1]: tag(sysv/memory cma/memory) rma(sysv/memory posix/memory) am(sysv/memory cma/memory)", "shared memory (sysv), cma");
    assert_is("ep_cfg[0]: tag(posix/memory) am(posix/memory)", "shared memory (posix)");
    assert_is("ep_cfg[0]: tag(tcp/lo tcp/eth0) rma_am(tcp/lo)", "tcp (lo), tcp (eth0)");
    assert_is("ep_cfg[0]: tag(rc_mlx5/mlx5_0:1)", "rc_mlx5 (mlx5_0:1)");
    assert_is("ep_cfg[0]: tag(something)", "something");
}

static void other_lines_say_nothing(void **state)
{
    static const char *const lines[] = {
        "", "Version 1.13.1 (loaded from /lib/x86_64-linux-gnu/libucp.so.0)", "ep_cfg[0]: tag(self/memory0 cma/memory)", "ep_cfg[0]: am(tcp/lo)",
        "ep_cfg[0]: tag(", "ep_cfg[0]: tag()", "ep_cfg[0]: tag(tcp/lo", "tag(tcp/lo)",
    };
    char found[LAB_CARRIER_TEXT];
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        assert_false(carrier_of(lines[i], found));
}

static void what_is_too_long_is_cut(void **state)
{
    char line[400] = "ep_cfg[0]: tag(", found[LAB_CARRIER_TEXT + 1];
    (void)state;
    while (strlen(line) + 32 < sizeof line)
        strcat(line, "tcp/a-rather-long-name ");
    strcat(line, ")");
    found[LAB_CARRIER_TEXT] = 'x';
    assert_true(carrier_of(line, found));
    assert_true(strlen(found) < LAB_CARRIER_TEXT);
    assert_int_equal(found[LAB_CARRIER_TEXT], 'x');
}

int main(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/lab-mpi.so", getenv("LAB_BIN") ? getenv("LAB_BIN") : ".");
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL), *found = module ? dlsym(module, "lab_mpi_carrier_of") : NULL;
    if (!found) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    memcpy(&carrier_of, &found, sizeof found);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ways_to_another_rank_are_told_in_words),
        cmocka_unit_test(other_lines_say_nothing),
        cmocka_unit_test(what_is_too_long_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
