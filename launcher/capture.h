/* Other people's programs, run for what they print: several at once, each with a bounded output and all with one deadline.
 *
 *     struct lab_capture got;
 *     err = lab_capture_start("ip", (char *[]){"ip", "link", NULL}, &got);
 *     if (!err)
 *         lab_capture_wait(&got, 1, lab_now_ns() + LAB_NS_PER_S);
 *     if (got.timed_out || got.status) complain(got.output);
 *
 * Standard input is empty; standard output and error are captured together, their first LAB_CAPTURE_BYTES kept. The program is
 * killed with the thread that started it. A capture is the caller's memory. */
#ifndef LAB_LAUNCHER_CAPTURE_H
#define LAB_LAUNCHER_CAPTURE_H

#include "base/child.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAB_CAPTURE_BYTES = 4096 };

struct lab_capture {
    struct lab_child child;
    int fd;
    int status;      /* as waitpid(2) gives it, once ended */
    bool timed_out;  /* killed at the deadline */
    size_t used;
    char output[LAB_CAPTURE_BYTES + 1];
};

/* Looks a program up in PATH, and in the system's own folders that an ordinary user's PATH lacks. -ENOENT with the record. */
int lab_program_find(const char *name, char to[PATH_MAX]);

/* `name` is looked up unless it holds a slash. -ENOENT or what starting it gave, with the record; nothing is left then. */
int lab_capture_start(const char *name, char *const *argv, struct lab_capture *ret_capture);

/* Until each has ended, or the deadline; what still runs then is killed. Captures with child.pid 0 are passed over. */
void lab_capture_wait(struct lab_capture *captures, size_t count, uint64_t deadline_ns);

/* Starts one and waits: 0 when it exited with code 0; -ETIMEDOUT, or -EIO, with a record that quotes the last line it printed. */
int lab_capture_run(const char *name, char *const *argv, uint64_t deadline_ns, struct lab_capture *ret_capture);

/* The last line with text in it, ended in place; "" when there is none. */
char *lab_last_line(char *text);

#endif
