/* ipclab-worker: one measured process. Started by ipclab-node as "ipclab-worker UNIT COUNT", with the control sockets of its COUNT parties as
 * descriptors 3 and up. */
#include "base/error.h"
#include "base/version.h"
#include "node/lane/worker.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { CONTROL_FD = 3, PARTIES_MAX = 4096 };

static int explain(int argc, char **argv)
{
    bool version = argc == 2 && strcmp(argv[1], "--version") == 0;
    fprintf(version ? stdout : stderr, version ? "ipclab-worker %s\n" : "ipclab-worker %s is started by ipclab, not by hand\n", LAB_VERSION);
    return version ? 0 : 2;
}

int main(int argc, char **argv)
{
    enum lab_unit unit;
    unsigned long count = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (count < 1 || count > PARTIES_MAX || lab_unit_named(argv[1], &unit))
        return explain(argc, argv);
    for (int fd = CONTROL_FD; fd < CONTROL_FD + (int)count; fd++) {
        int type;
        socklen_t size = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
            return explain(argc, argv);
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    int err = unit == LAB_UNIT_PROCESS ? lab_worker_run(CONTROL_FD) : lab_worker_run_all(unit, CONTROL_FD, (uint32_t)count);
    return err ? 1 : 0;
}
