#include "node/transports/mpi/window.h"

#include "base/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 128, ANY_PEER = -1 };

/* Windows that their ends have left, in the order in which they were made, which is not that of leaving. */
struct left {
    struct left *next;
    struct lab_mpi_window window;
};
static struct left *left;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Both ranks have left the same ones, and free them in the same order; ANY_PEER: so have all. */
static void free_left(int peer)
{
    pthread_mutex_lock(&lock);
    for (struct left **at = &left; *at;) {
        struct left *found = *at;
        if (peer != ANY_PEER && found->window.peer != peer) {
            at = &found->next;
            continue;
        }
        *at = found->next;
        MPI_Win_unlock_all(found->window.win);
        MPI_Win_free(&found->window.win);
        MPI_Comm_free(&found->window.comm);
        free(found);
    }
    pthread_mutex_unlock(&lock);
}

void lab_mpi_windows_free(void)
{
    free_left(ANY_PEER);
}

void lab_mpi_window_leave(struct lab_mpi_window *window)
{
    struct left *entry = calloc(1, sizeof *entry), **at = &left;
    /* Without memory for the note it lasts until the process ends. */
    if (!entry)
        return;
    entry->window = *window;
    pthread_mutex_lock(&lock);
    while (*at && (*at)->window.order < window->order)
        at = &(*at)->next;
    entry->next = *at;
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
    window->skip[role] = (size_t)((unsigned char *)window->part[role] - (unsigned char *)base);
    uint64_t skip[2] = {window->skip[role]}, both[2];
    code = MPI_Allgather(skip, 1, MPI_UINT64_T, both, 1, MPI_UINT64_T, window->comm);
    if (code != MPI_SUCCESS)
        return code;
    window->skip[!role] = (size_t)both[!role];
    memset(window->part[role], 0, bytes);
    if (kind == LAB_MPI_SHARED && MPI_Win_shared_query(window->win, !role, &of_peer, &unit, &base) == MPI_SUCCESS) {
        window->part[!role] = aligned(base);
        window->bytes[!role] = (size_t)of_peer - ALIGNMENT;
    }
    return MPI_Win_lock_all(MPI_MODE_NOCHECK, window->win);
}

int lab_mpi_window_open(const struct lab_end *end, size_t bytes, enum lab_mpi_kind kind, struct lab_mpi_window *ret_window)
{
    struct lab_mpi_window window = {.win = MPI_WIN_NULL, .comm = MPI_COMM_NULL, .order = (uint64_t)end->channel.epoch << 32 | end->channel.id};
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
