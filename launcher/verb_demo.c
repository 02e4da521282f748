/* `ipclab demo NAME`: a hazard before one's eyes, first without its guard and then with it. */
#include "launcher/verbs.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "node/hazard.h"
#include "report/listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUDGET_NS LAB_NS_PER_S /* of each of the two */

static char *show_count(double number, char to[LAB_TEXT_NUMBER])
{
    snprintf(to, LAB_TEXT_NUMBER, "%.0f", number);
    return to;
}

static const struct lab_column columns[] = {
    {"hazard", NULL, LAB_COLUMN_TEXT, NULL},
    {"guard", "guard", LAB_COLUMN_TEXT, NULL},
    {"guarded", NULL, LAB_COLUMN_BOOL, NULL},
    {"tried", "tried", LAB_COLUMN_NUMBER, show_count},
    {"what_is_tried", "", LAB_COLUMN_TEXT, NULL},
    {"wrong", "wrong", LAB_COLUMN_NUMBER, show_count},
    {"what_is_wrong", "", LAB_COLUMN_TEXT, NULL},
    {"took_ns", "took", LAB_COLUMN_NUMBER, lab_format_time},
    {"recovery_p50_ns", "recovery", LAB_COLUMN_NUMBER, lab_format_time},
    {"recovery_max_ns", "at worst", LAB_COLUMN_NUMBER, lab_format_time},
    {"verdict", "seen", LAB_COLUMN_TEXT, NULL},
    {"expected", "expected", LAB_COLUMN_TEXT, NULL},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

/* A race that did not show is no proof that there is none; a guard that failed is a fault of ours. */
static const char *verdict_of(bool guarded, const struct lab_hazard_seen *seen)
{
    if (!seen->tried)
        return "nothing was tried";
    if (guarded)
        return seen->wrong ? "the guard failed" : "right";
    return seen->wrong ? "wrong, as expected" : "not seen this time, which proves nothing";
}

static int add(struct lab_listing *listing, const struct lab_hazard *hazard, bool guarded, const struct lab_hazard_seen *seen)
{
    return lab_listing_add(listing, (struct lab_field[COLUMNS]){
        {.text = hazard->name},
        {.text = hazard->guard[guarded]},
        {.number = guarded},
        {.number = (double)seen->tried},
        {.text = hazard->tried},
        {.number = (double)seen->wrong},
        {.text = hazard->wrong},
        {.number = (double)seen->took_ns},
        {.number = seen->recovery_ns},
        {.number = seen->recovery_worst_ns},
        {.text = verdict_of(guarded, seen)},
        {.text = hazard->expected[guarded]},
    });
}

static const char *hazard_name(size_t index)
{
    const struct lab_hazard *hazard = lab_hazard_at(index);
    return hazard ? hazard->name : NULL;
}

static int find(const struct lab_arguments *arguments, const struct lab_hazard **ret_hazard)
{
    char known[256] = "", quoted[LAB_QUOTE_TEXT], hint[LAB_HINT_TEXT];
    size_t used = 0;
    for (size_t i = 0; hazard_name(i) && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i == 0 ? "" : hazard_name(i + 1) ? ", " : " or ", hazard_name(i));
    if (arguments->rest_count != 1)
        return lab_refuse(EINVAL, "ipclab demo takes one name: %s", known);
    const char *name = arguments->rest[0], *near = lab_nearest(name, hazard_name);
    *ret_hazard = lab_hazard_named(name);
    if (*ret_hazard)
        return 0;
    if (near)
        return lab_refuse(EINVAL, "there is no demonstration '%s'%s", lab_quote(name, quoted), lab_hint(near, hint));
    return lab_refuse(EINVAL, "there is no demonstration '%s': it is one of %s", lab_quote(name, quoted), known);
}

int lab_verb_demo(const struct lab_arguments *arguments)
{
    const struct lab_hazard *hazard = NULL;
    int err = find(arguments, &hazard);
    if (err || !hazard)
        return lab_exit_of(err);
    fprintf(stderr, "%s\n", hazard->question);
    bool failed = false;
    struct lab_listing *listing = lab_listing_new(columns, COLUMNS);
    err = listing ? 0 : lab_fail(ENOMEM, "cannot make a list");
    for (int guarded = 0; !err && guarded < 2; guarded++) {
        struct lab_hazard_seen seen;
        err = hazard->show(guarded, BUDGET_NS, &seen);
        if (!err)
            err = add(listing, hazard, guarded, &seen);
        failed = failed || (!err && (!seen.tried || (guarded && seen.wrong)));
    }
    if (!err)
        err = lab_arguments_print_listing(arguments, listing);
    lab_listing_free(listing);
    if (!err && failed)
        return lab_exit_of(lab_refuse(EIO, "the demonstration %s did not come out as it has to: see its verdicts", hazard->name));
    return lab_exit_of(err);
}
