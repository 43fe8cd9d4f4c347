#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Every public header alone, twice in one file, as C99 and C11 and as C++11 and C++17, with every warning fatal.
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
warnings='-Wall -Wextra -pedantic -Wundef -Werror -Iinclude -fsyntax-only'
failed=0

try() { # try NAME COMMAND...
    name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        echo "ok headers: $name"
    else
        echo "not ok headers: $name: $(grep -m 1 error "$work/log" || head -n 1 "$work/log")"
        failed=1
    fi
}

for header in include/tfuse/*.h; do
    name=tfuse/$(basename "$header")
    printf '#include <%s>\n#include <%s>\nextern int nothing;\n' "$name" "$name" >"$work/h.c"
    cp "$work/h.c" "$work/h.cc"
    for std in c99 c11; do
        # shellcheck disable=SC2086
        try "$name as $std" ${CC:-gcc} -x c -std=$std -Wstrict-prototypes $warnings "$work/h.c"
    done
    for std in c++11 c++17; do
        # shellcheck disable=SC2086
        try "$name as $std" ${CXX:-g++} -x c++ -std=$std $warnings "$work/h.cc"
    done
done
exit $failed
