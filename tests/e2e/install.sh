#!/bin/sh
# What is installed works from any folder, staged with DESTDIR, and after it was moved: programs, modules and experiments are found
# from where the command is. Nothing of it leads back to the sources.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
: "${LAB_BUILD:?is the build tree to install from}"
: "${LAB_SOURCE:?is where configs/ is}"
enter_room
mkdir elsewhere
cd elsewhere || exit 1

printf 'transport: [pipe, zmq-ipc, mpi]\nlaunches: 1\nbudget: 1s\n' >small.yaml

# works NAME PREFIX: everything below PREFIX does what it should.
works()
{
    name=$1
    command=$2/bin/ipclab
    "$command" --version >out 2>err || { complain "$name: --version: $(cat err)"; return; }
    "$command" list transports --format json >list.json 2>err || complain "$name: list: $(cat err)"
    jq -e 'all(.[]; .usable)' list.json >/dev/null || complain "$name: $(jq -c '.[] | select(.usable | not) | [.name, .missing]' list.json)"
    "$command" plan >planned 2>err || complain "$name: plan without a file: $(cat err)"
    "$IPCLAB" plan | cmp -s - planned || complain "$name: another built-in comparison"
    for file in "$LAB_SOURCE"/configs/*.yaml; do
        experiment=$(basename "$file" .yaml)
        "$command" plan "$experiment" >out 2>err || complain "$name: plan $experiment: $(cat err)"
        cmp -s "$file" "$2/share/ipclab/configs/$experiment.yaml" || complain "$name: $experiment.yaml is not the one of the sources"
    done
    "$command" run small.yaml --db "$room/db" --format json >run.json 2>err
    code=$?
    [ "$code" -eq 0 ] && jq -e '.cells | length == 3 and all(.[]; .launches > 0)' run.json >/dev/null ||
        complain "$name: run gives $code: $(cat err)"
    "$command" show --db "$room/db" --format json | cmp -s - run.json || complain "$name: show shows another run"
}

cmake --install "$LAB_BUILD" --prefix "$room/first" >log 2>&1 || complain "cmake --install: $(tail -n 3 log)"
works 'a prefix' "$room/first"

mv "$room/first" "$room/second"
works 'a prefix that was moved' "$room/second"
ln -s "$room/second/bin/ipclab" "$room/elsewhere/lab"
"$room/elsewhere/lab" list transports --format json | cmp -s - list.json || complain 'it does not work through a symbolic link'

DESTDIR=$room/stage cmake --install "$LAB_BUILD" >log 2>&1 || complain "cmake --install with DESTDIR: $(tail -n 3 log)"
staged=$(find "$room/stage" -path '*/bin/ipclab')
works 'a staged installation' "${staged%/bin/ipclab}"

# Exactly what a user needs, and the manual page in order.
(cd "$room/second" && find . -type f | sort) >there
for file in ./bin/ipclab ./libexec/ipclab/ipclab-node ./libexec/ipclab/ipclab-worker ./libexec/ipclab/ipclab-lab-ssh ./libexec/ipclab/ipclab-ssh \
    ./libexec/ipclab/lab-mpi.so ./libexec/ipclab/lab-zmq.so ./share/man/man1/ipclab.1; do
    grep -qx "$file" there || complain "$file is not installed"
done
grep -v -e '^\./share/ipclab/configs/' -e '^\./bin/ipclab$' -e '^\./libexec/ipclab/' -e '^\./share/man/man1/ipclab\.1$' there >other
[ ! -s other ] || complain "installed as well: $(cat other)"
if command -v groff >/dev/null; then
    groff -man -ww -Tutf8 "$room/second/share/man/man1/ipclab.1" >page 2>err
    [ -s page ] && [ ! -s err ] || complain "the manual page: $(cat err)"
fi

# Without its programs it says what is missing.
rm "$room/second/libexec/ipclab/ipclab-node" "$room/second/libexec/ipclab/lab-zmq.so"
if [ ! -e /usr/local/libexec/ipclab/ipclab-node ]; then
    "$room/second/bin/ipclab" run --transport pipe --db "$room/db" >out 2>err && complain 'it runs without ipclab-node'
    grep -q 'ipclab-node: build or install ipclab completely' err || complain "without ipclab-node: $(cat err)"
fi
"$room/second/bin/ipclab" list transports --format json | jq -e '.[] | select(.name == "zmq-ipc") | .usable | not' >/dev/null ||
    complain 'a transport without its module is called usable'

echo "3 installations, $failed failures"
[ "$failed" -eq 0 ]
