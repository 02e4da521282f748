#include "node/agent/limits.h"

#include "base/clock.h"
#include "base/error.h"
#include "observe/host.h"
#include "observe/limits.h"
#include "observe/noise.h"
#include "shm/probe.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { LIMITS_MAX = 16, NOISES_MAX = 2, NAME = 32, HANDOFF_ROUNDS = 2000 };

struct lab_limits_run {
    pthread_t thread;
    int event_fd;
    _Atomic bool finished;
    int err;
    struct lab_error error;
    struct lab_host_facts facts;
    char names[LIMITS_MAX][NAME];
    Lab__Limit limits[LIMITS_MAX];
    Lab__Limit *limit_pointers[LIMITS_MAX];
    size_t limit_count;
    Lab__Noise noises[NOISES_MAX];
    Lab__Noise *noise_pointers[NOISES_MAX];
    size_t noise_count;
};

static void add(struct lab_limits_run *run, const char *name, double value, const char *unit)
{
    size_t i = run->limit_count++;
    snprintf(run->names[i], NAME, "%s", name);
    run->limits[i] = (Lab__Limit)LAB__LIMIT__INIT;
    run->limits[i].name = run->names[i];
    run->limits[i].value = value;
    run->limits[i].unit = (char *)(uintptr_t)unit;
    run->limit_pointers[i] = &run->limits[i];
}

static int pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

/* ---- the hand-off, between two threads ---- */

struct handoff {
    struct lab_probe probe;
    int err;
    uint64_t deadline_ns;
};

static void *follow(void *argument)
{
    struct handoff *handoff = argument;
    handoff->err = lab_probe_follow(&handoff->probe, HANDOFF_ROUNDS, handoff->deadline_ns);
    return NULL;
}

/* On its cpu from the first instruction: on ours, with a policy of real time, it would never come to move itself away. */
static int start_follower(struct handoff *handoff, int cpu, pthread_t *ret_thread)
{
    cpu_set_t set;
    pthread_attr_t attributes;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    int err = pthread_attr_init(&attributes);
    if (err)
        return err;
    err = pthread_attr_setaffinity_np(&attributes, sizeof set, &set);
    if (!err)
        err = pthread_create(ret_thread, &attributes, follow, handoff);
    pthread_attr_destroy(&attributes);
    return err;
}

static int measure_handoff(struct lab_limits_run *run)
{
    struct handoff handoff = {.deadline_ns = lab_now_ns() + LAB_NS_PER_S};
    pthread_t follower;
    double handoff_ns = 0;
    int err = start_follower(&handoff, run->facts.cpus[1], &follower);
    if (err)
        return lab_fail(err, "no second thread for the cache-line hand-off");
    err = lab_probe_lead(&handoff.probe, HANDOFF_ROUNDS, handoff.deadline_ns, &handoff_ns);
    pthread_join(follower, NULL);
    if (!err)
        err = handoff.err;
    if (!err)
        add(run, "cacheline-handoff", handoff_ns, "ns");
    return err == -EAGAIN ? lab_refuse(ETIMEDOUT, "cpus %d and %d did not hand a cache line over within a second", run->facts.cpus[0], run->facts.cpus[1]) : err;
}

/* ---- all of them ---- */

static void measure_noise(struct lab_limits_run *run, int cpu)
{
    struct lab_noise_probe noise = lab_noise_measure(5 * LAB_NS_PER_MS);
    Lab__Noise *said = &run->noises[run->noise_count];
    *said = (Lab__Noise)LAB__NOISE__INIT;
    said->cpu = cpu;
    said->lost_fraction = noise.lost_fraction;
    said->max_ns = noise.max_ns;
    run->noise_pointers[run->noise_count++] = said;
}

static int measure_memcpy(struct lab_limits_run *run)
{
    size_t caches[3];
    int err = lab_limit_caches(caches);
    static const char *const names[] = {"memcpy-l1", "memcpy-l2", "memcpy-l3"};
    for (int level = 0; !err && level < 3; level++) {
        double rate;
        /* Half of a cache, and never so much that the whole takes long. */
        size_t working_set = caches[level] / 2 < (16u << 20) ? caches[level] / 2 : 16u << 20;
        if (!working_set)
            continue;
        err = lab_limit_memcpy(working_set, &rate);
        if (!err)
            add(run, names[level], rate, "B/s");
    }
    return err;
}

static int measure_pairs(struct lab_limits_run *run)
{
    const int32_t *cpus = run->facts.cpus;
    double one_way_ns;
    int err = lab_limit_futex_ns(cpus[0], cpus[0], 3 * LAB_NS_PER_MS, &one_way_ns);
    if (!err)
        add(run, "context-switch", one_way_ns, "ns");
    if (err || run->facts.cpu_count < 2)
        return err;
    err = lab_limit_futex_ns(cpus[0], cpus[1], 5 * LAB_NS_PER_MS, &one_way_ns);
    if (!err)
        add(run, "futex-wake", one_way_ns, "ns");
    return err ? err : measure_handoff(run);
}

static int measure(struct lab_limits_run *run)
{
    int err = lab_host_read(&run->facts);
    if (err || !run->facts.cpu_count)
        return err;
    err = -pin(run->facts.cpus[0]);
    if (err)
        return lab_fail(-err, "cannot run on cpu %d", run->facts.cpus[0]);
    add(run, "clock-read", lab_limit_clock_ns(), "ns");
    add(run, "syscall", lab_limit_syscall_ns(), "ns");
    err = measure_pairs(run);
    if (!err)
        err = measure_memcpy(run);
    for (uint32_t i = 0; !err && i < run->facts.cpu_count && i < NOISES_MAX; i++) {
        err = -pin(run->facts.cpus[i]);
        if (!err)
            measure_noise(run, run->facts.cpus[i]);
    }
    return err;
}

static void *limits_main(void *argument)
{
    struct lab_limits_run *run = argument;
    run->err = measure(run);
    if (run->err)
        run->error = *lab_error_last();
    atomic_store(&run->finished, true);
    eventfd_write(run->event_fd, 1);
    return NULL;
}

int lab_limits_begin(struct lab_limits_run **ret_limits)
{
    struct lab_limits_run *run = aligned_alloc(128, (sizeof *run + 127) & ~(size_t)127);
    if (!run)
        return lab_fail(ENOMEM, "no memory to measure limits");
    memset(run, 0, sizeof *run);
    run->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int err = run->event_fd < 0 ? errno : pthread_create(&run->thread, NULL, limits_main, run);
    if (err) {
        if (run->event_fd >= 0)
            close(run->event_fd);
        free(run);
        return lab_fail(err, "cannot start the thread that measures limits");
    }
    *ret_limits = run;
    return 0;
}

int lab_limits_fd(const struct lab_limits_run *limits)
{
    return limits->event_fd;
}

int lab_limits_collect(struct lab_limits_run *limits, Lab__Limits *ret_message)
{
    if (!atomic_load(&limits->finished))
        return -EAGAIN;
    if (limits->err)
        return lab_refuse(limits->error.code ? limits->error.code : -limits->err, "%s", limits->error.text);
    ret_message->n_limit = limits->limit_count;
    ret_message->limit = limits->limit_pointers;
    ret_message->n_noise = limits->noise_count;
    ret_message->noise = limits->noise_pointers;
    return 0;
}

void lab_limits_end(struct lab_limits_run *limits)
{
    if (!limits)
        return;
    pthread_join(limits->thread, NULL);
    close(limits->event_fd);
    free(limits);
}
