#!/bin/sh
# Parties that share one channel: whatever their number and however they wait, all that was sent has arrived, and nothing twice.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
enter_room

cat >sharing.yaml <<'E'
transport: shm-queue
pattern: [producer-consumer, fan-in, fan-out]
topology: [pairs, star]
workers: [2, 6]
wait: [yield, adaptive, futex]
batch: [1, 7]
size: 24
placement: any
launches: 1
budget: 2s
E
what='many share a queue'
checked=1
"$IPCLAB" run -q --db db --format json sharing.yaml >run.json 2>err || complain "exit code $?"
holds() { jq -e "$1" run.json >/dev/null || complain "does not hold: $1"; }
holds '[.cells[] | select(.verdict != "skipped")] | length == 60'
holds '[.cells[] | select(.verdict != "skipped") | .integrity | select(.sent < 1 or .sent != .received or .lost + .duplicated + .reordered + .corrupt > 0)] | length == 0'
holds '[.cells[] | select(.verdict == "skipped") | .reason | select(test("one (sender|receiver)") | not)] | length == 0'
holds '[.cells[] | select(.verdict == "invalid" or .verdict == "failed")] | length == 0'
jq -c '[.cells[] | select(.verdict == "invalid" or .verdict == "failed") | {pattern, topology, wait, workers, reason}]' run.json

echo "$checked experiment, $failed failed"
[ "$failed" -eq 0 ]
