#!/bin/sh
# Doctor over virtual hosts, some of them broken: each finding names the host and what mends it, what prevents a run is exit code 4, and a host
# that is well is not among them.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
with_hosts_of_our_own "$0"
enter_room
ROOM=$room
export ROOM

# ---- this machine alone ----
what='this machine'
checked=$((checked + 1))
"$IPCLAB" doctor >out 2>err
code=$?
[ "$code" -eq 0 ] && [ ! -s err ] || complain "exit code $code: $(cat out)"
head -n 1 out | grep -qx 'this machine' || complain 'it does not name this machine'
"$IPCLAB" doctor --format json >json 2>err || complain 'as JSON it fails'
jq -e 'length > 7 and all(.[]; .host == "this machine" and (.level | IN("ok", "will disturb")) and ((.level == "ok") == (.mend == null)))' json >/dev/null ||
    complain "as JSON: $(jq -c . json)"
what='this machine, spoilt'
checked=$((checked + 1))
(ulimit -n 128 && UCX_RNDV_THRESH=inf taskset -c 0 "$IPCLAB" doctor --format json) >json 2>err || complain "exit code $?"
jq -e 'map({(.check): .}) | add | .cores.level == "will disturb" and .["open files"].mend != null and .rendezvous.level == "ok"' json >/dev/null ||
    complain "it does not say so: $(jq -c . json)"
"$IPCLAB" keys >/dev/null && chmod 644 "$XDG_CONFIG_HOME/ipclab/keys"
"$IPCLAB" doctor >out 2>err
[ $? -eq 4 ] && grep -q "^  prevents *keys .*mode 0644" out && grep -q "mend: chmod 600" out || complain "keys that others may read: $(grep keys out)"
rm "$XDG_CONFIG_HOME/ipclab/keys"
"$IPCLAB" doctor --lab >out 2>err
[ $? -eq 4 ] && grep -qx 'no virtual hosts are up: sudo ipclab lab up .*' err || complain "without virtual hosts: $(cat err)"

# ---- virtual hosts, which are well ----
what='--lab'
"$IPCLAB" lab up 4 64MiB >out 2>err || { complain 'there are no hosts'; exit 1; }
checked=$((checked + 1))
"$IPCLAB" doctor --lab --format json >json 2>err || complain "exit code $?: $(jq -c '.[] | select(.level == "prevents")' json)"
jq -e '[.[].host] | unique == ["10.77.0.1", "10.77.0.2", "10.77.0.3", "10.77.0.4", "this machine"]' json >/dev/null || complain "it names $(jq -c '[.[].host] | unique' json)"
jq -e 'all(.[]; .level != "prevents")' json >/dev/null || complain "it finds $(jq -c '.[] | select(.level == "prevents")' json)"

# ---- the same, over what stands for ssh, and broken in their own ways ----
what='--hosts'
version=$("${IPCLAB%/*}/ipclab-node" --version | cut -d ' ' -f 2)
# shellcheck disable=SC2016
stand_in_for_ssh 'case $host in
10.77.0.3) # an hour behind
    exec "${IPCLAB%/*}/ipclab-lab-ssh" "$host" "$@" | while read -r word value rest; do
        [ "$word" != clock ] || value=$(($value - 3600000000000))
        echo "$word $value $rest"
    done ;;
10.77.0.4) "${IPCLAB%/*}/ipclab-lab-ssh" "$host" "$@" | sed "s/^ipclab-node [^ ]*/ipclab-node 9.9.9/" ;;
10.77.0.9) echo "ssh: connect to host $host port 22: No route to host" >&2; exit 255 ;;
*) exec "${IPCLAB%/*}/ipclab-lab-ssh" "$host" "$@" ;;
esac'
"$IPCLAB" lab exec lab2 -- sh -c 'head -c 60M /dev/zero >/dev/shm/full'
printf '10.77.0.1\n10.77.0.2:300\n10.77.0.3\n10.77.0.4\n10.77.0.9\n' >hosts
checked=$((checked + 1))
"$IPCLAB" doctor --hosts hosts --format json >json 2>err
code=$?
[ "$code" -eq 4 ] || complain "exit code $code"
# found HOST CHECK LEVEL TEXT MEND: both are regular expressions.
found()
{
    checked=$((checked + 1))
    jq -e --arg host "$1" --arg check "$2" --arg level "$3" --arg text "$4" --arg mend "$5" \
        'any(.[]; .host == $host and .check == $check and .level == $level and (.finding | test($text)) and (.mend // "" | test($mend)))' json >/dev/null ||
        complain "it does not find: $*; but $(jq -c --arg host "$1" '.[] | select(.host == $host)' json)"
}
found 10.77.0.2 door prevents '^has 4 MiB free in /dev/shm, and MPI needs [0-9]* MiB for 300 nodes$' '^on that host, as root: mount -o remount,size=[0-9]*M /dev/shm$'
found 10.77.0.3 clock 'will disturb' '^its time of day is 3[56][0-9][0-9]\.[0-9] s behind' '^on that host, as root: timedatectl set-ntp true$'
found 10.77.0.4 door prevents "^has ipclab 9\\.9\\.9 \\(protocol [0-9]*\\), and this machine has $version" "^install the same one: scp -p .*/ipclab-node 10\\.77\\.0\\.4:"
found 10.77.0.9 door prevents '^no host answers at that address$' 'ping 10\.77\.0\.9$'
found 10.77.0.1 'way back' ok '^it can connect to this machine at 10\.77\.0\.254:' '^$'
found 10.77.0.1 encryption ok 'links over MPI.* are not' '^$'
found 10.77.0.3 slots ok '^1 node on [0-9]* cpus$' '^$'
jq -e 'all(.[] | select(.host == "10.77.0.1" or .host == "this machine"); .level != "prevents")' json >/dev/null || complain 'a host that is well prevents something'

what='a wall'
"$IPCLAB" lab exec lab1 -- ip route add unreachable 10.77.0.254 && printf '10.77.0.1\n' >hosts
checked=$((checked + 1))
"$IPCLAB" doctor --hosts hosts >out 2>err
[ $? -eq 4 ] && grep -q '^  prevents *way back *it cannot connect to this machine at 10\.77\.0\.254:' out && grep -q 'mend: let it in through the firewall here' out ||
    complain "a host that cannot reach this machine: $(cat out)"

"$IPCLAB" lab down >out 2>err || complain 'lab down fails'
echo "$checked checks, $failed failures"
[ "$failed" -eq 0 ]
