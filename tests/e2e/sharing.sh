#!/bin/sh
# Parties that share one channel: whatever their number and however they wait, all that was sent has arrived, once at one of them, or once
# at every one.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
enter_room

holds() { jq -e "$1" run.json >/dev/null || complain "does not hold: $1"; }

# share WHAT CELLS: with these axes, and those that all have in common, so many cells run, each of them whole; what is skipped takes fewer
# parties.
share()
{
    what=$1
    checked=$((checked + 1))
    cat - common.yaml >sharing.yaml
    "$IPCLAB" run -q --db db --format json sharing.yaml >run.json 2>err || complain "exit code $?"
    holds "[.cells[] | select(.verdict != \"skipped\")] | length == $2"
    holds '[.cells[] | select(.verdict != "skipped") | .integrity | select(.sent < 1 or .sent != .received or .lost + .duplicated + .reordered + .corrupt > 0)] | length == 0'
    holds '[.cells[] | select(.verdict == "skipped") | .reason | select(test("one (sender|receiver)|somebody in the middle") | not)] | length == 0'
    holds '[.cells[] | select(.verdict == "invalid" or .verdict == "failed")] | length == 0'
    jq -c '.cells[] | select(.verdict == "invalid" or .verdict == "failed") | {transport, pattern, topology, wait, workers, reason}' run.json
}

cat >common.yaml <<'E'
topology: [pairs, star]
workers: [2, 6]
batch: [1, 7]
size: 24
placement: any
launches: 1
budget: 2s
E

share 'many share a queue' 60 <<'E'
transport: shm-queue
pattern: [producer-consumer, fan-in, fan-out]
wait: [yield, adaptive, futex]
E

share 'many share a bounded buffer' 40 <<'E'
transport: [shm-monitor, shm-semaphore]
pattern: [producer-consumer, fan-in, fan-out]
E

share 'one tells many' 18 <<'E'
transport: shm-broadcast
pattern: broadcast
wait: [yield, adaptive, futex]
E

share 'sockets of ZeroMQ between one and many' 48 <<'E'
transport: [zmq-ipc, zmq-tcp]
pattern: [producer-consumer, fan-in, fan-out, broadcast]
E

share 'sockets of ZeroMQ between threads' 24 <<'E'
transport: zmq-inproc
unit: thread
pattern: [producer-consumer, fan-in, fan-out, broadcast]
E

echo "$checked experiments, $failed failed"
[ "$failed" -eq 0 ]
