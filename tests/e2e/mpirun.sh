#!/bin/sh
# `mpirun -n N ipclab run FILE` as it stands: rank 0 drives, each rank is a node, only rank 0 speaks, and however the run ends
# mpirun ends with it, with the right exit code and nothing left.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
mpirun=
for name in mpiexec.mpich mpirun.mpich mpiexec.hydra mpirun; do
    command -v "$name" >/dev/null 2>&1 && "$name" --version 2>&1 | grep -q HYDRA && { mpirun=$name; break; }
done
[ -n "$mpirun" ] || { echo 'skipped: MPICH is not installed (no mpirun with Hydra)'; exit 77; }
with_shm_of_our_own "$0"
# Whatever descends from this test is known by this.
LAB_TEST_MPIRUN=$$
export LAB_TEST_MPIRUN
enter_room

# The processes of this test whose command line matches, in no order.
ours()
{
    for process in $(grep -ls "LAB_TEST_MPIRUN=$$" /proc/[0-9]*/environ 2>/dev/null); do
        process=${process%/environ}
        tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -Eq "$1" && echo "${process#/proc/}"
    done 2>/dev/null
}
left() { ours '^[^ ]*(ipclab|ipclab-node|ipclab-worker|hydra_pmi_proxy|mpiexec[.a-z]*|mpirun[.a-z]*) '; }
# shellcheck disable=SC2317
nobody_is_left() { [ -z "$(left)" ]; }
parent() { sed -n 's/^PPid:[[:blank:]]*//p' "/proc/$1/status" 2>/dev/null; }
of_rank() { tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | grep -qx "PMI_RANK=$2"; }
# Of a rank the process that stays is the child of a proxy. It leaves another of the same name, which sweeps up in the end, and has no output.
rank()
{
    for victim in $(ours '^[^ ]*/ipclab run '); do
        [ -e "/proc/$victim/fd/1" ] && of_rank "$victim" "$1" && grep -qsx hydra_pmi_proxy "/proc/$(parent "$victim")/comm" && return 0
    done
    return 1
}
launcher()
{
    for victim in $(ours '^[^ ]*/ipclab run '); do
        grep -qsx ipclab "/proc/$(parent "$victim")/comm" && [ -e "/proc/$victim/fd/1" ] && return 0
    done
    return 1
}
# node RANK
node()
{
    for victim in $(ours '^[^ ]*ipclab-node '); do
        of_rank "$victim" "$1" && return 0
    done
    return 1
}
proxy() { victim=$(ours '^[^ ]*hydra_pmi_proxy ' | head -n 1); [ -n "$victim" ]; }
worker() { victim=$(ours '^[^ ]*ipclab-worker' | tail -n 1); [ -n "$victim" ]; }

begin()
{
    what=$1
    ranks=$2
    shift 2
    in_background "$mpirun" -n "$ranks" "$IPCLAB" run --db db "$@"
    waiting=$background
    # Should it never end by itself, it is ended: the exit code tells.
    timeout 60 tail -f --pid="$waiting" /dev/null || kill -KILL "$waiting" &
}

# finish: until it has ended; nothing may be left of it.
finish()
{
    wait "$waiting"
    code=$?
    await nobody_is_left || complain "still there: $(for process in $(left); do tr '\0' ' ' <"/proc/$process/cmdline"; done)"
    if [ -n "$LAB_OWN_SHM" ] && [ -n "$(ls -A /dev/shm)" ]; then
        complain "left in /dev/shm: $(ls -A /dev/shm)"
        rm -rf /dev/shm/*
    fi
}

# ends CODE...: it ended with one of these exit codes.
ends()
{
    finish
    for wanted in "$@"; do
        [ "$code" -ne "$wanted" ] || return 0
    done
    complain "exit code $code, not $*"
}

speaks_once()
{
    [ "$(grep -c "$1" err)" -eq 1 ] || complain "'$1' is not said exactly once"
    [ "$(wc -l <err)" -eq 1 ] || complain 'more is said than that'
}

cat >talk.yaml <<'E'
experiment: talk
transport: [zmq-tcp, mpi]
topology: ring
nodes: 2
workers: 0
budget: 1s
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

# ---- what is run ----
# check NAME RANKS FILTER: the output is one JSON document for which the filter holds.
check()
{
    begin "$1, $2 ranks" "$2" "$1.yaml" --format json
    ends 0
    [ "$(jq -s length out)" = 1 ] || complain "$(wc -c <out) bytes that are not one document"
    jq -e "$3" out >/dev/null || complain "does not hold: $3: $(jq -c '[.cells[] | [.transport, .verdict, .launches, .reason]]' out)"
    [ ! -s err ] || complain 'something is said'
    "$IPCLAB" show --db db --format json | cmp -s - out || complain 'the store shows another run'
}

# The world says how many nodes there are, whatever the file says. Three on two cpus cannot be kept apart: they run all the same.
sound='.launches > 0 and .integrity.sent > 0 and .integrity.lost == 0 and .integrity.corrupt == 0'
check talk 3 "[.cells[] | select(.nodes == 3 and $sound)] | length == 2"
check talk 4 "[.cells[] | select(.nodes == 4 and $sound)] | length == 2"
sed 's/ring/mesh/' talk.yaml >mesh.yaml
check mesh 4 "[.cells[] | select(.nodes == 4 and .topology == \"mesh\" and $sound)] | length == 2"
check workers 2 "[.cells[] | select(.nodes == 2 and .workers == 1 and $sound)] | length == 1"

# ---- over several hosts, which are this one under two addresses, in a network of its own ----
# shellcheck disable=SC2016
stand_in_for_ssh 'exec sh -c "$*"' # which stays here
cat >apart <<'E'
#!/bin/sh
exec unshare --net sh -c 'ip link set lo up && ip link add lab0 type veth peer name lab1 && ip addr add 10.78.0.1/24 dev lab0 &&
    ip link set lab1 up && ip link set lab0 up && exec "$@"' sh \
    "$HYDRA" -launcher ssh -launcher-exec "$PWD/path/ssh" -hosts 127.0.0.1:1,127.0.0.2:2 "$@"
E
chmod +x apart
if unshare --net sh -c 'ip link set lo up && ip link add lab0 type veth peer name lab1' 2>/dev/null; then
    HYDRA=$mpirun
    export HYDRA
    mpirun=./apart
    apart="select(.scope == \"remote\" and .nodes == 3 and $sound)"
    check talk 3 "[.cells[] | $apart] | length == 2"
    check workers 3 "[.cells[] | $apart] | length == 1"
    mpirun=$HYDRA
else
    echo 'not tried: several hosts (that takes root and ip)'
fi

# ---- what is not run ----
begin 'a transport that there is not' 3 talk.yaml --transport nonsense
ends 2
speaks_once nonsense
begin 'an option that there is not' 3 talk.yaml --nonsense
ends 2
speaks_once nonsense
begin 'a file that there is not' 3 missing.yaml
ends 2
speaks_once missing.yaml
begin 'a store that cannot be' 3 talk.yaml --db missing/db
ends 4
speaks_once missing/db
begin 'a plan without a cell to run' 3 --transport pipe talk.yaml --format json
ends 77
[ "$(jq -c '[.cells[].verdict]' out)" = '["skipped"]' ] || complain 'what is skipped is not printed once'
begin 'a dry run' 3 --dry-run talk.yaml
ends 0
[ "$(grep -c '^pingpong, ring, 3 nodes' out)" -eq 1 ] || complain 'the plan for three nodes is not printed once'
begin 'help' 3 --help
ends 0
[ "$(grep -c '^Usage' out)" -eq 1 ] || complain 'help is not printed once'

# ---- what is cut short ----
# ends_for REASON: the launcher ended the run for that, said so once, and exits by what it has.
ends_for()
{
    finish
    [ "$(grep -Ec "^ipclab: $1" err)" -eq 1 ] || complain "'$1' is not said exactly once"
    if [ "$(kept)" -gt 0 ]; then wanted=5; elif [ "$(grep -c 'HELLO$' err)" -eq "$ranks" ]; then wanted=1; else wanted=4; fi
    [ "$code" -eq "$wanted" ] || complain "exit code $code, not $wanted, with $(kept) launches kept"
}

for moment in 'nodes are started' 'first launch is done'; do
    begin "Ctrl-C once '$moment'" 3 -v talk.yaml --budget 60s
    await said "$moment" && kill -INT "$waiting"
    ends 130
    said 'interrupted by SIGINT' || complain 'it does not say that it was interrupted'

    begin "the launcher is ended once '$moment'" 3 -v talk.yaml --budget 60s
    await said "$moment" && await launcher && kill -TERM "$victim"
    ends 143

    begin "the launcher is killed once '$moment'" 3 -v talk.yaml --budget 60s
    await said "$moment" && await launcher && kill -KILL "$victim"
    finish
    said '^ipclab: the launcher, rank 0 (process [0-9]*), ended by signal 9 (SIGKILL)$' || complain 'it does not say who ended'
    if [ "$(kept)" -gt 0 ]; then wanted=5; else wanted=1; fi
    [ "$code" -eq "$wanted" ] || complain "exit code $code, not $wanted, with $(kept) launches kept"
    "$IPCLAB" show --db db --format json | jq -e '.run.ended_by == "failed"' >/dev/null || complain 'the store does not show a run that failed'

    for number in 0 2; do
        begin "the node of rank $number is killed once '$moment'" 3 -v talk.yaml --budget 60s
        await said "$moment" && await node "$number" && kill -KILL "$victim"
        ends_for "node $number on this host ended by signal 9 \(SIGKILL\)"
    done
done

# A rank itself is Hydra's: its own end of a rank that was killed, or 255 when its proxy was just answering that rank. It says which.
for number in 0 2; do
    begin "rank $number itself is killed" 3 -v talk.yaml --budget 60s
    await said 'first launch is done' && await rank "$number" && kill -KILL "$victim"
    ends 9 255
    "$IPCLAB" show --db db >show.out 2>&1 && grep -q unfinished show.out || complain 'the store does not show an unfinished run'
done
begin 'the proxy is killed' 3 -v talk.yaml --budget 60s
await said 'first launch is done' && await proxy && kill -KILL "$victim"
ends 255
"$IPCLAB" show --db db --format json | jq -e '.run.failure | test("^hydra_pmi_proxy .* has ended$")' >/dev/null || complain 'the store does not say why'

begin 'a worker is killed' 2 -v workers.yaml --budget 60s
await said 'first launch is done' && await worker && kill -KILL "$victim"
ends_for 'worker [01] .* ended by signal 9'

echo "$checked runs, $failed failures${LAB_OWN_SHM:+, /dev/shm watched}"
[ "$failed" -eq 0 ]
