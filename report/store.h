/* Runs kept in an SQLite database, one file for all of them.
 *
 * Writing: begin once, launch for each launch as soon as it has ended, finish once.
 *
 *     struct lab_store *store;
 *     err = lab_store_open(NULL, LAB_STORE_WRITE, &store);
 *     err = lab_store_begin(store, run);                       (header and cells, before anything starts)
 *     err = lab_store_launch(store, run, cell, launch);        (again and again)
 *     err = lab_store_finish(store, run);                      (verdicts, what ended it, limits, noise)
 *     lab_store_close(store);
 *
 * Each call is one transaction of a write-ahead log that is not forced to disk: a launch that was stored survives a kill
 * of the launcher (not a power cut, which may lose the last ones but never harms the file). Other launchers may write
 * to the same file at the same time; a writer waits for another at most LAB_STORE_BUSY_MS, then -EBUSY.
 *
 * Figures and histograms come back bit by bit. One thread per store. A schema newer than this program's is refused by its number (-EPROTONOSUPPORT). */
#ifndef LAB_REPORT_STORE_H
#define LAB_REPORT_STORE_H

#include "report/listing.h"
#include "report/result.h"

#include <stddef.h>
#include <stdint.h>

enum { LAB_STORE_BUSY_MS = 5000, LAB_STORE_SCHEMA = 4 };

enum lab_store_mode {
    LAB_STORE_READ,  /* the file must exist: -ENOENT */
    LAB_STORE_WRITE, /* the file is made, and the default path's directories; refused here when it cannot be written */
};

struct lab_store;

/* Where runs are kept when no --db says otherwise: $XDG_DATA_HOME/ipclab/runs.db, or ~/.local/share/ipclab/runs.db.
 * -ENOENT when neither variable is set; -ENAMETOOLONG. */
int lab_store_default_path(char *to, size_t room);

/* `path` NULL: the default path. ":memory:" keeps runs until close. On failure nothing is left open. */
int lab_store_open(const char *path, enum lab_store_mode mode, struct lab_store **ret_store);
void lab_store_close(struct lab_store *store); /* NULL is harmless */

/* Header, hosts, libraries, noises, warnings, limits and cells, with the launches that there already are.
 * -EEXIST when a run of that id is there. -ENOSPC, -EROFS, -EBUSY, -EIO as SQLite finds them. */
int lab_store_begin(struct lab_store *store, const struct lab_run *run);

/* Adds a launch to a cell of a run that was begun. */
int lab_store_launch(struct lab_store *store, const struct lab_run *run, const struct lab_cell *cell,
                     const struct lab_launch *launch);

/* Replaces everything of the run except its launches. Call lab_run_settle (report/statistics.h) before. */
int lab_store_finish(struct lab_store *store, const struct lab_run *run);

/* The run whose id starts with `id`, or the run started last (NULL or "latest"). The caller frees it.
 * -ENOENT: none; -EINVAL: `id` is the start of several. */
int lab_store_load(struct lab_store *store, const char *id, struct lab_run **ret_run);

/* The newest `limit` runs, newest first: id, started, experiment, cells by verdict, wall time, verdict. The caller frees. */
int lab_store_history(struct lab_store *store, uint32_t limit, struct lab_listing **ret_listing);

/* "3.40.1": the database library at run time. Static storage. */
const char *lab_store_library(void);

#endif
