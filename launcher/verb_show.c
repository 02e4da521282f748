/* `ipclab show [RUN]` and `ipclab history`: what the store keeps. */
#include "launcher/verbs.h"

#include "base/error.h"
#include "launcher/mark.h"
#include "report/listing.h"
#include "report/result.h"
#include "report/store.h"

#include <errno.h>
#include <string.h>

enum { HISTORY_RUNS = 50 };

int lab_verb_show(const struct lab_arguments *arguments)
{
    struct lab_store *store = NULL;
    struct lab_run *run = NULL;
    if (arguments->rest_count > 1)
        return lab_exit_of(lab_refuse(EINVAL, "ipclab show takes one run, and there are %zu", arguments->rest_count));
    const char *id = arguments->rest_count ? arguments->rest[0] : NULL;
    char quoted[LAB_QUOTE_TEXT];
    if (id && strcmp(lab_quote(id, quoted), id) != 0)
        return lab_exit_of(lab_refuse(EINVAL, "'%s' is not the name of a run", quoted));
    int err = lab_store_open(arguments->database, LAB_STORE_READ, &store);
    if (!err)
        err = lab_store_load(store, id, &run);
    if (!err)
        err = lab_arguments_render(arguments, run);
    lab_run_free(run);
    lab_store_close(store);
    return lab_exit_of(err);
}

int lab_verb_history(const struct lab_arguments *arguments)
{
    struct lab_store *store = NULL;
    struct lab_listing *listing = NULL;
    int err = lab_store_open(arguments->database, LAB_STORE_READ, &store);
    if (!err)
        err = lab_store_history(store, HISTORY_RUNS, &listing);
    if (!err)
        err = lab_arguments_print_listing(arguments, listing);
    lab_listing_free(listing);
    lab_store_close(store);
    return lab_exit_of(err);
}
