#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The ABI gate bites: what it must refuse is done to copies of the headers, the version script and the record, and to small libraries, one thing at a time.
set -u
cd "$(dirname "$0")/../.."
build=$(realpath "${BUILD:-build/release}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
bad=0

fresh() { # a copy of the tree, and its record as a release has it
    rm -rf "$work/tree"
    mkdir -p "$work/tree/lib" "$work/tree/tests/abi" "$work/tree/tools"
    cp -r include "$work/tree"
    cp lib/libtfuse.map "$work/tree/lib"
    cp tools/check_symbols.sh "$work/tree/tools"
    python3 tools/abi.py update --tree "$work/tree" >/dev/null
    cp "$work/tree/tests/abi/abi.txt" "$work/released"
}
edit() { # edit FILE PATTERN SED...: fails when the pattern is not there to be edited
    file=$work/tree/$1
    grep -qE "$2" "$file" || { echo "not ok abi gate: nothing to edit in $1" && bad=1; }
    shift 2
    sed -i -E "$@" "$file"
}
red() { # red NAME PIECE COMMAND...: the command fails, and says so
    name=$1 piece=$2
    shift 2
    if "$@" >"$work/log" 2>&1; then
        echo "not ok abi gate: $name: passed" && bad=1
    elif grep '^not ok' "$work/log" | grep -qF -- "$piece"; then
        echo "ok abi gate: $name"
    else
        echo "not ok abi gate: $name: does not say '$piece': $(head -c 400 "$work/log" | tr '\n' ' ')" && bad=1
    fi
}
green() {
    name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        echo "ok abi gate: $name"
    else
        echo "not ok abi gate: $name: $(grep -v '^ok' "$work/log" | head -c 400 | tr '\n' ' ')" && bad=1
    fi
}
gate() {
    python3 tools/abi.py check --tree "$work/tree" "$@"
}
update() {
    python3 tools/abi.py update --tree "$work/tree" --released "$work/released"
}

fresh
green 'the tree as it is' gate
edit lib/libtfuse.map 'tfuse_array_free;' '/tfuse_array_free;/d'
red 'a symbol removed from the version script' 'removed: symbol tfuse_array_free' gate
red 'the same beside the headers' 'tfuse_array_free' env BUILD="$build" sh "$work/tree/tools/check_symbols.sh"
edit include/tfuse/array.h 'void tfuse_array_free' '/void tfuse_array_free/d'
red 'a function removed' 'removed: function tfuse_array_free' gate
red 'a release keeps it' 'removed: function tfuse_array_free' update

fresh
edit include/tfuse/run.h 'int64_t scored' -e 's/int64_t scored;/int64_t swapped;/' -e 's/int64_t correct;/int64_t scored;/' -e 's/swapped;/correct;/'
red 'two fields swapped' 'changed: field tfuse_score.scored at 16' gate
red 'a release keeps them' 'changed: field tfuse_score.scored' update

fresh
edit include/tfuse/run.h 'int64_t limit, tfuse_array' 's/int64_t limit, tfuse_array/int32_t limit, tfuse_array/'
red 'a parameter of another type' 'changed: function tfuse_run' gate
red 'a release keeps it' 'changed: function tfuse_run' update

fresh
edit include/tfuse/run.h 'double loss;' 's/double loss;/float loss;/'
red 'a field of another type' 'changed: field tfuse_score.loss' gate

fresh
edit include/tfuse/base.h 'TFUSE_BF16 = 3' 's/TFUSE_BF16 = 3/TFUSE_BF16 = 30/'
red 'a constant of another value' 'changed: constant TFUSE_BF16 3' gate

fresh
edit include/tfuse/run.h 'int64_t scored;' 's/int64_t scored;/int64_t dropped; int64_t scored;/'
red 'a field put in the middle' 'changed: field tfuse_score.scored' gate

fresh
edit include/tfuse/solver.h '^} tfuse_result;' 's/^} tfuse_result;/int32_t hidden; } tfuse_result;/'
red 'a field put into padding' 'not at the end: field tfuse_result.hidden' gate --released "$work/released"
red 'nor is it recorded' 'tfuse_result.hidden' update

fresh
edit include/tfuse/run.h '^} tfuse_score;' 's/^} tfuse_score;/double extra; } tfuse_score;/'
red 'a field appended, not recorded' 'new, not recorded: field tfuse_score.extra' gate --released "$work/released"
green 'recording it' update
green 'a field appended' gate --released "$work/released"
check=$(head -n "$(wc -l <"$work/released")" "$work/tree/tests/abi/abi.txt" | cmp - "$work/released" && echo same)
if [ "$check" = same ]; then echo 'ok abi gate: the record grows at its end'; else echo 'not ok abi gate: the record grew elsewhere' && bad=1; fi

fresh
edit include/tfuse/version.h 'uint32_t tfuse_version' 's/^TFUSE_API uint32_t tfuse_version/TFUSE_API uint32_t tfuse_later(void);\n&/'
edit lib/libtfuse.map 'tfuse_version;' 's/^ *tfuse_version;/    tfuse_later;\n&/'
red 'a new symbol in the node of a release' 'in a node of a release: symbol tfuse_later' gate --released "$work/released"
red 'nor is it recorded' 'tfuse_later' update
edit lib/libtfuse.map 'tfuse_later;' '/tfuse_later;/d'
last=$(sed -n 's/^\(TFUSE_[0-9.]*\) {.*/\1/p' "$work/tree/lib/libtfuse.map" | tail -n 1)
printf 'TFUSE_9.9 {\nglobal:\n    tfuse_later;\n} %s;\n' "$last" >>"$work/tree/lib/libtfuse.map"
green 'a new symbol in a node of its own' update

fresh
edit include/tfuse/version.h 'TFUSE_ABI 0' 's/TFUSE_ABI 0/TFUSE_ABI 1/'
edit include/tfuse/run.h 'int64_t limit, tfuse_array' 's/int64_t limit, tfuse_array/int32_t limit, tfuse_array/'
green 'another ABI number begins a record of its own' update
green 'and holds to that' gate --released "$work/released"

# abidiff on small libraries.
library() { # library NAME FIELDS PARAMETER MORE
    mkdir -p "$work/$1"
    printf 'struct s { %s };\nint tfuse_take(struct s *s, %s x);\n%s\n' "$2" "$3" "$4" >"$work/$1/toy.h"
    printf '#include "toy.h"\nint tfuse_take(struct s *s, %s x) { return s->a + (int)x; }\n%s\n' "$3" "$(echo "$4" | sed 's/(void);/(void) { return 1; }/g')" >"$work/$1/toy.c"
    ${CC:-cc} -g -fPIC -shared -I"$work/$1" "$work/$1/toy.c" -o "$work/$1/libtoy.so" || bad=1
}
compare() { # compare NAME GROWN...
    name_of=$1
    shift
    python3 tools/abi.py compare "$work/old" "$work/old/libtoy.so" "$work/$name_of" "$work/$name_of/libtoy.so" "$@"
}
library old 'int a; float b;' int 'int tfuse_more(void);'
library same 'int a; float b;' int 'int tfuse_more(void); int tfuse_new(void);'
library removed 'int a; float b;' int ''
library swapped 'float b; int a;' int 'int tfuse_more(void);'
library retyped 'int a; float b;' long 'int tfuse_more(void);'
library grown 'int a; float b; double c;' int 'int tfuse_more(void);'
green 'abidiff: a function added' compare same
green 'abidiff: a struct that is known to have grown' compare grown s
red 'abidiff: a struct that is not' 'struct s' compare grown
red 'abidiff: a symbol removed' 'tfuse_more' compare removed
red 'abidiff: fields swapped' 'struct s' compare swapped
red 'abidiff: a parameter of another type' 'tfuse_take' compare retyped
exit $bad
