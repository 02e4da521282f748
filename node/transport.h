/* The seam between what is measured and everything else.
 *
 * A *channel* is one-way, from its producers to its consumers: one of each, or as many as the transport can (its capabilities say). An
 * *end* is one process's side of a channel, sending (TX) or receiving (RX), used by one thread; the ends of one role are told apart by
 * their seat, 0, 1, ... A *transport* is a way to make channels. It has two halves:
 *
 *   - its card: one row of node/transports.def, data that the launcher can read without loading the mechanism's library;
 *   - its ops: one `const struct lab_transport_ops` in the transport's own file, found by lab_transport_ops().
 *
 * Life of a local channel: the node calls `provision` (descriptors and an address, made before the workers are spawned),
 * each worker calls lab_end_open with what it inherited, moves messages, and lab_end_close. When a worker dies the node
 * calls `hangup` for each end that it held: what the kernel cannot tell (shared memory), the node does.
 * Life of a channel between nodes: the receiving node provisions it, and the address travels to the sender.
 *
 * Outcomes, the same everywhere: 0; -EAGAIN (the deadline passed, nothing happened); -EPIPE (the peer is gone, and all that it
 * sent has been received); -EMSGSIZE; -ENOTSUP; anything else: the end is broken. -EAGAIN is not recorded as an error,
 * everything else is. Deadlines are absolute (base/clock.h); 0 means "try once".
 *
 * A transport moves messages either by copying (send/recv: the kernel or a library owns the buffers) or by lending (reserve/
 * commit, borrow/release: the caller writes and reads in place). One of the two is wired, never both; node/lane/message.h
 * derives what patterns use from either. See docs/ADDING-A-TRANSPORT.md.
 */
#ifndef LAB_NODE_TRANSPORT_H
#define LAB_NODE_TRANSPORT_H

#include "proto/curve/curve.h" /* struct lab_curve_pair: keys of what is encrypted */
#include "shm/backing.h" /* enum lab_backing: what shared memory is made of */
#include "shm/span.h" /* struct lab_span: messages that are written or read in place */
#include "shm/wait.h" /* enum lab_wait: how an end waits for the other side */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct lab_reliable_memory; /* proto/reliable.h */

/* ---- the card ---- */

enum lab_capability {
    LAB_CAP_LOAN = 1 << 0,   /* lends its buffers: reserve/commit/abandon, borrow/release */
    LAB_CAP_COPY = 1 << 1,   /* copies: send, recv */
    LAB_CAP_BATCH = 1 << 2,  /* one operation may hand over several messages: loan spans longer than one, or send_many and recv_many */
    LAB_CAP_REMOTE = 1 << 3, /* its ends may be on different hosts */
    LAB_CAP_NODES = 1 << 4,  /* its ends may be different nodes of one host (it needs no inherited descriptors) */
    LAB_CAP_WORLD = 1 << 5,  /* its ends are ranks of an MPI world */
    LAB_CAP_SELF = 1 << 6,   /* both ends are in one process: it carries messages to itself */
    LAB_CAP_PEER_DEATH = 1 << 7, /* the mechanism itself reports a killed peer; without it the node's hangup does */
    LAB_CAP_BACKING = 1 << 8, /* its messages lie in shared memory of ours, which may be of any backing */
    LAB_CAP_PRODUCERS = 1 << 9, /* several TX ends share a channel */
    LAB_CAP_CONSUMERS = 1 << 10, /* several RX ends share a channel: each message goes to one of them */
    LAB_CAP_READERS = 1 << 11,  /* several RX ends share a channel: each message goes to every one of them */
    LAB_CAP_FRAGILE = 1 << 12, /* its messages lie in the sender until they are received: those of a killed one are lost with it */
    LAB_CAP_HUB = 1 << 13,     /* of the two roles of a shared channel, one has a single end: nobody stands between many and many */
    LAB_CAP_THREADS = 1 << 14, /* its ends are threads of one process */
    LAB_CAP_PIECES = 1 << 15,  /* a message that has begun to leave cannot be taken back: `send` may have to wait for the receiver, whatever its deadline */
    LAB_CAP_CALLED = 1 << 16,  /* its library moves messages only while it is called: what was sent may wait for the sender's next operation */
    LAB_CAP_RELIABLE = 1 << 17,/* its connections may be lost and come back, and a channel may outlive them: lab_channel.reliable */
    LAB_CAP_ENCRYPT = 1 << 18, /* what it sends may be encrypted: lab_channel.keys */
    LAB_CAP_HOLDS = 1 << 19,   /* its library waits without ever letting go of the core: parties that share one wait for each other's time slices */
};

struct lab_transport {
    const char *name;    /* as in experiment files */
    const char *symbol;  /* its ops are lab_ops_<symbol> */
    const char *module;  /* the shared object that holds them, without ".so"; NULL: in the program */
    const char *package; /* with a module: what has to be installed for it; a library's -dev package where ipclab is built with or without it */
    uint32_t caps;
    uint32_t waits;      /* LAB_WAIT_BIT of each wait that it can do; the lowest bit is its default */
    uint64_t message_max; /* bytes in one message */
    const char *summary;
};

/* The i-th card, NULL beyond the last. */
const struct lab_transport *lab_transport_at(size_t index);
/* NULL when there is none of that name. */
const struct lab_transport *lab_transport_named(const char *name);

/* ---- channels and ends ---- */

enum lab_role { LAB_TX, LAB_RX };

/* Whose a channel is, and who gets a message of one that several share. */
enum lab_sharing {
    LAB_NOT_SHARED, /* two parties', who have another one for answers */
    LAB_TO_ONE,     /* all parties', who send or receive until the last sender has closed; a message goes to one receiver */
    LAB_TO_ALL,     /* ... to every receiver */
};
enum { LAB_ADDRESS_MAX = 128 };

struct lab_channel {
    const struct lab_transport *transport;
    enum lab_wait wait;
    uint64_t spin_ns;         /* LAB_WAIT_ADAPTIVE: polls for so long at most; 0: the default */
    enum lab_backing backing; /* memfd without LAB_CAP_BACKING */
    uint32_t id;          /* unique within a launch */
    uint32_t epoch;       /* the launch: a library that outlives it must not take one launch's message for another's */
    uint32_t message_max; /* the longest message that will be sent, bytes, headers of ours included */
    uint32_t window;      /* the most messages in flight; a mechanism with a buffer of its own makes it at least that deep */
    uint32_t batch;       /* the most messages handed over by one operation, 1 without LAB_CAP_BATCH */
    uint32_t seats[2];    /* ends of each role; 0 stands for 1, see lab_seats() */
    enum lab_sharing sharing;
    bool crosses_nodes;   /* TX and RX are in different nodes */
    bool crosses_hosts;   /* ... on different hosts */
    int rank[2];          /* LAB_CAP_WORLD: the MPI rank of each role's process */
    bool reliable;        /* LAB_CAP_RELIABLE: nothing lost, nothing twice, order kept, also over lost connections and new lives of an end
                             (proto/reliable.h). Such an end does not say that the other one is gone: it waits for it to come back */
    struct lab_reliable_memory *memory; /* reliable: where this end keeps what a later life needs to go on; NULL: it forgets */
    struct lab_curve_pair keys; /* LAB_CAP_ENCRYPT: of both ends, the same for all channels of a run; empty: it goes in the clear */
    const char *host;     /* where the RX node can be reached from other hosts; NULL: this host only */
};

static inline uint32_t lab_seats(const struct lab_channel *channel, enum lab_role role)
{
    return channel->seats[role] ? channel->seats[role] : 1;
}

/* The buffer that the kernel keeps for a channel, bytes as the kernel counts them (of a socket its overhead too). 0: there is none, or the kernel was
 * asked for nothing and fits it to the traffic. */
struct lab_kernel_buffer {
    uint64_t requested, actual;
};

/* What provisioning made: handed to the processes, then retired by the node. */
struct lab_wire {
    int fd[2];                     /* to inherit, by role; -1: none. The two may be the same descriptor. */
    bool has_bells;                /* shared memory with LAB_WAIT_POLL: there is more to inherit, by role, ... */
    struct lab_bells bells[2];     /* ... what an end sleeps on and what it rings; each role has descriptors of its own */
    char address[LAB_ADDRESS_MAX]; /* where TX reaches RX; "" when inherited descriptors are enough */
    struct lab_kernel_buffer buffer;      /* for the record: no end sees it */
    void *held;                    /* the node's own, from provision to retire: no end sees it */
    uint32_t seat;                 /* of the end that it is handed to, or that is hung up */
};

/* What an end of that role inherits, once more: for a thread of this process, which then owns it. Nothing of the other role's. Recorded. */
int lab_wire_half(const struct lab_wire *wire, enum lab_role role, struct lab_wire *ret_half);

/* Closes what an end of that role would have owned. */
void lab_wire_drop(struct lab_wire *wire, enum lab_role role);

/* Of lab_transport_ops, where descriptors are all that was made: closes those of both roles. */
void lab_wire_retire(const struct lab_channel *channel, struct lab_wire *wire);

/* What bounds a message on this machine, where that is less than the card says or an administrator may set it. */
enum { LAB_MEND_TEXT = 160 };
struct lab_bound {
    uint64_t longest;         /* bytes of a message */
    char mend[LAB_MEND_TEXT]; /* what would let it carry messages as long as the channel's: "as root: sysctl ..." */
};

struct lab_end; /* below */

enum { LAB_LIBRARY_TEXT = 64, LAB_CARRIER_TEXT = 96 };

struct lab_transport_ops {
    const char *name;   /* equal to the card's */
    size_t end_bytes;   /* size of the struct that starts with struct lab_end */

    /* Node side; may block only as long as a local system call does. On failure nothing is left behind.
     * `provision` may leave a descriptor at -1 where it has none. `retire` closes what provision made (never what workers
     * inherited). `hangup` tells the living ends that the one in wire->seat of `dead` is gone; NULL where the kernel does that. */
    int (*provision)(const struct lab_channel *channel, struct lab_wire *ret_wire);
    void (*retire)(const struct lab_channel *channel, struct lab_wire *wire);
    void (*hangup)(const struct lab_channel *channel, const struct lab_wire *wire, enum lab_role dead);

    /* Whether it works on this machine, for whoever plans: 0, or -errno with the mend in the record; NULL: everywhere. Of transports in
     * the program only. */
    int (*usable)(void);

    /* Bytes of shared memory that provision would take for the channel, or why it cannot be, recorded; for whoever plans. Always with
     * LAB_CAP_BACKING; NULL: it takes none of ours, or any channel can be. */
    int (*memory)(const struct lab_channel *channel, size_t *ret_bytes);

    /* How long a message of the channel may be on this machine, for whoever plans; NULL: as long as the card says. -errno, recorded, where
     * that cannot be found out. */
    int (*limit)(const struct lab_channel *channel, struct lab_bound *ret_bound);

    /* Worker side. `open` finds channel, role and wire filled in, owns wire.fd[role] and wire.bells[role] on success only. `close` never fails
     * and never blocks for longer than 1 s; the peer then gets -EPIPE after it has received everything. */
    int (*open)(struct lab_end *end, uint64_t deadline_ns);
    void (*close)(struct lab_end *end);

    /* Copy path. `recv` returns the length; a message longer than `room` is -EMSGSIZE and is gone. */
    int (*send)(struct lab_end *end, const void *message, size_t length, uint64_t deadline_ns);
    ssize_t (*recv)(struct lab_end *end, void *to, size_t room, uint64_t deadline_ns);

    /* The copy path of several at once; wired with LAB_CAP_BATCH and LAB_CAP_COPY, and mixed with send and recv at will. `send_many` sends the
     * first ones of the span, whose count is at most channel.batch: how many, at least one. `recv_many` puts what comes together, at most `want`
     * (>= 1), `stride` bytes apart, each no longer than that: how many, with their lengths. The first one longer than `stride` ends
     * them, or is -EMSGSIZE and gone. */
    int (*send_many)(struct lab_end *end, const struct lab_span *span, uint64_t deadline_ns);
    int (*recv_many)(struct lab_end *end, void *to, size_t stride, uint32_t want, uint64_t deadline_ns, uint32_t *ret_lengths);

    /* Optional: does what is due by time, and what has come meanwhile for the end itself and not for its user. Never blocks. For whoever
     * waits elsewhere than in an operation of this end: ends of one thread that wait tend each other. */
    void (*tend)(struct lab_end *end);

    /* Loan path. `reserve` lends 1..want places of `length` bytes, uninitialised; `commit` sends the first `count` of them
     * and takes the rest back (0: abandons all). `borrow` lends 1..want received messages; `release` gives back the first
     * `count`, the others are borrowed again. One loan per end at a time. */
    int (*reserve)(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span);
    void (*commit)(struct lab_end *end, uint32_t count);
    int (*borrow)(struct lab_end *end, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span);
    void (*release)(struct lab_end *end, uint32_t count);

    /* Optional: as `reserve`, for messages that are sent one by one. If the tally has a word, messages are sent with it, each by itself
     * and without a call, whatever channel.batch is, and `commit` of just those ends the loan; else one place is lent. */
    int (*reserve_ahead)(struct lab_end *end, uint32_t length, uint32_t want, uint64_t deadline_ns, struct lab_span *ret_span,
                         struct lab_tally *ret_tally);

    /* LAB_CAP_WORLD only: enters the world that this process was started in. Blocks until all its ranks do so. */
    int (*enter)(void);

    /* "MPICH 4.0.2": name and version of the library behind it, as it is at run time in this process; NULL: there is none. */
    void (*library)(char to[LAB_LIBRARY_TEXT]);

    /* "shared memory (sysv), cma": which way that library really takes, where it chooses by itself; "": unknown. NULL: there is no choice. */
    void (*carrier)(char to[LAB_CARRIER_TEXT]);
};

struct lab_end {
    const struct lab_transport_ops *ops;
    struct lab_channel channel;
    enum lab_role role;
    struct lab_wire wire;
    struct lab_end *partner; /* LAB_CAP_SELF: the other end, in this process, opened before or after; else NULL */
    /* the transport's own fields follow: ops->end_bytes in all, aligned to 128 */
};

/* While it is set, blocking operations of LAB_CAP_NODES transports in this process end within 50 ms, -ECANCELED where they have no
 * better reason: a node takes its own threads out of a launch that was given up. Looked at only off the hot path. */
extern _Atomic bool lab_ends_abandoned;

/* The ops of a card; loads its module on first use. NULL with the reason in the error record (which names the package
 * to install when a module or its library is missing). Thread-safe. */
const struct lab_transport_ops *lab_transport_ops(const struct lab_transport *transport);

/* Opens one end. On success the end owns wire->fd[role] and wire->bells[role]; on failure nothing changes hands. `partner` is for LAB_CAP_SELF. */
int lab_end_open(const struct lab_channel *channel, enum lab_role role, const struct lab_wire *wire, struct lab_end *partner,
                 uint64_t deadline_ns, struct lab_end **ret_end);
void lab_end_close(struct lab_end *end); /* NULL is harmless */

#endif
