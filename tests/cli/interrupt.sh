#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Ctrl-C in the middle of work: status 130, one line, nothing under OUT, no temporary.
. "$(dirname "$0")/run.sh"

# Sinkhorn that can never be done: it works until it is stopped.
set -- fuse --align otfusion "$b" "$a" -o "$work/out-dir" --solver sinkhorn --reg 0.001 --set solver.max_iterations=1000000000 --set solver.tolerance=1e-300
interrupt() { # interrupt NAME SECONDS ARGS...
    name=$1 delay=$2
    shift 2
    "$tfuse" "$@" >"$work/out" 2>"$work/err" &
    pid=$!
    sleep "$delay"
    if ! kill -INT "$pid" 2>/dev/null; then
        fail "$name" "was over before it could be stopped: $(cat "$work/err")"
        return
    fi
    wait "$pid"
    code=$?
    check "$name: status 130" "$code" = 130
    check "$name: one line" "$(grep -c '^tfuse: .*cancelled$' "$work/err") $(wc -l <"$work/err")" = '1 1'
    check "$name: nothing under OUT" ! -e "$work/out-dir"
    check "$name: no temporary" -z "$(find "$work" -name '*tfuse-partial*')"
}
interrupt 'early' 0.5 "$@"
interrupt 'later' 1.5 "$@" --threads 3 --calib "$calib"

# What a killed run leaves behind is removed by the next one.
mkdir -p "$work/.out-dir.tfuse-partial"
touch "$work/.out-dir.tfuse-partial/model.safetensors"
works 'a stale temporary' fuse "$b" "$a" -o "$work/out-dir" --align none
check 'is gone' -z "$(find "$work" -name '*tfuse-partial*')"
finish
