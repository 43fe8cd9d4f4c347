#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Looking at a model.
. "$(dirname "$0")/run.sh"

works 'a checkpoint' inspect "$a"
says 'parameters' '139,018 parameters'
says 'layers folded' 'layer.{0..3}/ffn'
says 'uses' 'consumed'
works 'JSON' inspect "$a" --json
check 'JSON: parameters' "$(json parameters)" = 139018
check 'JSON: axes' "$(json axes)" -gt 10
cp "$work/out" "$work/full"
works 'a config alone' inspect "$a/config.json"
says 'a config alone: parameters' '139,018 parameters'
mkdir "$work/bare"
cp "$a/config.json" "$work/bare"
works 'a directory with a config alone' inspect "$work/bare" --json
check 'the same axes' "$(json axes)" = "$(make_file get "$work/full" axes)"
works 'a .safetensors file' inspect "$a/model.safetensors" --json
check 'the same graph' "$(json signature)" = "$(make_file get "$work/full" signature)"
refuses 1 'nowhere' 'a missing model' inspect "$work/nowhere"
make_file model kind "$a" "$work/kind"
refuses 1 'no-such-thing' 'an unknown model_type' inspect "$work/kind"
make_file model broken-json "$a" "$work/json"
refuses 1 'config.json' 'a broken config.json' inspect "$work/json"
finish
