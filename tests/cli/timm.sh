#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The Vision Transformer in timm's naming: the same outputs, and pairs of one model in each naming.
. "$(dirname "$0")/run.sh"

make_file timm "$a" "$work/a"
make_file timm "$b" "$work/b"
works 'inspect' inspect "$work/a"
works 'the original' run "$a" --inputs "$images" -o "$work/a.npy"
works 'in timm naming' run "$work/a" --inputs "$images" -o "$work/at.npy"
# Only the norms' eps differs (1e-6 here, 1e-12 there).
at_most 'equal outputs' "$(make_file gap "$work/a.npy" "$work/at.npy")" 1e-3
works 'a pair in Hugging Face naming' fuse --align otfusion "$b" "$a" --calib "$calib" --quiet -o "$work/hh"
run fuse --align otfusion "$b" "$work/a" --calib "$calib" --quiet -o "$work/ht"
check 'a mixed pair' "$code" = 0
run fuse --align otfusion "$work/b" "$a" --calib "$calib" --quiet -o "$work/th"
check 'a mixed pair, the other anchor' "$code" = 0
works 'a pair in timm naming' fuse --align otfusion "$work/b" "$work/a" --calib "$calib" --quiet -o "$work/tt"
for pair in hh ht th tt; do
    works "$pair runs" run "$work/$pair" --inputs "$images" -o "$work/$pair.npy"
    at_most "$pair computes the same" "$(make_file gap "$work/hh.npy" "$work/$pair.npy")" 1e-2
done
check "the anchor's naming" "$(grep -c 'blocks.0.attn.qkv.weight' "$work/th/model.safetensors")" = 1
check "the anchor's naming, the other way" "$(grep -c 'blocks.0.attn.qkv.weight' "$work/ht/model.safetensors")" = 0
# What timm computes with models of its own (tests/tools/make_timm.py): average pooling and a norm behind it, registers, positions of patches alone,
# LayerScale, no biases of queries, keys and values; no class token; a norm before the blocks.
for kind in average patches clip; do
    m=tests/data/timm-$kind
    works "$kind runs" run "$m" --inputs "$m/x.npy" -o "$work/$kind.npy"
    at_most "$kind: as timm" "$(make_file gap "$m/logits.npy" "$work/$kind.npy")" 1e-5
    stream=permutation
    [ "$kind" = patches ] && stream=orthogonal
    works "$kind in other coordinates" gauge "$m" --seed 3 --set gauge.stream=$stream -o "$work/$kind-moved"
    works "$kind moved runs" run "$work/$kind-moved" --inputs "$m/x.npy" -o "$work/$kind-moved.npy"
    at_most "$kind: the same function" "$(make_file gap "$m/logits.npy" "$work/$kind-moved.npy")" 1e-4
    works "$kind with it" fuse "$m" "$work/$kind-moved" --align matching --repair none -o "$work/$kind-fused"
    works "$kind fused runs" run "$work/$kind-fused" --inputs "$m/x.npy" -o "$work/$kind-fused.npy"
    at_most "$kind: aligning restores" "$(make_file gap "$m/logits.npy" "$work/$kind-fused.npy")" 1e-3
    works "$kind by the paper" fuse "$m" "$work/$kind-moved" --align otfusion --calib "$m/x.npy" -o "$work/$kind-paper"
done
make_file timm "$a" "$work/x" no-heads
refuses 1 'model_args.num_heads' 'no number of heads' inspect "$work/x"
finish
