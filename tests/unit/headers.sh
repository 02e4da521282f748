#!/bin/sh
# Every header stands alone: it compiles by itself, twice over, with every warning of the house an error.
set -eu
cd "${LAB_SOURCE:-$(dirname "$0")/../..}"
build=${LAB_BUILD:?the build tree, for generated headers}
compiler=${LAB_CC:-cc}

list=$(find base shm proto observe report node launcher bench tests -name '*.h' | sort)
[ -n "$list" ] || { echo "no headers under $PWD"; exit 1; }
packages=$(pkg-config --cflags-only-I libprotobuf-c libzmq mpich jansson sqlite3 libfyaml hwloc cmocka | sed 's/-I/-isystem /g')

wrong=0
for header in $list; do
    # shellcheck disable=SC2086
    if ! printf '#include "%s"\n#include "%s"\n' "$header" "$header" |
        "$compiler" -std=gnu17 -D_GNU_SOURCE -fsyntax-only -Wall -Wextra -Wshadow -Wstrict-prototypes -Wcast-qual \
            -Wwrite-strings -Wformat=2 -Wundef -Wvla -Werror -I. -I"$build/generated" $packages -x c -; then
        echo "$header does not compile alone"
        wrong=1
    fi
done
echo "$(echo "$list" | wc -l) headers"
exit $wrong
