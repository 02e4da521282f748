/* The monitor of shm/monitor.h: the bounded buffer of shm/buffer.h under a robust mutex, with the condition variables of
 * shm/condition.h. One producer, two consumers.
 *
 * What only the holder of the mutex touches is loaded together with the step that follows; every store of a word or a position is a step
 * of its own, between which the party may be killed, with the mutex or without; words change under the holder's eyes, for what was taken
 * is committed and released without the mutex as well, when a slice has passed (-DSLOW). A mutex whose holder was killed goes to the next
 * one, who finds nothing to undo. No sleep ends by time.
 *
 * What is proved, whoever is killed before whichever step, and with -DMENDER_DIES whoever is killed while it takes back what the first one
 * had: each message is received once at most, whole; what was committed is what was received and what was counted as dropped; all
 * places come back, so that the others go on; nobody waits for ever.
 *
 * holds:  at least 100000 states -DPLACES=1 -DMESSAGES=1 -DDEATHS=0
 * holds:  at least 100000 states -DPLACES=1 -DMESSAGES=1 -DVICTIM=1 -DONE_CONSUMER -DSLOW
 * holds:  at least 100000 states -DPLACES=2 -DMESSAGES=1 -DVICTIM=0 -DONE_CONSUMER -DBATCH=2 -DSLOW
 * holds:  at least 100000 states -DPLACES=1 -DMESSAGES=2 -DMENDER_DIES
 * caught: damage                -DPLACES=1 -DMESSAGES=2 -DMENDER_DIES -DCOUNTED_AFTER_FREED
 * caught: damage                -DPLACES=1 -DMESSAGES=2 -DMENDER_DIES -DCOUNTED_WITHOUT_POSITION
 * caught: damage                -DPLACES=1 -DMESSAGES=1 -DVICTIM=1 -DTAIL_BEFORE_WORDS
 * caught: damage                -DPLACES=1 -DMESSAGES=1 -DVICTIM=1 -DGIVEN_TO_ANOTHER
 * caught: somebody waits         -DPLACES=1 -DMESSAGES=1 -DVICTIM=0 -DONE_CONSUMER -DHEAD_BEFORE_WORDS
 * caught: somebody waits         -DPLACES=1 -DMESSAGES=1 -DVICTIM=0 -DONE_CONSUMER -DNOT_ROBUST
 * caught: somebody waits         -DPLACES=1 -DMESSAGES=1 -DVICTIM=0 -DONE_CONSUMER -DNOT_MENDED
 * caught: somebody waits         -DPLACES=1 -DMESSAGES=1 -DVICTIM=0 -DONE_CONSUMER -DNO_BROADCAST_AT_HANGUP
 * caught: somebody waits         -DPLACES=1 -DMESSAGES=1 -DDEATHS=0 -DONE_CONSUMER -DTICKET_AFTER_THE_LOOK
 */
#define PARTIES 3
#define PRODUCER 0
#define SIDE(p) ((p) > 0)
#define NOBODY 3
#ifndef BATCH
#define BATCH 1
#endif
#define SLOT(position) ((position) % PLACES)

/* ---- shared memory ---- */

#define FREE 0
#define RESERVED 1
#define COMMITTED 2
#define VOID 3
#define BORROWED 4
byte words[PLACES], owner_of[PLACES]; /* state and seat: one word */
#define AT(position) words[SLOT(position)]
byte places[PLACES];                  /* of message n: n + 1 */
byte freed, tail, ready, head;
byte dropped, last_dropped;           /* one word */
bool mend;
bool seat_gone[PARTIES], side_gone[2];
byte holder = NOBODY;                 /* of the mutex */

/* The sequence of a condition is told by who has drawn a ticket since it last changed; `noted` is `note` of the seat. */
byte waiting[2];
bool noted[PARTIES], fresh[PARTIES], sleeping[PARTIES];

/* ---- what is known by the one who proves ---- */

byte committed, received;
bool taken[MESSAGES];
bool owed; /* somebody was killed, and its places were not taken back yet */

/* What nobody was left to take, or to take back. */
#define IS_LEFT(place) (words[place] == COMMITTED || words[place] == BORROWED)
#if PLACES > 1
#define LEFT (IS_LEFT(0) + IS_LEFT(1))
#else
#define LEFT IS_LEFT(0)
#endif
#define IN_THE_END ((committed == MESSAGES || killed[PRODUCER] || side_gone[1]) && \
                    (owed -> received + dropped <= committed : received + dropped + LEFT == committed))

#include "parties.inc"

/* ---- conditions ---- */

/* lab_condition_broadcast: the sequence changes, and who sleeps wakes. */
inline tell_producers()
{
    atomic { fresh[PRODUCER] = false; sleeping[PRODUCER] = false }
}
inline tell_consumers()
{
    atomic { fresh[1] = false; fresh[2] = false; sleeping[1] = false; sleeping[2] = false }
}

/* lab_condition_signal, of which the sequence is one step and the waking another; of several who sleep any one is woken. */
inline signal_room()
{
    if
    :: atomic { rooms && waiting[0] -> fresh[PRODUCER] = false; rooms = 0 }
        sleeping[PRODUCER] = false
    :: atomic { !rooms || !waiting[0] -> rooms = 0 }
    fi
}
inline signal_messages()
{
    if
    :: atomic { messages && waiting[1] -> fresh[1] = false; fresh[2] = false }
        atomic {
            if
            :: messages > 1 || !sleeping[1] || !sleeping[2] -> sleeping[1] = false; sleeping[2] = false
#ifndef ONE_CONSUMER
            :: messages == 1 && sleeping[1] && sleeping[2] -> sleeping[1] = false
            :: messages == 1 && sleeping[1] && sleeping[2] -> sleeping[2] = false
#endif
            fi;
            messages = 0
        }
    :: atomic { !messages || !waiting[1] -> messages = 0 }
    fi
}

/* lab_condition_redeem */
#define REDEEM(p) waiting[SIDE(p)] = waiting[SIDE(p)] - noted[p]; noted[p] = false

/* lab_monitor_hangup, lab_buffer_hangup */
inline hangup(p)
{
    seat_gone[p] = true;
    atomic { mend = true; owed = owed || killed[p] }
    atomic {
        side_gone[0] = seat_gone[PRODUCER];
        side_gone[1] = seat_gone[1] && seat_gone[2];
        REDEEM(p)
    }
#ifndef NO_BROADCAST_AT_HANGUP
    tell_producers();
    tell_consumers()
#endif
}

#ifdef MENDER_DIES /* the first consumer with a loan, and then the producer that takes it back */
#define DEATHS 2
#define VICTIM (1 - deaths)
#define MAY_DIE (deaths == 0 -> words[0] == BORROWED && owner_of[0] == 1 : mending && holder == PRODUCER)
bool mending;
#define MENDING(whether) mending = whether
#else
#define MENDING(whether) skip
#endif
#include "fate.inc"

/* ---- under the mutex ---- */

#ifdef NOT_ROBUST
#define LOCKABLE (holder == NOBODY)
#else
#define LOCKABLE (holder == NOBODY || killed[(holder == NOBODY -> 0 : holder)])
#endif

/* Of one word; within a step. */
#define PUT(position, state, seat) AT(position) = state; owner_of[SLOT(position)] = seat

/* count_dropped: once, though it may be done again. */
inline count_dropped()
{
#ifdef COUNTED_WITHOUT_POSITION
    dropped++
#else
    atomic {
        if
        :: last_dropped != at + 1 -> dropped++; last_dropped = at + 1
        :: else
        fi
    }
#endif
}

/* mend of shm/buffer.c */
#define IS_ITS(state, side) (AT(at) == state && SIDE(owner_of[SLOT(at)]) == side && seat_gone[owner_of[SLOT(at)]])
inline mend_all()
{
    atomic { at = freed; MENDING(true) }
    do
    :: atomic { at == head -> at = 0; mended = true; MENDING(false); break }
    :: atomic { at != head && IS_ITS(RESERVED, 0) -> PUT(at, VOID, 0); at++ }
    :: at != head && IS_ITS(BORROWED, 1) && at < tail ->
#if defined(GIVEN_TO_ANOTHER)
        atomic { PUT(at, COMMITTED, 0); tail = at; at++ }
#elif defined(COUNTED_AFTER_FREED)
        atomic { PUT(at, FREE, 0) }
        count_dropped();
        at++
#else
        count_dropped();
        atomic { PUT(at, FREE, 0); at++ }
#endif
    :: atomic { at != head && IS_ITS(BORROWED, 1) && at >= tail -> PUT(at, COMMITTED, 0); at++ }
    :: atomic { at != head && !IS_ITS(RESERVED, 0) && !IS_ITS(BORROWED, 1) -> at++ }
    od
}

/* settle: a store of each position, where there is something to say. */
inline settle()
{
    do
    :: atomic { ready != head && (AT(ready) == COMMITTED || AT(ready) == VOID) -> messages = messages + (AT(ready) == COMMITTED); ready++ }
    :: atomic { tail != ready && AT(tail) == VOID -> tail++ }
    :: atomic { freed != tail && (AT(freed) == FREE || AT(freed) == VOID) -> rooms++; freed++ }
    :: atomic { else -> break }
    od
}

#define NOTHING 0 /* -EAGAIN */
#define DONE 1
#define OVER 2 /* -EPIPE */

/* reserve and borrow of shm/buffer.c: the words, and then the position behind them. */
inline take_places(state, end)
{
    atomic { first = end; outcome = DONE }
#if defined(HEAD_BEFORE_WORDS) || defined(TAIL_BEFORE_WORDS)
    end = first + held;
#endif
    do
    :: atomic { i < held -> PUT(first + i, state, me); i++ }
    :: atomic { i == held -> i = 0; break }
    od;
    end = first + held
}

/* lab_buffer_take; where there is nothing the party joins those who wait (try_to_take of shm/monitor.c). */
#define ROOM (freed + PLACES - head)
#define MESSAGE (tail != ready && AT(tail) != BORROWED)
#define NOBODY_SENDS (tail == ready && ready == head && side_gone[0])
inline take()
{
    if
    :: atomic { me == PRODUCER && side_gone[1] -> outcome = OVER }
    :: atomic { me == PRODUCER && !side_gone[1] && ROOM -> held = (ROOM > 1 && BATCH > 1 -> 2 : 1) }
        take_places(RESERVED, head)
    :: atomic { me != PRODUCER && NOBODY_SENDS -> outcome = OVER; assert(words[0] != COMMITTED && words[PLACES - 1] != COMMITTED) }
    :: atomic {
            me != PRODUCER && MESSAGE ->
            assert(AT(tail) == COMMITTED);
            held = (BATCH > 1 && ready > tail + 1 && AT(tail + 1) == COMMITTED -> 2 : 1)
        }
        take_places(BORROWED, tail)
    :: atomic { (me == PRODUCER -> !side_gone[1] && !ROOM : !NOBODY_SENDS && !MESSAGE) -> outcome = NOTHING; waiting[SIDE(me)]++ }
        noted[me] = true
    fi
}

/* lab_buffer_commit of the first place, lab_buffer_release of all. */
inline give_back()
{
    if
    :: me == PRODUCER ->
        atomic { PUT(first, COMMITTED, 0); committed++ }
        if
        :: atomic { locked && head == first + held -> head = first + 1; held = 0 }
        :: !locked ->
            do
            :: atomic { held > 1 -> PUT(first + held - 1, VOID, 0); held-- }
            :: atomic { held == 1 -> held = 0; break }
            od
        fi
    :: me != PRODUCER ->
        do
        :: atomic { i < held -> PUT(first + i, FREE, 0); received++; i++ }
        :: atomic { i == held -> i = 0; held = 0; break }
        od
    fi
}

/* What is written and read in place, without the mutex. */
inline use()
{
    if
    :: me == PRODUCER -> places[SLOT(first)] = committed + 1
    :: me != PRODUCER ->
        do
        :: atomic {
                i < held ->
                assert(places[SLOT(first + i)] && !taken[places[SLOT(first + i)] - 1]);
                taken[places[SLOT(first + i)] - 1] = true;
                i++
            }
        :: atomic { i == held -> i = 0; break }
        od
    fi
}

/* ---- a party: take and give_back of shm/monitor.c, each between lock and unlock ---- */

proctype party(byte me) MORTAL(me)
{
    byte at, first, held, i, messages, rooms, outcome;
    bool mended, locked, worked;
#ifdef MENDER_DIES
    me != 2 || DEAD(1);
#endif
turn: /* lab_condition_ticket, lock, lab_buffer_enter */
#ifndef TICKET_AFTER_THE_LOOK
    fresh[me] = fresh[me] || !held;
#endif
    atomic { LOCKABLE -> holder = me; locked = true }
    if
#ifdef NOT_MENDED
    :: true
#else
    :: atomic { mend -> mend = false; owed = false }
        mend_all()
    :: !mend
#endif
    fi;
settling:
    settle();
    if
    :: worked -> goto leaving
    :: atomic { !worked && held -> worked = true; goto giving }
    :: atomic { !worked && !held -> worked = true }
        take()
    fi;
    goto settling;
giving: /* with the mutex, or, when another has had it for a slice, without */
    give_back();
    if
    :: locked -> goto settling
#ifdef SLOW
    :: !locked && me == PRODUCER -> tell_consumers(); goto next
    :: !locked && me != PRODUCER -> tell_producers(); goto next
#endif
    fi;
leaving: /* lab_buffer_leave, unlock: after somebody's death everything is news */
    atomic {
        messages = (mended -> ready - tail : messages);
        rooms = (mended -> freed + PLACES - head : rooms);
        mended = false;
        holder = NOBODY;
        locked = false;
        worked = false
    }
    signal_room();
    signal_messages();
    if
    :: outcome == OVER -> goto done
    :: outcome == NOTHING -> /* lab_condition_sleep: the kernel compares */
#ifdef TICKET_AFTER_THE_LOOK
        fresh[me] = true;
#endif
        sleeping[me] = fresh[me];
        atomic { !sleeping[me] -> REDEEM(me) }
        goto turn
    :: outcome == DONE && held ->
        use();
        if
        :: goto turn
#ifdef SLOW
        :: holder != NOBODY && holder != me -> goto giving
#endif
        fi
    :: outcome == DONE && !held
    fi;
next:
    if
    :: me == PRODUCER && committed == MESSAGES
    :: else -> goto turn
    fi;
done:
    atomic { first = 0; outcome = 0; ended[me] = true }
}

init
{
    atomic {
        run party(PRODUCER);
        run party(1);
#ifdef ONE_CONSUMER
        ended[2] = true
#else
        run party(2)
#endif
    }
}
