/* `ipclab doctor [--hosts FILE | --lab]`: what on this machine, or on these, will disturb or prevent a run, each with what mends it. */
#include "launcher/verbs.h"

#include "base/clock.h"
#include "base/error.h"
#include "launcher/capture.h"
#include "launcher/checks.h"
#include "launcher/crew.h"
#include "launcher/crew_mpiexec.h"
#include "launcher/hosts.h"
#include "launcher/lab.h"
#include "launcher/reach.h"
#include "proto/bus/bus.h"
#include "report/listing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ASK_S = 8, TELL_S = 12 };

static const struct lab_column columns[] = {
    {"host", "host", LAB_COLUMN_TEXT, NULL},       {"check", "check", LAB_COLUMN_TEXT, NULL}, {"level", "level", LAB_COLUMN_TEXT, NULL},
    {"finding", "finding", LAB_COLUMN_TEXT, NULL}, {"mend", "mend", LAB_COLUMN_TEXT, NULL},
};

struct visit {
    const struct lab_arguments *arguments;
    struct lab_hosts *hosts;           /* NULL: this machine alone */
    struct lab_listing *listing;       /* json */
    struct lab_output output;          /* a table, written as it is found */
    char last[LAB_HOST_NAME_MAX + 1];  /* whose findings were written last */
    unsigned counts[LAB_PREVENTS + 1];
};

/* ---- telling ---- */

static int tell(struct visit *visit, const char *host, const char *check, const struct lab_finding *finding)
{
    visit->counts[finding->gravity]++;
    if (visit->listing)
        return lab_listing_add(visit->listing, (struct lab_field[]){{.text = host}, {.text = check}, {.text = lab_gravity_name(finding->gravity)},
                                                                    {.text = finding->text}, {.text = finding->mend[0] ? finding->mend : NULL}});
    if (strcmp(visit->last, host) != 0)
        fprintf(visit->output.stream, "%s%s\n", visit->last[0] ? "\n" : "", host);
    snprintf(visit->last, sizeof visit->last, "%s", host);
    fprintf(visit->output.stream, "  %-13s %-11s %s\n", lab_gravity_name(finding->gravity), check, finding->text);
    if (finding->mend[0])
        fprintf(visit->output.stream, "  %-13s %-11s mend: %s\n", "", "", finding->mend);
    return 0;
}

static int tell_all(struct visit *visit, const char *host, const struct lab_facts *facts)
{
    struct lab_finding finding;
    int err = 0;
    for (size_t i = 0; !err && lab_check_name(i); i++)
        for (size_t n = 0; !err && lab_check_run(i, facts, n, &finding); n++)
            err = tell(visit, host, lab_check_name(i), &finding);
    return err;
}

/* A sentence of the record, or of lab_hosts_check(): "host NAME: what is wrong; what mends it", and what prevents a run unless it is 0. */
static int tell_sentence(struct visit *visit, const char *host, const char *check, int err, const char *sentence)
{
    struct lab_finding finding = {.gravity = err ? LAB_PREVENTS : LAB_WELL};
    const char *cut = err ? strstr(sentence, "; ") : NULL, *colon = err && !cut ? strstr(sentence, ": ") : NULL;
    snprintf(finding.text, sizeof finding.text, "%.*s", cut ? (int)(cut - sentence) : LAB_FINDING_TEXT - 1, sentence);
    if (cut || colon)
        snprintf(finding.mend, sizeof finding.mend, "%s", cut ? cut + 2 : colon + 2);
    return tell(visit, host, check, &finding);
}

/* ---- this machine ---- */

/* Also that strangers are turned away: as a run's own, a bus is served where only this host can reach it. */
static int look_at_keys(struct visit *visit, const char *here)
{
    char path[PATH_MAX], text[PATH_MAX + 64];
    struct lab_keys keys = {0};
    struct lab_bus *bus = NULL;
    int err = lab_keys_place(path);
    if (!err)
        err = lab_keys_read(path, &keys);
    bool none = err == -ENOENT;
    if (none)
        err = lab_curve_pair_make(&keys.launcher);
    if (!err && none)
        err = lab_curve_pair_make(&keys.node);
    if (!err)
        err = lab_bus_serve("tcp://127.0.0.1:*", 1, &keys, &bus);
    lab_bus_close(bus);
    lab_keys_forget(&keys);
    snprintf(text, sizeof text, none ? "none yet: the first run across hosts makes them, in %s" : "in %s; a stranger was turned away", path);
    return tell_sentence(visit, here, "keys", err, err ? lab_error_last()->text : text);
}

static int look_here(struct visit *visit)
{
    static const char here[] = "this machine";
    char path[PATH_MAX];
    struct lab_facts facts;
    int err = lab_reach_own_facts(lab_now_ns() + ASK_S * LAB_NS_PER_S, &facts);
    if (err)
        return err;
    facts.here = true;
    facts.rndv_thresh = getenv("UCX_RNDV_THRESH");
    err = tell_all(visit, here, &facts);
    if (!err)
        err = look_at_keys(visit, here);
    if (!err && visit->hosts && !visit->arguments->lab) {
        int missing = lab_program_find("ssh", path);
        err = tell_sentence(visit, here, "ssh", missing, missing ? "there is no ssh in PATH; apt install openssh-client" : path);
    }
    if (!err && visit->hosts) {
        int missing = lab_mpiexec_find(path);
        err = tell_sentence(visit, here, "mpiexec", missing, missing ? lab_error_last()->text : path);
    }
    return err;
}

/* ---- the hosts ---- */

/* Where they connect to is an address of ours as a run would have it. Nobody accepts: the kernel does. */
static int listen_for(const struct lab_hosts *hosts, int *ret_fd, char to[64])
{
    char endpoint[LAB_CREW_ENDPOINT], address[INET_ADDRSTRLEN];
    const struct lab_crew_spec spec = {.nodes = lab_hosts_slots(hosts), .hosts = hosts};
    struct sockaddr_in near = {.sin_family = AF_INET};
    socklen_t size = sizeof near;
    int err = lab_crew_endpoint(&spec, endpoint);
    if (err)
        return err;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sscanf(endpoint, "tcp://%15[0-9.]", address) != 1 || inet_pton(AF_INET, address, &near.sin_addr) != 1 || fd < 0 ||
        bind(fd, (struct sockaddr *)&near, sizeof near) < 0 || listen(fd, LAB_HOSTS_MAX) < 0 || getsockname(fd, (struct sockaddr *)&near, &size) < 0) {
        err = lab_fail(errno, "cannot listen at %s", endpoint);
        if (fd >= 0)
            close(fd);
        return err;
    }
    snprintf(to, 64, "%s:%u", address, ntohs(near.sin_port));
    *ret_fd = fd;
    return 0;
}

static int tell_host(struct visit *visit, size_t i, const struct lab_hosts_answer *answer, struct lab_facts *facts)
{
    const struct lab_hosts_entry *host = &visit->hosts->items[i];
    char begin[LAB_HOST_NAME_MAX + 8];
    size_t length = (size_t)snprintf(begin, sizeof begin, "host %s", host->name);
    if (!answer->usable) {
        const char *text = strncmp(answer->text, begin, length) == 0 ? answer->text + length + strspn(answer->text + length, ": ") : answer->text;
        return tell_sentence(visit, host->name, "door", -EHOSTUNREACH, text);
    }
    if (!facts->version[0])
        return tell_sentence(visit, host->name, "door", -EHOSTUNREACH, "it does not tell its facts, although it answers; is it overloaded? ping it");
    facts->nodes = host->slots;
    facts->rndv_thresh = getenv("UCX_RNDV_THRESH");
    int err = tell_sentence(visit, host->name, "door", 0, visit->arguments->lab ? "it can be entered" : "ssh lets this user in");
    return err ? err : tell_all(visit, host->name, facts);
}

static int look_there(struct visit *visit)
{
    const struct lab_hosts *hosts = visit->hosts;
    char back[64] = "";
    int fd = -1;
    struct lab_hosts_answer *answers = calloc(hosts->count, sizeof *answers);
    struct lab_facts *facts = calloc(hosts->count, sizeof *facts);
    int err = answers && facts ? 0 : lab_fail(ENOMEM, "cannot ask the hosts");
    if (!err) {
        err = lab_hosts_check(hosts, lab_hosts_slots(hosts), visit->arguments->lab, lab_now_ns() + ASK_S * LAB_NS_PER_S, answers);
        err = err == -EHOSTUNREACH ? 0 : err; /* each is told of by itself */
    }
    if (!err && listen_for(hosts, &fd, back))
        err = tell_sentence(visit, "this machine", "address", -EHOSTUNREACH, lab_error_last()->text);
    if (!err)
        err = lab_reach_facts(hosts, answers, visit->arguments->lab, back, lab_now_ns() + TELL_S * LAB_NS_PER_S, facts);
    for (size_t i = 0; !err && i < hosts->count; i++)
        err = tell_host(visit, i, &answers[i], &facts[i]);
    if (fd >= 0)
        close(fd);
    free(facts);
    free(answers);
    return err;
}

/* ---- all of it ---- */

static int find_hosts(struct visit *visit)
{
    const char *file = NULL;
    for (size_t i = 0; i < visit->arguments->override_count; i++)
        if (strcmp(visit->arguments->overrides[i].key, "hosts_file") == 0)
            file = visit->arguments->overrides[i].value;
    if (visit->arguments->lab)
        return lab_lab_hosts(&visit->hosts);
    return file ? lab_hosts_read(file, &visit->hosts) : 0;
}

static int examine(struct visit *visit)
{
    bool table = visit->arguments->format == LAB_FORMAT_TABLE;
    if (!table && !(visit->listing = lab_listing_new(columns, sizeof columns / sizeof *columns)))
        return lab_fail(ENOMEM, "cannot make a list");
    int err = table ? lab_output_open(visit->arguments, &visit->output) : 0;
    if (err)
        return err;
    err = look_here(visit);
    if (!err && visit->hosts)
        err = look_there(visit);
    if (!table)
        return err ? err : lab_arguments_print_listing(visit->arguments, visit->listing);
    if (!err)
        fprintf(visit->output.stream, "\n%u ok, %u will disturb, %u prevent a run\n", visit->counts[LAB_WELL], visit->counts[LAB_DISTURBS],
                visit->counts[LAB_PREVENTS]);
    return lab_output_close(&visit->output, err);
}

int lab_verb_doctor(const struct lab_arguments *arguments)
{
    struct visit visit = {.arguments = arguments};
    int err = find_hosts(&visit);
    if (!err)
        err = examine(&visit);
    bool down = arguments->lab && !visit.hosts; /* a list may be wrong; virtual hosts are up or are not */
    lab_listing_free(visit.listing);
    lab_hosts_free(visit.hosts);
    if (err)
        return down ? LAB_EXIT_REFUSED : lab_exit_of(err);
    lab_error_clear(); /* it has been told */
    return visit.counts[LAB_PREVENTS] ? LAB_EXIT_REFUSED : LAB_EXIT_OK;
}
