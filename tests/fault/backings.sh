#!/bin/sh
# Shared memory of every kind is gone when a run is: one that went well, and one of which any process was killed at any time. Nothing is
# in /dev/shm, in TMPDIR or among the System V segments.
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
mkdir tmp
TMPDIR=$room/tmp
export TMPDIR

segments() { sed 1d /proc/sysvipc/shm; }
nothing_is_left() { [ -z "$(ls -A /dev/shm)" ] && [ -z "$(ls -A tmp)" ] && [ -z "$(segments)" ]; }
nothing_left()
{
    await nobody_is_left || complain "still there: $(marked)"
    await nothing_is_left || complain "left: $(ls -A /dev/shm) $(ls -A tmp) $(segments)"
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

# ---- a worker, a node and the launcher, killed while segments come and go ----
first_launch_is_done() { said 'first launch is done'; }
find_launcher() { launcher=$(children "$waiting"); [ -n "$launcher" ]; }
node() { launched=$(children "$launcher"); [ -n "$(nth 1 $launched)" ]; }
worker() { node && started=$(children "$(nth 1 $launched)") && [ -n "$(nth 1 $started)" ]; }
for backing in posix file sysv; do
    for victim in worker node launcher; do
        for moment in any_time first_launch_is_done; do
            what="the $victim, $backing, $moment"
            checked=$((checked + 1))
            rm -f db*
            : >err
            timeout 60 "$IPCLAB" run -v --db db --set "backing=$backing" --set transport=shm-ring --budget 10s --launches 1000 >out 2>err &
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
done

what=
echo "$checked processes killed, $failed failures"
[ "$failed" -eq 0 ]
