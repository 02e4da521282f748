/* Statements and rows of the store: the part that knows SQLite and the shapes, and nothing of runs. Internal to report/store*. */
#ifndef LAB_REPORT_STORE_ROWS_H
#define LAB_REPORT_STORE_ROWS_H

#include "base/error.h"
#include "report/shapes.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

enum { LAB_SQL_TEXT = 2048 };

struct lab_store {
    sqlite3 *db;
    char path[512];
};

/* Records SQLite's latest error as a sentence; returns -errno. */
int lab_rows_failed(struct lab_store *store);

/* The caller finalizes the statement, or lets lab_rows_finish run and drop it. */
int lab_rows_prepare(struct lab_store *store, sqlite3_stmt **ret_statement, const char *format, ...) LAB_PRINTF(3, 4);
int lab_rows_finish(struct lab_store *store, sqlite3_stmt *statement);
int lab_rows_execute(struct lab_store *store, const char *sql);
int lab_rows_integer(struct lab_store *store, const char *sql, int64_t *ret_value);

/* Commits when `err` is 0, rolls back else; the first failure is the one returned. */
int lab_rows_end(struct lab_store *store, int err);

/* `"a", "b", ...` of a shape, or a parameter for each. */
void lab_rows_columns(const struct lab_shape *shape, bool parameters, char to[LAB_SQL_TEXT]);

/* Writes an object as a row; `keys` name the columns before its own ("run, position"), a negative value is NULL. */
int lab_rows_write(struct lab_store *store, const struct lab_shape *shape, const char *keys, const int64_t *values,
                   int value_count, const void *object);

/* Reads the current row, whose columns from `first` on are the shape's, into `object`; its strings and histograms become
 * the run's. `object` NULL: -ENOMEM. */
int lab_rows_read(struct lab_store *store, sqlite3_stmt *statement, int first, const struct lab_shape *shape,
                  struct lab_run *run, void *object);

#endif
