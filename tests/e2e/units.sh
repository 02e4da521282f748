#!/bin/sh
# What a party is: every unit over what it can wait by, alone and in crowds, measures soundly; the kernel sees the switches of processes
# and threads, and none of fibers.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
enter_room

# holds FILTER: what jq makes of the result is true.
holds() { jq -e "$1" run.json >/dev/null || complain "does not hold: $1: $failures"; }

cat >units.yaml <<'Y'
# Does it matter what a party is?
experiment: units
cells:
  - {transport: shm-ring, wait: yield, unit: [process, thread, fiber], pattern: [pingpong, stream]}
  - {transport: shm-ring, wait: futex, unit: [process, thread]}
  - {transport: pipe, unit: [process, thread, fiber]}
  - {transport: zmq-ipc, unit: [process, thread]}
  - {transport: shm-ring, wait: yield, unit: [process, thread, fiber], topology: [pairs, ring], workers: 64, placement: same-core}
  - {transport: shm-ring, wait: yield, unit: [process, thread, fiber], topology: [star, tree], pattern: barrier, workers: 64, placement: same-core}
  - {transport: shm-queue, wait: yield, unit: [process, thread, fiber], pattern: producer-consumer, workers: 6, placement: same-core}
  - {transport: shm-ring, wait: yield, unit: [thread, fiber], nodes: 2, workers: 4}
launches: 1
budget: 4s
Y
what='every unit'
"$IPCLAB" run units.yaml --db db --format json >run.json 2>err
code=$?
failures=$(jq -c '[.cells[] | select(.verdict == "failed") | {transport, unit, topology, workers, reason}]' run.json)
# One launch of each, and what else this machine does may spoil one (code 5): that is for the figures to say.
[ "$code" -eq 0 ] || [ "$code" -eq 5 ] || complain "exit code $code: $failures"
holds '[.cells[] | select(.verdict == "failed")] | length == 0'
holds '[.cells[] | select(.verdict == "skipped")] | length == 1 and .[0].reason == "a blocking call would stop all fibers, and pipe waits by block"'
holds '[.cells[] | select(.verdict != "skipped") | .integrity | select(.sent < 1 or .sent != .received or .lost + .duplicated + .reordered + .corrupt > 0)] | length == 0'
holds '[.cells[] | select(.verdict != "skipped" and .verdict != "invalid") | .startup | select((.ready_ns > 0 and .private_bytes_per_worker > 0) | not)] | length == 0'
holds '[.cells[] | select(.unit == "fiber" and .nodes == 1 and (.verdict | . == "ok" or . == "noisy" or . == "transient")) | .cost.fiber_switches_per_message] | length > 0 and all(. > 0)'
holds '[.cells[] | select(.unit != "fiber") | .cost.fiber_switches_per_message | select(. != null)] | length == 0'
# Two parties on one cpu: a message is a switch, which the kernel makes for all but fibers.
holds '[.cells[] | select(.pattern == "pingpong" and .topology == "pairs") | {(.unit): .cost.context_switches_per_message}] | add | .fiber < .thread and .fiber < .process'

echo "$failed failures"
[ "$failed" -eq 0 ]
