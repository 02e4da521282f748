#!/bin/sh
# A host that cannot be used: its name is wrong, it is off, its key is not known, it has another ipclab, too little shared memory, or it
# says nothing at all. Each is named with what mends it, in bounded time, exit code 4, and neither a process nor a stored run is left.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
# A network of our own, in which nobody else listens and no name server answers.
if [ -z "$LAB_APART" ]; then
    for as in '' '--user --map-root-user'; do
        # shellcheck disable=SC2086
        if unshare $as --net ip link set lo up 2>/dev/null; then
            LAB_APART=yes exec unshare $as --net sh "$0"
        fi
    done
    echo 'skipped: no network of its own (unshare --net, iproute2)'
    exit 77
fi
# 10.99.0.1 is this machine, and every other address there somebody else who lives here.
ip link set lo up && ip addr add 10.99.0.1/24 dev lo || exit 1
unset MPI_LOCALNRANKS PMI_RANK PMI_SIZE
enter_room

# ---- what stands for ssh: it does what the file of that host says ----
ROOM=$room
export ROOM
real=$PATH
# shellcheck disable=SC2016
stand_in_for_ssh 'echo $$ >>"$ROOM/started"
. "$ROOM/is/$host"'
mkdir is
answer=$("${IPCLAB%/*}/ipclab-node" --check)
version=$(echo "$answer" | cut -d ' ' -f 2)
protocol=$(echo "$answer" | cut -d ' ' -f 4)
node=${IPCLAB%/*}/ipclab-node

# host NAME SCRIPT: what that host does.
host() { printf '%s\n' "$2" >"is/$1"; }

# shellcheck disable=SC2317
nobody_is_left() { for pid in $(cat started 2>/dev/null); do ! kill -0 "$pid" 2>/dev/null || return 1; done; }

# refused HOST...: a run on them, with two nodes on the first, is refused, whatever the reason; err says it.
refused()
{
    printf '%s\n' "$@" | sed '1s/$/:2/' >hosts
    checked=$((checked + 1))
    : >started
    began=$(date +%s)
    "$IPCLAB" run --hosts hosts --transport zmq-tcp --workers 0 --nodes $(($# + 1)) --topology mesh --placement any --launches 1 --budget 2s \
        --db db >out 2>err
    code=$?
    took=$(($(date +%s) - began))
    [ "$code" -eq 4 ] || complain "exit code $code"
    [ "$took" -lt 30 ] || complain "it took $took s"
    [ ! -s out ] || complain "it prints: $(head -n 2 out)"
    await nobody_is_left
}

# says LINE: the whole of one line of what was said.
says() { grep -qxF -e "$1" -e "ipclab: $1" err || complain "it does not say: $1"; }

# ---- what ssh itself says ----
complains()
{
    what=$2
    host "$1" "echo '$2' >&2; exit 255"
    refused "$1"
    says "host $1: $3"
}
complains 10.99.0.11 'ssh: Could not resolve hostname wrong: Name or service not known' \
    'its name has no address; correct the name, or add it to /etc/hosts: getent hosts 10.99.0.11'
complains 10.99.0.12 'ssh: connect to host 10.99.0.12 port 22: Connection refused' \
    'it is up, but no ssh server listens; on that host: systemctl start ssh; then here: ssh 10.99.0.12 true'
complains 10.99.0.13 'ssh: connect to host 10.99.0.13 port 22: Connection timed out' \
    'nothing answers there; is it up, and does a firewall drop ssh? ping 10.99.0.13'
complains 10.99.0.14 'ssh: connect to host 10.99.0.14 port 22: No route to host' 'no host answers at that address; is it up, and on this network? ping 10.99.0.14'
complains 10.99.0.15 'root@10.99.0.15: Permission denied (publickey,password).' "it does not accept this user's ssh key; ssh-copy-id 10.99.0.15"
complains 10.99.0.16 'Host key verification failed.' 'its ssh key is not known here; accept it once: ssh 10.99.0.16 true'
complains 10.99.0.17 '@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @' \
    'its ssh key is not the one known here; if it was installed anew: ssh-keygen -R 10.99.0.17'
complains 10.99.0.18 'kex_exchange_identification: Connection closed by remote host' \
    "its ssh server closed the connection; look at its log, and at: ssh -v 10.99.0.18 true"

# ---- what the other side says ----
what='no ipclab there'
host 10.99.0.21 "echo 'bash: line 1: $node: No such file or directory' >&2; exit 127"
refused 10.99.0.21
says "host 10.99.0.21: the program $node is not there; install the same ipclab at the same place on every host: scp -p $node 10.99.0.21:$node"
what='a program that cannot be executed'
host 10.99.0.22 'exit 126'
refused 10.99.0.22
says "host 10.99.0.22: the program $node cannot be executed there; chmod +x it, and see that it is made for that machine"
what='another version'
host 10.99.0.23 "echo 'ipclab-node 9.9.9 protocol $protocol shm_free 99999999999'"
refused 10.99.0.23
says "host 10.99.0.23 has ipclab 9.9.9 (protocol $protocol), and this machine has $version (protocol $protocol); install the same one: scp -p $node 10.99.0.23:$node"
what='another protocol'
host 10.99.0.24 "echo 'ipclab-node $version protocol 77 shm_free 99999999999'"
refused 10.99.0.24
says "host 10.99.0.24 has ipclab $version (protocol 77), and this machine has $version (protocol $protocol); install the same one: scp -p $node 10.99.0.24:$node"
what='too little shared memory'
host 10.99.0.25 "echo 'ipclab-node $version protocol $protocol shm_free 5242880'"
refused 10.99.0.25
grep -q '^host 10.99.0.25 has 5 MiB free in /dev/shm, and MPI needs [0-9]* MiB for 2 nodes; on that host, as root: mount -o remount,size=[0-9]*M /dev/shm$' err ||
    complain 'it does not say how much'
what='something else'
host 10.99.0.26 'echo Welcome; echo "kernel panic" >&2; exit 3'
refused 10.99.0.26
says 'host 10.99.0.26: ssh exited with code 3: kernel panic'
what='nothing, and no failure'
host 10.99.0.27 'exit 0'
refused 10.99.0.27
says "host 10.99.0.27: what answers there is not ipclab-node (''); what does its login shell do? ssh 10.99.0.27 '$node' --check"

# ---- silence: of two hosts at once, with what they have started ----
what='silent hosts'
host 10.99.0.31 'sleep 300 & echo $! >>"$ROOM/started"; wait'
host 10.99.0.32 'exec sleep 300'
refused 10.99.0.31 10.99.0.32
for silent in 10.99.0.31 10.99.0.32; do
    says "host $silent: no answer in time; is it up? ping $silent"
done

# ---- of several, every one that cannot be used is named, and no other ----
what='three hosts of which two cannot be used'
host 10.99.0.33 'eval "$*"'
refused 10.99.0.12 10.99.0.33 10.99.0.15
says 'host 10.99.0.12: it is up, but no ssh server listens; on that host: systemctl start ssh; then here: ssh 10.99.0.12 true'
says "host 10.99.0.15: it does not accept this user's ssh key; ssh-copy-id 10.99.0.15"
! grep -q '10\.99\.0\.33' err || complain 'a host that can be used is named'

# ---- the real one ----
if PATH=$real command -v ssh >/dev/null; then
    mv path/ssh path/not-ssh
    what='nobody listens'
    refused 127.0.0.77
    says 'host 127.0.0.77: it is up, but no ssh server listens; on that host: systemctl start ssh; then here: ssh 127.0.0.77 true'
    what='a name without address'
    refused no-such-host.invalid
    says 'host no-such-host.invalid: its name has no address; correct the name, or add it to /etc/hosts: getent hosts no-such-host.invalid'
    mv path/not-ssh path/ssh
fi

# ---- hosts that pass the question, and fail when it matters ----
mpiexec=
for name in mpiexec.hydra mpiexec.mpich; do command -v "$name" >/dev/null && mpiexec=$name; done
if [ -n "$mpiexec" ]; then
    what='refused after the check'
    host 10.99.0.41 "case \$* in *--check*) eval \"\$*\" ;; *) echo 'ssh: connect to host 10.99.0.41 port 22: Connection refused' >&2; exit 255 ;; esac"
    refused 10.99.0.33 10.99.0.41
    says 'host 10.99.0.41: it is up, but no ssh server listens; on that host: systemctl start ssh; then here: ssh 10.99.0.41 true'

    what='silent after the check'
    host 10.99.0.42 'case $* in *--check*) eval "$*" ;; *) exec sleep 300 ;; esac'
    refused 10.99.0.33 10.99.0.42
    grep -Eq '^ipclab: host 10\.99\.0\.(33|42): node [012] gave no HELLO within [0-9]+ s; can that host reach tcp://10\.99\.0\.1:[0-9]+\? A firewall may drop it$' err ||
        complain 'it does not say which node is missing'

    what='hosts that work'
    checked=$((checked + 1))
    host 10.99.0.43 'eval "$*"'
    # The third one, of which no node is needed, need not be there.
    printf '10.99.0.33\n10.99.0.43\n10.99.0.12\n' >hosts
    "$IPCLAB" run --hosts hosts --transport zmq-tcp,mpi --wait block,spin --workers 0 --nodes 2 --placement any --size 64 --pattern pingpong --budget 2s \
        --launches 1 --db works --format json >out 2>err
    code=$?
    # They are this machine under two names: all that two hosts do is done, and the proof of the path finds out.
    [ "$code" -eq 1 ] || complain "exit code $code: $(cat err)"
    jq -e '[.cells[] | select(.verdict != "skipped")] | length == 2 and all(.path.proof == "refuted" and .integrity.sent > 0 and .integrity.sent == .integrity.received)' out >/dev/null ||
        complain "not two cells that ran and whose path was refuted: $(jq -c '[.cells[] | {transport, verdict, reason, path, integrity}]' out)"
fi

# ---- a node of another build that the check did not see ----
what='a HELLO of another version'
mkdir other
cp "${IPCLAB%/*}"/ipclab* "${IPCLAB%/*}"/*.so other/
another=$(echo "$version" | tr 0-9 9)
sed "s/$(echo "$version" | sed 's/\./\\./g')/$another/g" "$node" >other/ipclab-node
checked=$((checked + 1))
if [ "$(other/ipclab-node --version)" = "ipclab-node $another" ]; then
    echo '{transport: pipe, workers: 2}' >pair.yaml
    other/ipclab run pair.yaml --budget 1s --db db >out 2>err
    code=$?
    [ "$code" -eq 4 ] || complain "exit code $code"
    says "node 0 on this host is ipclab $another, and this is $version: install the same version"
else
    complain 'no such node can be made of this one'
fi

what='the store'
"$IPCLAB" history --db db --format json >shown 2>err
! jq -e '[.. | objects | select(.id?)] | any(.launches? > 0)' shown >/dev/null || complain 'a run that was refused has launches'

echo "$checked refusals, $failed failures"
[ "$failed" -eq 0 ]
