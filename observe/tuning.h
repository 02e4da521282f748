/* How this host is set: what its administrator may change, and what decides how much a run can do and how steady its figures are. A few small
 * files, read when asked for. */
#ifndef LAB_OBSERVE_TUNING_H
#define LAB_OBSERVE_TUNING_H

#include <stdint.h>

enum { LAB_TUNING_TEXT = 32 };

struct lab_tuning {
    char governor[LAB_TUNING_TEXT]; /* of the first cpu whose governor is not "performance", or that; "" where the kernel does not set clocks */
    char ucx[LAB_TUNING_TEXT];      /* version of the UCX that an MPI program would load; "": none */
    uint64_t shm_bytes;             /* all of /dev/shm; 0: it is not mounted */
    uint64_t files_max;             /* open files that a process may ask for */
    uint32_t port_first, port_last; /* that the kernel hands out; 0: it does not say */
};

/* What cannot be read stays 0 or "". Loads and unloads libucp where it is installed. */
void lab_tuning_read(struct lab_tuning *ret_tuning);

#endif
