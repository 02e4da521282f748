#include "base/home.h"

#include "base/error.h"
#include "base/version.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PLACES = 3 };

/* Absolute ones stand as they are; the others are seen from the folder of this program. */
static const char *const places[][PLACES] = {
    [LAB_HOME_PROGRAM] = {".", LAB_LIBEXEC_RELATIVE, LAB_LIBEXEC_DIR},
    [LAB_HOME_MODULE] = {".", LAB_LIBEXEC_RELATIVE, LAB_LIBEXEC_DIR},
    [LAB_HOME_EXPERIMENT] = {LAB_CONFIG_RELATIVE, "../share/ipclab/configs" /* of a build tree */, LAB_CONFIG_DIR},
};

static int own_folder(char to[PATH_MAX])
{
    ssize_t length = readlink("/proc/self/exe", to, PATH_MAX - 1);
    if (length <= 0)
        return lab_fail(length < 0 ? errno : ENOENT, "cannot read /proc/self/exe");
    to[length] = '\0';
    char *slash = strrchr(to, '/');
    if (slash)
        *slash = '\0';
    return 0;
}

/* The folder itself when it is "."; else joined, with the "../" at its beginning taken up, for people to read. */
static int join(const char *own, const char *place, const char *name, char *to, size_t room)
{
    size_t kept = strlen(own);
    const char *rest = place;
    if (strcmp(place, ".") == 0)
        rest = "";
    for (; strncmp(rest, "../", 3) == 0 && kept > 0; rest += 3)
        while (kept > 0 && own[--kept] != '/')
            ;
    int length = place[0] == '/' ? snprintf(to, room, "%s/%s", place, name)
                                 : snprintf(to, room, "%.*s%s%s%s%s", (int)kept, own, *rest ? "/" : "", rest, *name ? "/" : "", name);
    return length < 0 || (size_t)length >= room ? lab_fail(ENAMETOOLONG, "the path of %.64s", name) : 0;
}

int lab_home_find(enum lab_home kind, const char *name, char *to, size_t room)
{
    char own[PATH_MAX], looked[3 * PATH_MAX] = "", path[PATH_MAX];
    int err = own_folder(own);
    for (size_t i = 0, used = 0; !err && i < PLACES; i++) {
        err = join(own, places[kind][i], name, path, sizeof path);
        if (err)
            break;
        if (access(path, kind == LAB_HOME_PROGRAM ? X_OK : R_OK) == 0) {
            if (strlen(path) >= room)
                return lab_fail(ENAMETOOLONG, "the path of %.64s", name);
            memcpy(to, path, strlen(path) + 1);
            return 0;
        }
        if (used < sizeof looked && !strstr(looked, path)) /* two places may be one */
            used += (size_t)snprintf(looked + used, sizeof looked - used, "%s%s", used ? ", " : "", path);
    }
    return err ? err : lab_refuse(ENOENT, "there is no %.400s: build or install ipclab completely", looked);
}

int lab_home_own(const char *name, char *to, size_t room)
{
    const char *folder = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    bool given = folder && folder[0] == '/'; /* a relative one is to be ignored, says the XDG specification */
    if (!given && (!home || !home[0]))
        return lab_refuse(ENOENT, "neither XDG_CONFIG_HOME nor HOME is set: there is no place for %s", name);
    int length = snprintf(to, room, "%s%s/ipclab/%s", given ? folder : home, given ? "" : "/.config", name);
    return length < 0 || (size_t)length >= room ? lab_fail(ENAMETOOLONG, "the path of %.64s", name) : 0;
}
