#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The programs of examples/, run as a reader would.
. "$(dirname "$0")/run.sh"

bin=$(dirname "$tfuse")/examples
mnist=/usr/share/datasets/fashion-mnist # Debian's dataset-fashion-mnist

# The figure of a row that starts with NAME.
percent() {
    sed -n "s/^$1  *\\([0-9.]*\\) %$/\\1/p" "$work/out"
}

if "$bin/feed" "$mnist/t10k-images-idx3-ubyte.gz" "$mnist/t10k-labels-idx1-ubyte.gz" >"$work/out" 2>"$work/err"; then
    pass 'feed'
else
    fail 'feed' "$(head -c 300 "$work/err")"
fi
# Two networks of one hidden layer, 83 to 86 % each: their fusion keeps nearly all of it, their plain average loses several points.
at_most 'feed: networks are trained' 80 "$(percent first)"
at_most 'feed: fused keeps the skill' "$(awk -v p="$(percent first)" 'BEGIN { print p - 2.5 }')" "$(percent fused)"
at_most 'feed: fused is better than the plain average' "$(percent 'plain average')" "$(percent fused)"

"$bin/feed" "$mnist/t10k-labels-idx1-ubyte.gz" "$mnist/t10k-images-idx3-ubyte.gz" >"$work/out" 2>"$work/err"
check 'feed: the two in the wrong order' "$? $(grep -c 'IMAGES is N x 28 x 28' "$work/err")" = '1 1'

# A host in C++ with its own tensors, allocator, threads and log; nothing on disk.
if "$bin/embed" >"$work/out" 2>"$work/err"; then
    pass 'embed'
else
    fail 'embed' "$(head -c 300 "$work/err")"
fi
# Networks of 89 and 88 %, of which the second is seen in 16 bits; their plain average loses twenty points.
at_most 'embed: networks are trained' 85 "$(percent first)"
at_most 'embed: fused keeps the skill' "$(awk -v p="$(percent first)" 'BEGIN { print p - 3 }')" "$(percent fused)"
at_most 'embed: the plain average does not' "$(percent 'plain average')" "$(awk -v p="$(percent fused)" 'BEGIN { print p - 10 }')"
at_most 'embed: it can be trained further' 85 "$(percent 'trained further')"
at_most 'embed: the library computes what the host does' "$(awk -v a="$(percent first)" -v b="$(percent 'the same by tfuse')" \
    'BEGIN { d = a - b; print d < 0 ? -d : d }')" 0.05
check 'embed: another thread cancels' "$(grep -c '^stopped *TFUSE_ECANCELLED$' "$work/out")" -eq 1
check 'embed: all that was lent comes back' "$(awk '/^given back/ { print ($3 > 100 && $3 == $5) }' "$work/out")" -eq 1
check 'embed: no block is left' "$(grep -c '^blocks left *0$' "$work/out")" -eq 1
check 'embed: own threads and log' "$(grep -cE '^own (threads|log) *used$' "$work/out")" -eq 2

# Another solver that proves its optimum finds maps of the same cost.
vit=tests/data/vit-fmnist
if "$bin/solver" $vit-a $vit-b "$work/own" >"$work/maps" 2>"$work/err"; then
    pass 'solver'
else
    fail 'solver' "$(head -c 300 "$work/err")"
fi
check 'solver: maps with a certificate' "$(grep -c 'gap' "$work/maps")" -ge 5
works 'the same by the library' fuse $vit-a $vit-b -o "$work/exact" --align otfusion --solver exact --json
total=$(python3 -c 'import json, sys; print(sum(m["cost"] or 0 for m in json.load(sys.stdin)["maps"]))' <"$work/out")
own=$(awk '{t += $(NF - 2)} END {print t}' "$work/maps")
at_most 'solver: maps of the same cost' "$(echo "$own $total" | awk '{d = ($1 - $2) / $2; print d < 0 ? -d : d}')" 1e-5
if "$bin/solver" --wrong $vit-a $vit-b "$work/wrong" >"$work/out" 2>"$work/err"; then
    fail 'a wrong solver is refused' 'it was believed'
else
    pass 'a wrong solver is refused'
fi
check 'a wrong solver: one line' "$(wc -l <"$work/err")" -eq 1
check 'a wrong solver: why' "$(grep -c "solver 'hungarian' says that its coupling is optimal, but" "$work/err")" -eq 1
check 'a wrong solver: nothing written' ! -e "$work/wrong"
finish
