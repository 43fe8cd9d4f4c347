#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Fuses two Vision Transformers that were trained from different seeds on Fashion-MNIST, in every way that this version knows, and prints
# the table: parents, ensemble, controls, the paper's method, matching. Run by `make demo`, from the root of the repository.
set -eu

bin=${BIN:-build/release}
data=${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
anchor=tests/data/vit-fmnist-b
other=tests/data/vit-fmnist-a
images=$data/t10k-images-idx3-ubyte.gz
labels=$data/t10k-labels-idx1-ubyte.gz
calib=$data/train-images-idx3-ubyte.gz
unconverged=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

number() { # number KEY < json: the value of a key in one flat object
    sed -n "s/.*\"$1\": *\([-0-9.e+]*\).*/\1/p" | head -n 1
}

row() { # row NAME JSON SECONDS
    accuracy=$(number accuracy <"$2")
    loss=$(number loss <"$2")
    LC_ALL=C awk -v n="$1" -v a="$accuracy" -v l="$loss" -v s="$3" \
        'BEGIN { printf "  %-52s %6.2f %% %9.4f %9s\n", n, 100 * a, l, s }'
}

parent() { # parent NAME MODEL
    "$bin/tfuse" eval "$2" --inputs "$images" --labels "$labels" --json >"$work/eval.json"
    row "$1" "$work/eval.json" ""
}

fuse() { # fuse NAME OPTIONS...: b is the anchor
    name=$1
    shift
    "$bin/tfuse" fuse "$anchor" "$other" -o "$work/fused" --force --quiet --json "$@" >"$work/fuse.json"
    if grep -q '"converged": false' "$work/fuse.json"; then
        name="$name *"
        unconverged=1
    fi
    "$bin/tfuse" eval "$work/fused" --inputs "$images" --labels "$labels" --json >"$work/eval.json"
    row "$name" "$work/eval.json" "$(LC_ALL=C awk -v s="$(number seconds <"$work/fuse.json")" 'BEGIN { printf "%.2f s", s }')"
}

acts="--calib $calib --samples 200"
window="--set otfusion.tokens=window5" # class token and the centre of the image, as published

echo "Two Vision Transformers (139k parameters each, two seeds), 10,000 test images of Fashion-MNIST; the anchor is b."
echo "Maps from 200 unlabelled training images, or from the weights alone. No labels, no gradients."
echo
printf "  %-52s %8s %9s %9s\n" "" "accuracy" "loss" "time"
parent "parent a" "$other"
parent "parent b" "$anchor"
"$bin/examples/ensemble" "$images" "$labels" "$anchor" "$other" >"$work/ensemble.json"
row "ensemble of both (mean of logits, twice the cost)" "$work/ensemble.json" ""
fuse "plain average" --align none
echo "  controls:"
fuse "  half-anchor: b alone, its weights halved" --align otfusion --control half-anchor
fuse "  uniform maps" --align otfusion --control uniform
fuse "  random permutations" --align otfusion --control random
echo "  the paper's method, from weights:"
fuse "  exact, residual mean" --align otfusion
fuse "  Sinkhorn 0.06, residual mean" --align otfusion --solver sinkhorn --reg 0.06
echo "  the paper's method, from activations:"
# shellcheck disable=SC2086 # lists of options
{
    fuse "  exact, residual mean" --align otfusion $acts $window
    fuse "  Sinkhorn 0.08, residual mean (authors' default)" --align otfusion $acts $window --solver sinkhorn --reg 0.08
    fuse "  Sinkhorn 0.01, residual skip, all tokens (best)" --align otfusion $acts --solver sinkhorn --reg 0.01 \
        --set otfusion.residual=skip
    echo "  matching, maps that keep each model's function:"
    fuse "  from weights" --align matching --repair none
    fuse "  from weights, with circuits averaged" --align matching
    fuse "  from weights and activations" --align matching $acts --repair none
    fuse "  and repair" --align matching $acts
    fuse "  the same with 600 images" --align matching $acts --samples 600
    echo "  controls of repair:"
    fuse "  one model alone, its head refitted" --align matching $acts --set repair.lead=1 --repair mix,head
    fuse "  always a mix of both" --align matching $acts --set repair.alone=0
    fuse "  the same with 600 images" --align matching $acts --samples 600 --set repair.alone=0
}
echo
if [ "$unconverged" = 1 ]; then
    echo "* some Sinkhorn iterations stopped short of their tolerance of 1e-9; \`tfuse fuse\` without --quiet says which, and how far."
fi
echo "Read the controls first: what a method adds is what it has above half-anchor, in which the other model plays no part."
echo "Try it: $bin/tfuse fuse $anchor $other -o fused --align matching --calib $calib"
