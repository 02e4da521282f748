/* What a host says of itself (node/agent/facts.h has its words), and what is known of it here. */
#ifndef LAB_LAUNCHER_FACTS_H
#define LAB_LAUNCHER_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAB_FACTS_TEXT = 128, LAB_FACTS_NOTE = 256, LAB_FACTS_NOTES_MAX = 48 };

/* Of a transport there. */
struct lab_facts_note {
    char transport[32];
    bool usable;
    uint64_t longest;              /* bytes of a message, where it is usable */
    char text[LAB_FACTS_NOTE];     /* why not, with the mend; what would raise it */
};

struct lab_facts {
    char host[LAB_FACTS_TEXT];
    char version[LAB_FACTS_TEXT];
    uint32_t protocol;
    uint64_t clock_ns;             /* its time of day when it answered ... */
    uint64_t asked_ns, heard_ns;   /* ... which was between these, of this machine's */
    uint32_t cpus_online, cpus;    /* the second: that may be used */
    uint64_t shm_free, shm_bytes;
    uint64_t files_max;
    uint32_t port_first, port_last;
    char governor[LAB_FACTS_TEXT]; /* "-": none */
    char ucx[LAB_FACTS_TEXT];
    int reach;                     /* errno of its connection to this machine; -1: it was not asked */
    char address[LAB_FACTS_TEXT];  /* ... at this address */
    struct lab_facts_note notes[LAB_FACTS_NOTES_MAX];
    size_t note_count;
    /* known here */
    uint32_t nodes;                /* that a run may put there */
    bool here;                     /* it is this machine, asked without a door */
    const char *rndv_thresh;       /* UCX_RNDV_THRESH of a run's environment; NULL: not set */
};

/* Unknown words are passed over. -EPROTO: it is not whole, what is there is kept. */
int lab_facts_parse(const char *text, struct lab_facts *ret_facts);

#endif
