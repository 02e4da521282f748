#!/bin/sh
# Hosts behind a real ssh server: three virtual hosts as far from each other as machines are, keys made for this test, the launcher on the
# first. Runs over ZeroMQ and MPI are whole. What cannot be reached is refused with its mend; whatever is killed is named with its host and,
# where that can be known, the signal; what was measured is kept; and nothing is left on any of them.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd) && command -v ssh >/dev/null && command -v ssh-keygen >/dev/null ||
    { echo 'skipped: no sshd (apt install openssh-server)'; exit 77; }
with_hosts_of_our_own "$0"
enter_room

# ---- three hosts, of which two serve ssh ----
what='hosts'
: >err
"$IPCLAB" lab up 3 >up.out 2>&1 || complain "no virtual hosts: $(cat up.out)"
init() { sed -n "s/^$1 [^ ]* \\([0-9]*\\) .*/\\1/p" /run/ipclab/lab/hosts; }
on() { "$IPCLAB" lab exec "$@"; }
for key in user stranger lab2 lab3; do
    ssh-keygen -q -t ed25519 -N '' -C "$key" -f "$key" || complain "no key for $key"
done
serve()
{
    cat >"sshd$1.conf" <<E
ListenAddress 10.77.0.$1
HostKey $room/lab$1
AuthorizedKeysFile $room/user.pub
PidFile $room/sshd$1.pid
StrictModes no
UsePAM no
E
    on "lab$1" -- sh -c "mkdir -p /run/sshd && '$sshd' -f '$room/sshd$1.conf' -E '$room/sshd$1.log'" || complain "no ssh server on lab$1"
}
serve 2
serve 3

# The ssh in PATH is the real one, and reads nothing of the user's own.
mkdir path
printf '#!/bin/sh\nexec %s -F "%s/ssh.conf" "$@"\n' "$(command -v ssh)" "$room" >path/ssh
chmod +x path/ssh
PATH=$room/path:$PATH
# key_of HOST KEY: the key of that host, as the launcher knows it.
key_of() { echo "10.77.0.$1 $(cut -d ' ' -f 1,2 "lab$2.pub")"; }
# as KEY: who the launcher is.
as()
{
    printf '%s\n' "IdentityFile $room/$1" 'IdentitiesOnly yes' "UserKnownHostsFile $room/known" 'GlobalKnownHostsFile /dev/null' \
        'StrictHostKeyChecking yes' >ssh.conf
    { key_of 2 2; key_of 3 3; } >known
}
as user

# ---- who is where ----
listening() { cat sshd2.pid sshd3.pid 2>/dev/null; }
# everybody HOST: the processes there, by the numbers they have there, but for the host itself and the server that listens.
everybody()
{
    grep -Hs . "/proc/$(init "$1")/root/proc"/[0-9]*/comm | sed 's,^/proc/[0-9]*/root/proc/\([0-9]*\)/comm:,\1 ,' |
        grep -v "^\(1$(listening | sed 's/^/\\|/' | tr -d '\n')\) "
}
# find NAME HOST: $found is a process of that name there.
find() { found=$(everybody "$2" | sed -n "s/ $1\$//p" | head -n 1); [ -n "$found" ]; }
end() { on "$1" -- sh -c "kill -KILL $found"; }

left() { for host in lab1 lab2 lab3; do everybody "$host" | sed "s/^/$host: /"; done; }
shm_of_all() { for host in lab1 lab2 lab3; do ls -A "/proc/$(init "$host")/root/dev/shm"; done; }
nobody_is_left() { [ -z "$(left)" ]; }
nothing_in_shm() { [ -z "$(shm_of_all)" ]; }
nothing_left()
{
    await nobody_is_left || complain "still there: $(left)"
    await nothing_in_shm || complain "left in /dev/shm: $(shm_of_all)"
}

# start FILE OPTION...: a run on lab1, in the background.
start()
{
    in_background "$IPCLAB" lab exec lab1 -- "$IPCLAB" run -v --hosts hosts --placement any --db db "$@"
    launcher=$background
}

# ---- what works ----
printf '10.77.0.2\n10.77.0.3\n' >hosts
cat >talk.yaml <<'E'
transport: [zmq-tcp, mpi]
pattern: [pingpong, stream]
nodes: 2
workers: 0
size: 256
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
cat >relay.yaml <<'E'
transport: shm-ring
wait: futex
link: [zmq-tcp, mpi]
pattern: [pingpong, stream]
nodes: 2
workers: 1
budget: 40s
E
for file in talk relay; do
    what="a run of $file"
    start "$file.yaml" --budget 4s --launches 1 --format json
    wait "$launcher" || complain "exit code $?"
    jq -e '[.environment.hosts[].name] == ["lab2", "lab3"] and ([.cells[] | select(.launches > 0 and .scope == "remote" and .integrity.sent > 0 and
        .integrity.sent == .integrity.received and .integrity.corrupt == 0)] | length == 4)' out >/dev/null ||
        complain "not every cell is whole: $(jq -c '[.cells[] | [.transport, .pattern, .verdict, .reason, .integrity]]' out)"
    nothing_left
done

# ---- what is refused, with its mend ----
refused()
{
    start talk.yaml
    wait "$launcher"
    code=$?
    [ "$code" -eq 4 ] || complain "exit code $code, not 4"
    [ ! -s out ] || complain "it prints: $(head -n 2 out)"
    grep -qxF -e "$1" -e "ipclab: $1" err || complain "it does not say: $1"
    nothing_left
}
what='a key that no host accepts'
as stranger
refused "host 10.77.0.3: it does not accept this user's ssh key; ssh-copy-id 10.77.0.3"
what='a host whose key is not known'
as user
key_of 2 2 >known
refused 'host 10.77.0.3: its ssh key is not known here; accept it once: ssh 10.77.0.3 true'
what='a host with another key'
key_of 3 2 >>known
refused 'host 10.77.0.3: its ssh key is not the one known here; if it was installed anew: ssh-keygen -R 10.77.0.3'
as user
what='an address that nobody has'
printf '10.77.0.2\n10.77.0.99\n' >hosts
refused 'host 10.77.0.99: no host answers at that address; is it up, and on this network? ping 10.77.0.99'
printf '10.77.0.2\n10.77.0.3\n' >hosts
what='a host whose ssh server has ended'
listens() { [ -s sshd3.pid ]; }
ended() { ! listens; }
await listens && on lab3 -- kill "$(cat sshd3.pid)" && await ended
refused 'host 10.77.0.3: it is up, but no ssh server listens; on that host: systemctl start ssh; then here: ssh 10.77.0.3 true'
serve 3
await listens

# ---- what is killed, in launches that are under way ----
# ends CODES SENTENCE: the run ended by itself with one of the codes, that sentence last.
ends()
{
    wait "$launcher"
    code=$?
    case " $1 " in *" $code "*) ;; *) complain "exit code $code, not $1" ;; esac
    # On one line with what a proxy of another host was about to say, perhaps.
    tail -n 1 err | grep -Eq "(^|\] )ipclab: $2" || complain "'$2' is not what it says in the end"
    kept=$(kept)
    [ "$code" -ne 5 ] || [ "${kept:-0}" -gt 0 ] || complain "exit code 5, and nothing is in the store: $(cat show.err)"
    nothing_left
}
# killed NAME HOST FILE SENTENCE
killed()
{
    what="$1 of $3 on $2"
    start "$3.yaml"
    await said 'first launch is done' && await find "$1" "$2" && end "$2" && ends 5 "$4"
}
signal='ended by signal 9 \(SIGKILL\)'
killed ipclab-worker lab3 ranks "host 10\.77\.0\.3: worker [0-9]+ \\(process [0-9]+\\) $signal"
# mpiexec of this version may abort over a proxy that ended, and take along the ssh that knows by which signal: then its node tells of it.
lost="($signal|\\(process [0-9]+\\), which had started node 1, has ended)"
for file in talk ranks relay; do
    killed ipclab-node lab3 "$file" "node 1 on host 10\.77\.0\.3 $signal"
    killed hydra_pmi_proxy lab3 "$file" "host 10\.77\.0\.3: hydra_pmi_proxy $lost"
done
killed sshd lab3 ranks 'host 10\.77\.0\.3: its ssh server ended the connection'
killed ssh lab1 ranks "host 10\.77\.0\.[23]: ssh to it, on this host, $signal"
killed mpiexec.hydra lab1 ranks "mpiexec on this host, which holds the nodes, $signal"

what='Ctrl-C'
start ranks.yaml
await said 'first launch is done' && kill -INT "$launcher" && ends 130 'interrupted by SIGINT'

what='the launcher'
start ranks.yaml
if await said 'first launch is done' && await find ipclab lab1; then
    end lab1
    wait "$launcher"
    nothing_left
    "$IPCLAB" show --db db 2>&1 | grep -q unfinished || complain 'the run is not shown as unfinished'
fi

what='a proxy before any HELLO'
start talk.yaml
await find hydra_pmi_proxy lab3 && end lab3 && ends '1 4' "host 10\.77\.0\.3: hydra_pmi_proxy $signal"

what='lab down'
"$IPCLAB" lab down >down.out 2>&1 || complain "it fails: $(cat down.out)"

echo "$checked runs, $failed failures"
[ "$failed" -eq 0 ]
