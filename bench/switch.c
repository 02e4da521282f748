/* What a switch from one party to the other costs when they share a core and do nothing else: fibers by hand (base/fiber.h), the same by
 * swapcontext(3), two threads and two processes by sched_yield(2). One after the other, again and again, in one run on CPU 0.
 *
 *     switch [ROUNDS]       nanoseconds of one switch, the median of the rounds */
#include "bench/pair.h"

#include "base/error.h"
#include "base/fiber.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { SWITCHES = 20000, ROUNDS_MAX = 1000, STACK = 64 << 10 };

/* The two take turns to count a word up: party 0 from an even number, party 1 from an odd one. */
struct party {
    _Atomic uint64_t *word;
    uint64_t parity;
    void (*let_other_run)(void);
};

static void take_turns(void *argument)
{
    const struct party *party = argument;
    uint64_t seen;
    while ((seen = atomic_load_explicit(party->word, memory_order_acquire)) < SWITCHES) {
        if (seen % 2 == party->parity)
            atomic_store_explicit(party->word, seen + 1, memory_order_release);
        party->let_other_run();
    }
}

static void yield_fiber(void)
{
    lab_fiber_yield();
}

static void yield_cpu(void)
{
    sched_yield();
}

static void by_fibers(struct party party[2])
{
    struct lab_fibers *fibers;
    if (lab_fibers_new(2, &fibers)) {
        fprintf(stderr, "%s\n", lab_error_last()->text);
        exit(1);
    }
    party[0].let_other_run = party[1].let_other_run = yield_fiber;
    lab_fibers_add(fibers, take_turns, &party[0]);
    lab_fibers_add(fibers, take_turns, &party[1]);
    lab_fibers_run(fibers);
    lab_fibers_free(fibers);
}

static ucontext_t contexts[2];
static int current;

static void swap(void)
{
    int from = current;
    current = 1 - from;
    swapcontext(&contexts[from], &contexts[current]);
}

static struct party *second;

static void run_second(void)
{
    take_turns(second);
    swap();
}

static void by_swapcontext(struct party party[2])
{
    static unsigned char stack[STACK];
    party[0].let_other_run = party[1].let_other_run = swap;
    second = &party[1];
    current = 0;
    getcontext(&contexts[1]);
    contexts[1].uc_stack.ss_sp = stack;
    contexts[1].uc_stack.ss_size = sizeof stack;
    contexts[1].uc_link = NULL;
    makecontext(&contexts[1], run_second, 0);
    take_turns(&party[0]);
}

static void *thread_main(void *argument)
{
    take_turns(argument);
    return NULL;
}

static void by_threads(struct party party[2])
{
    pthread_t thread;
    party[0].let_other_run = party[1].let_other_run = yield_cpu;
    if (pthread_create(&thread, NULL, thread_main, &party[1]))
        exit(1);
    take_turns(&party[0]);
    pthread_join(thread, NULL);
}

static void by_processes(struct party party[2])
{
    party[0].let_other_run = party[1].let_other_run = yield_cpu;
    pid_t child = fork();
    if (child == 0) {
        take_turns(&party[1]);
        _exit(0);
    }
    if (child < 0)
        exit(1);
    take_turns(&party[0]);
    waitpid(child, NULL, 0);
}

static const struct {
    const char *name;
    void (*run)(struct party party[2]);
} ways[] = {{"fibers, by hand", by_fibers}, {"fibers, swapcontext", by_swapcontext}, {"threads", by_threads}, {"processes", by_processes}};
enum { WAYS = sizeof ways / sizeof *ways };

int main(int argc, char **argv)
{
    static double ns[WAYS][ROUNDS_MAX];
    int rounds = argc > 1 ? atoi(argv[1]) : 21;
    if (rounds < 1 || rounds > ROUNDS_MAX)
        rounds = ROUNDS_MAX;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    sched_setaffinity(0, sizeof set, &set);
    _Atomic uint64_t *word = mmap(NULL, sizeof *word, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (word == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    for (int round = 0; round < rounds; round++) {
        for (int way = 0; way < WAYS; way++) {
            struct party party[2] = {{.word = word, .parity = 0}, {.word = word, .parity = 1}};
            atomic_store(word, 0);
            uint64_t began_ns = lab_now_ns();
            ways[way].run(party);
            ns[way][round] = (double)(lab_now_ns() - began_ns) / SWITCHES;
        }
    }
    for (int way = 0; way < WAYS; way++)
        printf("%-20s %8.1f ns\n", ways[way].name, lab_pair_median(ns[way], (uint32_t)rounds));
    return 0;
}
