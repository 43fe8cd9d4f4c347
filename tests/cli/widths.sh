#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tfuse fuse --align matching of models of unequal widths: onto more units exactly, onto fewer with repair; plans, dry runs.
. "$(dirname "$0")/run.sh"

python3 tests/bench/make_vit.py "$work/wide" wide 3
cp "$a/preprocessor_config.json" "$work/wide"

works 'a model in a wider one' fuse "$work/wide" "$a" --align matching --json --set combine.weights=0,1 -o "$work/widened"
check 'is exact' "$(json selfcheck exact)" = True
at_most 'self-check' "$(json selfcheck models 1 aligned)" 1e-4
works 'the model' run "$a" --inputs "$images" -o "$work/a.npy"
works 'widened' run "$work/widened" --inputs "$images" -o "$work/widened.npy"
at_most 'outputs are the same' "$(python3 tests/cli/make.py gap "$work/a.npy" "$work/widened.npy")" 1e-3

works 'onto fewer units' fuse "$b" "$work/widened" --align matching --calib "$calib" --json --save-plan "$work/narrow.plan" --repair none -o "$work/none"
check 'is not exact' "$(json selfcheck exact)" = False
works 'its plan' plan "$work/narrow.plan" --json
check 'says so' "$(json exact)" = False
check 'and that values can be carried' "$(json carries)" = True
run fuse "$b" "$work/widened" --plan "$work/narrow.plan" --calib "$calib" --json --repair refit,head -o "$work/narrowed"
check 'repair by the plan' "$code" = 0 # it may warn that 40 images leave the result farther from the ensemble than the anchor is
at_most 'the ensemble is near' "$(json repair kl_fused)" 1
said=$(json peak_bytes)
works 'dry run' fuse "$b" "$work/widened" --plan "$work/narrow.plan" --calib "$calib" --json --repair refit,head --dry-run -o "$work/dry"
check 'no problems' "$(json problems)" = 0
at_most 'estimate <= 1.15 x metered' "$(json peak_bytes)" "$(awk "BEGIN { print 1.15 * $said + 64 * 2097152 }")"
at_most 'metered <= 1.15 x estimate' "$said" "$(awk "BEGIN { print 1.15 * $(json peak_bytes) }")"
works 'dry run before aligning' fuse "$work/wide" "$a" --align matching --dry-run --json -o "$work/dry"
check 'no problems there' "$(json problems)" = 0
works 'one thread' align "$b" "$work/widened" --align matching --threads 1 -o "$work/one.plan"
works 'three threads' align "$b" "$work/widened" --align matching --threads 3 -o "$work/three.plan"
if cmp -s "$work/one.plan" "$work/three.plan"; then pass 'equal bytes'; else fail 'equal bytes' 'plans differ'; fi
works 'a page' plan "$work/narrow.plan" --html "$work/narrow.html"
cp -r "$a" "$work/eight"
sed 's/"num_attention_heads": 4/"num_attention_heads": 8/' "$a/config.json" >"$work/eight/config.json"
refuses 1 'layer.0/heads (dimension 0 of layer.0/query.weight) has 4 units' 'plain averaging of 4 heads and 8' fuse "$a" "$work/eight" --align none -o "$work/x"
refuses 1 'equal widths' 'plain averaging' fuse "$b" "$work/widened" --align none -o "$work/x"
finish
