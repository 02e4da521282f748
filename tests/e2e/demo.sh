#!/bin/sh
# The demonstrations of what goes wrong without a guard: with it nothing ever does; without it they report what they counted, and when a race
# did not show they say so. Nobody is left behind.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
enter_room

for name in torn-read lost-update deadlock abandoned-lock; do
    what=$name
    checked=$((checked + 1))
    timeout 100 "$IPCLAB" demo "$name" --format json >out.json 2>err || { complain "ends with $?"; continue; }
    jq -e --arg name "$name" 'length == 2 and all(.[]; .hazard == $name and .tried > 0 and .wrong <= .tried and .took_ns > 0) and
        [.[].guarded] == [false, true]' out.json >/dev/null || complain "is not a row without and one with the guard: $(cat out.json)"
    jq -e '.[1].wrong == 0 and .[1].verdict == "right"' out.json >/dev/null || complain "the guard failed: $(jq -c '.[1]' out.json)"
    jq -e '.[0].verdict == if .[0].wrong > 0 then "wrong, as expected" else "not seen this time, which proves nothing" end' out.json >/dev/null ||
        complain "does not say what it counted: $(jq -c '.[0]' out.json)"
done

# No race: nothing frees an ordinary mutex of one that was killed, and a robust one is always freed.
what=abandoned-lock
jq -e '.[0].wrong == .[0].tried and .[0].recovery_p50_ns == null and .[1].recovery_p50_ns > 0 and
    .[1].recovery_max_ns >= .[1].recovery_p50_ns' out.json >/dev/null || complain "is not as it always is: $(cat out.json)"

# A table for people; the question goes beside it.
"$IPCLAB" demo lost-update >out 2>err || complain 'as a table it fails'
[ "$(wc -l <out)" -ge 3 ] && head -n 1 out | grep -q '^guard  *tried' || complain "is no table: $(cat out)"

# Killed in the middle it takes its parties with it.
what=killed
launcher=demo$$
IPCLAB_CREW="$launcher.0" "$IPCLAB" demo deadlock >out 2>err &
demo=$!
await sh -c "[ -n \"\$(cat /proc/$demo/task/$demo/children 2>/dev/null)\" ] || ! kill -0 $demo 2>/dev/null"
kill -KILL $demo
wait $demo 2>/dev/null
await nobody_is_left

what=
"$IPCLAB" demo >out 2>err && complain 'a demonstration without a name is no error'
[ "$(cat err)" = 'ipclab demo takes one name: torn-read, lost-update, deadlock or abandoned-lock' ] || complain 'does not say which there are'
"$IPCLAB" demo tornread >out 2>err && complain 'an unknown demonstration is no error'
[ "$(cat err)" = "there is no demonstration 'tornread'; did you mean 'torn-read'?" ] || complain 'does not name the nearest'

echo "$checked demonstrations, $failed complaints"
exit "$failed"
