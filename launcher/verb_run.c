#include "launcher/verbs.h"

#include "base/clock.h"
#include "base/error.h"
#include "launcher/crew.h"
#include "launcher/drive.h"
#include "launcher/hosts.h"
#include "launcher/lab.h"
#include "launcher/rank.h"
#include "report/progress.h"
#include "report/statistics.h"
#include "report/store.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CHECK_HOSTS_S = 8 }; /* with what comes before and after, the user waits for ten seconds at most */

/* Everything that a run holds; released in one place. */
struct running {
    const struct lab_arguments *arguments;
    struct lab_machine machine;
    struct lab_experiment *experiment;
    struct lab_plan *plan;
    struct lab_run *run;
    struct lab_store *store;
    struct lab_hosts *hosts;
    struct lab_conversation *talk;
    struct lab_progress progress;
    bool world;
};

static int name_run(struct lab_run *run)
{
    char id[40], started[32];
    uint16_t random = 0;
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        random = (uint16_t)lab_now_ns();
    strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", &utc);
    size_t used = strftime(id, sizeof id, "%Y%m%d-%H%M%S-", &utc);
    snprintf(id + used, sizeof id - used, "%04x", random);
    run->id = lab_run_string(run, id);
    run->started_utc = lab_run_string(run, started);
    return run->id && run->started_utc ? 0 : lab_fail(ENOMEM, "no memory for a run");
}

static int find_hosts(struct running *r)
{
    const struct lab_experiment *experiment = r->experiment;
    if (r->world)
        return 0;
    if (experiment->lab)
        return lab_lab_hosts(&r->hosts);
    if (experiment->hosts_file)
        return lab_hosts_read(experiment->hosts_file, &r->hosts);
    return experiment->hosts.count ? lab_hosts_of_values(&experiment->hosts, &r->hosts) : 0;
}

/* Every host that cannot be used is named, each with its mend; the last one ends up in the record. */
static int check_hosts(struct running *r)
{
    if (!r->hosts)
        return 0;
    struct lab_hosts_answer *answers = calloc(r->hosts->count, sizeof *answers);
    if (!answers)
        return lab_fail(ENOMEM, "no memory to check %zu hosts", r->hosts->count);
    int err = lab_hosts_check(r->hosts, r->plan->nodes_max, r->experiment->lab, lab_now_ns() + CHECK_HOSTS_S * LAB_NS_PER_S, answers);
    const char *last = NULL;
    for (size_t h = 0; err == -EHOSTUNREACH && h < r->hosts->count; h++) {
        if (answers[h].usable || !answers[h].text[0])
            continue;
        if (last)
            fprintf(stderr, "%s\n", last);
        last = answers[h].text;
    }
    if (last)
        err = lab_refuse(EHOSTUNREACH, "%s", last);
    free(answers);
    return err;
}

/* A place that cannot be written to is refused before anything is measured. A device or a pipe is opened only when there is
 * something for it: its reader may not be there yet. */
static int check_output(const struct lab_arguments *arguments)
{
    struct stat facts;
    struct lab_output output;
    if (!arguments->output)
        return fcntl(STDOUT_FILENO, F_GETFD) < 0 ? lab_fail(errno, "standard output is closed, and there is no -o FILE") : 0;
    if (stat(arguments->output, &facts) == 0 && !S_ISREG(facts.st_mode) && !S_ISDIR(facts.st_mode))
        return 0;
    int err = lab_output_open(arguments, &output);
    if (!err)
        lab_output_close(&output, -ECANCELED); /* nothing was written, and nothing stays */
    return err;
}

static int prepare(struct running *r)
{
    uint32_t rank, size;
    int err = lab_crew_world(&r->world, &rank, &size);
    if (!err)
        err = check_output(r->arguments);
    if (!err)
        err = lab_arguments_machine(r->arguments, &r->machine);
    if (!err)
        err = lab_arguments_experiment(r->arguments, &r->experiment);
    if (!err)
        err = lab_plan_make(r->experiment, &r->machine, &r->plan);
    if (!err && !(r->run = lab_run_new()))
        err = lab_fail(ENOMEM, "no memory for a run");
    if (!err)
        err = lab_plan_to_run(r->plan, r->run);
    if (!err)
        err = name_run(r->run);
    return err;
}

static void warn_of_notes(struct running *r)
{
    for (size_t c = 0; c < r->plan->cell_count; c++) {
        const struct lab_plan_cell *cell = &r->plan->cells[c];
        bool said = !cell->note || cell->skip;
        for (uint32_t w = 0; !said && w < r->run->warning_count; w++)
            said = strcmp(r->run->warnings[w].text, cell->note) == 0;
        struct lab_warning *warning = said ? NULL : lab_run_add_warning(r->run);
        if (warning) {
            warning->code = "plan";
            warning->text = lab_run_string(r->run, cell->note);
        }
    }
    if (r->experiment->expect_count) {
        struct lab_warning *warning = lab_run_add_warning(r->run);
        if (warning) {
            warning->code = "expect";
            warning->text = "this version does not evaluate `expect`";
        }
    }
}

static bool has_figures(const struct lab_run *run)
{
    for (uint32_t c = 0; c < run->cell_count; c++) {
        enum lab_verdict verdict = run->cells[c].verdict;
        if (verdict == LAB_OK || verdict == LAB_NOISY || verdict == LAB_TRANSIENT)
            return true;
    }
    return false;
}

static int exit_code(const struct lab_run *run, enum lab_drive_end end, int signal_number)
{
    switch (end) {
    case LAB_DRIVE_SIGNAL:
        return LAB_EXIT_SIGNAL + signal_number;
    case LAB_DRIVE_REFUSED:
        return LAB_EXIT_REFUSED;
    case LAB_DRIVE_FAILED:
        return has_figures(run) ? LAB_EXIT_PARTIAL : LAB_EXIT_FAILED;
    default:
        break;
    }
    bool ran = false, failed = false;
    for (uint32_t c = 0; c < run->cell_count; c++) {
        ran = ran || run->cells[c].verdict != LAB_SKIPPED;
        failed = failed || run->cells[c].verdict == LAB_FAILED || run->cells[c].verdict == LAB_INVALID;
    }
    if (!ran)
        return LAB_EXIT_SKIPPED;
    return !failed ? LAB_EXIT_OK : has_figures(run) ? LAB_EXIT_PARTIAL : LAB_EXIT_FAILED;
}

int lab_run_bury(const char *database, const char *id, const char *failure)
{
    struct lab_store *store = NULL;
    struct lab_run *run = NULL;
    int err = lab_store_open(database, LAB_STORE_WRITE, &store);
    if (!err)
        err = lab_store_load(store, id, &run);
    if (!err) {
        run->ended_by = "failed";
        run->failure = lab_run_string(run, failure);
        err = lab_run_settle(run);
    }
    if (!err)
        err = lab_store_finish(store, run);
    int code = !err && has_figures(run) ? LAB_EXIT_PARTIAL : LAB_EXIT_FAILED;
    lab_run_free(run);
    lab_store_close(store);
    return code;
}

static int drive(struct running *r, int *ret_code)
{
    const struct lab_drive_spec spec = {
        .plan = r->plan, .machine = &r->machine, .run = r->run, .store = r->store, .progress = &r->progress,
        .crew = {.hosts = r->hosts, .lab = r->experiment->lab, .world = r->world, .verbose = r->arguments->verbose},
        .verbose = r->arguments->verbose,
    };
    enum lab_drive_end end = LAB_DRIVE_COMPLETE;
    int signal_number = 0;
    uint64_t began_ns = lab_now_ns();
    int err = lab_drive(&spec, &end, &signal_number, &r->talk);
    r->run->wall_ns = lab_now_ns() - began_ns;
    if (!r->world) {
        lab_conversation_end(r->talk);
        r->talk = NULL;
    }
    lab_progress_fini(&r->progress);
    if (!err)
        err = lab_run_settle(r->run);
    if (!err)
        err = lab_store_finish(r->store, r->run);
    if (err)
        return err;
    *ret_code = exit_code(r->run, end, signal_number);
    if (r->run->failure && (end != LAB_DRIVE_REFUSED || !has_figures(r->run)))
        fprintf(stderr, "ipclab: %s\n", r->run->failure);
    if (end == LAB_DRIVE_REFUSED)
        return 0;
    return lab_arguments_render(r->arguments, r->run);
}

int lab_verb_run(const struct lab_arguments *arguments)
{
    if (arguments->dry_run)
        return lab_verb_plan(arguments);
    struct running r = {.arguments = arguments};
    int code = LAB_EXIT_FAILED;
    signal(SIGPIPE, SIG_IGN);
    int err = prepare(&r);
    if (err) {
        code = lab_exit_of(err);
    } else if ((err = find_hosts(&r))) {
        code = r.experiment->lab ? LAB_EXIT_REFUSED : lab_exit_of(err); /* a list of hosts may be wrong; virtual hosts may be down */
    } else if ((err = check_hosts(&r))) {
        code = LAB_EXIT_REFUSED;
    } else {
        warn_of_notes(&r);
        lab_progress_init(&r.progress, stderr, arguments->quiet);
        err = lab_store_open(arguments->database, LAB_STORE_WRITE, &r.store);
        if (!err)
            err = lab_store_begin(r.store, r.run);
        if (!err && r.world)
            lab_rank_stored(arguments->database, r.run->id);
        if (err)
            code = LAB_EXIT_REFUSED;
        else if ((err = drive(&r, &code)))
            code = LAB_EXIT_FAILED;
        lab_progress_fini(&r.progress);
    }
    fflush(stdout);
    lab_conversation_end(r.talk);
    if (!err)
        lab_error_clear(); /* what was worth saying has been said */
    lab_store_close(r.store);
    lab_hosts_free(r.hosts);
    lab_run_free(r.run);
    lab_plan_free(r.plan);
    lab_experiment_free(r.experiment);
    return code;
}
