/* What memory is this process's own: the kernel's account of its mappings, /proc/self/smaps_rollup. */
#ifndef LAB_OBSERVE_MEMORY_H
#define LAB_OBSERVE_MEMORY_H

#include <stdint.h>

/* Bytes that no other process shares (Private_Clean and Private_Dirty): what this process costs beside its like. Walks all page tables:
 * tens of microseconds, between measuring phases only. 0: the kernel does not tell (proc(5), since Linux 4.14). */
uint64_t lab_memory_private(void);

#endif
