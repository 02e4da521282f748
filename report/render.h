/* A run as text: the one entry to every output format.
 *
 *     struct lab_render_style style = lab_render_style_of(stdout);
 *     err = lab_render(run, LAB_FORMAT_TABLE, stdout, &style);
 *
 * The run may be unfinished (a killed one loaded from the store): cells without launches are shown as such. Figures come
 * from report/statistics.h and are the same in every format. Any thread; blocks only as long as writing to `to` does. */
#ifndef LAB_REPORT_RENDER_H
#define LAB_REPORT_RENDER_H

#include "report/result.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum lab_format {
    LAB_FORMAT_TABLE, /* for people: groups of aligned columns, notes, limits, a closing paragraph */
    LAB_FORMAT_JSON,  /* one document, schema "ipclab/result/1" */
    LAB_FORMAT_JSONL, /* the same, a line {"kind":"run",...} and then a line {"kind":"cell",...} for each cell */
    LAB_FORMAT_CSV,   /* RFC 4180: a header and a row per cell; a figure that was not measured is an empty field */
    LAB_FORMAT_MD,    /* a GitHub table per group */
    LAB_FORMATS
};
const char *lab_format_name(enum lab_format format);                  /* "table", ...; NULL beyond the last */
int lab_format_named(const char *name, enum lab_format *ret_format);  /* -EINVAL with the known names */

struct lab_render_style {
    uint32_t width;   /* columns to fit into; 0: LAB_RENDER_WIDTH */
    bool colour;
    bool utf8;        /* may write more than ASCII */
    bool interactive; /* a person watches: hints on what to type next are welcome */
};
enum { LAB_RENDER_WIDTH = 112 };

/* What suits a stream: the terminal's width, colour on a terminal without NO_COLOR and with a TERM that is not dumb,
 * UTF-8 when the environment's locale says so. Not a terminal: no colour, width 0. */
struct lab_render_style lab_render_style_of(FILE *to);

/* Its columns now: they change while a program runs. 0: no terminal, or one that does not say. */
uint32_t lab_render_width_of(FILE *to);

/* Writes the whole output and flushes. -ENOMEM; or the stream's write error (-EPIPE, -ENOSPC) with its sentence: part of
 * the output may have been written. */
int lab_render(const struct lab_run *run, enum lab_format format, FILE *to, const struct lab_render_style *style);

/* Flushes; the stream's error, now or of an earlier write, as -errno with its sentence. */
int lab_render_flush(FILE *to);

/* "2.14": the JSON library at run time. Static storage. */
const char *lab_render_library(void);

#endif
