/* The inside of a conversation (conversation.h): what its steps are made of. Said, heard and waited for here; conversation.c has the order
 * of the steps, and nothing else looks in. */
#ifndef LAB_LAUNCHER_TALK_H
#define LAB_LAUNCHER_TALK_H

#include "launcher/conversation.h"
#include "launcher/peers.h"
#include "proto/bus/bus.h"

#include <signal.h>

enum { LAB_TALK_HELLO_REMOTE_S = 8 }; /* a node that starts on a busy host is not a node that failed */

/* Who died matters more than what others then missed. One death shows itself in several places, in any order: the surer reason replaces
 * the other if it comes soon. */
enum lab_certainty { LAB_GUESSED, LAB_NOTICED, LAB_KNOWN };

struct lab_conversation {
    struct lab_conversation_spec spec;
    struct lab_bus *bus;
    struct lab_keys keys;        /* of the bus, where it leads to other hosts */
    struct lab_crew *crew;
    struct lab_peers *peers;
    uint32_t number;             /* of the current launch */
    uint32_t taking_part, parties;
    uint64_t run, began_ns, heard_from_ns;
    int signal_fd, signal;
    bool unheard;                /* frames may be left from the last hearing */
    sigset_t mask_before;
    bool apart;                  /* the hosts are those of a user's mpirun */
    bool over, leaving;
    enum lab_certainty certainty;    /* of `failure`, once over */
    uint64_t better_until_ns;    /* how long a better reason is waited for */
    uint64_t ready_ns;           /* what the current launch took to become READY */
    bool stopped;                /* this process was, during the current launch */
    bool launch_failed;          /* the launch's fault is recorded in `failure` */
    int failure_code;
    char failure[LAB_ERROR_TEXT];
};

/* For people: where a node is. */
const char *lab_talk_where(const struct lab_conversation *talk, uint32_t node);

/* What ends the launch; what ends everything, unless that has ended for a reason that is surer. `code` is an errno. */
void lab_talk_fail_launch(struct lab_conversation *talk, int code, const char *text);
void lab_talk_end_all(struct lab_conversation *talk, enum lab_certainty certainty, int code, const char *text);

/* That failure as an outcome: -errno, with the record. */
int lab_talk_failed(const struct lab_conversation *talk);

/* SIGINT, SIGTERM and SIGHUP end the conversation from now on; across hosts Ctrl-Z is answered, and not obeyed: nodes cannot tell a launcher
 * that is stopped from one that is lost. */
int lab_talk_take_signals(struct lab_conversation *talk);

/* Until every node has come to `stage`. 0, or -errno with talk->failure; `what` was waited for. */
int lab_talk_await(struct lab_conversation *talk, enum lab_peer_stage stage, uint64_t deadline_ns, const char *what);

/* To one node; to all that take part in the launch. Never blocks: who takes nothing any more is lost, and the run with him. */
int lab_talk_say(struct lab_conversation *talk, uint32_t node, Lab__Frame *frame);
int lab_talk_say_all(struct lab_conversation *talk, Lab__Frame *frame);

#endif
