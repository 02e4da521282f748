#include "bench/pair.h"

#include "base/error.h"
#include "shm/segment.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) < 0 ? lab_fail(errno, "cannot run on CPU %d", cpu) : 0;
}

int lab_pair_start(struct lab_pair *ret_pair)
{
    struct lab_segment segment;
    int err = lab_segment_create("bench-pair", sizeof(struct lab_probe), &segment);
    if (err)
        return err;
    struct lab_pair pair = {.probe = segment.memory, .deadline_ns = lab_now_ns() + LAB_PAIR_WITHIN_S * LAB_NS_PER_S};
    fflush(NULL);
    pair.child = fork();
    if (pair.child < 0)
        return lab_fail(errno, "cannot fork");
    if (pair.child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    pair.leads = pair.child != 0;
    err = pin(pair.leads ? 0 : 1);
    *ret_pair = pair;
    return err;
}

double lab_pair_meet(struct lab_pair *pair)
{
    enum { ROUNDS = 400 };
    double handoff_ns = 0;
    int err = pair->leads ? lab_probe_lead(pair->probe, ROUNDS, pair->deadline_ns, &handoff_ns)
                          : lab_probe_follow(pair->probe, ROUNDS, pair->deadline_ns);
    if (err) {
        fprintf(stderr, "the other party did not come within %d s\n", LAB_PAIR_WITHIN_S);
        exit(1);
    }
    return handoff_ns;
}

int lab_pair_end(struct lab_pair *pair)
{
    if (!pair->leads)
        _exit(0);
    int status;
    if (waitpid(pair->child, &status, 0) < 0 || status != 0) {
        fprintf(stderr, "the other party failed\n");
        return 1;
    }
    return 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double lab_pair_median(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, ascending);
    return count ? (values[(count - 1) / 2] + values[count / 2]) / 2 : 0;
}

const char *lab_pair_mode(double handoff_ns)
{
    return handoff_ns < 42 ? "near" : handoff_ns < 130 ? "middle" : "far";
}
