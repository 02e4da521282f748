/* The ring of shm/ring.h: one producer, one consumer, marked or counted, batches, lengths, a position that is published late.
 *
 * A message is two halves and a length, all told by its number; each half is written and read in a step of its own. The consumer checks every
 * message: whole, of its own length, and the next one. A release store is a store after all others of its side: sequentially consistent
 * memory has no other, so what a missing one would do is seeded as stores in the wrong order.
 *
 * What is proved, wherever either side is killed: the consumer receives every message that was committed, once, whole and in order, and
 * then -EPIPE; the producer goes on, or gets -EPIPE; the window that was promised always fits; nobody waits for ever.
 *
 * holds:  at least 20000 states  -DMARKED -DSLOTS=2 -DWINDOW=2 -DLAZY=1 -DBATCH=1 -DPOLLING
 * holds:  at least 20000 states  -DMARKED -DSLOTS=2 -DWINDOW=1 -DLAZY=2 -DBATCH=1 -DMESSAGES=4
 * holds:  at least 20000 states  -DSLOTS=4 -DWINDOW=3 -DLAZY=2 -DBATCH=2 -DPOLLING
 * holds:  at least 20000 states  -DSLOTS=4 -DWINDOW=2 -DLAZY=3 -DBATCH=1 -DPOLLING
 * holds:  at least 20000 states  -DSLOTS=2 -DWINDOW=1 -DLAZY=2 -DBATCH=2 -DMESSAGES=4
 * holds:  at least 20000 states  -DSLOTS=2 -DWINDOW=2 -DLAZY=1 -DBATCH=2 -DPOLLING -DMESSAGES=8
 * caught: damage                -DMARKED -DSLOTS=2 -DWINDOW=2 -DLAZY=1 -DBATCH=1 -DPOLLING -DPUBLISH_BEFORE_WRITE
 * caught: damage                -DSLOTS=4 -DWINDOW=3 -DLAZY=2 -DBATCH=2 -DPOLLING -DPUBLISH_BEFORE_WRITE
 * caught: damage                -DSLOTS=4 -DWINDOW=3 -DLAZY=2 -DBATCH=2 -DPOLLING -DLENGTH_AFTER_COUNT
 * caught: damage                -DSLOTS=2 -DWINDOW=2 -DLAZY=1 -DBATCH=2 -DPOLLING -DEVEN_BEFORE_COUNT
 * caught: damage                -DSLOTS=4 -DWINDOW=3 -DLAZY=2 -DBATCH=2 -DPOLLING -DRELEASE_BEFORE_READ
 * caught: damage                -DMARKED -DSLOTS=2 -DWINDOW=2 -DLAZY=1 -DBATCH=1 -DPOLLING -DNO_LAP_IN_MARK
 * caught: damage                -DSLOTS=4 -DWINDOW=3 -DLAZY=3 -DBATCH=1 -DPOLLING
 * caught: somebody waits         -DSLOTS=4 -DWINDOW=3 -DLAZY=5 -DBATCH=1 -DPOLLING -DNO_PROMISE -DNO_PUBLISH_BEFORE_WAIT
 * caught: damage                -DSLOTS=4 -DWINDOW=3 -DLAZY=2 -DBATCH=2 -DPOLLING -DNO_SECOND_LOOK
 * caught: somebody waits         -DSLOTS=2 -DWINDOW=1 -DLAZY=2 -DBATCH=2 -DMESSAGES=4 -DNO_WAKE_FOR_ROOM
 * caught: somebody waits         -DMARKED -DSLOTS=2 -DWINDOW=1 -DLAZY=2 -DBATCH=1 -DMESSAGES=4 -DNO_WAKE_FOR_MESSAGES
 * caught: somebody waits         -DMARKED -DSLOTS=2 -DWINDOW=2 -DLAZY=1 -DBATCH=1 -DPOLLING -DNO_HANGUP
 */
#define PARTIES 2
#define PRODUCER 0
#define CONSUMER 1
#ifndef MESSAGES
#define MESSAGES 5
#endif

/* Of message n, counted from 0. */
#define HALF(n) ((n) + 1)
#define LENGTH(n) ((n) / 2 % 2 + 1)
#define SLOT(position) ((position) % SLOTS)

/* ---- shared memory ---- */

byte low[SLOTS], high[SLOTS]; /* the message in its place */
#ifdef MARKED
byte mark[SLOTS]; /* position plus one, as much as tells laps apart ... */
byte length_in_mark[SLOTS]; /* ... and the length, in the same word */
#ifdef NO_LAP_IN_MARK
#define MARK(position) 1
#else
#define MARK(position) ((position) + 1)
#endif
#else
byte lengths[SLOTS];
byte committed;
byte even; /* the length that all slots have; 0: they have several */
#endif
byte released;

/* ---- what is known of both sides by the one who proves ---- */

byte sent;      /* messages committed */
byte given_back; /* messages released by a consumer that has done what release does */

#include "sleep.inc"

inline hangup(p)
{
#ifndef NO_HANGUP
    gone[p] = true;
    wake(1 - p)
#else
    skip
#endif
}
#include "fate.inc"

/* ---- the producer ---- */

byte head, room_to = SLOTS, count, i;
#ifndef MARKED
byte alike, kind; /* so many messages in a row, up to a lap of them, had this length */
#endif

inline reserve()
{
    if
    :: gone[CONSUMER] -> hung_up[PRODUCER] = true
    :: else ->
        if
        :: head != room_to
        :: else ->
#ifndef NO_PROMISE
            assert(released + SLOTS != head || head - given_back >= WINDOW);
#endif
            await(released + SLOTS != head, PRODUCER, CONSUMER);
            room_to = released + SLOTS
        fi
    fi
}

/* As many as there is room for, in one piece, as far as one wants and there are messages left. */
#define FITS(n) ((n) <= BATCH && head + (n) <= room_to && SLOT(head) + (n) <= SLOTS && head + (n) <= MESSAGES)

inline write()
{
    i = 0;
    do
    :: i < count -> low[SLOT(head + i)] = HALF(head + i);
        atomic { high[SLOT(head + i)] = HALF(head + i); i++ }
    :: else -> break
    od
}

inline write_lengths()
{
#ifdef MARKED
    skip
#else
    atomic {
        alike = (LENGTH(head) == kind -> alike : 0);
        kind = LENGTH(head);
        i = (LENGTH(head) == even -> count : 0)
    }
    do
    :: i < count -> atomic { lengths[SLOT(head + i)] = LENGTH(head + i); i++ }
    :: else -> break
    od;
    atomic {
        alike = (alike + count < SLOTS -> alike + count : SLOTS);
        even = (alike == SLOTS -> kind : 0)
    }
#endif
}

inline publish()
{
    atomic {
#ifdef MARKED
        mark[SLOT(head)] = MARK(head);
        length_in_mark[SLOT(head)] = LENGTH(head);
#else
        committed = head + count;
#endif
        sent = head + count
    }
}

inline commit()
{
#if defined(PUBLISH_BEFORE_WRITE)
    write_lengths();
    publish();
    write();
#elif defined(LENGTH_AFTER_COUNT)
    write();
    publish();
    write_lengths();
#else
    write();
    write_lengths();
    publish();
#endif
    head = head + count;
    if
    :: head + SLOTS / 2 < room_to
    :: else -> room_to = released + SLOTS /* it looks when there is time */
    fi;
#ifndef NO_WAKE_FOR_MESSAGES
    wake(CONSUMER)
#endif
}

active proctype producer() MORTAL(PRODUCER)
{
    do
    :: head == MESSAGES -> break
    :: head < MESSAGES ->
        reserve();
        if
        :: hung_up[PRODUCER] -> break
        :: else
        fi;
        atomic {
            if
            :: FITS(1) -> count = 1
#if BATCH > 1
            :: FITS(2) && LENGTH(head) == LENGTH(head + 1) -> count = 2
#endif
            fi
        }
        commit()
    od;
    /* It stays until the consumer has received everything: its end must not do what its wakings did not. */
    given_back == head || DEAD(CONSUMER) || hung_up[PRODUCER];
    ended[PRODUCER] = true
}

/* ---- the consumer ---- */

byte tail, there, published, length, half;
#ifndef MARKED
byte told; /* what `even` was when the count was read */
#endif

#ifdef MARKED
#define THERE (mark[SLOT(tail)] == MARK(tail))
#else
#define THERE (committed != tail)
#endif

inline publish_released()
{
    published = tail;
    released = tail;
#ifndef NO_WAKE_FOR_ROOM
    wake(PRODUCER)
#endif
}

inline borrow()
{
    if
    :: there != tail
    :: there == tail && THERE -> hung_up[CONSUMER] = false
    :: else ->
#if LAZY > 2 && !defined(NO_PUBLISH_BEFORE_WAIT)
        if
        :: tail - published > LAZY / 2 -> publish_released()
        :: else
        fi;
#endif
        await(THERE, CONSUMER, PRODUCER)
    fi;
    if
    :: hung_up[CONSUMER]
    :: else ->
#ifdef MARKED
        atomic {
            there = tail + 1;
            length = length_in_mark[SLOT(tail)]
        }
#else
        if
        :: there == tail ->
#ifdef EVEN_BEFORE_COUNT
            told = even;
            there = committed
#else
            there = committed;
            told = even
#endif
        :: else
        fi;
        length = (told -> told : lengths[SLOT(tail)])
#endif
    fi
}

inline read()
{
    half = low[SLOT(tail)];
    atomic {
        assert(half == HALF(tail)); /* the next one, neither lost nor repeated */
        assert(high[SLOT(tail)] == half);
        assert(length == LENGTH(tail));
        half = 0;
        length = 0
    }
}

inline release()
{
    atomic { tail++ }
    if
    :: tail - published < LAZY
    :: else -> publish_released()
    fi;
    given_back = tail
}

active proctype consumer() MORTAL(CONSUMER)
{
    do
    :: borrow();
        if
        :: hung_up[CONSUMER] -> break
        :: else
        fi;
#ifdef RELEASE_BEFORE_READ
        half = low[SLOT(tail)];
        published = tail + 1;
        released = tail + 1;
        atomic {
            assert(half == HALF(tail) && high[SLOT(tail)] == half);
            tail++;
            given_back = tail
        }
#else
        read();
        release()
#endif
    od;
    atomic {
        assert(tail == sent);
        assert(killed[PRODUCER] || sent == MESSAGES)
    };
    ended[CONSUMER] = true
}
