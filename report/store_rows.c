#include "report/store_rows.h"

#include "base/error.h"
#include "report/store.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- statements ---- */

int lab_rows_failed(struct lab_store *store)
{
    static const struct { int sqlite, error; } codes[] = {
        {SQLITE_BUSY, EBUSY}, {SQLITE_LOCKED, EBUSY}, {SQLITE_FULL, ENOSPC}, {SQLITE_READONLY, EROFS},
        {SQLITE_NOMEM, ENOMEM}, {SQLITE_CORRUPT, EBADMSG}, {SQLITE_NOTADB, EBADMSG}, {SQLITE_CONSTRAINT, EEXIST},
        {SQLITE_PERM, EACCES}, {SQLITE_AUTH, EACCES},
    };
    int primary = sqlite3_errcode(store->db) & 0xff, system = sqlite3_system_errno(store->db);
    int error = primary == SQLITE_CANTOPEN && system ? system : EIO;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].sqlite == primary)
            error = codes[i].error;
    if (error == EBUSY)
        return lab_refuse(EBUSY, "the store %s: another program has kept it locked for %d s: name another file with --db", store->path,
                          LAB_STORE_BUSY_MS / 1000);
    bool tell = system && (error == EIO || primary == SQLITE_CANTOPEN);
    return lab_refuse(error, "the store %s: %s%s%s", store->path, sqlite3_errmsg(store->db), tell ? ": " : "",
                      tell ? strerror(system) : "");
}

int lab_rows_prepare(struct lab_store *store, sqlite3_stmt **ret_statement, const char *format, ...)
{
    char sql[LAB_SQL_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    return sqlite3_prepare_v2(store->db, sql, -1, ret_statement, NULL) ? lab_rows_failed(store) : 0;
}

/* Runs a statement that gives no rows, and drops it. */
int lab_rows_finish(struct lab_store *store, sqlite3_stmt *statement)
{
    int err = sqlite3_step(statement) == SQLITE_DONE ? 0 : lab_rows_failed(store);
    sqlite3_finalize(statement);
    return err;
}

int lab_rows_execute(struct lab_store *store, const char *sql)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) ? lab_rows_failed(store) : 0;
}

/* Ends the transaction that `err` decides about; the first failure is the one that is reported. */
int lab_rows_end(struct lab_store *store, int err)
{
    if (!err)
        err = lab_rows_execute(store, "COMMIT");
    if (err && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return err;
}

int lab_rows_integer(struct lab_store *store, const char *sql, int64_t *ret_value)
{
    sqlite3_stmt *statement;
    int err = lab_rows_prepare(store, &statement, "%s", sql);
    if (err)
        return err;
    if (sqlite3_step(statement) == SQLITE_ROW)
        *ret_value = sqlite3_column_int64(statement, 0);
    else
        err = lab_rows_failed(store);
    sqlite3_finalize(statement);
    return err;
}

/* ---- rows ---- */

/* `"a", "b", ...` of a shape, or as many parameters. */
void lab_rows_columns(const struct lab_shape *shape, bool parameters, char to[LAB_SQL_TEXT])
{
    size_t used = 0;
    for (size_t i = 0; i < shape->field_count; i++)
        used += (size_t)snprintf(to + used, LAB_SQL_TEXT - used, parameters ? "%s?" : "%s\"%s\"", i ? ", " : "",
                                 shape->fields[i].column);
}

static int bind_field(sqlite3_stmt *statement, int at, const struct lab_shape_field *field, const void *object)
{
    const void *member = (const char *)object + field->offset;
    switch (field->type) {
    case LAB_TYPE_TEXT: return sqlite3_bind_text(statement, at, *(const char *const *)member, -1, SQLITE_STATIC);
    case LAB_TYPE_U32: return sqlite3_bind_int64(statement, at, *(const uint32_t *)member);
    case LAB_TYPE_I32: return sqlite3_bind_int64(statement, at, *(const int *)member);
    case LAB_TYPE_U64: return sqlite3_bind_int64(statement, at, (int64_t) * (const uint64_t *)member);
    case LAB_TYPE_REAL: return sqlite3_bind_double(statement, at, *(const double *)member);
    case LAB_TYPE_BOOL: return sqlite3_bind_int64(statement, at, *(const bool *)member);
    case LAB_TYPE_VERDICT:
        return sqlite3_bind_text(statement, at, lab_verdict_name(*(const enum lab_verdict *)member), -1, SQLITE_STATIC);
    case LAB_TYPE_HIST: {
        const struct lab_hist *hist = *(struct lab_hist *const *)member;
        if (!hist)
            return sqlite3_bind_null(statement, at);
        size_t size = lab_hist_encode(hist, NULL, 0);
        unsigned char *bytes = malloc(size);
        if (!bytes)
            return SQLITE_NOMEM;
        lab_hist_encode(hist, bytes, size);
        return sqlite3_bind_blob64(statement, at, bytes, size, free);
    }
    }
    return SQLITE_MISUSE;
}

/* Writes an object as a row; `keys` name the columns before its own ("run, position") and have the values given. */
int lab_rows_write(struct lab_store *store, const struct lab_shape *shape, const char *keys, const int64_t *values,
                     int value_count, const void *object)
{
    char columns[LAB_SQL_TEXT], parameters[LAB_SQL_TEXT];
    lab_rows_columns(shape, false, columns);
    lab_rows_columns(shape, true, parameters);
    sqlite3_stmt *statement;
    int err = lab_rows_prepare(store, &statement, "INSERT INTO \"%s\" (%s, %.1200s) VALUES (%.*s %.200s)", shape->table, keys, columns,
                      3 * value_count, "?, ?, ?, ", parameters);
    if (err)
        return err;
    int at = 0, code = SQLITE_OK;
    for (; at < value_count && !code; at++)
        code = values[at] < 0 ? sqlite3_bind_null(statement, at + 1) : sqlite3_bind_int64(statement, at + 1, values[at]);
    for (size_t i = 0; i < shape->field_count && !code; i++)
        code = bind_field(statement, ++at, &shape->fields[i], object);
    if (code) {
        sqlite3_finalize(statement);
        return lab_refuse(ENOMEM, "the store %s: a row of %s: %s", store->path, shape->table, sqlite3_errstr(code));
    }
    return lab_rows_finish(store, statement);
}

static int read_field(sqlite3_stmt *statement, int at, const struct lab_shape_field *field, struct lab_run *run, void *object)
{
    void *member = (char *)object + field->offset;
    bool null = sqlite3_column_type(statement, at) == SQLITE_NULL;
    const char *text = (const char *)sqlite3_column_text(statement, at);
    switch (field->type) {
    case LAB_TYPE_TEXT:
        *(const char **)member = lab_run_string(run, null ? NULL : text);
        return null || *(const char **)member ? 0 : -ENOMEM;
    case LAB_TYPE_U32: *(uint32_t *)member = (uint32_t)sqlite3_column_int64(statement, at); return 0;
    case LAB_TYPE_I32: *(int *)member = sqlite3_column_int(statement, at); return 0;
    case LAB_TYPE_U64: *(uint64_t *)member = (uint64_t)sqlite3_column_int64(statement, at); return 0;
    case LAB_TYPE_REAL: *(double *)member = null ? (double)NAN : sqlite3_column_double(statement, at); return 0;
    case LAB_TYPE_BOOL: *(bool *)member = sqlite3_column_int(statement, at); return 0;
    case LAB_TYPE_VERDICT:
        for (enum lab_verdict verdict = 0; text && verdict < LAB_VERDICTS; verdict++)
            if (strcmp(text, lab_verdict_name(verdict)) == 0)
                *(enum lab_verdict *)member = verdict;
        return 0;
    case LAB_TYPE_HIST: {
        if (null)
            return 0;
        struct lab_hist *hist = lab_hist_new();
        if (!hist)
            return -ENOMEM;
        *(struct lab_hist **)member = hist;
        return lab_hist_merge_encoded(hist, sqlite3_column_blob(statement, at), (size_t)sqlite3_column_bytes(statement, at));
    }
    }
    return -EINVAL;
}

/* Reads the current row, whose columns from `first` on are the shape's. */
int lab_rows_read(struct lab_store *store, sqlite3_stmt *statement, int first, const struct lab_shape *shape,
                    struct lab_run *run, void *object)
{
    int err = object ? 0 : -ENOMEM;
    for (size_t i = 0; i < shape->field_count && !err; i++)
        err = read_field(statement, first + (int)i, &shape->fields[i], run, object);
    return err == -ENOMEM ? lab_fail(ENOMEM, "the store %s: a row of %s", store->path, shape->table) : err;
}

