#include "launcher/capture.h"

#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CAPTURES_MAX = 256, POLL_MS = 50 };

int lab_program_find(const char *name, char to[PATH_MAX])
{
    static const char system[] = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
    const char *const lists[] = {getenv("PATH"), system};
    if (strchr(name, '/')) {
        snprintf(to, PATH_MAX, "%s", name);
        return 0;
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (const char *at = lists[i]; at && *at;) {
            size_t length = strcspn(at, ":");
            if (length && at[0] == '/' && snprintf(to, PATH_MAX, "%.*s/%s", (int)length, at, name) < PATH_MAX && access(to, X_OK) == 0)
                return 0;
            at += length + (at[length] == ':');
        }
    return lab_refuse(ENOENT, "the program %s is needed and not found in PATH", name);
}

int lab_capture_start(const char *name, char *const *argv, struct lab_capture *ret_capture)
{
    char path[PATH_MAX];
    int ends[2], null;
    int err = lab_program_find(name, path);
    if (err)
        return err;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return lab_fail(errno, "cannot make a pipe for %s", name);
    null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0) {
        err = lab_fail(errno, "cannot open /dev/null");
    } else {
        const struct lab_child_fd fds[] = {{null, 0}, {ends[1], 1}, {ends[1], 2}};
        const struct lab_child_spec spec = {.path = path, .argv = argv, .fds = fds, .fd_count = 3, .cpu = -1, .own_group = true};
        struct lab_child child = {0};
        err = lab_child_spawn(&spec, &child);
        if (!err) {
            ret_capture->child = child;
            ret_capture->fd = ends[0];
            ret_capture->status = 0;
            ret_capture->timed_out = false;
            ret_capture->used = 0;
            ret_capture->output[0] = '\0';
            fcntl(ends[0], F_SETFL, O_NONBLOCK);
        }
        close(null);
    }
    close(ends[1]);
    if (err)
        close(ends[0]);
    return err;
}

static void drain(struct lab_capture *capture)
{
    char spare[1024];
    for (;;) {
        bool full = capture->used == LAB_CAPTURE_BYTES;
        ssize_t got = full ? read(capture->fd, spare, sizeof spare)
                           : read(capture->fd, capture->output + capture->used, LAB_CAPTURE_BYTES - capture->used);
        if (got <= 0)
            break;
        if (!full)
            capture->used += (size_t)got;
    }
    capture->output[capture->used] = '\0';
}

static void finish(struct lab_capture *capture)
{
    drain(capture);
    close(capture->fd);
    capture->fd = -1;
}

/* Ended when the program has: a descendant that keeps the pipe open is not waited for. */
static bool ended(struct lab_capture *capture)
{
    if (capture->child.pid <= 0)
        return true;
    drain(capture);
    if (lab_child_reap(&capture->child, 0, &capture->status) != 0)
        return false;
    finish(capture);
    return true;
}

void lab_capture_wait(struct lab_capture *captures, size_t count, uint64_t deadline_ns)
{
    for (;;) {
        struct pollfd watched[2 * CAPTURES_MAX];
        nfds_t watched_count = 0;
        for (size_t i = 0; i < count; i++)
            if (!ended(&captures[i]) && watched_count + 2 <= 2 * CAPTURES_MAX) {
                watched[watched_count++] = (struct pollfd){.fd = captures[i].child.pidfd, .events = POLLIN};
                watched[watched_count++] = (struct pollfd){.fd = captures[i].fd, .events = POLLIN};
            }
        if (!watched_count)
            return;
        if (lab_ns_until(deadline_ns) == 0)
            break;
        /* A pipe at its end stays readable: the short pause keeps that from spinning. */
        int left = lab_ms_until(deadline_ns);
        poll(watched, watched_count, left < POLL_MS ? left : POLL_MS);
        for (nfds_t i = 1; i < watched_count; i += 2)
            if (watched[i].revents & POLLHUP && !(watched[i - 1].revents & POLLIN))
                poll(&watched[i - 1], 1, left < POLL_MS ? left : POLL_MS);
    }
    for (size_t i = 0; i < count; i++) {
        if (captures[i].child.pid <= 0)
            continue;
        kill(-captures[i].child.pid, SIGKILL); /* its group: what it has started itself, as ssh does its ProxyCommand */
        lab_child_kill(&captures[i].child);
        captures[i].timed_out = true;
        finish(&captures[i]);
    }
}

char *lab_last_line(char *text)
{
    size_t length = strlen(text);
    while (length && (text[length - 1] == '\n' || text[length - 1] == '\r' || text[length - 1] == ' '))
        text[--length] = '\0';
    char *newline = strrchr(text, '\n');
    return newline ? newline + 1 : text;
}

int lab_capture_run(const char *name, char *const *argv, uint64_t deadline_ns, struct lab_capture *ret_capture)
{
    int err = lab_capture_start(name, argv, ret_capture);
    if (err)
        return err;
    lab_capture_wait(ret_capture, 1, deadline_ns);
    if (ret_capture->timed_out)
        return lab_refuse(ETIMEDOUT, "%s did not end in time and was killed", name);
    if (ret_capture->status) {
        char how[LAB_CHILD_STATUS_TEXT], copy[LAB_CAPTURE_BYTES + 1];
        memcpy(copy, ret_capture->output, ret_capture->used + 1);
        return lab_refuse(EIO, "%s %s: %s", name, lab_child_status_text(ret_capture->status, how), lab_last_line(copy));
    }
    return 0;
}
