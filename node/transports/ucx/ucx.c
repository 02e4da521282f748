/* ucx: active messages of UCX's protocol layer (ucp_am_send_nbx) between two workers of it, over whatever transports the library picks by itself
 * (UCX_TLS and its other variables are heeded). A message is written in place into a buffer of the sender's, of which there is one for each of the
 * window, and is the library's until it says that it is done with it. Short and middling ones it copies into shared memory ("eager"),
 * long ones the receiver fetches out of that buffer once it is asked for them ("rendezvous"): those lie in the sender until then. The receiver
 * reads eager data where the library has put it, except for what that has only borrowed itself, some hundred bytes.
 *
 * All ends of a thread share one worker of UCX: whoever waits on one end makes the others progress as well, and so two threads that send long
 * messages to each other do not wait for each other. The address of the receiver's worker, and the number under which it expects the
 * channel's messages, lie in a page that both sides share; the sender connects when it first has something to send, so that nobody waits for
 * anyone when ends are opened. The page also says who is gone, for UCX does not where it uses shared memory: `close` does, and the node's
 * hangup.
 *
 *     | gone tx, gone rx | length of the address, number | address |
 *
 * UCX progresses only while it is called: ends poll, without a pause in between, as ucx_perftest does. */
#include "node/transports/memory.h"

#include "base/clock.h"
#include "base/error.h"

#include <ucp/api/ucp.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ADDRESS_MAX = 16384, KEPT = 256, ARRIVALS = 64, ARRIVALS_MAX = 1 << 20, NUMBERS = 1 << 16, LAST_LOOKS = 64 };
#define CLOSE_WITHIN_NS (900 * LAB_NS_PER_MS)

struct page {
    _Atomic uint32_t gone[2];        /* by role */
    _Alignas(128) _Atomic uint32_t address_bytes; /* 0: not known yet; stored last */
    uint32_t number;                 /* of active messages of this channel, in the receiver's worker */
    unsigned char address[ADDRESS_MAX];
};

/* Of a thread. */
struct hub {
    ucp_context_h context;
    ucp_worker_h worker;
    uint32_t users;
    uint32_t numbers; /* of active messages given out, never twice: what a closed channel's sender still sends is nobody's */
};

/* What has come, and is not released. */
struct arrival {
    void *data;       /* NULL: in `kept` */
    uint32_t length;
    enum { KEPT_HERE, LENT, ON_REQUEST } how;
    unsigned char kept[KEPT];
};

struct slot {
    void *request; /* NULL: the library has done with the bytes */
    unsigned char *bytes;
};

struct ucx_end {
    struct lab_end end;
    struct lab_segment segment;
    struct page *page;
    struct hub *hub;
    struct lab_wait_plan plan;
    bool broken;
    /* TX */
    ucp_ep_h peer;
    uint32_t number;
    struct slot *slots;       /* one for each of the window */
    unsigned char *memory;    /* TX: of the slots; RX: what was on request is fetched into it */
    uint32_t slot, length;    /* the one that is lent next, or is */
    uint32_t pending, oldest; /* slots whose bytes the library may still need, up to the one before `slot` */
    /* RX */
    struct arrival *arrivals; /* a ring, of a power of two */
    uint32_t room, first, count;
    bool fetched;             /* the first is on request, and is in `memory` */
};

static _Thread_local struct hub *hub;

static struct ucx_end *ucx_of(struct lab_end *end)
{
    return (struct ucx_end *)end;
}

static int failed(struct ucx_end *u, const char *what, ucs_status_t status)
{
    u->broken = true;
    return lab_refuse(EIO, "%s, channel %u: %s", what, u->end.channel.id, ucs_status_string(status));
}

/* ---- the node's side ---- */

static int ucx_provision(const struct lab_channel *channel, struct lab_wire *ret_wire)
{
    struct lab_segment segment;
    int err = lab_memory_make(channel, "ucx", sizeof(struct page), &segment);
    return err ? err : lab_memory_hand_over(&segment, ret_wire);
}

static void ucx_hangup(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead)
{
    struct lab_segment segment;
    /* Made by ucx_provision: it can be mapped, or the machine has no memory left to tell anyone anything. */
    if (lab_memory_map(channel, wire, dead, 0, &segment))
        return;
    atomic_store(&((struct page *)segment.memory)->gone[dead], 1);
    lab_segment_fini(&segment);
}

/* ---- the thread's worker ---- */

static ucs_status_t start(struct hub *made)
{
    const ucp_params_t context = {.field_mask = UCP_PARAM_FIELD_FEATURES, .features = UCP_FEATURE_AM};
    const ucp_worker_params_t worker = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE, .thread_mode = UCS_THREAD_MODE_SINGLE};
    ucp_config_t *config;
    ucs_status_t status = ucp_config_read(NULL, NULL, &config);
    if (status != UCS_OK)
        return status;
    status = ucp_init(&context, config, &made->context);
    ucp_config_release(config);
    if (status != UCS_OK)
        return status;
    status = ucp_worker_create(made->context, &worker, &made->worker);
    if (status != UCS_OK)
        ucp_cleanup(made->context);
    return status;
}

static int hold_hub(void)
{
    if (!hub) {
        struct hub *made = calloc(1, sizeof *made);
        ucs_status_t status = made ? start(made) : UCS_ERR_NO_MEMORY;
        if (status != UCS_OK) {
            free(made);
            return lab_refuse(EIO, "cannot start UCX: %s", ucs_status_string(status));
        }
        hub = made;
    }
    hub->users++;
    return 0;
}

static void release_hub(struct hub *held)
{
    if (--held->users)
        return;
    ucp_worker_destroy(held->worker);
    ucp_cleanup(held->context);
    free(held);
    if (hub == held)
        hub = NULL;
}

/* ---- arrivals ---- */

static bool make_room(struct ucx_end *u)
{
    uint32_t room = 2 * u->room;
    struct arrival *grown = room <= ARRIVALS_MAX ? malloc(room * sizeof *grown) : NULL;
    if (!grown)
        return false;
    for (uint32_t i = 0; i < u->count; i++)
        grown[i] = u->arrivals[(u->first + i) % u->room];
    free(u->arrivals);
    u->arrivals = grown;
    u->room = room;
    u->first = 0;
    return true;
}

/* Called by the library, from ucp_worker_progress(). */
static ucs_status_t arrive(void *argument, const void *header, size_t header_length, void *data, size_t length, const ucp_am_recv_param_t *how)
{
    struct ucx_end *u = argument;
    (void)header;
    (void)header_length;
    bool lent = how->recv_attr & UCP_AM_RECV_ATTR_FLAG_DATA, on_request = how->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV;
    if (length == 0 || length > u->end.channel.message_max || (u->count == u->room && !make_room(u)) || (!lent && !on_request && length > KEPT)) {
        u->broken = true;
        return UCS_OK;
    }
    struct arrival *arrival = &u->arrivals[(u->first + u->count++) & (u->room - 1)];
    arrival->length = (uint32_t)length;
    arrival->data = data;
    arrival->how = on_request ? ON_REQUEST : lent ? LENT : KEPT_HERE;
    if (arrival->how != KEPT_HERE)
        return UCS_INPROGRESS;
    memcpy(arrival->kept, data, length);
    return UCS_OK;
}

static bool listen_for(struct ucx_end *u, ucp_am_recv_callback_t call, uint32_t number)
{
    const ucp_am_handler_param_t handler = {
        .field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS | UCP_AM_HANDLER_PARAM_FIELD_CB |
                      UCP_AM_HANDLER_PARAM_FIELD_ARG,
        .id = number, .flags = UCP_AM_FLAG_WHOLE_MSG, .cb = call, .arg = u};
    return ucp_worker_set_am_recv_handler(u->hub->worker, &handler) == UCS_OK;
}

/* ---- opening ---- */

static int open_receiver(struct ucx_end *u)
{
    ucp_address_t *address;
    size_t bytes;
    u->room = ARRIVALS;
    u->arrivals = malloc(u->room * sizeof *u->arrivals);
    u->memory = aligned_alloc(64, (u->end.channel.message_max + 63u) / 64 * 64);
    if (!u->arrivals || !u->memory)
        return lab_fail(ENOMEM, "no memory for messages of %u bytes", u->end.channel.message_max);
    u->number = u->hub->numbers++;
    if (u->number >= NUMBERS || !listen_for(u, arrive, u->number))
        return lab_refuse(EIO, "UCX takes no more kinds of active messages in this thread");
    ucs_status_t status = ucp_worker_get_address(u->hub->worker, &address, &bytes);
    if (status != UCS_OK)
        return failed(u, "UCX has no address", status);
    int err = bytes > ADDRESS_MAX ? lab_refuse(EMSGSIZE, "UCX has an address of %zu bytes, and %d can be told", bytes, ADDRESS_MAX) : 0;
    if (!err) {
        memcpy(u->page->address, address, bytes);
        u->page->number = u->number;
        atomic_store_explicit(&u->page->address_bytes, (uint32_t)bytes, memory_order_release);
    }
    ucp_worker_release_address(u->hub->worker, address);
    return err;
}

static int open_sender(struct ucx_end *u)
{
    const struct lab_channel *channel = &u->end.channel;
    size_t stride = (channel->message_max + 63u) / 64 * 64;
    u->slots = calloc(channel->window, sizeof *u->slots);
    u->memory = aligned_alloc(64, stride * channel->window);
    if (!u->slots || !u->memory)
        return lab_fail(ENOMEM, "no memory for %u messages of %u bytes", channel->window, channel->message_max);
    for (uint32_t s = 0; s < channel->window; s++)
        u->slots[s].bytes = u->memory + s * stride;
    return 0;
}

static void drop(struct ucx_end *u)
{
    release_hub(u->hub);
    lab_segment_fini(&u->segment);
    free(u->slots);
    free(u->arrivals);
    free(u->memory);
}

static int ucx_open(struct lab_end *end, uint64_t deadline_ns)
{
    struct ucx_end *u = ucx_of(end);
    int err = lab_memory_map(&end->channel, &end->wire, end->role, deadline_ns, &u->segment);
    if (err)
        return err;
    err = u->segment.size < sizeof(struct page) ? lab_refuse(EBADMSG, "the page of channel %u is too small", end->channel.id) : hold_hub();
    if (err) {
        lab_segment_fini(&u->segment);
        return err;
    }
    u->hub = hub;
    u->page = u->segment.memory;
    u->plan = lab_wait_plan(end->channel.wait);
    err = end->role == LAB_TX ? open_sender(u) : open_receiver(u);
    if (err)
        drop(u);
    else
        lab_memory_mapped(end);
    return err;
}

/* ---- waiting ---- */

/* As lab_wait_until, but without a pause between two looks: one of them is a round through all that the library has under way. */
static int await(struct ucx_end *u, bool (*ready)(struct ucx_end *), enum lab_role other, uint64_t deadline_ns)
{
    struct lab_wait_state state = {.polls = deadline_ns ? u->plan.polls : 1};
    for (;;) {
        for (uint32_t i = 0, polls = state.polls; i < polls; i++)
            if (ready(u))
                return 0;
        if (atomic_load_explicit(&u->page->gone[other], memory_order_acquire)) {
            for (uint32_t i = 0; i < LAST_LOOKS; i++)
                if (ready(u))
                    return 0;
            return lab_refuse(EPIPE, "the other end of channel %u is gone", u->end.channel.id);
        }
        int step = lab_wait_step(&u->plan, &state, NULL, deadline_ns);
        if (step < 0)
            return step;
    }
}

/* Does the library still need the bytes? */
static bool is_under_way(struct ucx_end *u, struct slot *slot)
{
    if (!slot->request)
        return false;
    ucs_status_t status = ucp_request_check_status(slot->request);
    if (status == UCS_INPROGRESS)
        return true;
    ucp_request_free(slot->request);
    slot->request = NULL;
    u->broken |= status != UCS_OK;
    return false;
}

/* ---- sending ---- */

static bool has_address(struct ucx_end *u)
{
    return atomic_load_explicit(&u->page->address_bytes, memory_order_acquire);
}

static int connect_to(struct ucx_end *u, uint64_t deadline_ns)
{
    int err = await(u, has_address, LAB_RX, deadline_ns);
    if (err)
        return err;
    uint32_t bytes = atomic_load(&u->page->address_bytes);
    if (bytes > ADDRESS_MAX || u->page->number >= NUMBERS)
        return lab_refuse(EBADMSG, "channel %u: an address of UCX with %u bytes", u->end.channel.id, bytes);
    unsigned char *address = malloc(bytes);
    if (!address)
        return lab_fail(ENOMEM, "no memory for an address of UCX");
    memcpy(address, u->page->address, bytes);
    u->number = u->page->number;
    const ucp_ep_params_t peer = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS, .address = (ucp_address_t *)address};
    ucs_status_t status = ucp_ep_create(u->hub->worker, &peer, &u->peer);
    free(address);
    return status == UCS_OK ? 0 : failed(u, "UCX cannot connect", status);
}

static uint32_t after(const struct ucx_end *u, uint32_t slot)
{
    return slot + 1 == u->end.channel.window ? 0 : slot + 1;
}

static bool has_slot(struct ucx_end *u)
{
    if (u->pending)
        ucp_worker_progress(u->hub->worker);
    while (u->pending && !is_under_way(u, &u->slots[u->oldest])) {
        u->oldest = after(u, u->oldest);
        u->pending--;
    }
    return u->pending < u->end.channel.window;
}

static int ucx_reserve(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct ucx_end *u = ucx_of(end);
    (void)want; /* the library sends one at a time */
    if (length == 0 || length > end->channel.message_max)
        return lab_refuse(EMSGSIZE, "a message of %u bytes on a channel for 1 to %u", length, end->channel.message_max);
    int err = u->peer ? 0 : connect_to(u, deadline_ns);
    if (!err)
        err = await(u, has_slot, LAB_RX, deadline_ns);
    if (err)
        return err;
    if (u->broken)
        return lab_refuse(EIO, "UCX broke off channel %u", end->channel.id);
    u->length = length;
    *ret_span = (struct lab_span){.at = u->slots[u->slot].bytes, .stride = length, .length = length, .count = 1};
    return 0;
}

/* A slot that is free again at once is the next one too: its lines are still in the cache. */
static void ucx_commit(struct lab_end *end, uint32_t count)
{
    static const ucp_request_param_t plain = {0};
    struct ucx_end *u = ucx_of(end);
    if (!count)
        return;
    void *request = ucp_am_send_nbx(u->peer, u->number, NULL, 0, u->slots[u->slot].bytes, u->length, &plain);
    if (UCS_PTR_IS_ERR(request)) {
        u->broken = true;
    } else if (request) {
        u->slots[u->slot].request = request;
        u->oldest = u->pending++ ? u->oldest : u->slot;
        u->slot = after(u, u->slot);
    }
}

/* ---- receiving ---- */

static bool has_arrival(struct ucx_end *u)
{
    if (!u->count && !u->broken)
        ucp_worker_progress(u->hub->worker);
    return u->count || u->broken;
}

/* What is on request is copied out of the sender's buffer. A request that began ends, for the sender has long offered it; if that is gone, it fails. */
static int fetch(struct ucx_end *u, struct arrival *arrival)
{
    static const ucp_request_param_t plain = {0};
    struct slot fetching = {.request = ucp_am_recv_data_nbx(u->hub->worker, arrival->data, u->memory, arrival->length, &plain)};
    uint64_t deadline_ns = lab_now_ns() + CLOSE_WITHIN_NS;
    arrival->data = NULL;
    if (UCS_PTR_IS_ERR(fetching.request))
        return failed(u, "UCX cannot fetch a message", UCS_PTR_STATUS(fetching.request));
    for (uint32_t polls = 1; is_under_way(u, &fetching); polls++) {
        ucp_worker_progress(u->hub->worker);
        if (polls % LAB_WAIT_POLLS == 0 && !lab_ns_until(deadline_ns))
            return failed(u, "UCX cannot fetch a message", UCS_ERR_TIMED_OUT);
    }
    u->fetched = !u->broken;
    return u->broken ? failed(u, "UCX cannot fetch a message", UCS_ERR_IO_ERROR) : 0;
}

static int ucx_borrow(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span)
{
    struct ucx_end *u = ucx_of(end);
    (void)want;
    int err = await(u, has_arrival, LAB_TX, deadline_ns);
    if (err)
        return err;
    if (u->broken)
        return lab_refuse(EIO, "UCX broke off channel %u", end->channel.id);
    struct arrival *first = &u->arrivals[u->first];
    if (first->how == ON_REQUEST && !u->fetched)
        err = fetch(u, first);
    if (err)
        return err;
    first = &u->arrivals[u->first]; /* others may have come meanwhile */
    unsigned char *at = first->how == KEPT_HERE ? first->kept : first->how == LENT ? first->data : u->memory;
    *ret_span = (struct lab_span){.at = at, .stride = first->length, .length = first->length, .count = 1};
    return 0;
}

static void ucx_release(struct lab_end *end, uint32_t count)
{
    struct ucx_end *u = ucx_of(end);
    if (!count)
        return;
    struct arrival *first = &u->arrivals[u->first];
    if (first->how == LENT || (first->how == ON_REQUEST && first->data))
        ucp_am_data_release(u->hub->worker, first->data);
    u->fetched = false;
    u->first = (u->first + 1) & (u->room - 1);
    u->count--;
}

/* ---- closing ---- */

/* Until the library needs none of the slots any more. A receiver that is gone will ask for nothing more; what it had said before may be on its way. */
static void flush(struct ucx_end *u)
{
    uint64_t deadline_ns = lab_now_ns() + CLOSE_WITHIN_NS;
    uint32_t looks = 0;
    while (has_slot(u), u->pending && lab_ns_until(deadline_ns) && looks < LAST_LOOKS)
        looks += u->page->gone[LAB_RX];
}

static void disconnect(struct ucx_end *u)
{
    const ucp_request_param_t how = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_EP_CLOSE_FLAG_FORCE};
    struct slot closing = {.request = ucp_ep_close_nbx(u->peer, &how)};
    uint64_t deadline_ns = lab_now_ns() + LAB_NS_PER_S / 10;
    if (UCS_PTR_IS_ERR(closing.request))
        return;
    while (is_under_way(u, &closing) && lab_ns_until(deadline_ns))
        ucp_worker_progress(u->hub->worker);
}

static void ucx_close(struct lab_end *end)
{
    struct ucx_end *u = ucx_of(end);
    if (u->peer)
        flush(u);
    atomic_store(&u->page->gone[end->role], 1);
    if (u->peer)
        disconnect(u);
    while (u->count)
        ucx_release(end, 1);
    if (end->role == LAB_RX)
        listen_for(u, NULL, u->number);
    drop(u);
}

static void ucx_library(char to[LAB_LIBRARY_TEXT])
{
    snprintf(to, LAB_LIBRARY_TEXT, "UCX %s", ucp_get_version_string());
}

const struct lab_transport_ops lab_ops_ucx = {
    .name = "ucx", .end_bytes = sizeof(struct ucx_end), .provision = ucx_provision, .retire = lab_memory_retire, .hangup = ucx_hangup,
    .open = ucx_open, .close = ucx_close, .reserve = ucx_reserve, .commit = ucx_commit, .borrow = ucx_borrow, .release = ucx_release,
    .library = ucx_library,
};
