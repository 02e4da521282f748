/* ipclab-worker: one measured process. Started by ipclab-node with the control socket as descriptor 3. */
#include "base/error.h"
#include "base/version.h"
#include "node/lane/worker.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { CONTROL_FD = 3 };

int main(int argc, char **argv)
{
    int type;
    socklen_t size = sizeof type;
    if (argc > 1 || getsockopt(CONTROL_FD, SOL_SOCKET, SO_TYPE, &type, &size) < 0) {
        bool version = argc == 2 && strcmp(argv[1], "--version") == 0;
        fprintf(version ? stdout : stderr, version ? "ipclab-worker %s\n" : "ipclab-worker %s is started by ipclab, not by hand\n", LAB_VERSION);
        return version ? 0 : 2;
    }
    fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC);
    return lab_worker_run(CONTROL_FD) ? 1 : 0;
}
