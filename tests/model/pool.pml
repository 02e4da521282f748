/* The pool of shm/pool.h: who has a block is one word with two bits for each seat, `held by` and `promised to`, and every step below is one
 * access to one of those words, to a note of who promised, or to the words that say who is gone and who waits.
 *
 * A writer takes blocks, fills them, passes each to a reader and then sends its number; numbers go through rings, which ring.pml has
 * proved: what was sent comes, in order, also from the dead. The third party takes blocks for itself, or, with -DSHARE, is a second
 * reader: each block is shared with both, and the writer gives its own reference back.
 *
 * What is proved, whoever is killed before whichever step: nobody writes into a block that another has, a reader finds in it what was
 * sent, a block whose number came is the reader's, what the dead writer promised and did not send comes back once it is settled, every
 * block comes back in the end, and who waits for one gets it.
 *
 * holds:  at least 200000 states -DPOLLING -DBLOCKS=1 -DROUNDS=2
 * holds:  at least 200000 states -DPOLLING -DBLOCKS=2 -DROUNDS=2 -DVICTIM=0
 * holds:  at least 200000 states -DPOLLING -DBLOCKS=1 -DROUNDS=1 -DDEATHS=2
 * holds:  at least 200000 states -DPOLLING -DBLOCKS=1 -DROUNDS=2 -DSHARE
 * holds:  at least 200000 states -DBLOCKS=1 -DROUNDS=1 -DVICTIM=0
 * caught: damage                -DPOLLING -DBLOCKS=1 -DROUNDS=1 -DSTORE_INSTEAD_OF_SWAP
 * caught: damage                -DPOLLING -DBLOCKS=1 -DROUNDS=1 -DTAKEN_BEFORE_OWNED
 * caught: damage                -DPOLLING -DBLOCKS=1 -DROUNDS=1 -DNOTED_AFTER_PROMISE
 * caught: damage                -DPOLLING -DBLOCKS=1 -DROUNDS=1 -DSETTLED_BEFORE_RECEIVED
 * caught: damage                -DPOLLING -DBLOCKS=1 -DROUNDS=2 -DGIVEN_BEFORE_READ
 * caught: damage                -DPOLLING -DBLOCKS=1 -DROUNDS=2 -DSHARE -DGIVEN_FOR_ALL
 * caught: somebody waits         -DPOLLING -DBLOCKS=1 -DROUNDS=2 -DNO_SWEEP_IN_TAKE
 * caught: somebody waits         -DBLOCKS=1 -DROUNDS=1 -DNO_WAKE
 */
#define PARTIES 3
#define WRITER 0
#define READER(seat) (1 + (seat))
#define OTHER 2
#define ALONE 0 /* `gone` of sleep.inc: no more than one party is left */
#ifndef ROUNDS
#define ROUNDS 2
#endif

/* ---- shared memory ---- */

#define HELD(seat) (1 << (seat))
#define PROMISED(seat) (16 << (seat))
#define BITS(seat) (HELD(seat) | PROMISED(seat))
#define NOBODY 8 /* a bit of no party: only a faulty take uses it */
byte words[BLOCKS];
byte giver[6]; /* by block and seat of the reader; lab_pool_giver */
#define GIVER(block, to) giver[(block) * PARTIES + (to)]
byte parties_gone;
#ifndef POLLING
byte waiting;
#endif
byte contents[BLOCKS]; /* what was written there last, and is still of use */

chan to_reader[2] = [ROUNDS] of { byte, byte }; /* rings: block, contents */
bool ring_closed; /* the writer's hangup has passed there */

/* Of the parties of which nobody has said that they are gone no bit is left. */
#define IS_BACK(block) ((words[block] & ~(parties_gone | parties_gone << 4)) == 0)
#define IN_THE_END (IS_BACK(0) && IS_BACK(BLOCKS - 1))
#ifdef SHARE
#define READERS (HELD(READER(0)) | HELD(READER(1)))
#else
#define READERS HELD(READER(0))
#endif
#define ONE_IS_FREE (words[0] == 0 || words[BLOCKS - 1] == 0)

/* Of each party, and of the reaper. */
#define REAPER 3
byte at[4], look[4];

#include "sleep.inc"

/* lab_pool_wake; nothing where nobody sleeps. */
#ifdef POLLING
#define THEN_WAKE_TAKERS(who)
#else
#define THEN_WAKE_TAKERS(who) ; wake_takers(who)
inline wake_takers(who)
{
#ifndef NO_WAKE
    atomic { look[who] = waiting }
    if
    :: look[who] & HELD(WRITER) -> wake(WRITER)
    :: else
    fi;
    if
    :: look[who] & HELD(OTHER) -> wake(OTHER)
    :: else
    fi;
#endif
    look[who] = 0
}
#endif

/* sweep and lab_pool_settle: of each block that shows one of the `bits`, and of which `its` holds, they are taken out (take_out), with
 * which it may be free. */
inline sweep(who, bits, its)
{
    do
    :: atomic { at[who] < BLOCKS && (!(words[at[who]] & (bits)) || !(its)) -> at[who]++ }
    :: at[who] < BLOCKS && words[at[who]] & (bits) && (its) ->
        atomic { words[at[who]] = words[at[who]] & ~(bits); at[who]++ }
        THEN_WAKE_TAKERS(who)
    :: atomic { at[who] == BLOCKS -> at[who] = 0; break }
    od
}

/* lab_pool_hangup */
inline hangup(p)
{
    parties_gone = parties_gone | HELD(p);
    sweep(REAPER, BITS(p), true);
#ifndef POLLING
    waiting = waiting & ~HELD(p);
#endif
    gone[ALONE] = (parties_gone == 3 || parties_gone == 5 || parties_gone == 6 || parties_gone == 7)
    THEN_WAKE_TAKERS(REAPER);
    if
    :: atomic { p == WRITER -> ring_closed = true }
    :: p != WRITER
    fi
}
#include "fate.inc"

/* ---- taking ---- */

#define NONE 7

/* lab_pool_try: a look, and a swap. */
#ifdef STORE_INSTEAD_OF_SWAP
#define STILL_FREE(block) true
#else
#define STILL_FREE(block) (words[block] == 0)
#endif
#ifdef TAKEN_BEFORE_OWNED
#define TAKEN(me) NOBODY
#else
#define TAKEN(me) HELD(me)
#endif
inline try(me, block)
{
    if
    :: words[block] == 0 ->
        atomic {
            if
            :: STILL_FREE(block) -> words[block] = TAKEN(me); b = block; goto taken
            :: else
            fi
        }
    :: words[block]
    fi
}

/* lab_pool_take, lab_pool_take_late: b is the block; hung_up: everyone else is gone. */
inline take(me)
{
    do
    :: try(me, 0);
#if BLOCKS > 1
        try(me, 1);
#endif
#ifndef NO_SWEEP_IN_TAKE
        dead = parties_gone & ~HELD(me);
        if
        :: dead -> sweep(me, dead | dead << 4, true); dead = 0
        :: else
        fi;
#endif
#ifndef POLLING
        waiting = waiting | HELD(me);
#endif
        await(ONE_IS_FREE, me, ALONE);
#ifndef POLLING
        waiting = waiting & ~HELD(me);
#endif
        if
        :: hung_up[me] -> goto done
        :: else
        fi
    od;
taken:
    skip
#ifdef TAKEN_BEFORE_OWNED
    ;
    words[b] = HELD(me)
#endif
}

/* ---- giving back ---- */

/* lab_pool_give: who alone has it stores, of several the last one frees it. */
inline give(me)
{
    if
#ifndef GIVEN_FOR_ALL
    :: words[b] != HELD(me) && words[b] != PROMISED(me) -> atomic { words[b] = words[b] & ~BITS(me); b = NONE }
    :: words[b] == HELD(me) || words[b] == PROMISED(me) ->
#else
    :: true ->
#endif
        atomic { words[b] = 0; b = NONE }
    fi
    THEN_WAKE_TAKERS(me)
}

/* ---- the writer ---- */

/* lab_pool_note */
inline note(to)
{
    if
    :: GIVER(b, to) == WRITER + 1
    :: else -> GIVER(b, to) = WRITER + 1
    fi
}

/* lab_pool_pass; lab_pool_share, which is lab_pool_pass_late with `keep`. It passes only to who is not known to be gone. */
inline promise(readers)
{
#ifdef NOTED_AFTER_PROMISE
    words[b] = readers;
    note(READER(0))
#else
    note(READER(0));
#ifdef SHARE
    note(READER(1));
    atomic { words[b] = words[b] | readers }
#else
    words[b] = readers
#endif
#endif
}

proctype taker(byte me) MORTAL(me)
{
    byte b = NONE, rounds, dead;
    do
    :: atomic { rounds < (me == WRITER -> ROUNDS : 1) -> rounds++ }
        take(me);
        contents[b] = 10 * me + rounds;
        if
        :: atomic { me == OTHER -> assert(contents[b] == 10 * me + rounds); contents[b] = 0 }
        :: me == WRITER && parties_gone & READERS
        :: me == WRITER && !(parties_gone & READERS) ->
#ifdef SHARE
            promise(PROMISED(READER(0)) | PROMISED(READER(1)));
            to_reader[0] ! b, 10 * me + rounds;
            to_reader[1] ! b, 10 * me + rounds
#else
            promise(PROMISED(READER(0)));
            atomic { to_reader[0] ! b, 10 * me + rounds; b = NONE }
#endif
        fi;
        if
        :: b != NONE -> give(me)
        :: else
        fi
    :: atomic { else -> goto done }
    od;
done:
    ended[me] = true
}

/* ---- readers ---- */

/* lab_pool_settle */
#define SETTLE(me) sweep(me, PROMISED(me), GIVER(at[me], me) == WRITER + 1)

/* lab_pool_accept: who alone is promised it stores. */
inline accept(me)
{
    assert(words[b] & PROMISED(me));
    if
    :: words[b] == PROMISED(me) -> words[b] = HELD(me)
    :: else -> atomic { words[b] = (words[b] & ~PROMISED(me)) | HELD(me) }
    fi
}

proctype reader(byte seat) MORTAL(1 + seat)
{
    byte b = NONE, value;
    bool last;
    do
    :: to_reader[seat] ? b, value ->
        if
        :: accept(READER(seat))
        :: assert(words[b] & PROMISED(READER(seat))) /* it leaves that out */
        fi;
#ifdef GIVEN_BEFORE_READ
        at[READER(seat)] = b;
        give(READER(seat));
        atomic { assert(contents[at[READER(seat)]] == value); at[READER(seat)] = 0 }
#else
        atomic { assert(contents[b] == value); value = 0 }
        give(READER(seat))
#endif
#ifdef SETTLED_BEFORE_RECEIVED
    :: killed[WRITER] && !last -> last = true; SETTLE(READER(seat))
#endif
    :: ring_closed && empty(to_reader[seat]) -> break
    od;
    SETTLE(READER(seat));
    assert(!(words[0] & PROMISED(READER(seat))) && !(words[BLOCKS - 1] & PROMISED(READER(seat))));
    ended[READER(seat)] = true
}

init
{
    atomic {
        run taker(WRITER);
        run reader(0);
#ifdef SHARE
        run reader(1)
#else
        run taker(OTHER)
#endif
    }
}
