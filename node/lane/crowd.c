/* Several parties in one worker process: as threads, which the kernel runs, or as fibers, which run each other. */
#include "node/lane/worker.h"

#include "base/error.h"
#include "base/fiber.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

/* What it takes to measure and to format a reason, many times over: a thousand threads take memory only for what they touch. */
enum { STACK_BYTES = 512 << 10 };

/* ---- threads ---- */

static void *thread_main(void *argument)
{
    struct lab_worker *worker = argument;
    lab_worker_open(worker);
    lab_worker_await(worker);
    lab_worker_measure(worker);
    lab_worker_report(worker);
    lab_worker_free(worker);
    return NULL;
}

/* On its cpu from its first instruction. The worker belongs to the thread. */
static int start_thread(struct lab_worker *worker, pthread_t *ret_thread)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int32_t cpu = lab_worker_cpu(worker);
    if (cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)cpu, &set);
        pthread_attr_setaffinity_np(&attributes, sizeof set, &set);
    }
    int err = pthread_create(ret_thread, &attributes, thread_main, worker);
    pthread_attr_destroy(&attributes);
    return err ? lab_fail(err, "cannot start a thread on cpu %d", cpu) : 0;
}

/* A thread that cannot be started ends the process, and with it those that were. */
static int run_threads(struct lab_worker **workers, uint32_t count)
{
    pthread_t *threads = calloc(count, sizeof *threads);
    if (!threads)
        return lab_fail(ENOMEM, "no memory for %u threads", count);
    int err = 0;
    uint32_t started = 0;
    for (; !err && started < count; started += !err)
        err = start_thread(workers[started], &threads[started]);
    for (uint32_t i = 0; !err && i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    return err;
}

/* ---- fibers ---- */

/* Its ends are closed as soon as it has measured: others may wait for that, and must not wait for one that failed. */
static void fiber_main(void *argument)
{
    struct lab_worker *worker = argument;
    lab_worker_measure(worker);
    lab_worker_report(worker);
    lab_worker_free(worker);
}

/* What waits for the node comes before, one party after the other: while they measure, nobody may block. */
static int run_fibers(struct lab_worker **workers, uint32_t count)
{
    struct lab_fibers *fibers;
    int err = lab_fibers_new(count, &fibers);
    if (err)
        return err;
    for (uint32_t i = 0; i < count; i++)
        lab_worker_open(workers[i]);
    for (uint32_t i = 0; i < count; i++)
        lab_worker_await(workers[i]);
    for (uint32_t i = 0; i < count; i++)
        lab_fibers_add(fibers, fiber_main, workers[i]);
    lab_fibers_run(fibers);
    lab_fibers_free(fibers);
    return 0;
}

int lab_worker_run_all(enum lab_unit unit, int control_fd, uint32_t count)
{
    struct lab_worker **workers = calloc(count, sizeof(struct lab_worker *));
    if (!workers)
        return lab_fail(ENOMEM, "no memory for %u workers", count);
    int err = 0;
    for (uint32_t i = 0; !err && i < count; i++)
        err = lab_worker_hire(control_fd + (int)i, (struct lab_company){unit, i, count}, &workers[i]);
    if (!err)
        err = unit == LAB_UNIT_FIBER ? run_fibers(workers, count) : run_threads(workers, count);
    free(workers);
    return err;
}
