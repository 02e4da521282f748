#include "observe/limits.h"

#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <hwloc.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { REPEATS = 15 };

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

double lab_limit_clock_ns(void)
{
    return lab_clock_measure().overhead_ns;
}

double lab_limit_syscall_ns(void)
{
    enum { CALLS = 500 };
    double each[REPEATS];
    for (int r = 0; r < REPEATS; r++) {
        uint64_t begin = lab_now_ns();
        for (int i = 0; i < CALLS; i++)
            syscall(SYS_getppid);
        each[r] = (double)(lab_now_ns() - begin) / CALLS;
    }
    return median(each, REPEATS);
}

int lab_limit_memcpy(size_t working_set_bytes, double *ret_bytes_per_s)
{
    enum { BLOCK_BYTES = 256 << 10 };
    size_t half = working_set_bytes < 2 * 4096 ? 4096 : (working_set_bytes / 2 + 4095) & ~(size_t)4095;
    unsigned char *from = aligned_alloc(4096, half), *to = aligned_alloc(4096, half);
    double rate[REPEATS];
    if (!from || !to) {
        free(from);
        free(to);
        return lab_fail(ENOMEM, "no memory to copy %zu bytes", half);
    }
    memset(from, 1, half);
    memset(to, 2, half);
    /* Short copies are repeated until there is something to time. */
    size_t times = half < BLOCK_BYTES ? BLOCK_BYTES / half : 1;
    for (int r = 0; r < REPEATS; r++) {
        uint64_t begin = lab_now_ns();
        for (size_t i = 0; i < times; i++) {
            memcpy(to, from, half);
            __asm__ volatile("" : : "r"(to), "r"(from) : "memory");
        }
        uint64_t took = lab_now_ns() - begin;
        rate[r] = (double)(half * times) * 1e9 / (double)(took ? took : 1);
    }
    *ret_bytes_per_s = median(rate, REPEATS);
    free(from);
    free(to);
    return 0;
}

/* ---- two threads and a futex ---- */

struct pong {
    _Alignas(128) _Atomic uint32_t ball; /* even: the leader's turn */
    _Atomic bool stop;
    int cpu;
    int err;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t while_value)
{
    struct timespec slice = {.tv_nsec = 50 * 1000 * 1000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, while_value, &slice, NULL, 0);
}

static void hand_on(struct pong *pong, uint32_t value)
{
    atomic_store(&pong->ball, value);
    syscall(SYS_futex, &pong->ball, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static int pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static void *follow(void *argument)
{
    struct pong *pong = argument;
    pong->err = pin(pong->cpu);
    for (;;) {
        uint32_t ball = atomic_load(&pong->ball);
        if (atomic_load(&pong->stop))
            return NULL;
        if (ball % 2 == 0)
            futex_wait(&pong->ball, ball);
        else
            hand_on(pong, ball + 1);
    }
}

/* The median in nanoseconds; -ETIMEDOUT when the other side has not answered for a second. */
static int lead(struct pong *pong, uint64_t duration_ns, double *ret_one_way_ns)
{
    enum { SAMPLES = 4096, LEAST = 8 };
    static _Thread_local double sample[SAMPLES];
    size_t count = 0;
    uint64_t until = lab_now_ns() + duration_ns, now = 0;
    while (count < SAMPLES && (now < until || count < LEAST)) {
        uint64_t begin = lab_now_ns();
        uint32_t ball = atomic_load(&pong->ball) + 1;
        hand_on(pong, ball);
        while (atomic_load(&pong->ball) == ball) {
            futex_wait(&pong->ball, ball);
            if (atomic_load(&pong->ball) == ball && lab_now_ns() - begin > LAB_NS_PER_S)
                return -ETIMEDOUT;
        }
        now = lab_now_ns();
        sample[count++] = (double)(now - begin) / 2;
    }
    *ret_one_way_ns = median(sample, count);
    return 0;
}

int lab_limit_futex_ns(int cpu_a, int cpu_b, uint64_t duration_ns, double *ret_one_way_ns)
{
    struct pong pong = {.cpu = cpu_b};
    cpu_set_t before;
    pthread_t follower;
    pthread_getaffinity_np(pthread_self(), sizeof before, &before);
    int err = pin(cpu_a);
    if (err)
        return lab_fail(err, "cannot run on cpu %d", cpu_a);
    err = pthread_create(&follower, NULL, follow, &pong);
    if (!err) {
        double one_way_ns = 0;
        int led = lead(&pong, duration_ns, &one_way_ns);
        atomic_store(&pong.stop, true);
        hand_on(&pong, atomic_load(&pong.ball) + 2);
        pthread_join(follower, NULL);
        err = pong.err ? pong.err : -led;
        if (!err)
            *ret_one_way_ns = one_way_ns;
    }
    pthread_setaffinity_np(pthread_self(), sizeof before, &before);
    return err ? lab_fail(err, "no second thread on cpu %d", cpu_b) : 0;
}

int lab_limit_caches(size_t ret_bytes[3])
{
    static const hwloc_obj_type_t levels[] = {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE};
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) < 0)
        return lab_fail(ENOMEM, "hwloc cannot be used");
    for (int i = 0; i < 3; i++)
        hwloc_topology_set_type_filter(topology, levels[i], HWLOC_TYPE_FILTER_KEEP_ALL);
    if (hwloc_topology_load(topology) < 0) {
        hwloc_topology_destroy(topology);
        return lab_fail(EIO, "hwloc cannot read this host");
    }
    for (int i = 0; i < 3; i++) {
        hwloc_obj_t cache = hwloc_get_obj_by_type(topology, levels[i], 0);
        ret_bytes[i] = cache ? (size_t)cache->attr->cache.size : 0;
    }
    hwloc_topology_destroy(topology);
    return 0;
}

const char *lab_limit_library(void)
{
    static char version[32];
    unsigned api = hwloc_get_api_version();
    snprintf(version, sizeof version, "%u.%u", api >> 16, api >> 8 & 0xff);
    return version;
}
