#!/bin/sh
# MPI unmasked: which way it goes on one host is told, and can be forced; a ring in a window of MPI's is a transport as any.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
enter_room

# holds FILTER: what jq makes of the result is true.
holds() { jq -e "$1" run.json >/dev/null || complain "does not hold: $1: $(jq -c '[.cells[] | select(.verdict | . == "failed" or . == "skipped" or . == "invalid") | {transport, options, reason, path}]' run.json)"; }

cat >mpi.yaml <<'Y'
# Which way does MPI go?
experiment: mpi
placement: any
cells:
  - {transport: mpi, mpi_path: [default, shm, cma, tcp]}
  - {transport: mpi, mpi_rndv: 1KiB, size: [64, 64KiB]}
  - {transport: mpi-shared, topology: [pair, star, ring], workers: 3, wait: yield}
  - {transport: mpi-rma}
  - {transport: mpi-rma, nodes: 2, workers: 0}
launches: 1
budget: 4s
Y
what='the ways of MPI'
"$IPCLAB" run mpi.yaml --db db --format json >run.json 2>err
code=$?
# One launch of each, and what else this machine does may spoil one (code 5): that is for the figures to say.
[ "$code" -eq 0 ] || [ "$code" -eq 5 ] || complain "exit code $code: $(cat err)"
holds '[.cells[] | select(.verdict == "failed" or .verdict == "skipped")] | length == 0'
holds '[.cells[] | .integrity | select(.sent < 1 or .sent != .received or .lost + .duplicated + .reordered + .corrupt > 0)] | length == 0'
holds '.cells | map(select(.options.mpi_path) | {(.options.mpi_path): .path.carrier}) | add
       | (.default | test("shared memory")) and .shm == "shared memory (posix)" and .cma == "shared memory (posix), cma" and (.tcp | test("^tcp"))'
holds '[.cells[] | select(.options.mpi_rndv) | {size_bytes, protocol: .path.protocol}] == [{size_bytes: 64, protocol: "eager"}, {size_bytes: 65536, protocol: "rendezvous"}]'
holds '[.cells[] | select(.transport == "mpi-shared") | .path.carrier] | all(. == null)'
holds '[.environment.warnings[] | select(.code == "carrier") | .text] | (map(select(startswith("mpi found its way"))) | length == 1) and length == (unique | length)'

echo "$failed failures"
[ "$failed" -eq 0 ]
