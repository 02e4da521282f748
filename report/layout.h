/* Laying out text in columns: widths of UTF-8, padding, wrapping, colour. Internal to report/. */
#ifndef LAB_REPORT_LAYOUT_H
#define LAB_REPORT_LAYOUT_H

#include "report/render.h"

#include <stddef.h>
#include <stdio.h>

/* Columns a text takes on a terminal: its code points (nothing here writes wide or combining ones). */
size_t lab_layout_columns(const char *text);

void lab_layout_repeat(FILE *to, const char *text, size_t times);
void lab_layout_left(FILE *to, const char *text, size_t columns);  /* padded with spaces on the right */
void lab_layout_right(FILE *to, const char *text, size_t columns); /* ... on the left */

/* A space at which lab_layout_wrapped does not break, between a number and its unit. */
#define LAB_HARD_SPACE '\x1f'

/* Words of `text`, broken at spaces so that lines end by column `width`; the cursor stands at column `at`, further lines
 * are indented by `indent`. Ends with a newline. A word that is too long stands alone. */
void lab_layout_wrapped(FILE *to, const char *text, size_t at, size_t indent, size_t width);

enum lab_ink { LAB_INK_PLAIN, LAB_INK_BOLD, LAB_INK_DIM, LAB_INK_GOOD, LAB_INK_BAD, LAB_INK_WARN };
/* Nothing without colour; LAB_INK_PLAIN ends any ink. */
void lab_layout_ink(FILE *to, const struct lab_render_style *style, enum lab_ink ink);

/* A sign with its ASCII stand-in. */
struct lab_signs {
    const char *times, *plus_minus, *star, *rule, *dash, *dot, *equal;
};
const struct lab_signs *lab_layout_signs(const struct lab_render_style *style);

static inline size_t lab_layout_width(const struct lab_render_style *style)
{
    return style->width ? style->width : LAB_RENDER_WIDTH;
}

#endif
