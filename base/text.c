#include "base/text.h"

#include "base/error.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *suffix;
    uint64_t factor;
};

static const struct unit sizes[] = {
    {"", 1}, {"B", 1}, {"K", 1 << 10}, {"KB", 1 << 10}, {"KiB", 1 << 10}, {"M", 1 << 20}, {"MB", 1 << 20},
    {"MiB", 1 << 20}, {"G", 1 << 30}, {"GB", 1 << 30}, {"GiB", 1 << 30}, {NULL, 0},
};
static const struct unit times[] = {
    {"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}, {"min", 60000000000}, {"h", 3600000000000}, {NULL, 0},
};
static const struct unit rates[] = {
    {"/s", 1}, {"k/s", 1000}, {"M/s", 1000000}, {"G/s", 1000000000}, {NULL, 0},
};

struct quantity {
    char number[64];
    uint64_t factor;
};

/* A decimal number and one of the suffixes, nothing else around them. */
static int split(const char *text, const struct unit *units, const char *wanted, struct quantity *ret_quantity)
{
    struct quantity quantity;
    if (!isdigit((unsigned char)text[0]))
        return lab_refuse(EINVAL, "'%s' is not %s", text, wanted);
    size_t digits = strspn(text, "0123456789.");
    if (digits >= sizeof quantity.number)
        return lab_refuse(EINVAL, "'%s' has too many digits", text);
    memcpy(quantity.number, text, digits);
    quantity.number[digits] = '\0';
    const char *point = strchr(quantity.number, '.');
    if (point && strchr(point + 1, '.'))
        return lab_refuse(EINVAL, "'%s' is not %s", text, wanted);
    const char *suffix = text + digits + strspn(text + digits, " ");
    for (const struct unit *unit = units; unit->suffix; unit++) {
        if (strcasecmp(suffix, unit->suffix) == 0) {
            quantity.factor = unit->factor;
            *ret_quantity = quantity;
            return 0;
        }
    }
    if (!*suffix)
        return lab_refuse(EINVAL, "'%s' is not %s: it has no unit", text, wanted);
    return lab_refuse(EINVAL, "'%s' is not %s: the unit '%s' is unknown", text, wanted, suffix);
}

/* Digits alone are taken exactly: a double would round a seed beyond 2^53. */
static bool whole_of(const struct quantity *quantity, uint64_t *ret_value)
{
    const uint64_t most = INT64_MAX;
    uint64_t value;
    if (strchr(quantity->number, '.')) {
        double product = strtod(quantity->number, NULL) * (double)quantity->factor;
        if (product >= 0x1p63 || product != floor(product))
            return false;
        value = (uint64_t)product;
    } else {
        errno = 0;
        unsigned long long number = strtoull(quantity->number, NULL, 10);
        if (errno || __builtin_mul_overflow((uint64_t)number, quantity->factor, &value) || value > most)
            return false;
    }
    *ret_value = value;
    return true;
}

static int parse_whole(const char *text, const struct unit *units, const char *wanted, uint64_t *ret_value)
{
    struct quantity quantity;
    int err = split(text, units, wanted, &quantity);
    if (err)
        return err;
    if (!whole_of(&quantity, ret_value))
        return lab_refuse(EINVAL, "'%s' is not %s: it must be whole and below 2^63", text, wanted);
    return 0;
}

int lab_parse_count(const char *text, uint64_t *ret_count)
{
    static const struct unit plain[] = {{"", 1}, {NULL, 0}};
    return parse_whole(text, plain, "a whole number", ret_count);
}

int lab_parse_size(const char *text, uint64_t *ret_bytes)
{
    return parse_whole(text, sizes, "a size (64, 1KiB, 1MiB)", ret_bytes);
}

int lab_parse_time(const char *text, uint64_t *ret_ns)
{
    return parse_whole(text, times, "a time (250us, 5s)", ret_ns);
}

int lab_parse_rate(const char *text, double *ret_per_s)
{
    struct quantity quantity;
    int err = split(text, rates, "a rate (10k/s)", &quantity);
    if (err)
        return err;
    *ret_per_s = strtod(quantity.number, NULL) * (double)quantity.factor;
    return 0;
}

int lab_parse_bool(const char *text, bool *ret_value)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret_value = i % 2;
            return 0;
        }
    }
    return lab_refuse(EINVAL, "'%s' is neither true nor false", text);
}

int lab_parse_sizes(const char *text, uint64_t *ret_sizes, size_t room, size_t *ret_count)
{
    char copy[128];
    size_t length = strlen(text);
    if (length >= sizeof copy)
        return lab_refuse(EINVAL, "'%.40s...' is not a size or a range of sizes", text);
    memcpy(copy, text, length + 1);

    uint64_t from, to, factor = 2;
    int err;
    char *dots = strstr(copy, "..");
    char *star = dots ? strchr(dots, '*') : NULL;
    if (star) {
        *star = '\0';
        if (!star[1])
            return lab_refuse(EINVAL, "'%s': there is no factor after '*'", text);
        if (lab_parse_count(star + 1, &factor) != 0 || factor < 2)
            return lab_refuse(EINVAL, "'%s': the factor after '*' must be 2 or more", text);
    }
    if (dots) {
        *dots = '\0';
        if (!copy[0] || !dots[2])
            return lab_refuse(EINVAL, "'%s': a range has a size on both sides of '..'", text);
    }
    err = lab_parse_size(copy, &from);
    if (err)
        return err;
    to = from;
    if (dots) {
        err = lab_parse_size(dots + 2, &to);
        if (err)
            return err;
        if (from == 0 || to < from)
            return lab_refuse(EINVAL, "'%s': a range goes from a size above 0 up to a larger one", text);
    }
    size_t count = 0;
    for (uint64_t size = from;; size *= factor) {
        if (count == room)
            return lab_refuse(E2BIG, "'%s' gives more than %zu sizes", text, room);
        ret_sizes[count++] = size;
        if (size > to / factor)
            break;
    }
    *ret_count = count;
    return 0;
}

/* Three significant digits, without the exponent that %g would give. */
static char *significant(double value, const char *unit, char to[LAB_TEXT_NUMBER])
{
    int decimals = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(to, LAB_TEXT_NUMBER, "%.*f%s", decimals, value, unit);
    return to;
}

char *lab_format_size(uint64_t bytes, char to[LAB_TEXT_NUMBER])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 1024 && bytes % 1024 == 0 && unit + 1 < sizeof names / sizeof *names) {
        bytes /= 1024;
        unit++;
    }
    snprintf(to, LAB_TEXT_NUMBER, "%llu %s", (unsigned long long)bytes, names[unit]);
    return to;
}

char *lab_format_time(double ns, char to[LAB_TEXT_NUMBER])
{
    if (ns < 999.5)
        return significant(ns, " ns", to);
    if (ns < 999.5e3)
        return significant(ns / 1e3, " us", to);
    if (ns < 999.5e6)
        return significant(ns / 1e6, " ms", to);
    return significant(ns / 1e9, " s", to);
}

char *lab_format_rate(double per_s, char to[LAB_TEXT_NUMBER])
{
    if (per_s < 999.5)
        return significant(per_s, "", to);
    if (per_s < 999.5e3)
        return significant(per_s / 1e3, " k", to);
    if (per_s < 999.5e6)
        return significant(per_s / 1e6, " M", to);
    return significant(per_s / 1e9, " G", to);
}

char *lab_format_bandwidth(double bytes_per_s, char to[LAB_TEXT_NUMBER])
{
    if (bytes_per_s < 999.5e3)
        return significant(bytes_per_s / 1e3, " kB/s", to);
    if (bytes_per_s < 999.5e6)
        return significant(bytes_per_s / 1e6, " MB/s", to);
    return significant(bytes_per_s / 1e9, " GB/s", to);
}

/* Levenshtein's distance, one row at a time; names beyond 63 characters are never near. */
static size_t distance(const char *a, const char *b)
{
    enum { LONGEST = 64 };
    size_t row[LONGEST], columns = strlen(b), rows = strlen(a);
    if (columns >= LONGEST || rows >= LONGEST)
        return SIZE_MAX;
    for (size_t j = 0; j <= columns; j++)
        row[j] = j;
    for (size_t i = 1; i <= rows; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= columns; j++) {
            size_t above = row[j];
            size_t best = diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[columns];
}

static void consider(const char *text, const char *name, const char **best, size_t *best_distance)
{
    size_t d = distance(text, name);
    size_t limit = (strlen(text) > strlen(name) ? strlen(text) : strlen(name)) / 3 + 1;
    if (d <= limit && d < *best_distance) {
        *best = name;
        *best_distance = d;
    }
}

const char *lab_nearest(const char *text, const char *(*name)(size_t index))
{
    const char *best = NULL, *candidate;
    size_t best_distance = SIZE_MAX;
    for (size_t i = 0; (candidate = name(i)); i++)
        consider(text, candidate, &best, &best_distance);
    return best;
}

const char *lab_nearest_of(const char *text, const char *const *names, size_t count)
{
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;
    for (size_t i = 0; i < count; i++)
        consider(text, names[i], &best, &best_distance);
    return best;
}

size_t lab_utf8_length(const unsigned char *at, size_t left)
{
    unsigned char lead = at[0], low = 0x80, high = 0xbf;
    if (lead < 0x80)
        return 1;
    size_t length = lead >= 0xc2 && lead <= 0xdf ? 2 : lead >= 0xe0 && lead <= 0xef ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
    if (length == 0 || length > left)
        return 0;
    /* The second byte rules out longer forms than needed, surrogates, and what lies beyond U+10FFFF. */
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < length; i++, low = 0x80, high = 0xbf)
        if (at[i] < low || at[i] > high)
            return 0;
    return length;
}
