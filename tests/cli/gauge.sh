#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tfuse gauge: the same outputs from other weights, the same bytes for the same seed, refusals.
. "$(dirname "$0")/run.sh"

works 'the model itself' run "$a" --inputs "$images" -o "$work/a.npy"
for stream in orthogonal permutation none; do
    works "stream $stream" gauge "$a" --seed 7 --set gauge.stream=$stream -o "$work/$stream"
    works "$stream runs" run "$work/$stream" --inputs "$images" -o "$work/$stream.npy"
    at_most "$stream keeps the outputs" "$(python3 tests/cli/make.py gap "$work/a.npy" "$work/$stream.npy")" 1e-4
    if cmp -s "$a/model.safetensors" "$work/$stream/model.safetensors"; then fail "$stream moves" "equal files"; else pass "$stream moves"; fi
done
works 'again, on one thread' gauge "$a" --seed 7 --threads 1 -o "$work/again"
if cmp -s "$work/again/model.safetensors" "$work/orthogonal/model.safetensors"; then pass 'one seed, one result'; else fail 'one seed, one result' 'files differ'; fi
works 'plain averaging' fuse "$a" "$a" --align none --json -o "$work/same"
check 'self-check by default' "$(json selfcheck result)" = 'nothing to compare'
works 'self-check off' fuse "$a" "$a" --align none --json --set fuse.selfcheck=0 -o "$work/same2"
check 'self-check says that it was off' "$(json selfcheck result)" = off
refuses 1 'exists' 'an existing OUT' gauge "$a" --seed 7 -o "$work/again"
refuses 2 'gauge.stream' 'a wrong key value' gauge "$a" --set gauge.stream=sideways -o "$work/x"
refuses 2 'needs -o' 'no OUT' gauge "$a"
refuses 1 'nowhere' 'a missing model' gauge "$work/nowhere" -o "$work/x"
check 'nothing under OUT' ! -e "$work/x"
finish
