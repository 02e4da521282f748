#!/bin/sh
# The protocol of proto/reliable.h, broken in one place after the other: the simulator has to see each of them, or it sees nothing.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
case $("$LAB_CC" --version) in
*clang* | *gcc* | *GCC* | *Free\ Software*) ;;
*) echo "skipped: $LAB_CC is not a compiler that is known here"; exit 77 ;;
esac
enter_room
mkdir proto

build() { "$LAB_CC" -std=gnu17 -O1 -I. -I"$LAB_SOURCE" "$LAB_SOURCE/tests/stress/reliable.c" proto/reliable.c -o simulator; }

# mutant WHAT FILE SED: with that change the simulator fails, and says of which seed.
mutant()
{
    what=$1
    checked=$((checked + 1))
    cp "$LAB_SOURCE/proto/reliable.h" "$LAB_SOURCE/proto/reliable.c" proto
    sed -i "$3" "proto/$2"
    ! cmp -s "proto/$2" "$LAB_SOURCE/proto/$2" || { complain 'the sources have changed: nothing was broken'; return; }
    build || { complain 'it does not compile'; return; }
    timeout 120 ./simulator >out
    code=$?
    if [ "$code" -eq 0 ]; then
        complain 'nobody noticed'
    elif [ "$code" -ne 1 ] || ! grep -q '^seed [0-9]' out; then
        complain "exit code $code: $(head -n 1 out)"
    else
        echo "$what: $(head -n 1 out)"
    fi
}

mutant 'acknowledged on arrival, not when it was taken' reliable.c 's/rx->next : rx->taken,/rx->next : rx->next,/'
mutant 'the epoch of the sender is not checked' reliable.c 's/frame->tx_epoch != rx->tx_epoch || //'
mutant 'the epoch of the receiver is not checked' reliable.c 's/ || frame->rx_epoch != rx->config.epoch//'
mutant 'an acknowledgement of an earlier life of the receiver counts' reliable.c 's/tx->open && frame->rx_epoch == tx->rx_epoch && //'
mutant 'a new stream is taken for the one before' reliable.c 's/frame->stream > rx->stream || //'
mutant 'a receiver that forgot stays behind' reliable.c 's/ || frame->position > rx->next)/)/'
mutant 'duplicates are delivered' reliable.c '/rx->duplicates++/{n;s/NOTHING/DELIVER/}'
mutant 'what comes before its turn is delivered' reliable.c 's/frame->position == rx->next)/frame->position >= rx->next)/'
mutant 'nothing is sent again' reliable.c '/if (!whole/{n;s/tx->cursor = .*/;/}'
mutant 'nobody asks' reliable.c 's/bool asks = .*/bool asks = tx->due_ns == 1;/'
mutant 'an acknowledgement that was lost is not repeated' reliable.c '/rx->ack = rx->ack || rx->taken > frame->position/d'
mutant 'a new life of the receiver is sent what was given up' reliable.c 's/tx->open = frame->position >= tx->acked;/tx->open = true;/'
mutant 'a new life of the receiver is not noticed' reliable.c 's/tx->rx_epoch = frame->rx_epoch;//'
mutant 'what the receiver took of one stream counts for the next' reliable.c 's/rx->next = rx->taken = rx->told = position;/rx->next = position;/'
mutant 'the window has no bound' reliable.h 's/tx->next - tx->acked < tx->config.window/tx->next - tx->acked <= tx->config.window/'
mutant 'a question makes the sender forget what it sent' reliable.c 's/bool whole = .*/bool whole = true;/'

what=
echo "$checked ways to break it, $failed unnoticed"
[ "$failed" -eq 0 ]
