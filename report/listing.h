/* A small table of anything, for `ipclab list` and `ipclab history`: rows of text and numbers, printed aligned or as a
 * JSON array of objects.
 *
 *     static const struct lab_column columns[] = {
 *         {"name", "transport", LAB_COLUMN_TEXT, NULL},
 *         {"message_max_bytes", "longest", LAB_COLUMN_NUMBER, show_size},
 *         {"waits", "waits", LAB_COLUMN_LIST, NULL},
 *     };
 *     struct lab_listing *listing = lab_listing_new(columns, 3);
 *     err = lab_listing_add(listing, (struct lab_field[]){{.text = "pipe"}, {.number = 1e9}, {.text = "block,poll"}});
 *     err = lab_listing_print(listing, LAB_LISTING_TABLE, stdout, &style);
 *     lab_listing_free(listing);
 */
#ifndef LAB_REPORT_LISTING_H
#define LAB_REPORT_LISTING_H

#include "base/text.h"
#include "report/render.h"

#include <stddef.h>
#include <stdio.h>

enum lab_column_kind {
    LAB_COLUMN_TEXT,   /* a string; NULL: JSON null, "-" in a table */
    LAB_COLUMN_NUMBER, /* a number; NaN: JSON null, "-" in a table */
    LAB_COLUMN_LIST,   /* a string of names "a,b,c": a JSON array, "a, b, c" in a table */
    LAB_COLUMN_BOOL,   /* number 0 or 1: JSON true or false, "yes" or "no" */
};

struct lab_column {
    const char *key;   /* in JSON, with its unit; never renamed */
    const char *title; /* above the column; NULL: only in JSON */
    enum lab_column_kind kind;
    char *(*show)(double number, char to[LAB_TEXT_NUMBER]); /* in the table; NULL: as a plain number */
};

struct lab_field {
    const char *text;
    double number;
};

struct lab_listing;

/* `columns` must outlive the listing. NULL when out of memory. */
struct lab_listing *lab_listing_new(const struct lab_column *columns, size_t column_count);
void lab_listing_free(struct lab_listing *listing); /* NULL is harmless */

/* One row, a field per column; the texts are copied. -ENOMEM. */
int lab_listing_add(struct lab_listing *listing, const struct lab_field *fields);
size_t lab_listing_rows(const struct lab_listing *listing);

enum lab_listing_format { LAB_LISTING_TABLE, LAB_LISTING_JSON };

/* The last column of a table is wrapped into what is left of the width. Errors as of lab_render. */
int lab_listing_print(const struct lab_listing *listing, enum lab_listing_format format, FILE *to,
                      const struct lab_render_style *style);

#endif
