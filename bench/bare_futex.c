/* Two words of one shared page and FUTEX_WAKE, FUTEX_WAIT, as in a textbook: store, wake, and wait while the other's word is
 * unchanged. What it costs to put a process to sleep and wake another one; no bytes move, whatever --size says. Run it with both
 * processes on one cpu (--cpus 0,0) and on two. */
#include "bench/bare.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINE = 128 };

struct words {
    _Alignas(LINE) _Atomic uint32_t forth;
    _Alignas(LINE) _Atomic uint32_t back;
};

struct side {
    const struct bare *bare;
    _Atomic uint32_t *mine, *theirs;
    uint32_t seen;
};

static void send_one(void *channel, const void *bytes, size_t size)
{
    struct side *side = channel;
    uint32_t last = size && *(const unsigned char *)bytes ? 1u << 31 : 0;
    uint32_t next = (atomic_load_explicit(side->mine, memory_order_relaxed) + 1) | last;
    atomic_store_explicit(side->mine, next, memory_order_release);
    syscall(SYS_futex, side->mine, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void recv_one(void *channel, void *bytes, size_t size)
{
    struct side *side = channel;
    uint32_t now;
    while ((now = atomic_load_explicit(side->theirs, memory_order_acquire)) == side->seen)
        if (syscall(SYS_futex, side->theirs, FUTEX_WAIT, side->seen, NULL, NULL, 0) < 0 && errno != EAGAIN && errno != EINTR)
            bare_fail(side->bare, "futex");
    side->seen = now;
    if (size && now >> 31)
        *(unsigned char *)bytes = 1;
}

int main(int argc, char **argv)
{
    struct bare bare = {.name = "bare-futex", .pingpong_only = true};
    bare_options(&bare, argc, argv);
    struct words *words = mmap(NULL, sizeof *words, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (words == MAP_FAILED)
        bare_fail(&bare, "cannot share a page");
    bare_fork(&bare);
    struct side side = {&bare, bare.client ? &words->forth : &words->back, bare.client ? &words->back : &words->forth, 0};
    bare_run(&bare, send_one, recv_one, &side);
    return bare_end(&bare);
}
