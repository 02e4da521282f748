/* Doors: what mpiexec calls (-launcher-exec) to start its proxy on a host. Two programs, ipclab-ssh for hosts and ipclab-lab-ssh for virtual
 * ones, with the command line of ssh and its exit codes: those of the command, 255 when the host cannot be entered.
 *
 * Unlike ssh they say so when a signal has ended the command: mpiexec itself would wait for ever. What they say is one line, with the
 * beginning LAB_DOOR_SAYS:
 *
 *     ipclab-door: host 10.77.0.2: hydra_pmi_proxy ended by signal 9 (SIGKILL) */
#ifndef LAB_LAUNCHER_DOOR_H
#define LAB_LAUNCHER_DOOR_H

#include <stdio.h>

/* With this variable set, the door has inherited two descriptors. It complains to the first: its standard error leads to mpiexec, which may be
 * dying of the same cause. The second holds the keys of the run (proto/bus/keys.h), which the command inherits as well, wherever it runs: within
 * this kernel as the descriptor that it is; elsewhere through the standard input of ssh, and `ipclab-node --carry-keys` makes it one again. */
#define LAB_DOOR_VARIABLE "IPCLAB_DOOR"
enum { LAB_DOOR_FD = 3, LAB_DOOR_KEYS_FD = 4, LAB_DOOR_UNREACHABLE = 255 };

#define LAB_DOOR_SAYS "ipclab-door: "

/* Where complaints are read: that descriptor, or standard error. No command inherits it. `ret_keys`: the descriptor of the keys, -1: none were
 * handed on; NULL: not wanted. To be called once, first of all. */
FILE *lab_door_complaints(int *ret_keys);

/* Says so when `code` is what a shell makes of a signal (128 and its number). `command`, a word for a shell and perhaps in quotes, is what
 * was started: its last part names it. */
void lab_door_tell(FILE *to, const char *host, const char *command, int code);

/* The words of a command as one, to be freed, with `before` and `after` around them. NULL: no memory. */
char *lab_door_join(const char *before, int count, char *const *words, const char *after);

#endif
