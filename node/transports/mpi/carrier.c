#include "node/transports/mpi/carrier.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Of ucs/debug/log_def.h, which is not there where only MPICH was installed; the functions are found at run time. */
enum { UCS_STOP = 0, UCS_CONTINUE = 1, UCS_LEVEL_TEXT = 32 };
static const char *const below_info[] = {"FATAL", "ERROR", "WARN", "DIAG"}; /* a level's number is its place */
typedef int handler(const char *file, unsigned line, const char *function, int level, const void *component, const char *message, va_list arguments);

static struct {
    void (*push)(handler *heard);
    void (*pop)(void);
    int (*set)(const char *name, const char *value);
    int (*get)(const char *name, char *value, size_t room);
} ucs;
static char level_before[UCS_LEVEL_TEXT];
static int printed; /* levels up to this are wanted on the terminal, by the user or by default */
static char carrier[LAB_CARRIER_TEXT];

/* "tcp/eth0" in a reader's words. */
static void add_device(const char *device, int length, char to[LAB_CARRIER_TEXT])
{
    const char *slash = memchr(device, '/', (size_t)length);
    int name = slash ? (int)(slash - device) : length;
    bool shared = strncmp(device, "sysv/", 5) == 0 || strncmp(device, "posix/", 6) == 0, copies = strncmp(device, "cma/", 4) == 0;
    size_t used = strlen(to);
    if (used)
        used += (size_t)snprintf(to + used, LAB_CARRIER_TEXT - used, ", ");
    if (used >= LAB_CARRIER_TEXT)
        return;
    if (shared)
        snprintf(to + used, LAB_CARRIER_TEXT - used, "shared memory (%.*s)", name, device);
    else if (copies || !slash)
        snprintf(to + used, LAB_CARRIER_TEXT - used, "%.*s", name, device);
    else
        snprintf(to + used, LAB_CARRIER_TEXT - used, "%.*s (%.*s)", name, device, length - name - 1, slash + 1);
}

bool lab_mpi_carrier_of(const char *line, char to[LAB_CARRIER_TEXT])
{
    const char *at = strstr(line, "ep_cfg["), *end;
    if (!at || !(at = strstr(at, "tag(")) || !(end = strchr(at += 4, ')')) || strncmp(at, "self/", 5) == 0)
        return false;
    to[0] = '\0';
    while (at < end) {
        int length = (int)strcspn(at, " )");
        if (length)
            add_device(at, length, to);
        at += length + 1;
    }
    return to[0] != '\0';
}

/* Once each, as far as there is room. */
static void add_way(const char *way)
{
    size_t used = strlen(carrier);
    if (strstr(carrier, way) || used + strlen(way) + sizeof " or " > sizeof carrier)
        return;
    char *end = carrier + used;
    stpcpy(used ? stpcpy(end, " or ") : end, way);
}

/* What would be printed if nobody listened is printed. */
__attribute__((format(printf, 6, 0)))
static int hear(const char *file, unsigned number, const char *function, int level, const void *component, const char *message, va_list arguments)
{
    (void)file;
    (void)number;
    (void)function;
    (void)component;
    char line[512], found[LAB_CARRIER_TEXT];
    va_list again;
    va_copy(again, arguments);
    vsnprintf(line, sizeof line, message, again);
    va_end(again);
    if (lab_mpi_carrier_of(line, found))
        add_way(found);
    return level <= printed ? UCS_CONTINUE : UCS_STOP;
}

/* A function, into a pointer to one. */
static bool find(const char *name, void *ret_pointer)
{
    void *found = dlsym(RTLD_DEFAULT, name);
    memcpy(ret_pointer, &found, sizeof found);
    return found;
}

void lab_mpi_listen(void)
{
    if (!find("ucs_log_push_handler", &ucs.push) || !find("ucs_log_pop_handler", &ucs.pop) || !find("ucs_global_opts_set_value", &ucs.set) ||
        !find("ucs_global_opts_get_value", &ucs.get) || ucs.get("LOG_LEVEL", level_before, sizeof level_before)) {
        ucs.push = NULL;
        return;
    }
    ucs.push(hear);
    printed = INT_MAX;
    for (int level = 0; level < (int)(sizeof below_info / sizeof *below_info); level++)
        if (strcasecmp(level_before, below_info[level]) == 0)
            printed = level;
    if (printed != INT_MAX)
        ucs.set("LOG_LEVEL", "info");
}

void lab_mpi_listened(void)
{
    if (!ucs.push)
        return;
    ucs.set("LOG_LEVEL", level_before);
    ucs.pop();
}

void lab_mpi_carrier(char to[LAB_CARRIER_TEXT])
{
    memcpy(to, carrier, sizeof carrier);
}
