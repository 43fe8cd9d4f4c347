#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The self-check: a plan that says that it keeps each model's function and does not is caught before anything is written.
. "$(dirname "$0")/run.sh"

# Hard maps, one for each port: not symmetries of a transformer, and a plan of them does not claim to be.
works 'a plan' align --align otfusion "$b" "$a" --calib "$calib" --samples 20 --set otfusion.residual=skip -o "$work/honest.tfp"
works 'an honest plan is not judged' fuse "$b" "$a" --plan "$work/honest.tfp" --json -o "$work/honest"
check 'its deviation is told' "$(json selfcheck models 1 aligned)" != null
at_most 'and is large' 0.1 "$(json selfcheck models 1 aligned)"

make_file claim "$work/honest.tfp" "$work/wrong.tfp"
refuses 1 'vit-fmnist-a computes another function' 'a wrong claim' fuse "$b" "$a" --plan "$work/wrong.tfp" -o "$work/fused"
check 'nothing written' ! -e "$work/fused"
check 'nothing left beside' "$(ls "$work" | grep -c fused)" = 0
mkdir "$work/old" && echo kept >"$work/old/file" && : >"$work/old/model.safetensors"
refuses 1 'self-check: ' 'over an old output' fuse "$b" "$a" --plan "$work/wrong.tfp" --force -o "$work/old"
check 'the old output stays' "$(cat "$work/old/file")" = kept

# On real inputs; and the fused network itself.
works 'a plan that keeps functions' align --align matching "$b" "$a" -o "$work/matching.tfp"
works 'on calibration inputs' fuse "$b" "$a" --plan "$work/matching.tfp" --calib "$calib" --repair mix --json --quiet -o "$work/real"
check 'which the report says' "$(json selfcheck probe) $(json selfcheck result) $(json selfcheck fused)" = 'calibration passed finite'
make_file npy "$work/two.npy" '<f4' 2,1,28,28 zero
run fuse "$b" "$a" --plan "$work/matching.tfp" --calib "$work/two.npy" --repair mix --json -o "$work/two"
check 'on as many as there are' "$code $(json selfcheck samples) $(json selfcheck probe)" = '0 2 calibration'
works 'on random ones' fuse "$b" "$a" --plan "$work/matching.tfp" --json -o "$work/noise"
check 'which it says too' "$(json selfcheck probe) $(json selfcheck result) $(json selfcheck fused)" = 'random passed finite'
make_file model enormous "$a" "$work/enormous"
refuses 1 'the outputs of the fused network become NaN or infinite' 'weights of 3e38' fuse "$b" "$work/enormous" --align none -o "$work/fused"
refuses 1 'enormous become NaN or infinite' 'weights of 3e38, matched' fuse "$b" "$work/enormous" --align matching -o "$work/fused"
check 'nothing is written' ! -e "$work/fused"
works 'and written when asked' fuse "$b" "$work/enormous" --align none --set fuse.selfcheck=0 -o "$work/fused"
rm -r "$work/fused"

works 'a plan of soft maps' align --align otfusion "$b" "$a" --calib "$calib" --samples 20 --solver sinkhorn -o "$work/soft.tfp"
make_file claim "$work/soft.tfp" "$work/claims.tfp"
refuses 1 'has no inverse' 'soft maps that claim it' fuse "$b" "$a" --plan "$work/claims.tfp" -o "$work/fused"

works 'let through when asked' fuse "$b" "$a" --plan "$work/wrong.tfp" --set fuse.selfcheck=0 --repair none --json -o "$work/fused"
check 'which the report says' "$(json selfcheck result)" = off
if make_file same "$work/honest" "$work/fused" >"$work/same" && grep -q yes "$work/same"; then
    pass 'the claim changes no weight'
else
    fail 'the claim changes no weight' 'other tensors'
fi
finish
