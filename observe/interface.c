#include "observe/interface.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

int lab_interfaces_parse(FILE *from, struct lab_interfaces *ret_interfaces)
{
    struct lab_interfaces sum = {0, 0};
    char line[512];
    unsigned rows = 0;
    while (fgets(line, sizeof line, from)) {
        unsigned long long received, sent;
        char *colon = strchr(line, ':'), *name = line + strspn(line, " ");
        if (!colon)
            continue; /* a heading */
        *colon = '\0';
        /* bytes packets errs drop fifo frame compressed multicast, the same of what was sent */
        if (sscanf(colon + 1, "%llu %*s %*s %*s %*s %*s %*s %*s %llu", &received, &sent) != 2)
            return lab_refuse(EBADMSG, "what the kernel counts of the interface '%s' is no number", name);
        rows++;
        if (strcmp(name, "lo") == 0)
            continue;
        sum.received_bytes += received;
        sum.sent_bytes += sent;
    }
    if (!rows)
        return lab_refuse(EBADMSG, "the kernel knows of no interface, not even the loopback");
    *ret_interfaces = sum;
    return 0;
}

int lab_interfaces_read(struct lab_interfaces *ret_interfaces)
{
    static const char path[] = "/proc/net/dev";
    FILE *file = fopen(path, "re");
    if (!file)
        return lab_fail(errno, "cannot see what the interfaces carry, %s", path);
    int err = lab_interfaces_parse(file, ret_interfaces);
    fclose(file);
    return err;
}

int lab_network_name(const char *boot_id, char to[LAB_NETWORK_TEXT])
{
    static const char path[] = "/proc/self/ns/net";
    struct stat space;
    if (stat(path, &space) < 0)
        return lab_fail(errno, "cannot tell in which network this process is, %s", path);
    snprintf(to, LAB_NETWORK_TEXT, "%.128s/%llu", boot_id, (unsigned long long)space.st_ino);
    return 0;
}
