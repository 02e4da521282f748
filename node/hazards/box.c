#include "node/hazards/box.h"

#include "base/error.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int lab_box_open(struct lab_box *box, size_t bytes, uint64_t budget_ns)
{
    *box = (struct lab_box){.segment.fd = -1};
    int err = lab_segment_create("hazard", bytes, &box->segment);
    box->deadline_ns = lab_now_ns() + budget_ns;
    return err;
}

/* The `number`-th of the cpus that are allowed, counted round and round. */
static void choose_cpu(uint32_t number)
{
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    uint32_t skip = number % (uint32_t)CPU_COUNT(&allowed);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || skip--)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

int lab_box_start(struct lab_box *box, lab_box_party *party)
{
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return lab_fail(errno, "cannot start a party of the demonstration");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        choose_cpu(box->parties);
        party(box->segment.memory, box->parties, box->deadline_ns);
        _exit(0);
    }
    box->pids[box->parties++] = pid;
    return 0;
}

void lab_box_kill(struct lab_box *box, uint32_t number)
{
    if (!box->pids[number])
        return;
    kill(box->pids[number], SIGKILL);
    waitpid(box->pids[number], NULL, 0);
    box->pids[number] = 0;
}

/* Whether it has ended by now; `*amiss` counts those that did not end as they should. */
static bool has_ended(struct lab_box *box, uint32_t number, uint32_t *amiss)
{
    int status = 0;
    if (box->pids[number] && waitpid(box->pids[number], &status, WNOHANG) == box->pids[number]) {
        box->pids[number] = 0;
        *amiss += status != 0;
    }
    return !box->pids[number];
}

int lab_box_join(struct lab_box *box)
{
    uint32_t amiss = 0;
    for (uint32_t number = 0; number < box->parties; number++) {
        while (!has_ended(box, number, &amiss) && lab_now_ns() < box->deadline_ns + LAB_BOX_GRACE_NS)
            lab_box_rest();
        amiss += box->pids[number] != 0;
        lab_box_kill(box, number);
    }
    return amiss ? lab_refuse(ETIME, "%u parties of the demonstration did not end as they should", amiss) : 0;
}

void lab_box_close(struct lab_box *box)
{
    for (uint32_t number = 0; number < box->parties; number++)
        lab_box_kill(box, number);
    lab_segment_fini(&box->segment);
}

void lab_box_meet(_Atomic uint32_t *arrived, uint32_t parties, uint64_t deadline_ns)
{
    atomic_fetch_add(arrived, 1);
    while (atomic_load(arrived) < parties && lab_now_ns() < deadline_ns)
        sched_yield();
}

void lab_box_rest(void)
{
    poll(NULL, 0, 1);
}

int lab_box_mutex(pthread_mutex_t *mutex, bool robust)
{
    pthread_mutexattr_t attributes;
    int code = pthread_mutexattr_init(&attributes);
    if (!code)
        code = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (!code)
        code = pthread_mutexattr_setrobust(&attributes, robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED);
    if (!code)
        code = pthread_mutex_init(mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return code ? lab_fail(code, "cannot make a mutex between processes") : 0;
}
