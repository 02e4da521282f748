/* JSON, made and read in one place (json.c alone includes the library). Internal to report/. */
#ifndef LAB_REPORT_JSON_H
#define LAB_REPORT_JSON_H

#include "report/listing.h"
#include "report/result.h"
#include "report/statistics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The options of a cell as text: {"window":16,"link":"zmq-tcp"} gives ("window", "16") and ("link", "zmq-tcp"). */
enum { LAB_OPTION_TEXT = 48, LAB_OPTIONS_MOST = 16 };
struct lab_options {
    size_t count;
    struct lab_option {
        char name[LAB_OPTION_TEXT], text[LAB_OPTION_TEXT];
    } option[LAB_OPTIONS_MOST];
};

/* Text that is no JSON object gives none; those beyond LAB_OPTIONS_MOST are left out. */
void lab_options_read(const char *json, struct lab_options *ret_options);
/* Whether the option is there; `to` is untouched otherwise. */
bool lab_option_text(const char *json, const char *name, char to[LAB_OPTION_TEXT]);

/* The renderers, as lab_render calls them; `summaries` has one element per cell. 0 or -ENOMEM; the stream's errors are
 * looked at by the caller. */
int lab_json_print(const struct lab_run *run, const struct lab_summary *summaries, bool lines, FILE *to);

/* An array of objects, one per row; `field` gives those of a row. */
int lab_json_rows(const struct lab_column *columns, size_t column_count, size_t rows,
                  const struct lab_field *(*fields)(const void *of, size_t row), const void *of, FILE *to);

#endif
