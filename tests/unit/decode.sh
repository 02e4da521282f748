#!/bin/sh
# Frames taken off the wire between two ends over ZeroMQ (unit.capture), shown to protoc and to protobuf's runtime for Python: both read all of
# them, with no field that they do not know, and read the same; and the messages are those that were sent.
. "${LAB_SOURCE:?is where the sources are}/tests/scene.sh"
command -v protoc >/dev/null || { echo 'skipped: protoc is not installed (package protobuf-compiler)'; exit 77; }
[ -x "$LAB_BIN/unit.capture" ] || { echo 'skipped: unit.capture is not built'; exit 77; }
python=
for candidate in python3 /usr/bin/python3; do
    [ -n "$python" ] || ! "$candidate" -c 'import google.protobuf' 2>/dev/null || python=$candidate
done
[ -n "$python" ] || { echo "skipped: there is no protobuf for Python (package python3-protobuf)"; exit 77; }
enter_room
protoc --proto_path="$LAB_SOURCE" --python_out=. "$LAB_SOURCE/proto/data.proto" || complain 'protoc makes no Python of proto/data.proto'

# What it reads, as protoc prints it; and where the message of a test lies in it, that message.
cat >decode.py <<'E2'
import sys
sys.path.insert(0, ".")
from google.protobuf import text_format
from proto import data_pb2

def told(number):
    return number.to_bytes(8, "little") + bytes((number * 31 + i) & 0xff for i in range(8, 40))

kind, name = sys.argv[1], sys.argv[2]
message = getattr(data_pb2, kind)()
message.ParseFromString(open(name, "rb").read())
sys.stdout.write(text_format.MessageToString(message, as_utf8=False))
envelopes = message.message if kind == "Batch" else [message]
for e in envelopes:
    if e.payload and e.payload != told(e.sequence if e.run else e.position):
        sys.exit("a payload that was not sent")
E2

# shown KIND FILE...: each is read alike, and has nothing unknown in it.
shown()
{
    kind=$1
    shift
    for file in "$@"; do
        checked=$((checked + 1))
        protoc --decode="lab.$kind" --proto_path="$LAB_SOURCE" "$LAB_SOURCE/proto/data.proto" <"$file" >protoc.txt 2>err || complain "protoc does not read $file"
        "$python" decode.py "$kind" "$file" >python.txt 2>err || complain "Python does not read $file"
        cmp -s protoc.txt python.txt || complain "protoc and Python read something else in $file: $(diff protoc.txt python.txt | head -n 4)"
        ! grep -qE '^ *[0-9]+[:{ ]' protoc.txt || complain "$file has a field that proto/data.proto does not know: $(cat protoc.txt)"
        cat protoc.txt >>all.txt
    done
}

# has COUNT PATTERN: so many lines, or more.
has() { [ "$(grep -cE "$2" all.txt)" -ge "$1" ] || complain "not $1 lines of '$2': $(cat all.txt)"; }

# taken KIND DELIVERY WHO: what was on that wire.
taken()
{
    what="$2 between $3"
    rm -rf wire all.txt
    mkdir wire
    : >all.txt
    "$LAB_BIN/unit.capture" "$2" "$3" wire 2>err || { complain 'nothing was captured'; return; }
    shown "$1" wire/*
}

taken Envelope best-effort nodes
has 5 '^payload: '
has 5 '^check: [1-9]'

taken Envelope reliable nodes
for kind in ASK DATA HERE ACK; do has 1 "^kind: $kind\$"; done
has 5 '^payload: '
has 5 '^stamp_ns: 99$'
has 7 '^tx_epoch: [1-9]'
has 1 '^stream: [1-9]'
has 1 '^position: 5$'

taken Envelope reliable workers
for kind in ASK DATA HERE ACK; do has 1 "^kind: $kind\$"; done
has 5 '^payload: '

taken Batch batch nodes
has 5 '^ *payload: '
has 5 '^message \{'

what=
echo "$checked frames, $failed failures"
[ "$failed" -eq 0 ]
