#include "proto/bus/keys.h"

#include "base/error.h"
#include "base/home.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TITLE "ipclab keys 1"
#define UNKNOWN "-"

/* ---- as text ---- */

static int write_text(const struct lab_keys *keys, char to[LAB_KEYS_TEXT])
{
    return snprintf(to, LAB_KEYS_TEXT, TITLE "\nlauncher %s %s\nnode %s %s\n", keys->launcher.open,
                    keys->launcher.secret[0] ? keys->launcher.secret : UNKNOWN, keys->node.open, keys->node.secret);
}

/* 40 letters of the line's end may be a key. */
static bool is_pair(struct lab_curve_pair *pair, bool secret_known)
{
    bool unknown = strcmp(pair->secret, UNKNOWN) == 0;
    if (unknown)
        pair->secret[0] = '\0';
    return lab_curve_is_key(pair->open) && (unknown ? !secret_known : lab_curve_is_key(pair->secret));
}

static bool read_text(const char *text, struct lab_keys *ret_keys)
{
    struct lab_keys keys;
    int read = 0;
    bool ok = sscanf(text, TITLE " launcher %40s %40s node %40s %40s %n", keys.launcher.open, keys.launcher.secret, keys.node.open,
                     keys.node.secret, &read) == 4 &&
              !text[read] && is_pair(&keys.launcher, false) && is_pair(&keys.node, true);
    if (ok)
        *ret_keys = keys;
    lab_keys_forget(&keys);
    return ok;
}

void lab_keys_forget(struct lab_keys *keys)
{
    explicit_bzero(keys, sizeof *keys);
}

/* ---- the file ---- */

int lab_keys_place(char to[PATH_MAX])
{
    return lab_home_own("keys", to, PATH_MAX);
}

/* Why a file is not to be trusted; NULL: it is. */
static int check(int fd, const char *path)
{
    struct stat facts;
    if (fstat(fd, &facts) < 0)
        return lab_fail(errno, "cannot look at %s", path);
    if (!S_ISREG(facts.st_mode))
        return lab_refuse(EPERM, "%s is no file: move it away, then: ipclab keys", path);
    if (facts.st_uid != geteuid())
        return lab_refuse(EPERM, "%s belongs to another user (%u): move it away, then: ipclab keys", path, (unsigned)facts.st_uid);
    if (facts.st_mode & 077)
        return lab_refuse(EPERM, "%s may be read or written by others (mode %04o), so that its keys may be known: chmod 600 %s && ipclab keys renew", path,
                          (unsigned)facts.st_mode & 07777, path);
    return 0;
}

int lab_keys_read(const char *path, struct lab_keys *ret_keys)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return lab_refuse(ENOENT, "there are no keys at %s: ipclab keys", path);
    if (fd < 0)
        return lab_fail(errno, "cannot open %s", path);
    char text[LAB_KEYS_TEXT];
    int err = check(fd, path);
    ssize_t size = err ? 0 : pread(fd, text, sizeof text - 1, 0);
    if (size < 0)
        err = lab_fail(errno, "cannot read %s", path);
    if (!err) {
        text[size] = '\0';
        struct lab_keys keys;
        if (read_text(text, &keys) && keys.launcher.secret[0])
            *ret_keys = keys;
        else
            err = lab_refuse(EPERM, "%s does not hold keys: ipclab keys renew", path);
        lab_keys_forget(&keys);
    }
    explicit_bzero(text, sizeof text);
    close(fd);
    return err;
}

/* The folders of a path. */
static int make_folders(const char *path)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = folder + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = '\0';
        if (mkdir(folder, 0700) < 0 && errno != EEXIST)
            return lab_fail(errno, "cannot make %s", folder);
    }
    return 0;
}

/* Written beside its place, so that nobody ever sees half of it. */
static int put(const char *path, const char *text, int length, bool renew)
{
    char *beside = NULL;
    if (asprintf(&beside, "%s.XXXXXX", path) < 0)
        return lab_fail(ENOMEM, "no memory for a path");
    int fd = mkostemp(beside, O_CLOEXEC), err = 0; /* mode 0600 */
    if (fd < 0) {
        err = lab_fail(errno, "cannot write %s", path);
    } else if (write(fd, text, (size_t)length) != length || fsync(fd) < 0) {
        err = lab_fail(errno, "cannot write %s", beside);
    } else if (renew ? rename(beside, path) < 0 : link(beside, path) < 0) {
        err = errno == EEXIST ? lab_refuse(EEXIST, "there are keys at %s already: new ones are made by: ipclab keys renew", path)
                              : lab_fail(errno, "cannot write %s", path);
    }
    if (fd >= 0) {
        close(fd);
        unlink(beside);
    }
    free(beside);
    return err;
}

int lab_keys_make(const char *path, bool renew, struct lab_keys *ret_keys)
{
    struct lab_keys keys;
    char text[LAB_KEYS_TEXT];
    int err = lab_curve_pair_make(&keys.launcher);
    if (!err)
        err = lab_curve_pair_make(&keys.node);
    if (!err)
        err = make_folders(path);
    if (!err)
        err = put(path, text, write_text(&keys, text), renew);
    if (!err)
        *ret_keys = keys;
    lab_keys_forget(&keys);
    explicit_bzero(text, sizeof text);
    return err;
}

int lab_keys_load(struct lab_keys *ret_keys, bool *ret_made)
{
    char path[PATH_MAX];
    int err = lab_keys_place(path);
    *ret_made = false;
    if (!err)
        err = lab_keys_read(path, ret_keys);
    if (err != -ENOENT)
        return err;
    err = lab_keys_make(path, false, ret_keys);
    *ret_made = !err;
    return err == -EEXIST ? lab_keys_read(path, ret_keys) : err; /* another run has made them at this moment */
}

/* ---- handing on ---- */

static int hold(const char *text, size_t size, int *ret_fd)
{
    int fd = memfd_create("ipclab-keys", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int err = fd < 0 || write(fd, text, size) != (ssize_t)size || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0
                  ? lab_fail(errno, "cannot hand on the keys")
                  : 0;
    if (!err)
        *ret_fd = fd;
    else if (fd >= 0)
        close(fd);
    return err;
}

int lab_keys_pass(const struct lab_keys *keys, int *ret_fd)
{
    struct lab_keys handed = {.node = keys->node};
    char text[LAB_KEYS_TEXT];
    memcpy(handed.launcher.open, keys->launcher.open, sizeof handed.launcher.open);
    int err = hold(text, (size_t)write_text(&handed, text), ret_fd);
    lab_keys_forget(&handed);
    explicit_bzero(text, sizeof text);
    return err;
}

int lab_keys_pass_text(const char *text, size_t size, int *ret_fd)
{
    struct lab_keys keys;
    char copy[LAB_KEYS_TEXT] = "";
    if (size < sizeof copy)
        memcpy(copy, text, size);
    int err = read_text(copy, &keys) ? hold(copy, size, ret_fd) : lab_refuse(EPERM, "what was handed on are not keys");
    lab_keys_forget(&keys);
    explicit_bzero(copy, sizeof copy);
    return err;
}

int lab_keys_take_text(int fd, char to[LAB_KEYS_TEXT])
{
    struct lab_keys keys;
    ssize_t size = pread(fd, to, LAB_KEYS_TEXT - 1, 0);
    if (size < 0)
        return lab_refuse(EPERM, "the keys that were handed on cannot be read (descriptor %d)", fd);
    to[size] = '\0';
    bool ok = read_text(to, &keys);
    lab_keys_forget(&keys);
    return ok ? (int)size : lab_refuse(EPERM, "what was handed on are not keys (descriptor %d)", fd);
}

int lab_keys_take(int fd, struct lab_keys *ret_keys)
{
    char text[LAB_KEYS_TEXT];
    int size = lab_keys_take_text(fd, text);
    if (size >= 0)
        read_text(text, ret_keys);
    explicit_bzero(text, sizeof text);
    return size < 0 ? size : 0;
}
