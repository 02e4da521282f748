#include "report/store.h"

#include "base/error.h"
#include "report/store_rows.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { APPLICATION_ID = 0x6c616231 /* "lab1" */, CHECKPOINT_PAGES = 16384 };

/* ---- open ---- */

static int make_tables(struct lab_store *store)
{
    char columns[LAB_SQL_TEXT], sql[LAB_SQL_TEXT];
    lab_rows_columns(&lab_shape_run, false, columns);
    snprintf(sql, sizeof sql, "CREATE TABLE runs (seq INTEGER PRIMARY KEY, %.1200s, UNIQUE (id))", columns);
    int err = lab_rows_execute(store, sql);
    for (size_t i = 0; i < LAB_SHAPE_PARTS && !err; i++) {
        lab_rows_columns(lab_shape_parts[i], false, columns);
        snprintf(sql, sizeof sql,
                 "CREATE TABLE \"%s\" (run INTEGER NOT NULL REFERENCES runs (seq), position INTEGER NOT NULL, %.1200s, "
                 "PRIMARY KEY (run, position)) WITHOUT ROWID",
                 lab_shape_parts[i]->table, columns);
        err = lab_rows_execute(store, sql);
    }
    if (err)
        return err;
    lab_rows_columns(&lab_shape_launch, false, columns);
    snprintf(sql, sizeof sql,
             "CREATE TABLE launches (seq INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs (seq), "
             "cell INTEGER NOT NULL, %.1200s); CREATE INDEX launches_of ON launches (run, cell); "
             "PRAGMA application_id = %d; PRAGMA user_version = %d",
             columns, APPLICATION_ID, LAB_STORE_SCHEMA);
    return lab_rows_execute(store, sql);
}

/* An older store lacks members that results have had since: what was kept then is "not measured". */
static int add_columns(struct lab_store *store, const struct lab_shape *shape)
{
    char sql[LAB_SQL_TEXT];
    int err = 0;
    for (size_t i = 0; !err && i < shape->field_count; i++) {
        int64_t there = 0;
        snprintf(sql, sizeof sql, "SELECT count(*) FROM pragma_table_info('%s') WHERE name = '%s'", shape->table, shape->fields[i].column);
        err = lab_rows_integer(store, sql, &there);
        snprintf(sql, sizeof sql, "ALTER TABLE \"%s\" ADD COLUMN \"%s\"", shape->table, shape->fields[i].column);
        if (!err && !there)
            err = lab_rows_execute(store, sql);
    }
    return err;
}

static int bring_up_to_date(struct lab_store *store)
{
    char sql[64];
    int err = add_columns(store, &lab_shape_run);
    for (size_t i = 0; !err && i < LAB_SHAPE_PARTS; i++)
        err = add_columns(store, lab_shape_parts[i]);
    if (!err)
        err = add_columns(store, &lab_shape_launch);
    snprintf(sql, sizeof sql, "PRAGMA user_version = %d", LAB_STORE_SCHEMA);
    return err ? err : lab_rows_execute(store, sql);
}

/* Inside a transaction when it may write, so that two launchers do not both make the tables. */
static int check_schema(struct lab_store *store, bool may_make)
{
    int64_t version, application, tables;
    int err = lab_rows_integer(store, "PRAGMA user_version", &version);
    if (!err)
        err = lab_rows_integer(store, "PRAGMA application_id", &application);
    if (!err)
        err = lab_rows_integer(store, "SELECT count(*) FROM sqlite_schema", &tables);
    if (err)
        return err;
    if (version == 0 && tables == 0 && application == 0)
        return may_make ? make_tables(store) : lab_refuse(ENOENT, "the store %s holds no run yet", store->path);
    if (application != APPLICATION_ID)
        return lab_refuse(EBADMSG, "%s is a database of another program, not a store of ipclab: name another file with --db",
                          store->path);
    if (version > LAB_STORE_SCHEMA)
        return lab_refuse(EPROTONOSUPPORT, "the store %s has schema %lld, this ipclab knows %d: update ipclab, or name another "
                          "file with --db", store->path, (long long)version, LAB_STORE_SCHEMA);
    if (version == LAB_STORE_SCHEMA)
        return 0;
    return may_make ? bring_up_to_date(store)
                    : lab_refuse(EPROTONOSUPPORT, "the store %s is of an older ipclab: `ipclab run` brings it up to date", store->path);
}

/* Changing to a write-ahead log takes the file alone, and SQLite does not wait for that by itself. */
static int enter_wal(struct lab_store *store)
{
    enum { STEP_MS = 10 };
    for (int waited_ms = 0;; waited_ms += STEP_MS) {
        int code = sqlite3_exec(store->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if (code == SQLITE_OK)
            return 0;
        if (code != SQLITE_BUSY || waited_ms >= LAB_STORE_BUSY_MS)
            return lab_rows_failed(store);
        sqlite3_sleep(STEP_MS);
    }
}

static int prepare_writing(struct lab_store *store)
{
    char sql[128];
    /* A file that is not ours is refused before anything of it is changed, its kind of journal included. */
    int err = lab_rows_execute(store, "BEGIN IMMEDIATE");
    if (err)
        return err;
    err = lab_rows_end(store, check_schema(store, true));
    if (!err)
        err = enter_wal(store);
    /* The log is folded into the file when the last launcher closes it, not while something is being measured. */
    snprintf(sql, sizeof sql, "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = %d", CHECKPOINT_PAGES);
    return err ? err : lab_rows_execute(store, sql);
}

int lab_store_default_path(char *to, size_t room)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    bool has_data = data && data[0] == '/';
    if (!has_data && (!home || !*home))
        return lab_refuse(ENOENT, "neither XDG_DATA_HOME nor HOME is set: name a file for the runs with --db");
    int length = snprintf(to, room, "%s%s/ipclab/runs.db", has_data ? data : home, has_data ? "" : "/.local/share");
    return length < 0 || (size_t)length >= room ? lab_fail(ENAMETOOLONG, "the path of the store in %s", has_data ? data : home) : 0;
}

static int make_directories(const char *path)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, 0755) && errno != EEXIST)
            return lab_fail(errno, "cannot make the directory %s for the store: name another file with --db", folder);
        *slash = '/';
    }
    return 0;
}

/* SQLite takes a directory or a device for a file, and says no more than that it cannot. */
static int check_kind(const struct lab_store *store, enum lab_store_mode mode)
{
    struct stat status;
    if (stat(store->path, &status) != 0) {
        if (errno != ENOENT)
            return lab_fail(errno, "the store %s", store->path);
        return mode == LAB_STORE_WRITE ? 0 : lab_refuse(ENOENT, "there is no store at %s: nothing was run yet", store->path);
    }
    if (!S_ISREG(status.st_mode))
        return lab_refuse(EINVAL, "the store %s is a %s and not a file: name another with --db", store->path,
                          S_ISDIR(status.st_mode) ? "directory" : "device or pipe");
    return 0;
}

/* Whether nothing can be written beside the store, as to one that was handed out for reading, and nothing is waiting there. */
static bool is_still(const struct lab_store *store)
{
    char beside[sizeof store->path + 8];
    struct stat status;
    snprintf(beside, sizeof beside, "%s-wal", store->path);
    if (stat(beside, &status) == 0 && status.st_size > 0)
        return false;
    snprintf(beside, sizeof beside, "%s", store->path);
    char *slash = strrchr(beside, '/');
    if (slash)
        slash[slash == beside] = '\0';
    return access(store->path, W_OK) != 0 || access(slash ? beside : ".", W_OK) != 0;
}

/* A store with a write-ahead log is opened by writing beside it; one that stands still need not be. */
static int open_database(struct lab_store *store, enum lab_store_mode mode)
{
    static const char header[] = "file:", footer[] = "?immutable=1";
    char uri[3 * sizeof store->path + sizeof header + sizeof footer];
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (mode == LAB_STORE_WRITE ? SQLITE_OPEN_CREATE : 0);
    const char *name = store->path;
    if (mode == LAB_STORE_READ && is_still(store)) {
        size_t used = sizeof header - 1;
        memcpy(uri, header, used);
        for (const char *c = store->path; *c; c++)
            used += (size_t)snprintf(uri + used, sizeof uri - used, strchr("%?#", *c) ? "%%%02x" : "%c", (unsigned char)*c);
        memcpy(uri + used, footer, sizeof footer);
        name = uri;
        flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI;
    }
    if (sqlite3_open_v2(name, &store->db, flags, NULL) || sqlite3_busy_timeout(store->db, LAB_STORE_BUSY_MS))
        return lab_rows_failed(store);
    return mode == LAB_STORE_WRITE ? prepare_writing(store) : check_schema(store, false);
}

int lab_store_open(const char *path, enum lab_store_mode mode, struct lab_store **ret_store)
{
    struct lab_store *store = calloc(1, sizeof *store);
    if (!store)
        return lab_fail(ENOMEM, "opening the store");
    int err = 0;
    if (!path)
        err = lab_store_default_path(store->path, sizeof store->path);
    else if ((size_t)snprintf(store->path, sizeof store->path, "%s", path) >= sizeof store->path)
        err = lab_fail(ENAMETOOLONG, "the path of the store");
    if (!err && !path && mode == LAB_STORE_WRITE)
        err = make_directories(store->path);
    if (!err)
        err = check_kind(store, mode);
    if (!err)
        err = open_database(store, mode);
    if (err) {
        lab_store_close(store);
        return err;
    }
    *ret_store = store;
    return 0;
}

void lab_store_close(struct lab_store *store)
{
    if (!store)
        return;
    sqlite3_close(store->db);
    free(store);
}

/* ---- write ---- */

/* The row of the run, -ENOENT without a record when there is none. */
static int find_run(struct lab_store *store, const char *id, int64_t *ret_seq)
{
    sqlite3_stmt *statement;
    int err = lab_rows_prepare(store, &statement, "SELECT seq FROM runs WHERE id = ?");
    if (err)
        return err;
    sqlite3_bind_text(statement, 1, id, -1, SQLITE_STATIC);
    int step = sqlite3_step(statement);
    if (step == SQLITE_ROW)
        *ret_seq = sqlite3_column_int64(statement, 0);
    else
        err = step == SQLITE_DONE ? -ENOENT : lab_rows_failed(store);
    sqlite3_finalize(statement);
    return err;
}

static int write_parts(struct lab_store *store, const struct lab_run *run, int64_t seq)
{
    int err = 0;
    for (size_t i = 0; i < LAB_SHAPE_PARTS && !err; i++) {
        const void *item;
        for (uint32_t j = 0; (item = lab_shape_parts[i]->item(run, j)) && !err; j++)
            err = lab_rows_write(store, lab_shape_parts[i], "run, position", (int64_t[]){seq, j}, 2, item);
    }
    return err;
}

static int delete_parts(struct lab_store *store, int64_t seq)
{
    int err = 0;
    sqlite3_stmt *statement;
    for (size_t i = 0; i < LAB_SHAPE_PARTS && !err; i++) {
        err = lab_rows_prepare(store, &statement, "DELETE FROM \"%s\" WHERE run = %lld", lab_shape_parts[i]->table, (long long)seq);
        if (!err)
            err = lab_rows_finish(store, statement);
    }
    if (!err)
        err = lab_rows_prepare(store, &statement, "DELETE FROM runs WHERE seq = %lld", (long long)seq);
    return err ? err : lab_rows_finish(store, statement);
}

static int write_launch(struct lab_store *store, int64_t seq, int64_t cell, const struct lab_launch *launch)
{
    return lab_rows_write(store, &lab_shape_launch, "run, cell", (int64_t[]){seq, cell}, 2, launch);
}

static int begin_run(struct lab_store *store, const struct lab_run *run)
{
    int64_t seq;
    int err = lab_rows_write(store, &lab_shape_run, "seq", (int64_t[]){-1}, 1, run);
    if (err == -EEXIST)
        return lab_refuse(EEXIST, "the store %s already holds a run %s", store->path, run->id);
    if (err)
        return err;
    seq = sqlite3_last_insert_rowid(store->db);
    err = write_parts(store, run, seq);
    for (uint32_t i = 0; i < run->cell_count && !err; i++)
        for (uint32_t j = 0; j < run->cells[i].launch_count && !err; j++)
            err = write_launch(store, seq, i, &run->cells[i].launches[j]);
    if (err)
        return err;
    /* A verdict is known when the run has ended, unless the plan already gave it. */
    sqlite3_stmt *statement;
    err = lab_rows_prepare(store, &statement, "UPDATE cells SET verdict = NULL WHERE run = %lld AND verdict <> 'skipped'", (long long)seq);
    return err ? err : lab_rows_finish(store, statement);
}

int lab_store_begin(struct lab_store *store, const struct lab_run *run)
{
    int err = lab_rows_execute(store, "BEGIN IMMEDIATE");
    return err ? err : lab_rows_end(store, begin_run(store, run));
}

static int known_run(struct lab_store *store, const struct lab_run *run, int64_t *ret_seq)
{
    int err = find_run(store, run->id, ret_seq);
    return err == -ENOENT ? lab_refuse(ENOENT, "the store %s holds no run %s: it was not begun", store->path, run->id) : err;
}

int lab_store_launch(struct lab_store *store, const struct lab_run *run, const struct lab_cell *cell,
                     const struct lab_launch *launch)
{
    int64_t seq = 0;
    int err = lab_rows_execute(store, "BEGIN IMMEDIATE");
    if (err)
        return err;
    err = known_run(store, run, &seq);
    if (!err)
        err = write_launch(store, seq, cell - run->cells, launch);
    return lab_rows_end(store, err);
}

int lab_store_finish(struct lab_store *store, const struct lab_run *run)
{
    int64_t seq = 0;
    int err = lab_rows_execute(store, "BEGIN IMMEDIATE");
    if (err)
        return err;
    err = known_run(store, run, &seq);
    if (!err)
        err = delete_parts(store, seq);
    if (!err)
        err = lab_rows_write(store, &lab_shape_run, "seq", (int64_t[]){seq}, 1, run);
    if (!err)
        err = write_parts(store, run, seq);
    return lab_rows_end(store, err);
}

/* ---- read ---- */

static int load_part(struct lab_store *store, int64_t seq, const struct lab_shape *shape, struct lab_run *run)
{
    char columns[LAB_SQL_TEXT];
    lab_rows_columns(shape, false, columns);
    sqlite3_stmt *statement;
    int err = lab_rows_prepare(store, &statement, "SELECT %.1200s FROM \"%s\" WHERE run = %lld ORDER BY position", columns,
                               shape->table, (long long)seq);
    if (err)
        return err;
    int step;
    while (!err && (step = sqlite3_step(statement)) != SQLITE_DONE)
        err = step == SQLITE_ROW ? lab_rows_read(store, statement, 0, shape, run, shape->add(run)) : lab_rows_failed(store);
    sqlite3_finalize(statement);
    return err;
}

static int load_launches(struct lab_store *store, int64_t seq, struct lab_run *run)
{
    char columns[LAB_SQL_TEXT];
    lab_rows_columns(&lab_shape_launch, false, columns);
    sqlite3_stmt *statement;
    int err = lab_rows_prepare(store, &statement, "SELECT cell, %.1200s FROM launches WHERE run = %lld ORDER BY cell, seq",
                               columns, (long long)seq);
    if (err)
        return err;
    int step;
    while (!err && (step = sqlite3_step(statement)) != SQLITE_DONE) {
        int64_t cell = sqlite3_column_int64(statement, 0);
        if (step != SQLITE_ROW)
            err = lab_rows_failed(store);
        else if (cell < 0 || cell >= run->cell_count)
            err = lab_refuse(EBADMSG, "the store %s: a launch of cell %lld, which run %s has not", store->path,
                             (long long)cell, run->id);
        else
            err = lab_rows_read(store, statement, 1, &lab_shape_launch, run, lab_cell_add_launch(&run->cells[cell]));
    }
    sqlite3_finalize(statement);
    return err;
}

static int load_run(struct lab_store *store, int64_t seq, struct lab_run *run)
{
    char columns[LAB_SQL_TEXT];
    lab_rows_columns(&lab_shape_run, false, columns);
    sqlite3_stmt *statement;
    int err = lab_rows_prepare(store, &statement, "SELECT %.1200s FROM runs WHERE seq = %lld", columns, (long long)seq);
    if (err)
        return err;
    err = sqlite3_step(statement) == SQLITE_ROW ? lab_rows_read(store, statement, 0, &lab_shape_run, run, run)
                                                : lab_rows_failed(store);
    sqlite3_finalize(statement);
    for (size_t i = 0; i < LAB_SHAPE_PARTS && !err; i++)
        err = load_part(store, seq, lab_shape_parts[i], run);
    return err ? err : load_launches(store, seq, run);
}

/* The row of the run that `id` means: an exact one, else the only one that starts so. */
static int choose_run(struct lab_store *store, const char *id, int64_t *ret_seq)
{
    bool latest = !id || strcmp(id, "latest") == 0;
    sqlite3_stmt *statement;
    int err = lab_rows_prepare(store, &statement, latest ? "SELECT seq, id FROM runs ORDER BY seq DESC LIMIT 1"
                               : "SELECT seq, id FROM runs WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id <> ?1, seq LIMIT 2");
    if (err)
        return err;
    if (!latest)
        sqlite3_bind_text(statement, 1, id, -1, SQLITE_STATIC);
    char first[64] = "";
    int step = sqlite3_step(statement);
    if (step == SQLITE_ROW) {
        *ret_seq = sqlite3_column_int64(statement, 0);
        snprintf(first, sizeof first, "%s", (const char *)sqlite3_column_text(statement, 1));
        step = sqlite3_step(statement);
    }
    if (step == SQLITE_ROW && !latest && strcmp(first, id) != 0)
        err = lab_refuse(EINVAL, "'%s' is the start of several runs: %s, %s, ...", id, first,
                         (const char *)sqlite3_column_text(statement, 1));
    else if (step != SQLITE_ROW && step != SQLITE_DONE)
        err = lab_rows_failed(store);
    else if (!*first)
        err = latest ? lab_refuse(ENOENT, "the store %s holds no run yet", store->path)
                     : lab_refuse(ENOENT, "the store %s holds no run '%s'; `ipclab history` lists what there is", store->path, id);
    sqlite3_finalize(statement);
    return err;
}

int lab_store_load(struct lab_store *store, const char *id, struct lab_run **ret_run)
{
    struct lab_run *run = lab_run_new();
    if (!run)
        return lab_fail(ENOMEM, "loading a run");
    /* One transaction, so that a run that is being written is seen as it was at one moment. */
    int64_t seq = 0;
    int err = lab_rows_execute(store, "BEGIN");
    if (!err) {
        err = choose_run(store, id, &seq);
        if (!err)
            err = load_run(store, seq, run);
        err = lab_rows_end(store, err);
    }
    if (err) {
        lab_run_free(run);
        return err;
    }
    *ret_run = run;
    return 0;
}

int lab_store_history(struct lab_store *store, uint32_t limit, struct lab_listing **ret_listing)
{
    static const struct lab_column columns[] = {
        {"id", "run", LAB_COLUMN_TEXT, NULL},         {"started_utc", "started (UTC)", LAB_COLUMN_TEXT, NULL},
        {"experiment", "experiment", LAB_COLUMN_TEXT, NULL}, {"cells", "cells", LAB_COLUMN_NUMBER, NULL},
        {"ok", "ok", LAB_COLUMN_NUMBER, NULL},        {"doubtful", "doubtful", LAB_COLUMN_NUMBER, NULL},
        {"skipped", "skipped", LAB_COLUMN_NUMBER, NULL}, {"failed", "failed", LAB_COLUMN_NUMBER, NULL},
        {"wall_ns", "took", LAB_COLUMN_NUMBER, lab_format_time}, {"verdict", "verdict", LAB_COLUMN_TEXT, NULL},
    };
    enum { COLUMNS = sizeof columns / sizeof *columns };
    /* Until a run ends its cells have no verdict: one with a sound launch counts as ok. */
    static const char sql[] =
        "SELECT id, started_utc, experiment, "
        "(SELECT count(*) FROM cells WHERE run = runs.seq), "
        "(SELECT count(*) FROM cells WHERE run = runs.seq AND (verdict = 'ok' OR verdict IS NULL AND EXISTS "
        "(SELECT 1 FROM launches WHERE launches.run = runs.seq AND cell = cells.position AND launches.verdict = 'ok'))), "
        "(SELECT count(*) FROM cells WHERE run = runs.seq AND verdict IN ('noisy', 'transient')), "
        "(SELECT count(*) FROM cells WHERE run = runs.seq AND verdict = 'skipped'), "
        "(SELECT count(*) FROM cells WHERE run = runs.seq AND verdict IN ('failed', 'invalid')), "
        "CASE WHEN ended_by IS NULL THEN NULL ELSE wall_ns END, "
        "CASE WHEN ended_by IS NULL THEN 'unfinished' ELSE verdict END "
        "FROM runs ORDER BY seq DESC LIMIT %u";
    struct lab_listing *listing = lab_listing_new(columns, COLUMNS);
    if (!listing)
        return lab_fail(ENOMEM, "the history");
    sqlite3_stmt *statement;
    int err = lab_rows_prepare(store, &statement, sql, limit), step;
    if (err) {
        lab_listing_free(listing);
        return err;
    }
    while (!err && (step = sqlite3_step(statement)) != SQLITE_DONE) {
        struct lab_field fields[COLUMNS];
        for (int i = 0; i < COLUMNS; i++) {
            bool null = sqlite3_column_type(statement, i) == SQLITE_NULL;
            fields[i] = (struct lab_field){(const char *)sqlite3_column_text(statement, i),
                                           null ? (double)NAN : sqlite3_column_double(statement, i)};
        }
        err = step == SQLITE_ROW ? lab_listing_add(listing, fields) : lab_rows_failed(store);
    }
    sqlite3_finalize(statement);
    if (err)
        lab_listing_free(listing);
    else
        *ret_listing = listing;
    return err;
}

const char *lab_store_library(void)
{
    return sqlite3_libversion();
}
