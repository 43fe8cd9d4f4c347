# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# run.sh: sourced by every test of the command. A case prints "ok NAME" or "not ok NAME: WHY"; finish gives the exit status.
set -u
cd "$(dirname "$0")/../.."
tfuse=${TFUSE:-build/release/tfuse}
suite=$(basename "$0" .sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
bad=0
a=tests/data/vit-fmnist-a
b=tests/data/vit-fmnist-b
calib=tests/data/parity/images_n40.npy
images=tests/data/parity/test_images_first100.npy

# A version manager's python3 takes longer to find the interpreter than that takes to run: it is asked once.
python=$(python3 -c 'import sys; print(sys.executable)') || exit 1
python3() {
    "$python" "$@"
}

make_file() {
    "$python" -IS tests/cli/make.py "$@"
}

pass() {
    echo "ok $suite: $1"
}

fail() { # fail NAME WHY
    echo "not ok $suite: $1: $2"
    bad=1
}

check() { # check NAME CONDITION...: a condition for test(1)
    name=$1
    shift
    if test "$@"; then pass "$name"; else fail "$name" "not [ $* ]"; fi
}

# The number A is at most B.
at_most() { # at_most NAME A B
    if awk -v a="$2" -v b="$3" 'BEGIN { exit !(a + 0 == a && a <= b) }'; then pass "$1"; else fail "$1" "$2 > $3"; fi
}

# Runs the command: standard output in $work/out, standard error in $work/err, status in $code.
run() {
    "$tfuse" "$@" >"$work/out" 2>"$work/err"
    code=$?
}

works() { # works NAME ARGS...: exit status 0 and nothing on standard error
    name=$1
    shift
    run "$@"
    if [ "$code" -ne 0 ] || [ -s "$work/err" ]; then
        fail "$name" "exit status $code, $(head -c 300 "$work/err")"
    else
        pass "$name"
    fi
}

# Exit status STATUS, nothing on standard output, one line on standard error that starts with "tfuse: " and holds PIECE.
refuses() { # refuses STATUS PIECE NAME ARGS...
    status=$1 piece=$2 name=$3
    shift 3
    run "$@"
    lines=$(wc -l <"$work/err")
    if [ "$code" -ne "$status" ]; then
        fail "$name" "exit status $code, not $status: $(head -c 300 "$work/err")"
    elif [ "$lines" -ne 1 ]; then
        fail "$name" "$lines lines on standard error: $(head -c 300 "$work/err")"
    elif ! grep -q '^tfuse: ' "$work/err"; then
        fail "$name" "does not start with 'tfuse: ': $(cat "$work/err")"
    elif ! grep -qF -- "$piece" "$work/err"; then
        fail "$name" "does not say '$piece': $(cat "$work/err")"
    elif [ -s "$work/out" ]; then
        fail "$name" "standard output: $(head -c 300 "$work/out")"
    else
        pass "$name"
    fi
}

# The last output has a piece.
says() { # says NAME PIECE
    if grep -qF -- "$2" "$work/out"; then pass "$1"; else fail "$1" "no '$2' in: $(head -c 300 "$work/out")"; fi
}

# A value of the last output, which is JSON.
json() {
    make_file get "$work/out" "$@"
}

finish() {
    exit "$bad"
}
