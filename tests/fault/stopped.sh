#!/bin/sh
# A launcher that is stopped for a while, as by Ctrl-Z, goes on when it is continued: its nodes wait for it, longer than a node that
# lost its launcher would, and the run ends as if nothing had been.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
enter_room

# within TENTHS COMMAND...: whether that comes true in time.
within()
{
    tenths=$1
    shift
    until "$@"; do
        tenths=$((tenths - 1))
        [ "$tenths" -gt 0 ] || return 1
        sleep 0.1
    done
}

# shellcheck disable=SC2317
started() { grep -q 'first launch is done' err; }

# stop NAME: of the experiment NAME.yaml, the launcher is stopped for four seconds.
stop()
{
    what=$1
    : >err
    "$IPCLAB" run -v --db db --format json "$1.yaml" >result.json 2>err &
    launcher=$!
    if ! within 300 started; then
        complain 'it does not begin'
        kill -KILL "$launcher"
        return
    fi
    kill -STOP "$launcher"
    within 40 nobody_is_left && complain 'the nodes left'
    kill -CONT "$launcher"
    wait "$launcher"
    code=$?
    [ "$code" -eq 0 ] || complain "exit code $code: $(jq -c '[.cells[].reason]' result.json)"
    jq -e '(.run.ended_by | IN("budget", "precision", "launches")) and .run.failure == null and all(.cells[]; .launches > 0)' result.json >/dev/null ||
        complain "$(jq -c '[.run, (.cells[] | [.verdict, .launches])]' result.json)"
    within 100 nobody_is_left || complain "still there: $(marked)"
}

printf 'transport: [shm-ring, pipe]\nbudget: 8s\n' >workers.yaml
# Over MPI alone: the world that the nodes enter together, with the launcher's help and in limited time, is entered by the first launch.
printf 'transport: mpi\nnodes: 2\nworkers: 0\nbudget: 8s\n' >nodes.yaml
stop workers
stop nodes

echo "2 launchers stopped, $failed failures"
[ "$failed" -eq 0 ]
