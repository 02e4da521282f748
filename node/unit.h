/* What a party of an experiment is: a process, a kernel thread, or a user-level thread (fiber) of a process that all parties of a node
 * share. The experiment is the same; what differs is who switches from one party to the next, and what they own together. */
#ifndef LAB_NODE_UNIT_H
#define LAB_NODE_UNIT_H

enum lab_unit {
    LAB_UNIT_PROCESS, /* each party a process: memory, descriptors and death of its own */
    LAB_UNIT_THREAD,  /* each party a kernel thread of one process: the kernel schedules them one by one */
    LAB_UNIT_FIBER,   /* each party a fiber of one thread: they switch without the kernel, which knows of one thread */
    LAB_UNITS
};

const char *lab_unit_name(enum lab_unit unit);                 /* "process", ...; NULL beyond the end */
int lab_unit_named(const char *name, enum lab_unit *ret_unit); /* -EINVAL, recorded; nothing written */

#endif
