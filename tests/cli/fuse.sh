#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fusing, and plans.
. "$(dirname "$0")/run.sh"

works 'none' fuse "$b" "$a" -o "$work/mean" --align none --json
check 'none: strategy' "$(json strategy)" = none
check 'none: weights' "$(json weights 0) $(json weights 1)" = '0.5 0.5'
check 'none: out' "$(json out)" = "$work/mean"
at_most 'none: is the mean' "$(make_file mean "$work/mean" "$a" "$b")" 2e-7
check 'config.json beside it' -f "$work/mean/config.json"
check 'preprocessor_config.json beside it' -f "$work/mean/preprocessor_config.json"
works 'eval takes the result' eval "$work/mean" --inputs "$images"
works 'one weight for each' fuse "$b" "$a" -o "$work/three" --align none --weights 3,1 --json
check 'weights in the report' "$(json weights 0) $(json weights 1)" = '0.75 0.25'
works 'a weight of zero' fuse "$b" "$a" -o "$work/only" --align none --weights 1,0
check 'weights 1,0: the anchor' "$(make_file same "$work/only" "$b")" = yes
works 'half-anchor' fuse --align otfusion "$b" "$a" -o "$work/half" --control half-anchor --json
check 'half-anchor: weights' "$(json weights 0) $(json weights 1)" = '0.5 0.0'
works 'uniform' fuse --align otfusion "$b" "$a" -o "$work/u" --control uniform
works 'random' fuse --align otfusion "$b" "$a" -o "$work/r1" --control random --seed 5
works 'random again' fuse --align otfusion "$b" "$a" -o "$work/r2" --control random --seed 5 --threads 3
works 'random otherwise' fuse --align otfusion "$b" "$a" -o "$work/r3" --control random --seed 6
check 'the seed decides' "$(make_file same "$work/r1" "$work/r2") $(make_file same "$work/r1" "$work/r3")" = 'yes no'

works 'otfusion' fuse --align otfusion "$b" "$a" -o "$work/direct" --calib "$calib" --set otfusion.tokens=window5 --json --save-plan "$work/p.plan"
check 'otfusion: maps' "$(json maps)" -gt 20
check 'otfusion: a cost' "$(json maps 0 cost)" != null
check 'otfusion: converged' "$(json maps 0 converged)" = True
check 'otfusion: its self-check claims nothing' "$(json selfcheck result)" = 'nothing to compare'
works 'align' align --align otfusion "$b" "$a" -o "$work/q.plan" --calib "$calib" --set otfusion.tokens=window5 --threads 3
says 'align: the next command' "fuse $b $a -o OUT --plan"
cmp -s "$work/p.plan" "$work/q.plan"
check 'the same plan, to the byte' $? = 0
works 'fuse --plan' fuse "$b" "$a" -o "$work/applied" --plan "$work/q.plan"
check 'a plan gives what fusing gave' "$(make_file same "$work/direct" "$work/applied")" = yes
cmp -s "$work/direct/model.safetensors" "$work/applied/model.safetensors"
check 'to the byte' $? = 0
works 'plan' plan "$work/q.plan"
says 'plan: a map' 'layer.0/ffn'
works 'plan --json' plan "$work/q.plan" --json
check 'plan --json: table' "$(json table)" -gt 50
works 'a table for a person' fuse --align otfusion "$b" "$a" -o "$work/t" --solver sinkhorn --reg 0.1
says 'a table: next' "tfuse eval $work/t"
works 'from npz' fuse --align otfusion "$b" "$a" -o "$work/z" --samples 10 --calib "$(make_file npz "$work/z.npz" x="$calib"; echo "$work/z.npz:x")"
works 'dtype' fuse "$b" "$a" -o "$work/half16" --align none --dtype F16
check 'dtype: half as large' "$(wc -c <"$work/half16/model.safetensors")" -lt 300000
works 'shards' fuse "$b" "$a" -o "$work/shards" --align none --shard-size 100000
check 'shards: an index' -f "$work/shards/model.safetensors.index.json"
works 'shards are read' eval "$work/shards" --inputs "$images"

refuses 2 '--plan' 'alignment options beside --plan' fuse "$b" "$a" -o "$work/n" --plan "$work/q.plan" --reg 1
refuses 2 'otfusion.qk' 'alignment keys beside --plan' fuse "$b" "$a" -o "$work/n" --plan "$work/q.plan" --set otfusion.qk=common
refuses 2 '--calib' '--calib beside --plan' fuse "$b" "$a" -o "$work/n" --plan "$work/q.plan" --calib "$calib"
refuses 2 '--save-plan' '--save-plan beside --plan' fuse "$b" "$a" -o "$work/n" --plan "$work/q.plan" --save-plan "$work/n.plan"
refuses 1 'combine.weights' 'weights that do not fit' fuse "$b" "$a" -o "$work/n" --align none --weights 1,2,3
refuses 1 '2 models' 'a plan for fewer models' fuse "$b" "$a" "$a" -o "$work/n" --plan "$work/q.plan"
refuses 1 'exists' 'an existing plan' align --align otfusion "$b" "$a" -o "$work/q.plan"
head -c 500 "$work/q.plan" >"$work/cut.plan"
refuses 1 'cut.plan' 'a truncated plan' plan "$work/cut.plan"
{ head -c 900 "$work/q.plan"; printf 'XXXX'; tail -c +905 "$work/q.plan"; } >"$work/flip.plan"
refuses 1 'flip.plan' 'a plan with a flipped byte' plan "$work/flip.plan"
printf 'no plan at all' >"$work/text.plan"
refuses 1 'text.plan' 'a file that is no plan' plan "$work/text.plan"
check 'nothing under the refused name' ! -e "$work/n"

# A progress bar on a terminal, and only there.
cat >"$work/terminal.py" <<'P'
import os, pty, sys
chunks = []
def read(fd):
    data = os.read(fd, 4096)
    chunks.append(data)
    return data
status = pty.spawn(sys.argv[1:], read)
print()
print(b"%" in b"".join(chunks) and os.waitstatus_to_exitcode(status))
P
check 'a bar on a terminal' "$(python3 "$work/terminal.py" "$tfuse" fuse --align otfusion "$b" "$a" -o "$work/bar" --calib "$calib" </dev/null | tail -n 1)" = 0
finish
