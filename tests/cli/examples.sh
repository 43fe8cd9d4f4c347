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
finish
