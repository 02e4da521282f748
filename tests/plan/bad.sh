#!/bin/sh
# Every wrong experiment and every wrong option is refused with one exact sentence, exit code 2, and nothing on standard output.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
enter_room

# expect_refusal SENTENCE ARGUMENT...: `ipclab plan ARGUMENT...` says exactly that.
expect_refusal()
{
    sentence=$1
    shift
    timeout 20 "$IPCLAB" plan "$@" >out 2>err
    code=$?
    said=$(cat err)
    checked=$((checked + 1))
    if [ "$code" -ne 2 ] || [ "$said" != "$sentence" ] || [ -s out ]; then
        printf 'ipclab plan %s\n  expected 2: %s\n  got %s: %s\n' "$*" "$sentence" "$code" "$said"
        [ -s out ] && echo "  and $(wc -c <out) bytes on standard output"
        failed=$((failed + 1))
    fi
}

# refuses SENTENCE TEXT: the file bad.yaml of that text (as printf %b writes it) is refused.
refuses()
{
    printf '%b' "$2" >bad.yaml
    expect_refusal "$1" bad.yaml
}

# ---- keys ----
refuses "bad.yaml:2:1: unknown key 'tranpsort'; did you mean 'transport'?" 'size: 64\ntranpsort: pipe\n'
refuses "bad.yaml:1:1: unknown key 'frobnicate'" 'frobnicate: 1\n'
refuses "bad.yaml:3:3: 'budget' is not an axis, as the keys of matrix are" 'transport: pipe\nmatrix:\n  budget: 5s\n'
refuses "bad.yaml:2:4: 'siez' is not an axis, as the keys of matrix are; did you mean 'size'?" 'matrix:\n   siez: 64\n'
refuses "bad.yaml:2:12: 'wiat' is not an axis, as the keys of baseline are; did you mean 'wait'?" \
    'transport: pipe\nbaseline: {wiat: block}\n'
refuses "bad.yaml:2:1: the key 'size' is already given in line 1" 'size: 64\nsize: 128\n'
refuses "bad.yaml:4:3: 'size' is already given in line 2" 'transport: pipe\nsize: 64\nmatrix:\n  size: 128\n'
refuses "bad.yaml:1:3: a key must be a name, not a list" '? [a, b]\n: 1\n'
refuses "bad.yaml:1:1: no transport is named: an experiment needs at least one" 'size: 64\n'

# ---- types ----
refuses "bad.yaml:1:9: 'matrix' takes a mapping, and this is a list" 'matrix: [a, b]\n'
refuses "bad.yaml:2:10: 'exclude' takes a list, and this is a mapping" 'transport: pipe\nexclude: {size: 64}\n'
refuses "bad.yaml:1:7: 'size' takes a value or a list of values, and this is a mapping" 'size: {a: 1}\n'
refuses "bad.yaml:1:8: 'size' takes single values, and this is a list" 'size: [[64]]\n'
refuses "bad.yaml:1:7: 'size' is an empty list: it leaves nothing to choose from" 'size: []\n'
refuses "bad.yaml:1:1: 'size' has no value" 'size:\n'
refuses "bad.yaml:2:11: 'launches' takes a single value, and this is a list" 'transport: pipe\nlaunches: [1, 2]\n'
refuses "bad.yaml:1:1: an experiment is a mapping of keys to values, and this is a list" '- transport\n- pipe\n'
refuses "bad.yaml:1:1: an experiment is a mapping of keys to values, and this is a single value" 'pipe\n'
refuses "bad.yaml:2:8: 'cells' has 0 entries; it takes 1 to 256" 'transport: pipe\ncells: []\n'
refuses "bad.yaml:2:11: 'baseline' names no axis, and would match every cell" 'transport: pipe\nbaseline: {}\n'
refuses "bad.yaml:2:10: 'expect' takes single values, and this is a mapping" 'transport: pipe\nexpect: [{a: b}]\n'
refuses "bad.yaml:2:1: 'matrix' has no value" 'transport: pipe\nmatrix:\n'
refuses "bad.yaml:2:9: 'matrix' names no axis: there is nothing to multiply" 'transport: pipe\nmatrix: {}\n'
refuses "bad.yaml:2:1: 'cells' has no value" 'transport: pipe\ncells:\n'
refuses "bad.yaml:2:1: 'exclude' has no value" 'transport: pipe\nexclude:\n'
refuses "bad.yaml:2:10: 'exclude' has 0 entries; it takes 1 to 256" 'transport: pipe\nexclude: []\n'

# ---- values ----
refuses "bad.yaml:1:7: '64KB5' is not a size (64, 1KiB, 1MiB): the unit 'KB5' is unknown" 'size: 64KB5\n'
refuses "bad.yaml:1:12: '4' is too small: the least message has 8 bytes, its head" 'size: [64, 4]\n'
refuses "bad.yaml:1:7: '0' is too small: the least message has 8 bytes, its head" 'size: 0\n'
refuses "bad.yaml:1:7: '1MiB..8': a range goes from a size above 0 up to a larger one" 'size: 1MiB..8\n'
refuses "bad.yaml:1:7: '8..64*1': the factor after '*' must be 2 or more" 'size: 8..64*1\n'
refuses "bad.yaml:1:7: '8..': a range has a size on both sides of '..'" 'size: 8..\n'
refuses "bad.yaml:1:7: '..8': a range has a size on both sides of '..'" 'size: ..8\n'
refuses "bad.yaml:1:7: '1..0': a range goes from a size above 0 up to a larger one" 'size: 1..0\n'
refuses "bad.yaml:1:7: '8..64*': there is no factor after '*'" 'size: 8..64*\n'
refuses "bad.yaml:1:7: '8..64*x': the factor after '*' must be 2 or more" 'size: 8..64*x\n'
refuses "bad.yaml:1:7: '-64' is not a size (64, 1KiB, 1MiB)" 'size: -64\n'
refuses "bad.yaml:1:7: '99999999999GiB' is not a size (64, 1KiB, 1MiB): it must be whole and below 2^63" 'size: 99999999999GiB\n'
refuses "bad.yaml:1:8: '0' is out of range: nodes is 1 to 256" 'nodes: 0\n'
refuses "bad.yaml:1:10: '100000' is out of range: workers is 0 to 4096" 'workers: 100000\n'
refuses "bad.yaml:1:10: '-1' is not a whole number" 'workers: -1\n'
refuses "bad.yaml:1:10: '1.5' is not a whole number: it must be whole and below 2^63" 'workers: 1.5\n'
refuses "bad.yaml:1:10: '99999999999999999999' is not a whole number: it must be whole and below 2^63" \
    'workers: 99999999999999999999\n'
refuses "bad.yaml:1:9: '0' is out of range: window is 1 to 1048576" 'window: 0\n'
refuses "bad.yaml:1:11: '0' is out of range: launches is 1 to 1000" 'launches: 0\n'
refuses "bad.yaml:1:9: '500ms' is out of range: a budget is 1s to 24h" 'budget: 500ms\n'
refuses "bad.yaml:1:9: '25h' is out of range: a budget is 1s to 24h" 'budget: 25h\n'
refuses "bad.yaml:1:9: '5' is not a time (250us, 5s): it has no unit" 'budget: 5\n'
refuses "bad.yaml:1:9: '0s' is out of range: a budget is 1s to 24h" 'budget: 0s\n'
refuses "bad.yaml:1:7: 'one' is not a whole number" 'seed: one\n'
refuses "bad.yaml:1:7: '9223372036854775808' is not a whole number: it must be whole and below 2^63" 'seed: 9223372036854775808\n'
refuses "bad.yaml:1:7: '0/s' is out of range: a rate is above 0" 'rate: 0/s\n'
refuses "bad.yaml:1:6: 'lab' is true or false" 'lab: maybe\n'
refuses "bad.yaml:1:12: unknown transport 'shm-rnig'; did you mean 'shm-ring'?" 'transport: shm-rnig\n'
refuses "bad.yaml:2:12: unknown placement 'upside-down'; it is one of same-core, other-core, any" 'transport: pipe\nplacement: upside-down\n'
refuses "bad.yaml:2:15: unknown wait 'spinn'; did you mean 'spin'?" 'transport: pipe\nwait: [block, spinn]\n'
refuses "bad.yaml:2:12: unknown placement 'same-cpu'; did you mean 'same-core'?" 'transport: pipe\nplacement: same-cpu\n'
refuses "bad.yaml:1:13: 'pi?pe' is not a value of transport" 'transport: "pi\\ape"\n'
refuses "bad.yaml:2:8: 'hosts' is an empty list: it leaves nothing to choose from" 'transport: pipe\nhosts: []\n'

# ---- what no single value shows ----
refuses "bad.yaml:2:11: the excludes leave no cell of the matrix in line 1" 'transport: pipe\nexclude: [{transport: pipe}]\n'
values=$(seq -s , 8 107)
refuses "bad.yaml:1:1: the axes make more than 10000 cells; shorten a list, or split the file" \
    "transport: pipe\nsize: [$values]\nwindow: [$values]\nbatch: [1, 2]\n"

# ---- YAML ----
refuses "bad.yaml: the file is empty: an experiment names at least a transport" ''
refuses "bad.yaml: the file is empty: an experiment names at least a transport" '# only a comment\n'
refuses "bad.yaml:2:1: this is not YAML: flow sequence without a closing bracket" 'size: [64, 128\n'
refuses "bad.yaml:1:8: this is not YAML: invalid nested block mapping on the same line" 'size: a: b\n'
refuses "bad.yaml:2:1: this is not YAML: tab character may not be used as indentation" 'matrix:\n\ttransport: pipe\n'
refuses "bad.yaml:1:1: this is not YAML, here or soon after it: indentation indicator 0" 'transport: |0\n  pipe\n'
refuses "bad.yaml:2:1: this is not YAML, here or soon after it: indentation indicator 0" 'size: 64\ntransport: >0\n  pipe\n'
refuses "bad.yaml:2:7: '64K5' is not a size (64, 1KiB, 1MiB): the unit 'K5' is unknown" 'transport: pipe\r\nsize: 64K5\r\n'
refuses "bad.yaml:2:1: a second document ('---') begins after this one: one file holds one experiment" \
    'transport: pipe\n---\ntransport: mpi\n'
refuses "bad.yaml:1:12: tags (!) have no meaning in an experiment" 'transport: !secret pipe\n'
refuses "bad.yaml:1:11: the alias '*a' stands inside the node it names" 'size: &a [*a]\n'
refuses "bad.yaml:1:7: the alias '*b' names no anchor before it" 'size: *b\n'
refuses "bad.yaml:1:1: the byte 0x00 is not text: an experiment is a YAML file in UTF-8" '\0000\0001\0002\0377\n'
refuses "bad.yaml:1:7: the byte 0xff is not text: an experiment is a YAML file in UTF-8" 'size: \0377\n'
refuses "bad.yaml:2:4: the byte 0x07 is not text: an experiment is a YAML file in UTF-8" 'a: 1\nb: \0007\n'

bomb='a: &a [x, x, x, x, x, x, x, x, x, x]\n'
before=a
for name in b c d e f g h; do
    bomb="$bomb$name: &$name [*$before, *$before, *$before, *$before, *$before, *$before, *$before, *$before, *$before, *$before]\n"
    before=$name
done
refuses "bad.yaml:5:7: with its aliases expanded this holds more than 20000 values" "$bomb"
deep=$(printf '%040d' 0 | tr 0 '[')
refuses "bad.yaml:1:22: lists and mappings are nested deeper than 16 levels" "size: $deep\n"
{ printf 'size: '; head -c 100000 /dev/zero | tr '\0' '['; } >bad.yaml
expect_refusal "bad.yaml:1:22: lists and mappings are nested deeper than 16 levels" bad.yaml
head -c 100000 /dev/zero | sed 's/\x00/- /g' >bad.yaml
expect_refusal "bad.yaml:1:33: lists and mappings are nested deeper than 16 levels" bad.yaml
refuses "bad.yaml:2:7: 'size' has 15000 values; the most is 256" "transport: pipe\nsize: [$(seq -s , 8 15007)]\n"
refuses "bad.yaml:2:108900: more than 20000 values are too many for an experiment" "transport: pipe\nsize: [$(seq -s , 8 30000)]\n"

# ---- files ----
expect_refusal "missing.yaml: cannot open the experiment: No such file or directory" missing.yaml
mkdir folder
expect_refusal "folder: the experiment must be a regular file, and this is a directory" folder
expect_refusal "/dev/zero: the experiment must be a regular file, and this is a device or socket" /dev/zero
mkfifo fifo
expect_refusal "fifo: the experiment must be a regular file, and this is a pipe" fifo
truncate -s 100M large.yaml
expect_refusal "large.yaml: the experiment is larger than 1 MiB" large.yaml
head -c 1048576 /dev/zero | tr '\0' '#' >limit.yaml
expect_refusal "limit.yaml: the file is empty: an experiment names at least a transport" limit.yaml
ln -s loop loop
expect_refusal "loop: cannot open the experiment: Too many levels of symbolic links" loop
expect_refusal "limit.yaml/x: cannot open the experiment: Not a directory" limit.yaml/x
expect_refusal "the name of the file is empty" ''
expect_refusal "a?[31m: cannot open the experiment: No such file or directory" "$(printf 'a\033[31m')"

# ---- options ----
printf 'transport: pipe\n' >good.yaml
expect_refusal "--size: '64KB5' is not a size (64, 1KiB, 1MiB): the unit 'KB5' is unknown" --size 64,64KB5 good.yaml
expect_refusal "--transport: unknown transport 'pip'; did you mean 'pipe'?" --transport=pip good.yaml
expect_refusal "--workers: '-1' is not a whole number" --workers -1 good.yaml
expect_refusal "--size: 'size' has no value" --size 64,,128 good.yaml
expect_refusal "--size: 'size' has no value" --size= good.yaml
expect_refusal "--size: '1..0': a range goes from a size above 0 up to a larger one" --size 1..0 good.yaml
expect_refusal "--nodes: '0' is out of range: nodes is 1 to 256" --nodes 0 good.yaml
expect_refusal "--nodes: '4294967297' is out of range: nodes is 1 to 256" --nodes 4294967297 good.yaml
expect_refusal "--workers: '100000' is out of range: workers is 0 to 4096" --workers 100000 good.yaml
expect_refusal "--launches: '0' is out of range: launches is 1 to 1000" --launches 0 good.yaml
expect_refusal "--budget: '0' is not a time (250us, 5s): it has no unit" --budget 0 good.yaml
expect_refusal "--set matrix.: unknown key 'matrix.'" --set matrix.=1 good.yaml
expect_refusal "--set cells.0.size: unknown key 'cells.0.size'" --set cells.0.size=64 good.yaml
expect_refusal "--set: '=1' is not of the form path=value" --set =1 good.yaml
expect_refusal "--set matrix.siez: unknown key 'matrix.siez'; did you mean 'size'?" --set matrix.siez=64 good.yaml
expect_refusal "--set bugdet: unknown key 'bugdet'; did you mean 'budget'?" --set bugdet=5s good.yaml
expect_refusal "--set exclude: 'exclude' is more than a value: it can only be set in a file" --set exclude=64 good.yaml
expect_refusal "--set: 'window' is not of the form path=value" --set window good.yaml
expect_refusal "--hosts: 'hosts' and 'hosts_file' are both given; one of them must go" --hosts good.yaml --set hosts=a,b good.yaml
expect_refusal "ipclab plan has no option '--sizes'; did you mean '--size'? (see: ipclab plan --help)" --sizes 64 good.yaml
expect_refusal "ipclab plan has no option '-z' (see: ipclab plan --help)" -z good.yaml
expect_refusal "'--size' needs a value" good.yaml --size
expect_refusal "'--dry-run' takes no value" --dry-run=1 good.yaml
expect_refusal "ipclab plan takes one file, and there is 'b.yaml' after 'good.yaml'" good.yaml b.yaml
expect_refusal "unknown format 'jsn': it is one of table, json, jsonl, csv, md; did you mean 'json'?" --format jsn good.yaml
expect_refusal "'0,x' is not a list of cpus (0,1,4-7)" --cpus 0,x good.yaml

# Which transports there are is not written down here, so that a new one needs no line of this file.
checked=$((checked + 1))
"$IPCLAB" plan --transport carrier-pigeon good.yaml >out 2>err
if [ $? -ne 2 ] || ! grep -Eqx -- "--transport: unknown transport 'carrier-pigeon'; it is one of null, shm-ring, .*, mpi, .*" err; then
    echo "a transport that there is not: $(cat err)"
    failed=$((failed + 1))
fi

# Good files, to know that the refusals are not those of everything: also as other editors write them.
printf '\357\273\277transport: pipe\n' >bom.yaml
printf 'transport: pipe\r\nsize: 64\r\n' >crlf.yaml
printf 'transport:\tpipe\t# and a tab\n' >tab.yaml
printf 'transport: pipe' >unended.yaml
for file in good bom crlf tab unended; do
    if ! "$IPCLAB" plan $file.yaml >out 2>err || [ -s err ] || ! [ -s out ]; then
        echo "$file.yaml was refused: $(cat err)"
        failed=$((failed + 1))
    fi
done

echo "$checked refusals, $failed not as expected"
[ "$failed" -eq 0 ]
