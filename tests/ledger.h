/* The ledger of a stress test: what message `number` is made of can be told from the number alone, so that one that is torn, stale or
 * another's is seen as such. Messages have 8 bytes or more. */
#ifndef LAB_TESTS_LEDGER_H
#define LAB_TESTS_LEDGER_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline void lab_ledger_write(unsigned char *at, uint32_t length, uint64_t number)
{
    memcpy(at, &number, 8);
    for (uint32_t i = 8; i < length; i++)
        at[i] = (unsigned char)(number * 31 + i);
}

static inline bool lab_ledger_holds(const unsigned char *at, uint32_t length, uint64_t number)
{
    uint64_t found;
    memcpy(&found, at, 8);
    bool whole = found == number;
    for (uint32_t i = 8; i < length; i++)
        whole = whole && at[i] == (unsigned char)(number * 31 + i);
    return whole;
}

#endif
