#include "launcher/mark.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int (lab_mark_refuse)(const struct lab_mark *mark, const char *format, ...)
{
    char sentence[LAB_ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    if (!mark->line)
        return lab_refuse(EINVAL, "%s: %s", mark->file, sentence);
    return lab_refuse(EINVAL, "%s:%u:%u: %s", mark->file, mark->line, mark->column, sentence);
}

char *lab_quote(const char *text, char to[LAB_QUOTE_TEXT])
{
    enum { SHOWN = 40 };
    size_t used = 0;
    for (; used < SHOWN && text[used]; used++)
        to[used] = isprint((unsigned char)text[used]) ? text[used] : '?';
    snprintf(to + used, LAB_QUOTE_TEXT - used, "%s", text[used] ? "..." : "");
    return to;
}

char *lab_hint(const char *nearest, char to[LAB_HINT_TEXT])
{
    to[0] = '\0';
    if (nearest)
        snprintf(to, LAB_HINT_TEXT, "; did you mean '%s'?", nearest);
    return to;
}
