#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The ABI gate (docs/ABI.md; `make check-abi`): the record of the ABI against the headers; a client on the library; and where the last release's tag is at
# hand, that release built as it was: its record is how today's begins, abidiff finds additions alone, and its client runs on today's library.
# BUILD is the folder of the library.
set -u
cd "$(dirname "$0")/../.."
build=$(realpath "${BUILD:-build/release}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
bad=0

client() { # client TREE LIBRARIES: the client of a tree, compiled against its headers
    # shellcheck disable=SC2086
    ${CC:-cc} -std=c11 -D_GNU_SOURCE -O1 -I"$1/include" "$1/tests/abi/client.c" -L"$2" -ltfuse -lm -o "$work/client" ||
        { echo "not ok abi: the client of $1 does not build" && return 1; }
}
on() { # on LIBRARIES TREE NAME: the client that was built runs on that library
    LD_LIBRARY_PATH=$1 "$work/client" "$2/tests/data" >"$work/log" 2>&1 || bad=1
    sed -n "s/ client: / abi: $3: /p" "$work/log"
    grep -q '^ok' "$work/log" || { echo "not ok abi: $3: $(tail -n 1 "$work/log")" && bad=1; }
}

released=
tag=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || :)
if [ -n "$tag" ]; then
    old=$(realpath -m "build/abi/$tag")
    if [ ! -d "$old/tests" ]; then
        rm -rf "$old" && mkdir -p "$old.new" && git archive "$tag" | tar -x -C "$old.new" && mv "$old.new" "$old"
    fi
    make --no-print-directory -s -C "$old" FLAVOUR=release BUILD_SUFFIX= WERROR=0 -j"$(getconf _NPROCESSORS_ONLN)" shared >"$work/make" 2>&1 ||
        { echo "not ok abi: $tag does not build: $(tail -n 2 "$work/make" | tr '\n' ' ')" && bad=1; }
    released=$old/tests/abi/abi.txt
    [ -f "$released" ] || { echo "not ok abi: $tag has no record" && bad=1; }
fi

python3 tools/abi.py check ${released:+--released "$released"} || bad=1
client . "$build" && on "$build" . "a client" || bad=1

number() {
    sed -n 's/^.define TFUSE_ABI \([0-9]*\)/\1/p' "$1/include/tfuse/version.h"
}
if [ -z "$tag" ]; then
    echo "ok abi: there is no tag of a release here: nothing to compare with"
elif [ "$(number "$old")" != "$(number .)" ]; then
    echo "ok abi: $tag is of another ABI number: nothing is promised towards it"
else
    now=$(find "$build" -maxdepth 1 -name 'libtfuse.so.*.*.*' | head -n 1)
    then=$(find "$old/build" -maxdepth 2 -name 'libtfuse.so.*.*.*' | head -n 1)
    # shellcheck disable=SC2046
    python3 tools/abi.py compare "$old/include" "$then" include "$now" $(python3 tools/abi.py grown --released "$released") || bad=1
    client "$old" "$(dirname "$then")" && on "$build" "$old" "the client of $tag on this library" || bad=1
fi
exit $bad
