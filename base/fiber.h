/* Fibers: user-level threads that take turns on one kernel thread. A switch is a function call that comes back on another stack:
 * the registers that a call preserves are stored, the stack pointer is exchanged, and the others' are loaded. The kernel takes no
 * part, knows of none, and cannot run two of them at the same time; a fiber that blocks in a system call blocks them all.
 *
 *     static void body(void *argument) { ... while (!ready) lab_fiber_yield(); ... }
 *
 *     struct lab_fibers *fibers;
 *     err = lab_fibers_new(2, &fibers);
 *     lab_fibers_add(fibers, body, &first);
 *     lab_fibers_add(fibers, body, &second);
 *     lab_fibers_run(fibers);             // returns when all bodies have
 *     lab_fibers_free(fibers);
 *
 * They run in the order in which they were added, round and round (Conway 1963: coroutines; here symmetric, with the next one always
 * known). Written for x86-64 (System V) and aarch64 (AAPCS64); elsewhere by swapcontext(3), which makes a system call per switch for the
 * signal mask. Floating-point control words are not switched: no fiber changes them. One thread each; sanitizers are told of every
 * switch. */
#ifndef LAB_BASE_FIBER_H
#define LAB_BASE_FIBER_H

#include <stdbool.h>
#include <stdint.h>

enum { LAB_FIBER_STACK = 256 << 10 }; /* bytes, of which only those touched take memory; a page that none may touch lies below */

struct lab_fibers;

/* Room for `most` fibers, with their stacks. -ENOMEM. */
int lab_fibers_new(uint32_t most, struct lab_fibers **ret_fibers);
void lab_fibers_free(struct lab_fibers *fibers); /* NULL is harmless; none of them may be running */

/* Adds one, which runs when lab_fibers_run does: not from within a fiber. */
void lab_fibers_add(struct lab_fibers *fibers, void (*body)(void *), void *argument);

/* Runs all that were added until each has returned. Blocks that long. */
void lab_fibers_run(struct lab_fibers *fibers);

/* From within a fiber: lets the next one run, and returns when all others have had their turn. False, at once: the caller is no fiber,
 * or the only one left. */
bool lab_fiber_yield(void);

/* Switches by lab_fiber_yield on this thread since it began. */
uint64_t lab_fiber_switches(void);

#endif
