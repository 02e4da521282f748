# shellcheck shell=sh disable=SC2034,SC2154
# What the tests that are shell scripts have in common. A script sets `what` to the thing that it looks at, complains, and goes on; the
# last line of each says how many failures there were.
#
#     . "$LAB_SOURCE/tests/scene.sh"
#     with_hosts_of_our_own "$0"     (or with_shm_of_our_own; before the room: they begin the script anew)
#     enter_room
: "${IPCLAB:?is the program to test}"
LC_ALL=C
export LC_ALL

# A network, processes and mounts of our own: virtual hosts of this test and of nobody else, gone with it however it ends.
with_hosts_of_our_own()
{
    if [ -z "${LAB_APART-}" ]; then
        if [ "$(id -u)" -ne 0 ] || ! unshare --net --mount --pid --fork --mount-proc ip link set lo up 2>/dev/null; then
            echo 'skipped: virtual hosts need root, namespaces and iproute2'
            exit 77
        fi
        LAB_APART=yes exec unshare --net --mount --pid --fork --mount-proc --kill-child sh "$1"
    fi
    mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /dev/shm && mount -t sysfs sysfs /sys && ip link set lo up || exit 1
    command -v mpiexec.hydra >/dev/null || command -v mpiexec.mpich >/dev/null || { echo 'skipped: MPICH is not installed'; exit 77; }
}

# A /dev/shm of our own, so that what is left in it is ours; where that is not allowed LAB_OWN_SHM stays empty, and it is not looked at.
with_shm_of_our_own()
{
    if [ -z "${LAB_OWN_SHM-}" ] && unshare -m mount -t tmpfs tmpfs /dev/shm 2>/dev/null; then
        LAB_OWN_SHM=yes exec unshare -m sh -c 'mount -t tmpfs tmpfs /dev/shm && exec sh "$0"' "$1"
    fi
}

# An empty folder, which is removed at the end; keys that a run makes are made in it.
enter_room()
{
    room=$(mktemp -d) || exit 1
    XDG_CONFIG_HOME=$room/.config
    export XDG_CONFIG_HOME
    trap 'cd /; rm -rf "$room"' EXIT
    cd "$room" || exit 1
    failed=0
    checked=0
    what=
}

complain()
{
    echo "${what:+$what: }$*"
    [ -z "$what" ] || [ ! -s err ] || grep -v ' UCX ' err | tail -n 6 | sed 's/^/    /'
    failed=$((failed + 1))
}

# Waits until the command succeeds: for what comes in its own time, bounded for what never does.
await()
{
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ "$tries" -lt 1000 ] || { complain "waited in vain for: $*"; return 1; }
        sleep 0.02
    done
}

# stand_in_for_ssh SCRIPT: the first ssh in PATH is one of ours, path/ssh in the room, for which $host is the host and "$@" the command.
stand_in_for_ssh()
{
    mkdir -p path
    cat >path/ssh <<'E'
#!/bin/sh
while :; do
    case $1 in
    -o) shift 2 ;;
    -*) shift ;;
    *) break ;;
    esac
done
host=$1
shift
E
    printf '%s\n' "$1" >>path/ssh
    chmod +x path/ssh
    PATH=$room/path:$PATH
}

# ---- of a run whose messages go to `err`, and whose launcher is $launcher ----

# in_background COMMAND...: a run that keeps its launches in `db`; $background is its process.
in_background()
{
    checked=$((checked + 1))
    rm -f db* out
    : >err
    # A shell starts its background jobs with SIGINT ignored, which is inherited: `env` undoes that.
    env --default-signal=INT "$@" >out 2>err &
    background=$!
}

# How many launches the store has of the last run that did not fail.
kept() { "$IPCLAB" show --db db --format json 2>show.err | jq '[.cells[] | select(.verdict != "failed") | .launches] | add // 0'; }

said() { grep -q "$1" err; }
marked() { grep -ls "IPCLAB_CREW=$launcher\." /proc/[0-9]*/environ 2>/dev/null; }
nobody_is_left() { [ -z "$(marked)" ]; }

# The children of a process that have not ended, in the order in which they were started.
children()
{
    for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
        case $(sed 's/.*) //' "/proc/$child/stat" 2>/dev/null) in
        '' | Z* | X*) ;;
        *) echo "$child" ;;
        esac
    done
}

# nth N WORD...: the N-th word; fails when there are fewer.
nth() { [ $# -gt "$1" ] && shift "$1" && echo "$1"; }
