#!/bin/sh
# The envelope written by hand, read by the reference implementation; and the other way round.
command -v protoc >/dev/null || { echo "skipped: protoc is not installed (package protobuf-compiler)"; exit 77; }
[ -x "$LAB_BIN/unit.envelope" ] || { echo "skipped: unit.envelope is not built"; exit 77; }
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT

fail()
{
    echo "$1"
    exit 1
}

run_protoc()
{
    protoc "--$1=lab.Envelope" --proto_path="$LAB_SOURCE" "$LAB_SOURCE/proto/data.proto"
}

"$LAB_BIN/unit.envelope" --write >"$directory/wire" || fail "no envelope was written"
run_protoc decode <"$directory/wire" >"$directory/text" || fail "protoc does not read what was written"

# Every field by its name: none missing, none left over (an unknown one would show as its number).
grep -v '^check: [0-9][0-9]*$' "$directory/text" >"$directory/got"
cat >"$directory/expected" <<'TEXT'
run: 18364758544493064720
epoch: 7
sender: 3
receiver: 4294967295
sequence: 18446744073709551615
stamp_ns: 1
channel: 12
payload: "ping"
TEXT
diff "$directory/expected" "$directory/got" || fail "protoc reads other values than were written"
grep -q '^check: [1-9]' "$directory/text" || fail "there is no check value"

# protoc writes short lengths, and so another head than ours.
run_protoc encode <"$directory/text" >"$directory/again" || fail "protoc does not write what it read"
cmp -s "$directory/wire" "$directory/again" && fail "protoc wrote our head: the general reader was not tested"
said=$("$LAB_BIN/unit.envelope" --read <"$directory/again") || fail "what protoc wrote is refused"
[ "$said" = "7 3 12 ping" ] || fail "what protoc wrote is read as: $said"
