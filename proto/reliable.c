#include "proto/reliable.h"

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- the sending end ---- */

void lab_reliable_tx_init(struct lab_reliable_tx *tx, const struct lab_reliable_tx_config *config)
{
    uint64_t from = config->resumes ? config->from : 0;
    *tx = (struct lab_reliable_tx){
        .config = *config, .stream = config->resumes ? config->stream : config->epoch, .acked = from, .next = from, .cursor = from, .furthest = from, .asked = LAB_RELIABLE_NEVER, .due_ns = 1,
        .timeout_ns = config->resend_ns,
    };
}

/* No receiver can rightly be further than this. */
static uint64_t reach(const struct lab_reliable_tx *tx)
{
    return tx->config.resumes ? later(tx->next, tx->config.until) : tx->next;
}

/* Something was heard that tells that the receiver lives and goes on. */
static void rewind_clock(struct lab_reliable_tx *tx, uint64_t now_ns)
{
    tx->timeout_ns = tx->config.resend_ns;
    tx->due_ns = lab_reliable_tx_idle(tx) ? 0 : now_ns + tx->timeout_ns;
}

bool lab_reliable_tx_due(struct lab_reliable_tx *tx, uint64_t now_ns, struct lab_reliable_frame *ret_frame)
{
    if (tx->open && !tx->due_ns && !lab_reliable_tx_idle(tx))
        tx->due_ns = now_ns + tx->timeout_ns;
    bool asks = tx->due_ns && now_ns >= tx->due_ns;
    if (!asks && (!tx->open || tx->cursor >= tx->next))
        return false;
    *ret_frame = (struct lab_reliable_frame){.kind = LAB_RELIABLE_DATA, .tx_epoch = tx->config.epoch, .rx_epoch = tx->rx_epoch, .position = tx->cursor};
    if (asks)
        *ret_frame = (struct lab_reliable_frame){.kind = LAB_RELIABLE_ASK, .tx_epoch = tx->config.epoch, .stream = tx->stream, .position = tx->acked};
    return true;
}

void lab_reliable_tx_sent(struct lab_reliable_tx *tx, uint64_t now_ns, const struct lab_reliable_frame *frame)
{
    if (frame->kind == LAB_RELIABLE_DATA) {
        tx->resent += tx->cursor < tx->furthest;
        tx->cursor++;
        tx->furthest = later(tx->furthest, tx->cursor);
        return;
    }
    tx->asked = tx->cursor;
    tx->due_ns = now_ns + tx->timeout_ns;
    tx->timeout_ns = tx->timeout_ns < tx->config.resend_most_ns / 2 ? 2 * tx->timeout_ns : tx->config.resend_most_ns;
}

/* A receiver that this sender does not know, or has no place in: one that was just started. */
static void meet(struct lab_reliable_tx *tx, uint64_t now_ns, const struct lab_reliable_frame *frame)
{
    tx->lives += frame->rx_epoch != tx->rx_epoch;
    tx->rx_epoch = frame->rx_epoch;
    tx->open = frame->position >= tx->acked;
    tx->asked = LAB_RELIABLE_NEVER;
    if (tx->open) {
        tx->cursor = frame->position;
        rewind_clock(tx, now_ns);
    } else {
        tx->due_ns = now_ns; /* an old question was answered; this sender is further: it asks again, and says so */
    }
}

static void heard_here(struct lab_reliable_tx *tx, uint64_t now_ns, const struct lab_reliable_frame *frame)
{
    if (frame->rx_epoch < tx->rx_epoch || frame->position > reach(tx))
        return;
    if (frame->rx_epoch > tx->rx_epoch || (!tx->open && frame->position >= tx->acked)) {
        meet(tx, now_ns, frame);
        return;
    }
    if (!tx->open || frame->position < tx->acked)
        return; /* late */
    /* What was sent after the question may still be on its way behind it. */
    bool whole = tx->asked != LAB_RELIABLE_NEVER && frame->position >= tx->asked;
    if (!whole && frame->position < tx->cursor)
        tx->cursor = frame->position;
    tx->asked = LAB_RELIABLE_NEVER;
    rewind_clock(tx, now_ns);
}

void lab_reliable_tx_heard(struct lab_reliable_tx *tx, uint64_t now_ns, const struct lab_reliable_frame *frame)
{
    if (frame->tx_epoch != tx->config.epoch)
        return;
    if (frame->kind == LAB_RELIABLE_HERE) {
        heard_here(tx, now_ns, frame);
        return;
    }
    /* Not of an earlier life of the receiver: what this one was told to expect, it may be given once more. */
    bool new = frame->kind == LAB_RELIABLE_ACK && tx->open && frame->rx_epoch == tx->rx_epoch && frame->position > tx->acked;
    if (!new || frame->position > reach(tx))
        return;
    tx->acked = frame->position;
    tx->cursor = later(tx->cursor, tx->acked);
    tx->furthest = later(tx->furthest, tx->acked);
    rewind_clock(tx, now_ns);
}

uint64_t lab_reliable_tx_wake_ns(const struct lab_reliable_tx *tx)
{
    if (tx->open && (tx->cursor < tx->next || (!tx->due_ns && !lab_reliable_tx_idle(tx))))
        return 0;
    return tx->due_ns ? tx->due_ns : LAB_RELIABLE_NEVER;
}

/* ---- the receiving end ---- */

void lab_reliable_rx_init(struct lab_reliable_rx *rx, const struct lab_reliable_rx_config *config)
{
    *rx = (struct lab_reliable_rx){.config = *config, .missed = LAB_RELIABLE_NEVER};
    if (config->resumes) {
        rx->stream = config->stream;
        rx->tx_epoch = config->tx_epoch;
        rx->next = rx->taken = rx->told = config->from;
    }
}

/* All before was taken: by this stream's earlier receivers, or there is nothing before. */
static void expect(struct lab_reliable_rx *rx, uint64_t position)
{
    rx->next = rx->taken = rx->told = position;
    rx->missed = LAB_RELIABLE_NEVER;
}

static void heard_question(struct lab_reliable_rx *rx, const struct lab_reliable_frame *frame)
{
    bool possible = frame->stream && frame->position <= LAB_RELIABLE_POSITION_MAX;
    if (!possible || frame->tx_epoch < rx->tx_epoch || frame->stream < rx->stream)
        return;
    if (frame->stream > rx->stream || frame->position > rx->next)
        expect(rx, frame->position);
    rx->stream = frame->stream;
    rx->tx_epoch = frame->tx_epoch;
    rx->here = true;
    rx->ack = rx->ack || rx->taken > frame->position;
}

static enum lab_reliable_verdict heard_data(struct lab_reliable_rx *rx, const struct lab_reliable_frame *frame)
{
    if (frame->tx_epoch != rx->tx_epoch || frame->rx_epoch != rx->config.epoch) {
        rx->strange++;
        return LAB_RELIABLE_NOTHING;
    }
    if (frame->position == rx->next) {
        rx->next++;
        return LAB_RELIABLE_DELIVER;
    }
    if (frame->position < rx->next) {
        rx->duplicates++;
        return LAB_RELIABLE_NOTHING;
    }
    rx->gaps++;
    if (rx->missed != rx->next) {
        rx->missed = rx->next;
        rx->here = true;
    }
    return LAB_RELIABLE_NOTHING;
}

enum lab_reliable_verdict lab_reliable_rx_heard(struct lab_reliable_rx *rx, const struct lab_reliable_frame *frame)
{
    switch (frame->kind) {
    case LAB_RELIABLE_ASK: heard_question(rx, frame); break;
    case LAB_RELIABLE_DATA: return heard_data(rx, frame);
    case LAB_RELIABLE_HERE:
    case LAB_RELIABLE_ACK: break; /* not for this end */
    }
    return LAB_RELIABLE_NOTHING;
}

void lab_reliable_rx_taken(struct lab_reliable_rx *rx, uint64_t now_ns)
{
    if (rx->taken == rx->next)
        return;
    rx->taken = rx->next;
    rx->ack = rx->ack || rx->taken - rx->told >= rx->config.ack_every;
    if (!rx->ack_at_ns)
        rx->ack_at_ns = now_ns + rx->config.ack_delay_ns;
}

bool lab_reliable_rx_due(const struct lab_reliable_rx *rx, uint64_t now_ns, struct lab_reliable_frame *ret_frame)
{
    bool ack = rx->ack || (rx->ack_at_ns && now_ns >= rx->ack_at_ns);
    if (!rx->here && !ack)
        return false;
    *ret_frame = (struct lab_reliable_frame){
        .kind = rx->here ? LAB_RELIABLE_HERE : LAB_RELIABLE_ACK, .tx_epoch = rx->tx_epoch, .rx_epoch = rx->config.epoch,
        .position = rx->here ? rx->next : rx->taken,
    };
    return true;
}

void lab_reliable_rx_sent(struct lab_reliable_rx *rx, const struct lab_reliable_frame *frame)
{
    if (frame->kind == LAB_RELIABLE_HERE) {
        rx->here = false;
        return;
    }
    rx->told = rx->taken;
    rx->ack = false;
    rx->ack_at_ns = 0;
}

uint64_t lab_reliable_rx_wake_ns(const struct lab_reliable_rx *rx)
{
    return rx->here || rx->ack ? 0 : rx->ack_at_ns ? rx->ack_at_ns : LAB_RELIABLE_NEVER;
}
