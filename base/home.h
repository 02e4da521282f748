/* Where the files of ipclab are: those of the installation found from the program that runs, at the distances that an installation has, and only then
 * where the build was configured to install to. So an installation may be staged or moved as a whole, and a build tree, which is
 * laid out like one, uses its own.
 *
 *     char path[PATH_MAX];
 *     err = lab_home_find(LAB_HOME_PROGRAM, "ipclab-node", path, sizeof path);
 */
#ifndef LAB_BASE_HOME_H
#define LAB_BASE_HOME_H

#include <stddef.h>

enum lab_home {
    LAB_HOME_PROGRAM,    /* an internal program, executable: also beside the program that runs */
    LAB_HOME_MODULE,     /* what such a program opens, readable: in the same places */
    LAB_HOME_EXPERIMENT, /* a file of configs/, readable */
};

/* The full path of the first that is there; of the folder itself when `name` is "". -ENOENT with the places looked at in the
 * record; -ENAMETOOLONG. */
int lab_home_find(enum lab_home kind, const char *name, char *to, size_t room);

/* Where a file of the user's own is or would be: $XDG_CONFIG_HOME/ipclab/NAME, or ~/.config/ipclab/NAME. -ENOENT: neither variable is set;
 * -ENAMETOOLONG. */
int lab_home_own(const char *name, char *to, size_t room);

#endif
