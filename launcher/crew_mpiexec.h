/* Hydra's mpiexec, as a crew uses it: its command line, and its output turned into what happened to whom. */
#ifndef LAB_LAUNCHER_CREW_MPIEXEC_H
#define LAB_LAUNCHER_CREW_MPIEXEC_H

#include "base/child.h"
#include "launcher/crew.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum { LAB_MPIEXEC_TAIL = 8192 };

/* The last LAB_MPIEXEC_TAIL bytes of what mpiexec printed. */
struct lab_mpiexec_output {
    int fd; /* read end, non-blocking; -1: none */
    bool echo;
    size_t used;
    char tail[LAB_MPIEXEC_TAIL + 1];
};

/* Where it is; -ENOENT with the mend. */
int lab_mpiexec_find(char to[PATH_MAX]);

/* Starts mpiexec with a process group of its own and an empty standard input; `envp` is what the nodes get too. */
int lab_mpiexec_start(const struct lab_crew_spec *spec, char **envp, struct lab_child *ret_child, struct lab_mpiexec_output *ret_output);

/* Takes what is there, without blocking; false at the end of the output. */
bool lab_mpiexec_read(struct lab_mpiexec_output *output);
void lab_mpiexec_close(struct lab_mpiexec_output *output);

/* Does the output say what ends the run: a node that ended badly, a host that ssh or the door of a virtual host cannot reach (or
 * cannot any more)? mpiexec itself may take its time to end then, or wait for ever. Fills in the event. */
bool lab_mpiexec_told(const struct lab_mpiexec_output *output, const struct lab_hosts *hosts, uint32_t nodes, struct lab_crew_event *ret_event);

/* The end of mpiexec itself, with the last line that it printed; `vague` unless somebody's signal ended it. */
void lab_mpiexec_explain(const struct lab_mpiexec_output *output, int status, struct lab_crew_event *ret_event);

#endif
