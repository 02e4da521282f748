#include "launcher/checks.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "base/version.h"
#include "launcher/reach.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SKEW_NS (100 * LAB_NS_PER_MS)
enum { MIB = 1024 * 1024, FILES_PER_WORKER = 6, WORKERS_MANY = 160, PORTS_FEW = 4096 };

static void find(struct lab_finding *finding, enum lab_gravity gravity, const char *format, ...) LAB_PRINTF(3, 4);
static void find(struct lab_finding *finding, enum lab_gravity gravity, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    finding->gravity = gravity;
    vsnprintf(finding->text, sizeof finding->text, format, args);
    va_end(args);
}

static void mend(struct lab_finding *finding, const char *format, ...) LAB_PRINTF(2, 3);
static void mend(struct lab_finding *finding, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(finding->mend, sizeof finding->mend, format, args);
    va_end(args);
}

/* ---- one function a check ---- */

static bool check_version(const struct lab_facts *facts, size_t number, struct lab_finding *finding)
{
    bool same = strcmp(facts->version, LAB_VERSION) == 0 && facts->protocol == LAB_PROTOCOL;
    find(finding, same ? LAB_WELL : LAB_PREVENTS, "ipclab %s, protocol %u%s", facts->version, facts->protocol, same ? "" : ", and this is another");
    if (!same)
        mend(finding, "install ipclab %s there, at the same place as here", LAB_VERSION);
    return number == 0;
}

/* The answer was on its way between two looks at our clock: only what lies outside is known to be wrong. */
static bool check_clock(const struct lab_facts *facts, size_t number, struct lab_finding *finding)
{
    uint64_t behind = facts->clock_ns < facts->asked_ns ? facts->asked_ns - facts->clock_ns : 0;
    uint64_t ahead = facts->clock_ns > facts->heard_ns ? facts->clock_ns - facts->heard_ns : 0;
    if (facts->here || number)
        return false;
    if (behind + ahead <= SKEW_NS) {
        find(finding, LAB_WELL, "the time of day is that of this machine, as near as can be asked (%.1f s)", (double)(facts->heard_ns - facts->asked_ns) / 1e9);
        return true;
    }
    find(finding, LAB_DISTURBS, "its time of day is %.1f s %s that of this machine: its logs and files do not fit a run's", (double)(behind + ahead) / 1e9,
         behind ? "behind" : "ahead of");
    mend(finding, "on that host, as root: timedatectl set-ntp true");
    return true;
}

static bool check_ports(const struct lab_facts *facts, size_t number, struct lab_finding *finding)
{
    uint32_t ports = facts->port_last > facts->port_first ? facts->port_last - facts->port_first + 1 : 0;
    bool few = ports < PORTS_FEW;
    find(finding, few ? LAB_DISTURBS : LAB_WELL, "%u ports to hand out (%u to %u)", ports, facts->port_first, facts->port_last);
    if (few)
        mend(finding, "as root: sysctl net.ipv4.ip_local_port_range='32768 60999'");
    return number == 0;
}

static bool check_way_back(const struct lab_facts *facts, size_t number, struct lab_finding *finding)
{
    if (!facts->reach) {
        find(finding, LAB_WELL, "it can connect to this machine at %s", facts->address);
    } else {
        find(finding, LAB_PREVENTS, "it cannot connect to this machine at %s: %s", facts->address, strerror(facts->reach));
        mend(finding, "let it in through the firewall here, as root: nft insert rule inet filter input ip saddr %s tcp dport 1024-65535 accept", facts->host);
    }
    return facts->reach >= 0 && number == 0;
}

static bool check_slots(const struct lab_facts *facts, size_t number, struct lab_finding *finding)
{
    bool many = facts->nodes > facts->cpus;
    find(finding, many ? LAB_DISTURBS : LAB_WELL, "%u node%s on %u cpus", facts->nodes, facts->nodes == 1 ? "" : "s", facts->cpus);
    if (many)
        mend(finding, "in the list of hosts: %s:%u", facts->host, facts->cpus);
    return !facts->here && number == 0;
}

static bool check_shm(const struct lab_facts *facts, size_t number, struct lab_finding *finding)
{
    uint32_t nodes = facts->nodes ? facts->nodes : 1;
    uint64_t needed = lab_reach_shm_bytes(nodes);
    bool enough = facts->shm_free >= needed;
    find(finding, enough ? LAB_WELL : facts->here ? LAB_DISTURBS : LAB_PREVENTS, "%" PRIu64 " of %" PRIu64 " MiB free in /dev/shm%s", facts->shm_free / MIB,
         facts->shm_bytes / MIB, enough ? "" : ", too little for MPI");
    if (!facts->shm_bytes)
        mend(finding, "as root: mount -t tmpfs -o size=1G tmpfs /dev/shm");
    else if (!enough)
        mend(finding, "as root: mount -o remount,size=%" PRIu64 "M /dev/shm; what killed programs left there: ipclab clean",
             (facts->shm_bytes + needed - facts->shm_free + MIB - 1) / MIB + 64);
    return number == 0;
}

static bool check_cores(const struct lab_facts *facts, size_t number, struct lab_finding *finding)
{
    bool few = facts->cpus < 2;
    find(finding, few ? LAB_DISTURBS : LAB_WELL, "%u of %u cpus may be used%s", facts->cpus, facts->cpus_online,
         few ? ": two processes that talk share it, and other-core cells are skipped" : "");
    if (few && facts->cpus_online > 1)
        mend(finding, "taskset -c 0-%u ipclab run, or give the container all cpus", facts->cpus_online - 1);
    else if (few)
        mend(finding, "give the machine a second cpu");
    return number == 0;
}

static bool check_governor(const struct lab_facts *facts, size_t number, struct lab_finding *finding)
{
    bool none = strcmp(facts->governor, "-") == 0, good = none || strcmp(facts->governor, "performance") == 0;
    if (none)
        find(finding, LAB_WELL, "the kernel does not set clocks here");
    else
        find(finding, good ? LAB_WELL : LAB_DISTURBS, "the governor is %s%s", facts->governor, good ? "" : ": clocks change while something is measured");
    if (!good)
        mend(finding, "as root: cpupower frequency-set -g performance");
    return number == 0;
}

static bool check_files(const struct lab_facts *facts, size_t number, struct lab_finding *finding)
{
    uint64_t workers = facts->files_max / FILES_PER_WORKER;
    bool few = workers < WORKERS_MANY;
    find(finding, few ? LAB_DISTURBS : LAB_WELL, "%" PRIu64 " open files: about %" PRIu64 " workers a node", facts->files_max, workers);
    if (few)
        mend(finding, "as root: prlimit --pid $$ --nofile=65536, then from that shell; for good: LimitNOFILE, or /etc/security/limits.conf");
    return number == 0;
}

/* What a transport says of a machine has the mend in it. */
static bool check_transports(const struct lab_facts *facts, size_t number, struct lab_finding *finding)
{
    if (facts->note_count == 0 && number == 0) {
        find(finding, LAB_WELL, "every transport works, with messages of any size that it can carry");
        return true;
    }
    if (number >= facts->note_count)
        return false;
    const struct lab_facts_note *note = &facts->notes[number];
    char size[LAB_TEXT_NUMBER];
    if (note->usable) {
        find(finding, LAB_DISTURBS, "%s carries no more than %s: longer messages are skipped", note->transport, lab_format_size(note->longest, size));
        mend(finding, "%s", note->text);
        return true;
    }
    const char *cut = strstr(note->text, ": ");
    find(finding, LAB_DISTURBS, "%s is skipped: %s", note->transport, note->text);
    mend(finding, "%s", cut ? cut + 2 : note->text);
    return true;
}

/* Measured with MPICH 4.0.2 over UCX 1.13.1: 1 MiB within a host in 85 us as it comes, in 29 us with the threshold raised. */
static bool check_rendezvous(const struct lab_facts *facts, size_t number, struct lab_finding *finding)
{
    bool ucx = strcmp(facts->ucx, "-") != 0, tuned = facts->rndv_thresh != NULL;
    if (tuned)
        find(finding, LAB_WELL, "MPI over UCX %s, UCX_RNDV_THRESH=%.64s", facts->ucx, facts->rndv_thresh);
    else
        find(finding, LAB_DISTURBS, "MPI over UCX %s sends large messages within a host by a slow rendezvous (1 MiB: three times slower)", facts->ucx);
    if (!tuned)
        mend(finding, "export UCX_RNDV_THRESH=inf");
    return ucx && number == 0;
}

static bool check_privacy(const struct lab_facts *facts, size_t number, struct lab_finding *finding)
{
    find(finding, LAB_WELL, "zmq-tcp is encrypted; links over MPI, tcp and nng-tcp, and mpiexec's own connections, are not: keep to a network that is trusted");
    return !facts->here && number == 0;
}

static const struct check {
    const char *name;
    bool (*run)(const struct lab_facts *facts, size_t number, struct lab_finding *finding);
} checks[] = {
    {"version", check_version},       {"clock", check_clock},           {"way back", check_way_back},
    {"ports", check_ports},           {"slots", check_slots},           {"/dev/shm", check_shm},
    {"cores", check_cores},           {"governor", check_governor},     {"open files", check_files},
    {"transports", check_transports}, {"rendezvous", check_rendezvous}, {"encryption", check_privacy},
};

const char *lab_gravity_name(enum lab_gravity gravity)
{
    static const char *const names[] = {"ok", "will disturb", "prevents"};
    return names[gravity];
}

const char *lab_check_name(size_t index)
{
    return index < sizeof checks / sizeof *checks ? checks[index].name : NULL;
}

bool lab_check_run(size_t index, const struct lab_facts *facts, size_t number, struct lab_finding *ret_finding)
{
    struct lab_finding finding = {0};
    bool found = checks[index].run(facts, number, &finding);
    if (found)
        *ret_finding = finding;
    return found;
}
