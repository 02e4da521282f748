#!/bin/sh
# Ctrl-C and its kind, at any time: what was measured is printed and stored, the exit code is 128 + the signal, nothing is left.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
enter_room

# interrupt NAME NUMBER MOMENT ARGUMENT...: the signal, once that was said.
interrupt()
{
    name=$1
    number=$2
    moment=$3
    shift 3
    what="SIG$name once '$moment', $*"
    in_background "$IPCLAB" run -v --db db "$@"
    launcher=$background
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
