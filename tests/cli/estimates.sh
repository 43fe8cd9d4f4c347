#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The peak that --dry-run says, that the library meters, and that the system counts, agree within 15 %.
# The system's is sampled, so a short peak may be missed: only STEADY ones are compared from below.
. "$(dirname "$0")/run.sh"

make_file vit "$work/x" 1 256 3 1024 1100
make_file vit "$work/y" 2 256 3 1024 1100
make_file vit "$work/x2" 1 256 2 1024 1100
make_file vit "$work/y2" 2 256 2 1024 1100
make_file npy "$work/c.npy" '|u1' 8,3,16,16 zero
cp "$a/preprocessor_config.json" "$work/p.json"

peaks() { # peaks NAME STEADY COMMAND ARGS...: writes $work/o
    what=$1 steady=$2
    shift 2
    run "$@" -o "$work/o" --dry-run --json
    check "$what: no problem" "$code $(json problems)" = '0 0'
    check "$what: nothing written" ! -e "$work/o"
    said=$(json peak_bytes) reads=$(json read_bytes) writes=$(json write_bytes)
    make_file rss "$tfuse" "$@" -o "$work/o" --json --quiet >"$work/out" 2>"$work/rss"
    check "$what: runs" $? = 0
    for threads; do :; done # the last argument; BLIS's buffers, 2 MiB each, are in the estimate and not metered
    at_most "$what: estimate <= 1.15 x metered" "$said" "$(awk "BEGIN { print 1.15 * $(json peak_bytes) + $threads * 2097152 }")"
    at_most "$what: metered <= 1.15 x estimate" "$(json peak_bytes)" "$(awk "BEGIN { print 1.15 * $said }")"
    if [ -z "${SANITIZED:-}" ]; then
        at_most "$what: anonymous memory <= 1.15 x estimate" "$(tail -n 1 "$work/rss")" "$(awk "BEGIN { print 1.15 * $said }")"
        [ "$steady" = yes ] && at_most "$what: estimate <= 1.15 x anonymous memory" "$said" "$(awk "BEGIN { print 1.15 * $(tail -n 1 "$work/rss") }")"
    fi
    at_most "$what: write_bytes" "$(cat "$work"/o/* | wc -c)" "$(awk "BEGIN { print 1.02 * $writes }")"
    at_most "$what: write_bytes, from below" "$writes" "$(cat "$work"/o/* | wc -c | awk '{ print 1.02 * $1 }')"
}

estimates() { # estimates NAME STEADY ARGS... of the models at $x and $y
    name_of=$1 steadily=$2
    shift 2
    peaks "$name_of" "$steadily" fuse --align otfusion "$x" "$y" "$@"
    at_most "$what: read_bytes" "$(cat "$x"/model.safetensors "$y"/model.safetensors | wc -c)" "$reads"
    rm -rf "$work/o"
}

split() { # split NAME ARGS...
    name_of=$1
    shift
    peaks "$name_of" no moe "$@"
    rm -rf "$work/o"
}

case $tfuse in *asan* | *tsan*) SANITIZED=1 ;; esac
x=$work/x y=$work/y
estimates 'exact' no --threads 1
estimates 'sinkhorn' yes --solver sinkhorn --threads 2
estimates 'within heads' no --set otfusion.heads=within --set otfusion.qk=common --threads 1
estimates 'averaging to F16' no --align none --dtype F16 --threads 1
estimates 'uniform' no --control uniform --threads 2
sed -i 's/\[[^]]*\]/[0.5, 0.5, 0.5]/g' "$work/p.json"
for d in x y x2 y2; do cp "$work/p.json" "$work/$d/preprocessor_config.json"; done
estimates 'activations' no --calib "$work/c.npy" --threads 2
estimates 'matching' no --align matching --threads 1
x=$work/x2 y=$work/y2 # selecting takes long, and mixing does it once a candidate
estimates 'repair' no --align matching --calib "$work/c.npy" --repair select,refit,head --threads 1
x=$work/x y=$work/y
estimates 'matrix residuals' no --calib "$work/c.npy" --set otfusion.residual=matrix --threads 1
split 'experts' "$work/x" --experts 16 --top-k 4 --threads 1
split 'experts, compared' "$work/x" --experts 16 --top-k 4 --calib "$work/c.npy" --threads 2
split 'a language model, compared on few' tests/data/llama-kjv-e --experts 8 --top-k 2 --calib tests/data/kjv-tokens/val.npy --set calib.samples=8 --threads 1
split 'a language model, compared on more' tests/data/llama-kjv-e --experts 8 --top-k 2 --calib tests/data/kjv-tokens/val.npy --layout mixtral \
    --set calib.samples=64 --threads 2
run moe "$work/x" --experts 16 --top-k 4 -o "$work/o" --quiet
run moe "$work/o" --dense -o "$work/back" --dry-run --json
said=$(json peak_bytes)
run moe "$work/o" --dense -o "$work/back" --json
at_most 'joined again: estimate' "$said" "$(awk "BEGIN { print 1.15 * $(json peak_bytes) + 2097152 }")"
at_most 'joined again: estimate, from below' "$(json peak_bytes)" "$(awk "BEGIN { print 1.15 * $said }")"
rm -rf "$work/o" "$work/back"
finish
