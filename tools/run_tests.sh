#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# tools/run_tests.sh PROGRAM...: runs test programs, JOBS of them at a time (one a core), and adds up their results. A program reports by
# Check's summary ("80%: Checks: 5, Failures: 1, Errors: 0") or by lines "ok NAME" and "not ok NAME: WHY". One that fails without saying so, or says
# nothing, counts as one failure. WRAP is put before programs that are no scripts. Ends with "N passed, N failed"; fails when anything did.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)}
export WRAP="${WRAP:-}" WORK="$work"

i=0
for program in "$@"; do
    i=$((i + 1))
    printf '%04d %s\n' "$i" "$program"
done >"$work/list"

# shellcheck disable=SC2016
xargs -P "$jobs" -L 1 sh -c '
    case $2 in
    *.sh) sh "$2" ;;
    *.py) python3 "$2" ;;
    *) $WRAP "$2" ;;
    esac >"$WORK/$1.log" 2>&1
    echo $? >"$WORK/$1.rc"' run <"$work/list"

passed=0
failed=0
while read -r n program; do
    code=$(cat "$work/$n.rc" 2>/dev/null || echo 125)
    log=$work/$n.log
    # shellcheck disable=SC2046
    set -- $(awk '
        match($0, /Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+/) {
            split(substr($0, RSTART, RLENGTH), x, /[^0-9]+/); bad += x[3] + x[4]; good += x[2] - x[3] - x[4] }
        /^ok / { good++ }
        /^not ok / { bad++ }
        END { print good + 0, bad + 0 }' "$log")
    good=$1 bad=$2
    if [ "$bad" -eq 0 ] && { [ "$code" -ne 0 ] || [ "$good" -eq 0 ]; }; then
        bad=1
        echo "not ok $program: exit status $code" >>"$log"
    fi
    if [ "$bad" -eq 0 ]; then
        printf '  ok    %4d  %s\n' "$good" "$program"
    else
        printf '  FAIL  %4d  %s (%d failed)\n' "$good" "$program" "$bad"
        grep -vE '^ok |^Running suite' "$log" | head -n 60 | sed 's/^/        /'
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
done <"$work/list"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
