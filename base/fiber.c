#include "base/fiber.h"

#include "base/error.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__aarch64__)
#define BY_HAND 1
#else
#define BY_HAND 0
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif

/* ---- a switch ---- */

/* Where a fiber, or the thread that runs them, goes on. */
struct context {
#if BY_HAND
    void *stack_pointer; /* of the registers stored there */
#else
    ucontext_t registers;
#endif
    const void *stack; /* its lowest byte; NULL: the thread's own, not known yet */
    size_t stack_bytes;
#ifdef TSAN
    void *shadow;
#endif
};

struct fiber {
    struct context context;
    struct fiber *next; /* in the circle of those that have not ended */
    void (*body)(void *);
    void *argument;
};

struct lab_fibers {
    struct context thread; /* that called lab_fibers_run */
    struct fiber *last;    /* of the circle: the one before the next to run; NULL: none */
    uint32_t count, most;
    void *stacks;
    size_t stacks_bytes, stride;
    struct fiber fiber[];
};

/* What this thread runs; NULL: no fiber. */
static _Thread_local struct lab_fibers *running;
static _Thread_local uint64_t switches;

#if BY_HAND
/* Stores what a call preserves on the stack, the stack pointer into *from, and takes the other's. A new fiber finds the
 * address of begin() where a return address belongs. */
void lab_fiber_switch(void **from, void *to) __attribute__((visibility("hidden")));

#if defined(__x86_64__)
enum { SAVED_WORDS = 8, RETURN_WORD = 6 }; /* r15 r14 r13 r12 rbx rbp, the return address, and a word that keeps the stack aligned */
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        ".globl lab_fiber_switch\n"
        ".hidden lab_fiber_switch\n"
        ".type lab_fiber_switch, @function\n"
        "lab_fiber_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size lab_fiber_switch, .-lab_fiber_switch\n"
        ".popsection\n");
#else
enum { SAVED_WORDS = 20, RETURN_WORD = 11 }; /* x19 to x29, x30 (the return address), d8 to d15 */
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        ".globl lab_fiber_switch\n"
        ".hidden lab_fiber_switch\n"
        ".type lab_fiber_switch, %function\n"
        "lab_fiber_switch:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n"
        ".size lab_fiber_switch, .-lab_fiber_switch\n"
        ".popsection\n");
#endif
#endif

#ifdef ASAN
void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom_old, size_t *size_old);
#endif
#ifdef TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#endif

/* The first thing on a stack that was switched to; `fake` is what its last leave_for kept. */
static inline void arrive(void *fake)
{
#ifdef ASAN
    const void *stack;
    size_t bytes;
    __sanitizer_finish_switch_fiber(fake, &stack, &bytes);
    if (!running->thread.stack) {
        /* The first switch came from the thread, whose stack only the sanitizer knows. */
        running->thread.stack = stack;
        running->thread.stack_bytes = bytes;
    }
#else
    (void)fake;
#endif
}

/* `for_good`: nobody will come back to `from`. */
static inline void leave_for(struct context *from, struct context *to, bool for_good)
{
    void *fake = NULL;
#ifdef ASAN
    __sanitizer_start_switch_fiber(for_good ? NULL : &fake, to->stack, to->stack_bytes);
#else
    (void)for_good;
#endif
#ifdef TSAN
    __tsan_switch_to_fiber(to->shadow, 0);
#endif
#if BY_HAND
    lab_fiber_switch(&from->stack_pointer, to->stack_pointer);
#else
    swapcontext(&from->registers, &to->registers);
#endif
    arrive(fake);
}

/* ---- the life of a fiber ---- */

static struct fiber *current(void)
{
    return running->last->next;
}

/* The first function on a fiber's stack: its caller is nobody. */
static _Noreturn void begin(void)
{
    arrive(NULL);
    struct fiber *self = current();
    self->body(self->argument);

    bool alone = self->next == self;
    running->last->next = self->next;
    if (alone)
        running->last = NULL;
    leave_for(&self->context, alone ? &running->thread : &current()->context, true);
    abort(); /* somebody has switched to a fiber that had ended */
}

static void prepare(struct fiber *fiber, unsigned char *stack)
{
    fiber->context = (struct context){.stack = stack, .stack_bytes = LAB_FIBER_STACK};
#if BY_HAND
    uintptr_t *words = (uintptr_t *)(void *)(stack + LAB_FIBER_STACK) - SAVED_WORDS;
    words[RETURN_WORD] = (uintptr_t)begin; /* what was never written is zero: the end of the chain of frames */
    fiber->context.stack_pointer = words;
#else
    getcontext(&fiber->context.registers);
    fiber->context.registers.uc_stack.ss_sp = stack;
    fiber->context.registers.uc_stack.ss_size = LAB_FIBER_STACK;
    fiber->context.registers.uc_link = NULL;
    makecontext(&fiber->context.registers, begin, 0);
#endif
#ifdef TSAN
    fiber->context.shadow = __tsan_create_fiber(0);
#endif
}

int lab_fibers_new(uint32_t most, struct lab_fibers **ret_fibers)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), stride = LAB_FIBER_STACK + page;
    struct lab_fibers *fibers = calloc(1, sizeof *fibers + most * sizeof fibers->fiber[0]);
    if (!fibers)
        return lab_fail(ENOMEM, "no memory for %u fibers", most);
    fibers->most = most;
    fibers->stride = stride;
    fibers->stacks_bytes = most * stride;
    fibers->stacks = mmap(NULL, fibers->stacks_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (fibers->stacks == MAP_FAILED) {
        free(fibers);
        return lab_fail(errno, "no memory for the stacks of %u fibers", most);
    }
    for (uint32_t i = 0; i < most; i++) {
        if (mprotect((unsigned char *)fibers->stacks + i * stride, page, PROT_NONE) < 0) {
            int err = lab_fail(errno, "cannot guard the stack of fiber %u", i);
            lab_fibers_free(fibers);
            return err;
        }
    }
    *ret_fibers = fibers;
    return 0;
}

void lab_fibers_free(struct lab_fibers *fibers)
{
    if (!fibers)
        return;
#ifdef TSAN
    for (uint32_t i = 0; i < fibers->count; i++)
        __tsan_destroy_fiber(fibers->fiber[i].context.shadow);
#endif
    munmap(fibers->stacks, fibers->stacks_bytes);
    free(fibers);
}

void lab_fibers_add(struct lab_fibers *fibers, void (*body)(void *), void *argument)
{
    assert(fibers->count < fibers->most && running != fibers);
    uint32_t number = fibers->count++;
    struct fiber *fiber = &fibers->fiber[number];
    fiber->body = body;
    fiber->argument = argument;
    prepare(fiber, (unsigned char *)fibers->stacks + (size_t)(number + 1) * fibers->stride - LAB_FIBER_STACK);
    fiber->next = fibers->last ? fibers->last->next : fiber;
    if (fibers->last)
        fibers->last->next = fiber;
    fibers->last = fiber;
}

void lab_fibers_run(struct lab_fibers *fibers)
{
    assert(!running);
    if (!fibers->last)
        return;
    running = fibers;
#ifdef TSAN
    fibers->thread.shadow = __tsan_get_current_fiber();
#endif
    leave_for(&fibers->thread, &current()->context, false);
    running = NULL;
}

bool lab_fiber_yield(void)
{
    struct lab_fibers *fibers = running;
    if (!fibers)
        return false;
    struct fiber *self = current();
    if (self->next == self)
        return false;
    fibers->last = self;
    switches++;
    leave_for(&self->context, &self->next->context, false);
    return true;
}

uint64_t lab_fiber_switches(void)
{
    return switches;
}
