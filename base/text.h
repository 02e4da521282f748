/* Text to values and back: the units that experiment files and options use, and the nearest known name.
 *
 *     uint64_t bytes;
 *     if (lab_parse_size("64KiB", &bytes) == 0) ...
 *
 * Every parser takes the whole text or refuses it (-EINVAL, with a sentence in the error record that quotes it): a suffix
 * it does not know is never ignored. */
#ifndef LAB_BASE_TEXT_H
#define LAB_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int lab_parse_count(const char *text, uint64_t *ret_count);      /* 12, 1000 */
int lab_parse_size(const char *text, uint64_t *ret_bytes);       /* 64, 64B, 1KiB, 4k, 1MiB, 2GiB: K, KB, KiB = 1024 */
int lab_parse_time(const char *text, uint64_t *ret_ns);          /* 250us, 5s, 1.5ms, 2min; a bare number is refused */
int lab_parse_rate(const char *text, double *ret_per_s);         /* 10k/s, 1M/s, 250/s */
int lab_parse_bool(const char *text, bool *ret_value);           /* true, false, yes, no, on, off */

/* Expands `8..1MiB*4` (from, to, factor; *2 when left out) into at most `room` sizes; a plain size gives one.
 * -EINVAL as above; -E2BIG when they do not fit. */
int lab_parse_sizes(const char *text, uint64_t *ret_sizes, size_t room, size_t *ret_count);

/* Rendering for people: at most three significant digits, the unit that suits. Return `to`. */
enum { LAB_TEXT_NUMBER = 24 };
char *lab_format_size(uint64_t bytes, char to[LAB_TEXT_NUMBER]);       /* 64 B, 4 KiB, 1 MiB; exact or in bytes */
char *lab_format_time(double ns, char to[LAB_TEXT_NUMBER]);            /* 64.2 ns, 23.1 us, 1.20 ms */
char *lab_format_rate(double per_s, char to[LAB_TEXT_NUMBER]);         /* 1.23 k, 166 M */
char *lab_format_bandwidth(double bytes_per_s, char to[LAB_TEXT_NUMBER]); /* 1.23 GB/s, decimal */

/* Bytes of the UTF-8 character that begins at `at`, of which `left` bytes (1 or more) are there: 1 to 4; 0 when what stands there is not
 * one. Source: table 3-7 of the Unicode standard. */
size_t lab_utf8_length(const unsigned char *at, size_t left);

/* The known name nearest to `text` (edit distance, at most a third of its length), or NULL. `name(i)` gives the i-th name,
 * NULL ends the list. */
const char *lab_nearest(const char *text, const char *(*name)(size_t index));
const char *lab_nearest_of(const char *text, const char *const *names, size_t count);

#endif
