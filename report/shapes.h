/* The structs of result.h as rows: which member is which column, of which type. Data, from which the store makes its
 * tables, writes and reads them: a new member is one row here (and a step of LAB_STORE_SCHEMA). Internal to report/. */
#ifndef LAB_REPORT_SHAPES_H
#define LAB_REPORT_SHAPES_H

#include "report/result.h"

#include <stddef.h>

enum lab_field_type {
    LAB_TYPE_TEXT,    /* const char *; NULL is kept */
    LAB_TYPE_U32,
    LAB_TYPE_I32,     /* int */
    LAB_TYPE_U64,     /* its bits; values above 2^63 look negative to other programs */
    LAB_TYPE_REAL,    /* double; NaN is NULL */
    LAB_TYPE_BOOL,
    LAB_TYPE_VERDICT, /* its name */
    LAB_TYPE_HIST,    /* struct lab_hist *; lab_hist_encode, or NULL */
};

struct lab_shape_field {
    const char *column;
    enum lab_field_type type;
    size_t offset;
};

struct lab_shape {
    const char *table;
    const struct lab_shape_field *fields;
    size_t field_count;
    /* Where the objects are in a run: the i-th (NULL beyond the last), and a new one. NULL for the run itself and for
     * launches, which belong to cells. */
    const void *(*item)(const struct lab_run *run, uint32_t index);
    void *(*add)(struct lab_run *run);
};

extern const struct lab_shape lab_shape_run, lab_shape_launch;

/* What a run has arrays of. */
enum { LAB_SHAPE_PARTS = 6 };
extern const struct lab_shape *const lab_shape_parts[LAB_SHAPE_PARTS];

#endif
