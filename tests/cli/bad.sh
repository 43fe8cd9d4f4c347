#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What is wrong with a model or an output: one line that names the thing, the right status, nothing under OUT, nothing lost.
. "$(dirname "$0")/run.sh"

out=$work/out-dir

broken() { # broken KIND PIECE
    make_file model "$1" "$a" "$work/$1"
    refuses 1 "$2" "$1, as a parent" fuse "$b" "$work/$1" -o "$out" --align none
    refuses 1 "$2" "$1, as the anchor" fuse --align otfusion "$work/$1" "$b" -o "$out" --calib "$calib"
}

broken truncated model.safetensors
broken overlap model.safetensors
broken hole model.safetensors
broken huge model.safetensors
broken dtype F31
broken twice model.safetensors
broken header model.safetensors
broken config 'config.json asks for'
broken broken-json config.json
broken missing classifier.bias
broken extra some.extra
broken nan vit.layernorm.weight
broken classes classes
broken layers layer.3
broken kind no-such-thing
works 'extra, copied from the anchor' fuse "$work/extra" "$b" -o "$work/with-extra" --align none --set io.extra=copy
refuses 1 vit.layernorm.weight 'NaN weights in eval' eval "$work/nan" --inputs "$images"
rm "$work/missing/model.safetensors"
refuses 1 model.safetensors 'a config without weights' eval "$work/missing" --inputs "$images"
refuses 1 'nowhere' 'a missing model' fuse --align otfusion "$a" "$work/nowhere" -o "$out"
refuses 1 'no directory' 'OUT in a missing directory' fuse --align otfusion "$a" "$b" -o "$work/no/such/out"
refuses 1 'no directory' 'OUT below a file' fuse --align otfusion "$a" "$b" -o "$work/missing/config.json/out"
refuses 1 'no directory' 'a plan into a missing directory' fuse --align otfusion "$a" "$b" -o "$out" --save-plan "$work/no/p"
make_file npy "$work/small.npy" '|u1' 2,5,5 zero
refuses 1 '[2, 5, 5]' 'calibration inputs of a wrong shape' fuse --align otfusion "$a" "$b" -o "$out" --calib "$work/small.npy"
refuses 1 'calib' 'activations without calibration' fuse --align otfusion "$a" "$b" -o "$out" --set otfusion.cost=activations
check 'nothing under OUT' ! -e "$out"
check 'no temporary left' -z "$(find "$work" -name '*tfuse-partial*')"

mkdir "$work/mine"
echo precious >"$work/mine/file"
refuses 1 "$work/mine: exists" 'an existing OUT' fuse "$a" "$b" -o "$work/mine" --align none
refuses 1 'exists' 'an existing OUT, with a / behind' fuse "$a" "$b" -o "$work/mine/" --align none
check 'nothing lost' "$(cat "$work/mine/file")" = precious
works 'an existing OUT with --force' fuse "$a" "$b" -o "$work/mean" --align none
works 'replaced with --force' fuse "$a" "$b" -o "$work/mean" --align none --weights 1,0 --force
check 'replaced' "$(make_file same "$work/mean" "$a")" = yes
echo old >"$work/plainfile"
refuses 1 plainfile '--force does not make a file a directory' fuse "$a" "$b" -o "$work/plainfile" --align none --force
check 'the file is as it was' "$(cat "$work/plainfile")" = old

# A full disk behind standard output.
if [ -w /dev/full ]; then
    "$tfuse" keys >/dev/full 2>"$work/err"
    check 'standard output on a full disk' $? = 1
fi
finish
