#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# bench.sh BUILD PYTHON TORCH_PYTHON: every benchmark in a short setting, each a ratio beside a named peer of the same run. PYTHON has NumPy,
# SciPy and POT, TORCH_PYTHON PyTorch and transformers. Takes some ten minutes; models that it makes are kept in build/bench (0.8 GB).
set -eu

here=$(dirname "$0")
work=build/bench
mkdir -p "$work"

echo '== cost matrix beside the bare product of BLIS (ratio: cost over product)'
"$1/tests/bench/bench_cost" 3
echo '== solvers beside SciPy and POT, one core'
"$2" "$here/bench_ot.py" "$1/libtfuse.so" --quick --seeds 1
echo '== fusing two models of the size of ViT-B/16, one core, beside NumPy and POT'
"$2" "$here/bench_fuse.py" "$1/tfuse" "$work"
echo '== forward pass beside PyTorch'
HF_HUB_OFFLINE=1 "$3" "$here/bench_forward.py" "$1/libtfuse.so" "$work"
