#include "launcher/vhost.h"

#include "base/clock.h"
#include "base/error.h"
#include "launcher/capture.h"
#include "launcher/lab.h"
#include "launcher/lab_state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ANSWER = LAB_ERROR_TEXT, IP_WORDS = 24, CLOSED_PORT = 1 };

/* ---- the init of a host ---- */

static int mount_own(uint64_t shm_bytes, const char *names_file)
{
    char options[64];
    snprintf(options, sizeof options, "mode=1777,size=%llu", (unsigned long long)shm_bytes);
    const unsigned long plain = MS_NOSUID | MS_NODEV;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return lab_fail(errno, "cannot make the mounts private");
    if (mount("proc", "/proc", "proc", plain | MS_NOEXEC, NULL) < 0)
        return lab_fail(errno, "cannot mount /proc");
    /* /sys shows the network of whoever mounted it, and UCX looks for its interfaces there. */
    if (mount("sysfs", "/sys", "sysfs", plain | MS_NOEXEC | MS_RDONLY, NULL) < 0)
        return lab_fail(errno, "cannot mount /sys");
    if (mount("tmpfs", "/dev/shm", "tmpfs", plain, options) < 0)
        return lab_fail(errno, "cannot mount /dev/shm");
    if (mount("mqueue", "/dev/mqueue", "mqueue", plain | MS_NOEXEC, NULL) < 0 && errno != ENOENT && errno != ENODEV)
        return lab_fail(errno, "cannot mount /dev/mqueue");
    if (mount(names_file, "/etc/hosts", NULL, MS_BIND, NULL) < 0 && errno != ENOENT)
        return lab_fail(errno, "cannot put %s over /etc/hosts", names_file);
    if (mount("tmpfs", lab_state_folder(), "tmpfs", plain | MS_NOEXEC, "mode=755,size=64k") < 0)
        return lab_fail(errno, "cannot hide %s", lab_state_folder());
    return 0;
}

static int furnish(const char *name, uint64_t shm_bytes, const char *names_file)
{
    prctl(PR_SET_NAME, name);
    if (setsid() < 0)
        return lab_fail(errno, "cannot leave the session");
    if (sethostname(name, strlen(name)) < 0)
        return lab_fail(errno, "cannot set the host's name");
    return mount_own(shm_bytes, names_file);
}

/* As init: reaps whoever was orphaned here, until SIGKILL from outside (or SIGTERM), which ends all that lives in the host. */
static _Noreturn void reap_for_ever(const sigset_t *awaited)
{
    for (;;) {
        siginfo_t happened;
        if (sigwaitinfo(awaited, &happened) == SIGTERM)
            _exit(0);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            continue;
    }
}

static _Noreturn void be_init(int fd, const char *name, uint64_t shm_bytes, const char *names_file)
{
    char answer[ANSWER] = "", released;
    sigset_t awaited;
    sigfillset(&awaited);
    sigprocmask(SIG_SETMASK, &awaited, NULL);
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SIGTERM);

    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(fd, 3) < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 ||
        syscall(SYS_close_range, 4u, ~0u, 0) < 0)
        _exit(1);
    if (chdir("/") < 0 || furnish(name, shm_bytes, names_file))
        snprintf(answer, sizeof answer, "%s", lab_error_last()->text);
    /* An empty sentence: it stands. Then the maker releases it with one byte, or goes, and it goes too. */
    if (send(3, answer, sizeof answer, MSG_NOSIGNAL) != (ssize_t)sizeof answer || answer[0] || recv(3, &released, 1, 0) != 1)
        _exit(1);
    close(3);
    reap_for_ever(&awaited);
}

int lab_vhost_start(const char *name, uint64_t shm_bytes, const char *names_file, uint64_t deadline_ns, struct lab_vhost_birth *ret_birth)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return lab_fail(errno, "cannot make host %s", name);
    fflush(NULL);
    /* As fork(2), into new namespaces: the child is the first process in its pid namespace. */
    const unsigned long apart = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID;
    pid_t pid = (pid_t)syscall(SYS_clone, apart | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        be_init(ends[1], name, shm_bytes, names_file);
    int err = pid < 0 ? lab_fail(errno, "cannot make the namespaces of host %s", name) : 0;
    close(ends[1]);
    if (err) {
        close(ends[0]);
        return err;
    }
    struct lab_vhost_birth birth = {.pid = pid, .fd = ends[0]};
    struct pollfd answered = {.fd = ends[0], .events = POLLIN};
    char answer[ANSWER];
    if (poll(&answered, 1, lab_ms_until(deadline_ns)) != 1)
        err = lab_refuse(ETIMEDOUT, "host %s did not come up in time", name);
    else if (recv(ends[0], answer, sizeof answer, 0) != (ssize_t)sizeof answer)
        err = lab_refuse(EIO, "host %s ended while it was made", name);
    else if (answer[0])
        err = lab_refuse(EIO, "host %s: %s", name, answer);
    if (err)
        lab_vhost_abandon(&birth);
    else
        *ret_birth = birth;
    return err;
}

int lab_vhost_release(struct lab_vhost_birth *birth)
{
    if (send(birth->fd, "", 1, MSG_NOSIGNAL) != 1)
        return lab_refuse(EIO, "the host of process %d ended while it was made", (int)birth->pid);
    close(birth->fd);
    *birth = (struct lab_vhost_birth){.fd = -1};
    return 0;
}

void lab_vhost_abandon(struct lab_vhost_birth *birth)
{
    if (birth->pid <= 0)
        return;
    kill(birth->pid, SIGKILL); /* our child, not yet reaped: the pid is still its own */
    waitpid(birth->pid, NULL, 0);
    close(birth->fd);
    *birth = (struct lab_vhost_birth){.fd = -1};
}

/* ---- its network ---- */

/* The network namespace of a process, entered until lab_leave. `ret_home` is where we came from. */
static int enter_network(pid_t pid, int *ret_home)
{
    char path[48];
    snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = open(path, O_RDONLY | O_CLOEXEC);
    int err = home < 0 || there < 0 || setns(there, CLONE_NEWNET) < 0 ? lab_fail(errno, "cannot enter the network of process %d", (int)pid) : 0;
    if (there >= 0)
        close(there);
    if (!err)
        *ret_home = home;
    else if (home >= 0)
        close(home);
    return err;
}

static void leave_network(int home)
{
    if (setns(home, CLONE_NEWNET) < 0)
        abort(); /* nothing that follows may happen in the wrong network */
    close(home);
}

int lab_vhost_ip(pid_t pid, uint64_t deadline_ns, const char *format, ...)
{
    char line[256], program[] = "ip";
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    char words[256], *argv[IP_WORDS] = {program}, *at = NULL;
    memcpy(words, line, sizeof words);
    size_t count = 1;
    for (char *word = strtok_r(words, " ", &at); word && count + 1 < IP_WORDS; word = strtok_r(NULL, " ", &at))
        argv[count++] = word;

    struct lab_capture *got = calloc(1, sizeof *got);
    if (!got)
        return lab_fail(ENOMEM, "cannot run ip %s", line);
    int home = -1, err = pid ? enter_network(pid, &home) : 0;
    if (!err) {
        err = lab_capture_run(program, argv, deadline_ns, got);
        if (pid)
            leave_network(home);
        if (err == -ENOENT)
            lab_refuse(ENOENT, "virtual hosts need the program ip: apt install iproute2");
        else if (err)
            lab_while(err, "running: ip %s", line);
    }
    free(got);
    return err;
}

int lab_vhost_connect(const struct lab_vhost_birth *birth, const char *interface, const char *address, uint64_t deadline_ns)
{
    int err = lab_vhost_ip(0, deadline_ns, "link add %s type veth peer name eth0 netns %d", interface, (int)birth->pid);
    if (!err)
        err = lab_vhost_ip(0, deadline_ns, "link set %s master " LAB_LAB_BRIDGE " up", interface);
    if (!err)
        err = lab_vhost_ip(birth->pid, deadline_ns, "link set lo up");
    if (!err)
        err = lab_vhost_ip(birth->pid, deadline_ns, "addr add %s/24 dev eth0", address);
    if (!err)
        err = lab_vhost_ip(birth->pid, deadline_ns, "link set eth0 up");
    return err;
}

bool lab_vhost_reaches(pid_t pid, const char *address, uint64_t deadline_ns)
{
    int home, error = 0;
    if (enter_network(pid, &home))
        return false;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    leave_network(home); /* a socket stays in the network it was made in */
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(CLOSED_PORT)};
    inet_pton(AF_INET, address, &to.sin_addr);
    socklen_t size = sizeof error;
    bool answered = false;
    if (fd >= 0 && (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS || errno == ECONNREFUSED)) {
        struct pollfd done = {.fd = fd, .events = POLLOUT};
        answered = poll(&done, 1, lab_ms_until(deadline_ns)) == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 &&
                   (error == 0 || error == ECONNREFUSED);
    }
    if (fd >= 0)
        close(fd);
    return answered;
}
