#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tfuse moe: the same outputs with every expert chosen, fewer chosen beside the controls, the way back, two split models fused, refusals.
. "$(dirname "$0")/run.sh"
llama=tests/data/llama-kjv-e
tokens=tests/data/kjv-tokens/val.npy
labels=$work/labels.npy

works 'the model itself' run "$a" --inputs "$images" -o "$work/a.npy"
works 'every expert' moe "$a" --experts 8 --top-k 8 -o "$work/all"
says 'says where it went' "written to $work/all"
works 'every expert runs' run "$work/all" --inputs "$images" -o "$work/all.npy"
at_most 'every expert: the same outputs' "$(make_file gap "$work/a.npy" "$work/all.npy")" 1e-4
works 'a split model is inspected' inspect "$work/all"
says 'experts are an axis' '/experts'

works 'half of them' moe "$a" --experts 8 --top-k 4 --calib "$calib" --json -o "$work/half"
check 'layout' "$(json layout)" = emoe
check 'a row for each FFN' "$(json ffns)" = 4
for figure in spread error output_error; do
    for control in contiguous random; do
        at_most "$figure: below $control" "$(json $figure clustered)" "$(json $figure $control)"
    done
done
works 'without calibration' moe "$a" --experts 8 --top-k 4 --json -o "$work/again" --threads 1
check 'no errors without inputs' "$(json error)" = null
if cmp -s "$work/half/model.safetensors" "$work/again/model.safetensors"; then pass 'one seed, one result, whatever the threads'; else fail 'one result' 'files differ'; fi
works 'a control' moe "$a" --experts 8 --top-k 4 --set moe.split=contiguous -o "$work/contiguous"

# Labels: what the dense model says. The routed model agrees more often than the control.
make_file best "$work/a.npy" "$labels"
works 'the split scored' eval "$work/half" --inputs "$images" --labels "$labels" --json
split=$(json loss)
works 'the control scored' eval "$work/contiguous" --inputs "$images" --labels "$labels" --json
at_most 'the clusters lose less than contiguous runs' "$split" "$(json loss)"

works 'back' moe "$work/half" --dense -o "$work/back"
says 'in its order' "dense model's order"
check 'back: the tensors' "$(make_file same "$a" "$work/back")" = yes
works 'back runs' run "$work/back" --inputs "$images" -o "$work/back.npy"
check 'back: to the bit' "$(make_file gap "$work/a.npy" "$work/back.npy")" = 0.0
rm "$work/half/tfuse_moe.json"
works 'back without notes' moe "$work/half" --dense -o "$work/unordered"
says 'in the order of the experts' "experts' order"
works 'back without notes runs' run "$work/unordered" --inputs "$images" -o "$work/unordered.npy"
at_most 'back without notes: the same function' "$(make_file gap "$work/a.npy" "$work/unordered.npy")" 1e-4

works 'a language model' run "$llama" --inputs "$tokens" --limit 8 -o "$work/l.npy"
for layout in emoe mixtral qwen2_moe; do
    works "$layout" moe "$llama" --experts 8 --top-k 8 --layout $layout -o "$work/$layout"
    works "$layout runs" run "$work/$layout" --inputs "$tokens" --limit 8 -o "$work/$layout.npy"
    at_most "$layout: the same outputs" "$(make_file gap "$work/l.npy" "$work/$layout.npy")" 2e-4
done
works 'mixtral, sharded, in bfloat16' moe "$llama" --experts 4 --top-k 2 --layout mixtral --dtype BF16 --shard-size 300K -o "$work/shards"
check 'shards' -f "$work/shards/model.safetensors.index.json"
works 'shards run' eval "$work/shards" --inputs "$tokens" --limit 8
works 'mixtral back' moe "$work/mixtral" --dense -o "$work/llama"
works 'mixtral back runs' run "$work/llama" --inputs "$tokens" --limit 8 -o "$work/llama.npy"
check 'mixtral back: to the bit' "$(make_file gap "$work/l.npy" "$work/llama.npy")" = 0.0

works 'the other one' moe "$b" --experts 8 --top-k 8 -o "$work/b"
works 'two split models are fused' fuse "$work/all" "$work/b" -o "$work/fused"
works 'fused runs' eval "$work/fused" --inputs "$images"
works 'a split model moved' gauge "$work/all" --seed 3 -o "$work/moved"
works 'fused with its moved copy' fuse "$work/all" "$work/moved" -o "$work/copy"
works 'the copy runs' run "$work/copy" --inputs "$images" -o "$work/copy.npy"
at_most 'fused with its moved copy: the same outputs' "$(make_file gap "$work/all.npy" "$work/copy.npy")" 1e-3

works 'dry run' moe "$a" --experts 8 --top-k 4 --calib "$calib" --dry-run --json -o "$work/dry"
check 'dry run: no problem' "$(json problems)" = 0
at_most 'dry run: bytes written' 500000 "$(json write_bytes)"
works 'dry run of a config alone' moe "$a/config.json" --experts 8 --top-k 4 --dry-run --quiet
run moe "$a" --experts 7 --top-k 4 --dry-run --json -o "$work/nowhere/x"
check 'dry run: status 1' "$code" = 1
check 'dry run: every problem' "$(json problems)" = 2
check 'nothing is written' ! -e "$work/dry"

refuses 2 '--top-k' 'no --top-k' moe "$a" --experts 8 -o "$work/x"
refuses 2 'needs -o' 'no OUT' moe "$a" --experts 8 --top-k 4
refuses 2 '--dense takes' 'experts beside --dense' moe "$work/all" --dense --experts 8 -o "$work/x"
refuses 1 '128 hidden units' 'experts that do not divide' moe "$a" --experts 7 --top-k 4 -o "$work/x"
refuses 1 'more experts than there are' 'top-k above experts' moe "$a" --experts 8 --top-k 9 -o "$work/x"
refuses 1 'already' 'a mixture already' moe "$work/all" --experts 8 --top-k 4 -o "$work/x"
refuses 1 'dense already' 'a dense model joined' moe "$a" --dense -o "$work/x"
refuses 1 'as mixtral' 'a layout for another family' moe "$a" --experts 8 --top-k 4 --layout mixtral -o "$work/x"
refuses 2 'sideways' 'an unknown layout' moe "$a" --experts 8 --top-k 4 --layout sideways -o "$work/x"
refuses 1 'exists' 'an existing OUT' moe "$a" --experts 8 --top-k 4 -o "$work/all"
refuses 1 'nowhere' 'a missing model' moe "$work/nowhere" --experts 8 --top-k 4 -o "$work/x"
refuses 1 'run.memory' 'too little memory' moe "$a" --experts 8 --top-k 4 --memory 1K -o "$work/x"
cp -r "$work/all" "$work/bad"
sed 's/"layer.0\/fc1": \[/&0, /' "$work/all/tfuse_moe.json" >"$work/bad/tfuse_moe.json"
refuses 1 'tfuse_moe.json' 'an order that is none' moe "$work/bad" --dense -o "$work/x"
cp -r "$work/mixtral" "$work/strange"
rm "$work/strange/tfuse_moe.json"
refuses 1 'no parts of one dense network' 'a mixture that was never dense' moe "$work/strange" --dense -o "$work/x"
check 'nothing under OUT' ! -e "$work/x"
works '--force' moe "$a" --experts 8 --top-k 2 -o "$work/all" --force
finish
