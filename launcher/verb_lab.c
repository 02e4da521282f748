#include "base/error.h"
#include "base/text.h"
#include "launcher/lab.h"
#include "launcher/verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define USAGE "ipclab lab up N [SIZE of /dev/shm] | status | exec HOST -- COMMAND | down"

static int usage(const char *what)
{
    lab_refuse(EINVAL, "%s: " USAGE, what);
    return LAB_EXIT_USAGE;
}

static int refused(int err)
{
    return err == -EINVAL ? LAB_EXIT_USAGE : err == -EINTR ? LAB_EXIT_FAILED : LAB_EXIT_REFUSED;
}

/* Hosts that are up already are what was asked for if there are as many and all of them run. */
static int already_up(uint64_t wanted)
{
    struct lab_error why = *lab_error_last();
    struct lab_lab_host *hosts = NULL;
    size_t count = 0, running = 0;
    if (lab_lab_list(&hosts, &count) != 0)
        return LAB_EXIT_REFUSED;
    for (size_t i = 0; i < count; i++)
        running += hosts[i].running;
    free(hosts);
    if (running == wanted && count == wanted) {
        printf("%zu virtual host%s up already\n", count, count == 1 ? " is" : "s are");
        lab_error_clear();
        return LAB_EXIT_OK;
    }
    if (running < count)
        lab_refuse(EEXIST, "%zu of %zu virtual hosts still run: ipclab lab down, then up again", running, count);
    else
        lab_refuse_at(why.file, why.line, why.code, "%s", why.text);
    return LAB_EXIT_REFUSED;
}

static int up(char **words, size_t count)
{
    uint64_t hosts, shm_bytes = (uint64_t)LAB_LAB_SHM_MIB << 20;
    if (count < 1 || count > 2)
        return usage("how many hosts?");
    if (lab_parse_count(words[0], &hosts) || (count == 2 && lab_parse_size(words[1], &shm_bytes)))
        return LAB_EXIT_USAGE;
    if (hosts < 1 || hosts > LAB_LAB_HOSTS_MAX) {
        lab_refuse(EINVAL, "%s virtual hosts: 1 to %d are possible", words[0], LAB_LAB_HOSTS_MAX);
        return LAB_EXIT_USAGE;
    }
    int err = lab_lab_up((uint32_t)hosts, shm_bytes);
    if (err == -EEXIST)
        return already_up(hosts);
    if (err)
        return refused(err);
    printf("%u virtual host%s up: lab1 (" LAB_LAB_NETWORK ".1)", (unsigned)hosts, hosts == 1 ? " is" : "s are");
    if (hosts > 1)
        printf(" to lab%u (" LAB_LAB_NETWORK ".%u)", (unsigned)hosts, (unsigned)hosts);
    printf("; this machine is " LAB_LAB_NETWORK ".254 on " LAB_LAB_BRIDGE "\n");
    return LAB_EXIT_OK;
}

static int status(void)
{
    struct lab_lab_host *hosts = NULL;
    size_t count = 0;
    int err = lab_lab_list(&hosts, &count);
    if (err)
        return refused(err);
    if (!count)
        printf("no virtual hosts are up\n");
    else
        printf("%-8s %-12s %8s  %-22s %s\n", "HOST", "ADDRESS", "PID", "/DEV/SHM", "STATE");
    for (size_t i = 0; i < count; i++) {
        const struct lab_lab_host *host = &hosts[i];
        char used[LAB_TEXT_NUMBER], size[LAB_TEXT_NUMBER], shm[2 * LAB_TEXT_NUMBER + 8] = "-";
        if (host->shm_size_bytes)
            snprintf(shm, sizeof shm, "%s of %s", lab_format_size(host->shm_used_bytes, used), lab_format_size(host->shm_size_bytes, size));
        printf("%-8s %-12s %8d  %-22s %s\n", host->name, host->address, (int)host->pid, shm, host->running ? "up" : "ended");
    }
    free(hosts);
    return LAB_EXIT_OK;
}

static int down(bool quiet)
{
    uint32_t removed = 0;
    int err = lab_lab_down(quiet ? NULL : stdout, &removed);
    if (err)
        return refused(err);
    if (!removed && !quiet)
        printf("no virtual hosts are up\n");
    return LAB_EXIT_OK;
}

static int exec(char **words, size_t count)
{
    if (count < 1)
        return usage("in which host?");
    size_t command = count > 1 && strcmp(words[1], "--") == 0 ? 2 : 1;
    if (command >= count)
        return usage("which command?");
    int code = lab_lab_exec(words[0], words + command); /* the words are those of main: NULL follows the last */
    if (code < 0)
        return refused(code);
    lab_error_clear();
    return code;
}

int lab_verb_lab(const struct lab_arguments *arguments)
{
    char **words = arguments->rest;
    size_t count = arguments->rest_count;
    if (!count)
        return usage("what with the virtual hosts?");
    if (strcmp(words[0], "up") == 0)
        return up(words + 1, count - 1);
    if (strcmp(words[0], "exec") == 0)
        return exec(words + 1, count - 1);
    if (count > 1)
        return usage("too many words");
    if (strcmp(words[0], "status") == 0)
        return status();
    if (strcmp(words[0], "down") == 0)
        return down(arguments->quiet);
    char what[80];
    snprintf(what, sizeof what, "unknown command '%.40s'", words[0]);
    return usage(what);
}
