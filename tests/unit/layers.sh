#!/bin/sh
# Who may include whom: every #include of the sources against the table of docs/ARCHITECTURE.md, which the link graph of
# CMakeLists.txt also is. A folder obeys the longest row that names it. Third-party headers are seen in one place each.
set -eu
cd "${LAB_SOURCE:-$(dirname "$0")/../..}"

# folder: what its files may include, by folder or by file
rules='
base           base
shm            base shm
sweep          base shm sweep
proto          base proto
proto/curve    base proto/curve
proto/bus      base proto proto/curve proto/bus
observe        base observe
report         base report
node           base shm proto proto/curve observe node node/lane node/patterns
node/lane      base shm proto proto/curve observe node node/lane
node/patterns  base shm proto proto/curve observe node node/lane node/patterns
node/transports     base shm proto proto/curve observe node node/lane node/transports
node/transports/zmq base shm proto proto/curve observe node node/lane node/transports node/transports/zmq
node/transports/mpi base shm proto proto/curve observe node node/lane node/transports node/transports/mpi
node/transports/ck  base shm proto proto/curve observe node node/lane node/transports node/transports/ck
node/transports/ucx base shm proto proto/curve observe node node/lane node/transports node/transports/ucx
node/transports/nng base shm proto proto/curve observe node node/lane node/transports node/transports/nng
node/hazards   base shm node/hazard.h node/hazards
node/agent     base shm proto proto/curve proto/bus observe node node/lane node/agent
node/main      base shm sweep proto proto/curve proto/bus observe node node/lane node/agent
launcher       base sweep proto proto/curve proto/bus report observe launcher node/transport.h node/pattern.h node/unit.h node/hazard.h
bench          base shm proto node/transport.h node/lane bench
'

# header: the only files (awk regular expression of paths) that may include it; "1": at most one file does
libraries='
zmq.h            ^(proto/bus|proto/curve|node/transports/zmq|bench)/   many
mpi.h            ^(node/transports/mpi|bench)/               many
ck_ring.h        ^(node/transports/ck|bench)/         many
ucp/api/ucp.h    ^node/transports/ucx/               1
nng/nng.h        ^node/transports/nng/               1
libfyaml.h       ^launcher/                          1
jansson.h        ^report/json                        many
sqlite3.h        ^report/store                       many
hwloc.h          ^observe/                           1
linux/perf_event.h ^observe/                         1
protobuf-c/protobuf-c.h ^proto/                      many
'

list=$(find base shm sweep proto observe report node launcher bench -name '*.[ch]' -o -name '*.def' | sort)
[ -n "$list" ] || { echo "no sources under $PWD"; exit 1; }

# shellcheck disable=SC2086
awk -v rules="$rules" -v libraries="$libraries" '
function folder_of(path)
{
    return path ~ /\// ? substr(path, 1, match(path, /\/[^\/]*$/) - 1) : ""
}
# The longest row, or the longest allowed entry, that is this folder or above it.
function row_of(folder)
{
    while (!(folder in may) && folder != "")
        folder = folder_of(folder)
    return folder
}
function allowed(row, included,    n, entry, i, home)
{
    home = row_of(folder_of(included))
    n = split(may[row], entry, " ")
    for (i = 1; i <= n; i++)
        if (entry[i] == included || entry[i] == home)
            return 1
    return 0
}
function complain(text)
{
    print FILENAME ":" FNR ": " text
    wrong++
}
BEGIN {
    n = split(rules, line, "\n")
    for (i = 1; i <= n; i++)
        if (split(line[i], word, " ") > 1) {
            may[word[1]] = line[i]
            sub(/^[^ ]+ +/, "", may[word[1]])
        }
    n = split(libraries, line, "\n")
    for (i = 1; i <= n; i++)
        if (split(line[i], word, " ") == 3) {
            where[word[1]] = word[2]
            single[word[1]] = word[3] == "1"
        }
}
/^[ \t]*#[ \t]*include[ \t]*["<]/ {
    quoted = $0 ~ /include[ \t]*"/
    included = $0
    sub(/^[^"<]*["<]/, "", included)
    sub(/[">].*$/, "", included)
    seen++
    if (included in where) {
        if (FILENAME !~ where[included])
            complain(included " belongs to files matching " where[included])
        else if (single[included] && included in owner && owner[included] != FILENAME)
            complain(included " is included by " owner[included] " already: one file sees it")
        owner[included] = FILENAME
        next
    }
    if (!quoted)
        next
    if (row_of(folder_of(included)) == "")
        complain("\"" included "\": name it from the root of the project")
    else if (!allowed(row_of(folder_of(FILENAME)), included))
        complain(folder_of(FILENAME) " may not include " included)
}
END {
    if (!seen)
        print "not one #include was found"
    print seen + 0 " includes checked, " wrong + 0 " wrong"
    exit wrong || !seen
}' $list
