#!/bin/sh
# The link between two virtual hosts is cut for 0.01 to 30 s while messages go over it. Reliable delivery: every one of them arrives, once
# and in order, and the receiver is told the end. Best effort says what that costs there: what was on its way when the connection was
# given up is counted, by position, and nothing hangs.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
with_hosts_of_our_own "$0"
enter_room
program=$LAB_BIN/fault.reliable
[ -x "$program" ] || { echo 'skipped: fault.reliable is not built'; exit 77; }

"$IPCLAB" lab up 2 >up.out 2>&1 || { complain "no virtual hosts: $(cat up.out)"; exit 1; }
address=$("$IPCLAB" lab exec lab1 -- ip -4 -o addr show dev eth0 | sed 's/.*inet \([0-9.]*\).*/\1/')
# The end of lab2's wire that is on the bridge.
wire=$("$IPCLAB" lab exec lab2 -- cat /sys/class/net/eth0/iflink)
wire=$(grep -lx "$wire" /sys/class/net/*/ifindex | cut -d / -f 5)
[ -n "$address" ] && [ -n "$wire" ] || { complain "hosts without a wire: '$address', '$wire'"; exit 1; }

has_address() { [ -s address ]; }
# 200 messages more than before have been acknowledged by the interface: what moves is seen on the wire.
moved() { [ "$(cat "/sys/class/net/$wire/statistics/rx_packets")" -gt $((before + $1)) ]; }
mark() { before=$(cat "/sys/class/net/$wire/statistics/rx_packets"); }
number() { sed -n "s/.*$2 \([0-9][0-9]*\).*/\1/p" "$1"; }

# play DELIVERY SECONDS...: one stream, with a cut of each length.
play()
{
    delivery=$1
    shift
    what="$delivery, cut for $* s"
    checked=$((checked + 1))
    rm -f address
    "$IPCLAB" lab exec lab1 -- "$program" --receive "$address" "$room/address" "$delivery" >received 2>err &
    receiver=$!
    await has_address || return
    "$IPCLAB" lab exec lab2 -- sh -c "echo \$\$ >$room/sender; exec $program --send $address $room/address $delivery" >sent 2>>err &
    sender=$!
    mark
    await moved 200
    for seconds in "$@"; do
        ip link set "$wire" down
        sleep "$seconds" # the length of the cut is what is tested
        ip link set "$wire" up
        mark
        [ "$delivery" = best-effort ] || await moved 200
    done
    "$IPCLAB" lab exec lab2 -- kill -TERM "$(cat sender)" 2>/dev/null
    wait "$sender" "$receiver"
    sent=$(number sent sent)
    received=$(number received received)
    echo "$what: $(cat sent); $(cat received)"
}

play reliable 0.01 0.1 1 5
[ -n "$sent" ] && [ "$sent" -gt 0 ] && [ "$sent" = "$received" ] || complain "sent $sent, received $received"
grep -q 'left out 0, twice 0, told the end$' received || complain "$(cat received)"

play reliable 30
[ -n "$sent" ] && [ "$sent" -gt 0 ] && [ "$sent" = "$received" ] || complain "sent $sent, received $received"
grep -q 'left out 0, twice 0, told the end$' received || complain "$(cat received)"

# Longer than the library takes to give a connection up.
play best-effort 5
[ -n "$sent" ] && [ -n "$received" ] && [ "$received" -lt "$sent" ] || complain "sent $sent, received $received: nothing was lost, and nothing was tested"
grep -q 'twice 0' received || complain "$(cat received)"

what=
"$IPCLAB" lab down >down.out 2>&1 || complain "lab down: $(cat down.out)"
echo "$checked streams cut, $failed failures"
[ "$failed" -eq 0 ]
