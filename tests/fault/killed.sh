#!/bin/sh
# A process that is killed, whichever and whenever: the run ends at once and says who it was and by which signal, the exit code
# tells whether something had been measured, that is in the store, and nothing is left of any process, file or shared memory.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
with_shm_of_our_own "$0"
[ -r /proc/self/task/$$/children ] || { echo "skipped: this kernel does not list the children of a process"; exit 77; }
enter_room

node() { launched=$(children "$launcher"); [ -n "$(nth "$1" $launched)" ]; }
worker() { node 1 && started=$(children "$(nth 1 $launched)") && [ -n "$(nth "$1" $started)" ]; }
first_launch_is_done() { said 'first launch is done'; }

begin()
{
    what=$1
    shift
    in_background timeout 60 "$IPCLAB" run -v --db db "$@"
    waiting=$background
    await find_launcher
}
find_launcher() { launcher=$(children "$waiting"); [ -n "$launcher" ]; }

# Every node has said HELLO, and so the environment has done its part; one of them alone says nothing of the others.
all_greeted()
{
    nodes=$(sed -n 's/.* \([0-9]*\) nodes are started.*/\1/p' err)
    [ -n "$nodes" ] && [ "$(grep -c 'node [0-9]*: HELLO' err)" -eq "$nodes" ]
}

# ends SENTENCE: the run ended by itself, with that sentence, and the right exit code.
ends()
{
    wait "$waiting"
    code=$?
    grep -Eq "$1" err || complain "'$1' was not said"
    kept=$(kept) && [ -n "$kept" ] || complain "the store cannot be shown: $(cat show.err)"
    if [ "${kept:-0}" -gt 0 ]; then wanted=5; elif all_greeted; then wanted=1; else wanted=4; fi
    [ "$code" -eq "$wanted" ] || complain "exit code $code, not $wanted, with ${kept:-no} launches kept"
    nothing_left
}

nothing_in_shm() { [ -z "$(ls -A /dev/shm)" ]; }
nothing_left()
{
    await nobody_is_left || complain "still there: $(marked)"
    if [ -n "$LAB_OWN_SHM" ] && ! await nothing_in_shm; then
        complain "left in /dev/shm: $(ls -A /dev/shm)"
        rm -rf /dev/shm/*
    fi
}

cat >pair.yaml <<'E'
transport: [shm-ring, pipe, unix-seqpacket, unix-dgram, tcp, udp, posix-mq, sysv-mq, zmq-ipc, mpi]
workers: 2
budget: 10s
E
cat >nodes.yaml <<'E'
transport: shm-ring
wait: futex
link: zmq-tcp
nodes: 2
workers: 1
budget: 10s
E
cat >talk.yaml <<'E'
transport: [zmq-tcp, mpi]
nodes: 2
workers: 0
budget: 10s
E

# ---- a worker, of each side, in many launches: what it was doing is left to chance ----
for side in 1 2; do
    for transport in shm-ring pipe unix-seqpacket unix-dgram tcp udp posix-mq sysv-mq zmq-ipc mpi; do
        for moment in any_time first_launch_is_done; do
            begin "worker $side of $transport, $moment" --transport "$transport" pair.yaml
            [ "$moment" = any_time ] || await "$moment" || continue
            await worker "$side" || continue
            kill -KILL "$(nth "$side" $started)" 2>/dev/null || { kill -TERM "$launcher"; wait "$waiting"; continue; }
            ends 'worker [01] \(process [0-9]+\) ended by signal 9 \(SIGKILL\)'
        done
    done
done

# ---- threads and fibers have no death of their own: who shared the process died with it ----
for unit in thread fiber; do
    begin "a process of ${unit}s" --transport shm-ring --wait yield --set "unit=$unit" pair.yaml
    await first_launch_is_done && await worker 1 || continue
    kill -KILL "$(nth 1 $started)" 2>/dev/null || { kill -TERM "$launcher"; wait "$waiting"; continue; }
    ends "workers 0 to 1, ${unit}s of process [0-9]+, died with it: it ended by signal 9 \\(SIGKILL\\)"
done

# ---- a node: before it has said HELLO, after, and later ----
for moment in 'nodes are started' 'HELLO' 'first launch is done'; do
    for which in 1 2; do
        begin "node $which of 2 once '$moment'" nodes.yaml
        await said "$moment" && await node "$which" || continue
        kill -KILL "$(nth "$which" $launched)"
        ends "node $((which - 1)) on this host ended by signal 9 \(SIGKILL\)"
    done
done
for which in 1 2; do
    begin "node $which of 2 that talk to each other" talk.yaml
    await first_launch_is_done && await node "$which" || continue
    kill -KILL "$(nth "$which" $launched)"
    ends "node $((which - 1)) on this host ended by signal 9 \(SIGKILL\)"
done

# ---- a node that does not die but stops ----
begin "a stopped node" pair.yaml
if await first_launch_is_done && await node 1; then
    kill -STOP "$(nth 1 $launched)"
    ends 'node 0 on this host has been silent'
fi

# ---- the launcher: what it had measured is in the store ----
for file in pair.yaml nodes.yaml talk.yaml; do
    begin "the launcher of $file" "$file"
    await first_launch_is_done || continue
    await node 1
    kill -KILL "$launcher"
    wait "$waiting"
    nothing_left
    "$IPCLAB" show --db db >show.out 2>&1 || complain "the store cannot be shown: $(cat show.out)"
    grep -q unfinished show.out || complain "the run is not shown as unfinished"
done

echo "$checked processes killed, $failed failures${LAB_OWN_SHM:+, /dev/shm watched}"
[ "$failed" -eq 0 ]
