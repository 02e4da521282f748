/* A lane of the queue of shm/queue.h: one producer, two consumers who claim runs of its messages. Lanes have nothing in common, so one
 * is enough.
 *
 * The word of a slot where a run begins is compared and swapped whole: lap, seat, length of the run, released or not. Consumers
 * walk from run to run, each with a cursor of its own, and catch up by what the lane says when they were left behind by a lap.
 *
 * What is proved, whoever is killed before whichever step: each message is received by at most one consumer, whole, in the order of
 * sending; what was sent is what was received and what was counted as dropped, no more than one run for a death; the slots of the
 * dead come back, so that the producer goes on; nobody waits for ever.
 *
 * holds:  at least 100000 states -DPOLLING -DSLOTS=1 -DMESSAGES=3
 * holds:  at least 100000 states -DPOLLING -DSLOTS=2 -DMESSAGES=3 -DRUN=2 -DVICTIM=1
 * holds:  at least 20000 states  -DPOLLING -DSLOTS=2 -DMESSAGES=4 -DDEATHS=0
 * holds:  at least 100000 states -DPOLLING -DSLOTS=1 -DMESSAGES=3 -DMARKED -DVICTIM=1
 * holds:  at least 100000 states -DSLOTS=1 -DMESSAGES=1 -DVICTIM=1
 * caught: damage                 -DPOLLING -DSLOTS=1 -DMESSAGES=3 -DSTORE_INSTEAD_OF_SWAP
 * caught: damage                 -DPOLLING -DSLOTS=1 -DMESSAGES=3 -DNO_LAP
 * caught: damage                 -DPOLLING -DSLOTS=1 -DMESSAGES=3 -DRELEASE_BEFORE_READ
 * caught: damage                 -DPOLLING -DSLOTS=1 -DMESSAGES=3 -DNO_SECOND_LOOK
 * caught: somebody waits         -DPOLLING -DSLOTS=1 -DMESSAGES=3 -DDROPPED_UNCOUNTED
 * caught: somebody waits         -DPOLLING -DSLOTS=1 -DMESSAGES=3 -DGIVEN_TO_ANOTHER
 * caught: somebody waits         -DPOLLING -DSLOTS=1 -DMESSAGES=3 -DCLAIM_BEFORE_OWNER
 * caught: somebody waits         -DPOLLING -DSLOTS=1 -DMESSAGES=3 -DNO_RELEASE_AT_HANGUP
 * caught: somebody waits         -DSLOTS=1 -DMESSAGES=1 -DVICTIM=1 -DNO_WAKE_FOR_A_DEAD_CONSUMER
 */
#define PARTIES 3
#define PRODUCER 0
#define CONSUMER(seat) (1 + (seat))
#define CONSUMERS 1 /* `gone` of all of them */
#define NO_SEAT 3
#define HINT 2 /* every so many messages consumers say how far the lane is claimed */
#ifndef RUN
#define RUN 1 /* the longest */
#endif
#define SLOT(position) ((position) % SLOTS)
#define LAP(position) ((position) / SLOTS + 1)

/* ---- shared memory ---- */

byte places[SLOTS]; /* a message is its number; that it cannot be torn is shown by ring.pml */
byte committed;
#ifdef MARKED
byte mark[SLOTS];
#define STIRS(at) (mark[SLOT(at)] > (at))
#define IS_THERE(at) (mark[SLOT(at)] == (at) + 1)
#else
#define STIRS(at) (committed != (at))
#define IS_THERE(at) (committed > (at))
#endif

typedef claim { byte lap, seat, count; bool released };
claim words[SLOTS];
byte lane_passed;  /* the producer's: everything before was released */
byte lane_claimed; /* the consumers': a run begins here, and those that follow are few */
byte dropped;

/* ---- what is known by the one who proves ---- */

bool taken[MESSAGES]; /* some consumer has borrowed it */
byte received;        /* messages released by whoever has read them */
#define IN_THE_END (received + dropped == committed && (committed == MESSAGES || killed[PRODUCER]) && (dropped == 0 || killed[1] || killed[2]))

#include "sleep.inc"

byte at; /* the reaper's walk */
bool seat_gone[2];

/* release_run_of */
inline release_the_run_of(dead)
{
    at = lane_passed;
    do
    :: atomic {
            words[SLOT(at)].lap < LAP(at) -> at = 0;
            break
        }
    :: atomic { words[SLOT(at)].lap > LAP(at) -> at = lane_passed }
    :: atomic {
            words[SLOT(at)].lap == LAP(at) && words[SLOT(at)].seat == dead && !words[SLOT(at)].released ->
#ifdef GIVEN_TO_ANOTHER
            words[SLOT(at)].lap--;
#else
            words[SLOT(at)].released = true;
#ifndef DROPPED_UNCOUNTED
            dropped = dropped + words[SLOT(at)].count;
#endif
#endif
            at = 0;
            break
        }
    :: atomic {
            words[SLOT(at)].lap == LAP(at) && (words[SLOT(at)].seat != dead || words[SLOT(at)].released) ->
            at = at + words[SLOT(at)].count
        }
    od
}

/* One that was woken for a message may have been killed instead of taking it. */
inline wake_consumers()
{
    wake(CONSUMER(0));
    wake(CONSUMER(1))
}

inline hangup(p)
{
    if
    :: p == PRODUCER -> gone[PRODUCER] = true
    :: else ->
#ifndef NO_RELEASE_AT_HANGUP
        release_the_run_of(p - 1);
#endif
        atomic {
            seat_gone[p - 1] = true;
            gone[CONSUMERS] = seat_gone[0] && seat_gone[1]
        }
        wake(PRODUCER)
    fi;
#ifdef NO_WAKE_FOR_A_DEAD_CONSUMER
    if
    :: p == PRODUCER -> wake_consumers()
    :: else
    fi
#else
    wake_consumers()
#endif
}
#include "fate.inc"

/* ---- the producer ---- */

#define RELEASED(position) (words[SLOT(position)].lap == LAP(position) && words[SLOT(position)].released)

#ifndef POLLING
/* One consumer for each message: the next one that is asleep. */
inline wake_a_consumer()
{
    i = 0;
    do
    :: i < 2 ->
        if
        :: asleep[CONSUMER((wake_next + i) % 2)] ->
            atomic {
                if
                :: asleep[CONSUMER((wake_next + i) % 2)] -> asleep[CONSUMER((wake_next + i) % 2)] = false; was = true
                :: else -> was = false
                fi
            }
            if
            :: was -> atomic { sleeping[CONSUMER((wake_next + i) % 2)] = false; wake_next = (wake_next + i + 1) % 2; was = false; break }
            :: else
            fi
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}
#endif

active proctype producer() MORTAL(PRODUCER)
{
    byte head, passed, wake_next, i;
    bool was;
    do
    :: head == MESSAGES -> break
    :: head < MESSAGES && head != passed + SLOTS ->
        places[SLOT(head)] = head;
        atomic {
#ifdef MARKED
            mark[SLOT(head)] = head + 1;
#endif
            committed = head + 1;
            head++
        }
#ifndef POLLING
        wake_a_consumer()
#endif
    :: head < MESSAGES && head == passed + SLOTS ->
        await(RELEASED(passed), PRODUCER, CONSUMERS);
        if
        :: hung_up[PRODUCER] -> break
        :: else
        fi;
        do
        :: atomic { passed != head && RELEASED(passed) -> passed = passed + words[SLOT(passed)].count }
        :: atomic { passed == head || !RELEASED(passed) -> break }
        od;
        lane_passed = passed
    od;
    /* It stays: its end must not do what its wakings did not. */
    received + dropped == MESSAGES || (DEAD(1) && DEAD(2));
    ended[PRODUCER] = true
}

/* ---- the consumers ---- */

#define WORD words[SLOT(cursor)]
#define MY_SEAT CONSUMER(seat)
#define AS_SEEN (WORD.released == seen_released && WORD.seat == seen_seat && WORD.count == seen_count)
#if defined(STORE_INSTEAD_OF_SWAP)
#define SWAPS true
#elif defined(NO_LAP)
#define SWAPS AS_SEEN
#else
#define SWAPS (AS_SEEN && WORD.lap == seen_lap)
#endif

inline look()
{
    seen_lap = WORD.lap;
    seen_seat = WORD.seat;
    seen_count = WORD.count;
    seen_released = WORD.released
}

/* What is not needed any more is not to make states that differ. */
inline forget()
{
    seen_lap = 0;
    seen_seat = 0;
    seen_count = 0;
    seen_released = false
}

inline claim_it(owner)
{
    WORD.lap = LAP(cursor);
    WORD.seat = owner;
    WORD.count = count;
    WORD.released = false
}

inline read(position)
{
    atomic {
        assert(places[SLOT(position)] == position && !taken[position]);
        taken[position] = true
    }
}

/* The first message of the run. What remains is a run of its own, written first. */
inline release()
{
    atomic {
        if
        :: count > 1 ->
            words[SLOT(cursor + 1)].lap = LAP(cursor + 1);
            words[SLOT(cursor + 1)].seat = seat;
            words[SLOT(cursor + 1)].count = count - 1;
            words[SLOT(cursor + 1)].released = false
        :: else -> goto alone
        fi
    }
alone:
    atomic {
        WORD.count = 1;
        WORD.released = true;
        received++;
        count--;
        cursor++
    }
}

proctype consumer(byte seat) MORTAL(MY_SEAT)
{
    byte cursor, count, seen_lap, seen_seat, seen_count;
    bool seen_released;
    /* Does the lane stir? */
wait:
    await(STIRS(cursor), MY_SEAT, PRODUCER);
    atomic {
        if
        :: hung_up[MY_SEAT] -> goto done
        :: else
        fi;
        look();
        if
        :: seen_lap == LAP(cursor) -> cursor = cursor + seen_count; forget(); goto wait
        :: seen_lap > LAP(cursor) -> forget(); goto left_behind
        :: else
        fi
    }
    atomic {
        if
        :: !IS_THERE(cursor) -> forget(); goto wait
        :: else -> count = (RUN > 1 && committed > cursor + 1 && SLOT(cursor) + 1 < SLOTS -> 2 : 1)
        fi
    }
    atomic {
        if
        :: !SWAPS -> forget(); count = 0; goto wait
        :: else ->
#ifdef CLAIM_BEFORE_OWNER
            claim_it(NO_SEAT);
#else
            claim_it(seat);
#endif
            forget()
        fi
    }
#ifdef CLAIM_BEFORE_OWNER
    WORD.seat = seat;
#endif
    if
    :: (cursor + count) % HINT == 0 -> lane_claimed = cursor + count
    :: else
    fi;
    do
    :: count ->
#ifdef RELEASE_BEFORE_READ
        release();
        read(cursor - 1)
#else
        read(cursor);
        release()
#endif
        THEN_WAKE(PRODUCER)
    :: else -> goto wait
    od;
left_behind:
    atomic {
        if
        :: lane_claimed > cursor -> cursor = lane_claimed; goto wait
        :: else
        fi
    }
    atomic { assert(lane_passed > cursor); cursor = lane_passed; goto wait }
done:
    ended[MY_SEAT] = true
}

init { atomic { run consumer(0); run consumer(1) } }
