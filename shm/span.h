/* Several messages in place: message i is at `at + i * stride`. Messages of one span have one length. What structures lend
 * to whoever writes or reads in place. */
#ifndef LAB_SHM_SPAN_H
#define LAB_SHM_SPAN_H

#include <stddef.h>
#include <stdint.h>

struct lab_span {
    unsigned char *at;
    size_t stride;
    uint32_t length; /* of each message, bytes */
    uint32_t count;
};

#endif
