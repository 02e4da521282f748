#!/bin/sh
# What the documents show works as printed: every file they name is there, every command plans cells to run, every YAML block is an
# experiment; and every experiment of configs/ opens with a comment, is called what its file is called, asks its question and has
# cells to run on two cpus.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
: "${LAB_SOURCE:?is where the documents are}"
room=$(mktemp -d) || exit 1
trap 'rm -rf "$room"' EXIT
cd "$LAB_SOURCE" || exit 1
failed=0
checked=0

# plans WHAT ARGUMENT...: on two cpus there is at least one cell to run.
plans()
{
    what=$1
    shift
    checked=$((checked + 1))
    timeout 20 "$IPCLAB" plan --cpus 0,1 "$@" >"$room/plan" 2>"$room/err" || { complain "$what: $(cat "$room/err")"; return; }
    grep -Eq '^[1-9][0-9]* cells? to run' "$room/plan" || complain "$what: $(sed -n 2p "$room/plan")"
}

# ---- files ----
documents='README.md CONTRIBUTING.md docs/ARCHITECTURE.md docs/ADDING-A-TRANSPORT.md docs/ipclab.1'
for document in $documents; do
    for path in $(grep -Eo '(configs|docs|scripts|base|shm|proto|observe|node|launcher|report|tests|bench)/[A-Za-z0-9_./-]*' "$document" | sed 's/[.,]*$//' | sort -u); do
        case $path in node/transports/mine.c | */) continue ;; esac
        checked=$((checked + 1))
        [ -e "$path" ] || complain "$document names $path, which is not there"
    done
done

# ---- commands: as `plan`, which takes the same options and starts nothing; those with a FILE of the reader's are left out ----
sed -e "s/\\\\(aq/'/g" -e 's/\\-/-/g' docs/ipclab.1 | cat README.md docs/ADDING-A-TRANSPORT.md - |
    sed -e 's/^ *//' -e 's/ *#.*//' -e 's/   */\
/g' | sed -n -e 's! && sudo ipclab lab down$!!' -e 's/^.*ipclab lab up 3 && //' -e 's/^sudo //' \
    -e 's!^\(build/dev/bin/\)\{0,1\}ipclab \(run\|plan\)\( .*\)\{0,1\}$!\3!p' | grep -v -e 'FILE' -e ',mine' >"$room/commands"
while read -r arguments; do
    eval "set -- $arguments"
    plans "ipclab run $arguments" "$@"
done <"$room/commands"
[ "$(wc -l <"$room/commands")" -ge 13 ] || complain "only these commands were found: $(cat "$room/commands")"

# ---- YAML ----
awk -v room="$room" '/^```yaml/ { file = room "/block" ++n ".yaml"; next } /^```/ { file = "" } file { print > file }' README.md
for block in "$room"/block*.yaml; do
    plans "a block of README.md" "$block"
done

# ---- configs/ ----
for file in configs/*.yaml; do
    name=$(basename "$file" .yaml)
    plans "$file" "$file"
    head -n 1 "$file" | grep -q '^# ' || complain "$file does not open with a comment"
    grep -Eq "^experiment: $name( |\$)" "$file" || complain "$file is not called $name"
    grep -Eq '^question: .*\?' "$file" || complain "$file asks no question"
    case $name in
    compare) continue ;;
    does-* | how-* | is-* | what-* | when-* | where-* | which-* | who-* | why-*) ;;
    *) complain "$file is not named by its question" ;;
    esac
    grep -q "$name" README.md || complain "README.md does not tell of $file"
done

echo "$checked checks, $failed not as expected"
[ "$failed" -eq 0 ]
