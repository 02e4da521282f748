#include "node/agent/world.h"

#include "base/error.h"
#include "base/text.h"
#include "node/transport.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

int lab_world_rank(int *ret_rank)
{
    const char *text = getenv("PMI_RANK");
    uint64_t rank;
    if (!text)
        return lab_refuse(ENOENT, "--world, but no mpiexec started this process (PMI_RANK is not set)");
    int err = lab_parse_count(text, &rank);
    if (!err && rank > INT_MAX)
        err = lab_refuse(ERANGE, "PMI_RANK is %s", text);
    if (!err)
        *ret_rank = (int)rank;
    return err;
}

/* ---- entering, in a thread ---- */

struct lab_world_entry {
    pthread_t thread;
    int event_fd;
    _Atomic bool decided;
    int err;
    struct lab_error error;
};

static void *enter(void *argument)
{
    struct lab_world_entry *entry = argument;
    const struct lab_transport_ops *ops = lab_transport_ops(lab_transport_named("mpi"));
    entry->err = ops ? ops->enter() : -lab_error_last()->code;
    if (entry->err)
        entry->error = *lab_error_last();
    atomic_store(&entry->decided, true);
    eventfd_write(entry->event_fd, 1);
    return NULL;
}

int lab_world_enter(struct lab_world_entry **ret_entry)
{
    struct lab_world_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return lab_fail(ENOMEM, "no memory to enter the MPI world");
    entry->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int err = entry->event_fd < 0 ? errno : pthread_create(&entry->thread, NULL, enter, entry);
    if (err) {
        if (entry->event_fd >= 0)
            close(entry->event_fd);
        free(entry);
        return lab_fail(err, "cannot start the thread that enters the MPI world");
    }
    *ret_entry = entry;
    return 0;
}

int lab_world_entry_fd(const struct lab_world_entry *entry)
{
    return entry->event_fd;
}

int lab_world_entered(struct lab_world_entry *entry)
{
    if (!atomic_load(&entry->decided))
        return -EAGAIN;
    return entry->err ? lab_refuse(entry->error.code ? entry->error.code : -entry->err, "%s", entry->error.text) : 0;
}

int lab_world_entry_end(struct lab_world_entry *entry)
{
    if (!entry)
        return 0;
    if (!atomic_load(&entry->decided))
        return lab_refuse(ETIMEDOUT, "the MPI world was not entered: some node did not come");
    pthread_join(entry->thread, NULL);
    close(entry->event_fd);
    free(entry);
    return 0;
}
