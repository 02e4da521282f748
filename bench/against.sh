#!/bin/sh
# What the laboratory itself measures beside a bare loop over the same mechanism, in turn, on the same two cpus: its figures must be those
# of the mechanism and not of the rig.
#
#     bench/against.sh [ROUNDS [CASE]]       CASE selects by a part of "TRANSPORT PATTERN SIZE PLACEMENT"; needs jq
#
# MPI is compared with a loop that polls, as ipclab does, for the sake of its deadlines; over=blocking compares with MPI_Send and MPI_Recv.
#
# Two bare loops are run: one sends the same bytes again and again, and nobody looks at them (kept); in the other messages differ and
# those of a stream are read, as in ipclab (new; bench/bare.h says what that changes).
#
# One line a case: the medians over the rounds of both and of ipclab, and the median of ipclab's ratio to each, round by round (time for
# pingpong, rate for stream), with the least and the largest.
set -eu
bin=${LAB_BIN:-$(dirname "$0")/../build/release/bin}
rounds=${1:-7}
wanted=${2:-}
mpiexec=
for name in mpiexec.mpich mpiexec.hydra mpiexec; do
    [ -n "$mpiexec" ] || ! command -v "$name" >/dev/null || mpiexec=$name
done
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT

bare() # TRANSPORT PATTERN SIZE CPUS BYTES
{
    window=$((4194304 / $3))
    [ "$window" -le 1024 ] || window=1024
    [ "$window" -ge 2 ] || window=2
    set -- "$1" --pattern "$2" --size "$3" --window "$window" --seconds 1 --cpus "$4" --bytes "$5"
    transport=$1
    shift
    case $transport in
    mpi) "$mpiexec" -n 2 "$bin/bench-bare-mpi" --over "${over:-polled}" "$@" ;;
    zmq-*) "$bin/bench-bare-zmq" --over "${transport#zmq-}" "$@" ;;
    shm-ring) "$bin/bench-bare-futex" "$@" ;;
    *) "$bin/bench-bare-kernel" --over "$transport" "$@" ;;
    esac | jq -r 'if .pattern == "pingpong" then .half_round_trip_ns.p50 else .messages_per_s end'
}

lab() # TRANSPORT PATTERN SIZE PLACEMENT
{
    wait=block
    case $1 in mpi) wait=spin ;; shm-ring) wait=futex ;; esac
    printf '{experiment: against, transport: %s, wait: %s, pattern: %s, size: %s, placement: %s, launches: 2, budget: 1500ms}\n' \
        "$1" "$wait" "$2" "$3" "$4" >"$room/one.yaml"
    "$bin/ipclab" run -q --db "$room/db" --format json "$room/one.yaml" |
        jq -r '.cells[0] | (if .pattern == "pingpong" then .latency_ns.p50.value else .throughput.messages_per_s.value end) // empty'
}

# The median, least and largest of a column.
spread() { sort -g | awk '{ v[NR] = $1 } END { printf "%.6g %.6g %.6g\n", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2, v[1], v[NR] }'; }

{
    for transport in mpi zmq-ipc zmq-tcp pipe fifo unix-stream unix-seqpacket unix-dgram tcp udp posix-mq sysv-mq; do
        long=65536
        case $transport in
        udp) long=32768 ;;            # what fits into a datagram
        posix-mq | sysv-mq) long=8192 ;; # and into a message of a queue, with the limits as they come
        esac
        for size in 64 "$long"; do
            echo "$transport pingpong $size other-core"
            echo "$transport stream $size other-core"
        done
    done
    echo shm-ring pingpong 8 other-core
    echo shm-ring pingpong 8 same-core
} | grep -F -e "$wanted" >"$room/cases"

round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    number=0
    while read -r transport pattern size placement; do
        number=$((number + 1))
        cpus=0,1
        [ "$placement" = other-core ] || cpus=0,0
        kept=$(bare "$transport" "$pattern" "$size" "$cpus" kept </dev/null)
        new=$(bare "$transport" "$pattern" "$size" "$cpus" new </dev/null)
        lab=$(lab "$transport" "$pattern" "$size" "$placement" </dev/null)
        [ -z "$lab" ] || echo "$kept $new $lab" >>"$room/of.$number"
    done <"$room/cases"
done

middle() { cut -d' ' -f"$1" "$room/of.$number" | spread | cut -d' ' -f1; }
ratio() # COLUMN
{
    # shellcheck disable=SC2046,SC2183
    printf '%.3f [%.3f, %.3f]' $(awk -v c="$1" '{ print $3 / $c }' "$room/of.$number" | spread)
}

number=0
printf '%-36s %11s %11s %11s   %-22s %s\n' case 'bare, kept' 'bare, new' ipclab 'ipclab / kept' 'ipclab / new'
while read -r line; do
    number=$((number + 1))
    [ -s "$room/of.$number" ] || { printf '%-36s no round was measured\n' "$line"; continue; }
    printf '%-36s %11s %11s %11s   %-22s %s\n' "$line" "$(middle 1)" "$(middle 2)" "$(middle 3)" "$(ratio 1)" "$(ratio 2)"
done <"$room/cases"
