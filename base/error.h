/* What went wrong, said once, by the code that saw it.
 *
 * A function returns 0 or -errno. Whoever detects a failure records the sentence in a per-thread record with lab_fail();
 * callers may add what they were doing with lab_while(), and pass the code on. Only main(), or a FAULT message to the
 * launcher, shows the record.
 *
 *     int fd = open(path, O_RDONLY | O_CLOEXEC);
 *     if (fd < 0)
 *         return lab_fail(errno, "cannot open %s", path);
 *     ...
 *     if (err)
 *         return lab_while(err, "reading the hosts of %s", experiment);
 *
 * The sentence names the place, the offending value and, where there is one, the mend; lab_fail appends strerror(err).
 */
#ifndef LAB_BASE_ERROR_H
#define LAB_BASE_ERROR_H

#include <stdarg.h>

#define LAB_PRINTF(text, first) __attribute__((format(printf, text, first)))

enum { LAB_ERROR_TEXT = 1024 };

struct lab_error {
    int code;         /* positive errno; 0 when nothing failed since lab_error_clear() */
    const char *file; /* where it was detected */
    int line;
    char text[LAB_ERROR_TEXT]; /* one sentence in UTF-8, "while ..." clauses appended, no newline at its end */
};

/* What lab_fail and lab_refuse return is never 0, and the compiler knows: behind "if (err) return err" it need not fear that an
 * output was left unset. */
static inline int lab_failed(int err)
{
    if (err >= 0)
        __builtin_unreachable();
    return err;
}

/* Records the failure of this thread, replacing an earlier one; `code` is a positive errno (0, from a library that failed and did
 * not say why, is taken for EIO: what failed must not look like success). Returns -code. */
#define lab_fail(code, ...) lab_failed(lab_fail_at(__FILE__, __LINE__, (code), __VA_ARGS__))
int lab_fail_at(const char *file, int line, int code, const char *format, ...) LAB_PRINTF(4, 5);

/* As lab_fail, without strerror(code): for sentences that say all there is to say. */
#define lab_refuse(code, ...) lab_failed(lab_refuse_at(__FILE__, __LINE__, (code), __VA_ARGS__))
int lab_refuse_at(const char *file, int line, int code, const char *format, ...) LAB_PRINTF(4, 5);

/* Appends ", while ..." to the record. Returns `err` (a negative errno) unchanged. */
int lab_while(int err, const char *format, ...) LAB_PRINTF(2, 3);

/* The record of this thread; never NULL, valid until the next failure of this thread. */
const struct lab_error *lab_error_last(void);
void lab_error_clear(void);

#endif
