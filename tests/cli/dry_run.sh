#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every problem at once; sizes from headers and from configs alone; --memory. What is said beside what is taken: estimates.sh.
. "$(dirname "$0")/run.sh"

make_file vit "$work/x" 1 256 3 1024 1100
make_file vit "$work/y" 2 256 3 1024 1100

# From headers alone: holes of a terabyte, and numbers that are none.
make_file vit "$work/h1" 1 16384 100 65536 1000 sparse
make_file vit "$work/h2" 1 16384 100 65536 1000 sparse
run fuse "$work/h1" "$work/h2" -o "$work/o" --dry-run --json
at_most 'terabytes: peak' 5e10 "$(json peak_bytes)"
at_most 'terabytes: written' 1.2e12 "$(json write_bytes)"
says 'terabytes: the disk' 'the disk has'
rm -rf "$work/h1" "$work/h2"
make_file vit "$work/nan" 1 256 3 1024 1100 nan
run fuse "$work/nan" "$work/nan" -o "$work/o" --dry-run --json
check 'NaN: not looked at' "$code $(json problems)" = '0 0'

# Every problem at once.
make_file model missing "$a" "$work/missing"
make_file model extra "$a" "$work/extra"
make_file model config "$a" "$work/config"
make_file model classes "$a" "$work/classes"
make_file model layers "$a" "$work/layers"
mkdir "$work/there"
run fuse "$a" "$work/missing" "$work/extra" "$work/config" "$work/classes" "$work/layers" "$work/nowhere" -o "$work/there" --dry-run --json \
    --weights 1,2 --calib "$work/none.npy" --save-plan "$work/no/such.plan" --set solver.name=magic
check 'all problems: status' "$code" = 1
check 'all problems: many' "$(json problems)" -gt 30
for piece in "no tensor 'classifier.bias'" "'some.extra' is not part" 'asks for [32' 'classes (dimension 0 of classifier' 'has no layer.3/' \
    "$work/nowhere" "$work/none.npy" 'combine.weights has 2' "$work/there: exists" 'no directory' 'solver.name=magic'; do
    says "all problems: $piece" "$piece"
done
check 'all problems: no size' "$(json peak_bytes)" = null
run fuse "$a" "$b" -o "$work/there" --dry-run
check 'for a person: status' "$code" = 1
says 'for a person' 'exists; give another name'
says 'for a person: memory' 'peak memory'
works 'an existing output may be replaced' fuse "$a" "$b" -o "$work/there" --dry-run --force
# What the command refuses of its outputs, by the same check.
for again in "$work/o" "$work/./o/" "$work/missing/../o"; do
    refuses 2 "$work/o: two outputs cannot have one name" "one name, $again" fuse "$a" "$b" -o "$work/o" --save-plan "$again"
    run fuse "$a" "$b" -o "$work/o" --save-plan "$again" --dry-run --json
    check "one name, $again: a dry run says so, once" "$code$(grep -cF "\"$work/o: two outputs cannot have one name" "$work/out")" = 11
    check "one name, $again: and what it would take" "$(json peak_bytes)" -gt 0
done
run fuse "$a" "$b" "$work/nowhere" -o "$work/o" --save-plan "$work/o" --dry-run
check 'one name, beside others' "$code$(grep -c "^$work/\(nowhere: \|o: two outputs cannot\)" "$work/out")" = 12
says 'one name, beside others: counted' '  problems                2'
cp "$calib" "$work/read.npy"
run fuse "$a" "$b" -o "$work/o" --calib "$work/read.npy" --save-plan "$work/read.npy" --force --dry-run --json
check 'an output that is read: a dry run says so' "$code$(json problems)$(grep -c 'is read by this run' "$work/out")" = 111
refuses 1 'is read by this run' 'an output that is read' fuse "$a" "$b" -o "$work/o" --calib "$work/read.npy" --save-plan "$work/read.npy" --force
works 'a plan' align "$a" "$b" -o "$work/ab.plan"
works 'by a plan' fuse "$a" "$b" -o "$work/o" --plan "$work/ab.plan" --dry-run --json
run fuse "$a" "$b" "$b" -o "$work/o" --plan "$work/ab.plan" --dry-run --json
says 'a plan for fewer models' 'the plan is of 2 models'

# Of a model of another architecture one line, not one for each of its nodes; its attributes once.
run fuse "$a" tests/data/llama-kjv-e "$work/nowhere" -o "$work/o" --dry-run --json
at_most 'another architecture: few lines' "$(json problems)" 3
says 'another architecture: which' 'tests/data/llama-kjv-e is a llama'
says 'another architecture: the rest too' "$work/nowhere"
run fuse tests/data/timm-average tests/data/timm-patches -o "$work/o" --dry-run
check 'attributes that differ: once' "$(grep -c '^layer.0/query: bias is ' "$work/out")" = 1

# --memory
refuses 1 'run.memory=1048576 is too little: this takes at least' 'too little memory' fuse "$work/x" "$work/y" -o "$work/o" --memory 1M
refuses 1 'run.memory' 'too little memory to align' align "$work/x" "$work/y" -o "$work/o.plan" --memory 2M
check 'nothing written' ! -e "$work/o"
least=$(sed -n 's/.*--memory \([0-9]*M\) or more.*/\1/p' "$work/err")
works 'the least that it names will do' align "$work/x" "$work/y" -o "$work/o.plan" --memory "$least"
works 'and to fuse' fuse "$work/x" "$work/y" -o "$work/o" --memory 1G
advised() { # advised NAME MEMORY WITH ARGS...: what is named in place of more memory is WITH, and it does
    topic=$1 memory=$2 with=$3
    shift 3
    refuses 1 'run.memory' "$topic: refused" fuse "$a" "$b" --calib "$calib" --memory "$memory" "$@" -o "$work/advised"
    advice=$(sed -n 's/.* or more, or \(.*\), with which .*/\1/p' "$work/err")
    check "$topic: says how else" "$advice" = "$with"
    run fuse "$a" "$b" --calib "$calib" --memory "$memory" "$@" -o "$work/advised" --dry-run
    says "$topic: a dry run too" "or more, or $with, with which"
    # shellcheck disable=SC2086 # several words
    works "$topic: and so it does" fuse "$a" "$b" --calib "$calib" --memory "$memory" "$@" -o "$work/advised" $advice
    rm -rf "$work/advised"
}
advised 'moments' 20M '--set matching.use=weights'
advised 'moments, repair' 10M '--set matching.use=weights --repair none'
advised 'moments of the paper' 20M '--set otfusion.cost=weights' --align otfusion
run fuse "$a" "$b" --calib "$calib" --memory 2M -o "$work/advised"
check 'where nothing helps, nothing is named' "$(grep -c 'or more, or' "$work/err")" = 0
refuses 2 'with K, M or G behind it' 'no integer' fuse "$work/x" "$work/y" -o "$work/z" --memory 1.5G
refuses 2 'run.memory' 'no number' fuse "$work/x" "$work/y" -o "$work/z" --memory 3X
# A config alone: sizes of what it describes.
mkdir "$work/c1" "$work/c2"
for d in c1 c2; do cp tests/data/llama-kjv-e/config.json "$work/$d"; done
run fuse "$work/c1" "$work/c2" -o "$work/planned" --dry-run --json
check 'a config alone is no problem' "$code$(json problems)" = 00
check 'and says so' "$(grep -c 'no weights beside config.json' "$work/err")" -eq 2
planned=$(json write_bytes) peak=$(json peak_bytes)
run fuse tests/data/llama-kjv-e tests/data/llama-kjv-f -o "$work/real" --dry-run --json
at_most 'a config alone: written' "$planned" "$(json write_bytes)"
at_most 'a config alone: and not less than the header' "$(json write_bytes)" "$((planned + 8192))"
check 'a config alone: peak' "$peak" -gt 1000000
# A mixture of 8 experts of 14336 units each: pairs of experts are compared one at a time.
mkdir "$work/m1" "$work/m2"
for d in m1 m2; do
    cat >"$work/$d/config.json" <<'END'
{"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
 "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2}
END
done
run fuse "$work/m1" "$work/m2" -o "$work/planned" --align matching --dry-run --json
at_most 'a mixture of 8 experts: peak' "$(json peak_bytes)" 24e9
# An encoder of 24 layers of 2048 units, by disentangled attention, from its config alone.
mkdir "$work/v1" "$work/v2"
for d in v1 v2; do
    cat >"$work/$d/config.json" <<'END'
{"model_type": "deberta-v2", "architectures": ["DebertaV2ForMaskedLM"], "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32,
 "intermediate_size": 8192, "vocab_size": 128100, "max_position_embeddings": 512, "type_vocab_size": 0, "relative_attention": true,
 "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": true, "pos_att_type": "p2c|c2p", "max_relative_positions": -1,
 "position_biased_input": false}
END
done
for way in otfusion matching; do
    run fuse "$work/v1" "$work/v2" -o "$work/planned" --align $way --dry-run --json
    check "24 layers of 2048, $way: no problem" "$code$(json problems)" = 00
    at_most "24 layers of 2048, $way: written" 5.8e9 "$(json write_bytes)" # 1.47 billion parameters in float32
    at_most "24 layers of 2048, $way: peak" "$(json peak_bytes)" 2e9
done

# 70 billion parameters in shards: headers are read, and hardly a page of what they describe.
make_file llama70b "$work/l"
in_little() { # in_little NAME ARGS...: 200 MB in all, under whatever that is instrumented with more
    small=$1
    shift
    make_file rss-all "$tfuse" "$@" >"$work/out" 2>"$work/rss"
    case $tfuse in *asan* | *tsan*) most=2000000000 ;; *) most=200000000 ;; esac
    at_most "$small: headers alone" "$(tail -n 1 "$work/rss")" "$most"
}
in_little 'inspect 70 billion' inspect "$work/l" --json
check 'inspect 70 billion: counts them' "$(json parameters)" = 68976648192
for how in matching otfusion none; do
    in_little "dry run of 70 billion, $how" fuse "$work/l" "$work/l" --align $how --dry-run --json -o "$work/70b"
    at_most "dry run of 70 billion, $how: it reads both" 275906000000 "$(json read_bytes)"
    at_most "dry run of 70 billion, $how: it takes no model's size" "$(json peak_bytes)" 60000000000
    at_most "dry run of 70 billion, $how: nor nothing" 500000000 "$(json peak_bytes)"
done
finish
