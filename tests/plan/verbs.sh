#!/bin/sh
# The command line as a newcomer meets it: every verb has a help, every option of a help stands in the manual page, a slip is
# answered with the nearest known name, and every list is valid JSON. Nothing is run.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
: "${LAB_SOURCE:?is where docs/ipclab.1 is}"
enter_room

# expect CODE SENTENCE ARGUMENT...: that code, the sentence on standard error, and nothing on standard output.
expect()
{
    wanted=$1
    sentence=$2
    shift 2
    checked=$((checked + 1))
    timeout 20 "$IPCLAB" "$@" >out 2>err </dev/null
    code=$?
    [ "$code" -eq "$wanted" ] && [ "$(cat err)" = "$sentence" ] && [ ! -s out ] ||
        complain "ipclab $*: expected $wanted: $sentence
  got $code: $(cat err)"
}

# ---- help ----
"$IPCLAB" --help >help 2>err && [ ! -s err ] || complain "--help: $(cat err)"
for way in -h help; do
    "$IPCLAB" $way | cmp -s - help || complain "ipclab $way is not --help"
done
"$IPCLAB" >out 2>err && complain 'no verb is no error'
cmp -s err help && [ ! -s out ] || complain 'without a verb the help does not go to standard error'
sed 's/\\-/-/g' "$LAB_SOURCE/docs/ipclab.1" >manual
verbs=$(sed -n 's/^  \([a-z]*\) .*/\1/p' help)
[ "$(echo "$verbs" | wc -w)" -ge 7 ] || complain "only these verbs are in the help: $verbs"
for verb in $verbs; do
    checked=$((checked + 1))
    "$IPCLAB" "$verb" --help >"help.$verb" 2>err && [ ! -s err ] || complain "$verb --help: $(cat err)"
    head -n 1 "help.$verb" | grep -q "^Usage: ipclab $verb " || complain "$verb --help does not begin with its usage"
    "$IPCLAB" help "$verb" | cmp -s - "help.$verb" || complain "ipclab help $verb is not ipclab $verb --help"
    grep -q "$verb" manual || complain "the manual page does not know the verb $verb"
    for option in $(sed -n 's/^ *\(-[a-z], \)\{0,1\}--\([a-z-]*\).*/\2/p' "help.$verb"); do
        grep -q -e "--$option\>" manual || complain "the manual page does not know --$option of $verb"
    done
done
"$IPCLAB" --version | grep -Eqx 'ipclab [0-9]+\.[0-9]+\.[0-9]+' || complain '--version is not a version'

# Fixed by what scripts outside rely on.
for option in hosts nodes workers transport wait pattern topology size placement rate launches budget seed format output db lab quiet \
    verbose dry-run set; do
    for verb in run plan; do
        grep -q -e "--$option\>" "help.$verb" || complain "$verb has no --$option"
    done
done

# ---- slips ----
expect 2 "unknown verb 'rnu'; did you mean 'run'? (see: ipclab --help)" rnu
expect 2 "unknown verb 'frobnicate' (see: ipclab --help)" frobnicate
expect 2 "unknown option '--halp'; did you mean '--help'? (see: ipclab --help)" --halp
expect 2 "unknown verb 'pln'; did you mean 'plan'? (see: ipclab --help)" help pln
expect 2 "ipclab list takes one word: transports, patterns, topologies, workloads or waits" list
expect 2 "there is no list of 'transport'; did you mean 'transports'?" list transport
expect 2 "ipclab list prints as table or json, not as csv" list waits --format csv
expect 2 "ipclab history takes no operand, and there is 'x'" history x
expect 2 "ipclab clean takes no operand, and there is '/dev/shm'" clean /dev/shm
expect 2 "ipclab show takes one run, and there are 2" show a b
expect 2 "'a?b' is not the name of a run" show "$(printf 'a\033b')"
expect 2 "there is no store at $room/none: nothing was run yet" show --db "$room/none"
expect 2 "there is no store at $room/none: nothing was run yet" history --db "$room/none"
expect 2 "the store $room is a directory and not a file: name another with --db" history --db "$room"

# ---- lists ----
for list in transports patterns topologies workloads waits; do
    checked=$((checked + 1))
    "$IPCLAB" list "$list" --format json | jq -e 'length > 0 and all(.[]; .name | type == "string")' >/dev/null ||
        complain "list $list --format json is not a list of names"
    "$IPCLAB" list "$list" | head -n 1 | grep -q "^$(echo "$list" | sed 's/ies$/y/; s/s$//')" || complain "list $list has no heading"
done
"$IPCLAB" list transports --format json | jq -e 'all(.[]; (.usable | type == "boolean") and (.waits | length > 0) and
    (.message_max_bytes > 0) and (.usable or (.missing | type == "string")))' >/dev/null || complain 'a transport says too little of itself'

# What a list names can be asked for, whatever has been built in.
for axis in transport pattern topology wait; do
    case $axis in topology) list=topologies ;; *) list=${axis}s ;; esac
    for name in $("$IPCLAB" list $list --format json | jq -r '.[].name'); do
        checked=$((checked + 1))
        "$IPCLAB" plan --$axis "$name" >out 2>err || complain "plan --$axis $name: $(cat err)"
    done
done

# ---- a plan in every format: a cell that has not been run has neither failed nor any figure ----
printf 'transport: [pipe, shm-ring]\nwait: block\n' >small.yaml
for format in table json jsonl csv md; do
    checked=$((checked + 1))
    "$IPCLAB" plan small.yaml --format $format >"plan.$format" 2>err && [ ! -s err ] || complain "plan --format $format: $(cat err)"
    grep -q failed "plan.$format" && complain "plan --format $format says that something failed"
done
jq -e '.run.verdict == null and [.cells[].verdict] == [null, "skipped"]' plan.json >/dev/null ||
    complain "the verdicts of a plan: $(jq -c '[.run.verdict, .cells[].verdict]' plan.json)"
jq -e '.cells[0] | [.latency_ns, .throughput, .integrity, .cost, .states, .path] | all(.[]; type == "object" and
    ([to_entries[] | select(.key != "kind") | .value | if type == "object" then .[] else . end] | all(. == null)))' plan.json >/dev/null ||
    complain 'a planned cell has a figure'
jq -es 'length == 3 and .[0].kind == "run" and .[1].kind == "cell"' plan.jsonl >/dev/null || complain 'plan --format jsonl is not a line each'
[ "$(wc -l <plan.csv)" -eq 3 ] || complain 'plan --format csv is not a row each'
head -n 1 plan.md | grep -qx '```' && sed '1d;$d' plan.md | cmp -s - plan.table || complain 'plan --format md is not the table'

echo "$checked checks, $failed not as expected"
[ "$failed" -eq 0 ]
