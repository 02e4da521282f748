/* The basics of a process control block, as /proc shows them. */
#ifndef LAB_OBSERVE_PCB_H
#define LAB_OBSERVE_PCB_H

#include <stdint.h>
#include <sys/types.h>

struct lab_pcb {
    pid_t pid, parent;
    char name[32];
    char state;                  /* R running or ready, S sleeping, D in uninterruptible sleep, T stopped, Z zombie, ... (proc(5)) */
    uint32_t threads;
    int32_t priority, nice;
    int32_t cpu;                 /* it ran on last */
    uint64_t user_ns, system_ns; /* to one clock tick */
    uint64_t on_cpu_ns, run_delay_ns; /* schedstat; 0 where the kernel has none */
    uint64_t started_ns;         /* after boot, to one clock tick */
    uint64_t virtual_bytes, resident_bytes;
    uint64_t minor_faults, major_faults;
    uint32_t open_files;         /* 0 when they may not be looked at */
};

/* -ESRCH: there is no such process (any more). */
int lab_pcb_read(pid_t pid, struct lab_pcb *ret_pcb);

#endif
