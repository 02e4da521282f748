#!/bin/sh
# `mpirun -n N ipclab run FILE` as it stands: rank 0 drives, each rank is a node, and only rank 0 prints.
: "${IPCLAB:?is the program to test}"
LC_ALL=C
export LC_ALL
mpirun=
for name in mpiexec.mpich mpirun.mpich mpiexec.hydra mpirun; do
    command -v "$name" >/dev/null 2>&1 && "$name" --version 2>&1 | grep -q HYDRA && { mpirun=$name; break; }
done
[ -n "$mpirun" ] || { echo 'skipped: MPICH is not installed (no mpirun with Hydra)'; exit 77; }
room=$(mktemp -d) || exit 1
trap 'rm -rf "$room"' EXIT
cd "$room" || exit 1
failed=0

complain()
{
    echo "$*"
    [ -s err ] && sed 's/^/    /' err | tail -n 5
    failed=$((failed + 1))
}

cat >talk.yaml <<'E'
experiment: talk
transport: [zmq-tcp, mpi]
topology: ring
nodes: 2
workers: 0
budget: 2s
launches: 2
E
cat >workers.yaml <<'E'
experiment: workers
transport: shm-ring
wait: futex
link: zmq-tcp
workers: 1
budget: 1s
launches: 2
E

# check NAME N FILTER: N ranks run NAME.yaml; the output is one JSON document for which the filter holds.
check()
{
    timeout 100 "$mpirun" -n "$2" "$IPCLAB" run "$1.yaml" --db db --format json >out 2>err
    code=$?
    [ "$code" -eq 0 ] || complain "$1, $2 ranks: exit code $code"
    [ "$(jq -s length out)" = 1 ] || complain "$1, $2 ranks: $(wc -c <out) bytes that are not one document"
    jq -e "$3" out >/dev/null || complain "$1, $2 ranks: does not hold: $3"
    grep -v ' UCX ' err >words && complain "$1, $2 ranks: something is said" && cat words
    "$IPCLAB" show --db db --format json | cmp -s - out || complain "$1, $2 ranks: the store shows another run"
}

# The world says how many nodes there are, whatever the file says.
for ranks in 3 4; do
    check talk "$ranks" "[.cells[] | select(.nodes == $ranks and .launches > 0 and .integrity.sent > 0)] | length == 2"
done
check workers 2 '[.cells[] | select(.nodes == 2 and .workers == 1 and .integrity.sent > 0)] | length == 1'

# What is wrong is said once, and not by every rank.
timeout 60 "$mpirun" -n 3 "$IPCLAB" run talk.yaml --transport nonsense --db db >out 2>err
code=$?
[ "$code" -ne 0 ] || complain 'a transport that does not exist is no error'
[ "$(grep -c nonsense err)" -eq 1 ] || complain 'the error is not said exactly once'

echo "$failed failures"
[ "$failed" -eq 0 ]
