#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A library that was built without LAPACK (make check-nolapack): does not load it, fuses by what needs none, and names what it cannot do, at a dry
# run already. Its symbols are those of any build; tools/check_symbols.sh sees to that.
TFUSE=${TFUSE:-build/release-nolapack/tfuse}
. "$(dirname "$0")/run.sh"

loaded=$(objdump -p "$(dirname "$tfuse")"/libtfuse.so | grep -ciE 'NEEDED.*(lapack|openblas|gfortran)')
check 'nothing of LAPACK is loaded' "$loaded" -eq 0
works 'otfusion' fuse $a $b -o "$work/otfusion" --align otfusion
works 'none' fuse $a $b -o "$work/none" --align none
works 'matching by permutations' fuse $a $b -o "$work/matching" --set matching.stream=permutation --set matching.inner=permutation
works 'its result is read' eval "$work/matching" --inputs $images --json
refuses 1 'needs LAPACK, which this library was built without' 'matching with rotations' fuse $a $b -o "$work/refused"
check 'nothing is written' ! -e "$work/refused"
refuses 1 'needs LAPACK' 'repair' fuse $a $b -o "$work/refused" --calib $calib --set matching.stream=permutation --set matching.inner=permutation
refuses 1 'needs LAPACK' 'gauge' gauge $a --seed 1 -o "$work/refused"
run fuse $a $b -o "$work/refused" --dry-run
check 'a dry run sees it' "$code" -eq 1
says 'and says it' 'align.strategy=matching needs LAPACK'
finish
