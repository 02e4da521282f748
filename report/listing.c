#include "report/listing.h"

#include "base/error.h"
#include "report/json.h"
#include "report/layout.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lab_listing {
    const struct lab_column *columns;
    size_t column_count, row_count, row_room;
    struct lab_field *fields; /* row by row */
};

struct lab_listing *lab_listing_new(const struct lab_column *columns, size_t column_count)
{
    struct lab_listing *listing = calloc(1, sizeof *listing);
    if (listing)
        *listing = (struct lab_listing){.columns = columns, .column_count = column_count};
    return listing;
}

static void drop_texts(const struct lab_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        union { const char *text; char *owned; } copy = {.text = fields[i].text};
        free(copy.owned);
    }
}

void lab_listing_free(struct lab_listing *listing)
{
    if (!listing)
        return;
    drop_texts(listing->fields, listing->row_count * listing->column_count);
    free(listing->fields);
    free(listing);
}

int lab_listing_add(struct lab_listing *listing, const struct lab_field *fields)
{
    if (listing->row_count == listing->row_room) {
        size_t room = listing->row_room ? 2 * listing->row_room : 16;
        struct lab_field *all = reallocarray(listing->fields, room * listing->column_count, sizeof *all);
        if (!all)
            return lab_fail(ENOMEM, "a listing of %zu rows", room);
        listing->fields = all;
        listing->row_room = room;
    }
    struct lab_field *row = listing->fields + listing->row_count * listing->column_count;
    for (size_t i = 0; i < listing->column_count; i++) {
        row[i] = (struct lab_field){fields[i].text ? strdup(fields[i].text) : NULL, fields[i].number};
        if (fields[i].text && !row[i].text) {
            drop_texts(row, i);
            return lab_fail(ENOMEM, "a row of a listing");
        }
    }
    listing->row_count++;
    return 0;
}

size_t lab_listing_rows(const struct lab_listing *listing)
{
    return listing->row_count;
}

static const struct lab_field *row_at(const void *of, size_t row)
{
    const struct lab_listing *listing = of;
    return listing->fields + row * listing->column_count;
}

/* The field as a person reads it; NULL when out of memory. */
static char *shown(const struct lab_column *column, const struct lab_field *field)
{
    char *text = NULL, number[LAB_TEXT_NUMBER];
    switch (column->kind) {
    case LAB_COLUMN_TEXT: return strdup(field->text ? field->text : "-");
    case LAB_COLUMN_BOOL: return strdup(field->number != 0 ? "yes" : "no");
    case LAB_COLUMN_NUMBER:
        if (isnan(field->number))
            return strdup("-");
        if (column->show)
            return strdup(column->show(field->number, number));
        return asprintf(&text, "%.10g", field->number) < 0 ? NULL : text;
    case LAB_COLUMN_LIST: {
        const char *list = field->text ? field->text : "";
        text = malloc(2 * strlen(list) + 2);
        if (!text)
            return NULL;
        char *at = text;
        for (; *list; list++) {
            *at++ = *list;
            if (*list == ',')
                *at++ = ' ';
        }
        if (at == text)
            *at++ = '-';
        *at = '\0';
        return text;
    }
    }
    return NULL;
}

/* Writes one line of fields; the last visible one is wrapped. */
static void put_line(const struct lab_listing *listing, char *const *texts, const size_t *widths, FILE *to, size_t width)
{
    size_t last = 0, at = 0;
    for (size_t j = 0; j < listing->column_count; j++)
        if (listing->columns[j].title)
            last = j;
    for (size_t j = 0; j <= last; j++) {
        if (!listing->columns[j].title)
            continue;
        if (j == last) {
            lab_layout_wrapped(to, texts[j], at, at, at + 24 > width ? at + 24 : width);
            return;
        }
        if (listing->columns[j].kind == LAB_COLUMN_NUMBER)
            lab_layout_right(to, texts[j], widths[j]);
        else
            lab_layout_left(to, texts[j], widths[j]);
        fputs("  ", to);
        at += widths[j] + 2;
    }
}

static int print_table(const struct lab_listing *listing, FILE *to, const struct lab_render_style *style)
{
    size_t columns = listing->column_count, fields = (listing->row_count + 1) * columns;
    char **texts = calloc(fields + 1, sizeof *texts);
    size_t *widths = calloc(columns + 1, sizeof *widths);
    int err = texts && widths ? 0 : -ENOMEM;
    for (size_t i = 0; i < fields && !err; i++) {
        const struct lab_column *column = &listing->columns[i % columns];
        texts[i] = i < columns ? strdup(column->title ? column->title : "") : shown(column, &listing->fields[i - columns]);
        if (!texts[i])
            err = -ENOMEM;
        else if (lab_layout_columns(texts[i]) > widths[i % columns])
            widths[i % columns] = lab_layout_columns(texts[i]);
    }
    for (size_t i = 0; i <= listing->row_count && !err; i++) {
        lab_layout_ink(to, style, i ? LAB_INK_PLAIN : LAB_INK_BOLD);
        put_line(listing, texts + i * columns, widths, to, lab_layout_width(style));
        lab_layout_ink(to, style, LAB_INK_PLAIN);
    }
    for (size_t i = 0; texts && i < fields; i++)
        free(texts[i]);
    free(texts);
    free(widths);
    return err ? lab_fail(ENOMEM, "a listing of %zu rows", listing->row_count) : 0;
}

int lab_listing_print(const struct lab_listing *listing, enum lab_listing_format format, FILE *to,
                      const struct lab_render_style *style)
{
    int err = format == LAB_LISTING_JSON
                  ? lab_json_rows(listing->columns, listing->column_count, listing->row_count, row_at, listing, to)
                  : print_table(listing, to, style);
    return err ? err : lab_render_flush(to);
}
