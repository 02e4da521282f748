/* What this host is: facts that stand beside every result. Read once per process; a few small files. */
#ifndef LAB_OBSERVE_HOST_H
#define LAB_OBSERVE_HOST_H

#include <stdint.h>

enum { LAB_HOST_TEXT = 128, LAB_HOST_CPUS = 1024 };

struct lab_host_facts {
    char name[LAB_HOST_TEXT];
    char cpu[LAB_HOST_TEXT];        /* model, "unknown" where the kernel does not say */
    char kernel[LAB_HOST_TEXT];     /* "Linux 6.1.0-18-amd64" */
    char hypervisor[LAB_HOST_TEXT]; /* "" on bare metal, "unknown" when there is one without a name */
    char boot_id[LAB_HOST_TEXT];    /* equal for containers and namespaces of one kernel */
    uint32_t cores;                 /* processors online */
    uint64_t memory_bytes;
    uint64_t shm_free_bytes;        /* on /dev/shm; 0 when it is not mounted */
    int32_t cpus[LAB_HOST_CPUS];    /* those this process may run on, ascending */
    uint32_t cpu_count;
};

/* -errno when the kernel does not even tell its name or the cpus that may be used; `ret_facts` is then untouched. */
int lab_host_read(struct lab_host_facts *ret_facts);

#endif
