#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The peak that --dry-run says, that the library meters, and that the system counts, agree within 15 %.
# The system's is sampled, so a short peak may be missed: only STEADY ones are compared from below.
. "$(dirname "$0")/run.sh"

sed 's/\[[^]]*\]/[0.5, 0.5, 0.5]/g' "$a/preprocessor_config.json" >"$work/p.json"
model() { # model NAME SEED WIDTH FF CLASSES: two layers
    make_file vit "$work/$1" "$2" "$3" 2 "$4" "$5"
    cp "$work/p.json" "$work/$1/preprocessor_config.json"
}
model narrow 3 128 256 1100
model small 4 64 512 10
model small2 5 64 512 10
model small3 6 64 512 10
make_file npy "$work/c.npy" '|u1' 8,3,16,16 zero

peaks() { # peaks NAME STEADY COMMAND ARGS...: writes $work/o
    what=$1 steady=$2
    shift 2
    run "$@" -o "$work/o" --dry-run --json
    check "$what: no problem" "$code $(json problems)" = '0 0'
    check "$what: nothing written" ! -e "$work/o"
    said=$(json peak_bytes) reads=$(json read_bytes) writes=$(json write_bytes)
    make_file rss "$tfuse" "$@" -o "$work/o" --json --quiet >"$work/out" 2>"$work/rss"
    check "$what: runs" $? = 0
    for threads; do :; done # the last argument
    # What the estimate has beside what is metered: 3 MiB of the process, 1 MiB of each thread.
    beside=$((1048576 * (3 + threads)))
    at_most "$what: estimate <= 1.15 x metered" "$said" "$(awk "BEGIN { print 1.15 * $(json peak_bytes) + $beside }")"
    at_most "$what: metered <= 1.15 x estimate" "$(json peak_bytes)" "$(awk "BEGIN { print 1.15 * $said - $beside }")"
    if [ -z "${SANITIZED:-}" ]; then
        at_most "$what: anonymous memory <= 1.15 x estimate" "$(tail -n 1 "$work/rss")" "$(awk "BEGIN { print 1.15 * $said }")"
        [ "$steady" = yes ] && at_most "$what: estimate <= 1.15 x anonymous memory" "$said" "$(awk "BEGIN { print 1.15 * $(tail -n 1 "$work/rss") }")"
    fi
    at_most "$what: write_bytes" "$(cat "$work"/o/* | wc -c)" "$(awk "BEGIN { print 1.02 * $writes }")"
    at_most "$what: write_bytes, from below" "$writes" "$(cat "$work"/o/* | wc -c | awk '{ print 1.02 * $1 }')"
}

more=
estimates() { # estimates NAME STEADY ARGS... of the models at $x, $y and $more
    name_of=$1 steadily=$2
    shift 2
    peaks "$name_of" "$steadily" fuse --align otfusion "$x" "$y" ${more:+"$more"} "$@"
    at_most "$what: read_bytes" "$(cat "$x"/model.safetensors "$y"/model.safetensors ${more:+"$more"/model.safetensors} | wc -c)" "$reads"
    rm -rf "$work/o"
}

split() { # split NAME ARGS...
    name_of=$1
    shift
    peaks "$name_of" no moe "$@"
    rm -rf "$work/o"
}

case $tfuse in *asan* | *tsan*) SANITIZED=1 ;; esac
model x 1 256 1024 1100
model y 2 256 1024 1100
x=$work/x y=$work/y
estimates 'sinkhorn' yes --solver sinkhorn --threads 2
rm -rf "$x" "$y"
model x 1 256 512 1100
model y 2 256 512 1100
estimates 'exact' no --threads 1
estimates 'within heads' no --set otfusion.heads=within --set otfusion.qk=common --threads 1
estimates 'averaging to F16' no --align none --dtype F16 --threads 1
estimates 'uniform' no --control uniform --threads 2
estimates 'activations' no --calib "$work/c.npy" --threads 2
estimates 'matrix residuals' no --calib "$work/c.npy" --set otfusion.residual=matrix --threads 1
estimates 'matching' no --align matching --threads 1
estimates 'matching activations' no --align matching --calib "$work/c.npy" --repair none --threads 2
y=$work/narrow
estimates 'matching unequal widths' no --align matching --threads 1
estimates 'matching unequal widths, activations' no --align matching --calib "$work/c.npy" --repair none --threads 1
x=$work/small y=$work/small2
estimates 'repair' no --align matching --calib "$work/c.npy" --repair select,refit,head --threads 1
more=$work/small3
estimates 'three to their mean' no --align matching --calib "$work/c.npy" --repair none --threads 1
more=
split 'experts' "$work/x" --experts 16 --top-k 4 --threads 1
split 'experts, compared' "$work/x" --experts 16 --top-k 4 --calib "$work/c.npy" --threads 2
split 'a language model, compared on few' tests/data/llama-kjv-e --experts 8 --top-k 2 --calib tests/data/kjv-tokens/val.npy --set calib.samples=8 --threads 1
split 'a language model, compared on more' tests/data/llama-kjv-e --experts 8 --top-k 2 --calib tests/data/kjv-tokens/val.npy --layout mixtral \
    --set calib.samples=64 --threads 2
# Experts' units against all experts' units: under --memory a lot of the values at a time, with the same result.
for m in e f; do run moe "tests/data/llama-kjv-$m" --experts 8 --top-k 8 --layout mixtral -o "$work/mixture-$m" --quiet; done
mixtures() { # mixtures NAME ARGS...
    name_of=$1
    shift
    peaks "$name_of" no fuse "$work/mixture-e" "$work/mixture-f" --calib tests/data/kjv-tokens/calib.npy --samples 4 --repair none "$@" --threads 1
    mv "$work/o/model.safetensors" "$work/$name_of.safetensors"
    rm -rf "$work/o"
}
mixtures 'mixtures'
whole=$said
mixtures 'lots' --memory 24M
at_most 'in lots it takes less' "$said" "$(awk "BEGIN { print 0.65 * $whole }")"
if cmp -s "$work/mixtures.safetensors" "$work/lots.safetensors"; then pass 'and gives the same'; else fail 'and gives the same' 'files differ'; fi
run moe "$work/x" --experts 16 --top-k 4 -o "$work/o" --quiet
run moe "$work/o" --dense -o "$work/back" --dry-run --json
said=$(json peak_bytes)
run moe "$work/o" --dense -o "$work/back" --json
at_most 'joined again: estimate' "$said" "$(awk "BEGIN { print 1.15 * $(json peak_bytes) + 3 * 1048576 }")" # it multiplies nothing
at_most 'joined again: estimate, from below' "$(json peak_bytes)" "$(awk "BEGIN { print 1.15 * $said - 3 * 1048576 }")"
rm -rf "$work/o" "$work/back"
finish
