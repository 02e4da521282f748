#include "launcher/lab_state.h"

#include "base/clock.h"
#include "base/error.h"
#include "launcher/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define PARENT_FOLDER "/run/ipclab"
#define FOLDER PARENT_FOLDER "/lab"
#define HOSTS_FILE FOLDER "/hosts"
#define NAMES_FILE FOLDER "/names"
#define COMPLETE "complete"
#define LOCK_NAME "ipclab-lab"

enum { LOCK_S = 10, RETRY_MS = 50, FILE_BYTES_MAX = 64 * 1024 };

int lab_state_permitted(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    const uint32_t needed = 1u << CAP_SYS_ADMIN | 1u << CAP_NET_ADMIN;
    if (syscall(SYS_capget, &header, data) == 0 && (data[0].effective & needed) == needed)
        return 0;
    return lab_refuse(EPERM, "ipclab lab needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN): sudo ipclab lab up 3");
}

int lab_state_lock(int *ret_lock)
{
    int err = lab_state_permitted();
    if (err)
        return err;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return lab_fail(errno, "cannot lock the virtual hosts");
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    memcpy(name.sun_path + 1, LOCK_NAME, sizeof LOCK_NAME - 1);
    const socklen_t size = offsetof(struct sockaddr_un, sun_path) + sizeof LOCK_NAME;
    uint64_t deadline_ns = lab_now_ns() + LOCK_S * LAB_NS_PER_S;
    while (bind(fd, (const struct sockaddr *)&name, size) < 0) {
        if (errno != EADDRINUSE)
            err = lab_fail(errno, "cannot lock the virtual hosts");
        else if (lab_ns_until(deadline_ns) == 0)
            err = lab_refuse(EBUSY, "another ipclab lab command is at work (for more than %d s): look at `ps -C ipclab -f`", LOCK_S);
        if (err) {
            close(fd);
            return err;
        }
        poll(NULL, 0, RETRY_MS);
    }
    *ret_lock = fd;
    return 0;
}

void lab_state_unlock(int lock)
{
    close(lock);
}

static int write_file(const char *path, const char *text)
{
    char beside[64];
    snprintf(beside, sizeof beside, "%s.new", path);
    if ((mkdir(PARENT_FOLDER, 0755) < 0 && errno != EEXIST) || (mkdir(FOLDER, 0755) < 0 && errno != EEXIST))
        return lab_fail(errno, "cannot make the folder " FOLDER);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return lab_fail(errno, "cannot write %s", beside);
    size_t length = strlen(text);
    ssize_t wrote = write(fd, text, length);
    int err = wrote == (ssize_t)length ? 0 : lab_fail(wrote < 0 ? errno : ENOSPC, "cannot write %s", beside);
    close(fd);
    if (!err && rename(beside, path) < 0)
        err = lab_fail(errno, "cannot write %s", path);
    if (err)
        unlink(beside);
    return err;
}

int lab_state_write(const struct lab_state *state)
{
    enum { LINE = 96 };
    char text[(LAB_LAB_HOSTS_MAX + 1) * LINE];
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < state->count; i++) {
        const struct lab_state_host *host = &state->hosts[i];
        used += (size_t)snprintf(text + used, sizeof text - used, "%s %s %d %" PRIu64 "\n", host->name, host->address,
                                 (int)host->init.pid, host->init.started);
    }
    if (state->complete)
        snprintf(text + used, sizeof text - used, COMPLETE "\n");
    return write_file(HOSTS_FILE, text);
}

int lab_state_read(struct lab_state *ret_state)
{
    struct lab_state state = {0};
    char *text;
    size_t size;
    if (access(HOSTS_FILE, F_OK) != 0 && errno == ENOENT) {
        *ret_state = state;
        return 0;
    }
    int err = lab_text_file_read(HOSTS_FILE, "the list of virtual hosts", FILE_BYTES_MAX, &text, &size);
    if (err)
        return err;
    for (char *rest = text, *line; !err && (line = strsep(&rest, "\n"));) {
        struct lab_state_host host;
        int pid;
        if (!line[0])
            continue;
        if (strcmp(line, COMPLETE) == 0) {
            state.complete = true;
            continue;
        }
        if (state.count == LAB_LAB_HOSTS_MAX ||
            sscanf(line, "%15s %15s %d %" SCNu64, host.name, host.address, &pid, &host.init.started) != 4 || pid < 2) {
            err = lab_refuse(EINVAL, HOSTS_FILE " is damaged at '%.40s': remove it, and end the virtual hosts' processes by hand", line);
            break;
        }
        host.init.pid = pid;
        state.hosts[state.count++] = host;
    }
    free(text);
    if (!err)
        *ret_state = state;
    return err;
}

const char *lab_state_names_file(void)
{
    return NAMES_FILE;
}

const char *lab_state_folder(void)
{
    return PARENT_FOLDER;
}

int lab_state_write_names(uint32_t count, const char *network, const char *machine_address)
{
    char *text = NULL, *others = NULL, machine[65] = "";
    size_t size = 0, others_size;
    gethostname(machine, sizeof machine - 1);
    FILE *to = open_memstream(&text, &size);
    if (!to)
        return lab_fail(ENOMEM, "cannot write " NAMES_FILE);
    fprintf(to, "127.0.0.1 localhost\n%s %s\n", machine_address, machine);
    for (uint32_t i = 1; i <= count; i++)
        fprintf(to, "%s.%u lab%u\n", network, i, i);
    if (lab_text_file_read("/etc/hosts", "the names of hosts", FILE_BYTES_MAX, &others, &others_size) == 0)
        fputs(others, to);
    free(others);
    int err = fclose(to) == 0 ? write_file(NAMES_FILE, text) : lab_fail(ENOMEM, "cannot write " NAMES_FILE);
    free(text);
    return err;
}

int lab_state_remove(void)
{
    if ((unlink(HOSTS_FILE) < 0 && errno != ENOENT) || (unlink(NAMES_FILE) < 0 && errno != ENOENT) ||
        (rmdir(FOLDER) < 0 && errno != ENOENT))
        return lab_fail(errno, "cannot remove " FOLDER);
    rmdir(PARENT_FOLDER); /* others may have things in it */
    return 0;
}
