#!/bin/sh
# Two network namespaces that share /dev/shm are two hosts by their addresses and one by everything else: MPI takes shared memory between
# them and says nothing. The counters of their interfaces say it, and the cell is invalid; what went over the interface is not.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
with_hosts_of_our_own "$0"
enter_room
unset MPI_LOCALNRANKS PMI_RANK PMI_SIZE

# ---- host1 and host2 on a bridge, where this machine is 10.78.0.254 ----
mkdir -p /run/netns
ip link add bridge type bridge && ip addr add 10.78.0.254/24 dev bridge && ip link set bridge up || exit 1
for number in 1 2; do
    ip netns add "host$number" && ip link add "to$number" type veth peer name eth0 netns "host$number" &&
        ip link set "to$number" master bridge up && ip -n "host$number" addr add "10.78.0.$number/24" dev eth0 &&
        ip -n "host$number" link set eth0 up && ip -n "host$number" link set lo up || exit 1
done
# shellcheck disable=SC2016
stand_in_for_ssh 'exec ip netns exec "host${host##*.}" sh -c "$*"'
printf '10.78.0.1\n10.78.0.2\n' >hosts

# run NODES WORKERS CELLS ARGUMENT...: an experiment of these cells, a line of YAML each, whose JSON is in run.json.
run()
{
    checked=$((checked + 1))
    printf 'pattern: pingpong\nsize: 4KiB\nplacement: any\nlaunches: 2\nbudget: 4s\nnodes: %s\nworkers: %s\ncells:\n%s\n' "$1" "$2" "$3" >path.yaml
    shift 3
    "$IPCLAB" run --db db --format json "$@" path.yaml >run.json 2>err
}

# every FILTER: there are cells, and it is true of each.
every()
{
    checked=$((checked + 1))
    jq -e "[.cells[] | $1] | length > 0 and all" run.json >/dev/null ||
        complain "not so: $1: $(jq -c '[.cells[] | {transport, options, scope, verdict, reason, integrity, path}]' run.json)"
}

over='.scope == "remote" and .verdict != "invalid" and .path.proof == "over-interface" and .path.interface_bytes >= .path.payload_bytes and
    .path.payload_bytes > 0 and .path.payload_bytes <= .integrity.received * .size_bytes'
refuted='.scope == "remote" and .verdict == "invalid" and .path.proof == "refuted" and .path.interface_bytes < .path.payload_bytes'

what='between hosts that share memory'
run 2 0 '  - {transport: [zmq-tcp, mpi]}' --hosts hosts
every "select(.transport == \"zmq-tcp\") | $over"
every "select(.transport == \"mpi\") | $refuted and (.reason | test(\"the messages took another way, which is shared memory where hosts share it\"))"
"$IPCLAB" show --db db --format json | cmp -s - run.json || complain 'the store shows another run'

# MPI is told to take the network; and a relay, whose legs are shared memory and whose link is not.
what='between hosts, by the network'
UCX_TLS=tcp,self run 2 0 '  - {transport: mpi}' --hosts hosts
every "$over"
run 2 1 '  - {transport: shm-ring, wait: futex, link: zmq-tcp}' --hosts hosts
every "$over"

what='within one host'
run 1 2 '  - {transport: shm-ring, wait: futex}
  - {transport: pipe}'
every '.scope == "local" and .verdict != "invalid" and .path.proof == "within-host" and .path.interface_bytes < .path.payload_bytes and
    .path.payload_bytes <= .integrity.received * .size_bytes'

what='one host by two names'
ip -n host1 addr add 10.78.0.11/24 dev eth0
# shellcheck disable=SC2016
stand_in_for_ssh 'exec ip netns exec host1 sh -c "$*"'
printf '10.78.0.1\n10.78.0.11\n' >hosts
run 2 0 '  - {transport: zmq-tcp}' --hosts hosts
every "$refuted and (.reason | test(\"these hosts are one, by several names\"))"

echo "$checked checks, $failed failures"
[ "$failed" -eq 0 ]
