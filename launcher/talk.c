#include "launcher/talk.h"

#include "base/child.h"
#include "base/clock.h"
#include "proto/codec.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SILENT_S = 2, SILENT_REMOTE_S = 4, BETTER_MS = 500, LOOK_AGAIN_MS = 250, STOPPED_MS = 1500, HEAR_PER_NODE = 64 };

/* For people: where a node is. */
const char *lab_talk_where(const struct lab_conversation *talk, uint32_t node)
{
    const Lab__Hello *hello = talk->apart ? lab_peers_hello(talk->peers, node) : NULL;
    if (talk->apart)
        return hello && hello->host ? hello->host->name : "a host of mpirun's";
    return lab_crew_host(talk->crew, node);
}

/* ---- what ends a launch, and what ends everything ---- */

void lab_talk_fail_launch(struct lab_conversation *talk, int code, const char *text)
{
    if (talk->launch_failed)
        return;
    talk->launch_failed = true;
    talk->failure_code = code;
    snprintf(talk->failure, sizeof talk->failure, "%s", text);
}

void lab_talk_end_all(struct lab_conversation *talk, enum lab_certainty certainty, int code, const char *text)
{
    if (talk->over && certainty <= talk->certainty)
        return;
    if (!talk->over)
        talk->better_until_ns = lab_now_ns() + BETTER_MS * LAB_NS_PER_MS;
    talk->over = talk->launch_failed = true;
    talk->certainty = certainty;
    talk->failure_code = code;
    snprintf(talk->failure, sizeof talk->failure, "%s", text);
}

int lab_talk_failed(const struct lab_conversation *talk)
{
    return lab_refuse(talk->failure_code ? talk->failure_code : EIO, "%s", talk->failure);
}

/* ---- hearing ---- */

/* `of_node`: it is about no launch, and the node ends. */
static void hear_fault(struct lab_conversation *talk, uint32_t node, const Lab__Fault *fault, bool of_node)
{
    char text[LAB_ERROR_TEXT], silent[64];
    int code = fault->error > 0 ? fault->error : EIO;
    snprintf(silent, sizeof silent, "node %u failed, and did not say why", node);
    const char *said = fault->text[0] ? fault->text : silent;
    if (lab_conversation_remote(talk))
        snprintf(text, sizeof text, "host %.255s: %.700s", lab_talk_where(talk, node), said);
    else
        snprintf(text, sizeof text, "%s", said);
    if (of_node)
        lab_talk_end_all(talk, LAB_NOTICED, code, text);
    else if (fault->signal) /* a worker was killed: nobody asked for that */
        lab_talk_end_all(talk, LAB_KNOWN, ECHILD, text);
    else
        lab_talk_fail_launch(talk, code, text);
    lab_conversation_tell(talk, "node %u: FAULT: %s%s%s", node, text, fault->where[0] ? " at " : "", fault->where);
}

/* Who minds a node of mpirun's knows how it ended; a node that ended by itself may have said more. */
static void hear_end(struct lab_conversation *talk, uint32_t node, int status)
{
    char how[LAB_CHILD_STATUS_TEXT], text[LAB_CREW_TEXT];
    snprintf(text, sizeof text, "node %u on %s%s %s", node, talk->apart ? "host " : "", lab_talk_where(talk, node), lab_child_status_text(status, how));
    lab_conversation_tell(talk, "%s", text);
    if (!talk->leaving)
        lab_talk_end_all(talk, WIFSIGNALED(status) ? LAB_KNOWN : LAB_GUESSED, ECHILD, text);
}

/* Takes the frame over. */
static void hear(struct lab_conversation *talk, uint32_t node, Lab__Frame *frame)
{
    const Lab__Fault *fault;
    bool hello = frame->body_case == LAB__FRAME__BODY_HELLO;
    if (frame->body_case == LAB__FRAME__BODY_FAULT && !frame->launch) {
        hear_fault(talk, node, frame->fault, true);
        lab_codec_free(frame);
    } else if (frame->body_case == LAB__FRAME__BODY_ENDED) {
        hear_end(talk, node, (int)frame->ended->status);
        lab_codec_free(frame);
    } else if (lab_peers_hear(talk->peers, node, frame, &fault))
        lab_talk_end_all(talk, LAB_KNOWN, EPROTO, lab_error_last()->text);
    else if (fault)
        hear_fault(talk, node, fault, false);
    else if (hello)
        lab_conversation_tell(talk, "node %u: HELLO", node);
}

/* At most what the queue of each node holds: who talks faster than he is heard does not keep the launcher from its other duties. */
static void hear_all(struct lab_conversation *talk)
{
    for (uint32_t heard = 0; heard < HEAR_PER_NODE * talk->spec.nodes; heard++) {
        uint32_t node;
        Lab__Frame *frame;
        int err = lab_bus_receive(talk->bus, &node, &frame);
        talk->unheard = err != -EAGAIN;
        if (!talk->unheard)
            return;
        if (err == -EPROTONOSUPPORT)
            lab_talk_end_all(talk, LAB_KNOWN, EPROTONOSUPPORT, lab_error_last()->text);
        else if (err)
            lab_conversation_tell(talk, "ignored: %s", lab_error_last()->text);
        else
            hear(talk, node, frame);
    }
}

static void watch_crew(struct lab_conversation *talk)
{
    struct lab_crew_event event;
    while (talk->crew && lab_crew_event(talk->crew, &event) == 0) {
        lab_conversation_tell(talk, "%s", event.text);
        if (!talk->leaving)
            lab_talk_end_all(talk, event.vague ? LAB_GUESSED : LAB_KNOWN, ECHILD, event.text);
    }
}

static void take_signal(struct lab_conversation *talk)
{
    struct signalfd_siginfo info;
    if (read(talk->signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    if (info.ssi_signo == SIGTSTP) {
        lab_progress_note(talk->spec.progress, "a run across hosts goes on: its nodes would take a launcher that is stopped for one that is lost; Ctrl-C ends it");
        return;
    }
    char text[64];
    talk->signal = (int)info.ssi_signo;
    snprintf(text, sizeof text, "interrupted by SIG%s", sigabbrev_np((int)info.ssi_signo));
    lab_talk_end_all(talk, LAB_KNOWN, EINTR, text);
}

static void watch_silence(struct lab_conversation *talk)
{
    /* A killed node is told of by its connection. Silence is that of a stopped one or of a cut link, or of a host that is busy with its own
     * relays: longer than a moment. A node beside a thousand workers has its turn when they have had theirs. */
    uint64_t now = lab_now_ns(), silent_s = talk->spec.crew.hosts ? SILENT_REMOTE_S : SILENT_S;
    silent_s += talk->parties * LAB_START_WITHIN_NS / LAB_NS_PER_S;
    for (uint32_t n = 0; n < talk->spec.nodes; n++) {
        uint64_t heard = lab_bus_last_heard_ns(talk->bus, n);
        if (!lab_peers_at(talk->peers, n, LAB_PEER_GREETED))
            continue;
        /* This process may itself have been stopped for a while: silence counts from when it listens again. */
        if (heard < talk->heard_from_ns)
            heard = talk->heard_from_ns;
        if (now - heard > silent_s * LAB_NS_PER_S) {
            char text[256];
            snprintf(text, sizeof text, "node %u on %s has been silent for %d s", n, lab_talk_where(talk, n), (int)silent_s);
            lab_talk_end_all(talk, LAB_GUESSED, ETIMEDOUT, text);
        }
    }
}

/* ---- waiting ---- */

static void wait_for_news(struct lab_conversation *talk, uint64_t deadline_ns)
{
    struct pollfd polls[] = {
        {.fd = lab_bus_fd(talk->bus), .events = POLLIN},
        {.fd = talk->signal_fd, .events = POLLIN},
        {.fd = lab_crew_poll_fd(talk->crew), .events = POLLIN},
    };
    int wait_ms = talk->unheard ? 0 : lab_ms_until(deadline_ns);
    poll(polls, 3, wait_ms < LOOK_AGAIN_MS ? wait_ms : LOOK_AGAIN_MS);
    if (polls[1].revents)
        take_signal(talk);
}

static bool may_learn_more(const struct lab_conversation *talk)
{
    return talk->over && talk->certainty < LAB_KNOWN && talk->crew && lab_ns_until(talk->better_until_ns);
}

/* It is over; why, another may know better. */
static int conclude(struct lab_conversation *talk)
{
    while (may_learn_more(talk)) {
        wait_for_news(talk, talk->better_until_ns);
        hear_all(talk);
        watch_crew(talk);
    }
    return lab_talk_failed(talk);
}

/* Until every node has come to `stage`. 0, or -errno with talk->failure; `what` was waited for. */
int lab_talk_await(struct lab_conversation *talk, enum lab_peer_stage stage, uint64_t deadline_ns, const char *what)
{
    uint64_t looked_ns = talk->heard_from_ns = lab_now_ns();
    for (;;) {
        /* Looks are never that far apart unless this process was stopped (Ctrl-Z): the nodes did nothing wrong meanwhile. */
        uint64_t now_ns = lab_now_ns();
        if (now_ns - looked_ns > STOPPED_MS * LAB_NS_PER_MS) {
            deadline_ns += now_ns - looked_ns;
            talk->heard_from_ns = now_ns;
            talk->stopped = true;
        }
        looked_ns = now_ns;
        hear_all(talk);
        watch_crew(talk);
        if (talk->over || talk->launch_failed)
            return conclude(talk);
        int32_t behind = lab_peers_behind(talk->peers, stage);
        if (behind < 0)
            return 0;
        if (lab_ns_until(deadline_ns) == 0) {
            char text[LAB_ERROR_TEXT];
            if (stage == LAB_PEER_GREETED && talk->spec.crew.hosts)
                snprintf(text, sizeof text, "host %s: node %d gave no %s within %d s; can that host reach %s? A firewall may drop it",
                         lab_talk_where(talk, (uint32_t)behind), (int)behind, what, LAB_TALK_HELLO_REMOTE_S, lab_bus_address(talk->bus));
            else
                snprintf(text, sizeof text, "node %d on %s gave no %s before the deadline", (int)behind, lab_talk_where(talk, (uint32_t)behind), what);
            lab_talk_fail_launch(talk, ETIMEDOUT, text);
            return lab_talk_failed(talk);
        }
        watch_silence(talk);
        wait_for_news(talk, deadline_ns);
    }
}

int lab_talk_say(struct lab_conversation *talk, uint32_t node, Lab__Frame *frame)
{
    frame->launch = talk->number;
    int err = lab_bus_send(talk->bus, node, frame);
    if (!err)
        return 0;
    char text[LAB_ERROR_TEXT];
    snprintf(text, sizeof text, "cannot reach node %u on %.200s: %.600s", node, lab_talk_where(talk, node),
             err == -EAGAIN ? "it takes nothing any more" : lab_error_last()->text);
    lab_talk_end_all(talk, LAB_GUESSED, -err, text);
    return conclude(talk);
}

int lab_talk_say_all(struct lab_conversation *talk, Lab__Frame *frame)
{
    int err = 0;
    for (uint32_t n = 0; !err && n < talk->taking_part; n++)
        err = lab_talk_say(talk, n, frame);
    return err;
}

/* ---- signals ---- */

int lab_talk_take_signals(struct lab_conversation *talk)
{
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGHUP);
    if (lab_conversation_remote(talk))
        sigaddset(&wanted, SIGTSTP);
    pthread_sigmask(SIG_BLOCK, &wanted, &talk->mask_before);
    talk->signal_fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    return talk->signal_fd < 0 ? lab_fail(errno, "no descriptor for signals") : 0;
}
