/* What every verb does with its arguments: find the experiment and the machine, and put the result where it was wanted. */
#include "launcher/verbs.h"

#include "base/error.h"
#include "base/home.h"
#include "base/text.h"
#include "launcher/crew.h"
#include "launcher/mark.h"
#include "report/listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUILT_IN "compare"

/* "NAME.yaml" of the experiments that came with ipclab; NAME may have its ".yaml" already. */
static int find_installed(const char *name, char path[PATH_MAX])
{
    char file[NAME_MAX + 1];
    size_t length = strlen(name);
    bool ended = length > 5 && strcmp(name + length - 5, ".yaml") == 0;
    if ((size_t)snprintf(file, sizeof file, "%s%s", name, ended ? "" : ".yaml") >= sizeof file)
        return -ENAMETOOLONG;
    return lab_home_find(LAB_HOME_EXPERIMENT, file, path, PATH_MAX);
}

/* "configs/spin-or-sleep.yaml" is called spin-or-sleep. */
static void stem_of(const char *file, char to[NAME_MAX + 1])
{
    snprintf(to, NAME_MAX + 1, "%s", file);
    char *dot = strrchr(to, '.');
    if (dot && strcmp(dot, ".yaml") == 0)
        *dot = '\0';
}

/* The experiment that came with ipclab and whose name is nearest; "" when none is near. */
static void near_installed(const char *file, char to[NAME_MAX + 1])
{
    enum { NAMES_MOST = 64 };
    char folder[PATH_MAX], wanted[NAME_MAX + 1], names[NAMES_MOST][NAME_MAX + 1];
    const char *list[NAMES_MOST];
    size_t count = 0;
    DIR *entries = lab_home_find(LAB_HOME_EXPERIMENT, "", folder, sizeof folder) == 0 ? opendir(folder) : NULL;
    for (struct dirent *entry; entries && count < NAMES_MOST && (entry = readdir(entries)); count++) {
        stem_of(entry->d_name, names[count]);
        list[count] = names[count];
    }
    if (entries)
        closedir(entries);
    stem_of(file, wanted);
    const char *near = lab_nearest_of(wanted, list, count);
    snprintf(to, NAME_MAX + 1, "%s", near ? near : "");
}

/* A file, or the name of an experiment that came with ipclab. */
static int find_file(const char *file, char path[PATH_MAX], const char **ret_file)
{
    *ret_file = file ? file : path;
    if (!file)
        return find_installed(BUILT_IN, path);
    if (strchr(file, '/') || access(file, F_OK) == 0 || errno != ENOENT)
        return 0;
    if (find_installed(file, path) == 0) {
        *ret_file = path;
        return 0;
    }
    char near[NAME_MAX + 1], hint[LAB_HINT_TEXT];
    near_installed(file, near);
    return lab_refuse(ENOENT, "%s: cannot open the experiment: %s%s", file, strerror(ENOENT), lab_hint(*near ? near : NULL, hint));
}

int lab_arguments_experiment(const struct lab_arguments *arguments, struct lab_experiment **ret_experiment)
{
    char path[PATH_MAX];
    const char *file;
    bool inside;
    uint32_t rank, size;
    int err = find_file(arguments->file, path, &file);
    if (!err)
        err = lab_crew_world(&inside, &rank, &size);
    if (err)
        return err;
    char nodes[16];
    size_t count = arguments->override_count;
    struct lab_override *overrides = calloc(count + 1, sizeof *overrides);
    if (!overrides)
        return lab_fail(ENOMEM, "no memory for the options");
    if (count)
        memcpy(overrides, arguments->overrides, count * sizeof *overrides);
    if (inside) {
        snprintf(nodes, sizeof nodes, "%u", size);
        overrides[count++] = (struct lab_override){.key = "nodes", .value = nodes, .option = "mpirun -n"};
    }
    err = lab_experiment_read(file, overrides, count, ret_experiment);
    free(overrides);
    return err;
}

int lab_arguments_machine(const struct lab_arguments *arguments, struct lab_machine *ret_machine)
{
    if (arguments->cpus)
        return lab_machine_parse(arguments->cpus, ret_machine);
    lab_machine_read(ret_machine);
    ret_machine->apart = lab_crew_apart();
    return 0;
}

static int cannot_write(const char *place)
{
    return lab_fail(errno, "cannot write to %s", place);
}

/* A file is made beside its place; a device or a pipe is written to as it is, and never replaced. */
static int open_place(const char *place, struct lab_output *output)
{
    struct stat facts;
    output->place = place;
    if (stat(place, &facts) == 0 && !S_ISREG(facts.st_mode)) {
        output->stream = fopen(place, "we");
        return output->stream ? 0 : cannot_write(place);
    }
    char *real = realpath(place, NULL); /* a symlink stays one; NULL: there is nothing yet */
    char *temporary = NULL;
    output->final = real ? real : strdup(place);
    if (output->final && asprintf(&temporary, "%s.XXXXXX", output->final) >= 0)
        output->temporary = temporary;
    if (!output->temporary) {
        errno = ENOMEM;
        return cannot_write(place);
    }
    int fd = mkostemp(output->temporary, O_CLOEXEC);
    if (fd < 0) {
        int err = cannot_write(place);
        free(output->temporary);
        output->temporary = NULL; /* nothing to remove */
        return err;
    }
    output->stream = fdopen(fd, "w");
    if (output->stream)
        return 0;
    int err = cannot_write(place);
    close(fd);
    return err;
}

static void output_fini(struct lab_output *output)
{
    if (output->temporary)
        unlink(output->temporary);
    free(output->temporary);
    free(output->final);
}

int lab_output_open(const struct lab_arguments *arguments, struct lab_output *ret_output)
{
    struct lab_output output = {.stream = stdout};
    int err = arguments->output ? open_place(arguments->output, &output) : 0;
    if (err)
        output_fini(&output);
    else
        *ret_output = output;
    return err;
}

/* mkstemp makes files that only their owner reads; a result is as public as any file its user makes. */
static int publish(const struct lab_output *output)
{
    mode_t mask = umask(0);
    umask(mask);
    return chmod(output->temporary, 0666 & ~mask) != 0 || rename(output->temporary, output->final) != 0 ? -1 : 0;
}

int lab_output_close(struct lab_output *output, int err)
{
    const char *place = output->place ? output->place : "standard output";
    errno = EIO;
    if ((fflush(output->stream) != 0 || ferror(output->stream)) && !err)
        err = cannot_write(place);
    if (output->place && fclose(output->stream) != 0 && !err)
        err = cannot_write(place);
    if (output->temporary && !err && publish(output) != 0)
        err = cannot_write(place);
    if (output->temporary && !err) {
        free(output->temporary);
        output->temporary = NULL; /* it is the result now */
    }
    output_fini(output);
    return err;
}

int lab_arguments_render(const struct lab_arguments *arguments, const struct lab_run *run)
{
    struct lab_output output;
    int err = lab_output_open(arguments, &output);
    if (err)
        return err;
    struct lab_render_style style = lab_render_style_of(output.stream);
    return lab_output_close(&output, lab_render(run, arguments->format, output.stream, &style));
}

int lab_arguments_print_listing(const struct lab_arguments *arguments, const struct lab_listing *listing)
{
    if (arguments->format != LAB_FORMAT_TABLE && arguments->format != LAB_FORMAT_JSON)
        return lab_refuse(EINVAL, "ipclab %s prints as table or json, not as %s", arguments->verb,
                          lab_format_name(arguments->format));
    struct lab_output output;
    int err = lab_output_open(arguments, &output);
    if (err)
        return err;
    struct lab_render_style style = lab_render_style_of(output.stream);
    enum lab_listing_format format = arguments->format == LAB_FORMAT_JSON ? LAB_LISTING_JSON : LAB_LISTING_TABLE;
    return lab_output_close(&output, lab_listing_print(listing, format, output.stream, &style));
}

int lab_exit_of(int err)
{
    switch (-err) {
    case 0:
        return LAB_EXIT_OK;
    case EINVAL:
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case EACCES:
    case ELOOP:
    case ENAMETOOLONG:
    case EFBIG:
        return LAB_EXIT_USAGE;
    case EPERM:
    case EHOSTUNREACH:
    case EHOSTDOWN:
        return LAB_EXIT_REFUSED;
    case ETIMEDOUT:
        return LAB_EXIT_TIME;
    default:
        return LAB_EXIT_FAILED;
    }
}
