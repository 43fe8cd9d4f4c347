#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# tools/fuzz.sh NAME SECONDS: one of libFuzzer's programs, build/fuzz/run_NAME, for so long. Inputs that reach new code are added to build/fuzz/NAME, beside
# those of tests/fuzz/corpus/NAME; what it says goes to build/fuzz/NAME.log, and an input that breaks something is left as build/fuzz/NAME-crash-... .
# Ends with a line: runs, new units, findings. Fails when there is one.
set -u
name=$1 seconds=$2
out=build/fuzz
log=$out/$name.log
mkdir -p "$out/$name"
trap : INT # the program hears of it too, and says what it has done
echo "  FUZZ  $name: $seconds s; log in $log"
"$out/run_$name" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$out/$name-" "$out/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1
code=$?

number() { # number NAME: of the last statistics
    sed -n "s/^stat::$1: *\([0-9]*\)$/\1/p" "$log" | tail -n 1
}

found=$(sed -n 's/.*Test unit written to //p' "$log" | grep -v '/[^/]*slow-unit-[^/]*$')
findings=$(printf '%s' "$found" | grep -c .)
runs=$(number number_of_executed_units) new=$(number new_units_added)
said="$name: ${runs:-0} runs, ${new:-0} new units, $findings findings"
INTERRUPTED=72
if [ "$code" -eq 0 ] && [ "$findings" -eq 0 ] && [ "${runs:-0}" -gt 0 ]; then
    echo "  ok    $said"
elif [ "$code" -eq $INTERRUPTED ] && [ "$findings" -eq 0 ]; then
    echo "  END   $said; interrupted"
    exit 130
else
    echo "  FAIL  $said; exit status $code"
    if [ "$findings" -gt 0 ]; then
        printf '%s\n' "$found" | sed "s|.*|        again with: $out/run_$name &|"
    else
        tail -n 10 "$log" | sed 's/^/        /'
    fi
    exit 1
fi
