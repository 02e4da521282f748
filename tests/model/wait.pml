/* Sleeping and waking on a futex: lab_wait_until, lab_wait_wake and a hangup of shm/wait.h, over processors that delay their stores.
 *
 * A store waits in the buffer of its processor, its loads go past it, and it reaches memory whenever it likes: one entry is what
 * Dekker's argument needs to be wrong without the two fences. A fence, a locked instruction and a system call wait until the buffer is empty.
 * The waker raises DATA from 1 to ROUNDS; the sleeper waits for each value. The kernel compares the word in memory as it puts the
 * sleeper to sleep. A slice of sleep ends by time only where nothing else is left to end it: the waker was killed after it had
 * cleared the word and before it woke, and its hangup has passed. Everywhere else a lost wake-up is a deadlock, which the search finds.
 *
 * With -DBELL it sleeps on an eventfd (LAB_WAIT_POLL): nothing is compared, what was written stays until the sleeper reads it, and a hangup
 * writes in any case. No sleep ends by time at all then.
 *
 * holds:  at least 20000 states
 * holds:  at least 20000 states  -DBELL
 * caught: somebody waits         -DNO_FENCE_OF_THE_SLEEPER
 * caught: somebody waits         -DNO_FENCE_OF_THE_WAKER
 * caught: somebody waits         -DNO_LOOK_BEFORE_SLEEP
 * caught: somebody waits         -DWAKE_BEFORE_DATA
 * caught: somebody waits         -DKERNEL_DOES_NOT_COMPARE
 * caught: somebody waits         -DSILENT_HANGUP
 * caught: somebody waits         -DNO_SLICE
 * caught: damage                -DNO_SECOND_LOOK
 * caught: somebody waits         -DBELL -DNO_FENCE_OF_THE_SLEEPER
 * caught: somebody waits         -DBELL -DNO_FENCE_OF_THE_WAKER
 * caught: somebody waits         -DBELL -DSILENT_HANGUP
 * caught: somebody waits         -DBELL -DREADS_AFTER_ARMING
 */
#define PARTIES 2
#define SLEEPER 0
#define WAKER 1
#define REAPER 2
#ifndef ROUNDS
#define ROUNDS 3
#endif

#include "parties.inc"

/* ---- memory, processors, kernel ---- */

#define DATA 0   /* lab_wait_until's condition is DATA >= what is wanted */
#define ASLEEP 1 /* struct lab_sleeper */
#define GONE 2
byte memory[3];

typedef buffer { bool used; byte at, value };
buffer buffers[3]; /* by processor: of the sleeper, the waker, the reaper */

inline drain(cpu)
{
    atomic {
        buffers[cpu].used -> memory[buffers[cpu].at] = buffers[cpu].value;
        buffers[cpu].used = false;
        buffers[cpu].at = 0;
        buffers[cpu].value = 0
    }
}

active proctype stores_arrive()
{
end:
    do
    :: drain(0)
    :: drain(1)
    :: drain(2)
    od
}

inline store(cpu, where, what)
{
    atomic {
        !buffers[cpu].used -> buffers[cpu].at = where;
        buffers[cpu].value = what;
        buffers[cpu].used = true
    }
}
#define LOAD(cpu, where) (buffers[cpu].used && buffers[cpu].at == where -> buffers[cpu].value : memory[where])
#define EMPTY(cpu) (!buffers[cpu].used)

bool sleeping; /* the sleeper, in the kernel */
byte slices;   /* ended by time */
#ifdef BELL
bool rung;     /* the eventfd has been written to */
#define END_SLEEP rung = true
#else
#define END_SLEEP sleeping = false
#endif

/* Another's death empties its buffer, and is noticed after that. */
inline wake(cpu)
{
    if
    :: LOAD(cpu, ASLEEP) ->
        atomic { EMPTY(cpu) -> was = memory[ASLEEP]; memory[ASLEEP] = 0 }
        if
        :: was -> atomic { END_SLEEP; was = 0 }
        :: else
        fi
    :: else
    fi
}

inline hangup(p)
{
    if
    :: p == WAKER ->
        EMPTY(WAKER);
        store(REAPER, GONE, 1);
#ifndef SILENT_HANGUP
        EMPTY(REAPER);
        wake(REAPER)
#ifdef BELL
        ;
        rung = true
#endif
#endif
    :: else
    fi
}

byte wanted = 1; /* the sleeper's */
byte was; /* of whoever wakes: waker or, after its death, reaper */
#include "fate.inc"

/* ---- lab_wait_wake after each new value ---- */

active proctype waker() MORTAL(WAKER)
{
    byte value = 1;
    do
    :: value <= ROUNDS ->
#ifdef WAKE_BEFORE_DATA
        wake(WAKER);
        store(WAKER, DATA, value);
#else
        store(WAKER, DATA, value);
#ifndef NO_FENCE_OF_THE_WAKER
        EMPTY(WAKER);
#endif
        wake(WAKER);
#endif
        value++
    :: else -> break
    od;
    /* It stays until the sleeper has got everything: what its wakings did not do must not be done by its end. */
    wanted > ROUNDS || DEAD(SLEEPER);
    ended[WAKER] = true
}

/* ---- lab_wait_until ---- */

#define READY (LOAD(SLEEPER, DATA) >= wanted)

#ifdef BELL
inline sleep()
{
    atomic { EMPTY(SLEEPER) && rung };
    store(SLEEPER, ASLEEP, 0);
    atomic { EMPTY(SLEEPER) -> rung = false }
}
#else
inline sleep()
{
    atomic {
        EMPTY(SLEEPER) ->
#ifdef KERNEL_DOES_NOT_COMPARE
        sleeping = true
#else
        sleeping = memory[ASLEEP] == 1
#endif
    }
    if
    :: !sleeping
#ifndef NO_SLICE
    :: atomic { sleeping && memory[GONE] && !memory[ASLEEP] -> sleeping = false; slices++; assert(slices == 1) }
#endif
    fi;
    store(SLEEPER, ASLEEP, 0)
}
#endif

inline prepare_and_sleep()
{
    store(SLEEPER, ASLEEP, 1);
#ifdef READS_AFTER_ARMING
    atomic { EMPTY(SLEEPER) -> rung = false };
#endif
#ifndef NO_FENCE_OF_THE_SLEEPER
    EMPTY(SLEEPER);
#endif
#ifdef NO_LOOK_BEFORE_SLEEP
    sleep()
#else
    if
    :: READY -> store(SLEEPER, ASLEEP, 0)
    :: else ->
        if
        :: LOAD(SLEEPER, GONE) -> store(SLEEPER, ASLEEP, 0)
        :: else -> sleep()
        fi
    fi
#endif
}

active proctype sleeper() MORTAL(SLEEPER)
{
    do
    :: READY -> wanted++
    :: else ->
        if
        :: LOAD(SLEEPER, GONE) ->
#ifdef NO_SECOND_LOOK
            break
#else
            if
            :: READY -> wanted++
            :: else -> break
            fi
#endif
        :: else -> prepare_and_sleep()
        fi
    od;
    /* -EPIPE: everything that was sent has been received. */
    atomic {
        assert(wanted == memory[DATA] + 1);
        assert(killed[WAKER] || wanted == ROUNDS + 1)
    };
    ended[SLEEPER] = true
}
