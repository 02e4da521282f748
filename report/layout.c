#include "report/layout.h"

#include <string.h>

size_t lab_layout_columns(const char *text)
{
    size_t columns = 0;
    for (; *text; text++)
        columns += ((unsigned char)*text & 0xc0) != 0x80;
    return columns;
}

void lab_layout_repeat(FILE *to, const char *text, size_t times)
{
    while (times--)
        fputs(text, to);
}

void lab_layout_left(FILE *to, const char *text, size_t columns)
{
    size_t used = lab_layout_columns(text);
    fputs(text, to);
    lab_layout_repeat(to, " ", used < columns ? columns - used : 0);
}

void lab_layout_right(FILE *to, const char *text, size_t columns)
{
    size_t used = lab_layout_columns(text);
    lab_layout_repeat(to, " ", used < columns ? columns - used : 0);
    fputs(text, to);
}

static size_t columns_of(const char *text, size_t bytes)
{
    size_t columns = 0;
    for (size_t i = 0; i < bytes; i++)
        columns += ((unsigned char)text[i] & 0xc0) != 0x80;
    return columns;
}

void lab_layout_wrapped(FILE *to, const char *text, size_t at, size_t indent, size_t width)
{
    bool fresh = true; /* nothing of the text on this line yet */
    while (*(text += strspn(text, " "))) {
        size_t bytes = strcspn(text, " "), columns = columns_of(text, bytes);
        if (!fresh && at + 1 + columns > width) {
            fputc('\n', to);
            lab_layout_repeat(to, " ", indent);
            at = indent;
            fresh = true;
        }
        if (!fresh)
            fputc(' ', to);
        for (size_t i = 0; i < bytes; i++)
            fputc(text[i] == LAB_HARD_SPACE ? ' ' : text[i], to);
        at += columns + !fresh;
        fresh = false;
        text += bytes;
    }
    fputc('\n', to);
}

void lab_layout_ink(FILE *to, const struct lab_render_style *style, enum lab_ink ink)
{
    static const char *const codes[] = {"\033[0m", "\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[33m"};
    if (style->colour)
        fputs(codes[ink], to);
}

const struct lab_signs *lab_layout_signs(const struct lab_render_style *style)
{
    static const struct lab_signs utf8 = {"×", "±", "★", "─", "–", " · ", "≈"};
    static const struct lab_signs ascii = {"x", "+-", "*", "-", "-", " | ", "="};
    return style->utf8 ? &utf8 : &ascii;
}
