#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tfuse path: its numbers are those of the checkpoints that fuse writes, to the digit; its picture is well-formed and holds the curves.
. "$(dirname "$0")/run.sh"

# Images of uint8, so that what preprocessor_config.json says of them counts.
make_file npy "$work/x.npy" '|u1' 20,28,28 "$(awk 'BEGIN { for (i = 0; i < 15680; i++) printf "%s%d", i ? "," : "", (i * 7919 + int(i / 28) * 31) % 256 }')"
works 'logits' run "$b" --inputs "$work/x.npy" -o "$work/logits.npy"
make_file best "$work/logits.npy" "$work/y.npy" 5

set -- "$b" "$a" --calib "$calib" --samples 10 --set otfusion.residual=skip --solver sinkhorn
works 'path' path --align otfusion "$@" --inputs "$work/x.npy" --labels "$work/y.npy" -o "$work/p.json" --json --quiet
cp "$work/out" "$work/shown.json"
cmp -s "$work/shown.json" "$work/p.json"
check 'the file is what --json prints' $? = 0
check 'points' "$(make_file get "$work/p.json" points)" = 11
check 'inputs' "$(make_file get "$work/p.json" n)" = 20

point() { # point I KEY...: of the line
    make_file get "$work/p.json" points "$@"
}

same_as() { # same_as NAME I WEIGHTS KEY ARGS...: point I is what eval says of the model that fuse writes with WEIGHTS
    name=$1 i=$2 weights=$3 key=$4
    shift 4
    works "$name: fuse" fuse --align otfusion "$@" -o "$work/f" --weights "$weights" --force --quiet
    works "$name: eval" eval "$work/f" --inputs "$work/x.npy" --labels "$work/y.npy" --json
    if [ "$key" = aligned ]; then
        check "$name: loss and accuracy" "$(point "$i" loss) $(point "$i" accuracy)" = "$(json loss) $(json accuracy)"
    else
        check "$name: loss and accuracy" "$(point "$i" plain loss) $(point "$i" plain accuracy)" = "$(json loss) $(json accuracy)"
    fi
}

same_as 't = 0.3' 3 0.7,0.3 aligned "$@"
same_as 't = 1' 10 0,1 aligned "$@"
same_as 't = 0.5, plain' 5 1,1 plain "$b" "$a" --align none
works 'A' eval "$b" --inputs "$work/x.npy" --labels "$work/y.npy" --json
check 't = 0 is A' "$(point 0 loss) $(point 0 accuracy)" = "$(json loss) $(json accuracy)"
check 'A among the models' "$(make_file get "$work/p.json" models 0 loss)" = "$(json loss)"
works 'B' eval "$a" --inputs "$work/x.npy" --labels "$work/y.npy" --json
check 'the plain line ends in B' "$(point 10 plain loss)" = "$(json loss)"
check 't = 1 is not B: maps that are soft' "$(point 10 loss)" != "$(json loss)"
python3 - "$work/p.json" <<'P'
import json, sys
p = json.load(open(sys.argv[1]))
a, b = (m["loss"] for m in p["models"])
def highest(losses):
    return max((l - (1 - t) * a - t * b, t) for t, l in losses)
for key, losses in (("barrier", [(q["t"], q["loss"]) for q in p["points"]]),
                    ("plain_barrier", [(q["t"], q["plain"]["loss"]) for q in p["points"]])):
    height, t = highest(losses)
    assert abs(p[key]["loss"] - height) < 1e-9 and p[key]["t"] == t, (key, p[key], height, t)
P
check 'barriers' $? = 0

works 'a plan' align --align otfusion "$@" -o "$work/ab.plan" --quiet
works 'path --plan' path "$b" "$a" --plan "$work/ab.plan" --inputs "$work/x.npy" --labels "$work/y.npy" -o "$work/q.json"
cmp -s "$work/p.json" "$work/q.json"
check '--plan gives the same bytes' $? = 0

cp -r "$a" "$work/<b>&\"'"
works 'a picture' path "$b" "$work/<b>&\"'" --align otfusion --steps 4 --inputs "$work/x.npy" --labels "$work/y.npy" -o "$work/p.svg"
says 'a table: a row' '0.3333'
says 'a table: the barrier' 'barrier'
python3 - "$work/p.svg" "$work/<b>&\"'" <<'P'
import sys, xml.etree.ElementTree as E
text = open(sys.argv[1], encoding="utf-8").read()
root, svg = E.fromstring(text), "{http://www.w3.org/2000/svg}"
assert root.tag == svg + "svg"
curves = [p for p in root.iter(svg + "path")]
assert sorted(c.get("class") for c in curves) == ["aligned", "aligned", "plain", "plain"], curves
assert all(c.get("d").count("L") == 3 for c in curves)
words = ["".join(t.itertext()) for t in root.iter(svg + "text")]
assert any("<b>&\"'" in w for w in words) and any(w.startswith("barrier") for w in words), words
width, height = (float(root.get(k)) for k in ("width", "height"))
for t in root.iter(svg + "text"):
    assert 0 <= float(t.get("x")) <= width and 0 <= float(t.get("y")) <= height
for c in root.iter(svg + "circle"):
    assert 0 <= float(c.get("cx")) <= width and 0 <= float(c.get("cy")) <= height
assert text.count("http") == 1 and "href" not in text and "<script" not in text  # the name space alone
P
check 'the picture: well-formed, curves, names, nothing fetched' $? = 0
cp -r "$a" "$work/a-name-of-many-characters-of-which-a-title-has-no-room-for-all-é-step-1000"
works 'one model twice' path "$a" "$work/a-name-of-many-characters-of-which-a-title-has-no-room-for-all-é-step-1000" --align none --steps 3 --inputs "$work/x.npy" \
    --labels "$work/y.npy" -o "$work/flat.svg"
python3 - "$work/flat.svg" <<'P'
import sys, xml.etree.ElementTree as E
root, svg = E.parse(sys.argv[1]).getroot(), "{http://www.w3.org/2000/svg}"
texts = [("".join(t.itertext()), t.get("class"), float(t.get("y"))) for t in root.iter(svg + "text")]
for above in (True, False):
    ticks = [w for w, c, y in texts if c == "tick end" and (y < 350) == above]
    assert 2 <= len(ticks) == len(set(ticks)), ticks # rounding is no curve
assert all(0 <= float(w[:-2]) <= 100 for w, c, y in texts if c == "tick end" and w.endswith(" %")), texts
assert any(c == "title" and w.endswith("a-name-of-ma\u2026l-\u00e9-step-1000") for w, c, y in texts), texts
P
check 'a flat line: an axis that reads' $? = 0
works 'none has one line' path "$b" "$a" --align none --steps 2 --inputs "$work/x.npy" --labels "$work/y.npy" --json
check 'none: no second line' "$(json points 0 plain) $(json plain_barrier)" = 'null null'

# A model with itself, scaled and turned on the way: what is left of the barrier is rounding, of either sign.
for limit in 1 2 5; do
    works "no barrier, $limit" path tests/data/llama-kjv-e tests/data/llama-kjv-e --align matching --generate 0 --steps 2 --limit $limit \
        --inputs tests/data/kjv-tokens/val.npy
    check "no barrier, $limit: no sign" "$(grep -c '^  barrier  .* 0\.0000 nats' "$work/out")$(grep -c -- '-0\.0*[^0-9.]' "$work/out")" = 10
done

set -- --inputs "$work/x.npy" --labels "$work/y.npy"
refuses 2 '--inputs' 'no inputs' path --align otfusion "$b" "$a"
refuses 2 '--labels' 'no labels' path --align otfusion "$b" "$a" --inputs "$work/x.npy"
refuses 2 '--steps' 'one step' path --align otfusion "$b" "$a" "$@" --steps 1
refuses 2 '--steps' 'too many steps' path --align otfusion "$b" "$a" "$@" --steps 100000
refuses 2 'F.png' 'another kind of picture' path --align otfusion "$b" "$a" "$@" -o F.png
refuses 2 'operand' 'three models' path --align otfusion "$b" "$a" "$a" "$@"
refuses 2 'combine.weights' 'weights' path --align otfusion "$b" "$a" "$@" --set combine.weights=1,2
refuses 2 '--plan' 'alignment beside --plan' path "$b" "$a" "$@" --plan "$work/ab.plan" --reg 1
refuses 1 'exists' 'an existing picture' path --align otfusion "$b" "$a" "$@" -o "$work/p.svg"
refuses 1 'no directory' 'no directory' path --align otfusion "$b" "$a" "$@" -o "$work/none/p.svg"
make_file npy "$work/left-out.npy" '<i8' 20 "$(awk 'BEGIN { for (i = 0; i < 20; i++) printf "%s-100", i ? "," : "" }')"
refuses 1 'left-out.npy' 'no label that counts' path --align otfusion "$b" "$a" --inputs "$work/x.npy" --labels "$work/left-out.npy" -o "$work/n.svg"
check 'nothing under the refused name' ! -e "$work/n.svg"
finish
