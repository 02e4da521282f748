#!/bin/sh
# A thousand workers are started, meet in a barrier and are gone; each has less than three megabytes of memory to itself.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
enter_room
# shellcheck disable=SC3045 # dash and bash both have -H
[ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -ge 8192 ] || { echo "skipped: a thousand workers take 8192 descriptors, and $(ulimit -Hn) are allowed"; exit 77; }

holds() { jq -e "$1" run.json >/dev/null || complain "does not hold: $1: $(jq -c '[.cells[] | {verdict, reason, startup}]' run.json)"; }

cat >thousand.yaml <<'Y'
# Can a thousand meet?
experiment: thousand
transport: shm-ring
wait: futex
pattern: barrier
topology: tree
workers: 1000
placement: any
launches: 1
budget: 1s
Y
what='a thousand workers'
"$IPCLAB" run thousand.yaml --db db --format json >run.json 2>err &
launcher=$!
wait "$launcher"
code=$?
[ "$code" -eq 0 ] || complain "exit code $code"
holds '.cells[0] | .verdict != "failed" and .verdict != "invalid"'
holds '.cells[0].integrity | .sent >= 2 * 999 and .sent == .received and .lost + .duplicated + .reordered + .corrupt == 0'
holds '.cells[0].startup | .ready_ns > 0 and .private_bytes_per_worker > 0'
# A sanitizer's shadow is memory too.
nm -D "$LAB_BIN/ipclab-worker" 2>/dev/null | grep -q '__[at]san_init' || holds '.cells[0].startup.private_bytes_per_worker < 3 * 1048576'
await nobody_is_left

echo "$failed failures"
[ "$failed" -eq 0 ]
