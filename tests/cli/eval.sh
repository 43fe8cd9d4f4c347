#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Running and scoring: labels that are made from the model's own logits, so accuracy and loss are known.
. "$(dirname "$0")/run.sh"

works 'run' run "$a" --inputs "$images" -o "$work/logits.npy"
make_file best "$work/logits.npy" "$work/right.npy"
make_file best "$work/logits.npy" "$work/wrong.npy" 7
works 'eval, all right' eval "$a" --inputs "$images" --labels "$work/right.npy" --json
check 'n' "$(json n)" = 100
check 'accuracy 1' "$(json accuracy)" = 1.0
loss=$(json loss)
works 'eval, 7 wrong' eval "$a" --inputs "$images" --labels "$work/wrong.npy" --json
check 'accuracy 0.93' "$(json accuracy)" = 0.93
want=$(make_file loss "$work/logits.npy" "$work/right.npy")
at_most 'loss' "$(awk -v x="$loss" -v y="$want" 'BEGIN { d = x - y; print d < 0 ? -d : d }')" 1e-6
works 'a table' eval "$a" --inputs "$images" --labels "$work/wrong.npy"
says 'a table: accuracy' '93.00 %'
works '--limit' eval "$a" --inputs "$images" --labels "$work/wrong.npy" --limit 10 --json
check '--limit: n' "$(json n)" = 10
check '--limit: the first are the wrong ones' "$(json accuracy)" = 0.3
works 'without labels' eval "$a" --inputs "$images" --json
check 'without labels: null' "$(json accuracy) $(json loss) $(json n)" = 'null null 100'

make_file npz "$work/x.npz" images="$images" labels="$work/wrong.npy"
works 'npz' eval "$a" --inputs "$work/x.npz:images" --labels "$work/x.npz:labels" --json
check 'npz: the same' "$(json accuracy)" = 0.93
for threads in 1 3; do
    works "--threads $threads" run "$a" --inputs "$images" -o "$work/t$threads.npy" --threads $threads
    cmp -s "$work/logits.npy" "$work/t$threads.npy"
    check "--threads $threads: the same bits" $? = 0
done
works 'run --limit --json' run "$a" --inputs "$images" -o "$work/few.npy" --limit 3 --json
check 'run --json: shape' "$(json shape 0) $(json shape 1)" = '3 10'

refuses 1 'exists' 'run refuses an existing OUT' run "$a" --inputs "$images" -o "$work/few.npy"
works 'run --force' run "$a" --inputs "$images" -o "$work/few.npy" --limit 2 --force
refuses 1 'no directory' 'run into a missing directory' run "$a" --inputs "$images" -o "$work/no/where.npy"
refuses 1 'gone.npy' 'missing inputs' eval "$a" --inputs "$work/gone.npy"
make_file npy "$work/small.npy" '|u1' 2,5,5 zero
refuses 1 '[2, 5, 5]' 'inputs of a wrong shape' eval "$a" --inputs "$work/small.npy"
make_file npy "$work/floats.npy" '<f4' 1,28,28 zero
works 'floats are taken as they are' eval "$a" --inputs "$work/floats.npy"
make_file npy "$work/ids.npy" '<i8' 2,28,28 zero
refuses 1 'I64' 'token ids for images' eval "$a" --inputs "$work/ids.npy"
make_file npy "$work/one.npy" '<i8' 1 10
refuses 1 'label 10' 'a label out of range' eval "$a" --inputs "$work/floats.npy" --labels "$work/one.npy"
make_file npy "$work/three.npy" '<i8' 3 1,2,3
refuses 1 '3 labels' 'too many labels' eval "$a" --inputs "$work/floats.npy" --labels "$work/three.npy"
refuses 1 'labels' 'labels that are floats' eval "$a" --inputs "$images" --labels "$work/logits.npy"
refuses 1 'nothing' 'a key that the npz has not' eval "$a" --inputs "$work/x.npz:nothing"
head -c 1000 "$images" >"$work/cut.npy"
refuses 1 'cut.npy' 'truncated inputs' eval "$a" --inputs "$work/cut.npy"
printf 'hello' >"$work/text.npy"
refuses 1 'text.npy' 'inputs that are no array' eval "$a" --inputs "$work/text.npy"
finish
