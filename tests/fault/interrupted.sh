#!/bin/sh
# Ctrl-C and its kind, at any time: what was measured is printed and stored, the exit code is 128 + the signal, nothing is left.
: "${IPCLAB:?is the program to test}"
LC_ALL=C
export LC_ALL
room=$(mktemp -d) || exit 1
trap 'rm -rf "$room"' EXIT
cd "$room" || exit 1
failed=0
checked=0

complain()
{
    echo "$what: $*"
    [ -s err ] && sed 's/^/    /' err | tail -n 5
    failed=$((failed + 1))
}

await()
{
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ "$tries" -lt 1000 ] || { complain "waited in vain for: $*"; return 1; }
        sleep 0.01
    done
}

# shellcheck disable=SC2317
said() { grep -q "$1" err; }
marked() { grep -ls "IPCLAB_CREW=$launcher\." /proc/[0-9]*/environ 2>/dev/null; }
nobody_is_left() { [ -z "$(marked)" ]; }

# interrupt NAME NUMBER MOMENT ARGUMENT...: the signal, once that was said.
interrupt()
{
    name=$1
    number=$2
    moment=$3
    shift 3
    what="SIG$name once '$moment', $*"
    checked=$((checked + 1))
    rm -f db* out
    : >err
    # A shell starts its background jobs with SIGINT ignored, which is inherited: `env` undoes that.
    env --default-signal=INT "$IPCLAB" run -v --db db "$@" >out 2>err &
    launcher=$!
    if ! await said "$moment"; then
        kill -KILL "$launcher"
        return
    fi
    kill "-$name" "$launcher"
    wait "$launcher"
    code=$?
    [ "$code" -eq $((128 + number)) ] || complain "exit code $code"
    grep -q "interrupted by SIG$name" err || complain "it does not say that it was interrupted"
    await nobody_is_left || complain "still there: $(marked)"
}

cat >pair.yaml <<'E'
transport: [shm-ring, pipe, zmq-ipc]
workers: 2
budget: 60s
E
cat >talk.yaml <<'E'
transport: [zmq-tcp, mpi]
nodes: 2
workers: 0
budget: 60s
E

for moment in 'nodes are started' 'HELLO' 'first launch is done'; do
    interrupt INT 2 "$moment" pair.yaml
    interrupt TERM 15 "$moment" talk.yaml
done
interrupt HUP 1 'first launch is done' pair.yaml

# What had been measured is printed, says that it was cut short, and is in the store.
what='the output of an interrupted run'
interrupt INT 2 'first launch is done' --format json -o result.json pair.yaml
[ "$(jq -r .run.ended_by result.json)" = interrupted ] || complain "ended_by is $(jq -c .run.ended_by result.json)"
[ "$(jq '[.cells[].launches] | add' result.json)" -gt 0 ] || complain 'no launch was kept'
"$IPCLAB" show --db db --format json >shown.json
cmp -s result.json shown.json || complain 'the store shows something else'
"$IPCLAB" show --db db >shown.txt
grep -q 'was interrupted' shown.txt || complain 'the table does not say that the run was interrupted'

echo "$checked runs interrupted, $failed failures"
[ "$failed" -eq 0 ]
