#!/bin/sh
# Three virtual hosts on this machine, from up to down: each is a host of its own, nodes and workers on them exchange messages in every
# topology over ZeroMQ and MPI, all that was sent arrives and went over the bridge, and nothing is left.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
with_hosts_of_our_own "$0"
enter_room

# check COMMAND...: it succeeds.
check()
{
    checked=$((checked + 1))
    "$@" >out 2>err || complain "fails: $* $(head -n 3 out)"
}

# says TEXT COMMAND...: it succeeds and prints exactly that.
says()
{
    text=$1
    shift
    checked=$((checked + 1))
    said=$("$@" 2>err) && [ "$said" = "$text" ] || complain "'$*' prints '$said', not '$text'"
}

# exits CODE SENTENCE COMMAND...
exits()
{
    wanted=$1
    sentence=$2
    shift 2
    checked=$((checked + 1))
    "$@" >out 2>err
    code=$?
    [ "$code" -eq "$wanted" ] && { [ -z "$sentence" ] || grep -qF "$sentence" out err; } || complain "'$*' exits with $code, not $wanted, or does not say '$sentence'"
}

on() { "$IPCLAB" lab exec "$@"; }

# ---- nobody there ----
what='without hosts'
says 'no virtual hosts are up' "$IPCLAB" lab status
exits 4 'no virtual hosts are up: sudo ipclab lab up' "$IPCLAB" run --lab --transport zmq-tcp --nodes 2 --db db
exits 4 'no virtual hosts are up' on lab1 -- true
exits 2 '1 to 64 are possible' "$IPCLAB" lab up 65
if command -v setpriv >/dev/null; then
    exits 4 'needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN): sudo ipclab lab up 3' setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "$IPCLAB" lab up 3
fi

# ---- three hosts ----
what='lab up 3'
check "$IPCLAB" lab up 3
exits 0 '3 virtual hosts are up already' "$IPCLAB" lab up 3
exits 4 '3 virtual hosts are up already' "$IPCLAB" lab up 2
checked=$((checked + 1))
[ "$("$IPCLAB" lab status | grep -c '^lab[123] *10\.77\.0\.[123] .* 0 B of 256 MiB .* up$')" -eq 3 ] || complain "the status is: $("$IPCLAB" lab status)"

# ---- each is a host of its own ----
what='a host'
for number in 1 2 3; do
    says "lab$number" on "lab$number" -- hostname
    says "lab$number" on "10.77.0.$number" hostname
    says 'eth0 lo' on "lab$number" -- sh -c 'echo $(ls /sys/class/net)'
    says "10.77.0.$number" on "lab$number" -- sh -c "getent ahostsv4 lab$number | sed -n 's/ .*STREAM.*//p'"
done
for space in net ipc mnt uts pid; do
    checked=$((checked + 1))
    here=$(readlink /proc/self/ns/$space)
    there=$(on lab1 -- sh -c "readlink /proc/self/ns/$space") && [ "$there" != "$here" ] && [ "$there" != "$(on lab2 -- readlink /proc/self/ns/$space)" ] ||
        complain "its $space namespace is also another's"
done
what='/dev/shm of a host'
check on lab1 -- sh -c 'echo something >/dev/shm/x'
says '' on lab2 -- ls -A /dev/shm
says '' ls -A /dev/shm
check on lab1 -- rm /dev/shm/x
what='a command in a host'
exits 7 '' on lab1 -- sh -c 'exit 7'
exits 137 '' on lab1 -- sh -c 'kill -KILL $$'
exits 127 'cannot execute' on lab1 -- no-such-program
exits 4 "'lab9' is no virtual host; there are lab1" on lab9 -- true
says "$room" on lab1 -- pwd
check on lab1 -- sh -c 'test "$(echo /proc/[0-9]*)" != "" && test "$(cat /proc/1/comm)" = lab1 && ! test -e /run/ipclab/lab'

# ---- messages between them ----
bytes_over() { cat /sys/class/net/ipclab-lab*/statistics/rx_bytes | awk '{ sum += $1 } END { printf "%d\n", sum }'; }

# run NAME CELLS LEAST-BYTES-PER-MESSAGE: the experiment has so many cells, all measured, whole, and their messages moved over the bridge.
run()
{
    what=$1
    checked=$((checked + 1))
    before=$(bytes_over)
    "$IPCLAB" run --lab --placement any --db db --format json "$1.yaml" >run.json 2>err
    code=$?
    over=$(($(bytes_over) - before))
    [ "$code" -eq 0 ] || complain "exit code $code $(jq -c '[.cells[] | select(.reason) | {topology, transport, pattern, reason}]' run.json)"
    jq -e "[.cells[] | select(.launches > 0 and .integrity.sent > 0 and .integrity.sent == .integrity.received and
        .integrity.lost + .integrity.duplicated + .integrity.reordered + .integrity.corrupt == 0)] | length == $2" run.json >/dev/null ||
        complain "not every cell is whole: $(jq -c '[.cells[] | [.topology, .transport, .pattern, .verdict, .launches, .integrity]]' run.json)"
    jq -e '[.cells[] | select(.launches > 0) | .path.proof == "over-interface" and .path.interface_bytes >= .path.payload_bytes] | all' run.json >/dev/null ||
        complain "the interfaces prove something else: $(jq -c '[.cells[] | [.topology, .transport, .verdict, .reason, .path]]' run.json)"
    jq -e '[.environment.hosts[].name] == ["lab1", "lab2", "lab3"] and ([.cells[] | select(.scope != "remote")] | length == 0)' run.json >/dev/null ||
        complain "it did not run on three hosts: $(jq -c '[.environment.hosts[].name]' run.json)"
    sent=$(jq '[.cells[].integrity.sent] | add' run.json)
    [ "$over" -gt $((sent * $3)) ] || complain "$sent messages were sent, and $over bytes moved over the bridge"
    "$IPCLAB" show --db db --format json | cmp -s - run.json || complain 'the store shows another run'
    for host in lab1 lab2 lab3; do
        [ "$(on "$host" -- sh -c 'ls -A /dev/shm; cat /proc/[0-9]*/comm | grep ipclab')" = '' ] || complain "left on $host: $(on "$host" -- sh -c 'ls -A /dev/shm; cat /proc/[0-9]*/comm')"
    done
}

# The nodes themselves talk. Small messages are bundled by what carries them: each is at least its body.
cat >talk.yaml <<'E'
experiment: talk
transport: [zmq-tcp, mpi, tcp]
pattern: [pingpong, stream]
topology: [star, ring, mesh]
nodes: 3
workers: 0
size: 256
launches: 1
budget: 9s
E
run talk 18 256

# worker, shared memory, node, link, node, shared memory, worker
cat >relay.yaml <<'E'
experiment: relay
transport: shm-ring
wait: futex
link: [zmq-tcp, mpi, tcp]
pattern: [pingpong, stream]
topology: [star, ring, mesh]
nodes: 3
workers: 1
size: 256
launches: 1
budget: 9s
E
run relay 18 256

# Two workers on each host, of which one has a neighbour elsewhere: neighbours of one host may send each other more. Large messages travel
# in pieces.
cat >many.yaml <<'E'
experiment: many
transport: [shm-ring, pipe]
wait: [futex, block]
link: [zmq-tcp, mpi]
pattern: stream
topology: ring
nodes: 3
workers: 2
window: 4
size: 64KiB
launches: 1
budget: 4s
E
run many 4 1024

cat >pair.yaml <<'E'
experiment: pair
nodes: 2
topology: pair
pattern: [pingpong, stream]
cells:
  - {transport: [zmq-tcp, mpi], workers: 0}
  - {transport: shm-ring, workers: 1, link: [zmq-tcp, mpi], wait: futex}
launches: 1
budget: 4s
E
what=pair
checked=$((checked + 1))
"$IPCLAB" run --lab --placement any --db db --format json pair.yaml >run.json 2>err || complain "exit code $?"
jq -e '[.cells[] | select(.launches > 0 and .integrity.sent > 0 and .integrity.sent == .integrity.received)] | length == 8' run.json >/dev/null ||
    complain "not every cell is whole: $(jq -c '[.cells[] | [.transport, .pattern, .verdict, .reason, .integrity]]' run.json)"

# ---- the same hosts from a list of hosts, over what stands for ssh ----
what='--hosts'
# shellcheck disable=SC2016
stand_in_for_ssh 'exec "${IPCLAB%/*}/ipclab-lab-ssh" "$host" "$@"'
printf '10.77.0.1\n10.77.0.2:2 # two nodes\n' >hosts
checked=$((checked + 1))
"$IPCLAB" run --hosts hosts --topology ring --pattern pingpong --placement any --budget 3s --db db --format json talk.yaml >run.json 2>err || complain "exit code $?"
jq -e '[.cells[] | select(.launches > 0 and .integrity.sent > 0 and .integrity.sent == .integrity.received)] | length == 3' run.json >/dev/null ||
    complain "not every cell is whole: $(jq -c '[.cells[] | [.transport, .verdict, .reason, .integrity]]' run.json)"

# ---- down ----
what='lab down'
checked=$((checked + 1))
"$IPCLAB" lab exec lab1 -- sleep 60 2>guest.err &
guest=$!
tries=0
until on lab1 -- sh -c 'grep -sqx sleep /proc/[0-9]*/comm'; do
    tries=$((tries + 1))
    [ "$tries" -lt 500 ] || { complain 'a command in a host does not start'; break; }
done
"$IPCLAB" lab down >out 2>err || complain "it fails"
wait "$guest"
[ $? -eq 4 ] && grep -q 'the virtual host lab1 has ended' guest.err || complain "a command in a host says: $(cat guest.err)"
for host in lab1 lab2 lab3; do
    grep -q "^ended host $host (process [0-9]*)$" out || complain "it does not say that it ended $host: $(cat out)"
done
says 'no virtual hosts are up' "$IPCLAB" lab down
left=$(ls -d /run/ipclab /sys/class/net/ipclab* 2>/dev/null; ls -A /dev/shm; grep -sl 'ipclab\|^lab[0-9]' /proc/[0-9]*/comm; grep ipclab /proc/mounts)
[ -z "$left" ] || complain "left: $left"

echo "$checked checks, $failed failures"
[ "$failed" -eq 0 ]
