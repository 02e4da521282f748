/* Reliable delivery over a way that loses, repeats and reorders: nothing lost, nothing twice, order kept. Two machines without input,
 * output or clock of their own, one at each end of a one-way stream of messages: whoever drives them passes the time and what it heard,
 * asks what is due, sends that, and says so. They never allocate or block. A message's bytes are the caller's: a machine knows
 * positions only, and the place to keep message p until it is acknowledged is p % window.
 *
 *     lab_reliable_tx_init(&tx, &config);
 *     if (lab_reliable_tx_room(&tx))
 *         keep[lab_reliable_tx_push(&tx) % window] = message;
 *     while (lab_reliable_tx_due(&tx, now_ns, &frame) && could send frame, and keep[frame.position % window] if it is DATA)
 *         lab_reliable_tx_sent(&tx, now_ns, &frame);
 *     ... heard something: lab_reliable_tx_heard(&tx, now_ns, &frame); what lies before tx.acked need not be kept any more
 *
 *     lab_reliable_rx_init(&rx, &config);
 *     ... heard something: if (lab_reliable_rx_heard(&rx, &frame) == LAB_RELIABLE_DELIVER) the message is the application's;
 *     ... it has done with all that it was given: lab_reliable_rx_taken(&rx, now_ns);
 *     while (lab_reliable_rx_due(&rx, now_ns, &frame) && could send frame)
 *         lab_reliable_rx_sent(&rx, &frame);
 *
 * The protocol. Each life of an end, from its start to its end or death, has an epoch, greater than those of its earlier lives; S is the
 * sender's, R the receiver's. T is the stream: the epoch of the sender's life that began to count its messages from 0.
 *
 *     sender                                                     receiver
 *       |--- ASK (S,T) p: all before p is acknowledged; where -->|  a greater T: begins at p. The T it knows: goes on, at p if it
 *       |               are you?  (at first, and to probe)         |  was behind it. What comes from an earlier S is not heard any more
 *       |<-- HERE(S,R) p: this is I, and p is what I expect -------|  also when a message came before its turn, once for each gap
 *       |    sends from p on, whatever it had sent before          |
 *       |--- DATA(S,R) p, p+1, ... `window` at most ---------------->|  delivers p if it is the one expected, of this S, for this R;
 *       |                                                          |  drops every other
 *       |<-- ACK (S,R) p: all before p was taken ------------------|  when ack_every are due, or ack_delay_ns after the first
 *       |    nothing heard for resend_ns (doubled, up to           |
 *       |    resend_most_ns): ASK again                            |
 *
 * The receiver keeps nothing but its position, so that memory is bounded by the sender's window (go-back-N). A sender that hears nothing
 * does not send its window again into what may be a cut wire, or to a reader that is merely slow: it asks, and the answer says from
 * where on. An acknowledgement means that the application has taken the message, which it says by lab_reliable_rx_taken, and not that it
 * arrived.
 *
 * What holds, as long as both live and messages get through now and then: every message that is pushed is delivered exactly once, in
 * the order in which they were pushed. What a restart may and may not promise:
 *
 *   - `acked` is never ahead of what the application took. What the sender was told to be acknowledged was taken once, is never
 *     delivered again to any life of the receiver, and is never lost by this protocol.
 *   - A receiver that *remembers* (config.resumes: T, S and its own position, kept as one with what the application made of
 *     the messages) goes on as if it had never been away: exactly once.
 *   - A receiver that *forgets* is given every message from the first unacknowledged one on. Those that its earlier life took and had
 *     not acknowledged, at most a window, it is given again; none is left out. No protocol can do better: Fekete and others.
 *   - A sender that *remembers* (where it was acknowledged, how far it had gone, and the messages between) pushes these again in its
 *     next life, and they are dropped where they had arrived: exactly once.
 *   - A sender that *forgets* begins a new stream at 0. What it had pushed before and was not acknowledged may be lost, all of it or the
 *     end of it; what came is a prefix. Nothing of the earlier stream is delivered after something of the new one.
 *   - Two lives with the same epoch, or in the wrong order, void all this: the caller sees to it.
 *
 * Sources: cumulative acknowledgement, window and time-outs: RFC 9293 (TCP); why an epoch of both ends has to be confirmed before
 * anything is accepted: Belsnes, "Single-message communication" (1976), Watson, "Timer-based mechanisms in reliable transport protocol
 * connection management" (1981); what crashes make impossible: Fekete, Lynch, Mansour and Spinelli, "The impossibility of implementing
 * reliable communication in the face of crashes" (1993); that only the application can say "taken": Saltzer, Reed and Clark,
 * "End-to-end arguments in system design" (1984). tests/stress/reliable.c runs both ends through all of it, from seeds.
 *
 * One thread each. No frame makes an end read or keep what is not its own: a position that cannot be is ignored, and what is kept is
 * bounded by the window. A peer that lies within these bounds spoils its own stream; who may speak at all is for the transport to decide. */
#ifndef LAB_PROTO_RELIABLE_H
#define LAB_PROTO_RELIABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum lab_reliable_kind { LAB_RELIABLE_ASK = 1, LAB_RELIABLE_DATA, LAB_RELIABLE_HERE, LAB_RELIABLE_ACK };

struct lab_reliable_frame {
    enum lab_reliable_kind kind;
    uint64_t tx_epoch; /* S */
    uint64_t rx_epoch; /* R; not of ASK */
    uint64_t stream;   /* T; of ASK only */
    uint64_t position;
};

#define LAB_RELIABLE_POSITION_MAX (UINT64_MAX / 2) /* of a stream that somebody says to go on from: more than any will ever have sent */
#define LAB_RELIABLE_NEVER UINT64_MAX /* no time at which something would be due */

/* ---- what a later life needs to go on ---- */

/* In memory that outlives an end, such as a page that it shares with whoever starts it again; zeroed, nothing is remembered. Killed in the
 * middle of writing, an end leaves what it had written before: there are two, and `valid` says which counts. One writer at a time. */
struct lab_reliable_memory {
    _Atomic uint32_t valid;
    struct lab_reliable_past {
        uint64_t life;     /* its epoch: the next one is greater */
        uint64_t stream;   /* T; 0: there is nothing to go on with */
        uint64_t tx_epoch; /* S; of a receiver */
        uint64_t from;     /* all before was acknowledged; of a receiver: taken */
        uint64_t until;    /* of a sender: nothing from here on was pushed */
    } past[2];
};

static inline struct lab_reliable_past lab_reliable_recall(const struct lab_reliable_memory *memory)
{
    return memory->past[atomic_load_explicit(&memory->valid, memory_order_acquire) & 1];
}

static inline void lab_reliable_remember(struct lab_reliable_memory *memory, const struct lab_reliable_past *past)
{
    uint32_t other = ~atomic_load_explicit(&memory->valid, memory_order_relaxed) & 1;
    memory->past[other] = *past;
    atomic_store_explicit(&memory->valid, other, memory_order_release);
}

/* ---- the sending end ---- */

struct lab_reliable_tx_config {
    uint64_t epoch;   /* S, not 0 */
    uint32_t window;  /* the most unacknowledged messages, 1 or more */
    uint64_t resend_ns, resend_most_ns;
    bool resumes;     /* an earlier life is remembered: */
    uint64_t stream;  /* ... T */
    uint64_t from;    /* ... all before was acknowledged; what is pushed first has this position */
    uint64_t until;   /* ... and nothing from here on was ever pushed */
};

struct lab_reliable_tx {
    struct lab_reliable_tx_config config;
    uint64_t stream;     /* T */
    uint64_t rx_epoch;   /* R, 0: no receiver was ever heard */
    bool open;           /* it said where it is */
    uint64_t acked;      /* all before were taken; after a restart it may be ahead of `next` */
    uint64_t next;       /* of the next message that is pushed */
    uint64_t cursor;     /* of the next message that is sent */
    uint64_t asked;      /* the cursor when ASK was sent that was not answered yet; NEVER: none */
    uint64_t due_ns;     /* when to ask; 0: no need */
    uint64_t timeout_ns; /* how long to wait for an answer */
    uint64_t resent;     /* messages sent more than once */
    uint64_t furthest;   /* all before were sent at least once */
    uint64_t lives;      /* of the receiver, that were met */
};

void lab_reliable_tx_init(struct lab_reliable_tx *tx, const struct lab_reliable_tx_config *config);

/* Whether one more may be pushed. */
static inline bool lab_reliable_tx_room(const struct lab_reliable_tx *tx)
{
    return tx->next < tx->acked || tx->next - tx->acked < tx->config.window;
}

/* Its position. There must be room. One before `acked` was taken by the receiver in an earlier life of this end: it needs no keeping. */
static inline uint64_t lab_reliable_tx_push(struct lab_reliable_tx *tx)
{
    return tx->next++;
}

/* Whether everything that was pushed has been taken. */
static inline bool lab_reliable_tx_idle(const struct lab_reliable_tx *tx)
{
    return tx->acked >= tx->next;
}

/* What is to be sent now; false: nothing. Asking changes nothing that matters: what cannot be sent now is due again. */
bool lab_reliable_tx_due(struct lab_reliable_tx *tx, uint64_t now_ns, struct lab_reliable_frame *ret_frame);
void lab_reliable_tx_sent(struct lab_reliable_tx *tx, uint64_t now_ns, const struct lab_reliable_frame *frame);

/* Without a look at the clock: the message that was pushed last, if it is the next one and somebody looks at the clock later on. */
static inline bool lab_reliable_tx_fresh(const struct lab_reliable_tx *tx, struct lab_reliable_frame *ret_frame)
{
    if (!tx->open || tx->cursor + 1 != tx->next || !tx->due_ns)
        return false;
    *ret_frame = (struct lab_reliable_frame){
        .kind = LAB_RELIABLE_DATA, .tx_epoch = tx->config.epoch, .rx_epoch = tx->rx_epoch, .position = tx->cursor};
    return true;
}

/* `acked` may have moved. What is for another life, or beyond what this end has sent, is ignored. */
void lab_reliable_tx_heard(struct lab_reliable_tx *tx, uint64_t now_ns, const struct lab_reliable_frame *frame);

/* When something is due though nothing is pushed or heard: a time that has passed: now; LAB_RELIABLE_NEVER. */
uint64_t lab_reliable_tx_wake_ns(const struct lab_reliable_tx *tx);

/* ---- the receiving end ---- */

struct lab_reliable_rx_config {
    uint64_t epoch;        /* R, not 0 */
    uint32_t ack_every;    /* messages, 1 or more; less than half of the sender's window, or it waits for ack_delay_ns */
    uint64_t ack_delay_ns; /* less than the sender's resend_ns, or it asks in vain */
    bool resumes;          /* an earlier life is remembered: */
    uint64_t stream;       /* ... T */
    uint64_t tx_epoch;     /* ... S */
    uint64_t from;         /* ... all before was taken */
};

struct lab_reliable_rx {
    struct lab_reliable_rx_config config;
    uint64_t stream;    /* T, 0: none was ever heard of */
    uint64_t tx_epoch;  /* S */
    uint64_t next;      /* what is expected */
    uint64_t taken;     /* all before were taken by the application */
    uint64_t told;      /* ... and that was acknowledged */
    uint64_t missed;    /* the position whose absence was told; NEVER: none */
    bool here, ack;     /* due now */
    uint64_t ack_at_ns; /* an acknowledgement is due then; 0: no */
    uint64_t duplicates, gaps, strange; /* messages dropped: came already, came before its turn, of or for another life */
};

enum lab_reliable_verdict { LAB_RELIABLE_NOTHING, LAB_RELIABLE_DELIVER };

void lab_reliable_rx_init(struct lab_reliable_rx *rx, const struct lab_reliable_rx_config *config);

/* LAB_RELIABLE_DELIVER: of DATA that is the application's now. */
enum lab_reliable_verdict lab_reliable_rx_heard(struct lab_reliable_rx *rx, const struct lab_reliable_frame *frame);

/* The application has done with everything that was delivered. */
void lab_reliable_rx_taken(struct lab_reliable_rx *rx, uint64_t now_ns);

/* As lab_reliable_rx_taken, without a look at the clock: true, unless an acknowledgement has become due, or a time for it has to be set. */
static inline bool lab_reliable_rx_took(struct lab_reliable_rx *rx)
{
    if (!rx->ack_at_ns || rx->ack || rx->here || rx->next - rx->told >= rx->config.ack_every)
        return false;
    rx->taken = rx->next;
    return true;
}

bool lab_reliable_rx_due(const struct lab_reliable_rx *rx, uint64_t now_ns, struct lab_reliable_frame *ret_frame);
void lab_reliable_rx_sent(struct lab_reliable_rx *rx, const struct lab_reliable_frame *frame);
uint64_t lab_reliable_rx_wake_ns(const struct lab_reliable_rx *rx);

#endif
