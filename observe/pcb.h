/* A process control block, as /proc shows it: what the kernel keeps of a process in order to stop it and go on with it.
 *
 *     struct lab_pcb pcb;
 *     err = lab_pcb_read(pid, &pcb);
 *     printf("%s is %c on cpu %d\n", pcb.name, pcb.state, pcb.cpu);
 *
 * Several small files are read one after the other: the fields are of one moment only to within about 100 us, and figures of a
 * running process may be one clock tick old. Place, scheduling, schedstat and switches are those of the main thread; memory,
 * faults, user and system time those of the whole process. Some twenty system calls; any thread. Source: proc(5). */
#ifndef LAB_OBSERVE_PCB_H
#define LAB_OBSERVE_PCB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { LAB_PCB_NAME = 64, LAB_PCB_CPUS = 128 };

struct lab_pcb {
    /* identity */
    pid_t pid, parent;
    char name[LAB_PCB_NAME];
    uint32_t threads;

    /* state: R running or ready, S sleeping, D in uninterruptible sleep, T stopped, t traced, Z zombie, X dead, I idle */
    char state;

    /* where it will go on; known only of a process that is not running, and to those who may trace it */
    bool place_known;
    uint64_t program_counter, stack_pointer;
    int32_t system_call; /* the one it waits in; -1: none */

    /* scheduling */
    uint32_t policy; /* SCHED_OTHER, SCHED_FIFO, ... of <sched.h> */
    int32_t priority, nice;
    int32_t cpu;                  /* it ran on last */
    char cpus_allowed[LAB_PCB_CPUS]; /* "0-3,8" */

    /* memory */
    uint64_t virtual_bytes, resident_bytes;
    uint64_t minor_faults, major_faults;

    /* accounting */
    uint64_t user_ns, system_ns;      /* to one clock tick */
    uint64_t on_cpu_ns, run_delay_ns; /* schedstat; 0 where the kernel has none */
    uint64_t started_ns;              /* after boot, to one clock tick */
    uint64_t voluntary_switches, involuntary_switches;

    /* input and output */
    bool files_known;    /* they may be looked at */
    uint32_t open_files;
};

/* -ESRCH: there is no such process (any more); -EACCES: /proc hides it; -EPROTO: a kernel that writes /proc differently.
 * `ret_pcb` is untouched on failure. */
int lab_pcb_read(pid_t pid, struct lab_pcb *ret_pcb);

#endif
