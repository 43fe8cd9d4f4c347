#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# tools/study/tune.sh TFUSE WORK ANCHOR OTHER PYTHON: fuses a pair of ViTs in every way that the study fine-tunes, and fine-tunes them all and both parents alike
# (finetune.py; TUNE: its options; ONLY: names of candidates, when not all). Calibration images: the first training images, unlabelled.
set -eu
tfuse=$1 work=$2 anchor=$3 other=$4 python=$5
images=${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}/train-images-idx3-ubyte.gz
mkdir -p "$work/tune"

# Made anew each time, since the build may have changed; finetune.py knows a model by its weights, so that equal ones are not trained again.
candidate() {
    name=$1
    shift
    case " ${ONLY:-$name} " in *" $name "*) ;; *) return 0 ;; esac
    "$tfuse" fuse "$@" -o "$work/tune/$name" --force --quiet
    set -- "$name=$work/tune/$name"
    tune "$@"
}

tune() {
    case " ${ONLY:-${1%%=*}} " in *" ${1%%=*} "*) ;; *) return 0 ;; esac
    # shellcheck disable=SC2086
    "$python" "$(dirname "$0")/finetune.py" "$work/tuned" "$1" ${TUNE:-}
}

letter() {
    basename "$1" | sed 's/.*-//'
}

tune "parent-$(letter "$anchor")=$anchor"
tune "parent-$(letter "$other")=$other"
candidate matching-repair-3000 "$anchor" "$other" --calib "$images" --samples 3000
candidate matching-repair-600 "$anchor" "$other" --calib "$images" --samples 600
candidate paper-best "$anchor" "$other" --align otfusion --calib "$images" --samples 600 --solver sinkhorn --reg 0.01 --set otfusion.residual=skip
candidate leading-model-alone "$anchor" "$other" --calib "$images" --samples 600 --repair mix,head --set repair.lead=1
candidate matching-from-weights "$anchor" "$other"
candidate plain-average "$anchor" "$other" --align none
candidate half-anchor "$anchor" "$other" --align otfusion --control half-anchor
