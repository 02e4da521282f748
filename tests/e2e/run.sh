#!/bin/sh
# The default comparison in a budget of seconds: every format holds the same run, the store shows it again, and every cell of
# the plan is in it. What cannot be written to is refused before anything is measured.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
enter_room

# holds FILTER: what jq makes of the result is true.
holds() { jq -e "$1" run.json >/dev/null || complain "does not hold: $1"; }

# ---- the default comparison ----
"$IPCLAB" run --budget 4s --db db --format json >run.json 2>err
code=$?
# A cell has a launch or two in such a budget, and what else the machine does may leave it without a window: that is for the figures to say.
spoilt='"no window could be kept: the distance of the two cores changed within each, or another edge ended in it"'
holds "[.cells[] | select(.verdict == \"failed\" or (.verdict == \"invalid\" and .reason != $spoilt))] | length == 0"
[ "$code" -eq 0 ] || [ "$code" -eq 5 ] || complain "exit code $code: $(cat err) $(jq -c '[.cells[] | select(.verdict == "failed" or .verdict == "invalid") | {transport, pattern, size_bytes, reason}]' run.json)"
holds '.schema == "ipclab/result/1"'
holds '.run.ended_by == "budget" or .run.ended_by == "precision"'
holds '.run.experiment == "compare" and .run.failure == null'
holds '.environment.hosts | length == 1 and .[0].cores > 0'
holds '.environment.libraries.libzmq | type == "string"'
holds '[.limits[] | select(.value > 0)] | length > 3'
holds '.environment.noise | length > 0'
holds '[.cells[] | select(.verdict != "skipped") | select(.launches < 1)] | length == 0'
holds '[.cells[] | select(.verdict != "skipped") | .integrity | select(.sent < 1 or .sent != .received or .lost + .duplicated + .reordered + .corrupt > 0)] | length == 0'
holds '[.cells[] | select(.verdict == "ok" or .verdict == "noisy") | select(.throughput.messages_per_s.value <= 0)] | length == 0'
holds '[.cells[] | select(.pattern == "pingpong" and (.verdict == "ok" or .verdict == "noisy")) | select(.latency_ns.p50.value <= 0)] | length == 0'
holds '[.cells[] | select(.pattern == "stream") | select(.latency_ns.p50.value != null)] | length == 0'

holds '[.cells[] | select(.transport == "pipe" and .verdict != "skipped") | .options.kernel_buffer | .requested_bytes > 0 and .actual_bytes > 0] | length > 0 and all'
holds '[.cells[] | select(.verdict != "skipped") | .path | .proof == "within-host" and .payload_bytes > 0] | all'

# ---- every cell of the plan, in its order ----
key='[.cells[] | [.transport, .wait, .pattern, .size_bytes, .nodes, .workers]]'
"$IPCLAB" plan --format json >plan.json
jq -c "$key" plan.json >planned
jq -c "$key" run.json >ran
cmp -s planned ran || complain 'the cells of the run are not those of the plan'

# ---- the same again, from the store ----
for format in table json jsonl csv md; do
    "$IPCLAB" show --db db --format "$format" >"shown.$format" 2>err || complain "show --format $format: $(cat err)"
    [ -s "shown.$format" ] || complain "show --format $format prints nothing"
done
cmp -s run.json shown.json || complain 'the store shows another run than was printed'
cells=$(jq '.cells | length' run.json)
lines=$(jq -c 'select(.kind == "run" or .kind == "cell")' shown.jsonl | wc -l)
[ "$lines" -eq $((cells + 1)) ] || complain "jsonl: $lines lines for $cells cells"
jq -c 'select(.kind == "cell") | .transport' shown.jsonl >of-jsonl
jq -c '.cells[] | .transport' run.json | cmp -s - of-jsonl || complain 'jsonl holds other cells'
[ "$(wc -l <shown.csv)" -eq $((cells + 1)) ] || complain "csv: $(wc -l <shown.csv) lines for $cells cells"
grep -q '^| *---\|^|-' shown.md || complain 'md holds no table'

# ---- a run of one's own, printed in every format as it is shown afterwards ----
cat >own.yaml <<'E'
# Does the store keep what is printed?
experiment: own
transport: [shm-ring, pipe]
workers: 2
budget: 1s
launches: 2
E
for format in table json jsonl csv md; do
    "$IPCLAB" run own.yaml --db db --format "$format" -o out.file >out 2>err || complain "run --format $format: $(cat err)"
    [ ! -s out ] || complain "with -o something is printed: $(head -n 1 out)"
    "$IPCLAB" show --db db --format "$format" -o shown.file
    cmp -s out.file shown.file || complain "the store shows another $format than was printed"
done
"$IPCLAB" run own.yaml --db db -q >out 2>err && [ -s out ] && [ ! -s err ] || complain "-q says: $(cat err)"
"$IPCLAB" history --db db --format json | jq -e 'length == 7 or (.rows // [] | length) == 7' >/dev/null || complain 'history does not have seven runs'
"$IPCLAB" run own.yaml --dry-run >dry && "$IPCLAB" plan own.yaml | cmp -s - dry || complain '--dry-run is not the plan'

what='libraries'
"$IPCLAB" run --transport pipe,mpi --budget 1s --db other --format json >libraries.json 2>err || [ $? -eq 5 ] || complain "what uses libraries does not run"
jq -e '.environment.libraries as $all | ["libzmq", "protobuf-c", "hwloc-api", "libfyaml", "jansson", "SQLite"] + (if any(.cells[]; .transport == "mpi" and .launches > 0)
    then ["MPICH"] else [] end) | all(.[]; $all[.] // "" | test("^[0-9]+[.][0-9]"))' libraries.json >/dev/null || complain "they are $(jq -c .environment.libraries libraries.json)"
what=

# ---- refused at once: the store gets no run ----
before=$("$IPCLAB" history --db db --format json)
refuses()
{
    wanted=$1
    sentence=$2
    shift 2
    "$@" >out 2>err
    code=$?
    [ "$code" -eq "$wanted" ] && grep -q "$sentence" err || complain "'$sentence' and code $wanted, not $code: $(cat err)"
}
refuses 2 'cannot write to /nonexistent/x' "$IPCLAB" run own.yaml --db db -o /nonexistent/x
refuses 2 'cannot write to ' "$IPCLAB" run own.yaml --db db -o "$room"
refuses 4 'unable to open' "$IPCLAB" run own.yaml --db /nonexistent/db
"$IPCLAB" run own.yaml --db db >&- 2>err && complain 'a closed standard output is no error'
grep -q 'standard output is closed' err || complain "a closed standard output: $(cat err)"
[ "$before" = "$("$IPCLAB" history --db db --format json)" ] || complain 'a run that was refused is in the store'

# ---- what cannot be written is an error, and the run is in the store all the same ----
"$IPCLAB" run own.yaml --db db >/dev/full 2>err && complain 'a full device is no error'
grep -q 'No space left' err || complain "a full device: $(cat err)"
[ "$before" != "$("$IPCLAB" history --db db --format json)" ] || complain 'a run that could not be printed is not in the store'

for left in ./*file.* ./.*file.*; do
    [ ! -e "$left" ] || complain "left: $left"
done
echo "$cells cells, $failed failures"
[ "$failed" -eq 0 ]
