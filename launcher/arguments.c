/* What every verb does with its arguments: find the experiment and the machine, and put the result where it was wanted. */
#include "launcher/verbs.h"

#include "base/error.h"
#include "base/version.h"
#include "launcher/crew.h"
#include "report/listing.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUILT_IN "/compare.yaml"

/* A build tree has the internal programs beside this one, and its experiments in the source tree. */
static bool in_build_tree(void)
{
    static const char node[] = "/ipclab-node";
    char path[PATH_MAX + sizeof node];
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX);
    if (length <= 0)
        return false;
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    memcpy(slash, node, sizeof node);
    return access(path, X_OK) == 0;
}

int lab_arguments_experiment(const struct lab_arguments *arguments, struct lab_experiment **ret_experiment)
{
    const char *file = arguments->file;
    if (!file)
        file = in_build_tree() ? LAB_SOURCE_CONFIG_DIR BUILT_IN : LAB_CONFIG_DIR BUILT_IN;
    bool inside;
    uint32_t rank, size;
    int err = lab_crew_world(&inside, &rank, &size);
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
