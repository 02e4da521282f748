/* A target of libFuzzer: tests/fuzz/<subject>.c has LLVMFuzzerTestOneInput, and ends the process where something does not hold. With the preset
 * `fuzz` (clang) libFuzzer drives it (scripts/fuzz); in every other build tests/fuzz/replay.c does, with the inputs that are kept in
 * tests/fuzz/corpus/<subject> and with cut and flipped ones made of them. */
#ifndef LAB_TESTS_FUZZ_FUZZ_H
#define LAB_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* assert() that no build leaves out. */
#define MUST(condition)                                                              \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            abort();                                                                 \
        }                                                                            \
    } while (0)

#endif
