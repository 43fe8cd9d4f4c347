#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tfuse fuse --repair: stages, report, the same bytes on any number of threads, an estimate, refusals.
. "$(dirname "$0")/run.sh"

# Repair may warn that 40 images leave the result farther from the ensemble than the anchor is.
repairs() { # repairs NAME ARGS...
    name=$1
    shift
    run fuse "$a" "$b" --align matching --calib "$calib" --json --force "$@"
    check "$name" "$code" = 0
}

repairs 'auto' -o "$work/best"
chosen=$(python3 -c '
import json, sys
r = json.load(sys.stdin)["repair"]
best = min(r["mixes"], key=lambda m: m["kl"])
print(sorted(m["lead"] for m in r["mixes"] if m["share"] == 1), best["share"], r["mix"] == [float(k == best["lead"]) for k in (0, 1)], r["stages"])' <"$work/out")
check 'with 40 images none comes nearer than one alone' "$chosen" = "[0, 1] 1.0 True ['mix', 'head']"
repairs 'that one' --repair mix,head --set repair.lead=1 -o "$work/alone"
if cmp -s "$work/best/model.safetensors" "$work/alone/model.safetensors"; then pass 'is what came'; else fail 'is what came' 'files differ'; fi
run fuse "$a" "$b" --calib "$calib" --repair mix,head --set repair.lead=1 -o "$work/alone" --force
says 'and is told' 'it alone, but for its last layer'
repairs 'always a mix' --set repair.alone=0 -o "$work/auto" --save-plan "$work/auto.plan"
check 'four stages' "$(json repair stages)" = 4
check 'samples' "$(json repair samples)" = 40
at_most 'the ensemble is near' "$(json repair kl_fused)" 1
said=$(json peak_bytes)
run fuse "$a" "$b" --align matching --calib "$calib" --set repair.alone=0 --dry-run --json -o "$work/dry"
at_most 'estimate <= 1.15 x metered' "$(json peak_bytes)" "$(awk "BEGIN { print 1.15 * $said + 64 * 2097152 }")"
at_most 'metered <= 1.15 x estimate' "$said" "$(awk "BEGIN { print 1.15 * $(json peak_bytes) }")"
repairs 'one thread' --repair select,refit,head --threads 1 -o "$work/one"
repairs 'three threads' --repair select,refit,head --threads 3 -o "$work/three"
if cmp -s "$work/one/model.safetensors" "$work/three/model.safetensors"; then pass 'equal bytes'; else fail 'equal bytes' 'files differ'; fi
repairs 'in files, memory being bounded' --repair select,refit,head --memory 60M --threads 3 -o "$work/spilled"
if cmp -s "$work/one/model.safetensors" "$work/spilled/model.safetensors"; then pass 'the same from files'; else fail 'the same from files' 'files differ'; fi
repairs 'a list' --repair regmean,statistics -o "$work/list"
check 'two stages' "$(json repair stages)" = 2
repairs 'none' --repair none -o "$work/none"
check 'no stage' "$(json repair stages)" = 0
works 'a plan' align "$a" "$b" --align matching -o "$work/p.plan"
run fuse "$a" "$b" --plan "$work/p.plan" --calib "$calib" --samples 9 --repair refit --json -o "$work/planned"
check 'a plan is repaired' "$code$(json repair samples)" = 09
run fuse "$a" "$b" --repair circuits --json -o "$work/circuits"
check 'circuits from weights' "$code$(json repair circuits)" = 08
run fuse "$a" "$b" --repair circuits --set matching.use=weights --dry-run --json -o "$work/dry"
check 'and a dry run of it' "$code$(json problems)" = 00
works 'whose units they are is in the plan' plan "$work/auto.plan" --json
owned=$(python3 -c '
import json, sys
rows = json.load(sys.stdin)["owners"]
pairs = [list(zip(r["model"], r["unit"])) for r in rows]
whole = all(len(set(p)) == len(p) and set(r["model"]) <= {0, 1} and min(r["unit"]) >= 0 and max(r["unit"]) < len(p) for p, r in zip(pairs, rows))
print(len(rows), sorted({len(p) for p in pairs}), len({k for r in rows for k in r["model"]}), whole)' <"$work/out")
check 'each unit is one of a model, taken once' "$owned" = "8 [4, 128] 2 True"
told=$(python3 -c '
import json, sys
r = json.load(open(sys.argv[1]))["repair"]
names = [x["name"] for x in r["linears"]]
near = r["kl_fused"] < r["kl_refit"] + 1e-3 and len(r["mixes"]) >= 3 and min(m["kl"] for m in r["mixes"]) > 0
print(r["stages"], r["samples"], len(names) == len(set(names)) == 25, all(x["after"] <= x["before"] + 1e-9 for x in r["linears"]), near, "owners" in r)' "$work/out")
check 'what repair told is there too' "$told" = "['mix', 'select', 'refit', 'head'] 40 True True True False"
works 'its page' plan "$work/auto.plan" --html "$work/auto.html"
check 'it shows the stages' "$(grep -c 'Distance from the ensemble\|Calibration error of each linear' "$work/auto.html")" = 2
works 'a plan without repair' plan "$work/p.plan" --json
check 'tells of none' "$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["repair"])' "$work/out")" = None
works 'it runs' run "$work/auto" --inputs "$images" -o "$work/auto.npy"
refuses 1 'calib' 'without calibration' fuse "$a" "$b" --align matching --repair refit -o "$work/x"
run fuse "$a" "$b" --align matching --repair refit --dry-run --json -o "$work/x"
check 'which a dry run says' "$(json problems)" = 1
refuses 1 'matching' 'maps that keep no function' fuse "$a" "$b" --align otfusion --calib "$calib" --repair refit -o "$work/x"
refuses 2 'repair' 'an unknown stage' fuse "$a" "$b" --align matching --repair polish -o "$work/x"
refuses 1 'memory' 'too little memory' fuse "$a" "$b" --align matching --calib "$calib" --memory 4M -o "$work/x"
check 'nothing under OUT' ! -e "$work/x"
run fuse "$a" "$b" --calib "$calib" --samples 4 --repair mix -o "$work/few"
check 'four inputs: a warning' "$code$(grep -c 'of 4 calibration inputs none is left out' "$work/err")" = 01
run fuse "$a" "$b" --calib "$calib" --samples 5 --repair mix -o "$work/enough"
check 'five: none of this kind' "$code$(grep -c 'none is left out\|all the same' "$work/err")" = 00
make_file npy "$work/black.npy" '|u1' 6,28,28 zero
run fuse "$a" "$b" --calib "$work/black.npy" --repair mix -o "$work/black"
check 'six black images: a warning' "$code$(grep -c 'the 6 calibration inputs are all the same' "$work/err")" = 01
finish
