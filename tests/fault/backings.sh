#!/bin/sh
# Shared memory of every kind is gone when a run is: one that went well, and one of which any process was killed at any time. So is what else
# has a name for a moment, or a number for longer: fifos and message queues. Nothing is in /dev/shm, in TMPDIR, among the POSIX message
# queues or among the segments and queues of System V.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
if [ -z "${LAB_APART-}" ]; then
    if [ "$(id -u)" -ne 0 ] || ! unshare --ipc --mount mount -t tmpfs tmpfs /dev/shm 2>/dev/null; then
        echo 'skipped: a /dev/shm and an IPC namespace of its own need root'
        exit 77
    fi
    LAB_APART=yes exec unshare --ipc --mount sh "$0"
fi
mount -t tmpfs tmpfs /dev/shm || exit 1
enter_room
mkdir tmp mq
mount -t mqueue none mq || exit 1
trap 'cd / && umount "$room/mq"; rm -rf "$room"' EXIT
TMPDIR=$room/tmp
export TMPDIR

numbered() { sed -s 1d /proc/sysvipc/shm /proc/sysvipc/msg; }
nothing_is_left() { [ -z "$(ls -A /dev/shm)$(ls -A tmp)$(ls -A mq)$(numbered)" ]; }
nothing_left()
{
    await nobody_is_left || complain "still there: $(marked)"
    await nothing_is_left || complain "left: $(ls -A /dev/shm tmp mq) $(numbered)"
}

cat >backings.yaml <<'E'
experiment: backings
transport: shm-ring
wait: futex
matrix:
  backing: [memfd, posix, file, sysv, hugepage]
workers: 2
budget: 4s
launches: 2
E

# ---- a run of every kind that this machine has; the others are skipped, and say what is missing ----
what='a run that ends by itself'
"$IPCLAB" run backings.yaml --db db --format json >run.json 2>err
code=$?
[ "$code" -eq 0 ] || [ "$code" -eq 5 ] || complain "exit code $code"
launcher=none
nothing_left
jq -e '[.cells[].integrity | .lost + .duplicated + .reordered + .corrupt] | add == 0' run.json >/dev/null || complain 'messages were not as they were sent'
jq -e '[.cells[] | select(.verdict != "skipped") | .options.backing // "memfd"] | unique - ["hugepage"] == ["file", "memfd", "posix", "sysv"]' \
    run.json >/dev/null || complain 'not every backing was run'
jq -e '[.cells[] | select(.verdict == "skipped") | .reason | select(test("sysctl vm.nr_hugepages=[1-9]") | not)] == []' run.json >/dev/null ||
    complain 'a cell was skipped without its mend'

# ---- a worker, a node and the launcher, killed while segments and queues come and go ----
first_launch_is_done() { said 'first launch is done'; }
find_launcher() { launcher=$(children "$waiting"); [ -n "$launcher" ]; }
node() { launched=$(children "$launcher"); [ -n "$(nth 1 $launched)" ]; }
worker() { node && started=$(children "$(nth 1 $launched)") && [ -n "$(nth 1 $started)" ]; }
while read -r made; do
    for victim in worker node launcher; do
        for moment in any_time first_launch_is_done; do
            what="the $victim, $made, $moment"
            checked=$((checked + 1))
            rm -f db*
            : >err
            # shellcheck disable=SC2086
            timeout 60 "$IPCLAB" run -v --db db --set $made --budget 10s --launches 1000 >out 2>err </dev/null &
            waiting=$!
            await find_launcher || continue
            [ "$moment" = any_time ] || await "$moment"
            case $victim in
            worker) await worker && kill -KILL "$(nth 1 $started)" 2>/dev/null || kill -TERM "$launcher" ;;
            node) await node && kill -KILL "$(nth 1 $launched)" ;;
            launcher) await node && kill -KILL "$launcher" ;;
            esac
            wait "$waiting"
            await nobody_is_left
            "$IPCLAB" clean >cleaned
            nothing_left
        done
    done
done <<'E'
backing=posix --set transport=shm-ring
backing=file --set transport=shm-ring
backing=sysv --set transport=shm-ring
transport=fifo --set wait=block
transport=posix-mq --set wait=block
transport=sysv-mq --set wait=block
E

what=
echo "$checked processes killed, $failed failures"
[ "$failed" -eq 0 ]
