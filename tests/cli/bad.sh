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
broken lfs 'git lfs pull'
broken empty-config 'config.json: is empty'
broken names "'architectures' must be a list"
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
refuses 1 "$work/mine: is not replaced, since it holds 'file'" 'a directory of notes, with --force' fuse "$a" "$b" -o "$work/mine" --align none --force
refuses 1 "$work/mine: is not replaced, since it holds 'file'" 'before any work' fuse "$work/none" "$work/none2" -o "$work/mine" --force
run fuse "$a" "$b" -o "$work/mine" --force --dry-run
check 'a directory of notes: a dry run says so' "$code$(grep -c "since it holds 'file'" "$work/out")" = 11
check 'nothing lost by --force' "$(cat "$work/mine/file")" = precious
refuses 1 'is read by this run' 'a parent as OUT, with --force' fuse "$a" "$work/missing" -o "$work/missing" --align none --force
refuses 1 'is read by this run' 'a parent by its file as OUT' fuse "$work/extra/model.safetensors" "$a" -o "$work/extra" --align none --force
run fuse "$a" "$work/extra" -o "$work/extra" --force --set io.extra=copy --dry-run
check 'a dry run says so too' "$code$(grep -c 'is not replaced' "$work/out")" = 11
cp "$images" "$work/x.npy"
refuses 1 'is read by this run' 'the inputs as outputs' run "$a" --inputs "$work/x.npy" -o "$work/x.npy" --force
refuses 2 'two outputs' 'a plan under the name of OUT' fuse "$a" "$b" -o "$out" --save-plan "$out" --align none
check 'parents and inputs are as they were' "$(make_file same "$work/extra" "$work/extra")$(cmp "$images" "$work/x.npy")" = yes
works 'an existing OUT with --force' fuse "$a" "$b" -o "$work/mean" --align none
works 'replaced with --force' fuse "$a" "$b" -o "$work/mean" --align none --weights 1,0 --force
check 'replaced' "$(make_file same "$work/mean" "$a")" = yes
ln -s "$work/mine" "$work/link"
works 'a link as OUT, with --force' fuse "$a" "$b" -o "$work/link" --align none --force
check 'the link is replaced, not what it leads to' "$(test -L "$work/link" || cat "$work/mine/file")" = precious
ln -s nowhere "$work/dangling"
works 'a link to nothing as OUT, with --force' fuse "$a" "$b" -o "$work/dangling" --align none --force
check 'no temporary left of the links' -z "$(find "$work" -name '*tfuse-partial*')"
mkfifo "$work/pipe"
works 'a plan for it' align "$a" "$b" --align none -o "$work/odd.plan"
refuses 1 'is a device, pipe or socket' '--force replaces no pipe, and no device' run "$a" --inputs "$images" -o "$work/pipe" --force
refuses 1 'is a device, pipe or socket' 'nor by a plan' align "$a" "$b" --align none -o "$work/pipe" --force
refuses 1 'is a device, pipe or socket' 'nor by a page' plan "$work/odd.plan" --html "$work/pipe" --force
ln -s pipe "$work/to-pipe"
refuses 1 'is a device, pipe or socket' 'nor a link to one' run "$a" --inputs "$images" -o "$work/to-pipe" --force
refuses 1 'is a device, pipe or socket' 'nor by a checkpoint' fuse "$a" "$b" --align none -o "$work/to-pipe" --force
check 'pipe and link stay' -p "$work/pipe" -a -L "$work/to-pipe"
# A command that is shown can be copied, whatever the names.
cp -r "$a" "$work/it's a \$model"
works 'an odd name' align "$work/it's a \$model" "$b" -o "$work/odd one.plan" --align none
shown=$(sed -n 's/.*apply it with: tfuse //p' "$work/out" | sed "s|OUT|$work/shown|")
eval "works 'the command that it shows' $shown"
cmp -s "$work/shown/config.json" "$a/config.json"
check 'the command that it shows: did it' $? = 0
shown=$(sed -n 's/.*look at it with: tfuse //p' "$work/out" | sed "s|F --labels F|$images|")
eval "works 'and the next' $shown"
echo old >"$work/plainfile"
refuses 1 plainfile '--force does not make a file a directory' fuse "$a" "$b" -o "$work/plainfile" --align none --force
check 'the file is as it was' "$(cat "$work/plainfile")" = old

# Errors of arrays name their files; what is surely meant otherwise is said.
make_file npy "$work/labels.npy" '<i8' 3 1,2,3
refuses 1 labels.npy 'too few labels' eval "$a" --inputs "$images" --labels "$work/labels.npy"
refuses 1 labels.npy 'labels as inputs' eval "$a" --inputs "$work/labels.npy"
refuses 2 --limit 'a limit of nothing' eval "$a" --inputs "$images" --limit 0
refuses 1 'is a llama and' 'two architectures' fuse "$a" tests/data/llama-kjv-e -o "$out"
sed 's/"rope_theta"/"rope_scaling": {"type": "linear", "factor": 0}, &/' tests/data/llama-kjv-e/config.json >"$work/rope.json"
refuses 1 "'rope_scaling.factor' must be above 0" 'positions stretched to nothing' inspect "$work/rope.json"
sed 's/"rope_theta"/"rope_scaling": "linear", &/' tests/data/llama-kjv-e/config.json >"$work/rope.json"
refuses 1 "'rope_scaling' must be an object" 'a word in place of an object' inspect "$work/rope.json"
make_file model copy "$a" "$work/plain"
rm "$work/plain/preprocessor_config.json"
run eval "$work/plain" --inputs "$images" --json
check 'pixels without a preprocessor_config.json are warned of, once' "$code$(grep -c 'divided by 255' "$work/err")$(wc -l <"$work/err")" = 011
make_file model eps "$a" "$work/eps"
run fuse "$b" "$work/eps" -o "$work/eps-out" --align none
check 'other eps are warned of, once' "$code$(grep -c 'eps of .* and of 8 more' "$work/err")$(wc -l <"$work/err")" = 011

# A full disk behind standard output.
if [ -w /dev/full ]; then
    "$tfuse" keys >/dev/full 2>"$work/err"
    check 'standard output on a full disk' $? = 1
fi
finish
