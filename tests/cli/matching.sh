#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tfuse fuse --align matching: a model and its moved copy, two trained models, dry run, refusals.
. "$(dirname "$0")/run.sh"

works 'gauge' gauge "$a" --seed 7 -o "$work/moved"
works 'a model and its copy' fuse "$a" "$work/moved" --align matching --json -o "$work/same"
check 'self-check' "$(json selfcheck result)" = passed
works 'the model' run "$a" --inputs "$images" -o "$work/a.npy"
works 'the fused one' run "$work/same" --inputs "$images" -o "$work/same.npy"
at_most 'outputs come back' "$(python3 tests/cli/make.py gap "$work/a.npy" "$work/same.npy")" 1e-3

works 'from activations' fuse "$a" "$b" --align matching --calib "$calib" --repair none --json -o "$work/ab"
check 'self-check of the pair' "$(json selfcheck result)" = passed
works 'the other way' fuse "$b" "$a" --align matching --calib "$calib" --repair none -o "$work/ba"
works 'ab runs' run "$work/ab" --inputs "$images" -o "$work/ab.npy"
works 'ba runs' run "$work/ba" --inputs "$images" -o "$work/ba.npy"
at_most 'the anchor is a choice of coordinates' "$(python3 tests/cli/make.py gap "$work/ab.npy" "$work/ba.npy")" 1e-2
works 'a plan' align "$a" "$b" --align matching --threads 1 -o "$work/one.plan"
works 'the same on three threads' align "$a" "$b" --align matching --threads 3 -o "$work/three.plan"
if cmp -s "$work/one.plan" "$work/three.plan"; then pass 'equal bytes'; else fail 'equal bytes' 'plans differ'; fi
works 'a plan of several rounds' align "$a" "$b" --align matching --set matching.rounds=10 --force -o "$work/one.plan"
works 'its report' plan "$work/one.plan" --json
rounds=$(python3 -c 'import json, sys
a, b = json.load(open(sys.argv[1]))["objective"]
print(len(b) if a == [] and len(b) > 1 and b[1] > b[0] and all(-1 <= x <= 1 for x in b) else 0)' "$work/out")
check 'the objective by round: the second gains' "${rounds:-0}" -gt 1
works 'as text' plan "$work/one.plan"
check 'it has the rounds' "$(sed -n 's/^  model 1  mean correlation by round://p' "$work/out" | wc -w)" = "$rounds"
works 'as a page' plan "$work/one.plan" --html "$work/one.html"
check 'it has them too' "$(grep -c 'Mean correlation of what is matched' "$work/one.html")" = 1
works 'dry run' fuse "$a" "$b" --align matching --dry-run --json -o "$work/dry"
check 'no problems' "$(json problems)" = 0
works 'shared units' fuse "$a" "$b" --align matching --set matching.coupling=sinkhorn --calib "$calib" --repair none --json -o "$work/soft"
check 'the self-check of means judges nothing' "$(json selfcheck result)" = passed
said=$(json peak_bytes)
check 'what they keep is told' "$(python3 -c 'import json, sys
print(all(m["kept"] < 0.9 if m["name"].endswith("ffn") else m["kept"] == 1 for m in json.load(open(sys.argv[1]))["maps"]))' "$work/out")" = True
works 'dry run of it' fuse "$a" "$b" --align matching --set matching.coupling=sinkhorn --calib "$calib" --repair none --dry-run --json -o "$work/dry"
at_most 'estimate <= 1.15 x metered' "$(json peak_bytes)" "$(awk "BEGIN { print 1.15 * $said + 64 * 2097152 }")"
at_most 'metered <= 1.15 x estimate' "$said" "$(awk "BEGIN { print 1.15 * $(json peak_bytes) }")"
works 'three models, to their mean' fuse "$a" "$b" "$work/moved" --align matching --calib "$calib" --repair none --json -o "$work/three"
check 'self-check of three' "$(json selfcheck result)" = passed
said=$(json peak_bytes)
works 'dry run of three' fuse "$a" "$b" "$work/moved" --align matching --calib "$calib" --repair none --dry-run --json -o "$work/dry"
at_most 'estimate <= 1.15 x metered' "$(json peak_bytes)" "$(awk "BEGIN { print 1.15 * $said + 64 * 2097152 }")"
at_most 'metered <= 1.15 x estimate' "$said" "$(awk "BEGIN { print 1.15 * $(json peak_bytes) }")"
refuses 1 'calib' 'activations without calibration' fuse "$a" "$b" --align matching --set matching.use=activations -o "$work/x"
refuses 1 'soft' 'soft couplings' fuse "$a" "$b" --align matching --solver sinkhorn -o "$work/x"
refuses 2 'matching.inner' 'a wrong key value' fuse "$a" "$b" --align matching --set matching.inner=some -o "$work/x"
check 'nothing under OUT' ! -e "$work/x"
finish
