/* mpi-rma: distributed shared memory. The sender puts messages into a window of MPI in the receiver's memory, wherever that is, and the
 * receiver finds them there: nobody calls a receive.
 *
 *     the receiver's part    | sent, once the sender has closed | - | telling | slot | slot | ...      a slot: | word | message ... |
 *     the sender's part      | taken | gone, once the receiver has closed | telling |
 *
 * A message is put into its slot, then flushed (MPI_Win_flush: it is there), then the word before it is put and flushed: its number, from 1 on,
 * and its length. The receiver polls that word in its own memory. What it has taken it tells the sender, not each time but once in `lazy`
 * messages, and there are as many slots more than the window. Words are put as a whole, by MPI_Accumulate, which promises that.
 *
 * To flush waits until the other rank has it, which takes part only while it calls MPI; that wait is MPI's and has no deadline, so only the
 * sender of a message does it. What is told is begun, and looked after from time to time (MPI_Raccumulate). Waiting for room has a deadline, and
 * when it passes nothing has happened. Polling calls MPI as well (MPI_Iprobe), or nothing would arrive. */
#include "node/transports/mpi/window.h"

#include "base/clock.h"
#include "base/error.h"
#include "node/transports/mpi/carrier.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

enum { LINE = 64, WORD = 8 };
enum { SENT_AT = 0, TAKEN_AT = 0, GONE_AT = WORD, TELLING_AT = 2 * WORD, SLOTS_AT = LINE };
#define GOODBYE_WITHIN_NS (100 * LAB_NS_PER_MS)

struct rma_end {
    struct lab_end end;
    struct lab_mpi_window window;
    uint32_t slots, lazy;
    size_t stride;       /* of a slot */
    uint64_t position;   /* messages sent, or taken */
    uint64_t shown;      /* RX: of those taken, how many the sender was told */
    uint64_t taken;      /* TX: as far as is known */
    MPI_Request telling; /* of the word at TELLING_AT, which must not change until then */
    bool broken;
};

static struct rma_end *rma_of(struct lab_end *end)
{
    return (struct rma_end *)end;
}

static size_t slot_at(const struct rma_end *rma, uint64_t position)
{
    return SLOTS_AT + (size_t)(position % rma->slots) * rma->stride;
}

static uint64_t word_of(uint64_t position, size_t length)
{
    return (position + 1) << 32 | (uint32_t)length;
}

/* Of this end's own part, which the other may be writing to. */
static uint64_t own_word(const struct rma_end *rma, size_t at)
{
    const unsigned char *part = rma->window.part[rma->end.role];
    return atomic_load_explicit((const _Atomic uint64_t *)(const void *)(part + at), memory_order_acquire);
}

/* Calls MPI, which may bring something; false: it is time to give up. */
static bool poll_again(const struct rma_end *rma, uint32_t polls, uint64_t deadline_ns)
{
    int ignored;
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, rma->window.comm, &ignored, MPI_STATUS_IGNORE);
    MPI_Win_sync(rma->window.win);
    return lab_mpi_patience(polls, deadline_ns);
}

/* ---- putting ---- */

static int failed(struct rma_end *rma, int code, const char *what)
{
    rma->broken = true;
    return lab_mpi_failed(code, what);
}

/* What was put is there, and not only on its way. */
static int flush(struct rma_end *rma)
{
    int code = MPI_Win_flush(!rma->end.role, rma->window.win);
    return code == MPI_SUCCESS ? 0 : failed(rma, code, "MPI_Win_flush");
}

/* Whether what was told last has arrived, so that something else can be told. */
static bool told(struct rma_end *rma, uint64_t deadline_ns)
{
    int code;
    if (rma->telling != MPI_REQUEST_NULL && lab_mpi_complete(rma->telling, MPI_STATUS_IGNORE, deadline_ns, &code))
        return false;
    lab_mpi_give_back(&rma->telling);
    return true;
}

static void tell(struct rma_end *rma, size_t at, uint64_t word)
{
    uint64_t *telling = (uint64_t *)(void *)((unsigned char *)rma->window.part[rma->end.role] + TELLING_AT);
    MPI_Aint offset = (MPI_Aint)(rma->window.skip[!rma->end.role] + at);
    *telling = word;
    if (MPI_Raccumulate(telling, 1, MPI_UINT64_T, !rma->end.role, offset, 1, MPI_UINT64_T, MPI_REPLACE, rma->window.win, &rma->telling) != MPI_SUCCESS)
        rma->telling = MPI_REQUEST_NULL;
}

static int wait_for_room(struct rma_end *rma, uint64_t deadline_ns)
{
    for (uint32_t polls = 0;; polls++) {
        if (rma->position - rma->taken < rma->slots)
            return 0;
        uint64_t taken = own_word(rma, TAKEN_AT);
        if (taken < rma->taken || taken > rma->position)
            return lab_refuse(EBADMSG, "rank %d says that it has taken %llu of %llu messages", rma->window.peer, (unsigned long long)taken,
                              (unsigned long long)rma->position);
        rma->taken = taken;
        if (rma->position - taken >= rma->slots && polls && !poll_again(rma, polls, deadline_ns))
            return own_word(rma, GONE_AT) ? lab_refuse(EPIPE, "rank %d has closed channel %u", rma->window.peer, rma->end.channel.id) : -EAGAIN;
    }
}

static int rma_send(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns)
{
    struct rma_end *rma = rma_of(end);
    if (length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %zu bytes on a channel of at most %u", length, end->channel.message_max);
    if (rma->broken)
        return lab_mpi_refuse_broken();
    if (own_word(rma, GONE_AT))
        return lab_refuse(EPIPE, "rank %d has closed channel %u", rma->window.peer, end->channel.id);
    int err = wait_for_room(rma, deadline_ns);
    if (err)
        return err;
    size_t slot = slot_at(rma, rma->position);
    int code = MPI_Put(message, (int)length, MPI_BYTE, LAB_RX, (MPI_Aint)(rma->window.skip[LAB_RX] + slot + WORD), (int)length, MPI_BYTE, rma->window.win);
    if (code != MPI_SUCCESS)
        return failed(rma, code, "MPI_Put");
    err = flush(rma);
    if (err)
        return err;
    uint64_t word = word_of(rma->position, length);
    code = MPI_Accumulate(&word, 1, MPI_UINT64_T, LAB_RX, (MPI_Aint)(rma->window.skip[LAB_RX] + slot), 1, MPI_UINT64_T, MPI_REPLACE, rma->window.win);
    if (code != MPI_SUCCESS)
        return failed(rma, code, "MPI_Accumulate");
    err = flush(rma);
    if (!err)
        rma->position++;
    return err;
}

/* ---- taking ---- */

/* The sender hears of it as soon as the time before has arrived. */
static void tell_taken(struct rma_end *rma)
{
    if (rma->position - rma->shown < rma->lazy || !told(rma, 0))
        return;
    tell(rma, TAKEN_AT, rma->position);
    rma->shown = rma->position;
}

/* 0: the message is there, of that length; or what there is instead. */
static int wait_for_message(struct rma_end *rma, uint64_t deadline_ns, uint32_t *ret_length)
{
    size_t slot = slot_at(rma, rma->position);
    for (uint32_t polls = 1;; polls++) {
        uint64_t closed = own_word(rma, SENT_AT), word = own_word(rma, slot);
        if (word >> 32 == (uint32_t)(rma->position + 1)) {
            *ret_length = (uint32_t)word;
            return *ret_length <= rma->end.channel.message_max
                       ? 0 : lab_refuse(EBADMSG, "rank %d says that its message has %u bytes, on a channel of at most %u", rma->window.peer, *ret_length,
                                        rma->end.channel.message_max);
        }
        if (closed && closed - 1 == rma->position)
            return lab_refuse(EPIPE, "rank %d has closed channel %u", rma->window.peer, rma->end.channel.id);
        tell_taken(rma);
        if (!poll_again(rma, polls, deadline_ns))
            return -EAGAIN;
    }
}

static ssize_t rma_recv(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns)
{
    struct rma_end *rma = rma_of(end);
    uint32_t length = 0;
    if (rma->broken)
        return lab_mpi_refuse_broken();
    int err = wait_for_message(rma, deadline_ns, &length);
    if (err)
        return err;
    const unsigned char *part = rma->window.part[LAB_RX];
    if (length <= room)
        memcpy(to, part + slot_at(rma, rma->position) + WORD, length);
    rma->position++;
    tell_taken(rma);
    return length <= room ? (ssize_t)length : lab_refuse(EMSGSIZE, "a message of %u bytes of rank %d for a buffer of %zu", length, rma->window.peer, room);
}

/* ---- the life of an end ---- */

static int rma_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct rma_end *rma = rma_of(end);
    (void)deadline_ns;
    rma->telling = MPI_REQUEST_NULL;
    rma->lazy = (end->channel.window + 1) / 2;
    rma->slots = end->channel.window + rma->lazy - 1;
    rma->stride = (WORD + (size_t)end->channel.message_max + LINE - 1) & ~(size_t)(LINE - 1);
    return lab_mpi_window_open(end, end->role == LAB_RX ? SLOTS_AT + rma->slots * rma->stride : LINE, LAB_MPI_REMOTE, &rma->window);
}

/* The other may not be listening any more, and then need not hear it: what is still on its way may stay there. */
static void rma_close(struct lab_end *end)
{
    struct rma_end *rma = rma_of(end);
    uint64_t deadline_ns = lab_now_ns() + GOODBYE_WITHIN_NS;
    if (!rma->broken && !lab_mpi_broken() && told(rma, deadline_ns)) {
        tell(rma, end->role == LAB_TX ? SENT_AT : GONE_AT, end->role == LAB_TX ? rma->position + 1 : 1);
        told(rma, deadline_ns);
    }
    if (rma->telling != MPI_REQUEST_NULL)
        MPI_Request_free(&rma->telling);
    lab_mpi_window_leave(&rma->window);
}

const struct lab_transport_ops lab_ops_mpi_rma = {
    .name = "mpi-rma",
    .end_bytes = sizeof(struct rma_end),
    .provision = lab_mpi_provision,
    .retire = lab_mpi_retire,
    .open = rma_open,
    .close = rma_close,
    .send = rma_send,
    .recv = rma_recv,
    .enter = lab_mpi_enter,
    .library = lab_mpi_library,
    .carrier = lab_mpi_carrier,
};
