#include "base/error.h"

#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct lab_error record;

static int code_of(int code)
{
    return code > 0 ? code : EIO;
}

/* A record travels in protobuf strings, which take UTF-8 only: a path of other bytes, or a character cut at the end of the room, must not
 * keep the reason of a failure from being told. */
static void mend(char *text)
{
    size_t left = strlen(text);
    for (size_t length; left; text += length, left -= length) {
        length = lab_utf8_length((unsigned char *)text, left);
        if (!length) {
            *text = '?';
            length = 1;
        }
    }
}

static LAB_PRINTF(5, 0) int keep(const char *file, int line, int code, const char *tail, const char *format, va_list args)
{
    /* Arguments may point into the record itself (a message quoted in another). */
    char text[LAB_ERROR_TEXT];
    int used = vsnprintf(text, sizeof text, format, args);
    size_t at = used < 0 ? 0 : (size_t)used < sizeof text ? (size_t)used : sizeof text - 1;
    if (tail)
        snprintf(text + at, sizeof text - at, ": %s", tail);
    mend(text);
    record.code = code;
    record.file = file;
    record.line = line;
    memcpy(record.text, text, sizeof record.text);
    return -code;
}

int lab_fail_at(const char *file, int line, int code, const char *format, ...)
{
    char reason[128];
    va_list args;
    code = code_of(code);
    va_start(args, format);
    int err = keep(file, line, code, strerror_r(code, reason, sizeof reason), format, args);
    va_end(args);
    return err;
}

int lab_refuse_at(const char *file, int line, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int err = keep(file, line, code_of(code), NULL, format, args);
    va_end(args);
    return err;
}

int lab_while(int err, const char *format, ...)
{
    char clause[LAB_ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(clause, sizeof clause, format, args);
    va_end(args);

    size_t used = strlen(record.text);
    snprintf(record.text + used, sizeof record.text - used, ", while %s", clause);
    mend(record.text);
    return err;
}

const struct lab_error *lab_error_last(void)
{
    return &record;
}

void lab_error_clear(void)
{
    record = (struct lab_error){0};
}
