/* `ipclab keys [renew]`: who may take part in this user's runs across hosts. Secrets are shown to nobody. */
#include "launcher/verbs.h"

#include "base/error.h"
#include "proto/bus/keys.h"
#include "report/listing.h"

#include <errno.h>
#include <string.h>

static const struct lab_column columns[] = {
    {"name", "keys of", LAB_COLUMN_TEXT, NULL},
    {"public_key", "public key", LAB_COLUMN_TEXT, NULL},
    {"file", "in", LAB_COLUMN_TEXT, NULL},
};

static int print(const struct lab_arguments *arguments, const struct lab_keys *keys, const char *path)
{
    struct lab_listing *listing = lab_listing_new(columns, sizeof columns / sizeof *columns);
    int err = listing ? 0 : lab_fail(ENOMEM, "cannot make a list");
    if (!err)
        err = lab_listing_add(listing, (struct lab_field[]){{.text = "launcher"}, {.text = keys->launcher.open}, {.text = path}});
    if (!err)
        err = lab_listing_add(listing, (struct lab_field[]){{.text = "nodes"}, {.text = keys->node.open}, {.text = path}});
    if (!err)
        err = lab_arguments_print_listing(arguments, listing);
    lab_listing_free(listing);
    return err;
}

int lab_verb_keys(const struct lab_arguments *arguments)
{
    struct lab_keys keys;
    char path[PATH_MAX];
    bool made, renew = arguments->rest_count == 1 && strcmp(arguments->rest[0], "renew") == 0;
    if (arguments->rest_count && !renew)
        return lab_exit_of(lab_refuse(EINVAL, "ipclab keys takes nothing, or the word renew"));
    int err = lab_keys_place(path);
    if (!err)
        err = renew ? lab_keys_make(path, true, &keys) : lab_keys_load(&keys, &made);
    if (!err)
        err = print(arguments, &keys, path);
    lab_keys_forget(&keys);
    return lab_exit_of(err);
}
