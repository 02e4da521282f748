#!/bin/sh
# Searches a Promela model completely (Spin), and its seeded faults: `sh tests/model.sh tests/model/ring.pml`.
#
# The model's opening comment says which variants there are, one a line:
#
#     holds:  at least 2000 states   -DMARKED -DWINDOW=2    no error, nobody waits for ever, and every execution ends
#     caught: damage                 -DPUBLISH_BEFORE_WRITE the search must find an assertion that does not hold,
#     caught: somebody waits         -DNO_FENCE             or an execution at whose end somebody waits for ever
#
# Every line has to be reached in one of the variants that hold. A search that ran out of depth or memory proves nothing and fails.
set -u
model=$(realpath "${1:?is the model}")
what=$(basename "$model" .pml)
command -v spin >/dev/null || { echo 'skipped: Spin is not installed (Debian: spin)'; exit 77; }
compiler=${LAB_CC:-cc}

room=$(mktemp -d) || exit 1
trap 'rm -rf "$room"' EXIT
trap 'exit 130' INT TERM
cd "$room" || exit 1
# A model that Spin itself cannot digest would take all memory there is.
# shellcheck disable=SC3045
ulimit -v 4000000
failed=0
variants=0
DEPTH=1000000

complain()
{
    echo "$what $options: $*"
    grep -v '^$' out | tail -n 6 | sed 's/^/    /'
    failed=$((failed + 1))
}

# search KIND FLAG: builds the verifier for it with the compiler's flag and runs it; its output is in `out`. The models are small: no reduction whose conditions one
# would have to trust, no hashing that may leave states out, no state forgotten.
search()
{
    # shellcheck disable=SC2086
    spin -a $options "$model" >out 2>&1 && "$compiler" $2 -w -DNOREDUCE -DMEMLIM=512 "-D$1" -o pan pan.c >out 2>&1 || return 1
    case $1 in
        SAFETY) ./pan -E -w20 -m$DEPTH >out 2>&1 ;;
        NP) ./pan -E -l -m$DEPTH >out 2>&1 ;;
    esac
    # What pan returns when it has found an error is what it returns when it has not.
    grep -q '^State-vector' out
}

whole() { ! grep -qE 'max search depth too small|out of memory|Search not completed' out; }
states() { sed -n 's/^ *\([0-9][0-9]*\) states, stored.*/\1/p' out; }
seconds() { sed -n 's/^pan: elapsed time \([0-9.]*\) seconds/\1/p' out; }

# Lines of which something was not reached, but the end of a process that goes on for ever.
unreached() { sed -n '/"-end-"/d; s/^[[:space:]]\{1,\}.*\/\([^/]*:[0-9]*\), state .*/\1/p' out | sort -u; }

# Keeps in `never` what was reached in no variant yet.
note_unreached()
{
    unreached >lines
    if [ -e never ]; then
        comm -12 never lines >both && mv both never
    else
        mv lines never
    fi
}

# The search for executions that do not end looks at every state, and so finds whatever the other one does.
must_hold()
{
    search NP -Og || { complain 'is not to be searched'; return; }
    grep -q 'errors: 0' out || { complain 'does not hold'; return; }
    whole || { complain 'was not searched completely'; return; }
    found=$(states)
    [ "$found" -ge "$least" ] || complain "has $found states, fewer than $least: what it was to look at is not there"
    note_unreached
    echo "$what $options: holds in all of $found states, and every execution ends ($(seconds) s)"
}

# The compiler takes longer than such a search.
must_be_caught()
{
    search SAFETY -O0 || { complain 'is not to be searched'; return; }
    case $(grep '^pan:1: ' out) in
        '') seen= ;;
        *'(killed[0]||ended[0])'*) seen='somebody waits' ;;
        *assertion*) seen=damage ;;
        *) seen='something else' ;;
    esac
    if [ "$seen" = "$how" ]; then
        echo "$what $options: caught ($how)"
    else
        complain "has a fault that was not caught ($how)"
    fi
}

while read -r verdict line; do
    options=$(echo "$line" | sed -n 's/^[^-]*\(-D.*\)/\1/p')
    how=$(echo "$line" | sed 's/ *-D.*//; s/ *$//')
    case $verdict in
        holds:) least=$(echo "$how" | tr -dc 0-9); must_hold ;;
        caught:) must_be_caught ;;
    esac
    variants=$((variants + 1))
done <<LIST
$(sed -n '/\*\//q; s/^ \* \(holds:\|caught:\)/\1/p' "$model")
LIST
if [ -s never ]; then
    echo "$what: no variant reaches these lines:"
    cat never
    failed=$((failed + 1))
fi
[ "$variants" -gt 1 ] || { echo "$what: says neither what holds nor what is caught"; exit 1; }
echo "$what: $variants variants, $failed wrong"
exit "$failed"
