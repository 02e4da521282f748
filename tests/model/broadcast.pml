/* The broadcast of shm/broadcast.h, one writer and two readers: lossless, where the writer waits for the slowest living reader, and with
 * -DOVERWRITE, where it waits for nobody and readers know how much they have lost.
 *
 * A message is two halves, each told by its number and written and read in a step of its own. Stamps say what is in a place, as there:
 * 2 n + 2 message n, 2 n + 1 that it is being written. Memory is sequentially consistent here; that the fences of a sequence lock are where
 * they must be is what the sources under ThreadSanitizer and Boehm's argument say.
 *
 * What is proved, whoever is killed before whichever step: a reader receives what was sent, whole and in order, lossless all of it, else
 * what it received and what it counts as lost is all that was sent; then -EPIPE. A dead reader holds up the writer until its hangup and
 * no longer, and nobody waits for ever.
 *
 * holds:  at least 100000 states -DPOLLING -DSLOTS=2 -DLAZY=1 -DMESSAGES=3 -DVICTIM=1
 * holds:  at least 100000 states -DPOLLING -DSLOTS=2 -DLAZY=2 -DMESSAGES=3 -DVICTIM=0
 * holds:  at least 100000 states -DSLOTS=1 -DLAZY=1 -DMESSAGES=2 -DDEATHS=0
 * holds:  at least 100000 states -DSLOTS=1 -DLAZY=1 -DMESSAGES=1 -DVICTIM=1
 * holds:  at least 100000 states -DPOLLING -DOVERWRITE -DSLOTS=2 -DMESSAGES=4 -DVICTIM=0
 * caught: damage                -DPOLLING -DSLOTS=2 -DLAZY=1 -DMESSAGES=3 -DSTAMP_BEFORE_WRITE
 * caught: damage                -DPOLLING -DSLOTS=2 -DLAZY=1 -DMESSAGES=3 -DRELEASE_BEFORE_READ
 * caught: damage                -DPOLLING -DSLOTS=2 -DLAZY=1 -DMESSAGES=3 -DONE_READER_COUNTS
 * caught: damage                -DPOLLING -DSLOTS=2 -DLAZY=1 -DMESSAGES=3 -DNO_SECOND_LOOK
 * caught: somebody waits         -DPOLLING -DSLOTS=2 -DLAZY=1 -DMESSAGES=3 -DTHE_DEAD_COUNT
 * caught: somebody waits         -DPOLLING -DSLOTS=2 -DLAZY=4 -DMESSAGES=3
 * caught: somebody waits         -DSLOTS=1 -DLAZY=1 -DMESSAGES=2 -DNO_WAKE_FOR_ROOM
 * caught: somebody waits         -DSLOTS=1 -DLAZY=1 -DMESSAGES=2 -DNO_WAKE_FOR_MESSAGES
 * caught: damage                -DPOLLING -DOVERWRITE -DSLOTS=2 -DMESSAGES=4 -DUNMARKED
 * caught: damage                -DPOLLING -DOVERWRITE -DSLOTS=2 -DMESSAGES=4 -DNO_SECOND_STAMP
 * caught: damage                -DPOLLING -DOVERWRITE -DSLOTS=2 -DMESSAGES=4 -DLOST_BY_STAMP
 */
#define PARTIES 3
#define WRITER 0
#define READER(seat) (1 + (seat))
#define READERS 2
#define DESERTED 1 /* `gone` of sleep.inc: all readers are */
#define SLOT(position) ((position) % SLOTS)
#define STAMP(position) (2 * (position) + 2)

/* ---- shared memory ---- */

byte low[SLOTS], high[SLOTS]; /* of a message n: n + 1 */
byte stamp[SLOTS];
byte released[READERS];
bool reader_gone[READERS];
#ifndef POLLING
byte waiting; /* a bit per reader */
#endif

/* ---- what is known by the one who proves ---- */

byte sent;          /* messages committed */
byte had[READERS];  /* received, or lost */
#define IN_THE_END (sent == MESSAGES || killed[WRITER] || (DEAD(1) && DEAD(2)))

#include "sleep.inc"

/* lab_broadcast_wake; nothing where nobody sleeps. */
#ifdef POLLING
#define THEN_WAKE_READERS
#else
#define THEN_WAKE_READERS ; wake_readers()
inline wake_readers()
{
#ifdef NO_WAKE_FOR_MESSAGES
    skip
#else
    if
    :: waiting & 1 -> wake(READER(0))
    :: else
    fi;
    if
    :: waiting & 2 -> wake(READER(1))
    :: else
    fi
#endif
}
#endif

/* lab_broadcast_hangup */
inline hangup(p)
{
    if
    :: p == WRITER -> gone[WRITER] = true
        THEN_WAKE_READERS
    :: p != WRITER -> reader_gone[p - 1] = true;
#ifndef POLLING
        waiting = waiting & ~(1 << (p - 1));
#endif
        if
        :: reader_gone[0] && reader_gone[1] -> gone[DESERTED] = true
        :: else
        fi;
        wake(WRITER)
    fi
}
#include "fate.inc"

/* ---- the writer ---- */

#ifndef OVERWRITE
byte room_to = SLOTS, furthest, slowest, seat;

/* look_for_room */
inline look_for_room()
{
    do
#ifdef ONE_READER_COUNTS
    :: atomic { seat == 1 -> seat = 2 }
#endif
#ifndef THE_DEAD_COUNT
    :: atomic { seat < READERS && reader_gone[seat] -> seat++ }
    :: seat < READERS && !reader_gone[seat] ->
#else
    :: seat < READERS ->
#endif
        atomic {
            if
            :: sent - released[seat] >= furthest -> furthest = sent - released[seat]; slowest = seat
            :: else
            fi;
            seat++
        }
    :: atomic { seat == READERS -> seat = 0; room_to = sent + SLOTS - furthest; furthest = 0; break }
    od
}

/* lab_broadcast_reserve, lab_broadcast_reserve_late */
#define IT_HAS_MOVED (sent - released[slowest] != SLOTS || GONE(slowest))
#ifdef THE_DEAD_COUNT
#define GONE(seat) false
#else
#define GONE(seat) reader_gone[seat]
#endif
inline reserve()
{
    do
    :: atomic { gone[DESERTED] -> goto done }
    :: atomic { !gone[DESERTED] && room_to != sent -> break }
    :: !gone[DESERTED] && room_to == sent ->
        look_for_room();
        if
        :: room_to != sent
        :: room_to == sent -> await(IT_HAS_MOVED, WRITER, DESERTED)
        fi
    od
}
#endif

inline write()
{
    low[SLOT(sent)] = sent + 1;
    high[SLOT(sent)] = sent + 1
}

/* lab_broadcast_commit; the end of lab_broadcast_send */
inline publish()
{
    atomic { stamp[SLOT(sent)] = STAMP(sent); sent++ }
}

active proctype writer() MORTAL(WRITER)
{
    do
    :: sent < MESSAGES ->
#ifdef OVERWRITE
        if
        :: atomic { gone[DESERTED] -> goto done }
        :: !gone[DESERTED]
        fi;
#ifndef UNMARKED
        stamp[SLOT(sent)] = STAMP(sent) - 1;
#endif
        write();
        publish()
#else
        reserve();
#ifdef STAMP_BEFORE_WRITE
        publish();
        atomic { low[SLOT(sent - 1)] = sent }
        high[SLOT(sent - 1)] = sent
#else
        write();
        publish()
#endif
#endif
        THEN_WAKE_READERS
    :: sent == MESSAGES -> break
    od;
    /* It stays: its end must not do what its wakings did not. */
    (had[0] == sent || DEAD(1)) && (had[1] == sent || DEAD(2));
done:
    ended[WRITER] = true
}

/* ---- readers ---- */

#define THERE (stamp[SLOT(had[me])] >= STAMP(had[me]))
#ifndef POLLING
#define LIFT(seat) waiting = waiting | 1 << (seat);
#define LOWER(seat) waiting = waiting & ~(1 << (seat));
#else
#define LIFT(seat)
#define LOWER(seat)
#endif

/* wait_for_message */
inline wait_for_message()
{
    LIFT(me)
    await(THERE, READER(me), WRITER);
    LOWER(me)
    if
    :: atomic { hung_up[READER(me)] -> goto done }
    :: !hung_up[READER(me)]
    fi
}

#ifdef OVERWRITE

/* catch_up: on a quarter of the places behind the oldest message that is left. What is lost is what is moved over. */
#define OLDEST ((seen - 1) / 2 - SLOTS + 1)
inline catch_up()
{
    assert(((seen - 1) / 2 - had[me]) % SLOTS == 0);
#ifdef LOST_BY_STAMP
    lost = lost + (seen - 1) / 2 - had[me];
#else
    lost = lost + OLDEST + SLOTS / 4 - had[me];
#endif
    had[me] = OLDEST + SLOTS / 4;
    half = 0;
    seen = 0
}

/* lab_broadcast_receive: attempts. */
proctype reader(byte me) MORTAL(1 + me)
{
    byte seen, half, got, lost;
    do
    :: atomic { stamp[SLOT(had[me])] < STAMP(had[me]) -> skip }
        wait_for_message()
    :: atomic { stamp[SLOT(had[me])] > STAMP(had[me]) -> seen = stamp[SLOT(had[me])]; catch_up() }
    :: stamp[SLOT(had[me])] == STAMP(had[me]) ->
        half = low[SLOT(had[me])];
        atomic { /* both halves count only if the stamp is what it was */
            seen = (high[SLOT(had[me])] == half && half == had[me] + 1 -> 0 : 1);
            half = 0
        }
        atomic {
            if
#ifndef NO_SECOND_STAMP
            :: stamp[SLOT(had[me])] > STAMP(had[me]) -> seen = stamp[SLOT(had[me])]; catch_up()
#endif
            :: else -> assert(!seen && stamp[SLOT(had[me])] >= STAMP(had[me])); got++; had[me]++
            fi
        }
    od;
done:
    atomic { assert(got + lost == sent && had[me] == sent); got = 0; lost = 0 }
    ended[READER(me)] = true
}

#else

/* lab_broadcast_publish */
inline publish_released()
{
    atomic { published = had[me]; released[me] = had[me] }
#ifndef NO_WAKE_FOR_ROOM
    THEN_WAKE(WRITER)
#endif
}

/* lab_broadcast_borrow, lab_broadcast_borrow_late, lab_broadcast_release */
proctype reader(byte me) MORTAL(1 + me)
{
    byte half, published;
    do
    :: atomic { stamp[SLOT(had[me])] != STAMP(had[me]) -> skip }
        if
        :: had[me] - published > LAZY / 2 -> publish_released()
        :: else
        fi;
        wait_for_message()
    :: atomic { stamp[SLOT(had[me])] == STAMP(had[me]) -> skip }
#ifdef RELEASE_BEFORE_READ
        released[me] = had[me] + 1;
#endif
        half = low[SLOT(had[me])];
        atomic {
            assert(half == had[me] + 1 && high[SLOT(had[me])] == half);
            half = 0;
            had[me]++
        }
        if
        :: had[me] - published >= LAZY -> publish_released()
        :: else
        fi
    od;
done:
    assert(had[me] == sent);
    ended[READER(me)] = true
}
#endif

init { atomic { run reader(0); run reader(1) } }
