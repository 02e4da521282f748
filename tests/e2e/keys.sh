#!/bin/sh
# Between hosts nobody reads along, and nobody without the keys takes part: what the control connection says is not on the wire, no secret is
# on a command line or in an environment of any process, in a log or in the store, and keys that others may read are refused.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
with_hosts_of_our_own "$0"
enter_room
command -v tcpdump >/dev/null || { echo 'skipped: tcpdump is not installed'; exit 77; }
keys=$XDG_CONFIG_HOME/ipclab/keys

# secrets: one a line; of the launcher, of the nodes.
secrets() { sed -n 's/^\(launcher\|node\) [^ ]* //p' "$keys"; }
# holds FILE...: one of them holds a secret.
holds() { secrets >secrets && [ -s secrets ] && grep -aFlf secrets "$@" 2>/dev/null; }

# refused SENTENCE: a run on the virtual hosts is, and nothing listens.
refused()
{
    checked=$((checked + 1))
    "$IPCLAB" run --lab talk.yaml --budget 1s --db db >out 2>err
    code=$?
    [ "$code" -eq 4 ] || complain "exit code $code, not 4"
    grep -qxF "ipclab: $1" err || complain "it does not say: $1"
}

"$IPCLAB" lab up 2 >out 2>err || { complain 'there are no hosts'; exit 1; }
cat >talk.yaml <<'Y'
transport: [zmq-tcp, mpi]
pattern: pingpong
nodes: 2
workers: 0
size: 256
placement: any
launches: 1
budget: 40s
Y

# ---- the file ----
what='ipclab keys'
checked=$((checked + 1))
"$IPCLAB" keys >out 2>err || complain "exit code $?"
grep -q "^launcher .* $keys\$" out || complain "it does not say where they are: $(cat out)"
[ "$(stat -c %a "$keys" "${keys%/*}" | tr '\n' ' ')" = '600 700 ' ] || complain "its mode is $(stat -c %a "$keys" "${keys%/*}")"
[ "$(secrets | wc -l)" -eq 2 ] || complain "it holds $(secrets | wc -l) secrets"
! holds out err || complain 'it prints a secret'
cp "$keys" before
"$IPCLAB" keys >again 2>err && cmp -s out again && cmp -s "$keys" before || complain 'they change when they are shown'
"$IPCLAB" keys renew >again 2>err && ! cmp -s out again && ! cmp -s "$keys" before || complain 'renew does not make new ones'
what='keys that others may read'
chmod 640 "$keys"
refused "$keys may be read or written by others (mode 0640), so that its keys may be known: chmod 600 $keys && ipclab keys renew"
chmod 600 "$keys"
what='keys of another user'
chown 65534 "$keys"
refused "$keys belongs to another user (65534): move it away, then: ipclab keys"
rm "$keys"

# ---- a run: what is on the wire, and what the kernel shows of its processes ----
what='a run'
capturing() { grep -q 'listening on' tcpdump.err; }
tcpdump -i ipclab0 -s 0 -U -w wire 2>tcpdump.err &
tcpdump=$!
await capturing
in_background "$IPCLAB" run -v --lab talk.yaml --db db
launcher=$background
await said 'first launch is done'
[ "$(stat -c %a "$keys")" = 600 ] || complain 'a run makes no keys, or not for their owner only'
seen=0
for process in /proc/[0-9]*; do
    cat "$process/cmdline" "$process/environ" >shown 2>/dev/null && [ -s shown ] || continue
    seen=$((seen + 1))
    ! holds shown || complain "a secret is shown of $(tr '\0' ' ' <"$process/cmdline")"
done
[ "$seen" -ge 8 ] && [ "$(grep -l ipclab-node /proc/[0-9]*/cmdline | wc -l)" -ge 2 ] || complain "only $seen processes were looked at"
kill -INT "$launcher"
wait "$launcher"
kill -INT "$tcpdump"
wait "$tcpdump"
! holds out err db* || complain 'a secret is in what the run prints or keeps'
# mpiexec's own connections show that the capture would have shown ours: they are not encrypted, and carry no secret.
grep -aq -e --control wire || complain "nothing of mpiexec is in the capture: $(tail -n 3 tcpdump.err)"
! holds wire || complain 'a secret is on the wire'
# What every HELLO and ASSIGN says: the processor, the kernel, the pattern.
for word in "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(uname -sr)" pingpong; do
    checked=$((checked + 1))
    [ -n "$word" ] && ! grep -aqF "$word" wire || complain "'$word' is on the wire"
done

# ---- the links: what a message between hosts looks like (proto/data.proto) to who reads along ----
# capture WAY: of a run with such links.
capture()
{
    what="encryption $1"
    checked=$((checked + 1))
    : >tcpdump.err
    tcpdump -i ipclab0 -s 0 -U -w wire 2>tcpdump.err &
    tcpdump=$!
    await capturing
    # shellcheck disable=SC2086
    "$IPCLAB" run --lab talk.yaml --transport zmq-tcp $2 --budget 1s --db db --format json >run.json 2>err || complain "exit code $?"
    kill -INT "$tcpdump"
    wait "$tcpdump"
    jq -e --arg way "$1" '.cells | length == 1 and .[0].options.encryption == $way and .[0].integrity.sent == .[0].integrity.received' run.json >/dev/null ||
        complain "it is not whole, or does not say how it ran: $(jq -c '.cells[] | [.options, .verdict, .reason]' run.json)"
}
# run, epoch, sender, receiver and the next tag, each in its place
envelopes() { grep -aPc '\x09.{8}\x15.{4}\x1d.{4}\x25.{4}\x29' wire; }
capture on ''
[ "$(envelopes)" -eq 0 ] || complain "$(envelopes) messages can be read on the wire"
grep -aq CURVE wire || complain 'nobody offered CURVE'
! holds wire || complain 'a secret is on the wire'
capture on '--delivery reliable'
[ "$(envelopes)" -eq 0 ] && grep -aq CURVE wire || complain "$(envelopes) messages of reliable delivery can be read on the wire"
capture off '--encryption off'
[ "$(envelopes)" -gt 9 ] || complain "only $(envelopes) messages can be read on the wire: whoever looks is blind"
"$IPCLAB" run --lab talk.yaml --transport zmq-tcp --encryption on,off --budget 2s --launches 2 --db db >out 2>err || complain "both ways: exit code $?"
grep -q 'encryption on' out && grep -q 'encryption off' out || complain 'the figures do not say which is which'

# ---- a list of hosts, over what stands for ssh: the same keys, through its standard input ----
what='through ssh'
# shellcheck disable=SC2016
stand_in_for_ssh 'printf "%s\n" "$*" >>'"$room"'/commands
exec "${IPCLAB%/*}/ipclab-lab-ssh" "$host" "$@"'
printf '10.77.0.1\n10.77.0.2\n' >hosts
checked=$((checked + 1))
"$IPCLAB" run --hosts hosts talk.yaml --budget 2s --db db --format json >run.json 2>err || complain "exit code $?"
jq -e '[.cells[] | select(.integrity.sent > 0 and .integrity.sent == .integrity.received)] | length == 2' run.json >/dev/null ||
    complain "not every cell is whole: $(jq -c '[.cells[] | [.transport, .verdict, .reason]]' run.json)"
grep -q -e '--carry-keys' commands || complain 'its commands carry no keys'
! holds commands || complain 'a secret is in a command'

"$IPCLAB" lab down >out 2>err || complain 'lab down fails'
echo "$checked checks, $failed failures"
[ "$failed" -eq 0 ]
