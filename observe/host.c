#include "observe/host.h"

#include "base/error.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

static bool first_line(const char *path, char to[LAB_HOST_TEXT])
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool read = fgets(to, LAB_HOST_TEXT, file) != NULL;
    fclose(file);
    if (read)
        to[strcspn(to, "\n")] = '\0';
    return read && to[0];
}

/* The model, and whether the processor says that a hypervisor runs below it. */
static void read_cpuinfo(char model[LAB_HOST_TEXT], bool *ret_virtual)
{
    char line[4096];
    FILE *file = fopen("/proc/cpuinfo", "re");
    snprintf(model, LAB_HOST_TEXT, "unknown");
    *ret_virtual = false;
    while (file && fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');
        if (!value)
            break; /* the blank line after the first processor */
        value += value[1] == ' ' ? 2 : 1;
        value[strcspn(value, "\n")] = '\0';
        if (strncmp(line, "model name", 10) == 0)
            snprintf(model, LAB_HOST_TEXT, "%s", value);
        if (strncmp(line, "flags", 5) == 0)
            *ret_virtual = strstr(value, " hypervisor") != NULL;
    }
    if (file)
        fclose(file);
}

#if defined(__x86_64__) || defined(__i386__)
/* The twelve letters of the signature, and the name that people know. */
static const char *name_of_signature(const char *signature)
{
    static const char *const known[][2] = {
        {"KVMKVMKVM", "KVM"}, {"Microsoft Hv", "Hyper-V"}, {"VMwareVMware", "VMware"}, {"XenVMMXenVMM", "Xen"},
        {"VBoxVBoxVBox", "VirtualBox"}, {"TCGTCGTCGTCG", "QEMU"}, {"bhyve bhyve ", "bhyve"}, {"ACRNACRNACRN", "ACRN"},
        {" lrpepyh  vr", "Parallels"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i][0], signature) == 0)
            return known[i][1];
    return signature;
}
#endif

/* A hypervisor that hides its name from /sys still signs itself in a leaf of cpuid reserved for it. */
static bool read_signature(char to[LAB_HOST_TEXT])
{
#if defined(__x86_64__) || defined(__i386__)
    unsigned eax, ebx, ecx, edx;
    __cpuid(0x40000000, eax, ebx, ecx, edx);
    char signature[13] = "";
    memcpy(signature, &ebx, 4);
    memcpy(signature + 4, &ecx, 4);
    memcpy(signature + 8, &edx, 4);
    for (const char *c = signature; *c; c++)
        if (*c < ' ' || *c > '~')
            return false;
    snprintf(to, LAB_HOST_TEXT, "%s", name_of_signature(signature));
    return to[0];
#else
    (void)to;
    return false;
#endif
}

static void name_hypervisor(bool is_virtual, char to[LAB_HOST_TEXT])
{
    to[0] = '\0';
    if (!is_virtual || first_line("/sys/hypervisor/type", to) || first_line("/sys/class/dmi/id/sys_vendor", to) || read_signature(to))
        return;
    snprintf(to, LAB_HOST_TEXT, "unknown");
}

static uint64_t shm_free(void)
{
    struct statvfs shm;
    return statvfs("/dev/shm", &shm) == 0 ? (uint64_t)shm.f_bavail * shm.f_frsize : 0;
}

/* The kernel refuses a set smaller than its own (sched_setaffinity(2)): ours has room for eight times what glibc's has. */
static int read_cpus(struct lab_host_facts *facts)
{
    cpu_set_t sets[8];
    if (sched_getaffinity(0, sizeof sets, sets) < 0)
        return lab_fail(errno, "the kernel does not tell the cpus that may be used");
    for (int cpu = 0; cpu < 8 * CPU_SETSIZE && facts->cpu_count < LAB_HOST_CPUS; cpu++)
        if (CPU_ISSET_S((size_t)cpu, sizeof sets, sets))
            facts->cpus[facts->cpu_count++] = cpu;
    return 0;
}

int lab_host_read(struct lab_host_facts *ret_facts)
{
    struct lab_host_facts facts = {0};
    struct utsname kernel;
    bool is_virtual;
    if (uname(&kernel) < 0)
        return lab_fail(errno, "the kernel does not tell its name");
    snprintf(facts.name, sizeof facts.name, "%s", kernel.nodename);
    snprintf(facts.kernel, sizeof facts.kernel, "%.40s %.80s", kernel.sysname, kernel.release);
    read_cpuinfo(facts.cpu, &is_virtual);
    name_hypervisor(is_virtual, facts.hypervisor);
    if (!first_line("/proc/sys/kernel/random/boot_id", facts.boot_id))
        strcpy(facts.boot_id, "unknown");
    long online = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    facts.cores = online > 0 ? (uint32_t)online : 0;
    facts.memory_bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    facts.shm_free_bytes = shm_free();
    int err = read_cpus(&facts);
    if (err)
        return err;
    *ret_facts = facts;
    return 0;
}
