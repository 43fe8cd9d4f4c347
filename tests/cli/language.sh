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
works 'matching' fuse "$e" "$f" --align matching --generate 0 -o "$work/match"
plain=$(loss "$work/none") matched=$(loss "$work/match")
at_most 'otfusion is better than the average' "$(loss "$work/ot")" "$plain"
at_most 'matching is better than otfusion' "$matched" "$(loss "$work/ot")"
run fuse "$e" "$f" --calib "$windows" --samples 32 --json -o "$work/fixed"
check 'repaired' "$code" -eq 0
at_most 'repair keeps the skill' "$(loss "$work/fixed")" 3.6

# From weights alone: the models write their own calibration text.
run fuse "$e" "$f" --generate 24 --threads 1 --json --quiet -o "$work/own"
check 'generated' "$code" -eq 0
check 'says so' "$(json calibration source)" = generated
check 'all of them count' "$(json repair samples)" = 24
said=$(json peak_bytes)
at_most 'text of their own serves' "$(loss "$work/own")" 3.6
for threads in 1 3; do # fewer stages: that every one gives equal bytes is tested apart
    run fuse "$e" "$f" --generate 12 --repair refit,head --threads $threads --quiet -o "$work/own$threads"
done
if cmp -s "$work/own1/model.safetensors" "$work/own3/model.safetensors"; then pass 'equal bytes'; else fail 'equal bytes' 'files differ'; fi
run fuse "$e" "$f" --generate 24 --threads 1 --dry-run --json -o "$work/x"
at_most 'estimate <= 1.15 x metered' "$(json peak_bytes)" "$(awk "BEGIN { print 1.15 * $said + 2097152 }")"
at_most 'metered <= 1.15 x estimate' "$said" "$(awk "BEGIN { print 1.15 * $(json peak_bytes) }")"
refuses 1 'memory' 'too little memory to generate' fuse "$e" "$f" --generate 24 --memory 1M -o "$work/x"
refuses 1 'causal' 'models that write no text' fuse tests/data/vit-fmnist-a tests/data/vit-fmnist-b --generate 8 -o "$work/x"
run fuse tests/data/vit-fmnist-a tests/data/vit-fmnist-b --generate 8 --dry-run --json -o "$work/x"
check 'which a dry run says' "$(json problems)" = 1
check 'nothing under OUT' ! -e "$work/x"

works 'gauge' gauge "$e" --seed 3 -o "$work/moved"
works 'a model and its copy' fuse "$e" "$work/moved" --generate 0 -o "$work/same"
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

make_file npy "$work/one.npy" '<i4' 2,1 5,6
works 'sequences of one token' eval "$e" --inputs "$work/one.npy"
check 'have none to score' "$(grep -c 'two tokens or more' "$work/out")" = 1
cp -r "$e" "$work/linked"
ln -sf nowhere "$work/linked/model.safetensors"
refuses 1 'model.safetensors is a link to a file that is not there' 'a link to nothing' eval "$work/linked" --inputs "$val"

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
