#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Language models: two trained ones scored on their next tokens, fused, repaired, moved; named arrays of inputs; refusals.
. "$(dirname "$0")/run.sh"
e=tests/data/llama-kjv-e
f=tests/data/llama-kjv-f
val=tests/data/kjv-tokens/val.npy
windows=tests/data/kjv-tokens/calib.npy

loss() { # loss MODEL: on the held-out windows, in nats
    run eval "$1" --inputs "$val" --limit 64 --json
    json loss
}

works 'run' run "$e" --inputs "$val" --limit 1 -o "$work/e.npy"
at_most 'logits of another implementation' "$(make_file gap "$work/e.npy" tests/data/kjv-tokens/logits_e_first1.npy 32768)" 1e-4
lead=$(loss "$e")
at_most 'next tokens are the labels' "$lead" 3.1
at_most 'and not easier than they are' 2.7 "$lead"
works 'plain average' fuse "$e" "$f" --align none -o "$work/none"
works 'otfusion' fuse "$e" "$f" --align otfusion -o "$work/ot"
works 'matching' fuse "$e" "$f" --align matching -o "$work/match"
plain=$(loss "$work/none") matched=$(loss "$work/match")
at_most 'otfusion is better than the average' "$(loss "$work/ot")" "$plain"
at_most 'matching is better than otfusion' "$matched" "$(loss "$work/ot")"
run fuse "$e" "$f" --calib "$windows" --samples 64 --json -o "$work/fixed"
check 'repaired' "$code" -eq 0
at_most 'repair keeps the skill' "$(loss "$work/fixed")" 3.6

works 'gauge' gauge "$e" --seed 3 -o "$work/moved"
works 'a model and its copy' fuse "$e" "$work/moved" -o "$work/same"
works 'run it' run "$work/same" --inputs "$val" --limit 4 -o "$work/same.npy"
works 'run the model' run "$e" --inputs "$val" --limit 4 -o "$work/was.npy"
at_most 'its function comes back' "$(make_file gap "$work/was.npy" "$work/same.npy")" 1e-3

make_file npz "$work/ids.npz" "input_ids=$val" "labels=$val"
works 'named arrays' eval "$e" --inputs "$work/ids.npz" --limit 64 --json
check 'are the same ids' "$(json loss)" = "$lead"
make_file npz "$work/mask.npz" "input_ids=$val" "attention_mask=$val"
refuses 1 "attention_mask" 'an input that the model has not' eval "$e" --inputs "$work/mask.npz"
make_file npy "$work/large.npy" '<i4' 1,2 512,3
refuses 1 'token id 512' 'an id beyond the vocabulary' eval "$e" --inputs "$work/large.npy"

cp -r "$e" "$work/type"
sed -i 's/"llama"/"lama"/' "$work/type/config.json"
refuses 1 'docs/adding-an-architecture.md' 'an unknown model_type' inspect "$work/type"
cp -r "$e" "$work/heads"
sed -i 's/"num_key_value_heads": 2/"num_key_value_heads": 3/' "$work/heads/config.json"
refuses 1 'num_key_value_heads 3' 'heads that do not divide' inspect "$work/heads"
cp -r "$e" "$work/rope"
sed -i 's/"rope_theta": 10000.0/"rope_theta": 10000.0, "rope_scaling": {"rope_type": "spiral"}/' "$work/rope/config.json"
refuses 1 'spiral' 'positions that are not known' inspect "$work/rope"
finish
