#include "node/transports/mpi/window.h"

#include "base/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 128 };

/* Windows that their ends have left, oldest first. */
struct left {
    struct left *next;
    struct lab_mpi_window window;
};
static struct left *left;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Both ranks have left the same ones, and free them in the same order. */
static void free_left(int peer)
{
    pthread_mutex_lock(&lock);
    for (struct left **at = &left; *at;) {
        struct left *found = *at;
        if (found->window.peer != peer) {
            at = &found->next;
            continue;
        }
        *at = found->next;
        MPI_Win_free(&found->window.win);
        MPI_Comm_free(&found->window.comm);
        free(found);
    }
    pthread_mutex_unlock(&lock);
}

void lab_mpi_window_leave(struct lab_mpi_window *window)
{
    struct left *entry = calloc(1, sizeof *entry), **at = &left;
    if (!lab_mpi_broken())
        MPI_Win_unlock_all(window->win);
    /* Without memory for the note it lasts until the process ends. */
    if (!entry)
        return;
    entry->window = *window;
    pthread_mutex_lock(&lock);
    while (*at)
        at = &(*at)->next;
    *at = entry;
    pthread_mutex_unlock(&lock);
}

/* The two ranks of the channel, sender first. */
static int pair_up(const struct lab_channel *channel, MPI_Comm *ret_comm)
{
    MPI_Group world, pair;
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    int code = MPI_Group_incl(world, 2, channel->rank, &pair);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_create_group(MPI_COMM_WORLD, pair, lab_mpi_tag(channel), ret_comm);
    MPI_Group_free(&world);
    if (code == MPI_SUCCESS)
        MPI_Group_free(&pair);
    return code;
}

static void *aligned(void *base)
{
    return (void *)(((uintptr_t)base + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
}

static int allocate(struct lab_mpi_window *window, enum lab_role role, size_t bytes, enum lab_mpi_kind kind)
{
    void *base;
    MPI_Aint size = (MPI_Aint)(bytes + ALIGNMENT), of_peer = 0;
    int unit, code = kind == LAB_MPI_SHARED ? MPI_Win_allocate_shared(size, 1, MPI_INFO_NULL, window->comm, &base, &window->win)
                                            : MPI_Win_allocate(size, 1, MPI_INFO_NULL, window->comm, &base, &window->win);
    if (code != MPI_SUCCESS)
        return code;
    MPI_Win_set_errhandler(window->win, MPI_ERRORS_RETURN);
    window->part[role] = aligned(base);
    window->bytes[role] = bytes;
    memset(window->part[role], 0, bytes);
    if (kind == LAB_MPI_SHARED && MPI_Win_shared_query(window->win, !role, &of_peer, &unit, &base) == MPI_SUCCESS) {
        window->part[!role] = aligned(base);
        window->bytes[!role] = (size_t)of_peer - ALIGNMENT;
    }
    return MPI_Win_lock_all(MPI_MODE_NOCHECK, window->win);
}

int lab_mpi_window_open(const struct lab_end *end, size_t bytes, enum lab_mpi_kind kind, struct lab_mpi_window *ret_window)
{
    struct lab_mpi_window window = {.win = MPI_WIN_NULL, .comm = MPI_COMM_NULL};
    int err = lab_mpi_join(end, &window.peer);
    if (err)
        return err;
    free_left(window.peer);
    int code = pair_up(&end->channel, &window.comm);
    if (code != MPI_SUCCESS)
        return lab_mpi_failed(code, "MPI_Comm_create_group");
    MPI_Comm_set_errhandler(window.comm, MPI_ERRORS_RETURN);
    code = allocate(&window, end->role, bytes, kind);
    if (code != MPI_SUCCESS)
        return lab_mpi_failed(code, kind == LAB_MPI_SHARED ? "MPI_Win_allocate_shared" : "MPI_Win_allocate");
    *ret_window = window;
    return 0;
}
