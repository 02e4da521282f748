/* One line at the bottom of the terminal: how far a run is, and how long it will take yet.
 *
 *     struct lab_progress progress;
 *     lab_progress_init(&progress, stderr, quiet);
 *     lab_progress_update(&progress, measured_ns / budget_ns, "shm-ring spin 64 B");   (as often as you like)
 *     lab_progress_note(&progress, "warning: cpu 1 is noisy");                         (a line that stays, above the bar)
 *     lab_progress_fini(&progress);                                                    (the bar is gone)
 *
 * On anything that is not a terminal the bar is silent, and notes are plain lines. Redrawn at most every 100 ms; a call
 * that draws nothing costs a clock reading. Not thread-safe. Never call it from a measured process. */
#ifndef LAB_REPORT_PROGRESS_H
#define LAB_REPORT_PROGRESS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct lab_progress {
    FILE *to;
    bool visible; /* a terminal, and not quiet */
    bool quiet;   /* notes are dropped too */
    bool colour, utf8;
    bool drawn;   /* a bar stands on the line now */
    uint32_t width;
    double fraction;      /* of the latest update */
    char what[96];
    uint64_t began_ns, drawn_ns;
};

void lab_progress_init(struct lab_progress *progress, FILE *to, bool quiet);

/* `fraction` in [0, 1] of the whole; NaN: unknown, no time left is shown. `what` is being done now (copied). */
void lab_progress_update(struct lab_progress *progress, double fraction, const char *what);

/* A line that stays; no newline at its end. */
void lab_progress_note(struct lab_progress *progress, const char *format, ...) LAB_PRINTF(2, 3);

/* Takes the bar off the terminal; harmless when called again. */
void lab_progress_fini(struct lab_progress *progress);

#endif
