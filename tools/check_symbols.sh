#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The shared library exports, the static archive leaves global, the version script lists, and the public headers declare: the same names.
# BUILD is the folder of the libraries.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build/release}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
failed=0

result() { # result NAME OK DETAIL
    if [ "$2" = 0 ]; then
        echo "ok symbols: $1"
    else
        echo "not ok symbols: $1: $3"
        failed=1
    fi
}

same() { # same NAME FILE: FILE holds the names of the headers
    if diff "$work/headers" "$2" >"$work/diff"; then
        result "$1" 0 ''
    else
        result "$1" 1 "$(grep '^[<>]' "$work/diff" | sed 's/^</lacks/; s/^>/has beyond the headers/' | tr '\n' ' ')"
    fi
}

# Declarations: TFUSE_API up to the first parenthesis, which may be lines away.
cat include/tfuse/*.h | grep -v '^#' | tr '\n' ' ' | grep -oE 'TFUSE_API [^(;]*\(' | grep -oE 'tfuse_[a-z0-9_]+\($' | tr -d '(' |
    sort -u >"$work/headers"
sed -n 's/^ *\(tfuse_[a-z0-9_]*\);.*/\1/p' lib/libtfuse.map | sort >"$work/map"
so=$(find "$build" -maxdepth 1 -name 'libtfuse.so.*.*.*' | head -n 1)
nm -D --defined-only "$so" | awk '$2 != "A" {sub("@.*", "", $3); print $3}' | sort >"$work/shared"
nm -D --defined-only "$so" | awk '$2 != "A" && $3 !~ /@@TFUSE_[0-9.]+$/ {print $3}' >"$work/unversioned"
nm -g --defined-only "$build/libtfuse.a" | awk 'NF == 3 {print $3}' | sort >"$work/static"
abi=$(sed -n 's/^.define TFUSE_ABI \([0-9]*\)/\1/p' include/tfuse/version.h)
soname=$(objdump -p "$so" | awk '$1 == "SONAME" {print $2}')

same 'version script' "$work/map"
same 'shared library' "$work/shared"
same 'static archive' "$work/static"
if [ -s "$work/unversioned" ]; then
    result 'symbol versions' 1 "no version: $(tr '\n' ' ' <"$work/unversioned")"
else
    result 'symbol versions' 0 ''
fi
if [ "$soname" = "libtfuse.so.$abi" ]; then
    result 'SONAME' 0 ''
else
    result 'SONAME' 1 "'$soname' for ABI $abi"
fi
# Printing, ending the process and the environment are not the library's business. jansson and zlib are others' code.
undefined=$(nm -D --undefined-only "$so" | awk '{sub("@.*", "", $2); print $2}' |
    grep -xE 'printf|puts|putchar|abort|exit|_exit|getenv|secure_getenv|setlocale|system|dlopen|signal|sigaction|chdir|__assert_fail' |
    tr '\n' ' ' || :)
if [ -z "$undefined" ]; then
    result 'calls that the library must not make' 0 ''
else
    result 'calls that the library must not make' 1 "$undefined"
fi
exit $failed
