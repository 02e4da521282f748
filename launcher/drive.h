/* Drives a run: starts the nodes, leads them through launch after launch, and collects what they measured.
 *
 *     HELLO -> ASSIGN -> (LISTEN -> CONNECT) -> READY -> GO -> PROGRESS -> DONE | FAULT -> ... -> BYE
 *
 * Every step has a deadline. A launch that fails by itself costs its cell; a process that dies, or a signal, ends the run: within
 * two seconds, with who it was in `run->failure`, everything that was measured kept, and nothing left behind. */
#ifndef LAB_LAUNCHER_DRIVE_H
#define LAB_LAUNCHER_DRIVE_H

#include "launcher/conversation.h"
#include "launcher/crew.h"
#include "launcher/plan.h"
#include "report/progress.h"
#include "report/result.h"
#include "report/store.h"

struct lab_drive_spec {
    const struct lab_plan *plan;
    const struct lab_machine *machine;
    struct lab_run *run;             /* its cells are the plan's, in order; launches and the rest are filled in */
    struct lab_store *store;         /* each launch is stored as it ends */
    struct lab_progress *progress;
    struct lab_crew_spec crew;       /* `nodes` and `control` are filled in here */
    bool verbose;                    /* steps with their time, to standard error */
};

enum lab_drive_end {
    LAB_DRIVE_COMPLETE,
    LAB_DRIVE_FAILED,    /* run->failure says why */
    LAB_DRIVE_REFUSED,   /* the environment: nodes could not be started, or are of another version; run->failure */
    LAB_DRIVE_SIGNAL,    /* ret_signal */
};

/* 0 with how it ended, or -errno when not even that can be said (no memory). SIGINT, SIGTERM and SIGHUP are taken over
 * while it runs. The caller ends the conversation (NULL when there was none): in a user's mpirun only after it has printed,
 * since mpiexec may end this process as soon as its nodes have left. */
int lab_drive(const struct lab_drive_spec *spec, enum lab_drive_end *ret_end, int *ret_signal, struct lab_conversation **ret_talk);

#endif
