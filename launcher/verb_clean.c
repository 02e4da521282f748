#include "base/error.h"
#include "launcher/lab.h"
#include "launcher/verbs.h"
#include "sweep/clean.h"

#include <stdlib.h>
#include <unistd.h>

/* Hosts of which every one has ended, or interfaces without hosts, are what a killed `lab up` or a killed host leaves; hosts that
 * run are somebody's. */
static int clean_lab(FILE *told, bool look_only)
{
    struct lab_lab_host *hosts = NULL;
    size_t count = 0, running = 0, dead = 0;
    if (geteuid() != 0 || lab_lab_list(&hosts, &count) != 0)
        return 0;
    for (size_t i = 0; i < count; i++) {
        running += hosts[i].running;
        dead += !hosts[i].running;
        if (!hosts[i].running && told)
            fprintf(told, "virtual host %s (process %d) has ended\n", hosts[i].name, (int)hosts[i].pid);
    }
    free(hosts);
    if (running && dead && told)
        fprintf(told, "%zu virtual hosts still run and are left alone: ipclab lab down ends them\n", running);
    uint32_t removed = 0;
    if (running || look_only)
        return (int)dead;
    int err = lab_lab_down(told, &removed);
    return err ? err : (int)removed;
}

int lab_verb_clean(const struct lab_arguments *arguments)
{
    FILE *told = arguments->quiet ? NULL : stdout;
    bool look_only = arguments->dry_run;
    int found[] = {
        lab_clean_orphans(told, look_only),
        lab_clean_shm(LAB_CLEAN_SHM, 0, told, look_only),
        lab_clean_sysv(told, look_only),
        lab_clean_mq(told, look_only),
        clean_lab(told, look_only),
    };
    int total = 0;
    for (size_t i = 0; i < sizeof found / sizeof *found; i++) {
        if (found[i] < 0)
            return LAB_EXIT_FAILED;
        total += found[i];
    }
    if (!total && told)
        fprintf(told, "nothing was left behind\n");
    return LAB_EXIT_OK;
}
