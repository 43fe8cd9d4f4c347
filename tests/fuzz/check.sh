#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What tools/fuzz.sh makes of a program's words and exit status; and which targets `make fuzz` runs.
set -u
cd "$(dirname "$0")/../.."
top=$PWD work=$(mktemp -d) bad=0
trap 'rm -rf "$work"' EXIT INT TERM
mkdir -p "$work/build/fuzz"

says() { # says NAME STATUS PIECE TEXT: a program that writes TEXT and ends with STATUS makes tools/fuzz.sh say PIECE, and fail unless that starts with ok
    printf '#!/bin/sh\ncat "$0.txt"\nexit %s\n' "$2" >"$work/build/fuzz/run_x"
    chmod +x "$work/build/fuzz/run_x"
    printf '%s\n' "$4" >"$work/build/fuzz/run_x.txt"
    (cd "$work" && sh "$top/tools/fuzz.sh" x 1) >"$work/out" 2>&1
    code=$?
    case $3 in ok*) fails=no ;; *) fails=yes ;; esac
    if grep -qF -- "$3" "$work/out" && [ $((code != 0)) = $((${#fails} == 3)) ] && cmp -s "$work/build/fuzz/x.log" "$work/build/fuzz/run_x.txt"; then
        echo "ok fuzz: $1"
    else
        echo "not ok fuzz: $1: exit status $code, $(cat "$work/out")"
        bad=1
    fi
}

stats='stat::number_of_executed_units: 1200
stat::new_units_added:          34'
says 'nothing is found' 0 'ok    x: 1200 runs, 34 new units, 0 findings' "$stats"
says 'a slow input is no finding' 0 'ok    x: 1200 runs, 34 new units, 0 findings' "Test unit written to build/fuzz/x-slow-unit-1f
$stats"
says 'a finding' 77 'FAIL  x: 1200 runs, 34 new units, 1 findings; exit status 77' "Test unit written to build/fuzz/x-crash-1f
$stats"
says 'the input that does it' 77 'again with: build/fuzz/run_x build/fuzz/x-crash-1f' "Test unit written to build/fuzz/x-crash-1f
$stats"
says 'a leak that ends nothing' 0 'FAIL  x: 1200 runs, 34 new units, 1 findings' "Test unit written to build/fuzz/x-leak-1f
$stats"
says 'it does not start' 127 'cannot load' 'x: cannot load libblis.so.4'
says 'it ran nothing' 0 'FAIL  x: 0 runs' 'nothing to do'
says 'it was interrupted' 72 'END   x: 1200 runs, 34 new units, 0 findings; interrupted' "$stats"

# A rule for each target, and one that runs all.
MAKEFLAGS='' make -n fuzz >"$work/rules" 2>&1
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    name=${name#fuzz_}
    if grep -q "tools/fuzz.sh $name " "$work/rules"; then
        echo "ok fuzz: make fuzz runs $name"
    else
        echo "not ok fuzz: make fuzz runs $name: no rule"
        bad=1
    fi
done
exit $bad
