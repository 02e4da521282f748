/* Where a piece of an experiment stands, so that every complaint can point at it.
 *
 *     return lab_mark_refuse(&value->mark, "'%s' is not a size", value->text);     a.yaml:3:8: '64KB5' is not a size
 *
 * A mark does not own `file`: that is the experiment's, or an option of the command line. */
#ifndef LAB_LAUNCHER_MARK_H
#define LAB_LAUNCHER_MARK_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct lab_mark {
    const char *file;      /* as the user wrote it; an option ("--size") when `line` is 0 */
    uint32_t line, column; /* from 1 */
};

/* Records the sentence after "FILE:LINE:COLUMN: " (or "--option: "), with EINVAL. Returns -EINVAL. */
int lab_mark_refuse(const struct lab_mark *mark, const char *format, ...) LAB_PRINTF(2, 3);
#define lab_mark_refuse(...) lab_failed(lab_mark_refuse(__VA_ARGS__))

/* A piece of the user's text as a message may quote it: at most 40 characters, and none that a terminal would obey. */
enum { LAB_QUOTE_TEXT = 48 };
char *lab_quote(const char *text, char to[LAB_QUOTE_TEXT]);

/* "; did you mean 'pipe'?", or "" when `nearest` is NULL. */
enum { LAB_HINT_TEXT = 64 };
char *lab_hint(const char *nearest, char to[LAB_HINT_TEXT]);

#endif
