#!/bin/sh
# On virtual hosts: a worker, a node, hydra_pmi_proxy, mpiexec, a host or the launcher is killed, or Ctrl-C is pressed. The run ends at
# once, names who died where and by which signal, what was measured is in the store, and nothing is left on any host.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
with_hosts_of_our_own "$0"
enter_room

# ---- who is where ----
init() { sed -n "s/^$1 [^ ]* \\([0-9]*\\) .*/\\1/p" /run/ipclab/lab/hosts 2>/dev/null; }

# find NAME [HOST]: $found is a process of that name in that host's pid namespace, or in ours.
find()
{
    place=$(readlink "/proc/$(if [ -n "$2" ]; then init "$2"; else echo 1; fi)/ns/pid")
    for entry in $(grep -lsx "$1" /proc/[0-9]*/comm); do
        entry=${entry%/comm}
        found=${entry#/proc/}
        [ "$(readlink "$entry/ns/pid" 2>/dev/null)" = "$place" ] && grep -qs "IPCLAB_CREW=$launcher\\." "$entry/environ" && return
    done
    return 1
}

shm_of_all() { for host in lab1 lab2 lab3; do ls -A "/proc/$(init "$host")/root/dev/shm" 2>/dev/null; done; ls -A /dev/shm; }
nothing_in_shm() { [ -z "$(shm_of_all)" ]; }

up() { "$IPCLAB" lab up 3 >up.out 2>&1 || complain "no virtual hosts: $(cat up.out)"; }

begin()
{
    what=$1
    shift
    in_background "$IPCLAB" run -v --lab --placement any --db db "$@"
    launcher=$background
}

# ends CODES SENTENCE: the run ended by itself with one of the codes, that sentence last.
ends()
{
    # A run that goes on to the end of its budget has not noticed.
    began=$(date +%s)
    wait "$launcher"
    code=$?
    [ $(($(date +%s) - began)) -lt 20 ] || complain 'it went on'
    case " $1 " in *" $code "*) ;; *) complain "exit code $code, not $1" ;; esac
    tail -n 1 err | grep -Eq "^ipclab: .*$2" || complain "'$2' is not what it says in the end"
    kept=$(kept)
    [ "$code" -ne 5 ] || [ "${kept:-0}" -gt 0 ] || complain "exit code 5, and nothing is in the store: $(cat show.err)"
    nothing_left
}

nothing_left()
{
    await nobody_is_left || complain "still there: $(for p in $(marked); do cat "${p%/environ}/comm"; done)"
    await nothing_in_shm || complain "left in /dev/shm: $(shm_of_all)"
}

cat >relay.yaml <<'E'
# worker, shared memory, node, link, node, shared memory, worker
transport: shm-ring
wait: futex
link: [zmq-tcp, mpi]
nodes: 3
workers: 1
topology: star
budget: 40s
E
cat >talk.yaml <<'E'
transport: [zmq-tcp, mpi]
nodes: 3
workers: 0
topology: ring
budget: 40s
E
cat >ranks.yaml <<'E'
# workers that are MPI ranks of their host, with shared memory under names
transport: mpi
link: mpi
nodes: 2
workers: 2
topology: star
budget: 40s
E

what='lab up'
up
signal='ended by signal 9 \(SIGKILL\)'

# ---- a process of the second host, when the first launch is done, whatever it does then ----
for file in relay talk ranks; do
    begin "a node of $file" "$file.yaml"
    await said 'first launch is done' && await find ipclab-node lab2 && kill -KILL "$found" &&
        ends 5 "node 1 on host 10.77.0.2 $signal"

    begin "hydra_pmi_proxy of $file" "$file.yaml"
    await said 'first launch is done' && await find hydra_pmi_proxy lab2 && kill -KILL "$found" &&
        ends 5 "host 10.77.0.2: hydra_pmi_proxy $signal"
done
for file in relay ranks; do
    begin "a worker of $file" "$file.yaml"
    await said 'first launch is done' && await find ipclab-worker lab2 && kill -KILL "$found" &&
        ends 5 "host 10.77.0.2: worker [0-9]+ \\(process [0-9]+\\) $signal"
done

# ---- before anything has been measured ----
begin 'a node that has just said HELLO' talk.yaml
await said 'node 1: HELLO' && await find ipclab-node lab2 && kill -KILL "$found" && ends '1 4 5' "node 1 on host 10.77.0.2 $signal"
begin 'hydra_pmi_proxy before any HELLO' talk.yaml
await find hydra_pmi_proxy lab2 && kill -KILL "$found" && ends '1 4' "host 10.77.0.2: hydra_pmi_proxy $signal"

# ---- mpiexec, and the launcher ----
for file in relay ranks; do
    begin "mpiexec of $file" "$file.yaml"
    await said 'first launch is done' && await find mpiexec.hydra && kill -KILL "$found" &&
        ends 5 "mpiexec on this host, which holds the nodes, $signal"

    begin "the launcher of $file" "$file.yaml"
    await said 'first launch is done' && kill -KILL "$launcher"
    wait "$launcher" 2>/dev/null
    nothing_left
    "$IPCLAB" show --db db 2>&1 | grep -q unfinished || complain 'the run is not shown as unfinished'

    begin "Ctrl-C in $file" "$file.yaml"
    await said 'first launch is done' && kill -INT "$launcher" && ends 130 'interrupted by SIGINT'
done
# Ctrl-Z is answered, and not obeyed.
begin 'Ctrl-Z, then Ctrl-C' talk.yaml
await said 'first launch is done' && kill -TSTP "$launcher" && await said 'a run across hosts goes on' && kill -INT "$launcher" &&
    ends 130 'interrupted by SIGINT'
begin 'Ctrl-C before any HELLO' talk.yaml
await said 'nodes are started' && kill -INT "$launcher" && ends 130 'interrupted by SIGINT'

# ---- a host ----
begin 'a virtual host' talk.yaml
await said 'first launch is done' && kill -KILL "$(init lab2)" && ends 5 'host 10.77.0.2: the virtual host lab2 has ended, and by signal 9 \(SIGKILL\)'
"$IPCLAB" lab status | grep -q '^lab2 .* ended$' || complain "the status is: $("$IPCLAB" lab status)"
begin 'a virtual host that has ended already' talk.yaml
wait "$launcher"
[ $? -eq 4 ] && said 'the virtual host lab2 has ended: sudo ipclab lab down, then up again' || complain 'it is not refused'

# ---- the hosts themselves ----
gone() { [ ! -e /run/ipclab ] && [ -z "$(ls -d /sys/class/net/ipclab* 2>/dev/null)" ] && ! grep -qsx 'lab[0-9]*' /proc/[0-9]*/comm; }
what='lab down'
: >err
"$IPCLAB" lab down >down.out 2>&1 || complain "it fails: $(cat down.out)"
gone || complain "left: $(ls -d /run/ipclab /sys/class/net/ipclab* 2>/dev/null)"

# `lab up` that is killed, at any point of its work: the next one, or `lab down`, takes care.
begun() { [ -e /run/ipclab/lab/names ]; }
some_hosts() { [ -n "$(init lab2)" ]; }
for point in true begun some_hosts; do
    for name in KILL INT; do
        what="lab up ended by SIG$name at '$point'"
        checked=$((checked + 1))
        env --default-signal=INT "$IPCLAB" lab up 12 >up.out 2>&1 &
        maker=$!
        await "$point"
        kill "-$name" "$maker" 2>/dev/null
        wait "$maker" 2>/dev/null
        code=$?
        if [ "$name" = INT ] && [ "$code" -ne 0 ]; then
            gone || complain "an interrupted lab up leaves: $(ls -d /run/ipclab /sys/class/net/ipclab* 2>/dev/null)"
        fi
        if [ "$point" = begun ] && [ "$name" = KILL ]; then
            up
            [ "$("$IPCLAB" lab status | grep -c ' up$')" -eq 3 ] || complain "the next lab up gives $("$IPCLAB" lab status)"
        fi
        "$IPCLAB" lab down >down.out 2>&1 || complain "lab down fails: $(cat down.out)"
        await gone || complain "left: $(ls -d /run/ipclab /sys/class/net/ipclab* 2>/dev/null)"
    done
done

what='two lab up at once'
checked=$((checked + 1))
"$IPCLAB" lab up 2 >one.out 2>&1 &
one=$!
"$IPCLAB" lab up 2 >two.out 2>&1
two=$?
wait "$one" || complain "one fails: $(cat one.out)"
[ "$two" -eq 0 ] || complain "the other fails: $(cat two.out)"
[ "$(cat one.out two.out | grep -c 'up already')" -eq 1 ] || complain "they say: $(cat one.out two.out)"
[ "$("$IPCLAB" lab status | grep -c ' up$')" -eq 2 ] || complain "the status is: $("$IPCLAB" lab status)"
"$IPCLAB" lab down >down.out 2>&1 && gone || complain "lab down: $(cat down.out)"

echo "$checked ends, $failed failures"
[ "$failed" -eq 0 ]
