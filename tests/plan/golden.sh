#!/bin/sh
# What `ipclab plan` makes of each tests/plan/*.yaml stands in the file beside it: NAME.expected is the table, and below it what
# the JSON says of each cell. Two cpus are given, so that every machine makes the same plan, whatever it can do itself: it has no folder for
# files here.
#
#     IPCLAB=build/dev/bin/ipclab sh tests/plan/golden.sh --update      writes them anew; look at the difference before you commit
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
here=$(cd "$(dirname "$0")" && pwd) || exit 1
room=$(mktemp -d) || exit 1
trap 'rm -rf "$room"' EXIT
cd "$here" || exit 1
TMPDIR=$room/not-there
export TMPDIR

# Only the keys that a plan decides: the others belong to measuring.
cell_keys()
{
    grep -E '^ *"(id|transport|link|wait|pattern|topology|workload|window|batch|delivery|encryption|size_bytes|nodes|workers|placement|unit|scope|reason)":' |
        sed -e 's/^ *//' -e 's/,$//' | awk '/^"id"/ { if (line) print line; line = $0; next } { line = line ", " $0 } END { print line }'
}

failed=0
count=0
for file in *.yaml; do
    name=${file%.yaml}
    cpus=$(sed -n 's/^# cpus: //p' "$file")
    {
        "$IPCLAB" plan --cpus "${cpus:-0,1}" "$file" || echo "exit code $?"
        echo
        "$IPCLAB" plan --cpus "${cpus:-0,1}" --format json "$file" | cell_keys
    } >"$room/$name" 2>&1
    if [ "$1" = --update ]; then
        cp "$room/$name" "$name.expected"
    elif ! diff -u "$name.expected" "$room/$name"; then
        failed=$((failed + 1))
    fi
    count=$((count + 1))
done
if [ "$count" -eq 0 ]; then
    echo "no experiment to plan in $here"
    exit 1
fi
echo "$count plans, $failed not as expected"
[ "$failed" -eq 0 ]
