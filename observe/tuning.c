#include "observe/tuning.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The first word of a file. */
static bool first_word(const char *path, char to[LAB_TUNING_TEXT])
{
    FILE *file = fopen(path, "re");
    bool read = file && fscanf(file, "%31s", to) == 1;
    if (file)
        fclose(file);
    return read;
}

static void read_governor(char to[LAB_TUNING_TEXT])
{
    char path[96], governor[LAB_TUNING_TEXT];
    long cpus = sysconf(_SC_NPROCESSORS_CONF);
    for (long cpu = 0; cpu < cpus; cpu++) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%ld/cpufreq/scaling_governor", cpu);
        if (!first_word(path, governor))
            continue;
        memcpy(to, governor, sizeof governor);
        if (strcmp(governor, "performance") != 0)
            return;
    }
}

static void read_ports(struct lab_tuning *tuning)
{
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    uint32_t first, last;
    if (file && fscanf(file, "%u %u", &first, &last) == 2) {
        tuning->port_first = first;
        tuning->port_last = last;
    }
    if (file)
        fclose(file);
}

/* The library stays open: those that it needs (libnuma) do not take back what they allocated when they are unloaded. */
static void read_ucx(char to[LAB_TUNING_TEXT])
{
    void *library = dlopen("libucp.so.0", RTLD_LAZY | RTLD_LOCAL);
    union { void *found; void (*call)(unsigned *, unsigned *, unsigned *); } version = {.found = library ? dlsym(library, "ucp_get_version") : NULL};
    unsigned major, minor, release;
    if (version.found) {
        version.call(&major, &minor, &release);
        snprintf(to, LAB_TUNING_TEXT, "%u.%u.%u", major, minor, release);
    }
}

void lab_tuning_read(struct lab_tuning *ret_tuning)
{
    struct lab_tuning tuning = {0};
    struct statvfs shm;
    struct rlimit files;
    read_governor(tuning.governor);
    read_ports(&tuning);
    read_ucx(tuning.ucx);
    if (statvfs("/dev/shm", &shm) == 0)
        tuning.shm_bytes = (uint64_t)shm.f_blocks * shm.f_frsize;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        tuning.files_max = files.rlim_max;
    *ret_tuning = tuning;
}
